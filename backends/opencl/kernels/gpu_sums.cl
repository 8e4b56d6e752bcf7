/* Sums for GPUs: PLANE16 with 16 items for each plane, shards side by side, ordered second passes.
 */
#define PLANES 4u

/* PLANE16 fold of the lanes of PLANES planes; call from all items of a (16, PLANES) group. */
#define FOLD(lanes, row, lane)                                                                     \
    for (uint s = 8u; s > 0u; s /= 2u) {                                                           \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        if (lane < s) {                                                                            \
            lanes[row][lane] = ADD(lanes[row][lane + s], lanes[row][lane]);                        \
        }                                                                                          \
    }

/* out[n*C+c] = PLANE16 over the plane of a, of d*d, or of a*xhat; modes as plane_sum. */
__kernel __attribute__((reqd_work_group_size(16, PLANES, 1))) void
gpu_plane_sum(RD(a), RD(x), RD(stats), WR(out), uint al, uint xl, uint C, uint P, uint mode,
              float inv_n, uint total, float one) {
    GO(a), GO(x), GO(stats), GO(out);
    __local float lanes[PLANES][16];
    uint lane = (uint)get_local_id(0), row = (uint)get_local_id(1), e = (uint)get_global_id(1);
    float sum = 0.0f;
    if (e < total) {
        uint n = e / C, c = e - n * C, as = STRIDE(al), xs = STRIDE(xl);
        __global const float *ap = a + plane(al, C, P, n, c), *xp = x + plane(xl, C, P, n, c);
        float S = mode != 0u ? stats[c] : 0.0f, r = mode == 2u ? stats[2u * C + c] : 0.0f;
        for (uint i = lane; i < P; i += 16u) {
            float v = ap[i * as];
            float d = mode == 0u ? 0.0f : stn_snap_x(fma(-S, inv_n, mode == 1u ? v : xp[i * xs]));
            sum = mode == 0u   ? ADD(v, sum)
                  : mode == 1u ? fma(d, d, sum)
                               : fma(v, stn_snap_x(d * r), sum);
        }
    }
    lanes[row][lane] = sum;
    FOLD(lanes, row, lane)
    if (lane == 0u && e < total) {
        out[e] = lanes[row][0];
    }
}

/* Undoes activation and pool of a block: writes the gradient gx of the map before them, and its
 * PLANE16 sums if sums != 0; stored = 0: only the sums. pool = 0: only the activation (windows of
 * one pixel). */
__kernel __attribute__((reqd_work_group_size(16, PLANES, 1))) void
gpu_undo(RD(gy), RD(y), RD8(index), WR(gx), WR(out), uint C, uint H, uint W, uint OH, uint OW,
         uint KH, uint KW, uint sh, uint sw, uint pool, uint act, float slope, uint sums,
         uint stored, uint total, FLAGS) {
    GO(gy), GO(y), GO(index), GO(gx), GO(out);
    __local float lanes[PLANES][16];
    uint lane = (uint)get_local_id(0), row = (uint)get_local_id(1), e = (uint)get_global_id(1);
    uint P = OH * OW;
    float lane_sum = 0.0f;
    for (uint i = lane; e < total && i < H * W; i += 16u) {
        uint h = i / W, v = i - h * W;
        uint h0 = h < KH ? 0u : (h - KH) / sh + 1u, v0 = v < KW ? 0u : (v - KW) / sw + 1u;
        float sum = 0.0f;
        for (uint oh = h0; oh * sh <= h && oh < OH; oh++) {
            for (uint ow = v0; ow * sw <= v && ow < OW; ow++) {
                uint o = e * P + oh * OW + ow;
                if (pool == 0u || index[o] == (h - oh * sh) * KW + (v - ow * sw)) {
                    sum = ADD(act != 0u ? act_bwd(gy[o], y[o], slope) : gy[o], sum);
                }
            }
        }
        sum = stn_snap_g(sum);
        if (stored != 0u) {
            CHECK(sum);
            gx[e * H * W + i] = sum;
        }
        lane_sum = ADD(sum, lane_sum);
    }
    lanes[row][lane] = lane_sum;
    FOLD(lanes, row, lane)
    if (lane == 0u && e < total && sums != 0u) {
        out[e] = lanes[row][0];
    }
}

