/* CONV_GRAD_W and CONV_BLOCK_GRAD_W: weight (and bias) gradient over the gradients that are not
 * zero.
 *
 * With many channels they are listed. The 16 lanes are input channels and one task is (block of 16
 * input channels, piece of kernel rows and columns): it walks shards, chunks and output channels
 * with its taps in registers and folds the shards by a binary counter, so no shard sums are stored.
 * With few channels conv_grad_w_planar.c has lanes for the taps of a kernel row. Where most
 * gradients are not zero all terms are taken instead (conv_grad_w_dense.c, conv_grad_w_few.c).
 *
 * Order (contract C5): per shard, chunks of G images; inside a chunk images, then pixels ascending.
 */
#include "conv_grad_w_few.h"
#include "conv_grad_w_planar.h"

#define PLANAR_CHANNELS 4u
#define MAX_LEVELS 11u
#define LONG_LIST 128u

static uint64_t list_length(const grad_w *w) {
    return (uint64_t)w->chunk_images * w->most;
}

/* Digits of the binary counter that counts to the last shard. */
static uint32_t levels_of(const grad_w *w) {
    uint32_t levels = 1;
    while (1u << (levels - 1) < w->g.shards) {
        levels++;
    }
    return levels;
}

static void carve_wide(grad_w *w, uint32_t threads, carver *c) {
    const conv_geom *g = &w->g;
    const uint64_t chunks = (uint64_t)g->shards * w->shard_chunks;
    const uint64_t lists = chunks * w->out_width * list_length(w) * sizeof *w->list;
    const bool dense = ISA(dense_w_possible)(w);
    const uint64_t all = dense ? ISA(dense_w_floats)(w) * sizeof *w->dense : 0;
    w->list = carve(c, lists > all ? lists : all);
    w->dense = (float *)(void *)w->list;
    w->terms = carve(c, dense ? (uint64_t)w->chunk_images * g->oh * g->ow * sizeof *w->terms : 0);
    w->count = carve(c, chunks * w->out_width * sizeof *w->count);
    w->map = carve(c, w->padded ? w->batch * w->map_image * sizeof *w->map : 0);
    const uint64_t sums = dense ? ISA(dense_w_sums)(w) : 0;
    w->sums = g->o * w->taps;
    w->part =
        carve(c, threads * levels_of(w) * (w->sums > sums ? w->sums : sums) * sizeof *w->part);
}

static void carve_all(grad_w *w, uint32_t threads, void *workspace) {
    carver c = {.base = workspace};
    w->plane = carve(&c, w->bias ? (uint64_t)w->batch * w->out_width * sizeof *w->plane : 0);
    w->gz = carve(&c, (uint64_t)threads * w->g.oh * w->g.ow * LANES * sizeof *w->gz);
    w->planar_at = c.used;
    if (w->planar) {
        /* One or the other runs. */
        carver few = c;
        (void)ISA(few_plan)(w, threads, &few);
        (void)ISA(planar_plan)(w, threads, &c);
        c.used = c.used > few.used ? c.used : few.used;
    } else {
        carve_wide(w, threads, &c);
    }
    w->bytes = c.used;
}

static grad_w grad_w_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_W;
    const stn_tensor *x = &k->in[block ? 3 : 1];
    grad_w w = {.g = conv_geometry(k, x, &k->out[0], &k->in[0]), .bias = block};
    const conv_geom *g = &w.g;
    w.planar = g->c <= PLANAR_CHANNELS || x->layout == STN_NCHW;
    w.padded = g->ph > 0 || g->pw > 0;
    w.batch = g->n;
    w.shard_length = ceil_div(g->n, g->shards);
    w.chunk_images = min_u32(stn_wgrad_chunk(g->oh, g->ow), w.shard_length);
    w.shard_chunks = ceil_div(w.shard_length, w.chunk_images);
    w.out_blocks = blocks_of(g->o);
    w.out_width = w.out_blocks * LANES;
    w.most = ISA(grad_most)(g);
    w.x = map_of(x->layout, g->c, g->h, g->w);
    w.tap_vectors = piece_of(g->kw, SPARSE_MAX);
    /* Short lists follow each other without waiting, and small pieces' sums stay in the cache. */
    const bool lengthy = (uint64_t)w.shard_length * w.most >= LONG_LIST;
    w.col_pieces = ceil_div(g->kw, w.tap_vectors);
    w.tap_rows = piece_of(g->kh, piece_rows(w.tap_vectors));
    if (!lengthy || blocks_of(g->c) * ceil_div(g->kh, w.tap_rows) * w.col_pieces < threads) {
        w.tap_rows = piece_of(g->kh, SPARSE_MAX / w.tap_vectors);
    }
    w.map_row = (uint64_t)(g->w + 2 * g->pw) * LANES;
    w.map_image = (g->h + 2 * g->ph) * w.map_row * blocks_of(g->c);
    w.taps = (uint64_t)w.tap_rows * w.tap_vectors * LANES;
    w.row_pieces = ceil_div(g->kh, w.tap_rows);
    carve_all(&w, threads, workspace);
    return w;
}

