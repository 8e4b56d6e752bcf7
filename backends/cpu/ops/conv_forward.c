/* CONV and CONV_BLOCK: convolution, bias, snap, max-pool with index and activation in one pass.
 *
 * A task is a unit of conv_sums.c. Padding is made real: a padded unit is copied with its frame of
 * zeros first (terms of zeros change no bit). The pool takes the value that it would among finished
 * ones, after bias and snap.
 */
#include "conv_forward.h"

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

/* What turns the sums of one block of 16 channels into stored values. */
typedef struct finish {
    vf bias, slope; /* slope 1: no activation, 0: relu */
    vm real;        /* lanes that are channels */
    bool steep;     /* a value below the limit of snapping may become one above it */
    vf taint;
} finish;

VEC vf finish_conv(finish *s, const float *sum) {
    const vf v = v_add(v_load(sum), s->bias);
    s->taint = v_taint(s->taint, v);
    return v;
}

/* Snap, activation, snap. If the slope is at most 1, the second one does what the first would. */
VEC vf finish_act(const finish *s, vf v) {
    v = s->steep ? v_snap(v, v_set1(STN_LIM_X)) : v;
    v = v_select(v_gt(v, v_zero()), v, v_mul(s->slope, v));
    return v_keep(s->real, v_snap(v, v_set1(STN_LIM_X)));
}

/* A window as finish_window takes it, of snapped values. */
static __attribute__((noinline)) vi snapped_window(const finish *s, uint32_t places, uint32_t kw,
                                                   const float *at, uint64_t row) {
    vf best = v_snap(v_add(v_load(at), s->bias), v_set1(STN_LIM_X));
    vi where = vi_set1(0);
    for (uint32_t i = 1; i < places; i++) {
        const float *sum = at + i / kw * row + i % kw * GROUP;
        const vf v = v_snap(v_add(v_load(sum), s->bias), v_set1(STN_LIM_X));
        const vm better = v_gt(v, best);
        best = v_select(better, v, best);
        where = vi_select(better, vi_set1((int32_t)i), where);
    }
    return where;
}

/* The largest value of a window and its place. Snapping changes the order of values only where
 * they are below its limit: all that matters is whether the largest is. */
VEC vf finish_window(finish *s, const uint32_t kh, const uint32_t kw, const float *at, uint64_t row,
                     vi *where) {
    vf best = finish_conv(s, at);
    *where = vi_set1(0);
    for (uint32_t i = 1; i < kh * kw; i++) {
        const vf v = finish_conv(s, at + i / kw * row + i % kw * GROUP);
        const vm better = v_gt(v, best);
        best = v_select(better, v, best);
        *where = vi_select(better, vi_set1((int32_t)i), *where);
    }
    if (vm_bits(vm_and(s->real, v_lt(v_abs(best), v_set1(STN_LIM_X)))) != 0) {
        *where = snapped_window(s, kh * kw, kw, at, row);
    }
    return best;
}

/* One row of values without a pool, past the caches if that pays. */
VEC void finish_plain(finish *s, uint32_t cols, const bool stream, const float *sums, float *y) {
    for (uint32_t q = 0; q < cols; q++) {
        const vf v = finish_act(s, finish_conv(s, sums + (uint64_t)q * GROUP));
        if (stream) {
            v_stream(y + q * LANES, v);
        } else {
            v_store(y + q * LANES, v);
        }
    }
}

/* One row of windows: sums points to the row's first pixel, row and pixel are strides in floats. */
VEC void finish_row(finish *s, const conv_geom *g, const uint32_t kh, const uint32_t kw,
                    const uint32_t sw, const float *sums, uint64_t row, float *y, uint8_t *index) {
    for (uint32_t q = 0; q < g->pow; q++) {
        vi where;
        const vf best = finish_window(s, kh, kw, sums + (uint64_t)q * sw * GROUP, row, &where);
        v_store(y + q * LANES, finish_act(s, best));
        vi_store_u8(index + q * LANES, where);
    }
}

/* Stores `rows` pooled rows of one image from pooled row `top` on, one block of channels. */
static void finish_image(finish *s, const forward *f, const float *sums, uint64_t out, uint32_t top,
                         uint32_t rows) {
    const conv_geom *g = &f->g;
    float *y = f->call->out[0];
    uint8_t *index = g->pooled ? f->call->out[1] : NULL;
    const uint64_t row = (uint64_t)f->conv_cols * GROUP;
    for (uint32_t r = 0; r < rows; r++) {
        const float *from = sums + r * g->pool_sh * row;
        const uint64_t to = out + (uint64_t)(top + r) * g->pow * LANES;
        if (!g->pooled && f->stream) {
            finish_plain(s, g->pow, true, from, y + to);
        } else if (!g->pooled) {
            finish_plain(s, g->pow, false, from, y + to);
        } else if (g->pool_kh == 2 && g->pool_kw == 2 && g->pool_sw == 2) {
            finish_row(s, g, 2, 2, 2, from, row, y + to, index + to);
        } else {
            finish_row(s, g, g->pool_kh, g->pool_kw, g->pool_sw, from, row, y + to, index + to);
        }
    }
}

static void finish_unit(const forward *f, uint32_t block, uint32_t image, uint32_t images,
                        uint32_t top, uint32_t rows, const float *sums) {
    const conv_geom *g = &f->g;
    const stn_kernel *k = f->call->kernel;
    const uint32_t lanes = min_u32(LANES, g->o - block * LANES);
    const float *bias = k->n_in > 2 ? f->call->in[2] : NULL;
    const float slope = g->act ? g->slope : 1.0f;
    finish s = {.bias = bias == NULL ? v_zero() : v_load_n(bias + block * LANES, lanes),
                .slope = v_set1(slope),
                .real = vm_first(lanes),
                .steep = slope > 1.0f || slope < -1.0f,
                .taint = v_zero()};
    const uint64_t plane = (uint64_t)g->poh * g->pow * LANES;
    for (uint32_t i = 0; i < images; i++) {
        const uint64_t out = ((uint64_t)(image + i) * blocks_of(g->o) + block) * plane;
        finish_image(&s, f, sums + (uint64_t)i * f->conv_rows * f->conv_cols * GROUP, out, top,
                     rows);
    }
    flag_seen(f->call, v_seen(vi_set1(0), v_keep(s.real, s.taint)));
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
    const uint64_t tiles = (rows + 1) / 2 * conv_tiles(f->conv_cols);
    a.left = a.floats;
    a.step = a.floats * a.pieces / (tiles * f->groups * ceil_div(f->depth, f->chunk)) + LANES;
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
    float *sums = f->sums + thread * f->sums_floats;
    float *carried = f->carried + thread * f->carried_floats;
    ahead next = ahead_of(f, image, images, first_row + (conv_rows - 1) * g->sh + g->kh);
    for (uint32_t group = 0; group < f->groups; group++, carried += carry) {
        const uint32_t vectors = min_u32(TILE_V, blocks_of(g->o) - group * TILE_V);
        memcpy(sums, carried, kept * row * sizeof *sums);
        ISA(forward_sums)(f, thread, group, source, images, conv_rows, sums + kept * row, &next);
        for (uint32_t v = 0; v < vectors; v++) {
            finish_unit(f, group * TILE_V + v, image, images, top, rows, sums + v * LANES);
        }
        memcpy(carried, sums + rows * g->pool_sh * row, carry * sizeof *sums);
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

/* Outputs that no cache would hold until they are read again are not read before they are written.
 */
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
