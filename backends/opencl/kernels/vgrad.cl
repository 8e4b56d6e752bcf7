/* Gradients of a convolution from lists of non-zero terms (vlist.cl), for CPU devices. */
#define REP CAT(R, V_N)
#define ZERO(i) float16 a##i = (float16)(0.0f);

#if V_GRAD_W
/* Weight gradient of a map in NC16: lanes are input channels, V_N accumulators the taps of kernel
 * row kh, unit = (slice of 16 channels, kh). One item per (unit, group of V_GROUP output channels)
 * walks all chunks of all shards; `stack` keeps the open sums of the tree over shards, level by
 * level, and the total of the shard in progress. */
#define LEVEL (V_GROUP * V_N)
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
grad_w(RD(x), __global const uint2 *list, ulong list_off, RDI(length), WR(stack), WR(gw),
       uint shards, uint chunks, uint capacity, uint levels, float limit, FLAGS) {
    GO(x), GO(length), GO(stack), GO(gw);
    uint unit = (uint)get_global_id(0), group = (uint)get_global_id(1);
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    uint slice = unit / V_KH, kh = unit % V_KH;
    __global const float *xu = x + (slice * V_H + kh) * V_W * 16;
    __global float16 *top = (__global float16 *)stack +
                            (unit * ((V_O + V_GROUP - 1) / V_GROUP) + group) * (levels + 1u) * LEVEL;
    for (uint segment = 0u; segment < shards * chunks; segment++) {
        uint shard = segment / chunks, chunk = segment % chunks;
        for (uint j = 0u; j < V_GROUP && group * V_GROUP + j < V_O; j++) {
            uint o = group * V_GROUP + j, id = segment * ((V_O + 15) / 16 * 16) + o;
            __global const uint2 *e = list + list_off + id * capacity, *end = e + length[id];
            __global float16 *sum = top + j * V_N;
            REP(ZERO)
            for (; e < end; e++) {
                float16 g = (float16)(as_float((*e).x));
                __global const float *xe = xu + (*e).y;
#define TERM(i) a##i = fma(g, ((__global const float16 *)xe)[i], a##i);
                REP(TERM)
            }
#define RESUME(i) a##i = fma(a##i, ones, sum[i]);
#define KEEP(i) sum[i] = a##i;
            if (chunk != 0u) {
                REP(RESUME)
            }
            if (chunk + 1u < chunks) {
                REP(KEEP)
                continue;
            }
            uint level = 0u;
            for (; ((shard >> level) & 1u) != 0u; level++) {
                sum += LEVEL;
                REP(RESUME)
            }
            sum += LEVEL;
            if (shard + 1u < shards) {
                REP(KEEP)
                continue;
            }
#define STORE(i)                                                                                   \
    {                                                                                              \
        a##i = SNAP16(a##i, limit);                                                                \
        float each[16];                                                                            \
        vstore16(a##i, 0, each);                                                                   \
        for (uint l = 0u; l < 16u && slice * 16u + l < V_C; l++) {                                 \
            CHECK(each[l]);                                                                        \
            gw[((o * V_C + slice * 16u + l) * V_KH + kh) * V_N + i] = each[l];                     \
        }                                                                                          \
    }
            REP(STORE)
        }
    }
}
#endif

#if V_GRAD_X
/* Weights as rows of vectors of 16 input channels: row (slice, o, kh) holds V_PADL zeros, the V_KW
 * taps and zeros up to V_RL; one more row of zeros ends the table. One item per (slice, o), and one
 * for the last row. */
__kernel void pad_w(RD(w), WR(out), uint total) {
    GO(w), GO(out);
    uint e = (uint)get_global_id(0), o = e % V_O, c = e / V_O * 16u;
    if (e >= total) {
        return;
    }
    out = out + e * (V_KH * V_RL * 16);
    for (uint i = 0u; i < (e + 1u < total ? V_KH : 1u) * V_RL; i++) {
        vstore16((float16)(0.0f), i, out);
    }
    for (uint l = 0u; l < 16u && c + l < V_C; l++) {
        __global const float *from = w + (o * V_C + c + l) * (V_KH * V_KW);
        for (uint i = 0u; i < V_KH * V_KW; i++) {
            out[(i / V_KW * V_RL + V_PADL + i % V_KW) * 16u + l] = from[i];
        }
    }
}

/* Input gradient, V_N columns of 16 channels at a time. One item per (block of images, slice):
 * chunk by chunk, so that the weights of a chunk stay in the first cache for all images. */
#define CHUNKS ((V_O + V_CB - 1) / V_CB)
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
grad_x(RD(wp), __global const uint2 *list, ulong list_off, RDI(ends), WR(gx), uint rows, uint block,
       uint capacity, FLAGS) {
    GO(wp), GO(ends), GO(gx);
    uint first = (uint)get_global_id(0) * block, slice = (uint)get_global_id(1);
    uint last = min(first + block, rows);
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
        for (uint h = 0u; h < V_H; h++) {
            for (uint n = first; n < last; n++) {
                __global const uint2 *base = list + list_off + (n * V_H + h) * capacity;
                __global const int *ends_h = ends + (n * V_H + h) * CHUNKS;
                __global const uint2 *from = base + (chunk != 0u ? ends_h[chunk - 1u] : 0);
                __global const uint2 *to = base + ends_h[chunk];
                for (uint t = 0u; t < (V_W + V_N - 1) / V_N; t++) {
                    uint w0 = t * V_N;
                    __global const float *wh =
                        wp + ((slice * V_O * V_KH + h + V_PADH) * V_RL + w0) * 16;
                    __global float16 *out =
                        (__global float16 *)gx +
                        (n * ((V_C + 15) / 16) + slice) * V_H * V_W + h * V_W + w0;
                    REP(ZERO)
                    for (__global const uint2 *e = from; e < to; e++) {
                        float16 g = (float16)(as_float((*e).x));
                        __global const float16 *we = (__global const float16 *)(wh + (int)(*e).y);
#define TERM_X(i) a##i = fma(g, we[i], a##i);
                        REP(TERM_X)
                    }
#define MORE(i) a##i = fma(a##i, ones, LOADED(i));
#define LAST(i)                                                                                    \
    a##i = SNAP16(a##i, STN_LIM_G);                                                                \
    MASK(i)                                                                                        \
    bad |= BAD16(a##i);
#if V_W % V_N != 0
#define INSIDE(i) w0 + i##u < V_W
#else
#define INSIDE(i) true
#endif
#define PUT(i)                                                                                     \
    if (INSIDE(i)) {                                                                               \
        out[i] = a##i;                                                                             \
    }
#define LOADED(i) (INSIDE(i) ? out[i] : (float16)(0.0f))
#if V_C % 16 != 0
#define MASK(i)                                                                                    \
    a##i = LANES16 < (int16)(V_C - (int)slice * 16) ? a##i : (float16)(0.0f);
#else
#define MASK(i)
#endif
                    if (chunk != 0u) {
                        REP(MORE)
                    }
                    if (chunk + 1u == CHUNKS) {
                        REP(LAST)
                    }
                    REP(PUT)
                }
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
#endif
