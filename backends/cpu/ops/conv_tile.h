/* The register tile of a convolution with column stride 1: TILE_H x TILE_W pixels times TILE_V
 * vectors of 16 output channels.
 *
 *   acc[r][q][v] = CHAIN over (c,kh,kw) of
 *       fma(x[channel[c] + r*row_step + kh*pitch + (q+kw)*step], w[c][kh][kw][v][lane], acc)
 *
 * A kernel row of known width is unrolled: every place is a constant from three pointers, and with
 * 32 registers a value that neighbouring pixels share is loaded once. isa/tile.h does the same sums
 * over a table of terms for pixels that lie anyhow.
 */
#ifndef CPU_OPS_CONV_TILE_H
#define CPU_OPS_CONV_TILE_H

#include "fast.h"

/* Pixels of a tile, and by how many percent it is faster than a tile of terms: with 32 registers it
 * loads less, with 16 there is no room for that. */
#if defined(CPU_ISA_AVX512)
#define CONV_TILE_H 2u
#define CONV_TILE_W 4u
#define CONV_TILE_GAIN 25u
#elif defined(CPU_ISA_AVX2)
#define CONV_TILE_H 2u
#define CONV_TILE_W 3u
#define CONV_TILE_GAIN 6u
#else
#define CONV_TILE_H 2u
#define CONV_TILE_W 2u
#define CONV_TILE_GAIN 6u
#endif

typedef struct conv_tile {
    const float *x;         /* first tap of the first pixel in channel 0 */
    ptrdiff_t pitch;        /* floats from row to row of x */
    ptrdiff_t row_step;     /* and from the first to the second row of pixels */
    const int32_t *channel; /* offsets of the channels of this chunk */
    const float *w;         /* their weights [c][kh][kw][TILE_V][16] */
    uint32_t channels, kh, kw;
    const float *start; /* [TILE_V][16]: what the sums of all pixels start from */
    float *out;         /* [r][q][TILE_V][16], rows out_pitch floats apart */
    ptrdiff_t out_pitch;
    uint32_t skip_h, skip_w; /* pixels that an earlier tile has stored */
    bool add;                /* out = out + acc instead of out = acc: a later chunk */
} conv_tile;

typedef void (*conv_tile_fn)(const conv_tile *job);

/* Kernel for that many vectors, rows of kw taps, and `step` floats (1 or 16) between pixels. */
conv_tile_fn ISA(conv_tile_kernel)(uint32_t vectors, uint32_t kw, uint32_t step);

#endif
