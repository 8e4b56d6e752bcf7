/* The kernels of conv_tile.h, one per number of vectors, kernel width, layout and tile width. */
#include "conv_tile.h"

#define MOST_PIXELS (2 * CONV_TILE_MOST)

/* One tap of all pixels: a and b point at the first pixel's value in both rows. */
VEC void tile_tap(vf acc[MOST_PIXELS][TILE_V], const float *a, const float *b, const float *w,
                  const uint32_t cols, const uint32_t vectors, const uint32_t step) {
    const vf w0 = v_load(w), w1 = vectors > 1 ? v_load(w + LANES) : w0;
    UNROLL
    for (uint32_t p = 0; p < 2 * cols; p++) {
        const vf x = v_set1((p < cols ? a : b)[p % cols * step]);
        acc[p][0] = v_fma(x, w0, acc[p][0]);
        if (vectors > 1) {
            acc[p][vectors - 1] = v_fma(x, w1, acc[p][vectors - 1]);
        }
    }
}

/* Sums of a vector and pixel in both rows: the earlier chunks added, and the bias. */
VEC void tile_biased(const conv_tile *job, const uint32_t v, const uint32_t q, vf *a, vf *b) {
    if (job->add != NULL) {
        const float *add = job->add + (q * TILE_V + v) * LANES;
        *a = v_add(v_load(add), *a);
        *b = v_add(v_load(add + job->add_pitch), *b);
    }
    *a = v_add(*a, job->end[v].bias);
    *b = v_add(*b, job->end[v].bias);
}

/* Without a pool: bias, activation, snap. With relu one comparison does for both: what is below the
 * limit of snapping becomes +0. */
VEC bool tile_plain(const conv_tile *job, vf acc[MOST_PIXELS][TILE_V], const uint32_t cols,
                    const uint32_t v, const bool relu) {
    const finish *s = &job->end[v];
    const vf limit = v_set1(STN_LIM_X);
    float *above = s->y + job->place[0], *below = s->y + job->place[1];
    vf least = v_set1(INFINITY), taint = v_zero();
    UNROLL
    for (uint32_t q = 0; q < cols; q++) {
        vf a = acc[q][v], b = acc[cols + q][v];
        tile_biased(job, v, q, &a, &b);
        taint = v_fma(a, b, taint);
        a = relu ? v_keep_unless(v_lt(a, limit), a) : v_act(a, s->slope);
        b = relu ? v_keep_unless(v_lt(b, limit), b) : v_act(b, s->slope);
        least = relu ? least : v_least(v_least(least, a), b);
        if (job->stream) {
            v_stream(above + q * LANES, a);
            v_stream(below + q * LANES, b);
        } else {
            v_store(above + q * LANES, a);
            v_store(below + q * LANES, b);
        }
    }
    return finished(s, taint, least);
}

/* Windows of 2 x 2. */
VEC bool tile_pooled(const conv_tile *job, vf acc[MOST_PIXELS][TILE_V], const uint32_t cols,
                     const uint32_t v, const bool relu) {
    const finish *s = &job->end[v];
    float *y = s->y + job->place[0];
    uint8_t *index = s->index + job->place[0];
    vf least = v_set1(INFINITY), taint = v_zero();
    UNROLL
    for (uint32_t q = 0; q + 1 < cols; q += 2, y += LANES, index += LANES) {
        vf a = acc[q][v], b = acc[q + 1][v], c = acc[cols + q][v], d = acc[cols + q + 1][v];
        tile_biased(job, v, q, &a, &c);
        tile_biased(job, v, q + 1, &b, &d);
        taint = v_fma(c, d, v_fma(a, b, taint));
        vp where;
        const vf best = window_of_four(a, b, c, d, &where);
        const vf out = relu ? v_max(best, v_zero()) : v_act(best, s->slope);
        least = v_least(least, relu ? best : out);
        v_store(y, out);
        vp_store(index, where);
    }
    return finished(s, taint, least);
}

VEC bool tile_finish(const conv_tile *job, vf acc[MOST_PIXELS][TILE_V], const uint32_t cols,
                     const uint32_t vectors, const bool relu) {
    bool good = true;
    UNROLL
    for (uint32_t v = 0; v < vectors; v++) {
        if (cols == CONV_TILE_EVEN && job->pooled) {
            good = tile_pooled(job, acc, cols, v, relu) && good;
        } else {
            good = tile_plain(job, acc, cols, v, relu) && good;
        }
    }
    return good;
}

