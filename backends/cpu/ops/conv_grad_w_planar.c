/* The lanes are taps: two kernel rows of up to 8, with the ninth column in a vector of its own, or
 * one row of up to 16. They are read from a table of windows: 8 or 16 values for every output
 * column and input row, made per image. The rows of a column follow one another, so that those of a
 * kernel lie at constant places and two of 8 are one vector. A task is a shard.
 *
 * The terms of an output channel are the bits of its pixels; the gradients stay where grad_note
 * leaves them.
 */
#include "conv_grad_w_planar.h"

#include "gradient_bits.h"

#define HALF (LANES / 2)
#define MOST_VECTORS SPARSE_MAX

static void planar_vectors(grad_w_planar *p) {
    const conv_geom *g = &p->w->g;
    const bool column = g->kw == HALF + 1;
    const uint32_t pairs = ceil_div(g->kh, 2);
    if (g->kw <= HALF + 1 && g->kh <= LANES && pairs + column <= MOST_VECTORS) {
        p->height = 2;
        p->vectors = p->pass = pairs;
        p->column = column;
        return;
    }
    p->height = 1;
    p->vectors = g->kh;
    p->pass = piece_of(g->kh, MOST_VECTORS);
}

/* The workspace of a thread, in one piece: for an image of MNIST it just fits a first-level cache
 * of 32 KiB, and no two of its parts may meet in the same sets. So the places, alike for all
 * threads, are a thread's own too. */
static void carve_local(grad_w_planar *p, carver *c) {
    const uint64_t images = p->w->chunk_images;
    p->flow = carve(c, images * p->flow_image * sizeof *p->flow);
    p->windows = carve(c, (images * p->image + LANES) * sizeof *p->windows);
    p->columns = carve(c, (images * p->image / p->lanes + LANES) * sizeof *p->columns);
    p->bits = carve(c, images * p->words * LANES * sizeof *p->bits);
    p->place = carve(c, images * p->words * GRAD_WORD * sizeof *p->place);
}

grad_w_planar ISA(planar_plan)(const grad_w *w, uint32_t threads, carver *c) {
    const conv_geom *g = &w->g;
    grad_w_planar p = {.w = w, .words = grad_words(g), .rows = g->h + 2 * g->ph};
    planar_vectors(&p);
    p.flow_image = (uint64_t)w->most * LANES;
    p.lanes = LANES / p.height;
    p.image = (uint64_t)g->c * g->ow * p.rows * p.lanes;
    p.part_size = (uint64_t)g->o * g->c * (p.vectors + p.column) * LANES;
    carver local = {0};
    carve_local(&p, &local);
    p.local_bytes = local.used + APART * sizeof(float);
    p.part = carve(c, g->shards * p.part_size * sizeof *p.part);
    p.local = carve(c, threads * p.local_bytes);
    return p;
}

/* ---- sums of one output channel ------------------------------------------------------------- */

typedef struct window_sum {
    const uint32_t *bits; /* [words][2][16]; lane 0 is the channel's, as in flow */
    uint32_t words;
    const pixel_place *place;
    const float *flow;
    const float *windows; /* first kernel row */
    const float *columns;
    float *out; /* [vectors][16] */
    bool add;   /* a later chunk: out = out + sum */
} window_sum;

VEC void window_body(const window_sum *job, const uint32_t vectors, const bool column) {
    const window_sum j = *job;
    vf acc[MOST_VECTORS];
    UNROLL
    for (uint32_t i = 0; i < vectors + column; i++) {
        acc[i] = v_zero();
    }
    const pixel_place *place = j.place;
    for (uint32_t i = 0; i < j.words; i++, place += 2 * GRAD_WORD) {
        const uint32_t *half = j.bits + (uint64_t)i * 2 * LANES;
        uint64_t left = half[0] | (uint64_t)half[LANES] << GRAD_WORD;
        for (; left != 0; left &= left - 1) {
            const pixel_place *at = place + __builtin_ctzll(left);
            const vf g = v_set1(j.flow[at->flow]);
            const float *x = j.windows + at->window;
            UNROLL
            for (uint32_t k = 0; k < vectors; k++) {
                acc[k] = v_fma(g, v_load(x + k * LANES), acc[k]);
            }
            if (column) {
                acc[vectors] = v_fma(g, v_load(j.columns + at->window / HALF), acc[vectors]);
            }
        }
    }
    UNROLL
    for (uint32_t i = 0; i < vectors + column; i++) {
        float *out = j.out + i * LANES;
        v_store(out, j.add ? v_add(v_load(out), acc[i]) : acc[i]);
    }
}

#define WINDOW_COMMON(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#if defined(CPU_ISA_AVX512)
#define WINDOW_EACH(X) WINDOW_COMMON(X) X(8) X(9)
#else
#define WINDOW_EACH(X) WINDOW_COMMON(X)
#endif

