/* CONV_GRAD_X and CONV_BLOCK_GRAD_X: input gradient over lists of non-zero gradients, lanes are 16
 * input channels. Few channels, and NCHW, go to conv_grad_plane.c.
 *
 * Every non-zero (o, oh, ow) adds its kernel to the input pixels around it. A register tile holds
 * some rows and columns of the input gradient; the kernel of each output channel lies in a frame of
 * zeros wide enough that the place of the item is only an address: lanes that it does not touch
 * add zeros, which changes no bit. Items in order of (o, oh, ow) are the contract's order, because
 * each touches a pixel at most once and the turned kernel ascends with (oh, ow).
 */
#include "conv_grad_x_dense.h"

#define PLANAR_CHANNELS 4u
#define UNIT_BYTES (256u << 10) /* lists of the images that share the weights of a chunk */
#define UNIT_IMAGES 16u
#define COPY_ITEMS 8u /* copied at once; lists have that much room behind them */

typedef struct grad_x {
    conv_geom g;
    grad_source source;
    const cpu_call *call;
    bool cut; /* items are chosen by column too */
    map_addr x;
    uint32_t images, rows;  /* of a unit; real rows of the batch */
    uint32_t slices;        /* blocks of input channels */
    uint32_t chunk, chunks; /* output channels of a chunk, and how many chunks */
    uint32_t tile_rows, tile_vectors, row_groups, segments;
    uint32_t zero_rows, zero_cols; /* shared frames before each kernel and each of its rows */
    uint64_t pitch, frame;         /* floats of a frame's row, and of a frame */
    uint64_t most, list_size, flat;
    uint64_t bytes;
    /* Workspace; all but the frames per thread. */
    float *frames;    /* [slices][O] frames, and a tail of zeros */
    float *gz;        /* one block */
    item *list;       /* [O rounded up][most] of one image */
    uint32_t *count;  /* [O rounded up] */
    uint32_t *starts; /* [O rounded up][OH + 1] */
    item *tiles;      /* [images][flat]: the lists of every tile */
    uint32_t *from;   /* [images][row_groups*segments*chunks + 1] into tiles */
} grad_x;

static uint64_t tiles_of(const grad_x *x) {
    return (uint64_t)x->row_groups * x->segments * x->chunks;
}

/* How far a kernel placed by any item may stick out of a tile, in columns. */
static uint32_t frame_zeros(const grad_x *x) {
    const conv_geom *g = &x->g;
    const int64_t span = (int64_t)x->tile_vectors - 1;
    const int64_t last = (int64_t)(x->segments - 1) * x->tile_vectors;
    int64_t left = (int64_t)(g->ow - 1) * g->sw - g->pw;
    int64_t right = last + span + g->pw - (int64_t)(g->kw - 1);
    left = left < span ? left : span;
    right = right < span ? right : span;
    const int64_t zeros = left > right ? left : right;
    return zeros > 0 ? (uint32_t)zeros : 0;
}

/* Cost of an item of a list in a tile beside its multiply-adds, in multiply-adds of 16 lanes. */
#define ITEM_COST 20u

/* Multiply-adds that `items` items cost in tiles of rows x vectors pixels: each of them is in the
 * lists of all tiles that its kernel touches. */
static uint64_t lists_cost(const conv_geom *g, uint32_t rows, uint32_t vectors, uint64_t items) {
    const uint64_t height = min_u32(ceil_div(g->h, rows) * rows, rows + g->kh - 1);
    const uint64_t width = min_u32(ceil_div(g->w, vectors) * vectors, vectors + g->kw - 1);
    return items * height * width * (rows * vectors + ITEM_COST) / (rows * vectors);
}

static void grad_x_tile(grad_x *x) {
    const conv_geom *g = &x->g;
    uint64_t least = UINT64_MAX;
    for (uint32_t rows = 1; rows <= min_u32(g->h, SPARSE_ROWS); rows++) {
        for (uint32_t most = 1; most <= min_u32(g->w, SPARSE_MAX / rows); most++) {
            const uint32_t vectors = piece_of(g->w, most);
            const uint64_t cost = lists_cost(g, rows, vectors, g->w);
            if (cost < least) {
                least = cost;
                x->tile_rows = rows;
                x->tile_vectors = vectors;
            }
        }
    }
    x->segments = ceil_div(g->w, x->tile_vectors);
    x->row_groups = ceil_div(g->h, x->tile_rows);
    x->cut = x->segments > 1 || g->pw >= g->kw;
    x->zero_rows = x->tile_rows - 1;
    x->zero_cols = frame_zeros(x);
    x->pitch = (uint64_t)(x->zero_cols + g->kw) * LANES;
    x->frame = (x->zero_rows + g->kh) * x->pitch;
}

