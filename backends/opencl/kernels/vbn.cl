/* Batch normalisation and channel sums of NC16 maps on CPU devices: lanes are 16 channels, one item
 * per plane (n, block); `total` counts planes. Arguments are those of bn.cl and reduce.cl; layouts are
 * known. Lanes past C hold +0 all the way.
 */
#define OPEN                                                                                       \
    uint e = id0, blocks = (C + 15u) / 16u, first = e % blocks * 16u;                              \
    if (e >= total) {                                                                              \
        return;                                                                                    \
    }
#define CLOSE                                                                                      \
    if (any(bad)) {                                                                                \
        raise_flag(flags, flags_off, node, step1);                                                 \
    }

/* Values of the block's channels, +0 past C. */
static inline float16 channels(__global const float *p, uint first, uint C) {
    float each[16];
    for (uint l = 0u; l < 16u; l++) {
        each[l] = first + l < C ? p[first + l] : 0.0f;
    }
    return vload16(0, each);
}

static inline float16 centred(float16 x, float16 S, float inv_n) {
    float16 d = fma(-S, (float16)(inv_n), x);
    return SNAP16(d, STN_LIM_X);
}
static inline float16 times_x(float16 a, float16 b) {
    float16 p = a * b;
    return SNAP16(p, STN_LIM_X);
}

