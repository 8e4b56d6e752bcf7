/* Weight gradient of a convolution of an NCHW map (few channels), for CPU devices: lanes are taps,
 * those of one kernel row, or of two rows of up to 8 (V_PAIRS) with the ninth columns of all rows in
 * a vector of their own (V_NINTH); V_VECTORS accumulators are a channel's kernel. Activation and 2x2
 * max-pool of stride 2 (V_POOL) are undone on the way, and only the non-zero terms are walked.
 *
 * One item per shard. It spreads an image into a table of windows, 16 or 8 floats for every output
 * column and input row, that serves all output channels; the rows of a column follow one another, so
 * that two of 8 are one vector. For 16 channels at a time it notes which pixels of the convolution's
 * output have a gradient: bit t is pixel t in row-major order, so that the words of a channel are
 * its list of terms in the contract's order. V_BAND: words of 64 bits whose part of the table is
 * walked for all channels while it is in the first cache.
 */
#define make_row FN(make_row)
#define make_windows FN(make_windows)
#define note_image FN(note_image)
#define sum_words FN(sum_words)
#define sum_place FN(sum_place)
#define grad_w_window FN(grad_w_window)
#define REP CAT(R, V_VECTORS)
#define LINES (V_POOL + 1)
#define OB ((V_O + 15) / 16)
#define PIXELS (V_PH * LINES * V_OW)
#define WORDS ((PIXELS + 63) / 64)
#define BANDS ((WORDS + V_BAND - 1) / V_BAND)
#define ROWS (V_H + 2 * V_PADH)
#define UNIT (V_PAIRS ? 8 : 16)
/* Vectors of an image, each table with room for one more, which unused lanes are read from. */
#define SPREAD (V_C * V_OW * ROWS)
#define WINDOWS ((SPREAD * UNIT + 15) / 16 + 1)
#define NINTHS (V_NINTH * ((SPREAD + 15) / 16 + 1))
#define SUMS (V_C * V_VECTORS)

/* Windows of one row of one channel, or zeros; `end`: floats from x on. Padding is less than the
 * kernel, so a ninth column never lies left of the image. */
static inline void make_row(bool real, __global const float *x, uint end, __global float *to,
                            __global float *ninth) {
    for (uint q = 0u; q < V_OW; q++, to += ROWS * UNIT) {
        int left = (int)(q * V_SW) - V_PADW;
        if (V_NINTH) {
            ninth[q * ROWS] = real && left + 8 < V_W ? x[left + 8] : 0.0f;
        }
        if (V_PAIRS && real && left >= 0 && left + V_KW <= V_W && left + 8 <= (int)end) {
            vstore8(vload8(0, x + left), 0, to);
            continue;
        }
        if (!V_PAIRS && real && left >= 0 && left + V_KW <= V_W && left + 16 <= (int)end) {
            put16(get16(0u, x + left), 0, to);
            continue;
        }
        for (int l = 0; l < UNIT; l++) {
            int col = left + l;
            to[l] = real && l < V_KW && col >= 0 && col < V_W ? x[col] : 0.0f;
        }
    }
}

/* Windows of one image: [c][output column][row of the padded image]. */
static inline void make_windows(__global const float *x, uint end, __global float *to,
                                __global float *ninth) {
    for (uint c = 0u; c < V_C; c++, to += V_OW * ROWS * UNIT, ninth += V_NINTH * V_OW * ROWS) {
        for (uint r = 0u; r < ROWS; r++) {
            bool real = r >= V_PADH && r < V_PADH + V_H;
            make_row(real, x, end, to + r * UNIT, ninth + r);
            x += real ? V_W : 0;
            end -= real ? V_W : 0;
        }
    }
}

/* Gradients of 16 channels of one image: as vectors flow[V_PH * V_PW], and their bits as words of
 * 32, those of a channel 16 apart. Adds the image's PLANE16 to *bias if that is wanted. */
