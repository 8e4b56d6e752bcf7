/* From the sums of a convolution to stored values: bias, snap, max-pool with index, activation.
 *
 * Without a pool a tile of conv_tile.h ends in registers, unless one of its values is not finite or
 * about to be snapped. Where a tile holds whole windows of the pool its sums go from the
 * first-level cache to the outputs; otherwise those of a unit wait in memory until all are made.
 */
#ifndef CPU_OPS_CONV_FINISH_H
#define CPU_OPS_CONV_FINISH_H

#include "conv_forward.h"

/* One block of 16 channels of a unit. */
typedef struct finish {
    vf bias, slope; /* slope 1: no activation, 0: relu */
    vm real;        /* lanes that are channels */
    bool relu;      /* the slope is 0 */
    bool steep;     /* a value below the limit of snapping may become one above it */
    bool swift;     /* values may be finished without a look at each */
    vf taint;
    float *y;       /* the unit's first row of its first image */
    uint8_t *index; /* of a pool */
} finish;

/* A group of channels of a unit. */
struct unit_finish {
    const forward *f;
    uint32_t vectors;
    uint64_t image;   /* floats from an image of the output to the next */
    uint64_t line[2]; /* of the tiles' rows, from finish.y on */
    finish of[TILE_V];
    bool registers; /* tiles end in registers, unless a value asks for more */
    tile_end end;
};

/* The group's outputs from pooled row `top` on, of image `image` and those that follow. */
unit_finish ISA(finish_start)(const forward *f, uint32_t group, uint32_t image, uint32_t top);
/* The rows of the tiles that follow. */
void ISA(finish_lines)(unit_finish *u, const tile_place *at);

/* Places of a tile's outputs in u->end. */
static inline void finish_places(unit_finish *u, const tile_place *at) {
    for (uint32_t v = 0; v < u->vectors; v++) {
        for (uint32_t r = 0; r < 2; r++) {
            u->end.y[v][r] = u->of[v].y + u->line[r < at->rows ? r : 0] + (uint64_t)at->col * LANES;
        }
    }
}

/* The outputs of a tile, of sums [r][q][TILE_V][16] with TILE_PITCH floats between rows. */
void ISA(finish_tile)(unit_finish *u, const tile_place *at, const float *sums);
/* `rows` pooled rows of each image; sums [image][conv_rows][conv_cols][GROUP]. */
void ISA(finish_unit)(unit_finish *u, uint32_t images, uint32_t rows, const float *sums);
/* Raises the flag of the call if a value was not finite. */
void ISA(finish_end)(const unit_finish *u);

#endif
