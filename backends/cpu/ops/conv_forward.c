/* CONV and CONV_BLOCK: convolution, bias, snap, max-pool with index and activation in one pass.
 *
 * A task is a unit of conv_sums.c. Padding is made real: a padded unit is copied with its frame of
 * zeros first (terms of zeros change no bit), unless conv_held.h serves. The pool takes the value
 * that it would among finished ones, after bias and snap.
 */
#include "conv_held.h"

#define STREAM_BYTES (16u << 20)

/* Weights [o][k] to [group][k][GROUP]; channels that do not exist are zeros. */
static void pack_group(void *user, uint32_t group, uint32_t thread) {
    (void)thread;
    forward *f = user;
    const uint32_t depth = f->depth;
    for (uint32_t v = 0; v < TILE_V; v++) {
        const uint32_t first = group * GROUP + v * LANES;
        const uint32_t real = first < f->g.o ? min_u32(LANES, f->g.o - first) : 0;
        const float *w = (const float *)f->call->in[1] + (uint64_t)first * depth;
        float *to = f->packed + (uint64_t)group * depth * GROUP + v * LANES;
        turn_rows(w, depth, real, depth, to, GROUP);
    }
}

/* Copies `rows` rows of one image, from padded row `top` on, into its frame of zeros. */
static void copy_padded(const forward *f, const float *image, uint32_t top, uint32_t rows,
                        float *to) {
    const conv_geom *g = &f->g;
    const uint32_t step = f->x.step;
    const uint64_t row = (uint64_t)f->source_cols * step, real = (uint64_t)g->w * step;
    for (uint64_t plane = 0; plane * f->x.plane < f->x.image; plane++) {
        const float *from = image + plane * f->x.plane;
        float *out = to + plane * f->source.plane + (uint64_t)g->pw * step;
        for (uint32_t r = 0; r < rows; r++, out += row) {
            if (top + r >= g->ph && top + r - g->ph < g->h) {
                memcpy(out, from + (top + r - g->ph) * real, real * sizeof *out);
            } else {
                memset(out, 0, real * sizeof *out);
            }
        }
    }
}

/* The columns of padding of all frames; copies never touch them. */
static void clear_frames(void *user, uint32_t slot, uint32_t thread) {
    (void)thread;
    const forward *f = user;
    memset(f->copy + slot * f->copy_floats, 0, f->copy_floats * sizeof *f->copy);
}

/* What the thread will probably read after this unit: of the same image the rows from padded row
 * `below` on, or the images of its next task. */
static ahead ahead_of(const forward *f, uint32_t image, uint32_t images, uint32_t below) {
    const conv_geom *g = &f->g;
    const float *x = f->call->in[0];
    const uint64_t rows = (uint64_t)images * f->conv_rows, row = (uint64_t)g->w * f->x.step;
    ahead a = {0};
    if (f->bands > 1) {
        const uint32_t top = below > g->ph ? min_u32(g->h, below - g->ph) : 0;
        a.next = x + image * f->x.image + top * row;
        a.floats = min_u32(f->rows * g->pool_sh * g->sh, g->h - top) * row;
        a.gap = f->x.plane - a.floats;
        a.pieces = a.floats > 0 ? (uint32_t)(f->x.image / f->x.plane) : 0;
    } else {
        const uint64_t later = (uint64_t)image + images;
        const uint64_t end = cpu_rows(f->call);
        a.next = x + (later < end ? later * f->x.image : 0);
        a.pieces = later < end ? 1 : 0;
        a.floats = min_u32(images, (uint32_t)(end - later)) * f->x.image;
    }
    const uint64_t times =
        f->held ? rows : (rows + 1) / 2 * f->tiles * ceil_div(f->depth, f->chunk);
    a.left = a.floats;
    a.step = a.floats * a.pieces / (times * f->groups) + LANES;
    return a;
}

/* A unit: band `band` of some images. The sums of its first `kept` rows are those of the band
 * before. */