static inline void note_image(__global const float *gy, __global const float *y,
                              __global const uchar *index, uint at, float slope,
                              __global float16 *flow, __global int16 *bits, uint has_bias,
                              __global float16 *bias, float one) {
    float16 lane[16];
    int16 where[V_PW]; /* place in the window, 4 for a zero */
    int16 word = (int16)(0);
    uint t = 0u;
    for (uint l = 0u; l < 16u; l++) {
        lane[l] = (float16)(0.0f);
    }
    for (uint row = 0u; row < V_PH; row++, at += V_PW, flow += V_PW) {
        for (uint q = 0u; q < V_PW; q++) {
            flow[q] = flow16(gy, y, at + q, slope);
            where[q] = NONZERO16(flow[q]) ? WINDOW16(at + q) : (int16)(4);
        }
        for (uint line = 0u; line < LINES; line++) {
            for (uint col = 0u; col < V_OW; col++, t++) {
                if (col < V_PW * LINES) {
                    int16 place = (int16)((int)(V_POOL ? line * 2u + col % 2u : 0u));
                    int16 here = where[col / LINES] == place;
                    word |= here & (int16)((int)(1u << t % 32u));
                    if (has_bias != 0u) {
                        float16 g = as_float16(as_int16(flow[col / LINES]) & here);
                        lane[t % 16u] = fma(g, (float16)(one), lane[t % 16u]);
                    }
                }
                if (t % 32u == 31u) {
                    bits[t / 32u] = word;
                    word = (int16)(0);
                }
            }
        }
    }
    for (; t < WORDS * 64; t = (t / 32u + 1u) * 32u) {
        bits[t / 32u] = word;
        word = (int16)(0);
    }
    for (uint s = 8u; s > 0u; s /= 2u) {
        for (uint j = 0u; j < s; j++) {
            lane[j] = fma(lane[j + s], (float16)(one), lane[j]);
        }
    }
    *bias = fma(lane[0], (float16)(one), *bias);
}

#define ZERO(i) float16 a##i = (float16)(0.0f);
#define RESUME(i) a##i = sum[i];
#define TERM(i)                                                                                    \
    a##i = fma(g, get16(0u, V_NINTH && i + 1 == V_VECTORS ? last : at + i * 16), a##i);
#define KEEP(i) sum[i] = a##i;
#define FOLD(i) total[i] = fma(a##i, ones, total[i]);

/* Terms of one channel in words first .. end - 1. `place` holds for every pixel where its gradient
 * is in flow and where its window is, in floats. fresh, done: the first and the last words of a
 * chunk, between which its sums are kept in sum. */
static inline void sum_words(__global const float *flow, __global const uint *bits, uint first,
                             uint end, __global const uint2 *place, __global const float *windows,
                             __global const float *ninth, bool fresh, bool done,
                             __global float16 *sum, __global float16 *total, float one) {
    float16 ones = (float16)(one);
    REP(ZERO)
    if (!fresh) {
        REP(RESUME)
    }
    for (uint w = first; w < end; w++) {
        ulong left = bits[w * 32u] | (ulong)bits[w * 32u + 16u] << 32;
        for (; left != 0u; left &= left - 1u) {
            uint2 to = place[w * 64u + LOWEST_BIT(left)];
            float16 g = (float16)(flow[to.x]);
            __global const float *at = windows + to.y, *last = ninth + to.y / UNIT;
            REP(TERM)
        }
    }
    if (done) {
        REP(FOLD)
    } else {
        REP(KEEP)
    }
}

/* Where a channel's sums hold tap e, row-major. */
static inline uint sum_place(uint e) {
    uint kh = e / V_KW, kw = e % V_KW;
    if (V_NINTH && kw == 8u) {
        return (V_VECTORS - 1) * 16u + kh;
    }
    return V_PAIRS ? kh / 2u * 16u + kh % 2u * 8u + kw : kh * 16u + kw;
}

