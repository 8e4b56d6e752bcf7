/* Input gradient of a convolution with stride 1 (NC16), for CPU devices: lanes are input channels.
 * Activation and 2x2 max-pool of stride 2 (V_POOL) are undone on the way.
 *
 * A tile is V_R rows of V_N columns of the input gradient, V_T pixels. An item takes a block of
 * images, lists for every tile the non-zero terms that reach it (at most V_MOST), and sums the tiles
 * from their lists for all slices of 16 channels. Each kernel stands below V_R - 1 rows of zeros and
 * each of its rows behind V_ZEROS columns of them (pad_w of vpack.cl), so that no tap of a term
 * needs a test.
 */
#define flow_map FN(flow_map)
#define find_lists FN(find_lists)
#define append FN(append)
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

/* The flow of a map of 16 channels, and its places in the windows, place 4 for a zero. */
static inline void flow_map(__global const float *gy, __global const float *y,
                            __global const uchar *index, uint at, float slope,
                            __global float16 *flow, __global int16 *where) {
    for (uint p = 0u; p < V_PH * V_PW; p++) {
        float16 g = flow16(gy, y, at + p, slope);
        where[p] = NONZERO16(g) ? WINDOW16(at + p) : (int16)(4);
        flow[p] = g;
    }
}

/* Rows of tiles that the same rows of the convolution's output reach share their lists: which lists
 * a row of tiles has. */
static inline void find_lists(__private uint *lists) {
    int first = 0, last = 0;
    for (int r = 0; r < DOWN; r++) {
        int low = max(r * V_R + V_PADH - (V_KH - 1), 0);
        int end = min(min(r * V_R + V_R, V_H) + V_PADH, V_PH * (V_POOL + 1));
        lists[r] = r == 0 ? 0u : lists[r - 1] + (low != first || end != last ? 1u : 0u);
        first = low, last = end;
    }
}

/* Appends an entry at column ow, of window px, to lists low .. last of all columns of tiles that
 * it reaches, if keep is 1. It is written anyhow, and kept if it counts: no branches. */
static inline void append(uint2 e, int px, int ow, uint keep, uint low, uint last,
                          __global uint2 *list, __private uint *n) {
    int left = max(px * (V_POOL + 1) - V_PADW, 0) / V_N;
    int right = min(px * (V_POOL + 1) + V_POOL - V_PADW + V_KW, V_W) - 1;
    for (int t = left; right >= 0 && t <= right / V_N; t++) {
        int from = ow - V_PADW - t * V_N;
        uint here = from + V_KW > 0 && from < min(V_N, V_W - t * V_N) ? keep : 0u;
        for (uint i = low; i <= last; i++) {
            uint to = i * ACROSS + (uint)t;
            list[to * V_MOST + n[to]] = e;
            n[to] += here;
        }
    }
}

/* Lists of one image, whose gradient begins at vector `at`: terms o ascending, then row-major; an
 * entry is (bits of g, place of its kernel against row and column 0 of the image).
 * ends[list][chunk]: the entry after the last of output channels below (chunk + 1) * V_CB.
 * flow, where: room for a map. */
static inline void list_image(__global const float *gy, __global const float *y,
                              __global const uchar *index, uint at, float slope,
                              __private const uint *lists, __global float16 *flow,
                              __global int16 *where, __global uint2 *list, __global uint *ends) {
    uint n[TILES];
    for (uint i = 0u; i < TILES; i++) {
        n[i] = 0u;
    }
    for (int o = 0; o < V_O; o++) {
        if (o % 16 == 0) {
            flow_map(gy, y, index, at + (uint)(o / 16 * V_PH * V_PW), slope, flow, where);
        }
        for (int oh = 0; oh < V_PH * (V_POOL + 1); oh++) {
            int low = max(oh - V_PADH, 0), end = min(oh - V_PADH + V_KH, V_H);
            for (int px = 0; low < end && px < V_PW; px++) {
                int p = (oh / (V_POOL + 1) * V_PW + px) * 16 + o % 16;
                uint bits = ((__global const uint *)flow)[p], k = ((__global const uint *)where)[p];
                int ow = px * (V_POOL + 1) + (int)(k & 1u);
                uint place = (uint)(((o * HEIGHT - oh) * LENGTH - ow) * 16);
                append((uint2)(bits, place), px, ow, k >> 1 == (uint)(oh % (V_POOL + 1)) ? 1u : 0u,
                       lists[low / V_R], lists[(end - 1) / V_R], list, n);
            }
        }
        if ((o + 1) % V_CB == 0 || o + 1 == V_O) {
            for (uint i = 0u; i < TILES; i++) {
                ends[i * CHUNKS + (uint)(o / V_CB)] = n[i];
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
#define GRAD_X_ARGS(AS)                                                                            \
    AS##RD(wp), AS##RD(gy), AS##RD(y), AS##RD8(index), AS##WRP(list), AS##WRI(ends),               \
    AS##WR(room), AS##WR(gx), AS##F(slope), AS##U(rows), AS##U(block), AS##FLAGS
ONE_ITEM(grad_x, GRAD_X_ARGS) {
    GO(wp), GO(gy), GO(y), GO(index), GO(ends), GO(room), GO(gx);
    list = list + list_off + (ulong)id0 * block * (TILES * V_MOST);
    __global uint *end =
        (__global uint *)ends + id0 * block * (TILES * CHUNKS);
    __global float16 *flow =
        (__global float16 *)room + id0 * (2 * V_PH * V_PW);
    uint lists[DOWN];
    find_lists(lists);
    int16 bad = (int16)(0);
    for (uint b = id0; b * block < rows; b += size0) {
        uint first = b * block, images = min(block, rows - first);
        for (uint i = 0u; i < images; i++) {
            list_image(gy, y, index, (first + i) * OB * V_PH * V_PW, slope, lists, flow,
                       (__global int16 *)(flow + V_PH * V_PW), list + i * (TILES * V_MOST),
                       end + i * (TILES * CHUNKS));
        }
        for (uint part = 0u; part < (V_C + 15) / 16 * CHUNKS * TILES; part++) {
            uint slice = part / (CHUNKS * TILES), chunk = part / TILES % CHUNKS, t = part % TILES;
            uint h0 = t / ACROSS * V_R, w0 = t % ACROSS * V_N;
            uint row = slice * V_O * HEIGHT + V_R - 1 + h0 + V_PADH;
            __global const float *wt = wp + (row * LENGTH + V_ZEROS + w0 + V_PADW) * 16u;
            uint terms = lists[t / ACROSS] * ACROSS + t % ACROSS;
            for (uint i = 0u; i < images; i++) {
                uint plane = (first + i) * ((V_C + 15) / 16) + slice;
                __global const uint *to = end + (i * TILES + terms) * CHUNKS + chunk;
                __global const uint2 *e = list + (ulong)(i * TILES + terms) * V_MOST;
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
