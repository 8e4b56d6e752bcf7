/* Gradients of convolutions on CPU devices. After a max-pool at most a quarter of the terms is
 * left, and the pooled map never has to be spread out. Many channels: lists of the non-zero terms,
 * then register tiles over the lists (kernels/vlist.cl and vgrad.cl, kernels/vgrad_x.cl) or sums in
 * the cache (kernels/vscatter.cl). Few: bits that tell which terms are not zero (kernels/vslide.cl,
 * kernels/vwindow.cl).
 */
#include "vec.h"

#include <stdio.h>

/* Small blocks of images keep every worker of a CPU busy; large ones reuse the weights in cache. */
#define GRAD_X_IMAGES 8u
/* Gradients and sums (lists) of the images of a block, and items for each compute unit. */
#define GRAD_X_BYTES (512u << 10)
#define GRAD_X_ITEMS 8u
/* Windows of the weight gradient of few channels, of the first cache. */
#define GRAD_W_BYTES (40u << 10)
/* Items of a weight gradient of many channels, for each compute unit: outputs of one item share
 * what they read of the input. */
#define GRAD_W_ITEMS 2u

/* Sums of a weight gradient that 32 registers hold, where a device has so many, and the terms of a
 * shard's list from which it pays: an entry takes as long as a multiply-add, however few sums. */
#define WIDE_SUMS 25u
#define LONG_LIST 128u

static bool flow_fits(const stn_kernel *k, const ocl_geometry *g, const vec_flow *f) {
    const ocl_view *gy = &f->gy;
    bool pool = f->index != NULL;
    return vec_wanted(k, g, gy->n) && gy->layout == STN_NC16 &&
           (!f->act || f->y.layout == STN_NC16) && (!pool || f->index->layout == STN_NC16) &&
           gy->h == (pool ? g->oh / 2u : g->oh) && gy->w == (pool ? g->ow / 2u : g->ow);
}

static void flow_options(char *text, size_t size, const vec_flow *f) {
    (void)snprintf(text, size, "-DV_ACT=%d -DV_POOL=%d", f->act ? (f->slope == 0.0f ? 1 : 2) : 0,
                   f->index != NULL);
}

static void list_options(char *text, size_t size, const ocl_geometry *g, const vec_flow *f,
                         const char *more) {
    char flow[40];
    flow_options(flow, sizeof flow, f);
    (void)snprintf(text, size, "-DV_O=%u -DV_PH=%u -DV_PW=%u -DV_OW=%u %s %s", g->o, f->gy.h,
                   f->gy.w, g->ow, flow, more);
}

#define FLOW(f) (f)->gy.ref, (f)->y.ref, (f)->index != NULL ? (f)->index->ref : A_NONE

static void bias(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, const char *options,
                 ocl_arg gb, uint32_t shards) {
    uint32_t blocks = (g->o + 15u) / 16u, n = f->gy.n;
    uint64_t part = ocl_ws(k, (uint64_t)n * g->o * 4u);
    ocl_range planes = {{blocks, 1, 1}, 2u, {1, 1, 1}}, channels = ocl_items(g->o, false);
    OCL_EMIT(k, "vlist.cl", options, "bias_planes", &planes, FLOW(f), A_WS(part), A_F(f->slope),
             A_ROWS(1), A_U(g->o), A_U(f->gy.h), A_U(f->gy.w), A_U(g->ow), A_F(1.0f));
    OCL_EMIT(k, "reduce.cl", "", "shard_sum", &channels, A_WS(part), gb, A_U(g->o), A_ROWS(1),
             A_U((n + shards - 1u) / shards), A_U(shards), A_LIMIT, A_FLAGS);
}

static uint32_t levels_of(uint32_t shards) {
    uint32_t levels = 0;
    while ((1u << levels) < shards) {
        levels++;
    }
    return levels;
}

