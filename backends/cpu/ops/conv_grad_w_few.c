/* Weight gradient of few channels where few gradients are zero: the lanes are output channels, the
 * scalars of a tile TILE_P taps, the terms the pixels of a chunk. A task is a shard.
 */
#include "conv_grad_w_few.h"

static uint64_t pixels_of(const conv_geom *g) {
    return (uint64_t)g->oh * g->ow;
}

grad_w_few ISA(few_plan)(const grad_w *w, uint32_t threads, carver *c) {
    const conv_geom *g = &w->g;
    grad_w_few f = {.w = w, .taps = g->c * g->kh * g->kw};
    f.tap_tiles = ceil_div(f.taps, TILE_P);
    f.groups = ceil_div(w->out_blocks, TILE_V);
    f.pitch = g->w + 2 * g->pw;
    f.plane = (g->h + 2 * g->ph) * f.pitch;
    f.image = g->c * f.plane;
    f.gz_image = w->out_width * pixels_of(g);
    f.part_size = (uint64_t)f.tap_tiles * f.groups * TILE_P * TILE_V * LANES;
    const uint64_t images = (uint64_t)threads * w->chunk_images;
    f.x = carve(c, images * f.image * sizeof *f.x);
    f.gz = carve(c, images * f.gz_image * sizeof *f.gz);
    f.part = carve(c, g->shards * f.part_size * sizeof *f.part);
    f.terms = carve(c, w->chunk_images * pixels_of(g) * sizeof *f.terms);
    return f;
}

/* Twice the multiply-adds of 16 lanes of the tiles of an image, which lose some time to loads,
 * against an item's of a list: half of that is what it costs beside them. */
bool ISA(few_pays)(const grad_w_few *f) {
    const grad_w *w = f->w;
    const conv_geom *g = &w->g;
    const uint64_t items = w->rows > 0 ? ISA(grad_count)(&w->source, w->gz) : 0;
    const uint64_t tiles = (uint64_t)f->tap_tiles * f->groups * TILE_P * TILE_V;
    return tiles * pixels_of(g) * 3 < items * g->c * (5 * g->kh + 20);
}

static void pad_image(const grad_w_few *f, uint32_t n, float *to) {
    const grad_w *w = f->w;
    const conv_geom *g = &w->g;
    const float *x = (const float *)w->call->in[w->call->kernel->n_in - 1] + n * w->x.image;
    memset(to, 0, f->image * sizeof *to);
    for (uint32_t c = 0; c < g->c; c++) {
        const float *from = x + map_channel(&w->x, c);
        for (uint32_t h = 0; h < g->h; h++) {
            float *row = to + c * f->plane + (h + g->ph) * f->pitch + g->pw;
            for (uint32_t i = 0; i < g->w; i++, from += w->x.step) {
                row[i] = *from;
            }
        }
    }
}

/* Gradients of image n, and the image's bias sums. */
static const float *gradients(const grad_w_few *f, uint32_t n, float *to) {
    const grad_w *w = f->w;
    const float *gz = NULL;
    for (uint32_t b = w->out_blocks; b-- > 0;) {
        const grad_block block = grad_block_of(&w->source, n, b);
        gz = ISA(grad_dense)(&w->g, &block, to + b * pixels_of(&w->g) * LANES);
        if (w->bias) {
            ISA(grad_plane)(gz, w->g.oh * w->g.ow, w->plane + n * w->out_width + b * LANES);
        }
    }
    return gz; /* of block 0 */
}

/* Sums of a chunk of one image or more, added to part. */
static void chunk_tiles(const grad_w_few *f, const float *x, const float *gz, uint32_t images,
                        bool add, float *part) {
    const conv_geom *g = &f->w->g;
    tile job = {.a = x, .term = f->terms, .add = add, .out = part};
    job.terms = images * (uint32_t)pixels_of(g);
    for (uint32_t t = 0; t < f->tap_tiles; t++) {
        for (uint32_t i = 0; i < TILE_P; i++) {
            const uint32_t tap = min_u32(t * TILE_P + i, f->taps - 1), row = tap / g->kw;
            job.scalar[i] =
                (ptrdiff_t)(row / g->kh * f->plane + row % g->kh * f->pitch + tap % g->kw);
        }
        for (uint32_t v = 0; v < f->groups; v++, job.out += TILE_P * TILE_V * LANES) {
            const uint32_t vectors = min_u32(TILE_V, f->w->out_blocks - v * TILE_V);
            for (uint32_t i = 0; i < vectors; i++) {
                job.vector[i] = gz + (v * TILE_V + i) * pixels_of(g) * LANES;
            }
            tile_run(&job, vectors);
        }
    }
}

static void shard_task(void *user, uint32_t shard, uint32_t thread) {
    const grad_w_few *f = user;
    const grad_w *w = f->w;
    float *x = f->x + (uint64_t)thread * w->chunk_images * f->image;
    float *scratch = f->gz + (uint64_t)thread * w->chunk_images * f->gz_image;
    float *part = f->part + shard * f->part_size;
    uint32_t first, end;
    shard_range(w->batch, w->g.shards, w->rows, shard, &first, &end);
    if (first == end) {
        memset(part, 0, f->part_size * sizeof *part);
    }
    for (uint32_t n = first; n < end; n += w->chunk_images) {
        const uint32_t images = min_u32(w->chunk_images, end - n);
        const float *gz = NULL;
        for (uint32_t i = images; i-- > 0;) {
            pad_image(f, n + i, x + i * f->image);
            gz = gradients(f, n + i, scratch + i * f->gz_image);
        }
        chunk_tiles(f, x, gz, images, n > first, part);
    }
}

/* Tree over the shards of a block of output channels. */
static void store_task(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const grad_w_few *f = user;
    const grad_w *w = f->w;
    const uint32_t lanes = min_u32(LANES, w->g.o - block * LANES);
    float *gw = (float *)w->call->out[0] + (uint64_t)block * LANES * f->taps;
    const vf limit = v_set1(cpu_grad_limit(w->call));
    vi seen = vi_set1(0);
    for (uint32_t t = 0; t < f->taps; t++) {
        const uint64_t tiles = (uint64_t)t / TILE_P * f->groups + block / TILE_V;
        const uint64_t at = (tiles * TILE_P + t % TILE_P) * TILE_V + block % TILE_V;
        const vf v =
            v_snap(ISA(shard_tree)(f->part + at * LANES, f->part_size, w->g.shards), limit);
        float lane[LANES];
        seen = v_seen(seen, v_keep(vm_first(lanes), v));
        v_store(lane, v);
        for (uint32_t j = 0; j < lanes; j++) {
            gw[(uint64_t)j * f->taps + t] = lane[j];
        }
    }
    flag_seen(w->call, seen);
}

void ISA(few_run)(grad_w_few *f) {
    const grad_w *w = f->w;
    const conv_geom *g = &w->g;
    term *t = f->terms;
    for (uint32_t i = 0; i < w->chunk_images; i++) {
        for (uint32_t r = 0; r < g->oh; r++) {
            for (uint32_t q = 0; q < g->ow; q++, t++) {
                t->a = (int32_t)(i * f->image + r * g->sh * f->pitch + q * g->sw);
                t->b = (int32_t)(i * f->gz_image + (r * g->ow + q) * LANES);
            }
        }
    }
    cpu_pool_run(w->call->pool, g->shards, shard_task, f);
    cpu_pool_run(w->call->pool, w->out_blocks, store_task, f);
}
