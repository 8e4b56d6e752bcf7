/* From the sums of a convolution to stored values: bias, snap, max-pool with index, activation.
 *
 * A tile of conv_tile.h without a pool, or of whole windows, ends in registers, unless one of its
 * values is not finite or about to be snapped; otherwise the sums of a unit wait in memory until
 * all are made.
 */
#ifndef CPU_OPS_CONV_FINISH_H
#define CPU_OPS_CONV_FINISH_H

#include "conv_forward.h"

/* A group of channels of a unit. */
struct unit_finish {
    const forward *f;
    uint32_t vectors;
    uint64_t image;   /* floats from an image of the output to the next */
    uint64_t line[2]; /* of the tiles' rows, from finish.y on */
    finish of[TILE_V];
    bool swift; /* values may be finished without a look at each */
};

/* The group's outputs from pooled row `top` on, of image `image` and those that follow. */
unit_finish ISA(finish_start)(const forward *f, uint32_t group, uint32_t image, uint32_t top);
/* The rows of the tiles that follow. */
void ISA(finish_lines)(unit_finish *u, const tile_place *at);

/* Floats from finish.y to the outputs of row r of a tile, or of its row of windows. */
static inline uint64_t finish_place(const unit_finish *u, const tile_place *at, uint32_t r) {
    const uint32_t col = u->f->g.pooled ? at->col / 2 : at->col;
    return u->line[r < at->rows ? r : 0] + (uint64_t)col * LANES;
}

/* The outputs of a tile, of sums [r][q][TILE_V][16] with TILE_PITCH floats between rows. */
void ISA(finish_tile)(unit_finish *u, const tile_place *at, const float *sums);
/* `rows` pooled rows of each image; sums [image][conv_rows][conv_cols][GROUP]. */
void ISA(finish_unit)(unit_finish *u, uint32_t images, uint32_t rows, const float *sums);
/* Raises the flag of the call if a value was not finite. */
void ISA(finish_end)(const unit_finish *u);

#endif
