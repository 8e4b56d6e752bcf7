/* Input gradient of a convolution with stride 1 (NC16), for CPU devices: lanes are input channels.
 * Activation and 2x2 max-pool of stride 2 (V_POOL) are undone on the way.
 *
 * A tile is V_N columns of a row of the input gradient. An item takes a block of images, lists for
 * every tile the non-zero terms that reach it (at most V_MOST), and sums the tiles from their lists
 * for all slices of 16 channels. Each row of a kernel stands between zeros (pad_w of vpack.cl), so
 * that no tap of a term needs a test.
 */
#define list_image FN(list_image)
#define sum_tile FN(sum_tile)
#define grad_x FN(grad_x)
#define REP CAT(R, V_N)
#define OB ((V_O + 15) / 16)
#define TILES ((V_W + V_N - 1) / V_N)
#define CHUNKS ((V_O + V_CB - 1) / V_CB)
#define MARGIN (V_N - 1)
#define LENGTH (MARGIN + V_KW)

/* Lists of one image: (h, tile) with the terms that reach it, o ascending, then row-major; an entry
 * is (bits of g, place of its kernel against row and column 0 of the image).
 * ends[h][tile][chunk]: the entry after the last of output channels below (chunk + 1) * V_CB. */
static inline void list_image(map_t m, float slope, __global uint2 *list, __global uint *ends) {
    uint n[V_H * TILES];
    uint2 item[2 * V_PW + 2]; /* x: bits, y: column; upper row from 0, lower row from V_PW + 1 */
    for (uint i = 0u; i < V_H * TILES; i++) {
        n[i] = 0u;
    }
    for (uint o = 0u; o < V_O; o++) {
        uint at = o / 16u * V_PH * V_PW * 16u + o % 16u;
        map_t mo = {m.gy + at, m.y + at, m.index + at};
        for (uint py = 0u; py < V_PH; py++) {
            uint used[2] = {0u, 0u}, k;
            for (uint px = 0u; px < V_PW; px++) {
                float g = term(mo, py * V_PW + px, slope, &k);
                uint2 e = (uint2)(as_uint(g), px * (V_POOL + 1) + (k & 1u));
                item[used[0]] = e;
                item[V_PW + 1 + used[1]] = e;
                used[0] += NONZERO(g) & (k < 2u ? 1u : 0u);
                used[1] += NONZERO(g) & (k >> 1);
            }
            for (uint down = 0u; down <= V_POOL; down++) {
                int oh = (int)(py * (V_POOL + 1) + down), low = max(oh - V_PADH, 0);
                int end = min(oh - V_PADH + V_KH, V_H);
                for (uint i = 0u; i < used[down]; i++) {
                    uint2 e = item[down * (V_PW + 1) + i];
                    int ow = (int)e.y, left = max(ow - V_PADW, 0);
                    int right = min(ow - V_PADW + V_KW, V_W) - 1;
                    e.y = (uint)((((int)o * V_KH - oh) * LENGTH + MARGIN + V_PADW - ow) * 16);
                    for (int t = left / V_N; right >= left && t <= right / V_N; t++) {
                        for (int h = low; h < end; h++) {
                            uint to = (uint)(h * TILES + t);
                            list[to * V_MOST + n[to]++] = e;
                        }
                    }
                }
            }
        }
        if ((o + 1u) % V_CB == 0u || o + 1u == V_O) {
            for (uint i = 0u; i < V_H * TILES; i++) {
                ends[i * CHUNKS + o / V_CB] = n[i];
            }
        }
    }
}

#define ZERO(i) float16 a##i = (float16)(0.0f);
#define TERM(i) a##i = fma(g, we[i], a##i);
#define MORE(i) a##i = fma(a##i, ones, LOADED(i));
#define LAST(i)                                                                                    \
    a##i = SNAP16(a##i, STN_LIM_G);                                                                \
    MASK(i)                                                                                        \
    bad |= BAD16(a##i);
#if V_W % V_N != 0
#define INSIDE(i) w0 + i##u < V_W
#else
#define INSIDE(i) true
#endif
#define PUT(i)                                                                                     \
    if (INSIDE(i)) {                                                                               \
        out[i] = a##i;                                                                             \
    }
#define LOADED(i) (INSIDE(i) ? out[i] : (float16)(0.0f))
#if V_C % 16 != 0
#define MASK(i)                                                                                    \
    a##i = LANES16 < (int16)(V_C - (int)slice * 16) ? a##i : (float16)(0.0f);
#else
#define MASK(i)
#endif

/* One chunk of output channels of one tile, whose first column is w0. wh: row 0 of the weights of
 * this slice, moved to the tile. */
static inline int16 sum_tile(__global const uint2 *e, __global const uint2 *end,
                             __global const float *wh, __global float16 *out, uint w0, uint slice,
                             uint chunk, float one) {
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    REP(ZERO)
    for (; e < end; e++) {
        float16 g = (float16)(as_float((*e).x));
        __global const float16 *we = (__global const float16 *)(wh + (int)(*e).y);
        REP(TERM)
    }
    if (chunk != 0u) {
        REP(MORE)
    }
    if (chunk + 1u == CHUNKS) {
        REP(LAST)
    }
    REP(PUT)
    return bad;
}

/* An item takes every so many-th block of images. Chunk by chunk and row by row, so that weights
 * stay in the first cache for all images of the block. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
grad_x(RD(wp), RD(gy), RD(y), RD8(index), __global uint2 *list, ulong list_off, WRI(ends), WR(gx),
       float slope, uint rows, uint block, FLAGS) {
    GO(wp), GO(gy), GO(y), GO(index), GO(ends), GO(gx);
    list = list + list_off + (ulong)(uint)get_global_id(0) * block * (V_H * TILES * V_MOST);
    __global uint *end = (__global uint *)ends +
                         (uint)get_global_id(0) * block * (V_H * TILES * CHUNKS);
    int16 bad = (int16)(0);
    for (uint b = (uint)get_global_id(0); b * block < rows; b += (uint)get_global_size(0)) {
        uint first = b * block, images = min(block, rows - first);
        for (uint i = 0u; i < images; i++) {
            uint at = (first + i) * OB * V_PH * V_PW * 16u;
            map_t m = {gy + at, y + at, index + at};
            list_image(m, slope, list + i * (V_H * TILES * V_MOST),
                       end + i * (V_H * TILES * CHUNKS));
        }
        for (uint part = 0u; part < (V_C + 15) / 16 * CHUNKS * V_H; part++) {
            uint slice = part / (CHUNKS * V_H), chunk = part / V_H % CHUNKS, h = part % V_H;
            __global const float *wh = wp + (slice * V_O * V_KH + h + V_PADH) * LENGTH * 16;
            for (uint i = 0u; i < images; i++) {
                uint plane = (first + i) * ((V_C + 15) / 16) + slice;
                __global float16 *row = (__global float16 *)gx + (plane * V_H + h) * V_W;
                for (uint t = 0u; t < TILES; t++) {
                    uint id = (i * V_H + h) * TILES + t;
                    __global const uint *to = end + id * CHUNKS + chunk;
                    __global const uint2 *e = list + (ulong)id * V_MOST;
                    bad |= sum_tile(e + (chunk != 0u ? to[-1] : 0u), e + *to, wh + t * V_N * 16,
                                    row + t * V_N, t * V_N, slice, chunk, one);
                }
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