/* Few channels: lanes are the taps of one or two kernel rows (kernels/vwindow.cl). */
static bool window_grad_w(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, ocl_view x,
                          ocl_arg gw, ocl_arg gb, uint32_t shards) {
    uint32_t length = (x.n + shards - 1u) / shards, images = stn_wgrad_chunk(g->oh, g->ow);
    images = images < length ? images : length;
    uint32_t words = (f->gy.h * (f->index != NULL ? 2u : 1u) * g->ow + 63u) / 64u;
    const bool pairs = g->kh > 1 && g->kw <= 9, ninth = pairs && g->kw == 9;
    uint32_t vectors = pairs ? (g->kh + 1u) / 2u + ninth : g->kh, unit = pairs ? 8 : 16;
    /* Rows of windows that stay in the first cache, less those that a term reaches beyond its own.
     */
    uint32_t rows = GRAD_W_BYTES / 4u / unit / g->ow, own = rows > g->kh ? rows - g->kh : 1u;
    uint32_t band = own * g->ow / 64u;
    band = band < 1u ? 1u : band < words ? band : words;
    /* Vectors of workspace, as the kernel lays them out. */
    uint64_t sums = (uint64_t)g->c * vectors, pixels = (uint64_t)g->oh * g->ow;
    uint64_t spread = (uint64_t)g->c * (g->h + 2u * g->ph) * g->ow;
    uint64_t windows = (spread * unit + 15u) / 16u + 1u + ninth * ((spread + 15u) / 16u + 1u);
    uint64_t size = (g->o + 16u) * sums + (g->o + 15u) / 16u + (pixels + 7u) / 8u +
                    images * ((uint64_t)f->gy.h * f->gy.w + windows + words * 2u);
    uint64_t n = (uint64_t)g->o * g->c * g->kh * g->kw, biases = gb.kind != OCL_ARG_NONE ? g->o : 0;
    if (g->kw > 16 || g->kh > 16 || shards * size * 16u >= (UINT64_C(1) << 31) ||
        (uint64_t)x.n * ocl_row(&x) >= (UINT64_C(1) << 31) ||
        shards * (n + biases) >= (UINT64_C(1) << 31)) {
        return false;
    }
    uint64_t area = ocl_ws(k, shards * size * 64u), part = ocl_ws(k, shards * (n + biases) * 4u);
    char more[256], options[400];
    (void)snprintf(more, sizeof more,
                   "-DV_C=%u -DV_H=%u -DV_W=%u -DV_KH=%u -DV_KW=%u -DV_SH=%u -DV_SW=%u -DV_PADH=%u "
                   "-DV_PADW=%u -DV_BAND=%u -DV_PAIRS=%d -DV_NINTH=%d -DV_VECTORS=%u",
                   g->c, g->h, g->w, g->kh, g->kw, g->sh, g->sw, g->ph, g->pw, band, pairs, ninth,
                   vectors);
    list_options(options, sizeof options, g, f, more);
    ocl_range range = {{shards, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vwindow.cl", options, "grad_w_window", &range, x.ref, FLOW(f), A_WS(area),
             A_WS(part), A_F(f->slope), A_ROWS(1), A_U(length), A_U(images),
             A_U((uint32_t)size * 16u), A_U(biases != 0), A_F(1.0f));
    ocl_emit_tree(k, part, gw, (uint32_t)n, gb, (uint32_t)biases, shards);
    return true;
}

bool vec_grad_w(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, ocl_view x, ocl_arg gw,
                ocl_arg gb, uint32_t shards) {
    if (flow_fits(k, g, f) && x.layout == STN_NCHW) {
        return window_grad_w(k, g, f, x, gw, gb, shards);
    }
    if (!flow_fits(k, g, f) || x.layout != STN_NC16 || g->kw > 16) {
        return false;
    }
    vec_pad pad = vec_pad_of(g);
    x = vec_padded(k, x, &pad);
    uint32_t length = (x.n + shards - 1u) / shards, images = stn_wgrad_chunk(g->oh, g->ow);
    uint32_t chunks = (length + images - 1u) / images, segments = shards * chunks;
    uint32_t in_chunk = images < length ? images : length;
    uint32_t capacity = in_chunk * f->gy.h * f->gy.w + 1u; /* a slot is written before it is kept */
    uint32_t blocks = (g->o + 15u) / 16u;
    uint64_t lists = (uint64_t)segments * blocks * 16u, entries = lists * capacity;
    uint32_t taps = g->kh * g->kw;
    bool together = taps <= WIDE_SUMS && k->device->wide && length * f->gy.h * f->gy.w >= LONG_LIST;
    uint32_t rows = together ? g->kh : 1u, units = ocl_padded(&x) / 16u * (g->kh / rows);
    uint32_t aim = GRAD_W_ITEMS * k->device->info.compute_units;
    uint32_t groups = units >= aim ? 1u : (aim + units - 1u) / units;
    groups = groups > g->o ? g->o : groups;
    uint32_t group = (g->o + groups - 1u) / groups, levels = levels_of(shards);
    groups = (g->o + group - 1u) / group;
    if (entries >= (UINT64_C(1) << 31) || (uint64_t)x.n * ocl_row(&x) >= (UINT64_C(1) << 31)) {
        return false;
    }
    uint64_t list = ocl_ws(k, entries * 8u), lengths = ocl_ws(k, lists * 4u);
    uint64_t stack =
        ocl_ws(k, (uint64_t)units * groups * (levels + 1u) * group * rows * g->kw * 64u);
    char options[40];
    flow_options(options, sizeof options, f);
    ocl_range range = {{blocks, segments, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vlist.cl", options, "list_w", &range, FLOW(f), A_WS8(list), A_WS(lengths),
             A_F(f->slope), A_ROWS(1), A_U(length), A_U(chunks), A_U(images), A_U(capacity),
             A_U(segments), A_U(blocks), A_U(f->gy.h), A_U(f->gy.w), A_U(g->sw * 16u),
             A_U(g->sh * x.w * 16u), A_U((uint32_t)ocl_row(&x)), A_F(1.0f));
    if (gb.kind != OCL_ARG_NONE) {
        bias(k, g, f, options, gb, shards);
    }
    (void)snprintf(options, sizeof options, "-DV_N=%u -DV_R=%u -DV_T=%u", g->kw, rows,
                   rows * g->kw);
    ocl_range items = {{groups, units, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vgrad.cl", options, "grad_w", &items, x.ref, A_WS8(list), A_WS(lengths),
             A_WS(stack), gw, A_U(shards), A_U(chunks), A_U(capacity), A_U(levels), A_U(group),
             A_U(g->o), A_U(g->c), A_U(x.h), A_U(x.w), A_U(g->kh), A_LIMIT, A_FLAGS);
    return true;
}

/* Items of an input gradient, each with workspace of its own, for so many blocks of images. */
static uint32_t items_of(const stn_kernel *k, uint32_t blocks) {
    uint32_t most = GRAD_X_ITEMS * k->device->info.compute_units;
    return most < blocks ? most : blocks;
}

/* The input gradient of few channels: lanes are columns of the image (kernels/vslide.cl). */
static bool slide_grad_x(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, ocl_arg w,
                         ocl_view gx) {
    bool pool = f->index != NULL, merged = pool && g->sh == 1;
    if (g->kw > 16 || g->w > 1024) {
        return false; /* a word has bits for the columns that reach a strip */
    }
    /* Up to 16 rows in registers, one of them for the second line of a step. */
    uint32_t most = merged ? 15u : 16u, pieces = (g->kh + most - 1u) / most;
    uint32_t part = (g->kh + pieces - 1u) / pieces, window = part + (merged ? 1u : 0u);
    uint32_t lines = pool ? 2u : 1u, strips = (g->w + 15u) / 16u, ph = f->gy.h;
    uint32_t height = ph * lines * g->sh + pieces * part + 1u;
    height = height < g->h + g->ph ? g->h + g->ph : height;
    /* Floats of workspace, as the kernel lays them out. */
    uint64_t frame = ((g->kw + 15u) * window + (merged ? 1u : 0u)) * 16u;
    uint64_t image = 2u * (uint64_t)g->c * strips * height * 16u +
                     16u * ph * ((f->gy.w + 15u) / 16u * 16u) + strips * ph * lines * 16u;
    uint32_t block = (uint32_t)(GRAD_X_BYTES / 4u / image);
    block = block < 1u ? 1u : block < GRAD_X_IMAGES ? block : GRAD_X_IMAGES;
    uint64_t taps = (g->kh * (g->kw + 30u) + 15u) / 16u * 16u, places = merged ? 128u : 64u;
    uint64_t size = places + pieces * frame + block * image + taps;
    uint32_t items = items_of(k, (gx.n + block - 1u) / block);
    if (items * size >= (UINT64_C(1) << 31) ||
        (uint64_t)gx.n * ocl_row(&gx) >= (UINT64_C(1) << 31)) {
        return false;
    }
    uint64_t area = ocl_ws(k, items * size * 4u);
    char more[256], options[400];
    (void)snprintf(more, sizeof more,
                   "-DV_N=%u -DV_ROWS=%u -DV_C=%u -DV_H=%u -DV_W=%u -DV_KH=%u -DV_KW=%u -DV_SH=%u "
                   "-DV_SW=%u -DV_PADH=%u -DV_PADW=%u -DV_CB=%u -DV_HEIGHT=%u",
                   window, part, g->c, g->h, g->w, g->kh, g->kw, g->sh, g->sw, g->ph, g->pw,
                   stn_conv_chunk(g->kh, g->kw), height);
    list_options(options, sizeof options, g, f, more);
    ocl_range range = {{items, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vslide.cl", options, "grad_x_slide", &range, w, FLOW(f), A_WS(area), gx.ref,
             A_F(f->slope), A_ROWS(1), A_U(block), A_U((uint32_t)size), A_FLAGS);
    return true;
}

/* Accumulators of a tile, and what an entry of a list costs beside its multiply-adds, in
 * multiply-adds of 16 lanes. */
#define TILE_PIXELS 20u
#define ENTRY_COST 20u

/* Tile of the input gradient: rows x cols pixels. */
typedef struct area {
    uint32_t rows, cols;
} area;

/* The tile that makes lists cheapest: an entry is in the lists of all tiles that its kernel
 * touches. *least: multiply-adds for an entry, times 256. */
static area choose_area(const ocl_geometry *g, uint64_t *least) {
    area best = {1, 1};
    *least = UINT64_MAX;
    for (uint32_t rows = 1; rows <= TILE_PIXELS && rows <= g->h; rows++) {
        uint32_t most = TILE_PIXELS / rows, count = (g->w + most - 1u) / most;
        uint32_t cols = (g->w + count - 1u) / count, pixels = rows * cols;
        uint64_t height = (g->h + rows - 1u) / rows * rows, width = count * cols;
        height = height < rows + g->kh - 1u ? height : rows + g->kh - 1u;
        width = width < cols + g->kw - 1u ? width : cols + g->kw - 1u;
        uint64_t cost = height * width * (pixels + ENTRY_COST) * 256u / pixels;
        if (cost < *least) {
            *least = cost;
            best = (area){rows, cols};
        }
    }
    return best;
}

/* Sums in the cache: a map with its padding, an entry's cost beside its terms, and a term's, in
 * multiply-adds; and how much cheaper they must be, as a tile's entry costs less than ENTRY_COST on
 * small maps. */
#define SCATTER_BYTES (256u << 10)
#define SCATTER_ENTRY 8u
#define SCATTER_TERM 2u
#define SCATTER_TAPS 25u /* most weights in registers */
#define SCATTER_APART                                                                              \
    128u /* vectors between the sums of two items: see APART of the cpu backend                    \
          */

static bool scatter_pays(const ocl_geometry *g, uint64_t tiles_cost) {
    uint64_t taps = (uint64_t)g->kh * g->kw, cost = (SCATTER_TERM * taps + SCATTER_ENTRY) * 256u;
    uint64_t sums = (uint64_t)(g->h + 2u * g->ph) * (g->w + 2u * g->pw) * 64u;
    return g->kw <= 20 && sums <= SCATTER_BYTES && tiles_cost * 5u > cost * 9u;
}

static bool scatter_grad_x(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, ocl_arg w,
                           ocl_view gx) {
    uint32_t slices = ocl_padded(&gx) / 16u, taps = g->kh * g->kw;
    uint64_t image = (uint64_t)g->o * f->gy.h * f->gy.w + 1u;
    uint32_t block = (uint32_t)(GRAD_X_BYTES / 8u / image);
    block = block < 1u ? 1u : block < GRAD_X_IMAGES ? block : GRAD_X_IMAGES;
    uint32_t items = items_of(k, (gx.n + block - 1u) / block);
    uint64_t sums = (uint64_t)(g->h + 2u * g->ph) * (g->w + 2u * g->pw) + SCATTER_APART;
    uint64_t weights = ((uint64_t)slices * g->o * g->kh + 1u) * g->kw * 16u;
    if (block * image >= (UINT64_C(1) << 31) || weights >= (UINT64_C(1) << 31) ||
        (uint64_t)gx.n * ocl_row(&gx) >= (UINT64_C(1) << 31)) {
        return false;
    }
    uint64_t list = ocl_ws(k, items * block * image * 8u);
    uint64_t ends = ocl_ws(k, (uint64_t)items * block * g->o * 4u);
    uint64_t room = ocl_ws(k, items * sums * 64u), packed = ocl_ws(k, weights * 4u);
    char more[256], options[400];
    (void)snprintf(more, sizeof more,
                   "-DV_C=%u -DV_H=%u -DV_W=%u -DV_KH=%u -DV_KW=%u -DV_PADH=%u -DV_PADW=%u "
                   "-DV_CB=%u -DV_HOLD=%d -DV_TAPS=%u -DV_SUMS=%u",
                   g->c, g->h, g->w, g->kh, g->kw, g->ph, g->pw, stn_conv_chunk(g->kh, g->kw),
                   taps <= SCATTER_TAPS, taps, (uint32_t)sums);
    list_options(options, sizeof options, g, f, more);
    ocl_range all = ocl_items((uint64_t)slices * g->o + 1u, false);
    ocl_range range = {{items, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vpack.cl", "", "pad_w", &all, w, A_WS(packed), A_U(g->o), A_U(g->c), A_U(g->kh),
             A_U(g->kw), A_U(0), A_U(0), A_U(slices * g->o + 1u));
    OCL_EMIT(k, "vscatter.cl", options, "grad_x_scatter", &range, A_WS(packed), FLOW(f),
             A_WS8(list), A_WS(ends), A_WS(room), gx.ref, A_F(f->slope), A_ROWS(1), A_U(block),
             A_FLAGS);
    return true;
}

/* Columns of zeros beside a row of a kernel: how far it may stick out of a tile that it touches. */
static uint32_t zeros_beside(const ocl_geometry *g, const area *t) {
    int64_t span = (int64_t)t->cols - 1, last = (int64_t)((g->w - 1u) / t->cols * t->cols);
    int64_t left = (int64_t)g->ow - 1 - g->pw, right = last + span + g->pw - ((int64_t)g->kw - 1);
    left = left < span ? left : span;
    right = right < span ? right : span;
    int64_t zeros = left > right ? left : right;
    return zeros > 0 ? (uint32_t)zeros : 0u;
}

bool vec_grad_x(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, ocl_arg w, ocl_view gx) {
    if (flow_fits(k, g, f) && gx.layout == STN_NCHW) {
        return slide_grad_x(k, g, f, w, gx);
    }
    if (!flow_fits(k, g, f) || gx.layout != STN_NC16 || g->sh != 1 || g->sw != 1 || g->h > 256 ||
        g->w > 256) {
        return false;
    }
    uint64_t cost;
    area t = choose_area(g, &cost);
    if (scatter_pays(g, cost)) {
        return scatter_grad_x(k, g, f, w, gx);
    }
    uint32_t tiles = (g->h + t.rows - 1u) / t.rows * ((g->w + t.cols - 1u) / t.cols);
    uint32_t slices = ocl_padded(&gx) / 16u, chunk = stn_conv_chunk(g->kh, g->kw);
    uint32_t chunks = (g->o + chunk - 1u) / chunk, zeros = zeros_beside(g, &t);
    /* Most terms that reach a tile: windows of two lines and columns if there is a pool. */
    uint32_t wide = f->index != NULL ? 2u : 1u;
    uint32_t rows = (t.rows + g->kh + 2u * wide - 3u) / wide;
    uint32_t cols = (t.cols + g->kw + 2u * wide - 3u) / wide;
    rows = rows < f->gy.h ? rows : f->gy.h;
    cols = cols < f->gy.w ? cols : f->gy.w;
    /* A slot is written before it is kept. */
    uint64_t most = (uint64_t)g->o * rows * cols + 1u, image = tiles * most;
    uint32_t block = (uint32_t)(GRAD_X_BYTES / 8u / image);
    block = block < 1u ? 1u : block < GRAD_X_IMAGES ? block : GRAD_X_IMAGES;
    uint32_t items = items_of(k, (gx.n + block - 1u) / block);
    uint64_t table = (uint64_t)slices * g->o * (t.rows - 1u + g->kh) + t.rows;
    uint64_t weights = table * (zeros + g->kw) * 16u;
    if (block * image >= (UINT64_C(1) << 31) || weights >= (UINT64_C(1) << 31) ||
        (uint64_t)gx.n * ocl_row(&gx) >= (UINT64_C(1) << 31)) {
        return false;
    }
    uint64_t list = ocl_ws(k, items * block * image * 8u);
    uint64_t ends = ocl_ws(k, (uint64_t)items * block * tiles * chunks * 4u);
    uint64_t room = ocl_ws(k, (uint64_t)items * f->gy.h * f->gy.w * 128u);
    uint64_t packed = ocl_ws(k, weights * 4u);
    char more[256], options[400];
    (void)snprintf(more, sizeof more,
                   "-DV_R=%u -DV_N=%u -DV_T=%u -DV_ZEROS=%u -DV_C=%u -DV_H=%u -DV_W=%u -DV_KH=%u "
                   "-DV_KW=%u -DV_PADH=%u -DV_PADW=%u -DV_CB=%u -DV_MOST=%u",
                   t.rows, t.cols, t.rows * t.cols, zeros, g->c, g->h, g->w, g->kh, g->kw, g->ph,
                   g->pw, chunk, (uint32_t)most);
    list_options(options, sizeof options, g, f, more);
    ocl_range all = ocl_items((uint64_t)slices * g->o + 1u, false);
    ocl_range range = {{items, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vpack.cl", "", "pad_w", &all, w, A_WS(packed), A_U(g->o), A_U(g->c), A_U(g->kh),
             A_U(g->kw), A_U(t.rows - 1u), A_U(zeros), A_U(slices * g->o + 1u));
    OCL_EMIT(k, "vgrad_x.cl", options, "grad_x", &range, A_WS(packed), FLOW(f), A_WS8(list),
             A_WS(ends), A_WS(room), gx.ref, A_F(f->slope), A_ROWS(1), A_U(block), A_FLAGS);
    return true;
}
