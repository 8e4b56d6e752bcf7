/* CONV and CONV_BLOCK: convolution, bias, snap, max-pool with index and activation in one pass.
 *
 * Work is cut into units of some 256 pixels of the convolution: several small images or a band of
 * rows of a large one. A unit keeps its sums [pixel][vectors][16 output channels] in the near
 * cache and runs chunk by chunk, so that the weights of a chunk are used by all its pixels while
 * they are close. Padding is made real: a padded unit is copied with its frame of zeros first
 * (terms of zeros change no bit). Tiles leave out what lies on the background of an image. The pool
 * compares finished values, after bias and snap.
 */
#include "conv_forward.h"

#define UNIT_PIXELS 256u

static uint32_t conv_rows_of(const conv_geom *g, uint32_t pooled_rows) {
    return (pooled_rows - 1) * g->pool_sh + g->pool_kh;
}

/* Chooses the unit so that there are a few for every thread and 64 to 256 pixels in each. */
static void forward_unit(forward *f, uint32_t threads) {
    const conv_geom *g = &f->g;
    f->conv_cols = (g->pow - 1) * g->pool_sw + g->pool_kw;
    const uint32_t per_image = conv_rows_of(g, g->poh) * f->conv_cols;
    uint32_t target = UNIT_PIXELS;
    while (target > 64 && (uint64_t)g->n * per_image < (uint64_t)target * threads * 4) {
        target /= 2;
    }
    f->images = max_u32(1, target / per_image);
    f->images = min_u32(f->images, g->n);
    f->rows = g->poh;
    while (f->images == 1 && f->rows > 1 &&
           conv_rows_of(g, f->rows) * f->conv_cols > target * 3 / 2) {
        f->rows = (f->rows + 1) / 2;
    }
    f->bands = ceil_div(g->poh, f->rows);
    f->conv_rows = conv_rows_of(g, f->rows);
    f->pixels = f->images * f->conv_rows * f->conv_cols;
}

/* True unless the pixels that tiles share cost more than a tile of terms does. */
static bool forward_tiled(const forward *f) {
    const uint32_t rows = f->conv_rows, cols = f->conv_cols;
    const uint64_t covered = (uint64_t)ceil_div(rows, CONV_TILE_H) * CONV_TILE_H *
                             (ceil_div(cols, CONV_TILE_W) * CONV_TILE_W);
    return f->g.sw == 1 && rows >= CONV_TILE_H && cols >= CONV_TILE_W &&
           covered * 100 <= (uint64_t)rows * cols * (100 + CONV_TILE_GAIN);
}

static forward forward_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    forward f = {.g = conv_geometry(k, &k->in[0], &k->in[1], &k->out[0])};
    const conv_geom *g = &f.g;
    forward_unit(&f, threads);
    f.groups = ceil_div(g->o, GROUP);
    f.depth = g->c * g->kh * g->kw;
    f.chunk = stn_conv_chunk(g->kh, g->kw) * g->kh * g->kw;
    f.x = map_of(k->in[0].layout, g->c, g->h, g->w);
    f.padded = g->ph > 0 || g->pw > 0;
    f.unit_rows = (f.conv_rows - 1) * g->sh + g->kh;
    f.source_rows = f.padded ? f.unit_rows : g->h;
    f.source_cols = f.padded ? g->w + 2 * g->pw : g->w;
    f.source = map_of(k->in[0].layout, g->c, f.source_rows, f.source_cols);
    f.tiled = forward_tiled(&f);
    f.sums_floats = (uint64_t)(f.pixels + TILE_P) * GROUP;
    f.copy_floats = f.padded ? f.images * f.source.image : 0;

    carver c = {.base = workspace};
    f.packed = carve(&c, (uint64_t)f.groups * f.depth * GROUP * sizeof(float));
    f.channel = carve(&c, f.tiled ? g->c * sizeof(int32_t) : 0);
    f.terms = carve(&c, f.tiled ? 0 : f.depth * sizeof(term));
    f.pixel = carve(&c, f.tiled ? 0 : f.pixels * sizeof(int32_t));
    f.sums = carve(&c, threads * f.sums_floats * sizeof(float));
    f.copy = carve(&c, threads * f.copy_floats * sizeof(float));
    ISA(background_plan)(&f, threads, &c);
    f.bytes = c.used;
    return f;
}

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
        for (uint32_t t = 0; t < depth; t += LANES) {
            const uint32_t terms = min_u32(LANES, depth - t);
            vf r[LANES];
            for (uint32_t o = 0; o < LANES; o++) {
                r[o] = o < real ? v_load_some(w + (uint64_t)o * depth + t, terms) : v_zero();
            }
            v_transpose(r);
            for (uint32_t i = 0; i < terms; i++) {
                v_store(to + (uint64_t)(t + i) * GROUP, r[i]);
            }
        }
    }
}

