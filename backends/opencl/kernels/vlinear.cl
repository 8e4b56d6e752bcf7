/* Linear layers for CPU devices: eight images (or outputs) by one vector of 16, in the gradients
 * two, per work-item.
 *
 * An image of x is `row` floats: NC16 blocks, or K = C*P values of NCHW. Vector v of a row holds
 * the inputs k = input_of(v, lane); k >= K marks padding.
 */
static inline uint input_of(uint xl, uint C, uint P, uint v, uint lane) {
    uint c = v / P * 16u + lane;
    return xl == 0u ? v * 16u + lane : c < C ? c * P + v % P : C * P;
}

/* w[O][K] to [vector][O][16], one item per (vector, o), `packs` in all. Items after them undo the
 * activation of a gradient of `total` values (0: there is none). */
__kernel void pack_inputs(RD(w), WR(out), RD(gy), RD(y), WR(gz), uint xl, uint C, uint P, uint O,
                          uint packs, float slope, uint total, FLAGS) {
    GO(w), GO(out), GO(gy), GO(y), GO(gz);
    uint e = (uint)get_global_id(0), v = e / O;
    if (e >= packs) {
        if (e - packs < total) {
            float r = act_bwd(gy[e - packs], y[e - packs], slope);
            CHECK(r);
            gz[e - packs] = r;
        }
        return;
    }
    w = w + e % O * C * P;
    out = out + e * 16u;
    for (uint l = 0u; l < 16u; l++) {
        uint k = input_of(xl, C, P, v, l);
        out[l] = k < C * P ? w[k] : 0.0f;
    }
}

#define ZERO(i) a##i = (float16)(0.0f);
#define TOTAL(i) float16 a##i, t##i = (float16)(0.0f);
#define FOLD(i) t##i = fma(a##i, ones, t##i);

