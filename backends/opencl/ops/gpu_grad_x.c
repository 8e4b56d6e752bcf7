/* Input gradients of convolutions on the class gpu, where padding would be most of the work. */
#include "gpu.h"

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
    return g->sh != 1 || g->sw != 1 || 4u * met <= 3u * all;
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
    char options[64];
    uint32_t pixels = g->h * g->w;
    gpu_tile t = tile_of(k, g, gx.n);
    gpu_tile_name(t, false, options);
    ocl_range range = gpu_tile_range(t, g->c, gx.n, pixels);
    OCL_EMIT(k, "gpu_tile.cl", options, "grad_x_tile", &range, gy.ref, w, gx.ref,
             A_TABLE(pixels_of(k, g)), A_U(g->c), A_U(g->o), A_U(stn_conv_chunk(g->kh, g->kw)),
             A_U(pixels), A_U(g->oh * g->ow), A_U(g->ow), A_U(g->kh * g->kw), A_U(g->sh * g->kw),
             A_U(g->sw), A_ROWS(1), A_FLAGS);
    uint64_t terms = meetings(g) * g->o;
    ocl_work(k, gpu_tile_work(t, 2u * terms * gx.n * g->c, gpu_tile_count(t, g->c, gx.n) * terms));
}