static void fill_tables(forward *f) {
    const conv_geom *g = &f->g;
    if (f->tiled) {
        for (uint32_t c = 0; c < g->c; c++) {
            f->channel[c] = (int32_t)map_channel(&f->source, c);
        }
        return;
    }
    uint32_t t = 0;
    for (uint32_t c = 0; c < g->c; c++) {
        for (uint32_t kh = 0; kh < g->kh; kh++) {
            for (uint32_t kw = 0; kw < g->kw; kw++, t++) {
                f->terms[t].a = (int32_t)(map_channel(&f->source, c) +
                                          (kh * f->source_cols + kw) * f->source.step);
                f->terms[t].b = (int32_t)(t * GROUP);
            }
        }
    }
    uint32_t p = 0;
    for (uint32_t n = 0; n < f->images; n++) {
        for (uint32_t r = 0; r < f->conv_rows; r++) {
            for (uint32_t q = 0; q < f->conv_cols; q++) {
                f->pixel[p++] =
                    (int32_t)(n * f->source.image +
                              (r * g->sh * f->source_cols + q * g->sw) * f->source.step);
            }
        }
    }
}

/* Copies `rows` rows of one image, from padded row `top` on, into its zero frame. */
static void copy_padded(const forward *f, const float *image, uint32_t top, uint32_t rows,
                        float *to) {
    const conv_geom *g = &f->g;
    const uint32_t step = f->x.step;
    const uint64_t row = (uint64_t)f->source_cols * step;
    for (uint64_t plane = 0; plane * f->x.plane < f->x.image; plane++) {
        const float *from = image + plane * f->x.plane;
        float *out = to + plane * f->source.plane;
        memset(out, 0, rows * row * sizeof *out);
        for (uint32_t r = 0; r < rows; r++) {
            if (top + r >= g->ph && top + r - g->ph < g->h) {
                memcpy(out + r * row + (uint64_t)g->pw * step,
                       from + (uint64_t)(top + r - g->ph) * g->w * step,
                       (uint64_t)g->w * step * sizeof *out);
            }
        }
    }
}

/* Tiles of conv_tile.h for a unit and a group of output channels. */
typedef struct tiles {
    conv_tile_fn run;
    const float *source, *w; /* w: the weights of the chunk */
    float *sums;
    uint32_t thread, group, conv_rows;
} tiles;

/* Stores the same sums for the pixels of a tile. */
static void fill_tile(const conv_tile *job, const float *sums) {
    for (uint32_t r = job->skip_h; r < CONV_TILE_H; r++) {
        for (uint32_t q = job->skip_w; q < CONV_TILE_W; q++) {
            memcpy(job->out + (ptrdiff_t)r * job->out_pitch + q * GROUP, sums,
                   GROUP * sizeof *sums);
        }
    }
}

/* Leaves out the kernel rows that have nothing but background under all pixels of a tile: `lead`
 * rows of background lie under the first kernel row of the first pixel. True: none is left. */
static bool skip_background(const forward *f, const tiles *t, conv_tile *job, uint32_t lead) {
    const conv_geom *g = &f->g;
    const uint32_t shared = job->row_step == 0 ? 0 : g->sh; /* rows down to the second pixel */
    const uint32_t clear = lead > shared ? min_u32(lead - shared, g->kh) : 0;
    if (clear == g->kh) {
        if (!job->add) {
            fill_tile(job, background_sums(f, t->thread, t->group, f->bg.states - 1));
        }
        return true;
    }
    if (g->c == 1) {
        job->start = background_sums(f, t->thread, t->group, clear);
        job->kh = g->kh - clear;
        job->x += clear * job->pitch;
        job->w = t->w + (uint64_t)clear * g->kw * GROUP;
    }
    return false;
}

/* Sums of one image of the unit over the channels of one chunk. The last tiles reach back over
 * pixels that are done; a single row of pixels (a last band) is the second row of its tile. */
