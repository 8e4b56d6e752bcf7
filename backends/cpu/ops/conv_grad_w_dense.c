/* Weight gradient of many channels over all terms: tiles of TILE_P output channels and TILE_V taps,
 * the lanes are input channels, the terms are the pixels of a chunk.
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
    uint64_t count = 0;
    for (uint32_t b = 0; b < w->out_blocks; b++) {
        const grad_block block = grad_block_of(&w->source, 0, b);
        count += ISA(grad_count)(&w->g, &block, w->gz);
    }
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
        for (uint32_t o = 0; o < g->o; o += TILE_P) {
            chunk_tiles(w, p, &job, from, o, sum);
        }
    }
}
