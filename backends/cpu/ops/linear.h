/* What LINEAR and its gradients share: shapes, the spans of x's storage, and their shares of work.
 *
 * y[n,o] = sum_k x[n,k] w[o,k], k canonical: c, h, w. The layout of x only changes where element k
 * lies: NC16 maps are read and written in place.
 */
#ifndef CPU_OPS_LINEAR_H
#define CPU_OPS_LINEAR_H

#include "fast.h"
#include "isa/panel.h"

/* Vectors of 16 neighbours of x's storage that are packed, or turned, at once. */
#define SPAN 16u
#define SPAN_GROUPS (SPAN / TILE_V)
/* Below this many images (or outputs) a task packs more than it computes. */
#define LEAST_SHARE 32u

typedef struct linear {
    const cpu_call *call;
    map_addr x;
    uint32_t n, rows, out, depth, channels, pixels; /* depth: K; pixels: H*W */
    bool blocked;
    uint32_t spans, block_spans; /* of one image, of one of its blocks of channels */
} linear;

/* x: the input or its gradient; y: the output or its gradient. */
static inline linear linear_shape(const stn_tensor *x, const stn_tensor *y) {
    linear l = {.n = x->dim[0], .out = y->dim[1], .channels = x->dim[1]};
    l.pixels = x->dim[2] * x->dim[3];
    l.depth = l.channels * l.pixels;
    l.blocked = x->layout == STN_NC16;
    l.x = map_of(x->layout, l.channels, x->dim[2], x->dim[3]);
    l.block_spans = ceil_div(l.blocked ? l.pixels : ceil_div(l.depth, LANES), SPAN);
    l.spans = l.block_spans * (l.blocked ? blocks_of(l.channels) : 1);
    return l;
}

/* Up to 16 vectors of one block of channels of x's storage. */
typedef struct span {
    uint64_t at;                      /* place of the first lane in an image */
    uint32_t vectors, first, channel; /* first: pixel (blocked) or element k */
    uint32_t channels;                /* real ones of the block */
} span;

static inline span span_at(const linear *l, uint32_t index) {
    const uint32_t block = index / l->block_spans, vector = index % l->block_spans * SPAN;
    if (!l->blocked) {
        const uint32_t left = ceil_div(l->depth, LANES) - vector;
        return (span){vector * LANES, min_u32(SPAN, left), vector * LANES, 0, 0};
    }
    const uint32_t channel = block * LANES;
    return (span){.at = ((uint64_t)block * l->pixels + vector) * LANES,
                  .vectors = min_u32(SPAN, l->pixels - vector),
                  .first = vector,
                  .channel = channel,
                  .channels = min_u32(LANES, l->channels - channel)};
}

/* Lanes of vector v of a span that lie in x. */
static inline uint32_t span_lanes(const linear *l, const span *s, uint32_t v) {
    return l->blocked ? LANES : min_u32(LANES, l->depth - (s->first + v * LANES));
}

/* Loads the 16x16 block of row o of w[out][K] that belongs to a span of NC16 storage and turns it:
 * r[v] are the 16 channels of vector v. */
VEC void span_weights(const linear *l, const span *s, const float *w, vf r[LANES]) {
    const float *from = w + (uint64_t)s->channel * l->pixels + s->first;
    for (uint32_t j = 0; j < LANES; j++) {
        r[j] = j < s->channels ? v_load_some(from + (uint64_t)j * l->pixels, s->vectors) : v_zero();
    }
    v_transpose(r);
}

/* The other way: vectors of 16 channels into row o of w[out][K]. */
VEC void span_store(const linear *l, const span *s, float *w, vf r[LANES]) {
    float *to = w + (uint64_t)s->channel * l->pixels + s->first;
    v_transpose(r);
    for (uint32_t j = 0; j < s->channels; j++) {
        v_store_some(to + (uint64_t)j * l->pixels, r[j], s->vectors);
    }
}

/* In how many parts the images (or outputs) of each of `tasks` pieces of work are cut, so that all
 * threads are busy. */
static inline uint32_t share_parts(uint32_t tasks, uint32_t size, uint32_t threads) {
    uint32_t parts = 1;
    while (tasks * parts < 4 * threads && tasks * parts % threads != 0 &&
           size / (parts + 1) >= LEAST_SHARE) {
        parts++;
    }
    return parts;
}

bool ISA(linear_grad_w)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);

#endif
