#define grad_w FN(grad_w)
#define REP CAT(R, V_T)
#define ZERO(i) float16 a##i = (float16)(0.0f);

/* Weight gradient of a map in NC16: lanes are input channels, V_T = V_R * V_N accumulators the taps
 * of kernel rows kh ... kh + V_R - 1, unit = (slice of 16 channels, kh / V_R). One item per (unit, group of `most` output channels)
 * walks all chunks of all shards; `stack` keeps the open sums of the tree over shards, level by
 * level, and the total of the shard in progress. */
#define GRAD_W_ARGS(AS)                                                                            \
    AS##RD(x), AS##RDP(list), AS##RDI(counts), AS##WR(stack), AS##WR(gw), AS##U(shards),           \
    AS##U(chunks), AS##U(capacity), AS##U(levels), AS##U(most), AS##U(O), AS##U(C), AS##U(H),      \
    AS##U(W), AS##U(KH), AS##F(limit), AS##FLAGS
ONE_ITEM(grad_w, GRAD_W_ARGS) {
    GO(x), GO(counts), GO(stack), GO(gw);
    uint unit = id1, group = id0;
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    uint slice = unit / (KH / V_R), kh = unit % (KH / V_R) * V_R, pitch = W * 16u;
    int lanes = (int)min(C - slice * 16u, 16u);
    __global const float *xu = x + (slice * H + kh) * W * 16;
    __global float16 *top = (__global float16 *)stack +
                            (unit * ((O + most - 1u) / most) + group) * (levels + 1u) * most * V_T;
    for (uint segment = 0u; segment < shards * chunks; segment++) {
        uint shard = segment / chunks, chunk = segment % chunks;
        for (uint j = 0u; j < most && group * most + j < O; j++) {
            uint o = group * most + j, id = segment * ((O + 15u) / 16u * 16u) + o;
            __global const uint2 *e = list + list_off + id * capacity, *end = e + counts[id];
            __global float16 *sum = top + j * V_T;
            REP(ZERO)
            for (; e < end; e++) {
                float16 g = (float16)(*(__global const float *)e);
                __global const float *xe = xu + *((__global const uint *)e + 1);
#define TERM(i)                                                                                    \
    a##i = fma(g, ((__global const float16 *)(xe + i / V_N * pitch))[i % V_N], a##i);
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
                sum += most * V_T;
                REP(RESUME)
            }
            sum += most * V_T;
            if (shard + 1u < shards) {
                REP(KEEP)
                continue;
            }
#define SHOW(i) each[i] = a##i;
            float16 each[V_T];
            REP(SHOW)
            for (uint i = 0u; i < V_T; i++) {
                float16 r = SNAP16(each[i], limit);
                float lane[16];
                vstore16(r, 0, lane);
                bad |= LANES16 < (int16)(lanes) ? BAD16(r) : (int16)(0);
                __global float *to = gw + (((o * C + slice * 16u) * KH + kh) * V_N + i);
                for (int l = 0; l < lanes; l++, to += KH * V_N) {
                    *to = lane[l];
                }
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
