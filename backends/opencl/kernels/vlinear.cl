/* Linear layers for CPU devices: tiles of eight images (or outputs) by a pair of vectors of 16. An
 * item takes many tiles, so that they find each other's operands in the caches.
 *
 * An image of x is `row` floats: NC16 blocks, or K = C*P values of NCHW.
 */

/* w[O][K] to [vector][O][16]. Vector v of a row of x holds 16 inputs, or 16 channels of a pixel. One
 * item per o and vector, or, for blocks of at least 16 pixels, per o and 16 pixels, `packs` in all.
 * Items after them undo the activation of 16 of the gradient's `total` values (0: there is none). */
#define PACK_INPUTS_ARGS(AS)                                                                       \
    AS##RD(w), AS##WR(out), AS##RD(gy), AS##RD(y), AS##WR(gz), AS##U(xl), AS##U(C), AS##U(P),      \
    AS##U(O), AS##U(packs), AS##F(slope), AS##U(total), AS##FLAGS
KERNEL(pack_inputs, PACK_INPUTS_ARGS) {
    GO(w), GO(out), GO(gy), GO(y), GO(gz);
    uint e = id0, o = e % O, v = e / O;
    if (e < packs) {
        w = w + o * C * P;
        if (xl == 0u) {
            put16(load16(w + v * 16u, min(C * P - v * 16u, 16u)), e, out);
            return;
        }
        if (P >= 16u) {
            uint across = (P + 15u) / 16u, block = v / across;
            uint p = min(v % across * 16u, P - 16u); /* the last 16 may overlap */
            float16 row[16];
            for (uint l = 0u; l < 16u; l++) {
                uint c = block * 16u + l;
                row[l] = c < C ? vload16(0, w + c * P + p) : (float16)(0.0f);
            }
            turn16(row, out + ((block * P + p) * O + o) * 16u, O * 16u);
            return;
        }
        for (uint l = 0u; l < 16u; l++) {
            uint c = v / P * 16u + l;
            out[e * 16u + l] = c < C ? w[c * P + v % P] : 0.0f;
        }
        return;
    }
    uint at = (e - packs) * 16u, left = min(max(total, at) - at, 16u);
    float16 r = act_bwd16(load16(gy + at, left), load16(y + at, left), slope);
    store16(r, gz + at, left);
    if (any(BAD16(r))) {
        raise_flag(flags, flags_off, node, step1);
    }
}