#define WINDOW_DEFINE(n)                                                                           \
    static __attribute__((noinline)) void window_##n(const window_sum *job) {                      \
        window_body(job, n, false);                                                                \
    }                                                                                              \
    static __attribute__((noinline)) void column_##n(const window_sum *job) {                      \
        window_body(job, n - 1, true);                                                             \
    }
WINDOW_EACH(WINDOW_DEFINE)

typedef void (*window_fn)(const window_sum *job);

static window_fn window_kernel(const grad_w_planar *p, uint32_t vectors) {
#define WINDOW_ENTRY(n) [n] = {window_##n, column_##n},
    static const window_fn kernel[MOST_VECTORS + 1][2] = {WINDOW_EACH(WINDOW_ENTRY)};
    return kernel[vectors + p->column][p->column];
}

/* ---- a shard -------------------------------------------------------------------------------- */

/* `taps` values of a row of x from column `left` on (which wraps when negative), zeros outside. */
static vf row_taps(const grad_w *w, const float *row, uint32_t left, uint32_t taps) {
    if (w->x.step == 1 && left < w->g.w && left + taps <= w->g.w) {
        return v_load_n(row + left, taps);
    }
    float lane[LANES] = {0};
    for (uint32_t k = 0; k < taps; k++) {
        lane[k] = left + k < w->g.w ? row[(uint64_t)(left + k) * w->x.step] : 0.0f;
    }
    return v_load(lane);
}

/* Row r of the padded image, `row` or zeros, in the windows and the columns of its channel. */
static void spread_row(const grad_w_planar *p, const float *row, uint32_t r, float *windows,
                       float *columns) {
    const conv_geom *g = &p->w->g;
    float *to = windows + (uint64_t)r * p->lanes;
    for (uint32_t q = 0; q < g->ow; q++, to += (uint64_t)p->rows * p->lanes) {
        const uint32_t left = q * g->sw - g->pw, taps = min_u32(g->kw, p->lanes);
        v_store_some(to, row == NULL ? v_zero() : row_taps(p->w, row, left, taps), p->lanes);
        if (p->column) {
            const uint32_t last = left + HALF;
            columns[(uint64_t)q * p->rows + r] =
                row != NULL && last < g->w ? row[(uint64_t)last * p->w->x.step] : 0.0f;
        }
    }
}

static void make_windows(const grad_w_planar *p, uint32_t n, float *windows, float *columns) {
    const grad_w *w = p->w;
    const conv_geom *g = &w->g;
    const float *x = (const float *)w->call->in[w->call->kernel->n_in - 1] + n * w->x.image;
    const uint64_t pixels = (uint64_t)g->ow * p->rows;
    for (uint32_t c = 0; c < g->c; c++, windows += pixels * p->lanes, columns += pixels) {
        const float *from = x + map_channel(&w->x, c);
        for (uint32_t r = 0; r < p->rows; r++) {
            const bool inside = r >= g->ph && r - g->ph < g->h;
            const uint64_t row = inside ? (uint64_t)(r - g->ph) * g->w * w->x.step : 0;
            spread_row(p, inside ? from + row : NULL, r, windows, columns);
        }
    }
}

/* The gradients that are noted after those at work: a block of images from `image` on. */
typedef struct block_next {
    uint32_t image, block;
} block_next;

/* Asks for a sixteenth of them: they come from beyond the caches. */
static void ask_ahead_of(const grad_w_planar *p, const block_next *next, uint32_t images,
                         uint32_t sixteenth) {
    const uint64_t vectors = (uint64_t)p->w->g.poh * p->w->g.pow;
    const uint64_t end = vectors * (sixteenth + 1) / 16 * LANES;
    for (uint32_t i = next->image; i < min_u32(next->image + images, p->w->rows); i++) {
        const grad_block b = grad_block_of(&p->w->source, i, next->block);
        for (uint64_t at = vectors * sixteenth / 16 * LANES; at < end; at += LANES) {
            __builtin_prefetch(b.gy + at, 0, 2);
            __builtin_prefetch(b.y + at, 0, 2);
        }
    }
}

/* Chunk sums of a block of output channels, added to part[o][c][vectors + column][16]. */
static void block_sums(const grad_w_planar *p, uint32_t images, uint32_t block,
                       const block_next *next, bool add, float *part) {
    const conv_geom *g = &p->w->g;
    const uint32_t channels = min_u32(LANES, g->o - block * LANES);
    window_sum job = {.words = images * p->words / 2, .place = p->place, .add = add};
    const uint64_t pixels = (uint64_t)g->ow * p->rows;
    job.out = part + (uint64_t)block * LANES * g->c * (p->vectors + p->column) * LANES;
    for (uint32_t j = 0; j < channels; j++) {
        job.bits = p->bits + j;
        job.flow = p->flow + j;
        ask_ahead_of(p, next, images, j);
        for (uint32_t c = 0; c < g->c; c++) {
            job.columns = p->columns + c * pixels;
            for (uint32_t v = 0; v < p->vectors; v += p->pass) {
                const uint32_t vectors = min_u32(p->pass, p->vectors - v);
                job.windows = p->windows + c * pixels * p->lanes + v * LANES;
                window_kernel(p, vectors)(&job);
                job.out += (vectors + p->column) * LANES;
            }
        }
    }
}

