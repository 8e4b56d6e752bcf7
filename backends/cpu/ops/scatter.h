/* Sums of an input gradient where most gradients are zero: each of the others adds its kernel to
 * the pixels around it, sums in the first cache.
 *
 *   sum[at + r * pitch + t * 16 + lane] = fma(g, w[r][t][lane], the same sum)
 *
 * for all r < KH and t < KW. A term costs a load and a store of its sum, so twice a dense one, and
 * no term is computed that no pixel needs, as a tile of sums in registers would.
 */
#ifndef CPU_OPS_SCATTER_H
#define CPU_OPS_SCATTER_H

#include "sparse.h"

#define SCATTER_HELD 25u /* most weights in registers */

typedef struct scatter {
    const item *item, *end;
    const float *w; /* [KH][KW][16] */
    uint32_t kh, kw;
    float *sum;
    ptrdiff_t pitch;
} scatter;

typedef void (*scatter_fn)(const scatter *job);

/* The kernel for kh rows of kw taps. */
scatter_fn ISA(scatter_kernel)(uint32_t kh, uint32_t kw);

#endif