/* The same for a 2x2 max-pool of stride 2, with or without an activation. Loads stand outside
 * branches: one inside waits for it. */
__kernel __attribute__((reqd_work_group_size(16, PLANES, 1))) void
gpu_unpool(RD(gy), RD(y), RD8(index), WR(gx), WR(out), uint H, uint W, uint OH, uint OW, uint act,
           float slope, uint sums, uint stored, uint total, FLAGS) {
    GO(gy), GO(y), GO(index), GO(gx), GO(out);
    __local float lanes[PLANES][16];
    uint lane = (uint)get_local_id(0), row = (uint)get_local_id(1), e = (uint)get_global_id(1);
    uint pixels = e < total ? H * W : 0u, inverse = INVERSE(W), bad = 0u;
    float lane_sum = 0.0f;
    for (uint i = lane; i < pixels; i += 16u) {
        uint2 p = divide(i, W, inverse);
        bool in = (p.x / 2u < OH) & (p.y / 2u < OW);
        uint at = in ? (e * OH + p.x / 2u) * OW + p.y / 2u : 0u, chosen = index[at];
        float v = gy[at];
        v = act != 0u ? act_bwd(v, y[at], slope) : v;
        v = (in & (chosen == (p.x & 1u) * 2u + (p.y & 1u))) ? v : 0.0f;
        float sum = stn_snap_g(ADD(v, 0.0f));
        if (stored != 0u) {
            NOTE(sum)
            gx[e * H * W + i] = sum;
        }
        lane_sum = ADD(sum, lane_sum);
    }
    RAISE
    lanes[row][lane] = lane_sum;
    FOLD(lanes, row, lane)
    if (lane == 0u && e < total && sums != 0u) {
        out[e] = lanes[row][0];
    }
}

/* One group of 64 for each channel: items sum the shards, the tree is folded in local memory.
 * S <= MAX_SHARDS, a power of two. */
#define MAX_SHARDS 256u
__kernel __attribute__((reqd_work_group_size(64, 1, 1))) void
gpu_shard_sum(RD(part), WR(out), uint C, uint rows, uint B, uint S, float limit, FLAGS) {
    GO(part), GO(out);
    __local float sums[MAX_SHARDS];
    uint lane = (uint)get_local_id(0), c = (uint)get_group_id(0);
    for (uint s = lane; s < S; s += 64u) {
        float v = 0.0f;
        for (uint n = s * B; n < s * B + B && n < rows; n++) {
            v = ADD(part[n * C + c], v);
        }
        sums[s] = v;
    }
    for (uint d = 1u; d < S; d *= 2u) {
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint s = 2u * d * lane; s < S; s += 2u * d * 64u) {
            sums[s] = ADD(sums[s + d], sums[s]);
        }
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    if (lane == 0u) {
        float r = stn_snap(sums[0], limit);
        CHECK(r);
        out[c] = r;
    }
}

/* A group sums 16 values over S shards, 8 items a value: each takes S/8 shards in a row, which are
 * a subtree, and the tree over the items is folded in local memory. TREES: value e of `all` and
 * this item's shards first .. last-1; then sums[s - first] are pushed, and TREE_SUM leaves the sum
 * in v of the items lane == 0. */
#define TREE_ITEMS 8u
#define TREES                                                                                      \
    __local float sums[TREE_ITEMS][16];                                                            \
    uint value = (uint)get_local_id(0), lane = (uint)get_local_id(1);                              \
    uint lanes = S < TREE_ITEMS ? S : TREE_ITEMS, each = S / lanes, first = lane * each;           \
    uint last = lane < lanes ? first + each : first;                                               \
    float stack[MAX_TREE], v = 0.0f;
#define TREE_SUM                                                                                   \
    sums[lane][value] = v;                                                                         \
    for (uint d = 1u; d < lanes; d *= 2u) {                                                        \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        if (lane % (2u * d) == 0u && lane < lanes) {                                               \
            v = ADD(sums[lane + d][value], v);                                                     \
            sums[lane][value] = v;                                                                 \
        }                                                                                          \
    }
