/* Input gradient of a convolution with few input channels (NCHW), for CPU devices: lanes are 16
 * columns of the image. As in vlist.cl only the non-zero terms are walked, activation and 2x2
 * max-pool of stride 2 (V_POOL) undone on the way.
 *
 * An item takes `block` images one by one: it lists the terms of every output channel of an image,
 * then sums V_TR x V_NV vectors of a group of V_TR rows in registers, from the runs of the lists
 * that reach the group. The last vector of a row ends with the row and overlaps the one before it.
 * An entry is (bits of g, place of the kernel): weights stand in frames of FRAME rows of V_RL floats,
 * zeros around each kernel, so that no tap needs a test.
 */
#define REP CAT(R, V_N)
#define FRAME (V_KH + V_TR - 1)
#define GROUPS ((V_H + V_TR - 1) / V_TR)
#define OB ((V_O + 15) / 16)
#define ROWS (V_PH * (V_POOL + 1)) /* of the output of the convolution, that a term may be in */
#define CAPACITY (V_PH * V_PW + 1)
#define V_COL (-V_SW)
#define ROW(i) ((i) / V_NV)
#define COLUMN(i) ((i) % V_NV * 16 < V_W - 16 ? (i) % V_NV * 16 : V_W - 16)

/* Frame (c, o): V_TR - 1 rows of zeros, then the kernel's rows behind V_LEFT zeros. */
__kernel void frames(RD(w), WR(out), uint total) {
    GO(w), GO(out);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint kw = e % V_RL - V_LEFT, row = e / V_RL, kh = row % FRAME - (V_TR - 1), f = row / FRAME;
    bool live = f < V_C * V_O && kh < V_KH && kw < V_KW;
    out[e] = live ? w[((f % V_O * V_C + f / V_O) * V_KH + kh) * V_KW + kw] : 0.0f;
}

/* Lists of one image: those of channel o from list[o * CAPACITY] on, row oh of them from
 * start[oh][o] on. */
#define START(l) __global uint2 *p##l = list + (ob * 16u + l) * CAPACITY;
#define MARK(l) start[(row * OB + ob) * 16u + l] = (uint)(p##l - list);
static inline void list_image(__global const float *gy, __global const float *y,
                              __global const uchar *index, uint n, float slope,
                              __global uint2 *list, __global uint *start) {
    for (uint ob = 0u; ob < OB; ob++) {
        uint row = 0u;
        R16(START)
        for (; row < ROWS; row++) {
            uint at = ((n * OB + ob) * V_PH + row / (V_POOL + 1)) * V_PW;
            int16 place = (((int16)((int)ob * 16) + LANES16) * FRAME - (int16)((int)row * V_SH)) * V_RL;
            R16(MARK)
            LIST_ROW(at, row % (V_POOL + 1), place)
        }
        R16(MARK)
    }
}

#define TOTAL(i) float16 t##i = (float16)(0.0f);
#define ZERO(i) a##i = (float16)(0.0f);
#define OPEN(i) float16 a##i;
#define TERM(i) a##i = fma(g, vload16(0, we + ROW(i) * V_RL + COLUMN(i)), a##i);
#define FOLD(i) t##i = fma(a##i, ones, t##i);
#define PUT(i)                                                                                     \
    if (r * V_TR + ROW(i) < V_H) {                                                                 \
        t##i = SNAP16(t##i, STN_LIM_G);                                                            \
        bad |= BAD16(t##i);                                                                        \
        vstore16(t##i, 0, out + ROW(i) * V_W + COLUMN(i));                                         \
    }

__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
grad_x_plane(RD(wp), RD(gy), RD(y), RD8(index), __global uint2 *list, ulong list_off,
             __global uint *start, ulong start_off, WR(gx), float slope, uint rows, uint block,
             FLAGS) {
    GO(wp), GO(gy), GO(y), GO(index), GO(gx);
    uint item = (uint)get_global_id(0);
    list = list + list_off + item * OB * 16u * CAPACITY;
    start = start + start_off + item * OB * 16u * (ROWS + 1);
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    for (uint n = item * block; n < min(item * block + block, rows); n++) {
        list_image(gy, y, index, n, slope, list, start);
        for (uint c = 0u; c < V_C; c++) {
            for (uint r = 0u; r < GROUPS; r++) {
                __global const float *wr = wp + V_LEFT + V_PADW +
                    (c * V_O * FRAME + r * V_TR + V_TR - 1 + V_PADH) * V_RL;
                __global float *out = gx + ((n * V_C + c) * V_H + r * V_TR) * V_W;
                /* Rows whose kernels meet the group. */
                int reach = (int)r * V_TR + V_PADH - V_KH + 1;
                uint low = reach > 0 ? ((uint)reach + V_SH - 1u) / V_SH : 0u;
                uint end = min((r * V_TR + V_TR - 1u + V_PADH) / V_SH + 1u, (uint)ROWS);
                __global const uint *from = start + min(low, end) * OB * 16u;
                __global const uint *to = start + end * OB * 16u;
                REP(TOTAL)
                REP(OPEN)
                for (uint o0 = 0u; o0 < V_O; o0 += V_CB) {
                    REP(ZERO)
                    for (uint o = o0; o < min(o0 + V_CB, (uint)V_O); o++) {
                        __global const uint2 *e = list + from[o], *last = list + to[o];
                        for (; e < last; e++) {
                            float16 g = (float16)(as_float((*e).x));
                            __global const float *we = wr + (int)(*e).y;
                            REP(TERM)
                        }
                    }
                    REP(FOLD)
                }
                REP(PUT)
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
