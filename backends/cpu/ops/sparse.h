/* Sums over lists of non-zero gradients, in registers.
 *
 *   out[r][t] = CHAIN over the items of fma(item.g, p[item.at + r * pitch + t * 16 + lane], acc)
 *
 * After a max-pool at most one gradient in four is non-zero, so a list in contract order costs a
 * fraction of the dense sum and gives the same bits (zero terms are free, C4). The weight gradient
 * reads p as a map (t: taps of a row).
 */
#ifndef CPU_OPS_SPARSE_H
#define CPU_OPS_SPARSE_H

#include "fast.h"

typedef struct item {
    float g;
    int32_t at;
} item;

typedef struct sparse {
    const item *item;
    uint32_t items;
    const float *p;
    ptrdiff_t pitch;
    float *out; /* [rows][vectors][16], rows `out_pitch` floats apart */
    ptrdiff_t out_pitch;
    bool add;  /* a later chunk: out = out + acc */
    bool last; /* the last chunk: snap to class G */
} sparse;

typedef void (*sparse_fn)(const sparse *job);

/* Most accumulators (rows * vectors) of one kernel, and most rows. */
#if defined(CPU_ISA_AVX512)
#define SPARSE_MAX 20u
#else
#define SPARSE_MAX 7u
#endif
#define SPARSE_ROWS 9u

/* Kernel for rows x vectors; NULL if there is none. Every product up to SPARSE_MAX with at most
 * SPARSE_ROWS rows exists. */
sparse_fn ISA(sparse_kernel)(uint32_t rows, uint32_t vectors);

/* Cuts `size` into equal pieces of at most `most`, the last one shorter. */
static inline uint32_t piece_of(uint32_t size, uint32_t most) {
    return ceil_div(size, ceil_div(size, most));
}

#endif
