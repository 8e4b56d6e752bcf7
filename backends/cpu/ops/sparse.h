/* Lists of non-zero gradients, and the weight gradient's sums over them, in registers.
 *
 *   out[r][t] = CHAIN over the items of fma(item.g, p[item.at + r * pitch + t * 16 + lane], acc)
 *
 * After a max-pool at most one gradient in four is non-zero, so a list in contract order costs a
 * fraction of the dense sum and gives the same bits (zero terms are free, C4). p is a map, t the
 * taps of a row.
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
    bool add; /* a later chunk: out = out + acc */
} sparse;

typedef void (*sparse_fn)(const sparse *job);

/* Most vectors of a row, and most accumulators (rows * vectors) of a kernel. */
#if defined(CPU_ISA_AVX512)
#define SPARSE_MAX 9u
#define SPARSE_SUMS 15u
#else
#define SPARSE_MAX 7u
#define SPARSE_SUMS 7u
#endif

/* Kernel for 1 x vectors, or rows <= piece_rows(vectors). */
sparse_fn ISA(sparse_kernel)(uint32_t rows, uint32_t vectors);

/* Most rows of a piece of so many vectors. Five sums wait for each other: an entry takes the four
 * cycles of a multiply-add, however few there are. Fifteen take seven and a half. */
static inline uint32_t piece_rows(uint32_t vectors) {
    return SPARSE_SUMS == 15u && vectors == 5 ? 3 : SPARSE_MAX / vectors;
}

/* Cuts `size` into equal pieces of at most `most`, the last one shorter. */
static inline uint32_t piece_of(uint32_t size, uint32_t most) {
    return ceil_div(size, ceil_div(size, most));
}

#endif
