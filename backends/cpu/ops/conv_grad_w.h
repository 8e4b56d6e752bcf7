/* Plan of a weight gradient, shared by conv_grad_w.c and conv_grad_w_dense.c. */
#ifndef CPU_OPS_CONV_GRAD_W_H
#define CPU_OPS_CONV_GRAD_W_H

#include "gradient.h"
#include "isa/tile.h"

typedef struct grad_w {
    conv_geom g;
    grad_source source;
    const cpu_call *call;
    bool planar, padded, bias;
    bool all; /* take all terms, not lists */
    uint32_t batch, rows, shard_length, chunk_images, shard_chunks;
    uint32_t out_blocks, out_width; /* blocks of output channels, 16 times that */
    uint32_t most;                  /* non-zeros of a channel of an image */
    map_addr x;
    uint64_t map_row, map_image; /* what lists point into, in floats */
    uint32_t tap_rows, tap_vectors, row_pieces, col_pieces;
    uint64_t taps;             /* floats of all taps of one output channel and task (or channel) */
    uint64_t sums;             /* floats of the sums of a task; wide */
    uint64_t bytes, planar_at; /* planar_at: where planar kernels have their workspace */
    /* Workspace. */
    float *plane;    /* [batch][out_width]: bias gradient of every image */
    float *gz;       /* per thread: one block */
    item *list;      /* [chunks][out_width][chunk_images*most] */
    uint32_t *count; /* [chunks][out_width] */
    float *dense;    /* in the place of the lists: gz of all images */
    term *terms;     /* and the pixels of a chunk */
    float *map;      /* padded copy of x */
    float *part;     /* per thread: [levels][out_width][taps] */
} grad_w;

/* One task's taps: input block, first kernel row and column, and how many. */
typedef struct tap_piece {
    uint32_t block, row, col, rows, cols;
    sparse_fn kernel;
} tap_piece;

/* Images of chunk c of shard s. */
static inline void chunk_range(const grad_w *w, uint32_t s, uint32_t c, uint32_t *first,
                               uint32_t *end) {
    uint32_t shard_end;
    shard_range(w->batch, w->g.shards, w->rows, s, first, &shard_end);
    *first = min_u32(*first + c * w->chunk_images, shard_end);
    *end = min_u32(*first + w->chunk_images, shard_end);
}

/* All terms: whether that can be faster than lists, whether it is for this call, ... */
bool ISA(dense_w_possible)(const grad_w *w);
bool ISA(dense_w_pays)(const grad_w *w);
/* ... the floats of the gradients of all images and of the sums of a task, ... */
uint64_t ISA(dense_w_floats)(const grad_w *w);
uint64_t ISA(dense_w_sums)(const grad_w *w);
/* ... what comes before the sums, the sums of shard s, and where those of output o at tap i lie. */
void ISA(dense_w_start)(grad_w *w);
void ISA(dense_w_shard)(const grad_w *w, const tap_piece *p, uint32_t s, float *sum);

static inline uint64_t dense_w_outputs(const grad_w *w) {
    return (uint64_t)ceil_div(w->g.o, TILE_P) * TILE_P;
}
static inline uint64_t dense_w_place(const grad_w *w, uint32_t o, uint32_t i) {
    return ((i / TILE_V * dense_w_outputs(w) + o) * TILE_V + i % TILE_V) * LANES;
}

#endif