static void image_tiles(const forward *f, const tiles *t, conv_tile *job, uint32_t image) {
    const uint32_t cols = f->conv_cols, step = f->source.step;
    for (uint32_t r = 0; r < t->conv_rows; r += CONV_TILE_H) {
        const uint32_t row = min_u32(r, max_u32(t->conv_rows, CONV_TILE_H) - CONV_TILE_H);
        job->skip_h = t->conv_rows > 1 ? r - row : 1;
        for (uint32_t q = 0; q < cols; q += CONV_TILE_W) {
            const uint32_t col = min_u32(q, cols - CONV_TILE_W);
            job->skip_w = q - col;
            job->x = t->source + image * f->source.image +
                     ((uint64_t)row * f->g.sh * f->source_cols + col) * step;
            job->out = t->sums + ((uint64_t)(image * f->conv_rows + row) * cols + col) * GROUP;
            if (!f->bg.used || !skip_background(f, t, job,
                                                background_lead(f, t->thread, image, row * f->g.sh,
                                                                q / CONV_TILE_W))) {
                t->run(job);
            }
        }
    }
}

/* unit_sums with tiles of conv_tile.h. */
static void unit_tiles(const forward *f, tiles *t, uint32_t vectors, uint32_t images) {
    const conv_geom *g = &f->g;
    const uint32_t taps = g->kh * g->kw, chunk = f->chunk / taps;
    static const float zeros[GROUP];
    conv_tile job = {.pitch = (ptrdiff_t)f->source_cols * f->source.step,
                     .kh = g->kh,
                     .kw = g->kw,
                     .start = zeros};
    if (t->conv_rows > 1) {
        job.row_step = job.pitch * g->sh;
        job.out_pitch = (ptrdiff_t)f->conv_cols * GROUP;
    }
    t->run = ISA(conv_tile_kernel)(vectors, g->kw, f->source.step);
    for (uint32_t c = 0; c < g->c; c += chunk) {
        job.channel = f->channel + c;
        job.channels = min_u32(chunk, g->c - c);
        job.w = t->w = f->packed + ((uint64_t)t->group * f->depth + (uint64_t)c * taps) * GROUP;
        job.add = c > 0;
        for (uint32_t i = 0; i < images; i++) {
            image_tiles(f, t, &job, i);
        }
    }
}

/* All chunks of one group of output channels, for the first `pixels` pixels of the unit. */
static void unit_sums(const forward *f, const float *source, uint32_t group, uint32_t vectors,
                      uint32_t pixels, float *sums) {
    const float *w = f->packed + (uint64_t)group * f->depth * GROUP;
    tile job = {.a = source, .vector = {w}};
    job.vector[TILE_V - 1] = w + (vectors - 1) * LANES;
    for (uint32_t start = 0; start < f->depth; start += f->chunk) {
        job.term = f->terms + start;
        job.terms = min_u32(f->chunk, f->depth - start);
        job.add = start > 0;
        for (uint32_t p = 0; p < pixels; p += TILE_P) {
            for (uint32_t i = 0; i < TILE_P; i++) {
                job.scalar[i] = f->pixel[min_u32(p + i, pixels - 1)];
            }
            job.out = sums + (uint64_t)p * GROUP;
            tile_run(&job, vectors);
        }
    }
}

/* What turns the sums of one block of 16 channels into stored values. */
typedef struct finish {
    vf bias, slope;
    vm real; /* lanes that are channels */
    bool act, leaky;
    vi seen;
} finish;

VEC vf finish_conv(finish *s, const float *sum) {
    const vf v = v_snap(v_add(v_load(sum), s->bias), v_set1(STN_LIM_X));
    s->seen = v_seen(s->seen, v_keep(s->real, v));
    return v;
}

VEC vf finish_act(const finish *s, vf v) {
    if (s->act) {
        const vf low = s->leaky ? v_snap(v_mul(s->slope, v), v_set1(STN_LIM_X)) : v_zero();
        v = v_select(v_gt(v, v_zero()), v, low);
    }
    return v_keep(s->real, v);
}

