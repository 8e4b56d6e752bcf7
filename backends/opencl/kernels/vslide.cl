/* Input gradient of a convolution with few input channels (NCHW), for CPU devices: lanes are 16
 * columns of the image, a strip. Activation and 2x2 max-pool of stride 2 (V_POOL) are undone on the
 * way, and only the non-zero terms are walked.
 *
 * A window of V_N rows of a strip slides down the input gradient in registers: a step takes the
 * terms of a line of the convolution's output, each adds its kernel, then the window moves down. So
 * a term costs one fma a row and no traffic with the sums. MERGED: the two lines under a row of
 * pool windows are one step, and the terms of the lower line point a row of zeros higher; one loop
 * of unforeseeable length instead of two. Kernels of more rows than V_ROWS are cut in pieces, the
 * lowest first: a pixel meets the lower rows of the kernel in earlier lines. V_HEIGHT: rows of sums
 * of a strip.
 *
 * Output channels are outermost, so that the frames of one (output channel, input channel) serve
 * all images of an item from the first cache. A frame is a piece of the kernel at every column that
 * it can have against a strip, so that every load is aligned.
 */
#define turn_row FN(turn_row)
#define make_places FN(make_places)
#define slide FN(slide)
#define make_frames FN(make_frames)
#define clear FN(clear)
#define end_chunk FN(end_chunk)
#define put_image FN(put_image)
#define slide_images FN(slide_images)
#define grad_images FN(grad_images)
#define grad_x_slide FN(grad_x_slide)
#define REP CAT(R, V_N)
#define MERGED (V_POOL && V_SH == 1)
#define LINES (V_POOL + 1)
#define OB ((V_O + 15) / 16)
#define COLS ((V_PW + 15) / 16 * 16)
#define STRIPS ((V_W + 15) / 16)
#define PLACES (V_KW + 15)
#define PITCH (V_ROWS + MERGED)
#define PIECES ((V_KH + V_ROWS - 1) / V_ROWS)
#define FRAME (PLACES * PITCH + MERGED)
#define TAPS (V_KW + 30) /* of a kernel row between zeros */

/* Floats of one image: gradients of 16 channels, their bits, and a chunk's sums. */
#define GRADS (16 * V_PH * COLS)
#define BITS (STRIPS * V_PH * LINES * 16)
#define SUMS (V_C * STRIPS * V_HEIGHT * 16)

/* Columns of the convolution's output that reach strip s: low .. end - 1, and the one of bit 0. */
#define LOW(s)                                                                                     \
    ((s)*16 + V_PADW > V_KW - 1 ? ((s)*16 + V_PADW - (V_KW - 1) + V_SW - 1) / V_SW : 0)
#define END(s) (((s)*16 + 15 + V_PADW) / V_SW + 1)
#define BIT0(s) (V_POOL ? LOW(s) / 2 * 2 : LOW(s))

/* One row of 16 channels of an image: gradients as rows of columns, and a word of bits for each
 * channel, strip and line. */
static inline void turn_row(__global const float *gy, __global const float *y,
                            __global const uchar *index, uint at, float slope, uint row,
                            __global float *grad, __global uint *bits) {
    int16 where[V_PW]; /* place in the window, 4 for a zero */
    float16 g[COLS];
    for (uint q = 0u; q < COLS; q++) {
        g[q] = (float16)(0.0f);
        if (q < V_PW) {
            g[q] = flow16(gy, y, at + q, slope);
            where[q] = NONZERO16(g[q]) ? WINDOW16(at + q) : (int16)(4);
        }
    }
    for (uint q = 0u; q < COLS; q += 16u) {
        turn16(g + q, grad + row * COLS + q, V_PH * COLS);
    }
    for (uint s = 0u; s < STRIPS; s++) {
        uint low = LOW(s), end = min(END(s), (uint)(V_PW * LINES)), first = BIT0(s);
        for (uint line = 0u; line < LINES; line++) {
            int16 word = (int16)(0);
            for (uint col = low; col < end; col++) {
                int16 here = (int16)((int)(V_POOL ? line * 2u + col % 2u : 0u));
                word |= (where[col / LINES] == here) & (int16)(1 << (col - first));
            }
            vstore16(as_uint16(word), (s * V_PH + row) * LINES + line, bits);
        }
    }
}

