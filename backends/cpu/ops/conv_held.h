/* Convolutions of one planar channel by 3 x 3 taps without a pool, all weights of a group of
 * channels in registers. A pixel takes 18 multiply-adds of 16 lanes for 128 bytes of outputs: what
 * surrounds a tile of conv_tile.h would cost as much as its sums. */
#ifndef CPU_OPS_CONV_HELD_H
#define CPU_OPS_CONV_HELD_H

#include "conv_finish.h"

/* Pixels that are computed side by side: a row has as many or more. */
#if defined(CPU_ISA_AVX512)
#define HELD_PIXELS 3u
#else
#define HELD_PIXELS UINT32_MAX
#endif

/* The outputs of a unit for a group of channels, whose weights are `w` [tap][GROUP]. False: see
 * finished() in conv_tile.h. */
bool ISA(held_unit)(const forward *f, const float *source, uint32_t images, uint32_t conv_rows,
                    const float *w, ahead *next, const unit_finish *u);

/* True if held_unit serves. */
static inline bool held_serves(const forward *f) {
    const conv_geom *g = &f->g;
    return f->x.step == 1 && g->c == 1 && g->kh == 3 && g->kw == 3 && g->sw == 1 &&
           g->o % LANES == 0 && !g->pooled && f->conv_cols >= HELD_PIXELS;
}

#endif
