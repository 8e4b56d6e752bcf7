/* Linear layers for CPU devices: eight images (or outputs) by one vector of 16 per work-item.
 *
 * An image of x is `row` floats: NC16 blocks, or K = C*P values of NCHW. Vector v of a row holds the
 * inputs k = input_of(v, lane); k >= K marks padding.
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
    float each[16];
#define PUT(i)                                                                                     \
    if (n0 + i##u < rows) {                                                                        \
        vstore16(t##i, 0, each);                                                                   \
        for (uint l = 0u; l < 16u && og * 16u + l < O; l++) {                                      \
            uint o = og * 16u + l;                                                                 \
            float r = stn_snap_x(has_b != 0u ? ADD(b[o], each[l]) : each[l]);                      \
            CHECK(r);                                                                              \
            r = act != 0u ? act_fwd(r, slope) : r;                                                 \
            CHECK(r);                                                                              \
            y[(n0 + i##u) * O + o] = r;                                                            \
        }                                                                                          \
    }
    R8(PUT)
}

/* wp is [vector][O][16]. */
__kernel void vlinear_grad_x(RD(gy), RD(wp), WR(gx), uint xl, uint O, uint row, uint rows, FLAGS) {
    GO(gy), GO(wp), GO(gx);
    uint v = (uint)get_global_id(0), n0 = (uint)get_global_id(1) * 8u;
    if (n0 >= rows) {
        return;
    }
    float16 ones = (float16)(one);
    wp = wp + v * O * 16u;
#define GROW(i) __global const float *g##i = gy + min(n0 + i##u, rows - 1u) * O;
    R8(GROW)
    R8(TOTAL)
    for (uint o0 = 0u; o0 < O; o0 += STN_LINEAR_CHUNK) {
        R8(ZERO)
        for (uint o = o0; o < min(o0 + STN_LINEAR_CHUNK, O); o++) {
            float16 w = vload16(o, wp);
#define TERM_X(i) a##i = fma((float16)(g##i[o]), w, a##i);
            R8(TERM_X)
        }
        R8(FOLD)
    }
    float each[16];
#define PUT_X(i)                                                                                   \
    if (n0 + i##u < rows) {                                                                        \
        t##i = SNAP16(t##i, STN_LIM_G);                                                            \
        if (any(BAD16(t##i))) {                                                                    \
            raise_flag(flags, flags_off, node, step1);                                             \
        }                                                                                          \
        __global float *to = gx + (n0 + i##u) * row + v * 16u;                                     \
        if (v * 16u + 16u <= row) {                                                                \
            vstore16(t##i, 0, to);                                                                 \
        } else {                                                                                   \
            vstore16(t##i, 0, each);                                                               \
            for (uint l = 0u; v * 16u + l < row; l++) {                                            \
                to[l] = each[l];                                                                   \
            }                                                                                      \
        }                                                                                          \
    }
    R8(PUT_X)
}

/* One item per (vector, eight outputs): CHAIN over the images of each shard, then the tree. Items
 * of a vector past the last one sum the gradients of the biases. */
__kernel void vlinear_grad_w(RD(gy), RD(x), WR(gw), WR(gb), uint xl, uint C, uint P, uint O,
                             uint row, uint rows, uint B, uint S, float limit, FLAGS) {
    GO(gy), GO(x), GO(gw), GO(gb);
    uint v = (uint)get_global_id(0), o0 = (uint)get_global_id(1) * 8u, K = C * P;
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
    float16 ones = (float16)(one), stack[MAX_TREE * 8];
    float each[16];
#define OUT(i) uint to##i = min(o0 + i##u, O - 1u);
    R8(OUT)
#define SUM(i) float16 a##i;
    R8(SUM)
    for (uint s = 0u; s < S; s++) {
        R8(ZERO)
        for (uint n = s * B; n < min(s * B + B, rows); n++) {
            __global const float *xv = x + n * row + v * 16u, *g = gy + n * O;
            if (v * 16u + 16u > row) {
                for (uint l = 0u; l < 16u; l++) {
                    each[l] = v * 16u + l < row ? xv[l] : 0.0f;
                }
            }
            float16 w = v * 16u + 16u <= row ? vload16(0, xv) : vload16(0, each);
#define TERM_W(i) a##i = fma((float16)(g[to##i]), w, a##i);
            R8(TERM_W)
        }
        uint level = 0u;
        for (; ((s >> level) & 1u) != 0u; level++) {
#define POP(i) a##i = fma(a##i, ones, stack[level * 8u + i##u]);
            R8(POP)
        }
#define PUSH(i) stack[level * 8u + i##u] = a##i;
        R8(PUSH)
    }
#define PUT_W(i)                                                                                   \
    if (o0 + i##u < O) {                                                                           \
        vstore16(a##i, 0, each);                                                                   \
        for (uint l = 0u; l < 16u; l++) {                                                          \
            uint k = input_of(xl, C, P, v, l);                                                     \
            if (k < K) {                                                                           \
                float r = stn_snap(each[l], limit);                                                \
                CHECK(r);                                                                          \
                gw[(o0 + i##u) * K + k] = r;                                                       \
            }                                                                                      \
        }                                                                                          \
    }
    R8(PUT_W)
}
