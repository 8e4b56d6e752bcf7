/* The kernels of sparse.h, one per number of rows and vectors. */
#include "sparse.h"

VEC void sparse_body(const sparse *job, const uint32_t rows, const uint32_t vectors) {
    vf acc[SPARSE_SUMS];
    UNROLL
    for (uint32_t i = 0; i < rows * vectors; i++) {
        acc[i] = v_zero();
    }
    const float *p = job->p;
    const ptrdiff_t pitch = job->pitch;
    const item *end = job->item + job->items;
    for (const item *it = job->item; it < end; it++) {
        const vf g = v_set1(it->g);
        const float *at = p + it->at;
        UNROLL
        for (uint32_t r = 0; r < rows; r++, at += pitch) {
            /* Pins the address of a row: otherwise one address computation is made per vector. */
            __asm__("" : "+r"(at));
            UNROLL
            for (uint32_t i = 0; i < vectors; i++) {
                vf *sum = &acc[r * vectors + i];
                *sum = v_fma(g, v_load(at + i * LANES), *sum);
            }
        }
    }
    const sparse to = *job;
    UNROLL
    for (uint32_t i = 0; i < rows * vectors; i++) {
        float *out = to.out + (ptrdiff_t)(i / vectors) * to.out_pitch + i % vectors * LANES;
        v_store(out, to.add ? v_add(v_load(out), acc[i]) : acc[i]);
    }
}

#define SPARSE_COMMON(X)                                                                           \
    X(1, 1)                                                                                        \
    X(1, 2)                                                                                        \
    X(1, 3)                                                                                        \
    X(1, 4) X(1, 5) X(1, 6) X(1, 7) X(2, 1) X(2, 2) X(2, 3) X(3, 1) X(3, 2) X(4, 1) X(5, 1)        \
        X(6, 1) X(7, 1)
#if defined(CPU_ISA_AVX512)
#define SPARSE_WIDE(X) X(1, 8) X(1, 9) X(2, 4) X(3, 3) X(4, 2) X(8, 1) X(9, 1) X(2, 5) X(3, 5)
#else
#define SPARSE_WIDE(X)
#endif

#define SPARSE_DEFINE(rows, vectors)                                                               \
    static __attribute__((noinline)) void sparse_##rows##x##vectors(const sparse *job) {           \
        sparse_body(job, rows, vectors);                                                           \
    }
SPARSE_COMMON(SPARSE_DEFINE)
SPARSE_WIDE(SPARSE_DEFINE)

sparse_fn ISA(sparse_kernel)(uint32_t rows, uint32_t vectors) {
#define SPARSE_ENTRY(rows, vectors) [rows][vectors] = sparse_##rows##x##vectors,
    static const sparse_fn kernel[SPARSE_MAX + 1][SPARSE_MAX + 1] = {SPARSE_COMMON(SPARSE_ENTRY)
                                                                         SPARSE_WIDE(SPARSE_ENTRY)};
    return kernel[rows][vectors];
}