static grad_x grad_x_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_X;
    grad_x x = {.g = conv_geometry(k, &k->out[0], &k->in[block ? 3 : 1], &k->in[0])};
    const conv_geom *g = &x.g;
    x.x = map_of(k->out[0].layout, g->c, g->h, g->w);
    x.slices = blocks_of(g->c);
    x.chunk = stn_conv_chunk(g->kh, g->kw);
    x.chunks = ceil_div(g->o, x.chunk);
    grad_x_tile(&x);
    x.most = ISA(grad_most)(g);
    const uint64_t touched = (uint64_t)((g->kh - 1) / x.tile_rows + 2) *
                             (x.segments > 1 ? (g->kw - 1) / x.tile_vectors + 2 : 1);
    x.flat = g->o * x.most * touched + COPY_ITEMS;
    x.images = (uint32_t)(UNIT_BYTES / (x.flat * sizeof(item)));
    x.images = max_u32(1, min_u32(x.images, min_u32(UNIT_IMAGES, g->n / (4 * threads))));

    const uint64_t pixels = (uint64_t)g->oh * g->ow, width = blocks_of(g->o) * LANES;
    carver c = {.base = workspace};
    const uint64_t tail = (x.zero_rows + 1) * x.pitch + (x.zero_cols + 1) * LANES;
    x.frames = carve(&c, (x.slices * g->o * x.frame + tail) * sizeof *x.frames);
    x.gz = carve(&c, threads * pixels * LANES * sizeof *x.gz);
    x.list_size = width * x.most + COPY_ITEMS;
    x.list = carve(&c, threads * x.list_size * sizeof *x.list);
    x.count = carve(&c, threads * width * sizeof *x.count);
    x.starts = carve(&c, threads * width * (g->oh + 1) * sizeof *x.starts);
    x.tiles = carve(&c, threads * x.images * x.flat * sizeof *x.tiles);
    x.from = carve(&c, threads * x.images * (tiles_of(&x) + 1) * sizeof *x.from);
    x.bytes = c.used;
    return x;
}

