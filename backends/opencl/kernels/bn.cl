/* Batch normalisation; the sums over images are in reduce.cl. stats is [3][C]: S, Q, r.
 * Bits of affine: 1 there is a gamma, 2 there is a beta. */

__kernel void bn_rstd(WR(stats), uint C, float inv_n, float eps, FLAGS) {
    GO(stats);
    uint c = (uint)get_global_id(0);
    if (c < C) {
        float r = stn_snap_x(stn_rsqrt(fma(stats[C + c], inv_n, eps)));
        CHECK(r);
        stats[2u * C + c] = r;
    }
}

__kernel void bn_apply(RD(x), RD(stats), RD(gamma), RD(beta), WR(y), uint xl, uint yl, uint C,
                       uint P, uint affine, float inv_n, uint total, FLAGS) {
    GO(x), GO(stats), GO(gamma), GO(beta), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, C, P, e);
    if (q.c >= C) {
        y[e] = 0.0f;
        return;
    }
    float v = x[plane(xl, C, P, q.n, q.c) + q.p * STRIDE(xl)];
    float d = stn_snap_x(fma(-stats[q.c], inv_n, v));
    float h = stn_snap_x(d * stats[2u * C + q.c]);
    float g = (affine & 1u) != 0u ? gamma[q.c] : one,
          b = (affine & 2u) != 0u ? beta[q.c] : 0.0f;
    float r = stn_snap_x(fma(g, h, b));
    CHECK(r);
    y[e] = r;
}

__kernel void bn_eval(RD(x), RD(rm), RD(rv), RD(gamma), RD(beta), WR(y), uint xl, uint yl, uint C,
                      uint P, uint affine, float eps, uint total, FLAGS) {
    GO(x), GO(rm), GO(rv), GO(gamma), GO(beta), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, C, P, e);
    if (q.c >= C) {
        y[e] = 0.0f;
        return;
    }
    float v = x[plane(xl, C, P, q.n, q.c) + q.p * STRIDE(xl)];
    float d = stn_snap_x(SUB(v, rm[q.c]));
    float h = stn_snap_x(d * stn_snap_x(stn_rsqrt(ADD(eps, rv[q.c]))));
    float g = (affine & 1u) != 0u ? gamma[q.c] : one,
          b = (affine & 2u) != 0u ? beta[q.c] : 0.0f;
    float r = stn_snap_x(fma(g, h, b));
    CHECK(r);
    y[e] = r;
}

/* sums is [2][C]: s1 = sum dy, s2 = sum dy*xhat. */
__kernel void bn_grad(RD(gy), RD(x), RD(stats), RD(gamma), RD(s1), RD(s2), WR(gx), uint yl,
                      uint xl, uint gl, uint C, uint P, uint affine, float inv_n, uint total,
                      FLAGS) {
    GO(gy), GO(x), GO(stats), GO(gamma), GO(s1), GO(s2), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(gl, C, P, e);
    if (q.c >= C) {
        gx[e] = 0.0f;
        return;
    }
    float dy = gy[plane(yl, C, P, q.n, q.c) + q.p * STRIDE(yl)];
    float v = x[plane(xl, C, P, q.n, q.c) + q.p * STRIDE(xl)], r = stats[2u * C + q.c];
    float h = stn_snap_x(stn_snap_x(fma(-stats[q.c], inv_n, v)) * r);
    float m2 = stn_snap_g(s2[q.c] * inv_n);
    float t = stn_snap_g(fma(-h, m2, fma(-s1[q.c], inv_n, dy)));
    float g = (affine & 1u) != 0u ? gamma[q.c] : one;
    float d = stn_snap_g(stn_snap_x(g * r) * t);
    CHECK(d);
    gx[e] = d;
}

/* gate[0]: flag word 0 as it stood before this operator. */
__kernel void bn_update(RD(stats), WR(rm), WR(rv), RDI(gate), uint C, float momentum, float inv_n,
                        float inv_n1, FLAGS) {
    GO(stats), GO(rm), GO(rv), GO(gate);
    uint c = (uint)get_global_id(0);
    if (c >= C || gate[0] != 0) {
        return;
    }
    float m = rm[c], v = rv[c];
    float dm = stn_snap_x(fma(stats[c], inv_n, -m));
    float dv = stn_snap_x(fma(stats[C + c], inv_n1, -v));
    m = stn_snap_x(fma(momentum, dm, m));
    v = stn_snap_x(fma(momentum, dv, v));
    CHECK(m);
    CHECK(v);
    rm[c] = m;
    rv[c] = v;
}
