/* Linear layers, one item for each output value. x is [N,C,P], k runs over (c, p) in NCHW order.
 */
__kernel void linear(RD(x), RD(w), RD(b), WR(y), uint xl, uint C, uint P, uint O, uint has_b,
                     uint act, float slope, uint total, FLAGS) {
    GO(x), GO(w), GO(b), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint n = e / O, o = e % O, K = C * P, st = STRIDE(xl), c = 0u, p = 0u;
    __global const float *wp = w + o * K, *xp = x + plane(xl, C, P, n, 0u);
    float sum = 0.0f;
    for (uint k0 = 0u; k0 < K; k0 += STN_LINEAR_CHUNK) {
        float acc = 0.0f;
        for (uint k = k0; k < k0 + STN_LINEAR_CHUNK && k < K; k++) {
            acc = fma(xp[p * st], wp[k], acc);
            p++;
            if (p == P) {
                p = 0u;
                c++;
                xp = x + plane(xl, C, P, n, c);
            }
        }
        sum = ADD(acc, sum);
    }
    float r = stn_snap_x(has_b != 0u ? ADD(b[o], sum) : sum);
    CHECK(r);
    r = act != 0u ? act_fwd(r, slope) : r;
    CHECK(r);
    y[e] = r;
}

/* Gradient e of the output, before the activation if there is one. */
#define FLOW(e) (act != 0u ? act_bwd(gy[e], y[e], slope) : gy[e])

__kernel void linear_grad_x(RD(gy), RD(y), RD(w), WR(gx), uint xl, uint C, uint P, uint O, uint act,
                            float slope, uint total, FLAGS) {
    GO(gy), GO(y), GO(w), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(xl, C, P, e);
    if (q.c >= C) {
        gx[e] = 0.0f;
        return;
    }
    uint K = C * P, k = q.c * P + q.p;
    float sum = 0.0f;
    for (uint o0 = 0u; o0 < O; o0 += STN_LINEAR_CHUNK) {
        float acc = 0.0f;
        for (uint o = o0; o < o0 + STN_LINEAR_CHUNK && o < O; o++) {
            acc = fma(FLOW(q.n * O + o), w[o * K + k], acc);
        }
        sum = ADD(acc, sum);
    }
    float r = stn_snap_g(sum);
    CHECK(r);
    gx[e] = r;
}

/* All shards in one item, the tree on its stack. Items past the weights sum the gradients of
 * `biases` biases: the terms of a weight whose input is 1. */
__kernel void linear_grad_w(RD(gy), RD(y), RD(x), WR(gw), WR(gb), uint xl, uint C, uint P, uint O,
                            uint act, float slope, uint biases, uint rows, uint B, uint S,
                            uint total, float limit, FLAGS) {
    GO(gy), GO(y), GO(x), GO(gw), GO(gb);
    uint e = (uint)get_global_id(0);
    if (e >= total + biases) {
        return;
    }
    bool bias = e >= total;
    uint K = C * P, o = bias ? e - total : e / K, k = bias ? 0u : e % K;
    uint step = plane(xl, C, P, 1u, 0u);
    __global const float *xp = x + plane(xl, C, P, 0u, k / P) + (k % P) * STRIDE(xl);
    float stack[MAX_TREE], v = 0.0f;
    for (uint s = 0u; s < S; s++) {
        v = 0.0f;
        for (uint n = s * B; n < s * B + B && n < rows; n++) {
            v = fma(FLOW(n * O + o), bias ? one : xp[n * step], v);
        }
        tree_push(stack, s, &v, one);
    }
    float r = stn_snap(v, limit);
    CHECK(r);
    if (bias) {
        gb[o] = r;
    } else {
        gw[e] = r;
    }
}
