/* Sums over images and pixels: PLANE16 inside a plane, adds over a shard, the tree over shards.
 * Serves bias gradients and batch normalisation.
 */

/* One item per (n, c): out[n*C+c] = PLANE16 over the plane of
 *   mode 0: a;  1: d*d, d = snap(x - S/N) of x = a;  2: a * xhat, xhat = snap(d*r) of x. */
__kernel void plane_sum(RD(a), RD(x), RD(stats), WR(out), uint al, uint xl, uint C, uint P,
                        uint mode, float inv_n, uint total, float one) {
    GO(a), GO(x), GO(stats), GO(out);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint n = e / C, c = e % C, as = STRIDE(al), xs = STRIDE(xl);
    a = a + plane(al, C, P, n, c);
    x = x + plane(xl, C, P, n, c);
    float S = mode != 0u ? stats[c] : 0.0f, r = mode == 2u ? stats[2u * C + c] : 0.0f;
    float lane[16];
    for (uint j = 0u; j < 16u; j++) {
        lane[j] = 0.0f;
    }
    for (uint i0 = 0u; i0 < P; i0 += 16u) {
        for (uint j = 0u; j < 16u; j++) {
            uint i = i0 + j;
            if (i < P) {
                float v = a[i * as];
                if (mode == 0u) {
                    lane[j] = ADD(v, lane[j]);
                } else if (mode == 1u) {
                    float d = stn_snap_x(fma(-S, inv_n, v));
                    lane[j] = fma(d, d, lane[j]);
                } else {
                    float d = stn_snap_x(fma(-S, inv_n, x[i * xs]));
                    lane[j] = fma(v, stn_snap_x(d * r), lane[j]);
                }
            }
        }
    }
    for (uint s = 8u; s > 0u; s /= 2u) {
        for (uint j = 0u; j < s; j++) {
            lane[j] = ADD(lane[j + s], lane[j]);
        }
    }
    out[e] = lane[0];
}

/* One item per channel: the shards of part[n][C], each summed over its images, then the tree. */
__kernel void shard_sum(RD(part), WR(out), uint C, uint rows, uint B, uint S, float limit, FLAGS) {
    GO(part), GO(out);
    uint c = (uint)get_global_id(0);
    if (c >= C) {
        return;
    }
    float stack[MAX_TREE], v = 0.0f;
    for (uint s = 0u; s < S; s++) {
        v = 0.0f;
        for (uint n = s * B; n < s * B + B && n < rows; n++) {
            v = ADD(part[n * C + c], v);
        }
        tree_push(stack, s, &v, one);
    }
    float r = stn_snap(v, limit);
    CHECK(r);
    out[c] = r;
}

/* One item per value: the tree over S rows of n + n2, the first n of them to out. */
__kernel void tree(RD(part), WR(out), WR(out2), uint n, uint n2, uint S, float limit, FLAGS) {
    GO(part), GO(out), GO(out2);
    uint e = (uint)get_global_id(0);
    if (e >= n + n2) {
        return;
    }
    float stack[MAX_TREE], v = 0.0f;
    for (uint s = 0u; s < S; s++) {
        v = part[s * (n + n2) + e];
        tree_push(stack, s, &v, one);
    }
    float r = stn_snap(v, limit);
    CHECK(r);
    if (e < n) {
        out[e] = r;
    } else {
        out2[e - n] = r;
    }
}
