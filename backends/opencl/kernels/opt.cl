/* Optimizers, in place. A first launch copies flag word 0 to the gate, so that all items of the
 * second see the state before this operator, whatever they flag themselves.
 */
__kernel void gate(WRI(out), FLAGS) {
    GO(out);
    if (get_global_id(0) == 0) {
        out[0] = step1 != 0u ? (int)flags[flags_off] : 0;
    }
}

__kernel void sgd(RD(g), WR(w), WR(v), RDI(gate), float lr, float mu, float wd, uint nesterov,
                  uint total, FLAGS) {
    GO(g), GO(w), GO(v), GO(gate);
    uint e = (uint)get_global_id(0);
    if (e >= total || gate[0] != 0) {
        return;
    }
    float d = stn_snap_g(fma(wd, w[e], g[e]));
    float m = stn_snap_g(fma(mu, v[e], d));
    float u = nesterov != 0u ? stn_snap_g(fma(mu, m, d)) : m;
    float r = stn_snap_x(fma(-lr, u, w[e]));
    CHECK(m);
    CHECK(r);
    v[e] = m;
    w[e] = r;
}

__kernel void adam(RD(g), WR(w), WR(m), WR(v), RDI(gate), float lr, float eps, float lw, float wd,
                   float omb1, float omb2, uint decoupled, uint total, FLAGS) {
    GO(g), GO(w), GO(m), GO(v), GO(gate);
    uint e = (uint)get_global_id(0);
    if (e >= total || gate[0] != 0) {
        return;
    }
    float a = w[e];
    float d = stn_snap(decoupled != 0u ? g[e] : fma(wd, a, g[e]), STN_LIM_GA);
    a = decoupled != 0u ? fma(-lw, a, a) : a;
    float b = stn_snap_g(SUB(d, m[e]));
    float m1 = stn_snap_g(fma(omb1, b, m[e]));
    float t = fma(d, d, -v[e]);
    float v1 = stn_snap(fma(omb2, t, v[e]), STN_LIM_V);
    float q = stn_snap_x(stn_div(m1, ADD(eps, stn_sqrt(v1))));
    float r = stn_snap_x(fma(-lr, q, a));
    CHECK(m1);
    CHECK(v1);
    CHECK(r);
    m[e] = m1;
    v[e] = v1;
    w[e] = r;
}
