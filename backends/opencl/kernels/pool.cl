/* Pools and their gradients, one item for each output value. */

#define WINDOW uint H, uint W, uint OH, uint OW, uint KH, uint KW, uint sh, uint sw

/* Max-pool, then the activation if act != 0. Index: kh*KW+kw of the first maximum. */
__kernel void maxpool(RD(x), WR(y), WR8(index), uint xl, uint yl, uint il, uint C, WINDOW, uint act,
                      float slope, uint total, FLAGS) {
    GO(x), GO(y), GO(index);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, C, OH * OW, e);
    uint ie = plane(il, C, OH * OW, q.n, q.c) + q.p * STRIDE(il);
    if (q.c >= C) {
        y[e] = 0.0f;
        if (il != 0u) {
            index[ie] = 0;
        }
        return;
    }
    uint h = q.p / OW * sh, v = q.p % OW * sw, st = STRIDE(xl), best = 0u;
    __global const float *xp = x + plane(xl, C, H * W, q.n, q.c) + (h * W + v) * st;
    float m = xp[0];
    for (uint i = 0u; i < KH; i++) {
        for (uint j = 0u; j < KW; j++) {
            float t = xp[(i * W + j) * st];
            bool more = t > m;
            m = more ? t : m;
            best = more ? i * KW + j : best;
        }
    }
    m = act != 0u ? act_fwd(m, slope) : m;
    CHECK(m);
    y[e] = m;
    index[ie] = (uchar)best;
}

/* Undoes the activation (predicate on y) if act != 0, then the pool. */
__kernel void maxpool_grad(RD(gy), RD(y), RD8(index), WR(gx), uint gl, uint yl, uint il, uint xl,
                           uint C, WINDOW, uint act, float slope, uint total, FLAGS) {
    GO(gy), GO(y), GO(index), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(xl, C, H * W, e);
    if (q.c >= C) {
        gx[e] = 0.0f;
        return;
    }
    uint h = q.p / W, v = q.p % W, P = OH * OW;
    __global const float *gp = gy + plane(gl, C, P, q.n, q.c), *yp = y + plane(yl, C, P, q.n, q.c);
    __global const uchar *ip = index + plane(il, C, P, q.n, q.c);
    uint h0 = h < KH ? 0u : (h - KH) / sh + 1u, v0 = v < KW ? 0u : (v - KW) / sw + 1u;
    float sum = 0.0f;
    for (uint oh = h0; oh * sh <= h && oh < OH; oh++) {
        for (uint ow = v0; ow * sw <= v && ow < OW; ow++) {
            uint o = oh * OW + ow;
            if (ip[o * STRIDE(il)] == (h - oh * sh) * KW + (v - ow * sw)) {
                float g = gp[o * STRIDE(gl)];
                g = act != 0u ? act_bwd(g, yp[o * STRIDE(yl)], slope) : g;
                sum = ADD(g, sum);
            }
        }
    }
    float r = stn_snap_g(sum);
    CHECK(r);
    gx[e] = r;
}

/* halve: 2x2 windows with stride 2 add as ((a+b)+(c+d)). */
__kernel void avgpool(RD(x), WR(y), uint xl, uint yl, uint C, WINDOW, float scale, uint halve,
                      uint total, FLAGS) {
    GO(x), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, C, OH * OW, e);
    if (q.c >= C) {
        y[e] = 0.0f;
        return;
    }
    uint h = q.p / OW * sh, v = q.p % OW * sw, st = STRIDE(xl);
    __global const float *xp = x + plane(xl, C, H * W, q.n, q.c) + (h * W + v) * st;
    float sum = 0.0f;
    if (halve != 0u) {
        float a = ADD(xp[st], xp[0]), b = ADD(xp[(W + 1u) * st], xp[W * st]);
        sum = ADD(b, a);
    } else {
        for (uint i = 0u; i < KH; i++) {
            for (uint j = 0u; j < KW; j++) {
                sum = ADD(xp[(i * W + j) * st], sum);
            }
        }
    }
    float r = stn_snap_x(sum * scale);
    CHECK(r);
    y[e] = r;
}

__kernel void avgpool_grad(RD(gy), WR(gx), uint gl, uint xl, uint C, WINDOW, float scale,
                           uint total, FLAGS) {
    GO(gy), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(xl, C, H * W, e);
    if (q.c >= C) {
        gx[e] = 0.0f;
        return;
    }
    uint h = q.p / W, v = q.p % W;
    __global const float *gp = gy + plane(gl, C, OH * OW, q.n, q.c);
    uint h0 = h < KH ? 0u : (h - KH) / sh + 1u, v0 = v < KW ? 0u : (v - KW) / sw + 1u;
    float sum = 0.0f;
    for (uint oh = h0; oh * sh <= h && oh < OH; oh++) {
        for (uint ow = v0; ow * sw <= v && ow < OW; ow++) {
            sum = ADD(gp[(oh * OW + ow) * STRIDE(gl)], sum);
        }
    }
    float r = stn_snap_g(sum * scale);
    CHECK(r);
    gx[e] = r;
}