#define TREE_GROUP __attribute__((reqd_work_group_size(16, TREE_ITEMS, 1)))

/* Second pass of a weight gradient: the parts of a shard in order, then the tree over S shards.
 * Values past n are the bias gradient of C channels from the PLANE16 sums planes[image][C] (C = 0:
 * there is none); act: they are gradients of a map of one pixel and pass backwards through an
 * activation with the output `flow`. */
__kernel TREE_GROUP void gpu_finish(RD(part), WR(gw), RD(planes), RD(flow), WR(gb), uint n,
                                    uint parts, uint S, uint C, uint act, float slope, uint rows,
                                    uint B, float limit, FLAGS) {
    GO(part), GO(gw), GO(planes), GO(flow), GO(gb);
    TREES
    uint e = (uint)get_group_id(1) * 16u + value;
    last = e < n + C ? last : first;
    for (uint s = first; s < last; s++) {
        v = 0.0f;
        if (e < n) {
            for (uint q = 0u; q < parts; q++) {
                v = ADD(part[(s * parts + q) * n + e], v);
            }
        } else {
            for (uint i = s * B; i < s * B + B && i < rows; i++) {
                uint at = i * C + e - n;
                v = ADD(act != 0u ? act_bwd(planes[at], flow[at], slope) : planes[at], v);
            }
        }
        tree_push(stack, s - first, &v, one);
    }
    TREE_SUM
    if (lane != 0u || e >= n + C) {
        return;
    }
    v = stn_snap(v, limit);
    CHECK(v);
    if (e < n) {
        gw[e] = v;
    } else {
        gb[e - n] = v;
    }
}

/* Gradients of a linear layer of little work: y[n][o] = act(sum over k < K of x[n][k] * w[o][k], +
 * b[o]). The first `trees` groups sum 16 of `values` weights or of the biases past them over all
 * images, the others 128 values of gx[n][k] over the outputs. */
__kernel TREE_GROUP void gpu_linear_grads(RD(gy), RD(y), RD(x), RD(w), WR(gw), WR(gb), WR(gx),
                                          uint K, uint O, uint act, float slope, uint values,
                                          uint biases, uint trees, uint rows, uint B, uint S,
                                          float limit, FLAGS) {
    GO(gy), GO(y), GO(x), GO(w), GO(gw), GO(gb), GO(gx);
#define FLOW(e) (act != 0u ? act_bwd(gy[e], y[e], slope) : gy[e])
    TREES
    uint group = (uint)get_group_id(1), e = group * 16u + value;
    last = group < trees && e < values + biases ? last : first;
    bool bias = e >= values;
    uint o = bias ? e - values : e / K, k = bias ? 0u : e - o * K;
    for (uint s = first; s < last; s++) {
        v = 0.0f;
        for (uint n = s * B; n < s * B + B && n < rows; n++) {
            v = fma(FLOW(n * O + o), bias ? one : x[n * K + k], v);
        }
        tree_push(stack, s - first, &v, one);
    }
    TREE_SUM
    if (group < trees) {
        if (lane == 0u && e < values + biases) {
            v = stn_snap(v, limit);
            CHECK(v);
            if (bias) {
                gb[o] = v;
            } else {
                gw[e] = v;
            }
        }
        return;
    }
    e = (group - trees) * 128u + lane * 16u + value;
    if (e >= rows * K) {
        return;
    }
    uint n = e / K;
    k = e - n * K;
    float sum = 0.0f;
    for (uint o0 = 0u; o0 < O; o0 += STN_LINEAR_CHUNK) {
        float acc = 0.0f;
        for (o = o0; o < o0 + STN_LINEAR_CHUNK && o < O; o++) {
            acc = fma(FLOW(n * O + o), w[o * K + k], acc);
        }
        sum = ADD(acc, sum);
    }
    sum = stn_snap_g(sum);
    CHECK(sum);
    gx[e] = sum;
#undef FLOW
}