/* PLANE16 has names for its lanes, each of them 16 channels. */
#define ZERO(j) float16 a##j = (float16)(0.0f);
#define LANE(j)                                                                                    \
    if (i + j##u < P) {                                                                            \
        float16 u = vload16(i + j##u, a), w = ones;                                                \
        if (mode != 0u) {                                                                          \
            float16 d = centred(vload16(i + j##u, x), S, inv_n);                                   \
            u = mode == 1u ? d : u;                                                                \
            w = mode == 1u ? d : times_x(d, r);                                                    \
        }                                                                                          \
        a##j = fma(u, w, a##j);                                                                    \
    }
#define FOLD(j, k) a##j = fma(a##k, ones, a##j);
#define PLANE_SUM_BLOCKS_ARGS(AS)                                                                  \
    AS##RD(a), AS##RD(x), AS##RD(stats), AS##WR(out), AS##U(al), AS##U(xl), AS##U(C), AS##U(P),    \
    AS##U(mode), AS##F(inv_n), AS##U(total), AS##F(one)
KERNEL(plane_sum_blocks, PLANE_SUM_BLOCKS_ARGS) {
    GO(a), GO(x), GO(stats), GO(out);
    OPEN
    a = a + e * P * 16u;
    x = x + e * P * 16u;
    float16 ones = (float16)(one), S = (float16)(0.0f), r = S;
    if (mode != 0u) {
        S = channels(stats, first, C);
    }
    if (mode == 2u) {
        r = channels(stats + 2u * C, first, C);
    }
    R16(ZERO)
    for (uint i = 0u; i < P; i += 16u) {
        R16(LANE)
    }
    FOLD(0, 8) FOLD(1, 9) FOLD(2, 10) FOLD(3, 11) FOLD(4, 12) FOLD(5, 13) FOLD(6, 14) FOLD(7, 15)
    FOLD(0, 4) FOLD(1, 5) FOLD(2, 6) FOLD(3, 7)
    FOLD(0, 2) FOLD(1, 3)
    FOLD(0, 1)
    float each[16];
    vstore16(a0, 0, each);
    for (uint l = 0u; l < 16u && first + l < C; l++) {
        out[e / blocks * C + first + l] = each[l];
    }
}

#define BN_APPLY_BLOCKS_ARGS(AS)                                                                   \
    AS##RD(x), AS##RD(stats), AS##RD(gamma), AS##RD(beta), AS##WR(y), AS##U(xl), AS##U(yl),        \
    AS##U(C), AS##U(P), AS##U(affine), AS##F(inv_n), AS##U(total), AS##FLAGS
KERNEL(bn_apply_blocks, BN_APPLY_BLOCKS_ARGS) {
    GO(x), GO(stats), GO(gamma), GO(beta), GO(y);
    OPEN
    int16 bad = (int16)(0);
    float16 g = (float16)(one), b = (float16)(0.0f), S = channels(stats, first, C),
            r = channels(stats + 2u * C, first, C);
    if ((affine & 1u) != 0u) {
        g = channels(gamma, first, C);
    }
    if ((affine & 2u) != 0u) {
        b = channels(beta, first, C);
    }
    for (uint i = e * P; i < e * P + P; i++) {
        float16 v = fma(g, times_x(centred(vload16(i, x), S, inv_n), r), b);
        v = SNAP16(v, STN_LIM_X);
        bad |= BAD16(v);
        put16(v, i, y);
    }
    CLOSE
}

#define BN_EVAL_BLOCKS_ARGS(AS)                                                                    \
    AS##RD(x), AS##RD(rm), AS##RD(rv), AS##RD(gamma), AS##RD(beta), AS##WR(y), AS##U(xl),          \
    AS##U(yl), AS##U(C), AS##U(P), AS##U(affine), AS##F(eps), AS##U(total), AS##FLAGS
KERNEL(bn_eval_blocks, BN_EVAL_BLOCKS_ARGS) {
    GO(x), GO(rm), GO(rv), GO(gamma), GO(beta), GO(y);
    OPEN
    int16 bad = (int16)(0);
    float each[16];
    for (uint l = 0u; l < 16u; l++) {
        each[l] = first + l < C ? stn_snap_x(stn_rsqrt(ADD(eps, rv[first + l]))) : 0.0f;
    }
    float16 g = (float16)(one), b = (float16)(0.0f), mean = channels(rm, first, C),
            r = vload16(0, each);
    if ((affine & 1u) != 0u) {
        g = channels(gamma, first, C);
    }
    if ((affine & 2u) != 0u) {
        b = channels(beta, first, C);
    }
    for (uint i = e * P; i < e * P + P; i++) {
        float16 v = fma(g, times_x(centred(vload16(i, x), mean, one), r), b);
        v = SNAP16(v, STN_LIM_X);
        bad |= BAD16(v);
        put16(v, i, y);
    }
    CLOSE
}

#define BN_GRAD_BLOCKS_ARGS(AS)                                                                    \
    AS##RD(gy), AS##RD(x), AS##RD(stats), AS##RD(gamma), AS##RD(s1), AS##RD(s2), AS##WR(gx),       \
    AS##U(yl), AS##U(xl), AS##U(gl), AS##U(C), AS##U(P), AS##U(affine), AS##F(inv_n),              \
    AS##U(total), AS##FLAGS
KERNEL(bn_grad_blocks, BN_GRAD_BLOCKS_ARGS) {
    GO(gy), GO(x), GO(stats), GO(gamma), GO(s1), GO(s2), GO(gx);
    OPEN
    int16 bad = (int16)(0);
    float16 S = channels(stats, first, C), r = channels(stats + 2u * C, first, C), f = r;
    float16 minus = -channels(s1, first, C), m2 = channels(s2, first, C) * inv_n;
    m2 = SNAP16(m2, STN_LIM_G);
    if ((affine & 1u) != 0u) {
        f = channels(gamma, first, C);
        f = times_x(f, r);
    }
    for (uint i = e * P; i < e * P + P; i++) {
        float16 h = times_x(centred(vload16(i, x), S, inv_n), r);
        float16 t = fma(-h, m2, fma(minus, (float16)(inv_n), vload16(i, gy)));
        t = SNAP16(t, STN_LIM_G);
        t = f * t;
        t = SNAP16(t, STN_LIM_G);
        bad |= BAD16(t);
        put16(t, i, gx);
    }
    CLOSE
}