/* Lists of all output channels for the chunk's image `n`, the `slot`-th of its chunk, and the
 * image's bias sums. */
static void list_image(const grad_w *w, uint32_t n, uint32_t slot, item *list, uint32_t *count,
                       float *scratch) {
    const conv_geom *g = &w->g;
    grad_lists lists = {.most = list_length(w)};
    lists.row_step = (int32_t)(g->sh * w->map_row);
    lists.col_step = (int32_t)(g->sw * LANES);
    for (uint32_t j = 0; j < LANES; j++) {
        lists.shift[j] = (int32_t)(slot * w->map_image);
    }
    for (uint32_t b = 0; b < w->out_blocks; b++) {
        float *plane = w->plane + (uint64_t)n * w->out_width + b * LANES;
        lists.list = list + (uint64_t)b * LANES * lists.most;
        lists.count = count + b * LANES;
        ISA(grad_list)(&w->source, n, b, &lists, scratch, w->bias ? plane : NULL);
    }
}

/* ---- many channels -------------------------------------------------------------------------- */

static void list_chunk(void *user, uint32_t chunk, uint32_t thread) {
    const grad_w *w = user;
    uint32_t first, end;
    chunk_range(w, chunk / w->shard_chunks, chunk % w->shard_chunks, &first, &end);
    item *list = w->list + chunk * w->out_width * list_length(w);
    uint32_t *count = w->count + (uint64_t)chunk * w->out_width;
    memset(count, 0, w->out_width * sizeof *count);
    for (uint32_t n = first; n < end; n++) {
        list_image(w, n, n - first, list, count,
                   w->gz + (uint64_t)thread * w->g.oh * w->g.ow * LANES);
    }
}

static void pad_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const grad_w *w = user;
    const conv_geom *g = &w->g;
    const float *x = (const float *)w->call->in[w->call->kernel->n_in - 1] + n * w->x.image;
    float *to = w->map + n * w->map_image;
    const uint64_t plane = (g->h + 2 * g->ph) * w->map_row, row = (uint64_t)g->w * LANES;
    memset(to, 0, w->map_image * sizeof *to);
    for (uint32_t b = 0; b < blocks_of(g->c); b++) {
        for (uint32_t h = 0; h < g->h; h++) {
            memcpy(to + b * plane + (h + g->ph) * w->map_row + g->pw * LANES,
                   x + b * w->x.plane + h * row, row * sizeof *to);
        }
    }
}

static tap_piece piece_at(const grad_w *w, uint32_t task) {
    tap_piece p = {.col = task % w->col_pieces * w->tap_vectors};
    p.row = task / w->col_pieces % w->row_pieces * w->tap_rows;
    p.block = task / w->col_pieces / w->row_pieces;
    p.rows = min_u32(w->tap_rows, w->g.kh - p.row);
    p.cols = min_u32(w->tap_vectors, w->g.kw - p.col);
    p.kernel = ISA(sparse_kernel)(p.rows, p.cols);
    return p;
}

/* Sum of shard s for all output channels into sum[o][taps]. */
static void shard_sum(const grad_w *w, const tap_piece *p, uint32_t s, float *sum) {
    const conv_geom *g = &w->g;
    const float *x = w->padded ? w->map : w->call->in[w->call->kernel->n_in - 1];
    const uint64_t plane = (g->h + 2 * g->ph) * w->map_row;
    sparse job = {.pitch = (ptrdiff_t)w->map_row, .out_pitch = (ptrdiff_t)(p->cols * LANES)};
    for (uint32_t c = 0; c < w->shard_chunks; c++) {
        uint32_t first, end;
        chunk_range(w, s, c, &first, &end);
        if (c > 0 && first == end) {
            break;
        }
        const uint64_t chunk = (uint64_t)s * w->shard_chunks + c;
        job.p = x + first * w->map_image + p->block * plane + p->row * w->map_row +
                (uint64_t)p->col * LANES;
        job.add = c > 0;
        for (uint32_t o = 0; o < g->o; o++) {
            job.item = w->list + (chunk * w->out_width + o) * list_length(w);
            job.items = w->count[chunk * w->out_width + o];
            job.out = sum + o * w->taps;
            p->kernel(&job);
        }
    }
}

