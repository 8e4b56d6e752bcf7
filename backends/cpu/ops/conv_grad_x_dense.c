/* CONV_GRAD_X and CONV_BLOCK_GRAD_X where most gradients are not zero: the convolution of the
 * gradient, framed by zeros, with the turned kernel, as the contract defines it.
 *
 * A task is a unit of whole images: their gradients are made in frames first, then the units of
 * conv_sums.c follow. Stride 1, NC16.
 */
#include "conv_grad_x_dense.h"

/* The convolution from framed gradients to inputs. */
static conv_geom turned(const conv_geom *g) {
    return (conv_geom){.n = g->n,
                       .c = g->o,
                       .h = g->h + g->kh - 1,
                       .w = g->w + g->kw - 1,
                       .o = g->c,
                       .oh = g->h,
                       .ow = g->w,
                       .kh = g->kh,
                       .kw = g->kw,
                       .sh = 1,
                       .sw = 1,
                       .pool_kh = 1,
                       .pool_kw = 1,
                       .pool_sh = 1,
                       .pool_sw = 1,
                       .poh = g->h,
                       .pow = g->w};
}

bool ISA(dense_fits)(const conv_geom *g) {
    const conv_geom t = turned(g);
    return g->sh == 1 && g->sw == 1 && g->ph < g->kh && g->pw < g->kw && conv_fits(&t);
}

dense ISA(dense_plan)(const conv_geom *g, uint32_t threads, carver *c) {
    const conv_geom t = turned(g);
    dense d = {.f = ISA(forward_plan)(&t, STN_NC16, false, threads, c), .g = *g};
    d.gz = carve(c, threads * (uint64_t)g->oh * g->ow * LANES * sizeof *d.gz);
    d.frames = carve(c, threads * d.f.images * d.f.source.image * sizeof *d.frames);
    return d;
}

/* Weights [o][c][taps] to [group][o][taps from the last to the first][GROUP]. */
static void pack_group(void *user, uint32_t group, uint32_t thread) {
    (void)thread;
    const dense *d = user;
    const conv_geom *g = &d->g;
    const uint32_t taps = g->kh * g->kw;
    const float *w = d->call->in[d->call->kernel->n_in - 1];
    for (uint32_t v = 0; v < TILE_V; v++) {
        const uint32_t first = group * GROUP + v * LANES;
        const uint32_t real = first < g->c ? min_u32(LANES, g->c - first) : 0;
        for (uint32_t o = 0; o < g->o; o++) {
            const float *from = w + ((uint64_t)o * g->c + first) * taps;
            float *to = d->f.packed + ((uint64_t)group * g->o + o) * taps * GROUP + v * LANES;
            turn_rows(from, taps, real, taps, to + (uint64_t)(taps - 1) * GROUP, -(ptrdiff_t)GROUP);
        }
    }
}

static void clear_frames(void *user, uint32_t slot, uint32_t thread) {
    (void)thread;
    const dense *d = user;
    const uint64_t size = d->f.images * d->f.source.image;
    memset(d->frames + slot * size, 0, size * sizeof *d->frames);
}

/* The gradient of image n into its frame. */
static void frame_image(const dense *d, uint32_t n, float *gz, float *frame) {
    const conv_geom *g = &d->g;
    const uint64_t row = (uint64_t)g->ow * LANES, pitch = (uint64_t)d->f.g.w * LANES;
    frame += (g->kh - 1 - g->ph) * pitch + (uint64_t)(g->kw - 1 - g->pw) * LANES;
    for (uint32_t b = 0; b < blocks_of(g->o); b++, frame += d->f.source.plane) {
        const grad_block block = grad_block_of(&d->source, n, b);
        const float *from = ISA(grad_dense)(g, &block, gz);
        for (uint32_t r = 0; r < g->oh; r++) {
            memcpy(frame + r * pitch, from + r * row, row * sizeof *from);
        }
    }
}

/* One block of input channels: `rows` rows of each image from row `top` on. */
static void store_unit(const dense *d, uint32_t block, uint32_t image, uint32_t images,
                       uint32_t top, uint32_t rows, const float *sums) {
    const conv_geom *g = &d->g;
    const uint64_t pixels = (uint64_t)g->h * g->w, first = (uint64_t)top * g->w;
    const vm real = vm_first(min_u32(LANES, g->c - block * LANES));
    vi seen = vi_set1(0);
    for (uint32_t i = 0; i < images; i++) {
        float *to = (float *)d->call->out[0] +
                    (((uint64_t)(image + i) * blocks_of(g->c) + block) * pixels + first) * LANES;
        for (uint32_t p = 0; p < rows * g->w; p++, sums += GROUP, to += LANES) {
            const vf v = v_keep(real, v_snap(v_load(sums), v_set1(STN_LIM_G)));
            seen = v_seen(seen, v);
            v_store(to, v);
        }
    }
    flag_seen(d->call, seen);
}

static void dense_task(void *user, uint32_t unit, uint32_t thread) {
    const dense *d = user;
    const forward *f = &d->f;
    const uint32_t image = unit * f->images, images = min_u32(f->images, d->rows - image);
    float *frames = d->frames + thread * f->images * f->source.image;
    float *sums = f->sums + thread * f->sums_floats;
    for (uint32_t i = 0; i < images; i++) {
        frame_image(d, image + i, d->gz + (uint64_t)thread * d->g.oh * d->g.ow * LANES,
                    frames + i * f->source.image);
    }
    for (uint32_t top = 0; top < d->g.h; top += f->rows) {
        const uint32_t rows = min_u32(f->rows, d->g.h - top);
        const float *source = frames + (uint64_t)top * f->g.w * LANES;
        for (uint32_t group = 0; group < f->groups; group++) {
            ISA(forward_sums)(f, thread, group, source, images, rows, sums, NULL, NULL);
            for (uint32_t v = 0; v < TILE_V && group * TILE_V + v < blocks_of(d->g.c); v++) {
                store_unit(d, group * TILE_V + v, image, images, top, rows, sums + v * LANES);
            }
        }
    }
}

void ISA(dense_run)(dense *d) {
    cpu_pool *pool = d->call->pool;
    ISA(forward_tables)(&d->f);
    cpu_pool_run(pool, d->f.groups, pack_group, d);
    cpu_pool_run(pool, cpu_pool_threads(pool), clear_frames, d);
    cpu_pool_run(pool, ceil_div(d->rows, d->f.images), dense_task, d);
}