static void forward_unit(const forward *f, uint32_t thread, uint32_t image, uint32_t images,
                         uint32_t band, uint32_t kept) {
    const conv_geom *g = &f->g;
    const uint32_t top = band * f->rows, rows = min_u32(f->rows, g->poh - top);
    const uint32_t conv_rows = conv_rows_of(g, rows) - kept;
    const uint32_t first_row = (top * g->pool_sh + kept) * g->sh;
    const float *x = (const float *)f->call->in[0] + image * f->x.image;
    ahead next = ahead_of(f, image, images, first_row + (conv_rows - 1) * g->sh + g->kh);
    float *sums = f->sums + thread * f->sums_floats;
    if (f->held && ISA(held_unit)(f, sums, image, images, band, &next)) {
        return;
    }
    const float *source = x + (uint64_t)first_row * g->w * f->x.step;
    if (f->padded) {
        float *copy = f->copy + thread * f->copy_floats;
        for (uint32_t i = 0; i < images; i++) {
            copy_padded(f, x + i * f->x.image, first_row, (conv_rows - 1) * g->sh + g->kh,
                        copy + i * f->source.image);
        }
        source = copy;
    }
    if (f->bg.used) {
        ISA(background_find)(f, thread, x, source, images, (conv_rows - 1) * g->sh + g->kh);
    }
    const uint64_t row = (uint64_t)f->conv_cols * GROUP, carry = f->carry * row;
    float *carried = f->carried + thread * f->carried_floats;
    for (uint32_t group = 0; group < f->groups; group++, carried += carry) {
        unit_finish u = ISA(finish_start)(f, group, image, top);
        if (f->direct) {
            ISA(forward_sums)(f, thread, group, source, images, conv_rows, sums, &next, &u);
        } else {
            memcpy(sums, carried, kept * row * sizeof *sums);
            ISA(forward_sums)
            (f, thread, group, source, images, conv_rows, sums + kept * row, &next, NULL);
            ISA(finish_unit)(&u, images, rows, sums);
            memcpy(carried, sums + rows * g->pool_sh * row, carry * sizeof *sums);
        }
        ISA(finish_end)(&u);
    }
}

static void forward_task(void *user, uint32_t task, uint32_t thread) {
    const forward *f = user;
    const uint32_t runs = ceil_div(f->bands, f->run), image = task / runs * f->images;
    const uint32_t images = min_u32(f->images, cpu_rows(f->call) - image);
    const uint32_t first = task % runs * f->run, end = min_u32(f->bands, first + f->run);
    for (uint32_t band = first; band < end; band++) {
        forward_unit(f, thread, image, images, band, band > first ? f->carry : 0);
    }
    if (f->stream) {
        v_stream_end();
    }
}

/* Outputs that no cache would hold until they are read again go past the caches: their lines are
 * not read first. */
static bool streams(const forward *f) {
    const conv_geom *g = &f->g;
    const uint64_t floats = (uint64_t)g->n * blocks_of(g->o) * g->poh * g->pow * LANES;
    return !g->pooled && floats * sizeof(float) >= STREAM_BYTES &&
           (uintptr_t)f->call->out[0] % V_STREAM_ALIGN == 0;
}

static forward plan_of(const stn_kernel *k, uint32_t threads, carver *c) {
    const conv_geom g = conv_geometry(k, &k->in[0], &k->in[1], &k->out[0]);
    return ISA(forward_plan)(&g, k->in[0].layout, true, threads, c);
}

static void run_forward(const cpu_call *call) {
    carver c = {.base = call->workspace};
    forward f = plan_of(call->kernel, cpu_pool_threads(call->pool), &c);
    f.call = call;
    f.stream = streams(&f);
    ISA(forward_tables)(&f);
    ISA(background_start)(&f);
    cpu_pool_run(call->pool, f.groups, pack_group, &f);
    cpu_pool_run(call->pool, f.padded ? cpu_pool_threads(call->pool) : 0, clear_frames, &f);
    cpu_pool_run(call->pool, ceil_div(cpu_rows(call), f.images) * ceil_div(f.bands, f.run),
                 forward_task, &f);
}

bool ISA(conv_forward)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const conv_geom g = conv_geometry(k, &k->in[0], &k->in[1], &k->out[0]);
    if (k->out[0].layout != STN_NC16 || k->in[1].layout != STN_NCHW || !conv_fits(&g) ||
        (k->op == STN_OP_CONV_BLOCK && g.pooled && k->out[1].layout != STN_NC16)) {
        return false;
    }
    carver c = {0};
    (void)plan_of(k, threads, &c);
    impl->workspace = c.used;
    impl->run = run_forward;
    return true;
}
