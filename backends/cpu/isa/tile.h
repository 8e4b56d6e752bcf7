/* The register tile behind every dense product: P scalars times V vectors per term.
 *
 *   acc[p][v] = CHAIN over t of fma(a[scalar[p] + term[t].a], vector[v][term[t].b + lane], acc)
 *
 * A convolution, a linear layer and their gradients differ only in what the offsets mean: terms run
 * over (c,kh,kw), over outputs or over pixels; scalars are pixels, images or taps; the lanes are 16
 * output channels, inputs or pixels. The order of the terms is the contract's order; all else is
 * addressing, so one kernel serves every shape, stride and layout.
 */
#ifndef CPU_ISA_TILE_H
#define CPU_ISA_TILE_H

#include "acc.h"

/* Offsets in floats of one term. */
typedef struct term {
    int32_t a, b;
} term;

typedef struct tile {
    const float *a;
    ptrdiff_t scalar[TILE_P];
    const float *vector[TILE_V];
    const term *term;
    uint32_t terms;
    /* Results: acc[p][v] at out + p * TILE_V * 16 + v * 16. */
    float *out;
    bool add; /* out = out + acc instead of out = acc: a later chunk */
} tile;

/* Sums of `vectors` <= TILE_V vectors for TILE_P scalars. */
VEC void tile_body(const tile *job, const uint32_t vectors) {
    vf acc[TILE_P][TILE_V];
    acc_start(acc, NULL, vectors);
    const float *b0 = job->vector[0], *b1 = job->vector[vectors - 1];
    /* One pointer per scalar, pinned: as base + scalar + term each load would need an addition,
     * and those take issue slots from the multiply-adds. */
    const float *at[TILE_P];
    UNROLL
    for (uint32_t p = 0; p < TILE_P; p++) {
        at[p] = job->a + job->scalar[p];
        __asm__("" : "+r"(at[p]));
    }
    const term *end = job->term + job->terms;
    for (const term *t = job->term; t < end; t++) {
        const ptrdiff_t from = t->a, to = t->b;
        const vf w0 = v_load(b0 + to);
        const vf w1 = vectors > 1 ? v_load(b1 + to) : w0;
        UNROLL
        for (uint32_t p = 0; p < TILE_P; p++) {
            const vf x = v_set1(at[p][from]);
            acc[p][0] = v_fma(x, w0, acc[p][0]);
            if (vectors > 1) {
                acc[p][vectors - 1] = v_fma(x, w1, acc[p][vectors - 1]);
            }
        }
    }
    acc_store(acc, job->add ? job->out : NULL, job->out, vectors);
}

static __attribute__((noinline)) void tile_one(const tile *job) {
    tile_body(job, 1);
}
#if TILE_V > 1
static __attribute__((noinline)) void tile_two(const tile *job) {
    tile_body(job, 2);
}
#endif

/* Runs the tile with as many of TILE_V vectors as are wanted. */
static inline void tile_run(const tile *job, uint32_t vectors) {
#if TILE_V > 1
    if (vectors > 1) {
        tile_two(job);
        return;
    }
#endif
    (void)vectors;
    tile_one(job);
}

#endif
