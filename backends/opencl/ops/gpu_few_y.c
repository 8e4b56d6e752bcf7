/* Convolutions with few channels on the class gpu (gpu_few_y.cl). */
#include "gpu.h"

#include <stdio.h>

#define MOST_QUADS 16u    /* four output channels each, of a group */
#define MOST_ITEMS 128u   /* of a group */
#define MOST_ROWS 12u     /* of a band */
#define MOST_LOCAL 32768u /* bytes that every device has */

/* A group: four output channels `quads` times, items for each, rows and blocks of 8 pixels. */
typedef struct band {
    uint32_t quads, items, rows, blocks;
} band;

static uint32_t divide_up(uint32_t a, uint32_t b) {
    return (uint32_t)gpu_divide_up(a, b);
}

static uint32_t local_bytes(const ocl_geometry *g, const band *b) {
    uint32_t row = 8u * b->blocks + (g->kw + 2u) / 4u * 4u;
    return 4u * g->c * ((b->rows + g->kh - 1u) * row + g->kh * g->kw * 4u * (b->quads + 1u));
}

/* What an image costs: of every band the rounds of its items and half of one for the weights. */
static uint32_t cost(const ocl_geometry *g, const band *b) {
    return divide_up(g->oh, b->rows) * (2u * divide_up(b->rows / 2u * b->blocks, b->items) + 1u);
}

static bool choose_band(const ocl_geometry *g, band *best) {
    band b = {.quads = divide_up(g->o, 4), .blocks = divide_up(g->ow, 8)};
    b.quads = b.quads < MOST_QUADS ? b.quads : MOST_QUADS;
    b.items = MOST_ITEMS / b.quads;
    best->rows = 0;
    for (b.rows = 2; b.rows <= MOST_ROWS; b.rows += 2) {
        if (local_bytes(g, &b) <= MOST_LOCAL && (best->rows == 0 || cost(g, &b) < cost(g, best))) {
            *best = b;
        }
    }
    return best->rows > 0;
}

bool gpu_few_y(stn_kernel *k, const ocl_geometry *g, ocl_view x, ocl_arg w, ocl_arg b, ocl_view y,
               const ocl_view *index, bool act, float slope) {
    band d;
    uint64_t taps = (uint64_t)g->c * g->kh * g->kw, pixels = (uint64_t)x.n * g->oh * g->ow;
    if (!gpu_on(k) || pixels * g->o * taps < k->device->min_work || g->c > GPU_FEW_CHANNELS ||
        g->sh != 1 || g->sw != 1 || g->kw > GPU_FEW_WIDEST || g->kh > GPU_MAX_SIDE ||
        g->c > stn_conv_chunk(g->kh, g->kw) || !choose_band(g, &d)) {
        return false;
    }
    char options[GPU_OPTIONS];
    (void)snprintf(options, sizeof options,
                   "-DNQ=%u -DSP=%u -DNC=%u -DKH=%u -DKW=%u -DBR=%u -DGB=%u -DPOOL=%u", d.quads,
                   d.items, g->c, g->kh, g->kw, d.rows, d.blocks, index != NULL);
    uint32_t bands = divide_up(g->oh, d.rows), groups = divide_up(g->o, 4u * d.quads);
    ocl_range range = {{(uint64_t)groups * d.quads, (uint64_t)bands * d.items, 1},
                       2u | OCL_EXACT,
                       {d.quads, d.items, 1}};
    OCL_EMIT(k, "gpu_few_y.cl", options, "few_y", &range, x.ref, w, b, y.ref,
             index != NULL ? index->ref : A_NONE, A_U(g->o), A_U(g->h), A_U(g->w), A_U(g->oh),
             A_U(g->ow), A_U(g->ph), A_U(g->pw), A_U(g->kh), A_U(bands),
             A_U(b.kind != OCL_ARG_NONE), A_U(act), A_F(slope), A_ROWS(1), A_FLAGS);
    uint64_t under = (uint64_t)g->c * (d.rows + g->kh - 1u) * (8u * d.blocks + g->kw);
    ocl_work(k, (ocl_tile_work){2u * pixels * g->o * taps,
                                4u * x.n * bands * groups * (under + taps * 4u * d.quads),
                                64u + 2u * ((g->kw + 10u) / 4u * 4u) + 4u, local_bytes(g, &d)});
    return true;
}
