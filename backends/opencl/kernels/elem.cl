/* Element-wise operators, in stored order where the layouts of all operands agree. */

__kernel void act(RD(x), WR(y), float slope, uint total, FLAGS) {
    GO(x), GO(y);
    uint e = (uint)get_global_id(0);
    if (e < total) {
        float r = act_fwd(x[e], slope);
        CHECK(r);
        y[e] = r;
    }
}

__kernel void act_grad(RD(gy), RD(y), WR(gx), float slope, uint total, FLAGS) {
    GO(gy), GO(y), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e < total) {
        float r = act_bwd(gy[e], y[e], slope);
        CHECK(r);
        gx[e] = r;
    }
}

__kernel void scale(RD(x), WR(y), float factor, float limit, uint total, FLAGS) {
    GO(x), GO(y);
    uint e = (uint)get_global_id(0);
    if (e < total) {
        float r = stn_snap(factor * x[e], limit);
        CHECK(r);
        y[e] = r;
    }
}

/* Dropout and its gradient (limit names the class). The mask is that of the NCHW element index
 * in the whole batch, of which `base` elements lie before x. */
__kernel void dropout(RD(x), WR(y), uint lay, uint C, uint P, uint id, uint threshold, float factor,
                      float limit, uint base, uint seed_lo, uint seed_hi, uint step_lo, uint step_hi,
                      uint total, FLAGS) {
    GO(x), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(lay, C, P, e);
    float r = 0.0f;
    if (q.c < C) {
        uint word = stn_philox(seed_lo, seed_hi, base + (q.n * C + q.c) * P + q.p,
                               STN_RNG_STREAM(STN_RNG_DROPOUT, id), step_lo, step_hi);
        r = word < threshold ? 0.0f : stn_snap(x[e] * factor, limit);
        CHECK(r);
    }
    y[e] = r;
}

/* Up to eight terms; bit i of one_row: term i has one row, added to every row of `row` values. */
#define TERM(i)                                                                                    \
    if (terms > i) {                                                                               \
        s = ADD(t##i[t##i##_off + ((one_row >> i) & 1u ? e % row : e)], s);                        \
    }
__kernel void sum(RD(t0), RD(t1), RD(t2), RD(t3), RD(t4), RD(t5), RD(t6), RD(t7), WR(y), uint terms,
                  uint one_row, uint row, float limit, uint total, FLAGS) {
    GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    float s = t0[t0_off + ((one_row & 1u) != 0u ? e % row : e)];
    TERM(1)
    TERM(2)
    TERM(3)
    TERM(4)
    TERM(5)
    TERM(6)
    TERM(7)
    float r = stn_snap(s, limit);
    CHECK(r);
    y[e] = r;
}

/* Copy between layouts; words are moved as bits, nothing is checked. */
__kernel void copy32(RDI(x), WRI(y), uint xl, uint yl, uint C, uint P, uint total) {
    GO(x), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, C, P, e);
    y[e] = q.c < C ? x[plane(xl, C, P, q.n, q.c) + q.p * STRIDE(xl)] : 0;
}

__kernel void copy8(RD8(x), WR8(y), uint xl, uint yl, uint C, uint P, uint total) {
    GO(x), GO(y);
    uint e = (uint)get_global_id(0);
    if (e < total) {
        pos_t q = decode(yl, C, P, e);
        y[e] = q.c < C ? x[plane(xl, C, P, q.n, q.c) + q.p * STRIDE(xl)] : (uchar)0;
    }
}

#define UNPACK(NAME, READ)                                                                         \
    __kernel void NAME(READ, RD(mul), RD(add), WR(y), uint xl, uint yl, uint C, uint P,            \
                       uint total, FLAGS) {                                                        \
        GO(x), GO(mul), GO(add), GO(y);                                                            \
        uint e = (uint)get_global_id(0);                                                           \
        if (e >= total) {                                                                          \
            return;                                                                                \
        }                                                                                          \
        pos_t q = decode(yl, C, P, e);                                                             \
        float r = 0.0f;                                                                            \
        if (q.c < C) {                                                                             \
            float v = (float)x[plane(xl, C, P, q.n, q.c) + q.p * STRIDE(xl)];                      \
            r = stn_snap_x(fma(v, mul[q.c], add[q.c]));                                            \
            CHECK(r);                                                                              \
        }                                                                                          \
        y[e] = r;                                                                                  \
    }
UNPACK(unpack8, RD8(x))
UNPACK(unpack32, RD(x))