/* One row of windows: sums points to the row's first pixel, row and pixel are strides in floats. */
VEC void finish_row(finish *s, const conv_geom *g, const uint32_t kh, const uint32_t kw,
                    const uint32_t sw, const float *sums, uint64_t row, float *y, uint8_t *index) {
    for (uint32_t q = 0; q < g->pow; q++) {
        const float *at = sums + (uint64_t)q * sw * GROUP;
        vf best = finish_conv(s, at);
        vi where = vi_set1(0);
        for (uint32_t i = 1; i < kh * kw; i++) {
            const vf v = finish_conv(s, at + i / kw * row + i % kw * GROUP);
            const vm better = v_gt(v, best);
            best = v_select(better, v, best);
            where = vi_select(better, vi_set1((int32_t)i), where);
        }
        v_store(y + q * LANES, finish_act(s, best));
        if (index != NULL) {
            vi_store_u8(index + q * LANES, where);
        }
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
        uint8_t *where = index == NULL ? NULL : index + to;
        if (!g->pooled) {
            finish_row(s, g, 1, 1, 1, from, row, y + to, where);
        } else if (g->pool_kh == 2 && g->pool_kw == 2 && g->pool_sw == 2) {
            finish_row(s, g, 2, 2, 2, from, row, y + to, where);
        } else {
            finish_row(s, g, g->pool_kh, g->pool_kw, g->pool_sw, from, row, y + to, where);
        }
    }
}

static void finish_unit(const forward *f, uint32_t block, uint32_t image, uint32_t images,
                        uint32_t top, uint32_t rows, const float *sums) {
    const conv_geom *g = &f->g;
    const stn_kernel *k = f->call->kernel;
    const uint32_t lanes = min_u32(LANES, g->o - block * LANES);
    const float *bias = k->n_in > 2 ? f->call->in[2] : NULL;
    finish s = {.bias = bias == NULL ? v_zero() : v_load_n(bias + block * LANES, lanes),
                .slope = v_set1(g->slope),
                .real = vm_first(lanes),
                .act = g->act,
                .leaky = g->slope < 0.0f || g->slope > 0.0f,
                .seen = vi_set1(0)};
    const uint64_t plane = (uint64_t)g->poh * g->pow * LANES;
    for (uint32_t i = 0; i < images; i++) {
        const uint64_t out = ((uint64_t)(image + i) * blocks_of(g->o) + block) * plane;
        finish_image(&s, f, sums + (uint64_t)i * f->conv_rows * f->conv_cols * GROUP, out, top,
                     rows);
    }
    flag_seen(f->call, s.seen);
}

static void forward_task(void *user, uint32_t task, uint32_t thread) {
    const forward *f = user;
    const conv_geom *g = &f->g;
    const uint32_t image = task / f->bands * f->images;
    const uint32_t images = min_u32(f->images, cpu_rows(f->call) - image);
    const uint32_t top = task % f->bands * f->rows, rows = min_u32(f->rows, g->poh - top);
    const uint32_t conv_rows = conv_rows_of(g, rows), first_row = top * g->pool_sh * g->sh;
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
    float *sums = f->sums + thread * f->sums_floats;
    const uint32_t pixels =
        images > 1 ? images * f->conv_rows * f->conv_cols : conv_rows * f->conv_cols;
    for (uint32_t group = 0; group < f->groups; group++) {
        const uint32_t vectors = min_u32(TILE_V, blocks_of(g->o) - group * TILE_V);
        if (f->tiled) {
            tiles t = {NULL, source, NULL, sums, thread, group, conv_rows};
            unit_tiles(f, &t, vectors, images);
        } else {
            unit_sums(f, source, group, vectors, pixels, sums);
        }
        for (uint32_t v = 0; v < vectors; v++) {
            finish_unit(f, group * TILE_V + v, image, images, top, rows, sums + v * LANES);
        }
    }
}

static void run_forward(const cpu_call *call) {
    forward f = forward_plan(call->kernel, cpu_pool_threads(call->pool), call->workspace);
    f.call = call;
    fill_tables(&f);
    ISA(background_start)(&f);
    cpu_pool_run(call->pool, f.groups, pack_group, &f);
    cpu_pool_run(call->pool, ceil_div(cpu_rows(call), f.images) * f.bands, forward_task, &f);
}

bool ISA(conv_forward)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const conv_geom g = conv_geometry(k, &k->in[0], &k->in[1], &k->out[0]);
    if (k->out[0].layout != STN_NC16 || k->in[1].layout != STN_NCHW || !conv_fits(&g) ||
        (k->op == STN_OP_CONV_BLOCK && g.pooled && k->out[1].layout != STN_NC16)) {
        return false;
    }
    impl->workspace = forward_plan(k, threads, NULL).bytes;
    impl->run = run_forward;
    return true;
}