/* Partial sums of every shard: V_O x V_C x V_KH x V_KW of the weights, then V_O of the bias. size:
 * floats of workspace of an item, B: images of a shard, G: of a chunk. */
#define GRAD_W_WINDOW_ARGS(AS)                                                                     \
    AS##RD(x), AS##RD(gy), AS##RD(y), AS##RD8(index), AS##WR(area), AS##WR(part), AS##F(slope),    \
    AS##U(rows), AS##U(B), AS##U(G), AS##U(size), AS##U(has_bias), AS##F(one)
ONE_ITEM(grad_w_window, GRAD_W_WINDOW_ARGS) {
    GO(x), GO(gy), GO(y), GO(index), GO(area), GO(part);
    uint shard = id0, first = min(shard * B, rows), end = min(first + B, rows);
    __global float16 *total = (__global float16 *)(area + shard * size);
    __global float16 *bias = total + V_O * SUMS, *sum = bias + OB, *flow = sum + 16 * SUMS;
    __global float16 *windows = flow + G * (V_PH * V_PW), *ninths = windows + G * WINDOWS;
    __global int16 *bits = (__global int16 *)(ninths + G * NINTHS);
    __global uint2 *place = (__global uint2 *)(bits + G * (WORDS * 2));
    for (uint i = 0u; i < V_O * SUMS + OB; i++) {
        total[i] = (float16)(0.0f);
    }
    for (uint t = 0u; t < PIXELS; t++) {
        uint row = t / V_OW, col = t % V_OW;
        uint vector = row / LINES * V_PW + col / LINES;
        place[t] = (uint2)(vector * 16u, (col * ROWS + row * V_SH) * UNIT);
    }
    for (uint n = first; n < end; n += G) {
        uint images = min(G, end - n);
        for (uint i = 0u; i < images; i++) {
            uint from = (n + i) * V_C * V_H * V_W;
            make_windows(x + from, rows * V_C * V_H * V_W - from,
                         (__global float *)(windows + i * WINDOWS),
                         (__global float *)(ninths + i * NINTHS));
        }
        for (uint ob = 0u; ob < OB; ob++) {
            for (uint i = 0u; i < images; i++) {
                note_image(gy, y, index, ((n + i) * OB + ob) * V_PH * V_PW, slope,
                           flow + i * (V_PH * V_PW), bits + i * (WORDS * 2), has_bias, bias + ob,
                           one);
            }
            for (uint b = 0u; b < images * BANDS; b++) {
                uint i = b / BANDS, at = b % BANDS * V_BAND, to = min(at + V_BAND, (uint)WORDS);
                for (uint e = 0u; e < min(16u, V_O - ob * 16u) * V_C; e++) {
                    uint o = e / V_C, c = e % V_C;
                    sum_words((__global float *)(flow + i * (V_PH * V_PW)) + o,
                              (__global uint *)(bits + i * (WORDS * 2)) + o, at, to, place,
                              (__global float *)(windows + i * WINDOWS) + c * ROWS * V_OW * UNIT,
                              (__global float *)(ninths + i * NINTHS) + c * ROWS * V_OW, b == 0u,
                              b + 1u == images * BANDS, sum + e * V_VECTORS,
                              total + ob * 16u * SUMS + e * V_VECTORS, one);
                }
            }
        }
    }
    part = part + shard * (V_O * V_C * V_KH * V_KW + has_bias * V_O);
    for (uint e = 0u; e < V_O * V_C * V_KH * V_KW; e++) {
        uint tap = e % (V_KH * V_KW), o = e / (V_KH * V_KW);
        part[e] = ((__global float *)total)[o * V_VECTORS * 16u + sum_place(tap)];
    }
    for (uint o = 0u; o < has_bias * V_O; o++) {
        part[V_O * V_C * V_KH * V_KW + o] = ((__global float *)bias)[o];
    }
}
