/* The kernels of conv_held.h, by vectors and activation; other sets than AVX-512 lack the
 * registers. */
#include "conv_held.h"

#if defined(CPU_ISA_AVX512)
/* Rows of outputs that follow one another. */
typedef struct held_rows {
    const float *taps;    /* first tap of the first pixel */
    uint64_t pitch, step; /* from a row of taps to the next; from those of a row of outputs on */
    const float *w;
    const finish *end;
    uint64_t place; /* of the outputs, from finish.y on */
    uint32_t rows, cols;
    bool stream;
    ahead *next;
} held_rows;

/* What is known of all values so far, as finished() takes it. */
typedef struct held_seen {
    vf taint, least;
} held_seen;

/* Bias and activation of a sum, and its snap if that is a relu. With a slope of at most 1 an
 * activation's value is the larger of a and slope * a. Operations that share no unit with
 * multiply-adds are taken where there is a choice. */
VEC void held_finish(vf sum, vf bias, vf slope, held_seen *seen, float *y, const bool relu,
                     const bool stream) {
    const vf a = v_add(sum, bias);
    const vf out =
        relu ? v_snap_positive(v_max(a, v_zero()), v_set1(STN_LIM_X)) : v_max(a, v_mul(a, slope));
    seen->taint = v_add(seen->taint, a);
    seen->least = relu ? seen->least : v_least(seen->least, out);
    if (stream) {
        v_stream(y, out);
    } else {
        v_store(y, out);
    }
}

VEC bool held_body(const held_rows *job, const uint32_t vectors, const bool relu,
                   const bool stream) {
    vf w[9][TILE_V], bias[TILE_V];
    const vf slope = job->end[0].slope;
    held_seen seen = {v_zero(), v_set1(INFINITY)};
    float *y[TILE_V];
    UNROLL
    for (uint32_t v = 0; v < vectors; v++) {
        UNROLL
        for (uint32_t k = 0; k < 9; k++) {
            w[k][v] = v_load(job->w + k * GROUP + v * LANES);
        }
        bias[v] = job->end[v].bias;
        y[v] = job->end[v].y + job->place;
    }
    const float *taps = job->taps;
    const uint64_t pitch = job->pitch, cols = job->cols;
    for (uint32_t r = 0; r < job->rows; r++, taps += job->step) {
        ask_ahead(job->next);
        /* The last pixels again if they do not fill a step. */
        for (uint64_t q = 0, done = 0; done < cols; done = q + HELD_PIXELS) {
            q = done + HELD_PIXELS <= cols ? done : cols - HELD_PIXELS;
            const float *at[3] = {taps + q, taps + pitch + q, taps + 2 * pitch + q};
            vf acc[HELD_PIXELS][TILE_V];
            UNROLL
            for (uint32_t p = 0; p < HELD_PIXELS; p++) {
                acc[p][0] = acc[p][TILE_V - 1] = v_zero();
            }
            UNROLL
            for (uint32_t k = 0; k < 9; k++) {
                UNROLL
                for (uint32_t i = 0; i < HELD_PIXELS * vectors; i++) {
                    vf *sum = &acc[i / vectors][i % vectors];
                    *sum = v_fma_at(at[k / 3] + i / vectors + k % 3, w[k][i % vectors], *sum);
                }
            }
            UNROLL
            for (uint32_t i = 0; i < HELD_PIXELS * vectors; i++) {
                const uint32_t p = i / vectors, v = i % vectors;
                held_finish(acc[p][v], bias[v], slope, &seen, y[v] + (q + p) * LANES, relu, stream);
            }
        }
        y[0] += cols * LANES;
        y[vectors - 1] += vectors > 1 ? cols * LANES : 0;
    }
    return finished(job->end, seen.taint, seen.least);
}

#define HELD_DEFINE(name, vectors, relu)                                                           \
    static __attribute__((noinline)) bool name(const held_rows *job) {                             \
        return job->stream ? held_body(job, vectors, relu, true)                                   \
                           : held_body(job, vectors, relu, false);                                 \
    }
HELD_DEFINE(held_one, 1, false)
HELD_DEFINE(held_one_relu, 1, true)
HELD_DEFINE(held_two, 2, false)
HELD_DEFINE(held_two_relu, 2, true)

bool ISA(held_unit)(const forward *f, const float *source, uint32_t images, uint32_t conv_rows,
                    const float *w, ahead *next, const unit_finish *u) {
    const conv_geom *g = &f->g;
    held_rows job = {.pitch = f->source_cols,
                     .step = (uint64_t)g->sh * f->source_cols,
                     .w = w,
                     .end = u->of,
                     .rows = conv_rows,
                     .cols = f->conv_cols,
                     .stream = f->stream,
                     .next = next};
    bool (*const run[TILE_V][2])(const held_rows *) = {{held_one, held_one_relu},
                                                       {held_two, held_two_relu}};
    bool good = true;
    for (uint32_t i = 0; good && i < images; i++) {
        job.taps = source + i * f->source.image;
        job.place = i * u->image;
        good = run[u->vectors - 1][u->of[0].relu](&job);
    }
    return good;
}

#else
bool ISA(held_unit)(const forward *f, const float *source, uint32_t images, uint32_t conv_rows,
                    const float *w, ahead *next, const unit_finish *u) {
    (void)next, (void)f, (void)source, (void)images, (void)conv_rows, (void)w, (void)u;
    return false;
}
#endif
