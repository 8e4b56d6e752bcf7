/* Input gradient of a convolution with few input channels (NCHW), for CPU devices: lanes are 16
 * columns of the image. As in vlist.cl only the non-zero terms are walked, activation and 2x2
 * max-pool of stride 2 (V_POOL) undone on the way.
 *
 * An item takes `block` images one by one: it lists the terms of an image for every group of V_TR
 * rows, output channels ascending, then sums V_TR x V_NV vectors of a group in registers. The last
 * vector of a row ends with the row and overlaps the one before it. An entry is (bits of g, place of
 * the kernel relative to the group): weights stand in frames of FRAME rows of V_RL floats, zeros
 * around each kernel, so that no tap needs a test.
 */
#define REP CAT(R, V_N)
#define FRAME (V_KH + V_TR - 1)
#define GROUPS ((V_H + V_TR - 1) / V_TR)
#define CHUNKS ((V_O + V_CB - 1) / V_CB)
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

/* Lists of one image: group r has list[r * capacity ...]; ends[r][chunk] entries up to a chunk. */
static inline void list_image(__global const float *gy, __global const float *y,
                              __global const uchar *index, uint n, float slope, uint capacity,
                              __global uint2 *list, __global uint *ends) {
    uint used[GROUPS];
    uint2 item[2 * V_PW + 2]; /* upper row from 0, lower row from V_PW + 1 */
    for (uint r = 0u; r < GROUPS; r++) {
        used[r] = 0u;
    }
    for (uint o = 0u; o < V_O; o++) {
        uint at = (n * ((V_O + 15) / 16) + o / 16u) * V_PH * V_PW * 16u + o % 16u;
        map_t m = {gy + at, y + at, index + at};
        for (uint py = 0u; py < V_PH; py++) {
            uint upper = 0u, lower = 0u, k;
            for (uint px = 0u; px < V_PW; px++) {
                float g = term(m, py * V_PW + px, slope, &k);
                uint2 e = (uint2)(as_uint(g), (px * (V_POOL + 1) + (k & 1u)) * V_SW);
                item[upper] = e;
                item[V_PW + 1 + lower] = e;
                upper += NONZERO(g) & (k < 2u ? 1u : 0u);
                lower += NONZERO(g) & (k >> 1);
            }
            for (uint down = 0u; down <= V_POOL; down++) {
                int oh = (int)(py * (V_POOL + 1) + down) * V_SH, low = max(oh - V_PADH, 0);
                int to = min(oh - V_PADH + V_KH, V_H), row = ((int)o * FRAME - oh) * V_RL;
                uint count = down == 0u ? upper : lower;
                __private const uint2 *from = item + down * (V_PW + 1);
                for (int r = low / V_TR; r * V_TR < to; r++) {
                    __global uint2 *out = list + (uint)r * capacity + used[r];
                    used[r] += count;
                    for (uint i = 0u; i < count; i++) {
                        out[i] = (uint2)(from[i].x, (uint)(row - (int)from[i].y));
                    }
                }
            }
        }
        if ((o + 1u) % V_CB == 0u || o + 1u == V_O) {
            for (uint r = 0u; r < GROUPS; r++) {
                ends[r * CHUNKS + o / V_CB] = used[r];
            }
        }
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
             __global uint *ends, ulong ends_off, WR(gx), float slope, uint rows, uint block,
             uint capacity, FLAGS) {
    GO(wp), GO(gy), GO(y), GO(index), GO(gx);
    uint item = (uint)get_global_id(0);
    list = list + list_off + item * GROUPS * capacity;
    ends = ends + ends_off + item * GROUPS * CHUNKS;
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    for (uint n = item * block; n < min(item * block + block, rows); n++) {
        list_image(gy, y, index, n, slope, capacity, list, ends);
        for (uint c = 0u; c < V_C; c++) {
            for (uint r = 0u; r < GROUPS; r++) {
                __global const float *wr = wp + V_LEFT + V_PADW +
                    (c * V_O * FRAME + r * V_TR + V_TR - 1 + V_PADH) * V_RL;
                __global const uint2 *e = list + r * capacity;
                __global float *out = gx + ((n * V_C + c) * V_H + r * V_TR) * V_W;
                REP(TOTAL)
                REP(OPEN)
                for (uint chunk = 0u; chunk < CHUNKS; chunk++) {
                    __global const uint2 *to = list + r * capacity + ends[r * CHUNKS + chunk];
                    REP(ZERO)
                    for (; e < to; e++) {
                        float16 g = (float16)(as_float((*e).x));
                        __global const float *we = wr + (int)(*e).y;
                        REP(TERM)
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
