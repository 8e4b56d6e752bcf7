/* The sums of a convolution, unit by unit: what conv_forward.c and conv_grad_x_dense.c share.
 *
 * Work is cut into units of some 1024 pixels of the convolution: several small images or a band of
 * rows of a large one. A unit keeps its sums [pixel][vectors][16 output channels] in the
 * second-level cache and runs chunk by chunk, so that the weights of a chunk are used by all its
 * pixels while they are close. Where windows of the pool overlap, the rows that two bands share are
 * kept for the next one, if there are enough images to give a task all bands of one. Tiles leave
 * out what lies on the background of an image.
 */
#include "conv_held.h"

#define UNIT_PIXELS 1024u
#define HELD_UNIT_PIXELS 16384u /* of conv_held.h, which keeps no sums */
#define PART_BYTES (28u << 10)

/* Chooses the unit so that there are a few for every thread and at least 64 pixels in each. */
static void forward_unit(forward *f, uint32_t threads) {
    const conv_geom *g = &f->g;
    const uint32_t per_image = conv_rows_of(g, g->poh) * f->conv_cols;
    uint32_t target = f->held ? HELD_UNIT_PIXELS : UNIT_PIXELS;
    while (target > 64 && (uint64_t)g->n * per_image < (uint64_t)target * threads * 4) {
        target /= 2;
    }
    f->images = max_u32(1, (target + per_image / 2) / per_image);
    f->images = min_u32(f->images, g->n);
    f->rows = g->poh;
    f->carry = g->n >= 4 * threads && g->pool_kh > g->pool_sh ? g->pool_kh - g->pool_sh : 0;
    while (f->images == 1 && f->rows > 1 &&
           (conv_rows_of(g, f->rows) - f->carry) * f->conv_cols > target * 3 / 2) {
        f->rows = (f->rows + 1) / 2;
    }
    f->bands = ceil_div(g->poh, f->rows);
    f->run = f->carry > 0 ? f->bands : 1;
    f->conv_rows = conv_rows_of(g, f->rows);
    f->pixels = f->images * f->conv_rows * f->conv_cols;
}

/* True if tiles of conv_tile.h serve: a single row would be computed twice. */
static bool forward_tiled(const forward *f) {
    const uint32_t rows = f->bands > 1 ? f->conv_rows - f->carry : f->images * f->conv_rows;
    const uint32_t cols = f->conv_cols, widest = conv_tiles(cols) * CONV_TILE_MOST;
    return f->g.sw == 1 && rows > 1 && cols >= CONV_TILE_LEAST &&
           cols * 100u >= widest * CONV_TILE_FULL;
}

/* Tiles in a row, such that they can be finished one by one if there is a way. */
static void plan_tiles(forward *f) {
    const conv_geom *g = &f->g;
    const bool halves = g->pool_kh == 2 && g->pool_kw == 2 && g->pool_sh == 2 && g->pool_sw == 2;
    f->tiled = forward_tiled(f);
    f->tiles = conv_tiles(f->conv_cols);
    if (halves && f->conv_cols % CONV_TILE_EVEN == 0) {
        f->tiles = f->conv_cols / CONV_TILE_EVEN;
        f->direct = f->tiled;
    } else {
        f->direct = f->tiled && !g->pooled;
    }
}

/* A chunk has some 50 KB of weights, which every tile would read from the second-level cache: all
 * tiles of a unit take a part of its channels first, then the next. */
static uint32_t part_of(const forward *f) {
    const uint32_t taps = f->g.kh * f->g.kw, chunk = min_u32(f->g.c, f->chunk / taps);
    const uint32_t fits = max_u32(1, PART_BYTES / (taps * GROUP * (uint32_t)sizeof(float)));
    return f->bg.used ? chunk : ceil_div(chunk, ceil_div(chunk, fits));
}