static void chunk_sums(const grad_w_planar *p, uint32_t n, uint32_t images, bool add, float *part) {
    const grad_w *w = p->w;
    for (uint32_t i = 0; i < images; i++) {
        make_windows(p, n + i, p->windows + i * p->image, p->columns + i * p->image / p->lanes);
    }
    /* Beyond the last image, for rows that no tap reads. */
    v_store(p->windows + images * p->image, v_zero());
    v_store(p->columns + images * p->image / p->lanes, v_zero());
    for (uint32_t b = 0; b < w->out_blocks; b++) {
        for (uint32_t i = 0; i < images; i++) {
            float *plane = w->plane + (uint64_t)(n + i) * w->out_width + b * LANES;
            ISA(grad_note)
            (&w->source, n + i, b, p->flow + i * p->flow_image,
             p->bits + (uint64_t)i * p->words * LANES, w->bias ? plane : NULL);
        }
        const bool more = b + 1 < w->out_blocks;
        const block_next next = {more ? n : n + images, more ? b + 1 : 0};
        block_sums(p, images, b, &next, add, part);
    }
}

static grad_w_planar planar_local(const grad_w_planar *all, uint32_t thread) {
    grad_w_planar p = *all;
    carver c = {.base = p.local + thread * p.local_bytes};
    carve_local(&p, &c);
    return p;
}

static void place_pixels(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const grad_w_planar p = planar_local(user, task);
    const conv_geom *g = &p.w->g;
    pixel_place *to = p.place;
    for (uint32_t i = 0; i < p.w->chunk_images; i++, to += (uint64_t)p.words * GRAD_WORD) {
        for (uint32_t t = 0; t < g->oh * g->ow; t++) {
            const uint32_t row = t / g->ow, col = t % g->ow;
            to[t].flow =
                (uint32_t)(i * p.flow_image + (uint64_t)ISA(grad_vector)(g, row, col) * LANES);
            to[t].window =
                (uint32_t)(i * p.image + ((uint64_t)col * p.rows + row * g->sh) * p.lanes);
        }
    }
}

static void shard_task(void *user, uint32_t shard, uint32_t thread) {
    const grad_w_planar p = planar_local(user, thread);
    const grad_w *w = p.w;
    float *part = p.part + shard * p.part_size;
    uint32_t first, end;
    shard_range(w->batch, w->g.shards, w->rows, shard, &first, &end);
    if (first == end) {
        memset(part, 0, p.part_size * sizeof *part);
    }
    for (uint32_t n = first; n < end; n += w->chunk_images) {
        chunk_sums(&p, n, min_u32(w->chunk_images, end - n), n > first, part);
    }
}

/* Tap (kh, kw) of a channel's sums. */
static uint32_t tap_lane(const grad_w_planar *p, uint32_t kh, uint32_t kw) {
    if (p->column && kw == HALF) {
        return p->vectors * LANES + kh;
    }
    return kh / p->height * LANES + kh % p->height * HALF + kw;
}

/* Tree over the shards of output channel o. */
static void store_task(void *user, uint32_t o, uint32_t thread) {
    (void)thread;
    const grad_w_planar *p = user;
    const grad_w *w = p->w;
    const conv_geom *g = &w->g;
    const uint32_t vectors = p->vectors + p->column, taps = g->kh * g->kw;
    float *gw = (float *)w->call->out[0] + (uint64_t)o * g->c * taps;
    vi seen = vi_set1(0);
    for (uint32_t c = 0; c < g->c; c++, gw += taps) {
        /* In the place of the first shard's. */
        float *sum = p->part + ((uint64_t)o * g->c + c) * vectors * LANES;
        for (uint32_t i = 0; i < vectors; i++) {
            v_store(sum + i * LANES, ISA(shard_tree)(sum + i * LANES, p->part_size, g->shards));
        }
        for (uint32_t i = 0; i < taps; i++) {
            gw[i] = sum[tap_lane(p, i / g->kw, i % g->kw)];
        }
        for (uint32_t i = 0; i < taps; i += LANES) {
            const uint32_t n = min_u32(LANES, taps - i);
            const vf v = v_snap(v_load_some(gw + i, n), v_set1(cpu_grad_limit(w->call)));
            seen = v_seen(seen, v);
            v_store_some(gw + i, v, n);
        }
    }
    flag_seen(w->call, seen);
}

void ISA(planar_run)(grad_w_planar *p) {
    const grad_w *w = p->w;
    const uint32_t threads = cpu_pool_threads(w->call->pool);
    cpu_pool_run(w->call->pool, threads, place_pixels, p);
    cpu_pool_run(w->call->pool, w->g.shards, shard_task, p);
    cpu_pool_run(w->call->pool, w->g.o, store_task, p);
}