/* width 0: any. */
VEC bool tile_body(const conv_tile *job, const uint32_t cols, const uint32_t vectors,
                   const uint32_t width, const uint32_t step) {
    const uint32_t group = TILE_V * LANES;
    vf acc[MOST_PIXELS][TILE_V];
    UNROLL
    for (uint32_t p = 0; p < 2 * cols; p++) {
        const float *from = job->start + (p < cols ? 0 : job->start_pitch) +
                            (ptrdiff_t)(p % cols) * job->start_step;
        for (uint32_t v = 0; v < vectors; v++) {
            acc[p][v] = v_load(from + v * LANES);
        }
    }
    const float *w = job->w, *first = job->x, *second = first + job->row_step;
    const int32_t *end = job->line + job->lines;
    for (const int32_t *line = job->line; line < end; line++) {
        const float *a = first + *line, *b = second + *line;
        /* Pinned: otherwise one address computation is made per load. */
        __asm__("" : "+r"(a), "+r"(b), "+r"(w));
        if (width > 0) {
            UNROLL
            for (uint32_t k = 0; k < width; k++) {
                tile_tap(acc, a + k * step, b + k * step, w + k * group, cols, vectors, step);
            }
            w += width * group;
            continue;
        }
        for (const float *stop = w + job->kw * group; w < stop; w += group) {
            __asm__("" : "+r"(a), "+r"(b));
            tile_tap(acc, a, b, w, cols, vectors, step);
            a += step;
            b += step;
        }
    }
    if (job->end != NULL) {
        return job->end->relu ? tile_finish(job, acc, cols, vectors, true)
                              : tile_finish(job, acc, cols, vectors, false);
    }
    const uint32_t rows = job->rows;
    const float *add = job->add;
    const ptrdiff_t add_pitch = job->add_pitch, out_pitch = job->out_pitch;
    float *out = job->out;
    UNROLL
    for (uint32_t p = 0; p < 2 * cols; p++) {
        if (p >= cols && rows < 2) {
            break;
        }
        const uint32_t at = p % cols * group;
        UNROLL
        for (uint32_t v = 0; v < vectors; v++) {
            const vf sum =
                add == NULL
                    ? acc[p][v]
                    : v_add(v_load(add + (p < cols ? 0 : add_pitch) + at + v * LANES), acc[p][v]);
            v_store(out + (p < cols ? 0 : out_pitch) + at + v * LANES, sum);
        }
    }
    return true;
}

#if defined(CPU_ISA_AVX512)
#define TILE_COLS(X, ...) X(3, __VA_ARGS__) X(4, __VA_ARGS__) X(5, __VA_ARGS__)
/* With 16 registers there is no room for the values of a kernel row, and no use in unrolling it. */
#define TILE_WIDTHS(X, vectors, step)                                                              \
    TILE_COLS(X, vectors, 0, step)                                                                 \
    TILE_COLS(X, vectors, 3, step)                                                                 \
    TILE_COLS(X, vectors, 5, step) TILE_COLS(X, vectors, 7, step) TILE_COLS(X, vectors, 9, step)
#else
#if defined(CPU_ISA_AVX2)
#define TILE_COLS(X, ...) X(2, __VA_ARGS__) X(3, __VA_ARGS__)
#else
#define TILE_COLS(X, ...) X(1, __VA_ARGS__) X(2, __VA_ARGS__)
#endif
#define TILE_WIDTHS(X, vectors, step) TILE_COLS(X, vectors, 0, step)
#endif
#define TILE_STEPS(X, vectors) TILE_WIDTHS(X, vectors, 1) TILE_WIDTHS(X, vectors, 16)
#if TILE_V == 2
#define TILE_ALL(X) TILE_STEPS(X, 1) TILE_STEPS(X, 2)
#else
#define TILE_ALL(X) TILE_STEPS(X, 1)
#endif

#define TILE_DEFINE(cols, vectors, width, step)                                                    \
    static __attribute__((noinline)) bool tile_##cols##x##vectors##x##width##x##step(              \
        const conv_tile *job) {                                                                    \
        return tile_body(job, cols, vectors, width, step);                                         \
    }
TILE_ALL(TILE_DEFINE)

const conv_tile_fn *ISA(conv_tile_kernels)(uint32_t vectors, uint32_t kw, uint32_t step) {
#define TILE_ENTRY(cols, vectors, width, step)                                                     \
    [vectors - 1][width][step > 1][cols - CONV_TILE_LEAST] =                                       \
        tile_##cols##x##vectors##x##width##x##step,
    static const conv_tile_fn kernel[TILE_V][10][2][CONV_TILE_WIDTHS] = {TILE_ALL(TILE_ENTRY)};
    const conv_tile_fn *known = kernel[vectors - 1][kw < 10 ? kw : 0][step > 1];
    return known[0] != NULL ? known : kernel[vectors - 1][0][step > 1];
}