forward ISA(forward_plan)(const conv_geom *geom, uint32_t layout, bool find, uint32_t threads,
                          carver *c) {
    forward f = {.g = *geom};
    const conv_geom *g = &f.g;
    f.x = map_of(layout, g->c, g->h, g->w);
    f.conv_cols = (g->pow - 1) * g->pool_sw + g->pool_kw;
    f.held = find && held_serves(&f);
    forward_unit(&f, threads);
    f.groups = ceil_div(g->o, GROUP);
    f.depth = g->c * g->kh * g->kw;
    f.chunk = stn_conv_chunk(g->kh, g->kw) * g->kh * g->kw;
    f.padded = g->ph > 0 || g->pw > 0;
    f.unit_rows = (f.conv_rows - 1) * g->sh + g->kh;
    f.source_rows = f.padded ? f.unit_rows : g->h;
    f.source_cols = f.padded ? g->w + 2 * g->pw : g->w;
    f.source = map_of(layout, g->c, f.source_rows, f.source_cols);
    plan_tiles(&f);
    f.held = f.held && f.direct;
    f.sums_floats = (f.held ? held_floats(&f) : (uint64_t)(f.pixels + TILE_P) * GROUP) + APART;
    f.carried_floats = (uint64_t)f.groups * f.carry * f.conv_cols * GROUP;
    f.copy_floats = f.padded ? f.images * f.source.image : 0;

    f.packed = carve(c, (uint64_t)f.groups * f.depth * GROUP * sizeof(float));
    f.line = carve(c, f.tiled ? (uint64_t)g->c * g->kh * sizeof(int32_t) : 0);
    f.terms = carve(c, f.tiled ? 0 : f.depth * sizeof(term));
    f.pixel = carve(c, f.tiled ? 0 : f.pixels * sizeof(int32_t));
    f.sums = carve(c, threads * f.sums_floats * sizeof(float));
    f.partial = carve(c, f.tiled ? threads * f.sums_floats * sizeof(float) : 0);
    f.carried = carve(c, threads * f.carried_floats * sizeof(float));
    f.copy = carve(c, threads * f.copy_floats * sizeof(float));
    if (find && !f.held) {
        ISA(background_plan)(&f, threads, c);
    }
    f.part = part_of(&f);
    return f;
}

