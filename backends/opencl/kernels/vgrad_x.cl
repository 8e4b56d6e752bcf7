/* Input gradient of a convolution with stride 1 (NC16), for CPU devices: lanes are input channels.
 * Activation and 2x2 max-pool of stride 2 (V_POOL) are undone on the way.
 *
 * A tile is V_R rows of V_N columns of the input gradient, V_T pixels. An item takes a block of
 * images, lists for every tile the non-zero terms that reach it (at most V_MOST), and sums the tiles
 * from their lists for all slices of 16 channels. Each kernel stands below V_R - 1 rows of zeros and
 * each of its rows behind V_ZEROS columns of them (pad_w of vpack.cl), so that no tap of a term
 * needs a test.
 */
#define list_image FN(list_image)
#define sum_tile FN(sum_tile)
#define grad_x FN(grad_x)
#define REP CAT(R, V_T)
#define OB ((V_O + 15) / 16)
#define ACROSS ((V_W + V_N - 1) / V_N)
#define DOWN ((V_H + V_R - 1) / V_R)
#define TILES (DOWN * ACROSS)
#define CHUNKS ((V_O + V_CB - 1) / V_CB)
#define LENGTH (V_ZEROS + V_KW)
#define HEIGHT (V_R - 1 + V_KH)

/* Lists of one image: tile with the terms that reach it, o ascending, then row-major; an entry is
 * (bits of g, place of its kernel against row and column 0 of the image).
 * ends[tile][chunk]: the entry after the last of output channels below (chunk + 1) * V_CB. */
static inline void list_image(map_t m, float slope, __global uint2 *list, __global uint *ends) {
    uint n[TILES];
    uint2 item[2 * V_PW + 2]; /* x: bits, y: column; upper row from 0, lower row from V_PW + 1 */
    for (uint i = 0u; i < TILES; i++) {
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
                    e.y = (uint)((((int)o * HEIGHT - oh) * LENGTH - ow) * 16);
                    for (int t = left / V_N; right >= left && t <= right / V_N; t++) {
                        for (int r = low / V_R; low < end && r <= (end - 1) / V_R; r++) {
                            uint to = (uint)(r * ACROSS + t);
                            list[to * V_MOST + n[to]++] = e;
                        }
                    }
                }
            }
        }
        if ((o + 1u) % V_CB == 0u || o + 1u == V_O) {
            for (uint i = 0u; i < TILES; i++) {
                ends[i * CHUNKS + o / V_CB] = n[i];
            }
        }
    }
}

#define ZERO(i) float16 a##i = (float16)(0.0f);
#define ROW(i) ((i##u) / V_N)
#define COL(i) ((i##u) % V_N)
#define AT(i) (ROW(i) * V_W + COL(i))
#define TERM(i) a##i = fma(g, we[ROW(i) * LENGTH + COL(i)], a##i);
#define MORE(i) a##i = fma(a##i, ones, LOADED(i));
#define LAST(i)                                                                                    \
    a##i = SNAP16(a##i, STN_LIM_G);                                                                \
    MASK(i)                                                                                        \
    bad |= INSIDE(i) ? BAD16(a##i) : (int16)(0);
#if V_W % V_N != 0 || V_H % V_R != 0
#define INSIDE(i) (h0 + ROW(i) < V_H && w0 + COL(i) < V_W)
#else
#define INSIDE(i) true
#endif
#define PUT(i)                                                                                     \
    if (INSIDE(i)) {                                                                               \
        out[AT(i)] = a##i;                                                                         \
    }
#define LOADED(i) (INSIDE(i) ? out[AT(i)] : (float16)(0.0f))
#if V_C % 16 != 0
#define MASK(i)                                                                                    \
    a##i = LANES16 < (int16)(V_C - (int)slice * 16) ? a##i : (float16)(0.0f);
#else
#define MASK(i)
#endif

/* One chunk of output channels of one tile, whose first pixel is (h0, w0). wt: the weights of this
 * slice, moved to the tile. */
static inline int16 sum_tile(__global const uint2 *e, __global const uint2 *end,
                             __global const float *wt, __global float16 *out, uint h0, uint w0,
                             uint slice, uint chunk, float one) {
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    REP(ZERO)
    for (; e < end; e++) {
        /* Two loads: what one load brings would have to be taken apart. */
        float16 g = (float16)(*(__global const float *)e);
        __global const float16 *we =
            (__global const float16 *)(wt + *((__global const int *)e + 1));
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

/* An item takes every so many-th block of images. Chunk by chunk and tile by tile, so that weights
 * stay in the first cache for all images of the block. */
__kernel __attribute__((reqd_work_group_size(1, 1, 1))) void
grad_x(RD(wp), RD(gy), RD(y), RD8(index), __global uint2 *list, ulong list_off, WRI(ends), WR(gx),
       float slope, uint rows, uint block, FLAGS) {
    GO(wp), GO(gy), GO(y), GO(index), GO(ends), GO(gx);
    list = list + list_off + (ulong)(uint)get_global_id(0) * block * (TILES * V_MOST);
    __global uint *end =
        (__global uint *)ends + (uint)get_global_id(0) * block * (TILES * CHUNKS);
    int16 bad = (int16)(0);
    for (uint b = (uint)get_global_id(0); b * block < rows; b += (uint)get_global_size(0)) {
        uint first = b * block, images = min(block, rows - first);
        for (uint i = 0u; i < images; i++) {
            uint at = (first + i) * OB * V_PH * V_PW * 16u;
            map_t m = {gy + at, y + at, index + at};
            list_image(m, slope, list + i * (TILES * V_MOST), end + i * (TILES * CHUNKS));
        }
        for (uint part = 0u; part < (V_C + 15) / 16 * CHUNKS * TILES; part++) {
            uint slice = part / (CHUNKS * TILES), chunk = part / TILES % CHUNKS, t = part % TILES;
            uint h0 = t / ACROSS * V_R, w0 = t % ACROSS * V_N;
            uint row = slice * V_O * HEIGHT + V_R - 1 + h0 + V_PADH;
            __global const float *wt = wp + (row * LENGTH + V_ZEROS + w0 + V_PADW) * 16u;
            for (uint i = 0u; i < images; i++) {
                uint plane = (first + i) * ((V_C + 15) / 16) + slice;
                __global const uint *to = end + (i * TILES + t) * CHUNKS + chunk;
                __global const uint2 *e = list + (ulong)(i * TILES + t) * V_MOST;
                bad |= sum_tile(e + (chunk != 0u ? to[-1] : 0u), e + *to, wt,
                                (__global float16 *)gx + (plane * V_H + h0) * V_W + w0, h0, w0,
                                slice, chunk, one);
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
