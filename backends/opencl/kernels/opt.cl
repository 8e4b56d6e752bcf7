/* Optimizers, in place. All items see flag word 0 as it stood before the operator, whatever they
 * flag themselves. For the update of running statistics a first launch copies it to a gate. */
__kernel void gate(WRI(out), FLAGS) {
    GO(out);
    if (get_global_id(0) == 0) {
        out[0] = step1 != 0u ? (int)flags[flags_off] : 0;
    }
}

/* In the optimizers every group reads the word for itself, and the last group to finish flags what
 * any of them found, when all have read. `ticket`, a word of the operator's own, counts the groups
 * and is 0 between runs; its top bit says that something was found. */
#define OPEN_TICKET                                                                                \
    __local uint frozen, bad;                                                                      \
    if (get_local_id(0) == 0u) {                                                                   \
        frozen = step1 != 0u ? flags[flags_off] : 0u;                                              \
        bad = 0u;                                                                                  \
    }                                                                                              \
    barrier(CLK_LOCAL_MEM_FENCE);
#define FOUND(x)                                                                                   \
    if (stn_nonfinite(x)) {                                                                        \
        atomic_or((volatile __local uint *)&bad, 1u);                                              \
    }
#define CLOSE_TICKET                                                                               \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                  \
    if (get_local_id(0) == 0u) {                                                                   \
        volatile __global uint *turn = (volatile __global uint *)ticket;                           \
        if (bad != 0u) {                                                                           \
            atomic_or(turn, 0x80000000u);                                                          \
        }                                                                                          \
        uint before = atomic_inc(turn);                                                            \
        if ((before & 0x7fffffffu) + 1u == (uint)get_num_groups(0)) {                              \
            atomic_and(turn, 0u);                                                                  \
            if ((before & 0x80000000u) != 0u) {                                                    \
                raise_flag(flags, flags_off, node, step1);                                         \
            }                                                                                      \
        }                                                                                          \
    }

__kernel void sgd(RD(g), WR(w), WR(v), WRI(ticket), float lr, float mu, float wd, uint nesterov,
                  uint total, FLAGS) {
    GO(g), GO(w), GO(v), GO(ticket);
    OPEN_TICKET
    uint e = (uint)get_global_id(0);
    if (e < total && frozen == 0u) {
        float d = stn_snap_g(fma(wd, w[e], g[e]));
        float m = stn_snap_g(fma(mu, v[e], d));
        float u = nesterov != 0u ? stn_snap_g(fma(mu, m, d)) : m;
        float r = stn_snap_x(fma(-lr, u, w[e]));
        FOUND(m);
        FOUND(r);
        v[e] = m;
        w[e] = r;
    }
    CLOSE_TICKET
}

/* The same for CPU devices: a group is one item with `span` values, 16 at a time. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
sgd16(RD(g), WR(w), WR(v), WRI(ticket), float lr, float mu, float wd, uint nesterov, uint total,
      uint span, FLAGS) {
    GO(g), GO(w), GO(v), GO(ticket);
    OPEN_TICKET
    uint first = (uint)get_global_id(0) * span, end = min(first + span, total);
    float16 mu16 = (float16)(mu);
    int16 found = (int16)(0);
    for (uint e = first; e < end && frozen == 0u; e += 16u) {
        uint n = min(end - e, 16u);
        float16 a = load16(w + e, n), d = fma((float16)(wd), a, load16(g + e, n));
        d = SNAP16(d, STN_LIM_G);
        float16 m = fma(mu16, load16(v + e, n), d);
        m = SNAP16(m, STN_LIM_G);
        float16 u = fma(mu16, m, d);
        u = nesterov != 0u ? SNAP16(u, STN_LIM_G) : m;
        float16 r = fma((float16)(-lr), u, a);
        r = SNAP16(r, STN_LIM_X);
        found |= BAD16(m) | BAD16(r);
        store16(m, v + e, n);
        store16(r, w + e, n);
    }
    bad = any(found) ? 1u : 0u;
    CLOSE_TICKET
}

__kernel void adam(RD(g), WR(w), WR(m), WR(v), WRI(ticket), float lr, float eps, float lw, float wd,
                   float omb1, float omb2, uint decoupled, uint total, FLAGS) {
    GO(g), GO(w), GO(m), GO(v), GO(ticket);
    OPEN_TICKET
    uint e = (uint)get_global_id(0);
    if (e < total && frozen == 0u) {
        float a = w[e];
        float d = stn_snap(decoupled != 0u ? g[e] : fma(wd, a, g[e]), STN_LIM_GA);
        a = decoupled != 0u ? fma(-lw, a, a) : a;
        float b = stn_snap_g(SUB(d, m[e]));
        float m1 = stn_snap_g(fma(omb1, b, m[e]));
        float t = fma(d, d, -v[e]);
        float v1 = stn_snap(fma(omb2, t, v[e]), STN_LIM_V);
        float q = stn_snap_x(stn_div(m1, ADD(eps, stn_sqrt(v1))));
        float r = stn_snap_x(fma(-lr, q, a));
        FOUND(m1);
        FOUND(v1);
        FOUND(r);
        m[e] = m1;
        v[e] = v1;
        w[e] = r;
    }
    CLOSE_TICKET
}
