/* Convolutions of one planar channel by 3 x 3 taps without a pool: the weights of 16 output
 * channels stay in registers while several pixels are computed side by side. A pixel takes 9
 * multiply-adds for 64 bytes of outputs: what surrounds a tile of conv_tile.h would cost as much as
 * its sums, and a padded copy of the images would wait for memory.
 */
#ifndef CPU_OPS_CONV_HELD_H
#define CPU_OPS_CONV_HELD_H

#include "conv_finish.h"

/* Pixels that are computed side by side. */
#define HELD_PIXELS 6u
#define HELD_TAPS (HELD_PIXELS + 2u) /* of a row under them */

/* All outputs of a unit, that is of band `band` of `images` images from `image` on; scratch:
 * held_floats of the thread, next: see conv_forward.h. False: one of them may be not finite or is
 * to be snapped, so all are to be made in another way. */
bool ISA(held_unit)(const forward *f, float *scratch, uint32_t image, uint32_t images,
                    uint32_t band, ahead *next);

/* True if held_unit serves; other sets than AVX-512 lack the registers. */
static inline bool held_serves(const forward *f) {
#if defined(CPU_ISA_AVX512)
    const conv_geom *g = &f->g;
    return f->x.step == 1 && g->c == 1 && g->kh == 3 && g->kw == 3 && g->sw == 1 &&
           g->o % LANES == 0 && !g->pooled && f->conv_cols >= 3 * HELD_PIXELS;
#else
    (void)f;
    return false;
#endif
}

/* Ends of the rows that a unit reads of an image, and a row of zeros. */
static inline uint64_t held_floats(const forward *f) {
    return (uint64_t)f->unit_rows * 2 * HELD_TAPS + f->g.w;
}

#endif