/* wp is [group of 16 outputs][K][16]. */
__kernel void vlinear(RD(x), RD(wp), RD(b), WR(y), uint xl, uint C, uint P, uint O, uint row,
                      uint has_b, uint act, float slope, uint rows, FLAGS) {
    GO(x), GO(wp), GO(b), GO(y);
    uint og = (uint)get_global_id(0), n0 = (uint)get_global_id(1) * 8u, K = C * P;
    if (n0 >= rows) {
        return;
    }
    float16 ones = (float16)(one);
    wp = wp + og * K * 16u;
#define ROW(i) __global const float *x##i = x + min(n0 + i##u, rows - 1u) * row;
    R8(ROW)
    R8(TOTAL)
    uint c = 0u, p = 0u;
    for (uint k0 = 0u; k0 < K; k0 += STN_LINEAR_CHUNK) {
        R8(ZERO)
        for (uint k = k0; k < min(k0 + STN_LINEAR_CHUNK, K); k++) {
            uint at = xl != 0u ? (c / 16u * P + p) * 16u + c % 16u : k;
            float16 w = vload16(k, wp);
#define TERM(i) a##i = fma((float16)(x##i[at]), w, a##i);
            R8(TERM)
            p++;
            c = p == P ? c + 1u : c;
            p = p == P ? 0u : p;
        }
        R8(FOLD)
    }
    float16 each[8], bias = (float16)(0.0f);
    uint left = min(O - og * 16u, 16u);
    int16 bad = (int16)(0);
    bias = has_b != 0u ? load16(b + og * 16u, left) : bias;
#define PUT(i) each[i] = t##i;
    R8(PUT)
    for (uint i = 0u; i < min(rows - n0, 8u); i++) {
        float16 r = has_b != 0u ? fma(bias, ones, each[i]) : each[i];
        r = LANES16 < (int16)((int)left) ? SNAP16(r, STN_LIM_X) : (float16)(0.0f);
        bad |= BAD16(r);
        r = ACT16(r, act != 0u, slope);
        bad |= BAD16(r);
        store16(r, y + (n0 + i) * O + og * 16u, left);
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

/* Tiles of the gradients: eight rows (images or outputs) by a pair of vectors. */
#define ZERO2(i) a##i = (float16)(0.0f), b##i = (float16)(0.0f);
#define TOTAL2(i) float16 a##i, b##i, t##i = (float16)(0.0f), u##i = (float16)(0.0f);
#define FOLD2(i) t##i = fma(a##i, ones, t##i), u##i = fma(b##i, ones, u##i);

/* wp is [vector][O][16]. One item per (pair of vectors, eight images). */
__kernel void vlinear_grad_x(RD(gy), RD(wp), WR(gx), uint xl, uint O, uint row, uint rows, FLAGS) {
    GO(gy), GO(wp), GO(gx);
    uint v = (uint)get_global_id(0) * 2u, n0 = (uint)get_global_id(1) * 8u;
    if (n0 >= rows) {
        return;
    }
    float16 ones = (float16)(one);
    uint left = row - v * 16u, left0 = min(left, 16u), left1 = min(left - left0, 16u);
    int16 bad = (int16)(0);
    wp = wp + v * O * 16u;
    __global const float *wq = left1 != 0u ? wp + O * 16u : wp;
#define GROW(i) __global const float *g##i = gy + min(n0 + i##u, rows - 1u) * O;
    R8(GROW)
    R8(TOTAL2)
    for (uint o0 = 0u; o0 < O; o0 += STN_LINEAR_CHUNK) {
        R8(ZERO2)
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
    float16 each[16];
#define PUT_X(i) each[i] = t##i, each[8 + i] = u##i;
    R8(PUT_X)
    for (uint i = 0u; i < min(rows - n0, 8u); i++) {
        __global float *to = gx + (n0 + i) * row + v * 16u;
        float16 r0 = SNAP16(each[i], STN_LIM_G), r1 = SNAP16(each[8u + i], STN_LIM_G);
        bad |= BAD16(r0) | BAD16(r1);
        store16(r0, to, left0);
        store16(r1, to + 16, left1);
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

/* The gradients of one output's weights that vector v of a row stands for, K = C*P in all. */
static inline void put_weights(float16 r, uint xl, uint C, uint P, uint v, __global float *gw) {
    uint K = C * P;
    if (xl == 0u) {
        store16(r, gw + v * 16u, min(max(K, v * 16u) - v * 16u, 16u));
        return;
    }
    float each[16];
    uint c = v / P * 16u;
    vstore16(r, 0, each);
    gw = gw + c * P + v % P;
    for (uint l = 0u; l < 16u && c + l < C; l++) {
        gw[l * P] = each[l];
    }
}

/* One item per (eight outputs, pair of vectors): CHAIN over the images of each shard, then the
 * tree. Items of a pair past the last one sum the gradients of the biases. */
__kernel void vlinear_grad_w(RD(gy), RD(x), WR(gw), WR(gb), uint xl, uint C, uint P, uint O,
                             uint row, uint rows, uint B, uint S, float limit, FLAGS) {
    GO(gy), GO(x), GO(gw), GO(gb);
    uint o0 = (uint)get_global_id(0) * 8u, v = (uint)get_global_id(1) * 2u;
    if (v * 16u >= row) {
        for (uint o = o0; o < min(o0 + 8u, O); o++) {
            float levels[MAX_TREE], sum = 0.0f;
            for (uint s = 0u; s < S; s++) {
                sum = 0.0f;
                for (uint n = s * B; n < min(s * B + B, rows); n++) {
                    sum = ADD(gy[n * O + o], sum);
                }
                tree_push(levels, s, &sum, one);
            }
            sum = stn_snap(sum, limit);
            CHECK(sum);
            gb[o] = sum;
        }
        return;
    }
    float16 ones = (float16)(one), stack[MAX_TREE * 16];
    uint left = row - v * 16u, left0 = min(left, 16u), left1 = min(left - left0, 16u);
    int16 bad = (int16)(0);
#define OUT(i) uint to##i = min(o0 + i##u, O - 1u);
    R8(OUT)
#define SUM(i) float16 a##i, b##i;
    R8(SUM)
    for (uint s = 0u; s < S; s++) {
        R8(ZERO2)
        for (uint n = s * B; n < min(s * B + B, rows); n++) {
            __global const float *xv = x + n * row + v * 16u, *g = gy + n * O;
            float16 w0 = load16(xv, left0), w1 = load16(xv + 16, left1);
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
    /* One body for all results: unrolled, it would take most of the program's compile time. */
#define PUT_W(i) stack[i] = a##i, stack[8 + i] = b##i;
    R8(PUT_W)
    uint K = C * P;
    for (uint i = 0u; i < (left1 != 0u ? 16u : 8u); i++) {
        if (o0 + i % 8u < O) {
            float16 r = SNAP16(stack[i], limit);
            bad |= BAD16(r);
            put_weights(r, xl, C, P, v + i / 8u, gw + (o0 + i % 8u) * K);
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
