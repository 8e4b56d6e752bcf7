/* The kernels of conv_tile.h, one per number of vectors, kernel width and layout. */
#include "conv_tile.h"

#define PIXELS (CONV_TILE_H * CONV_TILE_W)

/* One tap of all pixels: a and b point at the first pixel's value in both rows. */
VEC void tile_tap(vf acc[PIXELS][TILE_V], const float *a, const float *b, const float *w,
                  const uint32_t vectors, const uint32_t step) {
    const vf w0 = v_load(w), w1 = vectors > 1 ? v_load(w + LANES) : w0;
    UNROLL
    for (uint32_t p = 0; p < PIXELS; p++) {
        const vf x = v_set1((p < CONV_TILE_W ? a : b)[p % CONV_TILE_W * step]);
        acc[p][0] = v_fma(x, w0, acc[p][0]);
        if (vectors > 1) {
            acc[p][vectors - 1] = v_fma(x, w1, acc[p][vectors - 1]);
        }
    }
}

/* width 0: any. */
VEC void tile_body(const conv_tile *job, const uint32_t vectors, const uint32_t width,
                   const uint32_t step) {
    const uint32_t group = TILE_V * LANES;
    vf acc[PIXELS][TILE_V];
    UNROLL
    for (uint32_t i = 0; i < PIXELS * vectors; i++) {
        acc[i / vectors][i % vectors] = v_load(job->start + i % vectors * LANES);
    }
    const float *w = job->w;
    for (uint32_t c = 0; c < job->channels; c++) {
        const float *x = job->x + job->channel[c];
        for (uint32_t h = 0; h < job->kh; h++, x += job->pitch) {
            const float *a = x, *b = x + job->row_step;
            /* Pinned: otherwise one address computation is made per load. */
            __asm__("" : "+r"(a), "+r"(b), "+r"(w));
            if (width > 0) {
                UNROLL
                for (uint32_t k = 0; k < width; k++) {
                    tile_tap(acc, a + k * step, b + k * step, w + k * group, vectors, step);
                }
                w += width * group;
                continue;
            }
            for (const float *end = w + job->kw * group; w < end; w += group) {
                __asm__("" : "+r"(a), "+r"(b));
                tile_tap(acc, a, b, w, vectors, step);
                a += step;
                b += step;
            }
        }
    }
    UNROLL
    for (uint32_t p = 0; p < PIXELS; p++) {
        if (p / CONV_TILE_W < job->skip_h || p % CONV_TILE_W < job->skip_w) {
            continue;
        }
        float *out = job->out + (ptrdiff_t)(p / CONV_TILE_W) * job->out_pitch;
        UNROLL
        for (uint32_t v = 0; v < vectors; v++) {
            float *to = out + p % CONV_TILE_W * group + v * LANES;
            v_store(to, job->add ? v_add(v_load(to), acc[p][v]) : acc[p][v]);
        }
    }
}

/* With 16 registers there is no room for the values of a kernel row, and no use in unrolling it. */
#if defined(CPU_ISA_AVX512)
#define TILE_WIDTHS(X, vectors, step)                                                              \
    X(vectors, 0, step)                                                                            \
    X(vectors, 3, step) X(vectors, 5, step) X(vectors, 7, step) X(vectors, 9, step)
#else
#define TILE_WIDTHS(X, vectors, step) X(vectors, 0, step)
#endif
#define TILE_STEPS(X, vectors) TILE_WIDTHS(X, vectors, 1) TILE_WIDTHS(X, vectors, 16)
#if TILE_V == 2
#define TILE_ALL(X) TILE_STEPS(X, 1) TILE_STEPS(X, 2)
#else
#define TILE_ALL(X) TILE_STEPS(X, 1)
#endif

#define TILE_DEFINE(vectors, width, step)                                                          \
    static __attribute__((noinline)) void tile_##vectors##x##width##x##step(const conv_tile *j) {  \
        tile_body(j, vectors, width, step);                                                        \
    }
TILE_ALL(TILE_DEFINE)

conv_tile_fn ISA(conv_tile_kernel)(uint32_t vectors, uint32_t kw, uint32_t step) {
#define TILE_ENTRY(vectors, width, step)                                                           \
    [vectors - 1][width][step > 1] = tile_##vectors##x##width##x##step,
    static const conv_tile_fn kernel[TILE_V][10][2] = {TILE_ALL(TILE_ENTRY)};
    const conv_tile_fn known = kernel[vectors - 1][kw < 10 ? kw : 0][step > 1];
    return known != NULL ? known : kernel[vectors - 1][0][step > 1];
}
