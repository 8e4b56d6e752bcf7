/* The kernels of conv_held.h. Rows are read where they lie; their first and last taps, some of
 * which are padding, are copied. */
#include "conv_held.h"

#if defined(CPU_ISA_AVX512)
/* Outputs of a band of one image in a block of 16 channels. */
typedef struct held_rows {
    const forward *f;
    const float *x;     /* the image */
    const float *ends;  /* [rows of taps][2][HELD_TAPS] */
    const float *zeros; /* a row of the image */
    uint32_t top, rows; /* padded row of the first taps; rows of outputs */
    const float *w;     /* [tap][GROUP] */
    const finish *end;
    float *y;
    ahead *next; /* or NULL */
} held_rows;

/* What is known of all values so far, as finished() takes it. */
typedef struct held_seen {
    vf taint, least;
} held_seen;

/* Row `row` of the padded image without its padding. */
static inline const float *held_line(const held_rows *job, uint32_t row) {
    const conv_geom *g = &job->f->g;
    const bool real = row >= g->ph && row - g->ph < g->h;
    return real ? job->x + (uint64_t)(row - g->ph) * g->w : job->zeros;
}

/* The first and the last taps of rows `top`.. of the padded image. */
static void held_ends(const held_rows *job, uint32_t rows, float *ends) {
    const uint64_t w = job->f->g.w, pad = job->f->g.pw;
    for (uint32_t r = 0; r < rows; r++, ends += 2 * HELD_TAPS) {
        const float *line = held_line(job, job->top + r), *last = line + w - 1;
        for (uint64_t p = 0; p < HELD_TAPS; p++) {
            ends[p] = p < pad ? 0.0f : line[p - pad];
            ends[2 * HELD_TAPS - 1 - p] = p < pad ? 0.0f : last[-(ptrdiff_t)(p - pad)];
        }
    }
}

/* x, made before what follows and used after what precedes: gcc would begin the ends of all pixels
 * at once (batch 4: 83 % of the peak instead of 85). */
VEC vf held_here(vf x) {
    __asm__ volatile("" : "+v"(x));
    return x;
}

/* Bias and activation of a sum, and its snap if that is a relu. With a slope of at most 1 an
 * activation's value is the larger of a and slope * a. Operations that share no unit with
 * multiply-adds are taken where there is a choice. */
VEC void held_finish(vf sum, vf bias, vf slope, held_seen *seen, float *y, const bool relu,
                     const bool stream) {
    const vf a = v_add(held_here(sum), bias);
    const vf out = held_here(relu ? v_snap_positive(v_max(a, v_zero()), v_set1(STN_LIM_X))
                                  : v_max(a, v_mul(a, slope)));
    seen->taint = held_here(v_add(seen->taint, a));
    seen->least = relu ? seen->least : held_here(v_least(seen->least, out));
    if (stream) {
        v_stream(y, out);
    } else {
        v_store(y, out);
    }
}

VEC bool held_body(const held_rows *job, const bool relu, const bool stream) {
    const forward *f = job->f;
    const vf bias = job->end->bias, slope = job->end->slope;
    const uint64_t cols = f->conv_cols;
    held_seen seen = {v_zero(), v_set1(INFINITY)};
    vf w[9];
    UNROLL
    for (uint32_t k = 0; k < 9; k++) {
        w[k] = v_load(job->w + k * GROUP);
    }
    const float *ends = job->ends;
    float *y = job->y;
    for (uint32_t r = 0; r < job->rows; r++, y += cols * LANES, ends += f->g.sh * 2 * HELD_TAPS) {
        const uint32_t row = job->top + r * f->g.sh;
        const float *line[3] = {held_line(job, row), held_line(job, row + 1),
                                held_line(job, row + 2)};
        if (job->next != NULL) {
            ask_ahead(job->next);
        }
        for (uint64_t done = 0; done < cols; done += HELD_PIXELS) {
            /* The last pixels again if they do not fill a step. */
            const bool first = done == 0, last = done + HELD_PIXELS >= cols;
            const uint64_t q = last                             ? cols - HELD_PIXELS
                               : done + 2 * HELD_PIXELS <= cols ? done
                                                                : cols - 2 * HELD_PIXELS;
            const float *at[3];
            UNROLL
            for (uint32_t k = 0; k < 3; k++) {
                at[k] = first || last ? ends + (2 * k + last) * HELD_TAPS : line[k] + (q - f->g.pw);
            }
            vf acc[HELD_PIXELS];
            UNROLL
            for (uint32_t p = 0; p < HELD_PIXELS; p++) {
                acc[p] = v_zero();
            }
            UNROLL
            for (uint32_t k = 0; k < 8; k++) {
                UNROLL
                for (uint32_t p = 0; p < HELD_PIXELS; p++) {
                    acc[p] = v_fma_at(at[k / 3] + p + k % 3, w[k], acc[p]);
                }
            }
            UNROLL
            for (uint32_t p = 0; p < HELD_PIXELS; p++) { /* the last tap with the end of each */
                acc[p] = v_fma_at(at[2] + p + 2, w[8], acc[p]);
                held_finish(acc[p], bias, slope, &seen, y + (q + p) * LANES, relu, stream);
            }
        }
    }
    return finished(job->end, seen.taint, seen.least);
}

#define HELD_DEFINE(name, relu)                                                                    \
    static __attribute__((noinline)) bool name(const held_rows *job) {                             \
        return job->f->stream ? held_body(job, relu, true) : held_body(job, relu, false);          \
    }
HELD_DEFINE(held_slope, false)
HELD_DEFINE(held_relu, true)

bool ISA(held_unit)(const forward *f, float *scratch, uint32_t image, uint32_t images,
                    uint32_t band, ahead *next) {
    const conv_geom *g = &f->g;
    const uint32_t top = band * f->rows, rows = min_u32(f->rows, g->poh - top);
    float *zeros = scratch, *ends = scratch + g->w;
    memset(zeros, 0, g->w * sizeof *zeros);
    held_rows job = {.f = f, .ends = ends, .zeros = zeros, .top = top * g->sh, .rows = rows};
    for (uint32_t i = 0; i < images; i++) {
        job.x = (const float *)f->call->in[0] + (uint64_t)(image + i) * f->x.image;
        held_ends(&job, (rows - 1) * g->sh + g->kh, ends);
        for (uint32_t group = 0; group < f->groups; group++) {
            const unit_finish u = ISA(finish_start)(f, group, image + i, top);
            for (uint32_t v = 0; v < u.vectors; v++) {
                job.w = f->packed + (uint64_t)group * f->depth * GROUP + v * LANES;
                job.end = &u.of[v];
                job.y = job.end->y;
                job.next = v == 0 ? next : NULL;
                if (!u.swift || !(job.end->relu ? held_relu(&job) : held_slope(&job))) {
                    return false;
                }
            }
        }
    }
    return true;
}

#else
bool ISA(held_unit)(const forward *f, float *scratch, uint32_t image, uint32_t images,
                    uint32_t band, ahead *next) {
    (void)f, (void)scratch, (void)image, (void)images, (void)band, (void)next;
    return false;
}
#endif
