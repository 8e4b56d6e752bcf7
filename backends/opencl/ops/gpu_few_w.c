/* Weight gradients of convolutions with few channels on the class gpu (gpu_few_w.cl). */
#include "gpu.h"

#include <stdio.h>

#define MOST_ITEMS 256u   /* of a group */
#define MOST_LOCAL 20480u /* bytes: a few groups to a compute unit */

/* Output channels of a group, rows and blocks of 8 pixels of a band of the gradient. */
typedef struct band {
    uint32_t channels, rows, blocks;
} band;

static uint32_t flow_of(const gpu_source *f) {
    return f->index.kind != OCL_ARG_NONE ? 2u : f->y.kind != OCL_ARG_NONE;
}

static uint32_t local_bytes(const ocl_geometry *g, uint32_t flow, const band *b) {
    uint32_t row = 8u * b->blocks + (g->kw + 2u) / 4u * 4u;
    /* Of a window the value and its choice: 5 bytes where the map has 16. */
    uint32_t pixel = b->channels * b->rows * b->blocks * 8u;
    return g->c * (b->rows + g->kh - 1u) * row * 4u + (flow == 2 ? pixel / 4u * 5u : pixel * 4u);
}

/* As many channels as a group holds, of a band as many rows as its share of local memory does. */
static bool choose_band(const stn_kernel *k, const ocl_geometry *g, uint32_t flow, band *b) {
    uint64_t most = k->device->max_group < MOST_ITEMS ? k->device->max_group : MOST_ITEMS;
    uint32_t step = flow == 2 ? 2u : 1u;
    b->channels = g->o > 16u && 32u * g->c * g->kh <= most ? 32u : 16u;
    b->blocks = (g->ow + 7u) / 8u;
    b->rows = 8;
    while (b->rows > step && (b->rows >= g->oh + step || local_bytes(g, flow, b) > MOST_LOCAL)) {
        b->rows -= step;
    }
    return (uint64_t)b->channels * g->c * g->kh <= most && local_bytes(g, flow, b) <= MOST_LOCAL;
}

bool gpu_few_w_known(const stn_kernel *k, const ocl_geometry *g, const gpu_split *s,
                     const gpu_source *f, uint32_t n) {
    band b;
    uint64_t sums = (uint64_t)n * g->oh * g->ow * g->o * g->c * g->kh * g->kw;
    return sums >= k->device->min_work && g->c <= GPU_FEW_CHANNELS && g->sh == 1 && g->sw == 1 &&
           g->kw <= GPU_FEW_WIDEST && (s->parts > 1 || s->length <= s->images) &&
           choose_band(k, g, flow_of(f), &b);
}

void gpu_few_w(stn_kernel *k, const ocl_geometry *g, const gpu_split *s, const gpu_source *f,
               uint32_t n, ocl_arg x, ocl_arg part) {
    char options[GPU_OPTIONS];
    band b;
    uint32_t flow = flow_of(f), groups = 0;
    (void)choose_band(k, g, flow, &b);
    groups = (g->o + b.channels - 1u) / b.channels;
    (void)snprintf(options, sizeof options,
                   "-DML=%u -DNC=%u -DKH=%u -DKW=%u -DBR=%u -DGB=%u -DFLOW=%u", b.channels, g->c,
                   g->kh, g->kw, b.rows, b.blocks, flow);
    ocl_range range = {
        {(uint64_t)groups * b.channels, (uint64_t)g->c * g->kh, (uint64_t)s->parts * s->shards},
        OCL_EXACT,
        {b.channels, g->c * g->kh, 1}};
    OCL_EMIT(k, "gpu_few_w.cl", options, "few_w", &range, f->in, f->y, f->index, x, part, A_U(g->o),
             A_U(g->h), A_U(g->w), A_U(g->oh), A_U(g->ow), A_U(f->qw), A_U(g->ph), A_U(g->pw),
             A_U(f->y.kind != OCL_ARG_NONE), A_ROWS(1), A_U(s->length), A_U(s->images),
             A_U(s->parts), A_F(f->slope), A_F(1.0f));
    uint64_t pixels = (uint64_t)n * g->oh * g->ow, taps = (uint64_t)g->c * g->kh * g->kw;
    uint64_t bands = gpu_divide_up(g->oh, b.rows);
    uint64_t under = (uint64_t)g->c * (b.rows + g->kh - 1u) * (8u * b.blocks + g->kw);
    ocl_work(k, (ocl_tile_work){2u * pixels * g->o * taps,
                                4u * n * bands * groups * under + pixels * g->o *
                                                                      (flow == 2   ? 3u
                                                                       : flow == 1 ? 8u
                                                                                   : 4u),
                                g->kw + (g->kw + 10u) / 4u * 4u + 12u, local_bytes(g, flow, &b)});
}
