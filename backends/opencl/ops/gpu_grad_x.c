/* Input gradients of convolutions on the class gpu, where padding would be most of the work. */
#include "gpu.h"

#include <stdio.h>
#include <stdlib.h>

/* Groups along the third dimension, one a pixel: some devices allow no more. */
#define MAX_PIXELS 65535u

/* The outputs first .. first+count-1 of one direction that an input coordinate meets, and the
 * window element under which the first one meets it. */
typedef struct reach {
    uint32_t first, count, tap;
} reach;

static reach reach_of(uint32_t at, uint32_t pad, uint32_t window, uint32_t stride, uint32_t out) {
    uint32_t end = at + pad, first = end < window ? 0 : (end - window) / stride + 1u;
    uint32_t past = end / stride + 1u < out ? end / stride + 1u : out;
    return past > first ? (reach){first, past - first, end - first * stride} : (reach){0, 0, 0};
}

static reach row_reach(const ocl_geometry *g, uint32_t h) {
    return reach_of(h, g->ph, g->kh, g->sh, g->oh);
}

static reach column_reach(const ocl_geometry *g, uint32_t w) {
    return reach_of(w, g->pw, g->kw, g->sw, g->ow);
}

/* Pairs of a pixel and an output pixel that meet. */
static uint64_t meetings(const ocl_geometry *g) {
    uint64_t rows = 0, columns = 0;
    for (uint32_t h = 0; h < g->h; h++) {
        rows += row_reach(g, h).count;
    }
    for (uint32_t w = 0; w < g->w; w++) {
        columns += column_reach(g, w).count;
    }
    return rows * columns;
}

static uint64_t round_up(uint64_t n, uint64_t to) {
    return (n + to - 1u) / to * to;
}

/* The tile for n images of every pixel. */
static gpu_tile tile_of(const stn_kernel *k, const ocl_geometry *g, uint32_t n) {
    return gpu_tile_choose(k->device, g->c, n, (uint64_t)g->h * g->w);
}

bool gpu_taps_pay(const stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_view gx) {
    if (!gpu_on(k) || gy.layout != STN_NCHW || gx.layout != STN_NCHW || g->h > GPU_MAX_SIDE ||
        g->w > GPU_MAX_SIDE || g->kh > GPU_MAX_SIDE || g->kw > GPU_MAX_SIDE ||
        g->ph > GPU_MAX_SIDE || g->pw > GPU_MAX_SIDE || (uint64_t)g->h * g->w > MAX_PIXELS) {
        return false;
    }
    uint64_t met = meetings(g) * round_up(gx.n, tile_of(k, g, gx.n).tn);
    uint64_t all = (uint64_t)g->h * g->w * g->kh * g->kw * gx.n;
    return g->sh != 1 || g->sw != 1 || 10u * met <= 9u * all;
}

static uint32_t met_of(const uint32_t *pixel) {
    return (pixel[2] >> 16) * (pixel[2] & 0xffffu);
}

/* Pixels with the most work first: what is left for the last groups is short. */
static int by_work(const void *a, const void *b) {
    const uint32_t *p = a, *q = b;
    if (met_of(p) != met_of(q)) {
        return met_of(p) < met_of(q) ? 1 : -1;
    }
    return p[0] < q[0] ? -1 : 1;
}

static uint32_t pixels_of(stn_kernel *k, const ocl_geometry *g) {
    if (k->query || k->failed) {
        return 0;
    }
    uint64_t n = (uint64_t)g->h * g->w;
    uint32_t *table = ocl_host->alloc(n * 4u * sizeof *table, 0);
    if (table == NULL) {
        k->failed = stn_fail(&k->err, STN_E_NOMEM, "opencl: out of host memory for a table");
        return 0;
    }
    for (uint32_t i = 0, *p = table; i < n; i++, p += 4) {
        reach r = row_reach(g, i / g->w), c = column_reach(g, i % g->w);
        p[0] = i;
        p[1] = r.first * g->ow + c.first;
        p[2] = r.count << 16 | c.count;
        p[3] = r.tap * g->kw + c.tap;
    }
    qsort(table, n, 4u * sizeof *table, by_work);
    uint32_t index = ocl_table(k, table, n * 4u);
    ocl_host->free(table);
    return index;
}

void gpu_taps(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_arg w, ocl_view gx) {
    char options[GPU_OPTIONS];
    uint32_t pixels = g->h * g->w;
    gpu_tile t = tile_of(k, g, gx.n);
    uint32_t chunk = stn_conv_chunk(g->kh, g->kw), slice = gpu_tile_slice(t);
    gpu_tile_name(k, t, (gpu_variant){.whole = g->o % slice == 0 && chunk % slice == 0}, options);
    ocl_range range = gpu_tile_range(t, g->c, gx.n, pixels);
    OCL_EMIT(k, "gpu_tile.cl", options, "grad_x_tile", &range, gy.ref, w, gx.ref,
             A_TABLE(pixels_of(k, g)), A_U(g->c), A_U(g->o), A_U(chunk), A_U(pixels),
             A_U(g->oh * g->ow), A_U(g->ow), A_U(g->kh * g->kw), A_U(g->sh * g->kw), A_U(g->sw),
             A_ROWS(1), A_FLAGS);
    uint64_t terms = meetings(g) * g->o;
    ocl_work(k, gpu_tile_work(t, 2u * terms * gx.n * g->c, gpu_tile_count(t, g->c, gx.n) * terms));
}

/* --- few channels (gpu_few_x.cl) ----------------------------------------------------------------
 */

#define STRIP 8u         /* pixels of an item in one row (PX) */
#define FEW_ITEMS 128u   /* of a group at most */
#define FEW_LOCAL 32768u /* bytes that every device has */

