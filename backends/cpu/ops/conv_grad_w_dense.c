/* Weight gradient of many channels over all terms: tiles of TILE_P output channels and TILE_V taps,
 * the lanes are input channels, the terms are the pixels of a chunk. With 32 registers a tile is a
 * whole row of 3 or 5 taps: from pixel to pixel it loads one vector of inputs, not one per tap.
 */
#include "conv_grad_w.h"

/* Lists are faster if fewer than one gradient of so many is not zero. */
#define DENSE_ONE_IN 3u

static bool undone(const conv_geom *g) {
    return g->pooled || g->act;
}

static uint64_t pixels_of(const conv_geom *g) {
    return (uint64_t)g->oh * g->ow;
}

bool ISA(dense_w_possible)(const grad_w *w) {
    return !w->planar && (uint64_t)w->most * DENSE_ONE_IN > pixels_of(&w->g);
}

uint64_t ISA(dense_w_floats)(const grad_w *w) {
    return undone(&w->g) ? w->batch * w->out_width * pixels_of(&w->g) : 0;
}

uint64_t ISA(dense_w_sums)(const grad_w *w) {
    return dense_w_place(w, 0, ceil_div(w->tap_rows * w->tap_vectors, TILE_V) * TILE_V);
}

/* The first image tells how many gradients are zero. Only the speed depends on it. */
bool ISA(dense_w_pays)(const grad_w *w) {
    if (!ISA(dense_w_possible)(w) || w->rows == 0) {
        return false;
    }
    const uint64_t count = ISA(grad_count)(&w->source, w->gz);
    return count * DENSE_ONE_IN > w->g.o * pixels_of(&w->g);
}

static void gradient_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const grad_w *w = user;
    const uint64_t pixels = pixels_of(&w->g);
    for (uint32_t b = 0; b < w->out_blocks; b++) {
        const grad_block block = grad_block_of(&w->source, n, b);
        float *to = w->dense + (n * w->out_width + b * LANES) * pixels;
        const float *gz = ISA(grad_dense)(&w->g, &block, to);
        if (w->bias) {
            ISA(grad_plane)(gz, (uint32_t)pixels, w->plane + n * w->out_width + b * LANES);
        }
    }
}

void ISA(dense_w_start)(grad_w *w) {
    const conv_geom *g = &w->g;
    term *t = w->terms;
    for (uint32_t i = 0; i < w->chunk_images; i++) {
        for (uint32_t r = 0; r < g->oh; r++) {
            for (uint32_t q = 0; q < g->ow; q++, t++) {
                t->a = (int32_t)(i * w->out_width * pixels_of(g) + (r * g->ow + q) * LANES);
                t->b = (int32_t)(i * w->map_image + r * g->sh * w->map_row + q * g->sw * LANES);
            }
        }
    }
    w->sums = ISA(dense_w_sums)(w);
    if (undone(g) || w->bias) {
        cpu_pool_run(w->call->pool, w->rows, gradient_image, w);
    }
}

#if defined(CPU_ISA_AVX512)
/* A tile of `outputs` channels and a kernel row of `taps`. */
typedef struct tap_row {
    const grad_w *w;
    uint32_t images;
    const float *gz, *x; /* of the first channel; under the first tap */
    float *sum;          /* the first channel's at the first tap is at sum + step[0] */
    uint64_t step[5];    /* of each tap */
    bool add;
} tap_row;

/* outputs divides 16. */
VEC void row_body(const tap_row *job, const uint32_t outputs, const uint32_t taps) {
    const grad_w *w = job->w;
    const conv_geom *g = &w->g;
    vf acc[8][5], v[5];
    UNROLL
    for (uint32_t i = 0; i < outputs * taps; i++) {
        acc[i / taps][i % taps] = v_zero();
    }
    for (uint32_t r = 0; r < job->images * g->oh; r++) {
        const float *a = job->gz + r / g->oh * w->out_width * pixels_of(g) +
                         (uint64_t)(r % g->oh) * g->ow * LANES;
        const float *b = job->x + r / g->oh * w->map_image + r % g->oh * g->sh * w->map_row;
        UNROLL
        for (uint32_t k = 0; k + 1 < taps; k++, b += LANES) {
            v[k] = v_load(b);
        }
        for (uint32_t q = 0; q < g->ow; q++, a += LANES, b += LANES) {
            v[taps - 1] = v_load(b);
            UNROLL
            for (uint32_t i = 0; i < outputs * taps; i++) {
                acc[i / taps][i % taps] =
                    v_fma(v_set1(a[i / taps]), v[i % taps], acc[i / taps][i % taps]);
            }
            UNROLL
            for (uint32_t k = 0; k + 1 < taps; k++) {
                v[k] = v[k + 1];
            }
        }
    }
    UNROLL
    for (uint32_t i = 0; i < outputs * taps; i++) {
        float *to = job->sum + i / taps * LANES * TILE_V + job->step[i % taps];
        const vf sum = acc[i / taps][i % taps];
        v_store(to, job->add ? v_add(v_load(to), sum) : sum);
    }
}

