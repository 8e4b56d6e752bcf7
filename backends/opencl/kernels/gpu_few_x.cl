/* Input gradients of convolutions with few channels and stride 1, for GPUs: a direct convolution,
 * as a matrix product would leave most rows of a tile empty.
 *
 * A group computes SY rows of SX strips of an image, an item the PX pixels of its strip in NC
 * channels, in registers. Output channel by output channel, the gradient under the group passes
 * through local memory, which holds two of them; a row of it serves PX*KW*NC multiply-adds an item.
 * Build options: KH, KW; NC = channels of the image; SX, SY; FR, FC = most rows and columns of the
 * gradient that a group meets; FLOW: 0 the gradient of the convolution's output comes in, 1 it
 * passes backwards through an activation, 2 through a 2x2 max-pool of stride 2 and, with act = 1,
 * an activation behind it.
 */
#define PX 8u
#define ITEMS (SX * SY)
#define UNROLL _Pragma("unroll")
#define UP4(n) (((n) + 3u) / 4u * 4u)
/* Rows and columns in local memory; from row to row 4 floats more than a multiple of 8, so that
 * strips of neighbouring rows lie in other banks. */
#define LH (SY + KH - 1u)
#define LW UP4(PX *SX + KW - 1u)
#define PITCH ((LW + 3u) / 8u * 8u + 4u)
#define WINDOW UP4(PX + KW - 1u)
#define TAPS (KH * KW * NC)
#define NF ((FR * FC + ITEMS - 1u) / ITEMS)
#define NT ((TAPS + ITEMS - 1u) / ITEMS)

#define MAP_ROW(half, row) (map + ((half)*LH + (row)) * (PITCH / 4u))
#define TAP_ROW(half, row, c) (taps + (((half)*KH + (row)) * NC + (c)) * (UP4(KW) / 4u))

/* Arrays of an item stay in registers only if nothing takes their address. */
#define SPREAD(vector, array, i)                                                                   \
    {                                                                                              \
        float4 v = vector;                                                                         \
        array[4u * (i)] = v.x;                                                                     \
        array[4u * (i) + 1u] = v.y;                                                                \
        array[4u * (i) + 2u] = v.z;                                                                \
        array[4u * (i) + 3u] = v.w;                                                                \
    }

/* One output channel of gradients: OH x OW, pooled to QH x QW; +0 where it is not `in`. Every load
 * stands outside branches: one inside waits for it. */
static inline float gradient(__global const float *gy, __global const float *y,
                             __global const uchar *index, bool in, uint h, uint w, uint QH, uint QW,
                             uint OW, uint act, float slope) {
#if FLOW == 2
    uint qh = h / 2u, qw = w / 2u;
    in = in & (qh < QH) & (qw < QW);
    uint at = in ? qh * QW + qw : 0u, chosen = index[at];
    float v = gy[at];
    v = act != 0u ? act_bwd(v, y[at], slope) : v;
    in = in & (chosen == (h & 1u) * 2u + (w & 1u));
#else
    uint at = in ? h * OW + w : 0u;
    float v = gy[at];
#if FLOW == 1
    v = act_bwd(v, y[at], slope);
#endif
#endif
    return in ? v : 0.0f;
}