#define OPEN(i) float16 a##i = sum[i];
#define CLOSE(i) sum[i] = a##i;
#define TERM(i) a##i = fma(g, f[i], a##i);
#define MOVE(i) a##i = CAT(a, NEXT_##i);
#define DOWN                                                                                       \
    {                                                                                              \
        float16 CAT(a, V_N) = sum[V_N];                                                            \
        *sum++ = a0;                                                                               \
        REP(MOVE)                                                                                  \
    }

/* Bits of a step: MERGED has two words of columns. */
#define STEP_BITS ((MERGED + 1u) * 32u)

/* For every bit of a step where its gradient is in a row of them, and how far its frame is behind
 * that of bit 0, in floats. */
static inline void make_places(__global uint2 *place) {
    for (uint i = 0u; i < STEP_BITS; i++) {
        uint col = i % 32u, line = i / 32u;
        place[i] = (uint2)(col / LINES, (col * (V_SW * PITCH) + MERGED - line) * 16u);
    }
}

/* Adds one channel of an image to a strip's sums. frame: at the place of bit 0. */
static inline void slide(__global const float *grad, __global const uint *bits,
                         __global const uint2 *place, __global const float *frame,
                         __global float16 *sum) {
    REP(OPEN)
    for (uint step = 0u; step < V_PH; step++, grad += COLS) {
#if MERGED
        ulong left = bits[step * 32u] | (ulong)bits[step * 32u + 16u] << 32;
        for (; left != 0u; left &= left - 1u) {
            uint2 to = place[LOWEST_BIT(left)];
            float16 g = (float16)(grad[to.x]);
            __global const float16 *f = (__global const float16 *)(frame + to.y);
            REP(TERM)
        }
        DOWN
        DOWN
#else
        for (uint line = 0u; line < LINES; line++) {
            for (uint left = bits[(step * LINES + line) * 16u]; left != 0u; left &= left - 1u) {
                uint2 to = place[LOWEST_BIT(left)];
                float16 g = (float16)(grad[to.x]);
                __global const float16 *f = (__global const float16 *)(frame + to.y);
                REP(TERM)
            }
            for (uint i = 0u; i < V_SH; i++) {
                DOWN
            }
        }
#endif
    }
    REP(CLOSE)
}

/* Frames of one kernel. taps: V_KH rows, zeros around V_KW places for the kernel's. */
static inline void make_frames(__global const float *w, __global float *taps,
                               __global float *frame) {
    for (uint i = 0u; i < V_KH * V_KW; i++) {
        taps[i / V_KW * TAPS + 15u + i % V_KW] = w[i];
    }
    for (uint kh = 0u; kh < V_KH; kh++) {
        __global float *to = frame + (kh / V_ROWS * FRAME + kh % V_ROWS + MERGED) * 16u;
        for (uint i = 0u; i < PLACES; i++) {
            put16(get16(0u, taps + kh * TAPS + (V_KW + 14u - i)), i * PITCH, to);
        }
    }
}

static inline void clear(__global float *p, uint vectors) {
    for (uint i = 0u; i < vectors; i++) {
        put16((float16)(0.0f), i, p);
    }
}

/* Ends a chunk: its sums join the totals and start again from zero. */
static inline void end_chunk(__global float16 *sum, __global float16 *total, uint vectors,
                             float one) {
    for (uint i = 0u; i < vectors; i++) {
        total[i] = fma(sum[i], (float16)(one), total[i]);
        sum[i] = (float16)(0.0f);
    }
}

/* The input gradient of one image; returns what was not finite. */
static inline int16 put_image(__global const float *total, __global float *gx) {
    int16 bad = (int16)(0);
    for (uint i = 0u; i < V_C * STRIPS * V_H; i++) {
        uint h = i % V_H, strip = i / V_H, w0 = strip % STRIPS * 16u;
        float16 v = SNAP16(vload16(strip * V_HEIGHT + h + V_PADH, total), STN_LIM_G);
        v = LANES16 < (int16)(V_W - (int)w0) ? v : (float16)(0.0f);
        bad |= BAD16(v);
        store16(v, gx + (strip / STRIPS * V_H + h) * V_W + w0, min(V_W - w0, 16u));
    }
    return bad;
}