/* gw[o][c][kh][kw] of the piece from sum[o][taps]. */
static void store_piece(const grad_w *w, const tap_piece *p, const float *sum) {
    const conv_geom *g = &w->g;
    float *gw = w->call->out[0];
    const uint32_t lanes = min_u32(LANES, g->c - p->block * LANES);
    const vf limit = v_set1(cpu_grad_limit(w->call));
    vi seen = vi_set1(0);
    for (uint32_t o = 0; o < g->o; o++) {
        for (uint32_t i = 0; i < p->rows * p->cols; i++) {
            float lane[LANES];
            const uint64_t at = w->all ? dense_w_place(w, o, i) : o * w->taps + (uint64_t)i * LANES;
            const vf v = v_snap(v_load(sum + at), limit);
            seen = v_seen(seen, v_keep(vm_first(lanes), v));
            v_store(lane, v);
            const uint32_t kh = p->row + i / p->cols, kw = p->col + i % p->cols;
            float *to = gw + (((uint64_t)o * g->c + p->block * LANES) * g->kh + kh) * g->kw + kw;
            for (uint32_t j = 0; j < lanes; j++) {
                to[(uint64_t)j * g->kh * g->kw] = lane[j];
            }
        }
    }
    flag_seen(w->call, seen);
}

/* Adds the sums of the subtrees below to the sum of a shard, from the smallest on. */
static void add_levels(float *const *level, uint32_t levels, uint64_t size, float *sum) {
    for (uint64_t i = 0; i < size; i += LANES) {
        vf v = v_load(sum + i);
        for (uint32_t l = 0; l < levels; l++) {
            v = v_add(v_load(level[l] + i), v);
        }
        v_store(sum + i, v);
    }
}

static void piece_task(void *user, uint32_t task, uint32_t thread) {
    const grad_w *w = user;
    const tap_piece p = piece_at(w, task);
    float *level[MAX_LEVELS], *sum = NULL; /* level[l]: the sum of 2^l shards */
    const uint32_t levels = levels_of(w);
    for (uint32_t l = 0; l < levels; l++) {
        level[l] = w->part + ((uint64_t)thread * levels + l) * w->sums;
    }
    for (uint32_t s = 0; s < w->g.shards; s++) {
        uint32_t full = 0;
        while ((s >> full & 1u) != 0) {
            full++;
        }
        sum = level[full];
        (w->all ? ISA(dense_w_shard) : shard_sum)(w, &p, s, sum);
        if (full > 0) {
            add_levels(level, full, w->sums, sum);
        }
    }
    store_piece(w, &p, sum);
}

/* ---- both ----------------------------------------------------------------------------------- */

static void run_grad_w(const cpu_call *call) {
    grad_w w = grad_w_plan(call->kernel, cpu_pool_threads(call->pool), call->workspace);
    const conv_geom *g = &w.g;
    w.call = call;
    w.source = ISA(grad_source)(&w.g, call);
    w.rows = min_u32(cpu_rows(call), w.batch);
    if (w.planar) {
        const uint32_t threads = cpu_pool_threads(call->pool);
        carver c = {.base = call->workspace, .used = w.planar_at}, same = c;
        grad_w_few f = ISA(few_plan)(&w, threads, &c);
        grad_w_planar p = ISA(planar_plan)(&w, threads, &same);
        w.all = ISA(few_pays)(&f);
        if (w.all) {
            ISA(few_run)(&f);
        } else {
            ISA(planar_run)(&p);
        }
    } else {
        if (w.padded) {
            cpu_pool_run(call->pool, w.rows, pad_image, &w);
        }
        w.all = ISA(dense_w_pays)(&w);
        if (w.all) {
            ISA(dense_w_start)(&w);
        } else {
            cpu_pool_run(call->pool, g->shards * w.shard_chunks, list_chunk, &w);
        }
        cpu_pool_run(call->pool, blocks_of(g->c) * w.row_pieces * w.col_pieces, piece_task, &w);
    }
    if (w.bias) {
        bias_sum b = {.call = call,
                      .plane = w.plane,
                      .out = call->out[1],
                      .width = w.out_width,
                      .channels = g->o,
                      .batch = w.batch,
                      .rows = w.rows,
                      .shards = g->shards};
        cpu_pool_run(call->pool, w.out_blocks, ISA(bias_task), &b);
    }
}

bool ISA(conv_grad_w)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_W;
    const conv_geom g = conv_geometry(k, &k->in[block ? 3 : 1], &k->out[0], &k->in[0]);
    if (!conv_fits(&g) || !ISA(grad_readable)(k, &g) || k->out[0].layout != STN_NCHW) {
        return false;
    }
    const grad_w w = grad_w_plan(k, threads, NULL);
    const uint64_t row = w.planar ? (uint64_t)g.ow * LANES * g.c : w.map_row * blocks_of(g.c);
    if ((w.planar && g.kw > LANES) ||
        (w.chunk_images + 1u) * (g.h + 2u * g.ph) * row >= UINT64_C(1) << 30) {
        return false;
    }
    impl->workspace = w.bytes;
    impl->run = run_grad_w;
    return true;
}
