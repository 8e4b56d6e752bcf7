/* The kernels of scatter.h: of known size with weights in registers, of known width, of any. */
#include "scatter.h"

#define SCATTER_WIDEST 9u

/* One kernel row: all loads first, so that none waits for a store that cannot touch it. */
VEC void scatter_row(float *at, const vf g, const float *w, const uint32_t kw) {
    vf sum[SCATTER_WIDEST];
    UNROLL
    for (uint32_t t = 0; t < kw; t++) {
        sum[t] = v_fma(g, v_load(w + t * LANES), v_load(at + t * LANES));
    }
    UNROLL
    for (uint32_t t = 0; t < kw; t++) {
        v_store(at + t * LANES, sum[t]);
    }
}

VEC void scatter_wide(const scatter *job, const uint32_t kw) {
    const uint32_t kh = job->kh, width = kw > 0 ? kw : job->kw;
    const ptrdiff_t pitch = job->pitch;
    const item *end = job->end;
    for (const item *it = job->item; it < end; it++) {
        const vf g = v_set1(it->g);
        float *at = job->sum + it->at;
        const float *w = job->w;
        for (uint32_t r = 0; r < kh; r++, at += pitch, w += width * LANES) {
            if (kw > 0) {
                scatter_row(at, g, w, kw);
                continue;
            }
            for (uint32_t t = 0; t < width; t++) {
                float *to = at + t * LANES;
                v_store(to, v_fma(g, v_load(w + t * LANES), v_load(to)));
            }
        }
    }
}

#if defined(CPU_ISA_AVX512)
/* With all weights in registers. */
VEC void scatter_held(const scatter *job, const uint32_t kh, const uint32_t kw) {
    vf w[SCATTER_HELD];
    UNROLL
    for (uint32_t i = 0; i < kh * kw; i++) {
        w[i] = v_load(job->w + i * LANES);
    }
    const ptrdiff_t pitch = job->pitch;
    float *base = job->sum;
    const item *end = job->end;
    for (const item *it = job->item; it < end; it++) {
        const vf g = v_set1(it->g);
        float *at = base + it->at;
        UNROLL
        for (uint32_t r = 0; r < kh; r++, at += pitch) {
            vf sum[SCATTER_WIDEST];
            UNROLL
            for (uint32_t t = 0; t < kw; t++) {
                sum[t] = v_fma(g, w[r * kw + t], v_load(at + t * LANES));
            }
            UNROLL
            for (uint32_t t = 0; t < kw; t++) {
                v_store(at + t * LANES, sum[t]);
            }
        }
    }
}

#define SCATTER_HOLDS(X) X(1, 1) X(1, 2) X(2, 2) X(1, 3) X(2, 3) X(3, 3) X(4, 4) X(5, 5)
#define SCATTER_HOLD(kh, kw)                                                                       \
    static __attribute__((noinline)) void scatter_##kh##x##kw(const scatter *job) {                \
        scatter_held(job, kh, kw);                                                                 \
    }
SCATTER_HOLDS(SCATTER_HOLD)
#endif

#define SCATTER_WIDTHS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9)
#define SCATTER_WIDTH(kw)                                                                          \
    static __attribute__((noinline)) void scatter_##kw(const scatter *job) {                       \
        scatter_wide(job, kw);                                                                     \
    }
SCATTER_WIDTHS(SCATTER_WIDTH)

scatter_fn ISA(scatter_kernel)(uint32_t kh, uint32_t kw) {
#define SCATTER_ENTRY(kw) [kw] = scatter_##kw,
    static const scatter_fn wide[SCATTER_WIDEST + 1] = {SCATTER_WIDTHS(SCATTER_ENTRY)};
    const uint32_t known = kw <= SCATTER_WIDEST ? kw : 0;
#if defined(CPU_ISA_AVX512)
#define SCATTER_HELD_ENTRY(kh, kw) [kh][kw] = scatter_##kh##x##kw,
    static const scatter_fn held[SCATTER_WIDEST + 1][SCATTER_WIDEST + 1] = {
        SCATTER_HOLDS(SCATTER_HELD_ENTRY)};
    if (kh <= SCATTER_WIDEST && held[kh][known] != NULL) {
        return held[kh][known];
    }
#else
    (void)kh;
#endif
    return wide[known];
}