void ISA(forward_tables)(const forward *f) {
    const conv_geom *g = &f->g;
    if (f->tiled) {
        for (uint32_t i = 0; i < g->c * g->kh; i++) {
            f->line[i] = (int32_t)(map_channel(&f->source, i / g->kh) +
                                   (uint64_t)(i % g->kh) * f->source_cols * f->source.step);
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

/* Tiles of conv_tile.h for a unit and a group of output channels. */
typedef struct tiles {
    const conv_tile_fn *run;      /* by width */
    const float *source, *w;      /* w: the weights of the chunk */
    const float *start, *add;     /* [rows][conv_cols][GROUP], or NULL: all alike, nothing */
    float *out;                   /* [rows][conv_cols][GROUP], or of a tile that is finished */
    uint32_t thread, group, rows; /* rows: of pixels, of all images */
    ahead *next;
    unit_finish *finish; /* of the last chunk's tiles, or NULL */
} tiles;

/* Sums of a tile, and its end if this is the last chunk. */
static void run_tile(const tiles *t, conv_tile *job, const tile_place *at) {
    unit_finish *u = t->finish;
    const conv_tile_fn run = t->run[at->width - CONV_TILE_LEAST];
    job->end = u != NULL && u->swift ? u->of : NULL;
    if (job->end != NULL) {
        job->place[0] = finish_place(u, at, 0);
        job->place[1] = finish_place(u, at, 1);
        if (run(job)) {
            return;
        }
        job->end = NULL;
    }
    run(job);
    if (u != NULL) {
        ISA(finish_tile)(u, at, t->out);
    }
}

/* Stores the same sums for the pixels of a tile. */
static void fill_tile(const conv_tile *job, uint32_t width, const float *sums) {
    for (uint32_t r = 0; r < job->rows; r++) {
        for (uint32_t q = 0; q < width; q++) {
            memcpy(job->out + (ptrdiff_t)r * job->out_pitch + q * GROUP, sums,
                   GROUP * sizeof *sums);
        }
    }
}

/* Leaves out the kernel rows that have nothing but background under all pixels of a tile: `lead`
 * of them lie under both of its rows. True: none is left. */
static bool skip_background(const forward *f, const tiles *t, conv_tile *job, uint32_t lead) {
    const conv_geom *g = &f->g;
    const uint32_t clear = min_u32(lead, g->kh);
    if (clear == g->kh) {
        return true;
    }
    if (g->c == 1) {
        job->start = background_sums(f, t->thread, t->group, clear);
        job->lines = g->kh - clear;
        job->line = f->line + clear;
        job->w = t->w + (uint64_t)clear * g->kw * GROUP;
    }
    return false;
}

/* A tile of nothing but background. */
static void background_tile(const forward *f, const tiles *t, const conv_tile *job,
                            const tile_place *at) {
    const float *sums = background_sums(f, t->thread, t->group, f->bg.states - 1);
    if (t->finish != NULL && t->finish->swift) {
        conv_tile all = *job;
        all.start = sums;
        all.add = NULL;
        all.lines = 0;
        run_tile(t, &all, at);
    } else if (job->add == NULL || t->finish != NULL) {
        fill_tile(job, at->width, sums);
        if (t->finish != NULL) {
            ISA(finish_tile)(t->finish, at, t->out);
        }
    }
}

/* Sums of two rows of pixels over the channels of one chunk, from row `row` of the unit on. The two
 * may belong to different images. */
static void row_tiles(const forward *f, const tiles *t, conv_tile *job, uint32_t row) {
    const uint32_t cols = f->conv_cols;
    const ptrdiff_t pitch = (ptrdiff_t)cols * GROUP;
    tile_place at = {.rows = min_u32(2, t->rows - row)};
    uint32_t line[2];
    const float *x[2];
    for (uint32_t i = 0; i < 2; i++) {
        const uint32_t r = min_u32(row + i, t->rows - 1);
        at.image[i] = r / f->conv_rows;
        at.line[i] = r % f->conv_rows;
        line[i] = at.line[i] * f->g.sh;
        x[i] = t->source + at.image[i] * f->source.image +
               (uint64_t)line[i] * f->source_cols * f->source.step;
    }
    if (t->finish != NULL) {
        ISA(finish_lines)(t->finish, &at);
    }
    job->rows = at.rows;
    job->row_step = x[1] - x[0];
    job->start_step = t->start != NULL ? GROUP : 0;
    job->start_pitch = t->start != NULL && job->rows > 1 ? pitch : 0;
    job->add_pitch = job->rows > 1 ? pitch : 0;
    job->out_pitch = t->finish != NULL ? (ptrdiff_t)TILE_PITCH : pitch;
    const uint32_t *lead[2] = {background_row(f, t->thread, at.image[0], line[0]),
                               background_row(f, t->thread, at.image[1], line[1])};
    const uint32_t narrow = cols / f->tiles, wider = cols % f->tiles;
    for (uint32_t i = 0; i < f->tiles; i++, at.col += at.width) {
        at.width = narrow + (i < wider);
        const uint64_t place = ((uint64_t)row * cols + at.col) * GROUP;
        job->x = x[0] + (uint64_t)at.col * f->source.step;
        job->out = t->finish != NULL ? t->out : t->out + place;
        job->start = t->start != NULL ? t->start + place : job->start;
        job->add = t->add != NULL ? t->add + place : NULL;
        if (f->bg.used && skip_background(f, t, job, min_u32(lead[0][i], lead[1][i]))) {
            background_tile(f, t, job, &at);
            continue;
        }
        if (t->next != NULL) {
            ask_ahead(t->next);
        }
        run_tile(t, job, &at);
    }
}

/* unit_sums with tiles of conv_tile.h. */
static void unit_tiles(const forward *f, tiles *t, uint32_t vectors, float *sums, unit_finish *u) {
    const conv_geom *g = &f->g;
    const uint32_t taps = g->kh * g->kw, chunk = f->chunk / taps;
    static const float zeros[GROUP];
    _Alignas(64) float close[2 * TILE_PITCH];
    float *partial = f->partial + t->thread * f->sums_floats;
    t->run = ISA(conv_tile_kernels)(vectors, g->kw, f->source.step);
    for (uint32_t c = 0, end, next; c < g->c; c = next) {
        end = min_u32(g->c, (c / chunk + 1) * chunk);
        next = min_u32(end, c + f->part);
        conv_tile job = {.kw = g->kw, .start = zeros, .pooled = g->pooled, .stream = f->stream};
        job.line = f->line + (uint64_t)c * g->kh;
        job.lines = (next - c) * g->kh;
        job.w = t->w = f->packed + ((uint64_t)t->group * f->depth + (uint64_t)c * taps) * GROUP;
        t->start = c % chunk > 0 ? partial : NULL;
        t->add = next == end && c >= chunk ? sums : NULL;
        t->finish = next == g->c ? u : NULL;
        t->out = next < end ? partial : t->finish != NULL ? close : sums;
        for (uint32_t row = 0; row < t->rows; row += 2) {
            row_tiles(f, t, &job, row);
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

void ISA(forward_sums)(const forward *f, uint32_t thread, uint32_t group, const float *source,
                       uint32_t images, uint32_t conv_rows, float *sums, ahead *next,
                       unit_finish *u) {
    const uint32_t vectors = min_u32(TILE_V, blocks_of(f->g.o) - group * TILE_V);
    const uint32_t rows = images > 1 ? images * f->conv_rows : conv_rows;
    if (f->tiled) {
        tiles t = {.source = source, .thread = thread, .group = group, .rows = rows, .next = next};
        unit_tiles(f, &t, vectors, sums, u);
    } else {
        unit_sums(f, source, group, vectors, rows * f->conv_cols, sums);
    }
}