/* Frames of one slice: zeros, then the kernels. */
static void fill_frames(void *user, uint32_t slice, uint32_t thread) {
    (void)thread;
    const grad_x *x = user;
    const conv_geom *g = &x->g;
    const float *w = x->call->in[x->call->kernel->n_in - 1];
    const uint32_t first = slice * LANES, lanes = min_u32(LANES, g->c - first);
    float *frame = x->frames + (uint64_t)slice * g->o * x->frame;
    memset(frame, 0, g->o * x->frame * sizeof *frame);
    for (uint32_t o = 0; o < g->o; o++, frame += x->frame) {
        for (uint32_t i = 0; i < g->kh * g->kw; i++) {
            float *to = frame + (x->zero_rows + i / g->kw) * x->pitch +
                        (uint64_t)(x->zero_cols + i % g->kw) * LANES;
            const float *from = w + ((uint64_t)o * g->c + first) * g->kh * g->kw + i;
            for (uint32_t j = 0; j < lanes; j++) {
                to[j] = from[(uint64_t)j * g->kh * g->kw];
            }
        }
    }
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* Per-thread pieces of the workspace. */
typedef struct grad_x_local {
    float *gz;
    item *list, *tiles;
    uint32_t *count, *starts, *from;
} grad_x_local;

static grad_x_local local_of(const grad_x *x, uint32_t thread) {
    const conv_geom *g = &x->g;
    const uint64_t width = blocks_of(g->o) * LANES;
    return (grad_x_local){
        .gz = x->gz + (uint64_t)thread * g->oh * g->ow * LANES,
        .list = x->list + thread * x->list_size,
        .tiles = x->tiles + thread * x->images * x->flat,
        .count = x->count + thread * width,
        .starts = x->starts + thread * width * (g->oh + 1),
        .from = x->from + thread * x->images * (tiles_of(x) + 1),
    };
}

/* Output rows whose kernels meet the tile rows top .. top + tile_rows - 1: *low .. *end - 1. */
static void meeting_rows(const grad_x *x, uint32_t top, uint32_t *low, uint32_t *end) {
    const conv_geom *g = &x->g;
    const uint32_t bottom = top + x->tile_rows - 1 + g->ph;
    const uint32_t first = top + g->ph < g->kh - 1 ? 0 : top + g->ph - (g->kh - 1);
    *low = ceil_div(first, g->sh);
    *end = max_u32(*low, min_u32(g->oh, bottom / g->sh + 1));
}

/* Copies the items of channel o in rows low .. end-1 that meet the segment; returns the new end. */
static item *copy_cut(const grad_x *x, const grad_x_local *l, uint32_t o, uint32_t segment,
                      uint32_t low, uint32_t end, item *to) {
    const conv_geom *g = &x->g;
    const item *list = l->list + o * x->most;
    const uint32_t *starts = l->starts + (uint64_t)o * (g->oh + 1);
    /* Columns ow*sw from `from` on, `range` of them, reach the segment. */
    const int64_t left = (int64_t)segment * x->tile_vectors + g->pw - (int64_t)(g->kw - 1);
    const int64_t from = left * LANES;
    const uint64_t range = (uint64_t)(g->kw - 1 + x->tile_vectors - 1) * LANES;
    const int64_t shift = (int64_t)((o % x->chunk) * x->frame);
    for (uint32_t r = low; r < end; r++) {
        const int64_t row = shift - (int64_t)(r * g->sh * x->pitch) - from;
        for (uint32_t i = starts[r]; i < starts[r + 1]; i++) {
            *to = list[i];
            to += (uint64_t)(row - list[i].at) <= range ? 1 : 0;
        }
    }
    return to;
}

/* Lists of all tiles of one image, chunk by chunk, from the lists of its channels. */
static void list_tiles(const grad_x *x, const grad_x_local *l, item *tiles, uint32_t *from) {
    const conv_geom *g = &x->g;
    item *to = tiles;
    for (uint32_t r = 0; r < x->row_groups; r++) {
        uint32_t low, end;
        meeting_rows(x, r * x->tile_rows, &low, &end);
        for (uint32_t s = 0; s < x->segments; s++) {
            for (uint32_t o = 0; o < g->o; o++) {
                if (o % x->chunk == 0) {
                    *from++ = (uint32_t)(to - tiles);
                }
                if (x->cut) {
                    to = copy_cut(x, l, o, s, low, end, to);
                    continue;
                }
                const uint32_t *starts = l->starts + (uint64_t)o * (g->oh + 1);
                const item *run = l->list + o * x->most + starts[low];
                const uint32_t items = starts[end] - starts[low];
                for (uint32_t i = 0; i < items; i += COPY_ITEMS) {
                    memcpy(to + i, run + i, COPY_ITEMS * sizeof *to);
                }
                to += items;
            }
        }
    }
    *from = (uint32_t)(to - tiles);
}

static void list_image(const grad_x *x, const grad_x_local *l, uint32_t n, uint32_t slot) {
    const conv_geom *g = &x->g;
    memset(l->count, 0, (uint64_t)blocks_of(g->o) * LANES * sizeof *l->count);
    grad_lists lists = {.most = x->most};
    lists.row_step = -(int32_t)(g->sh * x->pitch);
    lists.col_step = -(int32_t)(g->sw * LANES);
    for (uint32_t b = 0; b < blocks_of(g->o); b++) {
        for (uint32_t j = 0; j < LANES; j++) {
            lists.shift[j] = (int32_t)((b * LANES + j) % x->chunk * x->frame);
        }
        lists.list = l->list + (uint64_t)b * LANES * x->most;
        lists.count = l->count + b * LANES;
        lists.starts = l->starts + (uint64_t)b * LANES * (g->oh + 1);
        ISA(grad_list)(&x->source, n, b, &lists, l->gz, NULL);
    }
    list_tiles(x, l, l->tiles + slot * x->flat, l->from + slot * (tiles_of(x) + 1));
}

/* ---- sums ----------------------------------------------------------------------------------- */

/* One tile of one slice: all images of the unit, one chunk. */
static void sum_tile(const grad_x *x, const grad_x_local *l, float *out, uint32_t images,
                     uint32_t slice, uint32_t chunk, uint32_t index) {
    const conv_geom *g = &x->g;
    const uint32_t top = index / x->segments * x->tile_rows;
    const uint32_t vector = index % x->segments * x->tile_vectors;
    const uint32_t vectors = min_u32(x->tile_vectors, g->w - vector);
    const sparse_fn kernel = ISA(sparse_kernel)(min_u32(x->tile_rows, g->h - top), vectors);
    const uint64_t row = (uint64_t)g->w * LANES;
    sparse job = {
        .p = x->frames + ((uint64_t)slice * g->o + chunk * x->chunk) * x->frame +
             (x->zero_rows + top + g->ph) * x->pitch +
             (uint64_t)(x->zero_cols + vector + g->pw) * LANES,
        .pitch = (ptrdiff_t)x->pitch,
        .out_pitch = (ptrdiff_t)row,
        .add = chunk > 0,
        .last = chunk + 1 == x->chunks,
    };
    for (uint32_t i = 0; i < images; i++) {
        const uint32_t *from =
            l->from + i * (tiles_of(x) + 1) + (uint64_t)index * x->chunks + chunk;
        job.item = l->tiles + i * x->flat + from[0];
        job.items = from[1] - from[0];
        job.out = out + i * x->x.image + top * row + (uint64_t)vector * LANES;
        kernel(&job);
    }
}

static void check_finite(const cpu_call *call, const float *p, uint64_t floats) {
    vi seen = vi_set1(0);
    for (; floats >= LANES; floats -= LANES, p += LANES) {
        seen = v_seen(seen, v_load(p));
    }
    flag_seen(call, v_seen(seen, v_load_n(p, (uint32_t)floats)));
}

static void grad_x_unit(void *user, uint32_t unit, uint32_t thread) {
    const grad_x *x = user;
    const grad_x_local l = local_of(x, thread);
    const uint32_t first = unit * x->images, images = min_u32(x->images, x->rows - first);
    float *gx = (float *)x->call->out[0] + first * x->x.image;
    for (uint32_t i = 0; i < images; i++) {
        list_image(x, &l, first + i, i);
    }
    for (uint32_t s = 0; s < x->slices; s++) {
        for (uint32_t c = 0; c < x->chunks; c++) {
            for (uint32_t t = 0; t < x->row_groups * x->segments; t++) {
                sum_tile(x, &l, gx + s * x->x.plane, images, s, c, t);
            }
        }
    }
    check_finite(x->call, gx, images * x->x.image);
}

static void run_lists(const cpu_call *call) {
    grad_x x = grad_x_plan(call->kernel, cpu_pool_threads(call->pool), call->workspace);
    const conv_geom *g = &x.g;
    x.call = call;
    x.source = ISA(grad_source)(&x.g, call);
    x.rows = min_u32(cpu_rows(call), g->n);
    const uint64_t end = x.slices * g->o * x.frame;
    memset(x.frames + end, 0,
           ((x.zero_rows + 1) * x.pitch + (x.zero_cols + 1) * LANES) * sizeof *x.frames);
    cpu_pool_run(call->pool, x.slices, fill_frames, &x);
    cpu_pool_run(call->pool, ceil_div(x.rows, x.images), grad_x_unit, &x);
}

/* ---- lists or all terms --------------------------------------------------------------------- */

/* What tiles of conv_sums.c compute, and lose, of all terms. */
#define DENSE_PERCENT 115u

/* True if it is faster to take all terms than lists of `items` gradients of an image, both for 16
 * input channels. */
static bool dense_pays(const grad_x *x, uint64_t items) {
    const conv_geom *g = &x->g;
    return (uint64_t)g->h * g->w * g->o * g->kh * g->kw * DENSE_PERCENT / 100 <
           lists_cost(g, x->tile_rows, x->tile_vectors, items);
}

/* The first image tells how many gradients are zero. Only the speed depends on it. */
static void run_grad_x(const cpu_call *call) {
    const uint32_t threads = cpu_pool_threads(call->pool);
    const grad_x x = grad_x_plan(call->kernel, threads, NULL);
    if (ISA(dense_fits)(&x.g) && cpu_rows(call) > 0) {
        carver c = {.base = call->workspace};
        dense d = ISA(dense_plan)(&x.g, threads, &c);
        d.call = call;
        d.source = ISA(grad_source)(&d.g, call);
        d.rows = min_u32(cpu_rows(call), d.g.n);
        if (dense_pays(&x, ISA(dense_count)(&d))) {
            ISA(dense_run)(&d);
            return;
        }
    }
    run_lists(call);
}

bool ISA(conv_grad_x)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_X;
    const conv_geom g = conv_geometry(k, &k->out[0], &k->in[block ? 3 : 1], &k->in[0]);
    if (!conv_fits(&g) || !ISA(grad_readable)(k, &g) || k->in[k->n_in - 1].layout != STN_NCHW) {
        return false;
    }
    if (g.c <= PLANAR_CHANNELS || k->out[0].layout == STN_NCHW) {
        return ISA(conv_grad_plane)(k, threads, impl);
    }
    const grad_x x = grad_x_plan(k, threads, NULL);
    const uint64_t reach = x.chunk * x.frame + (g.oh * g.sh + g.kh) * x.pitch;
    if (reach >= UINT64_C(1) << 30 || x.flat >= UINT64_C(1) << 31) {
        return false;
    }
    carver all = {0};
    if (ISA(dense_fits)(&g)) {
        (void)ISA(dense_plan)(&g, threads, &all);
    }
    impl->workspace = all.used > x.bytes ? all.used : x.bytes;
    impl->run = run_grad_x;
    return true;
}