/* How an image is cut: tiles of rows x strips items. */
typedef struct cut {
    uint32_t strips, rows, across, down; /* tiles across and down an image */
} cut;

static uint32_t pieces(uint32_t n, uint32_t of) {
    return (uint32_t)gpu_divide_up(n, of);
}

static cut cut_of(uint32_t h, uint32_t w, uint32_t items) {
    cut c;
    uint32_t strips = pieces(w, STRIP);
    c.across = pieces(strips, 16);
    c.strips = pieces(strips, c.across);
    c.down = pieces(h, items / c.strips);
    c.rows = pieces(h, c.down);
    return c;
}

/* Groups of half the size where a device would stand still otherwise. */
static cut choose_cut(const stn_device *device, const ocl_geometry *g, uint32_t n) {
    cut c = cut_of(g->h, g->w, FEW_ITEMS);
    if (2u * (uint64_t)c.across * c.down * n < 3u * (uint64_t)device->info.compute_units) {
        c = cut_of(g->h, g->w, FEW_ITEMS / 2u);
    }
    return c;
}

static uint32_t least(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}

/* Rows, and columns rounded up to vectors, of the gradient under a group. */
static uint32_t rows_under(const ocl_geometry *g, const cut *c) {
    return c->rows + g->kh - 1u;
}
static uint32_t columns_under(const ocl_geometry *g, const cut *c) {
    return (c->strips * STRIP + g->kw - 1u + 3u) / 4u * 4u;
}

static uint64_t few_local_bytes(const ocl_geometry *g, const cut *c) {
    uint64_t pitch = (columns_under(g, c) + 3u) / 8u * 8u + 4u;
    uint64_t taps = (uint64_t)g->kh * g->c * ((g->kw + 3u) / 4u * 4u);
    return 2u * 4u * (rows_under(g, c) * pitch + taps);
}

static bool few_known(const stn_kernel *k, const ocl_geometry *g, const vec_flow *f,
                      const stn_pool_params *p, ocl_view gx) {
    if (!gpu_on(k) || !gpu_flow_known(f) || gx.layout != STN_NCHW || g->c > GPU_FEW_CHANNELS ||
        g->sh != 1 || g->sw != 1 || g->kw > GPU_FEW_WIDEST || g->h > GPU_MAX_SIDE ||
        g->w > GPU_MAX_SIDE || g->kh > GPU_MAX_SIDE || g->ph > GPU_MAX_SIDE ||
        g->pw > GPU_MAX_SIDE) {
        return false;
    }
    return f->index == NULL || gpu_halves(p);
}

/* Work and loads: whole strips of the rows that meet a gradient; of a pooled gradient an index a
 * pixel and every fourth value with what the activation gave. */
static ocl_tile_work few_work(const ocl_geometry *g, const cut *c, const vec_flow *f, uint32_t n) {
    uint64_t rows = 0, taps = (uint64_t)g->c * g->kh * g->kw, window = (STRIP + g->kw + 2u) / 4u;
    for (uint32_t h = 0; h < g->h; h++) {
        rows += row_reach(g, h).count;
    }
    uint64_t under = (uint64_t)least(rows_under(g, c), g->oh) * least(columns_under(g, c), g->ow);
    uint64_t share = (under + taps) / ((uint64_t)c->strips * c->rows) + 1u;
    uint64_t pixel = f->index != NULL ? 3u : f->act ? 8u : 4u;
    return (ocl_tile_work){
        2u * rows * pieces(g->w, STRIP) * STRIP * g->kw * g->c * g->o * n,
        (uint64_t)n * c->across * c->down * g->o * (under * pixel + taps * 4u),
        (uint32_t)(2u * STRIP * g->c + window * 4u + g->kw + share),
        (uint32_t)few_local_bytes(g, c),
    };
}

bool gpu_few(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, const stn_pool_params *p,
             ocl_arg w, ocl_view gx) {
    uint64_t sums = (uint64_t)gx.n * g->c * g->h * g->w * g->o * g->kh * g->kw;
    if (sums < k->device->min_work || !few_known(k, g, f, p, gx)) {
        return false;
    }
    cut c = choose_cut(k->device, g, gx.n);
    if (few_local_bytes(g, &c) > FEW_LOCAL) {
        return false;
    }
    char options[160];
    (void)snprintf(options, sizeof options,
                   "-DKH=%u -DKW=%u -DNC=%u -DSX=%u -DSY=%u -DFR=%u -DFC=%u -DFLOW=%u", g->kh,
                   g->kw, g->c, c.strips, c.rows, least(rows_under(g, &c), g->oh),
                   least(columns_under(g, &c), g->ow),
                   f->index != NULL ? 2u
                   : f->act         ? 1u
                                    : 0u);
    ocl_range range = {{(uint64_t)c.across * c.strips, (uint64_t)c.down * c.rows, 1},
                       2u | OCL_EXACT,
                       {c.strips, c.rows, 1}};
    /* Padding of the gradient; negative where the image's exceeds the window. */
    uint32_t top = g->kh - 1u - g->ph, left = g->kw - 1u - g->pw;
    OCL_EMIT(k, "gpu_few_x.cl", options, "grad_x_few", &range, f->gy.ref,
             f->act ? f->y.ref : A_NONE, f->index != NULL ? f->index->ref : A_NONE, w, gx.ref,
             A_U(g->o), A_U(stn_conv_chunk(g->kh, g->kw)), A_U(g->oh), A_U(g->ow), A_U(f->gy.h),
             A_U(f->gy.w), A_U(g->h), A_U(g->w), A_U(top), A_U(left), A_U(c.down), A_U(f->act),
             A_F(f->slope), A_ROWS(1), A_FLAGS);
    ocl_work(k, few_work(g, &c, f, gx.n));
    return true;
}
