/* The weight gradient of a convolution of few channels over all its terms. */
#ifndef CPU_OPS_CONV_GRAD_W_FEW_H
#define CPU_OPS_CONV_GRAD_W_FEW_H

#include "conv_grad_w.h"

typedef struct grad_w_few {
    const grad_w *w;
    uint32_t taps, tap_tiles, groups;       /* tiles of TILE_P taps, of TILE_V blocks of outputs */
    uint64_t pitch, plane, image, gz_image; /* floats: of a padded row, channel and image; of gz */
    uint64_t part_size;
    /* Workspace; the first two per thread: images of a chunk. */
    float *x, *gz;
    float *part; /* [shards][tap_tiles][groups][TILE_P][TILE_V][16] */
    term *terms; /* pixels of a chunk */
} grad_w_few;

grad_w_few ISA(few_plan)(const grad_w *w, uint32_t threads, carver *c);
/* Whether it is faster for this call, and its sums. */
bool ISA(few_pays)(const grad_w_few *f);
void ISA(few_run)(grad_w_few *f);

#endif