/* Output channel o of all images of an item. */
static inline void slide_images(__global const float *w, uint o, uint images, __global float *grad,
                                __global uint *bits, __global const uint2 *place,
                                __global float *taps, __global float *frame, __global float *sum) {
    for (uint c = 0u; c < V_C; c++) {
        make_frames(w + (o * V_C + c) * V_KH * V_KW, taps, frame);
        for (uint i = 0u; i < images; i++) {
            for (uint s = 0u; s < STRIPS; s++) {
                int at = (int)(BIT0(s) * V_SW + V_KW - 1) - (int)(s * 16u + V_PADW);
                for (uint piece = PIECES; piece-- > 0u;) {
                    slide(grad + i * GRADS + o % 16u * V_PH * COLS + BIT0(s) / LINES,
                          bits + i * BITS + s * V_PH * LINES * 16 + o % 16u,
                          place, frame + ((int)(piece * FRAME) + at * PITCH) * 16,
                          (__global float16 *)sum + i * (SUMS / 16) + (c * STRIPS + s) * V_HEIGHT +
                              piece * V_ROWS);
                }
            }
        }
    }
}

/* Images first .. first + images - 1. */
static inline int16 grad_images(__global const float *w, __global const float *gy,
                                __global const float *y, __global const uchar *index, uint first,
                                uint images, float slope, __global float *grad, __global uint *bits,
                                __global const uint2 *place, __global float *taps,
                                __global float *frame, __global float *sum, __global float *total,
                                __global float *gx, float one) {
    clear(total, images * (SUMS / 16));
    for (uint o = 0u; o < V_O; o++) {
        for (uint i = 0u; o % 16u == 0u && i < images * V_PH; i++) {
            uint at = ((first + i / V_PH) * OB + o / 16u) * V_PH * V_PW + i % V_PH * V_PW;
            turn_row(gy, y, index, at, slope, i % V_PH, grad + i / V_PH * GRADS,
                     bits + i / V_PH * BITS);
        }
        slide_images(w, o, images, grad, bits, place, taps, frame, sum);
        if ((o + 1u) % V_CB == 0u || o + 1u == V_O) {
            end_chunk((__global float16 *)sum, (__global float16 *)total, images * (SUMS / 16),
                      one);
        }
    }
    int16 bad = (int16)(0);
    for (uint i = 0u; i < images; i++) {
        bad |= put_image(total + i * SUMS, gx + (first + i) * V_C * V_H * V_W);
    }
    return bad;
}

/* An item takes every so many-th block of images, in `size` floats of workspace. */
#define GRAD_X_SLIDE_ARGS(AS)                                                                      \
    AS##RD(w), AS##RD(gy), AS##RD(y), AS##RD8(index), AS##WR(area), AS##WR(gx), AS##F(slope),      \
    AS##U(rows), AS##U(block), AS##U(size), AS##FLAGS
ONE_ITEM(grad_x_slide, GRAD_X_SLIDE_ARGS) {
    GO(w), GO(gy), GO(y), GO(index), GO(area), GO(gx);
    __global uint2 *place = (__global uint2 *)(area + id0 * size);
    __global float *frame = (__global float *)(place + STEP_BITS);
    __global float *sum = frame + PIECES * FRAME * 16, *total = sum + block * SUMS;
    __global float *grad = total + block * SUMS, *taps = grad + block * GRADS;
    __global uint *bits = (__global uint *)(taps + V_KH * TAPS);
    make_places(place);
    clear(frame, PIECES * FRAME + block * (SUMS / 16));
    for (uint i = 0u; i < V_KH * TAPS; i++) {
        taps[i] = 0.0f;
    }
    int16 bad = (int16)(0);
    for (uint b = id0; b * block < rows; b += size0) {
        bad |= grad_images(w, gy, y, index, b * block, min(block, rows - b * block), slope, grad,
                           bits, place, taps, frame, sum, total, gx, one);
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
