/* The register tile of products with regular strides: P scalars times V vectors per term.
 *
 *   acc[p][v] = CHAIN over t from start of fma(a[row[p] + t * step], w[t][v * 16 + lane], acc)
 *
 * With `place` the scalars of term t lie at place[t] instead of t * step. w is packed: one line
 * after another.
 */
#ifndef CPU_ISA_PANEL_H
#define CPU_ISA_PANEL_H

#include "acc.h"

#define PANEL_WIDTH (TILE_V * LANES)
#define PANEL_SIZE (TILE_P * PANEL_WIDTH)

typedef struct panel {
    const float *a;
    ptrdiff_t row[TILE_P];
    ptrdiff_t step;
    const int32_t *place;
    const float *w; /* [terms][PANEL_WIDTH] */
    uint32_t terms;
    /* All [TILE_P][PANEL_WIDTH]: sums to go on from, or NULL; out = add + sum, or the sum. */
    const float *start, *add;
    float *out;
} panel;

VEC void panel_body(const panel *job, const uint32_t vectors, const bool listed) {
    vf acc[TILE_P][TILE_V];
    acc_start(acc, job->start, vectors);
    const float *a[TILE_P];
    UNROLL
    for (uint32_t p = 0; p < TILE_P; p++) {
        a[p] = job->a + job->row[p];
    }
    const float *w = job->w, *end = w + (uint64_t)job->terms * PANEL_WIDTH;
    const ptrdiff_t step = job->step;
    const int32_t *place = job->place;
    for (ptrdiff_t i = 0; w < end; w += PANEL_WIDTH) {
        i = listed ? *place++ : i;
        const vf w0 = v_load(w);
        const vf w1 = vectors > 1 ? v_load(w + LANES) : w0;
        UNROLL
        for (uint32_t p = 0; p < TILE_P; p++) {
            const vf x = v_set1(a[p][i]);
            acc[p][0] = v_fma(x, w0, acc[p][0]);
            if (vectors > 1) {
                acc[p][vectors - 1] = v_fma(x, w1, acc[p][vectors - 1]);
            }
        }
        i += step;
    }
    acc_store(acc, job->add, job->out, vectors);
}

#define PANEL_DEFINE(name, vectors, listed)                                                        \
    static __attribute__((noinline)) void name(const panel *job) {                                 \
        panel_body(job, vectors, listed);                                                          \
    }
PANEL_DEFINE(panel_one, 1, false)
PANEL_DEFINE(panel_one_listed, 1, true)
#if TILE_V > 1
PANEL_DEFINE(panel_two, 2, false)
PANEL_DEFINE(panel_two_listed, 2, true)
#endif

static inline void panel_run(const panel *job, uint32_t vectors) {
    const bool listed = job->place != NULL;
#if TILE_V > 1
    if (vectors > 1) {
        (listed ? panel_two_listed : panel_two)(job);
        return;
    }
#endif
    (void)vectors;
    (listed ? panel_one_listed : panel_one)(job);
}

#endif
