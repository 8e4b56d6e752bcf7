/* The register tile of a convolution with column stride 1: two rows of a few pixels times TILE_V
 * vectors of 16 output channels.
 *
 *   acc[r][q][v] = start[r][q][v], then CHAIN over (c,kh,kw) of
 *       fma(x[line[c,kh] + r*row_step + (q+kw)*step], w[c][kh][kw][v][lane], acc)
 *
 * A kernel row of known width is unrolled: every place is a constant from three pointers, and with
 * 32 registers a value that neighbouring pixels share is loaded once. isa/tile.h does the same sums
 * over a table of terms for pixels that lie anyhow.
 *
 * A row of pixels is cut into tiles of nearly equal width, so none is computed twice.
 */
#ifndef CPU_OPS_CONV_TILE_H
#define CPU_OPS_CONV_TILE_H

#include <math.h>

#include "fast.h"

/* Widths of tiles: any row of CONV_TILE_LEAST pixels or more can be cut into them. Rows that fill
 * less than CONV_TILE_FULL percent of the widest tiles are faster in tiles of terms; with 32
 * registers even narrow ones load less than those. CONV_TILE_EVEN: the even width that is as fast
 * as the widest, or one that no row has. */
#if defined(CPU_ISA_AVX512)
#define CONV_TILE_LEAST 3u
#define CONV_TILE_EVEN 4u
#define CONV_TILE_MOST 5u
#define CONV_TILE_FULL 0u
#elif defined(CPU_ISA_AVX2)
#define CONV_TILE_LEAST 2u
#define CONV_TILE_EVEN UINT32_MAX
#define CONV_TILE_MOST 3u
#define CONV_TILE_FULL 80u
#else
#define CONV_TILE_LEAST 1u
#define CONV_TILE_EVEN 2u
#define CONV_TILE_MOST 2u
#define CONV_TILE_FULL 80u
#endif
#define CONV_TILE_WIDTHS (CONV_TILE_MOST - CONV_TILE_LEAST + 1u)

/* How the sums of one block of 16 output channels become outputs, and where these begin. */
typedef struct finish {
    vf bias, slope; /* slope 1: no activation, 0: relu */
    vm real;        /* lanes that are channels */
    bool relu;      /* the slope is 0 */
    bool steep;     /* a value below the limit of snapping may become one above it */
    vf taint;
    float *y;       /* the unit's first row of its first image */
    uint8_t *index; /* of a pool */
} finish;

/* The largest value of a window of two rows (a, b) and (c, d), and its place: the first of equals.
 */
VEC vf window_of_four(vf a, vf b, vf c, vf d, vp *where) {
    const vf ab = v_max(b, a), cd = v_max(d, c);
    const vp left = vp_set(vp_zero(), v_gt(b, a), 1), right = vp_set(vp_set1(2), v_gt(d, c), 3);
    *where = vp_select(v_gt(cd, ab), right, left);
    return v_max(cd, ab);
}

/* Whether outputs that were made without a look at each stand. Products tell what is not finite,
 * two values in one operation; least: the smallest magnitude that an activation took or left.
 * False: one may be not finite or was to be snapped, so all are to be finished one by one. */
VEC bool finished(const finish *s, vf taint, vf least) {
    const uint32_t all = (1u << LANES) - 1u;
    return vm_bits(vm_and(s->real, v_lt(least, v_set1(STN_LIM_X)))) == 0 &&
           vm_bits(v_lt(v_abs(taint), v_set1(INFINITY))) == all;
}

typedef struct conv_tile {
    const float *x;      /* first tap of the first pixel, without the offset of a line */
    ptrdiff_t row_step;  /* floats from the first to the second row of pixels */
    const int32_t *line; /* offsets of the kernel rows of this chunk, [c][kh] */
    const float *w;      /* their weights [c][kh][kw][TILE_V][16] */
    uint32_t lines, kw;
    /* [r][q][TILE_V][16]: what the sums start from; rows and pixels so many floats apart, 0: all
     * pixels start alike */
    const float *start;
    ptrdiff_t start_pitch, start_step;
    /* [r][q][TILE_V][16], rows so many floats apart: out = add + acc, or acc if add is NULL */
    const float *add;
    float *out;
    ptrdiff_t add_pitch, out_pitch;
    uint32_t rows; /* 1: the second row is not stored */
    /* Finishing in registers: of each vector, or NULL: sums are stored. place: floats from finish.y
     * to the outputs of each row of pixels; a second row that is not there has the places of the
     * first, and both make one row of windows of 2 x 2 if they are pooled. */
    const finish *end;
    uint64_t place[2];
    bool pooled, stream;
} conv_tile;

/* False: see finished(). */
typedef bool (*conv_tile_fn)(const conv_tile *job);

/* Kernels of the widths CONV_TILE_LEAST.. for that many vectors, rows of kw taps, and `step` floats
 * (1 or 16) between pixels. */
const conv_tile_fn *ISA(conv_tile_kernels)(uint32_t vectors, uint32_t kw, uint32_t step);

/* Tiles of a row of `cols` pixels, at least. */
static inline uint32_t conv_tiles(uint32_t cols) {
    return ceil_div(cols, CONV_TILE_MOST);
}

#endif