static __attribute__((noinline)) void row_of_3(const tap_row *job) {
    row_body(job, 8, 3);
}

static __attribute__((noinline)) void row_of_5(const tap_row *job) {
    row_body(job, 4, 5);
}

/* All sums of some images, given the gradients and inputs of the first; false if there is no tile
 * for this piece. */
static bool chunk_rows(const grad_w *w, const tap_piece *p, uint32_t images, const float *gz,
                       const float *x, bool add, float *sum) {
    if (w->g.sw != 1 || (p->cols != 3 && p->cols != 5)) {
        return false;
    }
    tap_row job = {.w = w, .images = images, .sum = sum, .add = add};
    for (uint32_t o = 0; o < w->g.o; o += p->cols == 3 ? 8 : 4) {
        job.gz = gz + o / LANES * pixels_of(&w->g) * LANES + o % LANES;
        for (uint32_t i = 0; i < p->rows; i++) {
            job.x = x + i * w->map_row;
            for (uint32_t k = 0; k < p->cols; k++) {
                job.step[k] = dense_w_place(w, o, i * p->cols + k);
            }
            (p->cols == 3 ? row_of_3 : row_of_5)(&job);
        }
    }
    return true;
}
#else
static bool chunk_rows(const grad_w *w, const tap_piece *p, uint32_t images, const float *gz,
                       const float *x, bool add, float *sum) {
    (void)w, (void)p, (void)images, (void)gz, (void)x, (void)add, (void)sum;
    return false;
}
#endif

/* The sums of a chunk for TILE_P output channels from o on. */
static void chunk_tiles(const grad_w *w, const tap_piece *p, tile *job, const float *x, uint32_t o,
                        float *sum) {
    const uint32_t taps = p->rows * p->cols;
    for (uint32_t i = 0; i < TILE_P; i++) {
        const uint32_t channel = min_u32(o + i, w->g.o - 1);
        job->scalar[i] = (ptrdiff_t)(channel / LANES * pixels_of(&w->g) * LANES + channel % LANES);
    }
    for (uint32_t t = 0; t < taps; t += TILE_V) {
        const uint32_t vectors = min_u32(TILE_V, taps - t);
        for (uint32_t v = 0; v < vectors; v++) {
            job->vector[v] = x + (t + v) / p->cols * w->map_row + (t + v) % p->cols * LANES;
        }
        job->out = sum + dense_w_place(w, o, t);
        tile_run(job, vectors);
    }
}

void ISA(dense_w_shard)(const grad_w *w, const tap_piece *p, uint32_t s, float *sum) {
    const conv_geom *g = &w->g;
    const float *x = w->padded ? w->map : w->call->in[w->call->kernel->n_in - 1];
    const float *gz = undone(g) ? w->dense : w->call->in[0];
    const uint64_t plane = (g->h + 2 * g->ph) * w->map_row;
    tile job = {.term = w->terms};
    for (uint32_t c = 0; c < w->shard_chunks; c++) {
        uint32_t first, end;
        chunk_range(w, s, c, &first, &end);
        if (c > 0 && first == end) {
            break;
        }
        const float *from = x + first * w->map_image + p->block * plane + p->row * w->map_row +
                            (uint64_t)p->col * LANES;
        job.a = gz + first * w->out_width * pixels_of(g);
        job.terms = (end - first) * (uint32_t)pixels_of(g);
        job.add = c > 0;
        if (chunk_rows(w, p, end - first, job.a, from, job.add, sum)) {
            continue;
        }
        for (uint32_t o = 0; o < g->o; o += TILE_P) {
            chunk_tiles(w, p, &job, from, o, sum);
        }
    }
}
