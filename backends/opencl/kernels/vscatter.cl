/* Input gradient of a convolution with stride 1 (NC16), for CPU devices: every non-zero term adds its
 * kernel to the sums around it, which stay in a near cache; lanes are input channels. Activation and
 * 2x2 max-pool of stride 2 (V_POOL) are undone on the way. Where few tiles of vgrad_x.cl cover the
 * map those are faster.
 *
 * A term of output channel o touches a pixel at most once, and terms come in order of (oh, ow), which
 * is the contract's. The sums have a frame of padding, V_SUMS vectors for an item.
 */
#define list_terms FN(list_terms)
#define grad_x_scatter FN(grad_x_scatter)
#define OB ((V_O + 15) / 16)
#define CHUNKS ((V_O + V_CB - 1) / V_CB)
#define ACROSS (V_W + 2 * V_PADW)
#define DOWN (V_H + 2 * V_PADH)
#define TAPS (V_KH * V_KW)
#define MOST (V_O * V_PH * V_PW + 1) /* a slot is written before it is kept */

/* Terms of one image, o ascending, then row-major: (bits of g, the place of its kernel's first tap in
 * the sums); ends[o]: the entry after the last of o. */
static inline void list_terms(map_t m, float slope, __global uint2 *list, __global uint *ends) {
    uint n = 0u;
    uint2 lower[V_PW + 1];
    for (uint o = 0u; o < V_O; o++) {
        uint at = o / 16u * V_PH * V_PW * 16u + o % 16u;
        map_t mo = {m.gy + at, m.y + at, m.index + at};
        for (uint py = 0u; py < V_PH; py++) {
            uint row = py * (V_POOL + 1) * ACROSS, used = 0u, k;
            for (uint px = 0u; px < V_PW; px++) {
                float g = term(mo, py * V_PW + px, slope, &k);
                uint2 e = (uint2)(as_uint(g), row + px * (V_POOL + 1) + (k & 1u));
                list[n] = e;
                n += NONZERO(g) & (k < 2u ? 1u : 0u);
                lower[used] = e;
                used += NONZERO(g) & (k >> 1);
            }
            for (uint i = 0u; i < used; i++) {
                list[n++] = (uint2)(lower[i].x, lower[i].y + ACROSS);
            }
        }
        ends[o] = n;
    }
}

/* One term; the weights of a small kernel stay in registers. */
#if V_HOLD
#define REP CAT(R, V_TAPS)
#define HELD(i) float16 w##i = w[i];
#define SUM(i) at[(i##u) / V_KW * ACROSS + (i##u) % V_KW]
#define ADD_TERM(i) SUM(i) = fma(g, w##i, SUM(i));
#define HOLD REP(HELD)
#define SCATTER REP(ADD_TERM)
#else
#define REP CAT(R, V_KW)
#define ADD_TERM(i) at[i] = fma(g, wr[i], at[i]);
#define HOLD
#define SCATTER                                                                                    \
    __global const float16 *wr = w;                                                                \
    for (uint r = 0u; r < V_KH; r++, at += ACROSS, wr += V_KW) {                                   \
        REP(ADD_TERM)                                                                              \
    }
#endif

/* An item takes every so many-th block of images, chunk by chunk, so that weights stay in the first
 * cache for all images of the block. */
#define GRAD_X_SCATTER_ARGS(AS)                                                                    \
    AS##RD(wp), AS##RD(gy), AS##RD(y), AS##RD8(index), AS##WRP(list), AS##WRI(ends),               \
    AS##WR(sums), AS##WR(gx), AS##F(slope), AS##U(rows), AS##U(block), AS##FLAGS
ONE_ITEM(grad_x_scatter, GRAD_X_SCATTER_ARGS) {
    GO(wp), GO(gy), GO(y), GO(index), GO(ends), GO(sums), GO(gx);
    uint id = id0;
    list = list + list_off + (ulong)id * block * MOST;
    __global uint *end = (__global uint *)ends + id * block * V_O;
    __global float16 *sum = (__global float16 *)sums + id * V_SUMS;
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    for (uint b = id; b * block < rows; b += size0) {
        uint first = b * block, images = min(block, rows - first);
        for (uint i = 0u; i < images; i++) {
            uint at = (first + i) * OB * V_PH * V_PW * 16u;
            map_t m = {gy + at, y + at, index + at};
            list_terms(m, slope, list + i * MOST, end + i * V_O);
        }
        for (uint part = 0u; part < (V_C + 15) / 16 * CHUNKS * images; part++) {
            uint slice = part / (CHUNKS * images), chunk = part / images % CHUNKS;
            uint i = part % images;
            int16 real = LANES16 < (int16)((int)(V_C - slice * 16u));
            for (uint p = 0u; p < DOWN * ACROSS; p++) {
                sum[p] = (float16)(0.0f);
            }
            __global const uint2 *terms = list + i * MOST;
            for (uint o = chunk * V_CB; o < min((chunk + 1u) * V_CB, (uint)V_O); o++) {
                __global const uint2 *e = terms + (o == 0u ? 0u : end[i * V_O + o - 1u]);
                __global const uint2 *last = terms + end[i * V_O + o];
                __global const float16 *w =
                    (__global const float16 *)wp + (slice * V_O + o) * TAPS;
                HOLD
                for (; e < last; e++) {
                    float16 g = (float16)(*(__global const float *)e);
                    __global float16 *at = sum + *((__global const uint *)e + 1);
                    SCATTER
                }
            }
            __global float16 *out =
                (__global float16 *)gx + ((first + i) * ((V_C + 15) / 16) + slice) * V_H * V_W;
            for (uint h = 0u; h < V_H; h++, out += V_W) {
                __global const float16 *from = sum + (h + V_PADH) * ACROSS + V_PADW;
                for (uint q = 0u; q < V_W; q++) {
                    float16 a = chunk != 0u ? fma(from[q], ones, out[q]) : from[q];
                    if (chunk + 1u == CHUNKS) {
                        a = SNAP16(a, STN_LIM_G);
                        a = real ? a : (float16)(0.0f);
                        bad |= BAD16(a);
                    }
                    out[q] = a;
                }
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