/* top, left: padding of the gradient, KH-1-ph and KW-1-pw. CB output channels to a chunk, of O. */
__kernel __attribute__((reqd_work_group_size(SX, SY, 1))) void
grad_x_few(RD(gy), RD(y), RD8(index), RD(w), WR(gx), uint O, uint CB, uint OH, uint OW, uint QH,
           uint QW, uint H, uint W, int top, int left, uint tiles, uint act, float slope,
           uint images, FLAGS) {
    GO(gy), GO(y), GO(index), GO(w), GO(gx);
    __local float4 map[2u * LH * (PITCH / 4u)], taps[2u * KH * NC * (UP4(KW) / 4u)];
    uint sx = (uint)get_local_id(0), sy = (uint)get_local_id(1), t = sy * SX + sx;
    uint n = (uint)get_group_id(1) / tiles;
    uint h0 = ((uint)get_group_id(1) - n * tiles) * SY, w0 = (uint)get_group_id(0) * PX * SX;
    /* The gradient's row and column at the start of local memory, and the first that exist. */
    int row0 = (int)h0 - top, col0 = (int)w0 - left;
    int first_row = row0 > 0 ? row0 : 0, first_col = col0 > 0 ? col0 : 0;
    int past_row = row0 + (int)LH < (int)OH ? row0 + (int)LH : (int)OH;
    int past_col = col0 + (int)LW < (int)OW ? col0 + (int)LW : (int)OW;
    uint P = FLOW == 2 ? QH * QW : OH * OW;
    float acc[NC][PX], total[NC][PX], fetched[NF], tap[NT];
    UNROLL for (uint c = 0u; c < NC; c++) {
        UNROLL for (uint i = 0u; i < PX; i++) {
            acc[c][i] = 0.0f;
            total[c][i] = 0.0f;
        }
    }
    for (uint i = t; i < 2u * LH * (PITCH / 4u); i += ITEMS) {
        map[i] = (float4)(0.0f);
    }
    for (uint i = t; i < 2u * KH * NC * (UP4(KW) / 4u); i += ITEMS) {
        taps[i] = (float4)(0.0f);
    }
/* Where value i of this item's share lies in the gradient. */
#define PLACE(i)                                                                                   \
    uint e = t + (i)*ITEMS, r = e / FC;                                                            \
    int row = first_row + (int)r, col = first_col + (int)(e - r * FC);                             \
    bool in = e < FR * FC && row < past_row && col < past_col;
#define FETCH(o)                                                                                   \
    UNROLL for (uint i = 0u; i < NF; i++) {                                                        \
        PLACE(i)                                                                                   \
        uint from = (n * O + (o)) * P;                                                             \
        fetched[i] = gradient(gy + from, y + from, index + from, in, (uint)row, (uint)col, QH, QW, \
                              OW, act, slope);                                                     \
    }                                                                                              \
    UNROLL for (uint i = 0u; i < NT; i++) {                                                        \
        uint e = t + i * ITEMS;                                                                    \
        tap[i] = e < TAPS ? w[(o)*TAPS + e] : 0.0f;                                                \
    }
/* Taps turned: [row of the window][channel][column]. */
#define PUT(half)                                                                                  \
    UNROLL for (uint i = 0u; i < NF; i++) {                                                        \
        PLACE(i)                                                                                   \
        if (in) {                                                                                  \
            ((__local float *)MAP_ROW(half, (uint)(row - row0)))[col - col0] = fetched[i];         \
        }                                                                                          \
    }                                                                                              \
    UNROLL for (uint i = 0u; i < NT; i++) {                                                        \
        uint e = t + i * ITEMS, c = e / (KH * KW), kh = (e - c * KH * KW) / KW;                    \
        uint kw = e - (c * KH + kh) * KW;                                                          \
        if (e < TAPS) {                                                                            \
            ((__local float *)TAP_ROW(half, KH - 1u - kh, c))[KW - 1u - kw] = tap[i];              \
        }                                                                                          \
    }
    /* Images past the last have nothing to do, but reach every barrier; rows without a gradient are
     * left out. */
    uint channels = n < images ? O : 0u, cur = 0u, left_of_chunk = CB;
    int at = row0 + (int)sy;
    uint first = at < 0 ? (uint)-at : 0u, past = at + (int)KH < (int)OH ? KH : (uint)((int)OH - at);
    past = h0 + sy < H && at < (int)OH ? past : 0u;
    barrier(CLK_LOCAL_MEM_FENCE);
    if (channels > 0u) {
        FETCH(0u)
        PUT(0u)
    }
    for (uint o = 0u; o < channels; o++) {
        bool more = o + 1u < channels;
        if (more) {
            FETCH(o + 1u)
        }
        /* Behind FETCH: compilers move loads down to their use, but not across a barrier. */
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint kh = first; kh < past; kh++) {
            float g[WINDOW], k[UP4(KW)];
            UNROLL for (uint i = 0u; i < WINDOW / 4u; i++){
                SPREAD(MAP_ROW(cur, sy + kh)[sx * (PX / 4u) + i], g, i)} UNROLL for (uint c = 0u;
                                                                                     c < NC; c++) {
                UNROLL for (uint i = 0u; i < UP4(KW) / 4u; i++){
                    SPREAD(TAP_ROW(cur, kh, c)[i], k, i)} UNROLL for (uint j = 0u; j < KW; j++) {
                    UNROLL for (uint i = 0u; i < PX; i++) {
                        acc[c][i] = fma(g[i + j], k[j], acc[c][i]);
                    }
                }
            }
        }
        left_of_chunk--;
        if (left_of_chunk == 0u || !more) {
            left_of_chunk = CB;
            UNROLL for (uint c = 0u; c < NC; c++) {
                UNROLL for (uint i = 0u; i < PX; i++) {
                    total[c][i] = fma(acc[c][i], one, total[c][i]);
                    acc[c][i] = 0.0f;
                }
            }
        }
        cur = 1u - cur;
        if (more) {
            PUT(cur)
        }
    }
    UNROLL for (uint c = 0u; c < NC; c++) {
        UNROLL for (uint i = 0u; i < PX; i++) {
            uint col = w0 + sx * PX + i;
            if (n < images && h0 + sy < H && col < W) {
                float v = stn_snap_g(total[c][i]);
                CHECK(v);
                gx[((n * NC + c) * H + h0 + sy) * W + col] = v;
            }
        }
    }
}