#define ZERO2(i) a##i = (float16)(0.0f), b##i = (float16)(0.0f);
#define SUM2(i) float16 a##i, b##i;
/* Ends a chunk. Its sums join those in memory: there are no registers for both. */
#define CLEAR2(i) each[i] = each[8 + i] = (float16)(0.0f);
#define FOLD2(i)                                                                                   \
    each[i] = fma(a##i, ones, each[i]), each[8 + i] = fma(b##i, ones, each[8 + i]);                \
    a##i = (float16)(0.0f), b##i = (float16)(0.0f);

/* A block of 16 channels of an image, [P][16], to rows of P >= 16 pixels. */
static inline void turn_block(__global const float *x, uint P, __global float *to) {
    for (uint p = 0u; p < P; p += 16u) {
        uint at = min(p, P - 16u); /* the last 16 may overlap */
        float16 row[16];
        for (uint i = 0u; i < 16u; i++) {
            row[i] = vload16(at + i, x);
        }
        turn16(row, to + at, P);
    }
}

/* wp is [pair of 16 outputs][K][32]. Terms come in runs that lie `step` floats apart: all of NCHW, a
 * channel of NC16, or a block of 16 channels that is turned in `area` first, `turned` floats for
 * each of eight images (0: not turned). */
#define VLINEAR_ARGS(AS)                                                                           \
    AS##RD(x), AS##RD(wp), AS##RD(b), AS##WR(y), AS##WR(area), AS##U(xl), AS##U(C), AS##U(P),      \
    AS##U(O), AS##U(row), AS##U(has_b), AS##U(act), AS##F(slope), AS##U(turned), AS##TICKETS,      \
    AS##U(rows), AS##FLAGS
KERNEL(vlinear, VLINEAR_ARGS) {
    GO(x), GO(wp), GO(b), GO(y), GO(area);
    uint K = C * P, pairs = (O + 31u) / 32u, step = turned == 0u && xl != 0u ? 16u : 1u;
    uint length = xl == 0u ? K : turned != 0u ? 16u * P : P, base = 0u;
    float16 ones = (float16)(one), each[16];
    int16 bad = (int16)(0);
    area = area + id0 * 8u * turned;
    FOR_JOBS(job, pairs * ((rows + 7u) / 8u)) {
        uint o0 = job % pairs * 32u, n0 = job / pairs * 8u;
        bool both = O - o0 > 16u;
        __global const float *w = wp + o0 * K;
#define ROW(i)                                                                                     \
    __global const float *x##i =                                                                   \
        turned != 0u ? area + i##u * turned : x + min(n0 + i##u, rows - 1u) * row;
        R8(ROW)
        R8(SUM2)
        R8(ZERO2)
        R8(CLEAR2)
        for (uint k = 0u; k < K;) {
            uint end = min(k + length, K), c = k / P;
            uint at = step != 1u ? c / 16u * P * 16u + c % 16u : 0u;
            if (turned != 0u) {
                for (uint i = 0u; i < 8u; i++) {
                    turn_block(x + min(n0 + i, rows - 1u) * row + c * P, P, area + i * turned);
                }
            }
            while (k < end) {
                uint stop = min((k / STN_LINEAR_CHUNK + 1u) * STN_LINEAR_CHUNK, end);
                if (both) {
                    for (; k < stop; k++, at += step) {
                        float16 w0 = vload16(k * 2u, w), w1 = vload16(k * 2u + 1u, w);
#define TERM2(i)                                                                                   \
    {                                                                                              \
        float16 s = (float16)(x##i[at]);                                                           \
        a##i = fma(s, w0, a##i), b##i = fma(s, w1, b##i);                                          \
    }
                        R8(TERM2)
                    }
                } else {
                    for (; k < stop; k++, at += step) {
                        float16 w0 = vload16(k * 2u, w);
#define TERM1(i) a##i = fma((float16)(x##i[at]), w0, a##i);
                        R8(TERM1)
                    }
                }
                if (k % STN_LINEAR_CHUNK == 0u || k == K) {
                    R8(FOLD2)
                }
            }
        }
        for (uint i = 0u; i < (both ? 16u : 8u); i++) {
            uint o = o0 + i / 8u * 16u, left = min(O - o, 16u);
            if (n0 + i % 8u < rows) {
                float16 bias = has_b != 0u ? load16(b + o, left) : (float16)(0.0f);
                float16 r = has_b != 0u ? fma(bias, ones, each[i]) : each[i];
                r = LANES16 < (int16)((int)left) ? SNAP16(r, STN_LIM_X) : (float16)(0.0f);
                bad |= BAD16(r);
                r = ACT16(r, act != 0u, slope);
                bad |= BAD16(r);
                store16(r, y + (n0 + i % 8u) * O + o, left);
            }
        }
    }
    END_JOBS
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

/* wp is [vector][O][16]. One item per pair of vectors and part of the images. */
#define VLINEAR_GRAD_X_ARGS(AS)                                                                    \
    AS##RD(gy), AS##RD(wp), AS##WR(gx), AS##U(O), AS##U(row), AS##U(rows), AS##FLAGS
KERNEL(vlinear_grad_x, VLINEAR_GRAD_X_ARGS) {
    GO(gy), GO(wp), GO(gx);
    uint v = id0 * 2u;
    float16 ones = (float16)(one), each[16];
    uint left = row - v * 16u, left0 = min(left, 16u), left1 = min(left - left0, 16u);
    int16 bad = (int16)(0);
    wp = wp + v * O * 16u;
    __global const float *wq = left1 != 0u ? wp + O * 16u : wp;
    for (uint n0 = id1 * 8u; n0 < rows; n0 += size1 * 8u) {
#define GROW(i) __global const float *g##i = gy + min(n0 + i##u, rows - 1u) * O;
        R8(GROW)
        R8(SUM2)
        R8(ZERO2)
        R8(CLEAR2)
        for (uint o0 = 0u; o0 < O; o0 += STN_LINEAR_CHUNK) {
            for (uint o = o0; o < min(o0 + STN_LINEAR_CHUNK, O); o++) {
                float16 w0 = vload16(o, wp), w1 = vload16(o, wq);
#define TERM_X(i)                                                                                  \
    {                                                                                              \
        float16 g = (float16)(g##i[o]);                                                            \
        a##i = fma(g, w0, a##i), b##i = fma(g, w1, b##i);                                          \
    }
                R8(TERM_X)
            }
            R8(FOLD2)
        }
        for (uint i = 0u; i < min(rows - n0, 8u); i++) {
            __global float *to = gx + (n0 + i) * row + v * 16u;
            float16 r0 = SNAP16(each[i], STN_LIM_G), r1 = SNAP16(each[8u + i], STN_LIM_G);
            bad |= BAD16(r0) | BAD16(r1);
            store16(r0, to, left0);
            store16(r1, to + 16, left1);
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

/* Stores the gradients of one output's weights that vectors first ... first + count - 1 of a row
 * stand for. */
static inline int16 put_weights(__private float16 *r, uint xl, uint C, uint P, uint first,
                                uint count, float limit, __global float *gw) {
    uint K = C * P, c = first / P * 16u, p = first % P;
    int16 bad = (int16)(0);
    for (uint v = 0u; v < count; v++) {
        r[v] = SNAP16(r[v], limit);
        bad |= BAD16(r[v]);
    }
    if (xl == 0u) {
        for (uint v = 0u; v < count; v++) {
            store16(r[v], gw + (first + v) * 16u, min(K - (first + v) * 16u, 16u));
        }
        return bad;
    }
    if (count == 16u && p + 16u <= P && c + 16u <= C) {
        turn16(r, gw + c * P + p, P);
        return bad;
    }
    for (uint v = 0u; v < count; v++) {
        float each[16];
        c = (first + v) / P * 16u, p = (first + v) % P;
        vstore16(r[v], 0, each);
        for (uint l = 0u; l < 16u && c + l < C; l++) {
            gw[(c + l) * P + p] = each[l];
        }
    }
    return bad;
}

/* Gradients of the biases: CHAIN over the images of each shard, then the tree. */
static inline int16 sum_biases(__global const float *gy, uint O, uint rows, uint B, uint S,
                               float limit, __global float *gb, float one) {
    int16 bad = (int16)(0);
    float16 levels[MAX_TREE], sum = (float16)(0.0f);
    for (uint o = 0u; o < O; o += 16u) {
        uint left = min(O - o, 16u);
        for (uint s = 0u; s < S; s++) {
            sum = (float16)(0.0f);
            for (uint n = s * B; n < min(s * B + B, rows); n++) {
                sum = fma(load16(gy + n * O + o, left), (float16)(one), sum);
            }
            uint level = 0u;
            for (; ((s >> level) & 1u) != 0u; level++) {
                sum = fma(sum, (float16)(one), levels[level]);
            }
            levels[level] = sum;
        }
        sum = SNAP16(sum, limit);
        bad |= BAD16(sum);
        store16(sum, gb + o, left);
    }
    return bad;
}

/* A job is a span of up to eight pairs of vectors, whose part of x it copies together, so that two
 * items seldom write one line; but the first, with_b: the gradients of the biases. */
#define VLINEAR_GRAD_W_ARGS(AS)                                                                    \
    AS##RD(gy), AS##RD(x), AS##WR(area), AS##WR(gw), AS##WR(gb), AS##U(xl), AS##U(C), AS##U(P),    \
    AS##U(O), AS##U(row), AS##U(pairs), AS##U(with_b), AS##U(N), AS##TICKETS, AS##U(rows),         \
    AS##U(B), AS##U(S), AS##F(limit), AS##FLAGS
KERNEL(vlinear_grad_w, VLINEAR_GRAD_W_ARGS) {
    GO(gy), GO(x), GO(area), GO(gw), GO(gb);
    uint spans = (row + pairs * 32u - 1u) / (pairs * 32u);
    float16 ones = (float16)(one), stack[MAX_TREE * 16];
    int16 bad = (int16)(0);
    area = area + id0 * (pairs * N * 32u);
    FOR_JOBS(job, spans + with_b) {
        if (job < with_b) {
            bad |= sum_biases(gy, O, rows, B, S, limit, gb, one);
            continue;
        }
        uint first = (job - with_b) * pairs * 32u;
        uint vectors = (min(row - first, pairs * 32u) + 15u) / 16u;
        for (uint n = 0u; n < rows; n++) {
            for (uint v = 0u; v < vectors; v++) {
                uint at = first + v * 16u;
                put16(load16(x + n * row + at, min(row - at, 16u)),
                      (v / 2u * N + n) * 2u + v % 2u, area);
            }
        }
        for (uint o0 = 0u; o0 < O; o0 += 8u) {
            float16 sum[8 * 16];
#define OUT(i) uint to##i = min(o0 + i##u, O - 1u);
            R8(OUT)
            for (uint pair = 0u; pair < (vectors + 1u) / 2u; pair++) {
                __global const float *xv = area + pair * N * 32u;
                R8(SUM2)
                for (uint s = 0u; s < S; s++) {
                    R8(ZERO2)
                    for (uint n = s * B; n < min(s * B + B, rows); n++) {
                        __global const float *g = gy + n * O;
                        float16 w0 = vload16(n * 2u, xv), w1 = vload16(n * 2u + 1u, xv);
#define TERM_W(i)                                                                                  \
    {                                                                                              \
        float16 f = (float16)(g[to##i]);                                                           \
        a##i = fma(f, w0, a##i), b##i = fma(f, w1, b##i);                                          \
    }
                        R8(TERM_W)
                    }
                    uint level = 0u;
                    for (; ((s >> level) & 1u) != 0u; level++) {
#define POP(i)                                                                                     \
    a##i = fma(a##i, ones, stack[level * 16u + i##u]);                                             \
    b##i = fma(b##i, ones, stack[level * 16u + 8u + i##u]);
                        R8(POP)
                    }
#define PUSH(i) stack[level * 16u + i##u] = a##i, stack[level * 16u + 8u + i##u] = b##i;
                    R8(PUSH)
                }
#define PUT_W(i) sum[i * 16 + pair * 2] = a##i, sum[i * 16 + pair * 2 + 1] = b##i;
                R8(PUT_W)
            }
            for (uint i = 0u; i < min(O - o0, 8u); i++) {
                bad |= put_weights(sum + i * 16u, xl, C, P, first / 16u, vectors, limit,
                                   gw + (o0 + i) * (C * P));
            }
        }
    }
    END_JOBS
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
