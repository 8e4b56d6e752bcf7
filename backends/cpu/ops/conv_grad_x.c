/* CONV_GRAD_X and CONV_BLOCK_GRAD_X: input gradient over lists of non-zero gradients, lanes are 16
 * input channels. Few channels, and NCHW, go to conv_grad_plane.c unless a stride leaves it little
 * to do for each gradient, narrow maps under high kernels to conv_grad_x_rows.c, and where too few
 * gradients are zero conv_grad_x_dense.c takes all terms.
 *
 * Every non-zero (o, oh, ow) adds its kernel to the input pixels around it (scatter.h). Items in
 * order of (o, oh, ow) are the contract's order, because each touches a pixel at most once and the
 * turned kernel ascends with (oh, ow).
 *
 * The map is cut into bands of rows whose sums fit a cache. Items that reach out of a band add only
 * the kernel rows that lie in it. Columns of padding have sums too, and so have rows of padding if
 * the weights of a kernel stay in registers: to leave them out would cost more.
 */
#include "conv_grad_x_dense.h"
#include "conv_grad_x_rows.h"
#include "scatter.h"

#define PLANAR_CHANNELS 4u
#define UNIT_BYTES (256u << 10) /* lists of the images that share the weights of a chunk */
#define UNIT_IMAGES 16u
#define BAND_BYTES (40u << 10) /* sums of a band: from the second cache they would take longer */

typedef struct grad_x {
    conv_geom g;
    grad_source source;
    const cpu_call *call;
    map_addr x, out;        /* the gradient in NC16, and as the caller wants it */
    uint32_t images, rows;  /* of a unit; real rows of the batch */
    uint32_t slices;        /* blocks of input channels */
    uint32_t chunk, chunks; /* output channels of a chunk, and how many chunks */
    uint32_t band_rows, bands;
    uint64_t pitch, area;            /* floats of a row of sums, and of a band */
    uint64_t width, most, list_size; /* O rounded up; items of a channel and of an image */
    uint64_t bytes;
    /* Workspace; all but the weights per thread. */
    float *w;         /* [slices][O][KH][KW][16] */
    float *gz;        /* one block */
    float *sums;      /* of a band */
    item *list;       /* [images][width][most] */
    uint32_t *count;  /* [width] */
    uint32_t *starts; /* [images][width][OH + 1] */
    float *turned;    /* [images][x.image], if the caller wants planes */
} grad_x;

static void grad_x_bands(grad_x *x) {
    const conv_geom *g = &x->g;
    x->pitch = (uint64_t)(g->w + 2 * g->pw) * LANES;
    const uint32_t fit = (uint32_t)(BAND_BYTES / (x->pitch * sizeof(float)));
    /* Bands lower than two kernels would cut most items. */
    const uint32_t most = max_u32(fit, 2 * g->kh);
    x->band_rows = g->h + 2 * g->ph <= most ? g->h : piece_of(g->h, min_u32(g->h, most));
    x->bands = ceil_div(g->h, x->band_rows);
    x->area = (x->band_rows + 2 * g->ph) * x->pitch;
}

static grad_x grad_x_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_X;
    grad_x x = {.g = conv_geometry(k, &k->out[0], &k->in[block ? 3 : 1], &k->in[0])};
    const conv_geom *g = &x.g;
    x.x = map_of(STN_NC16, g->c, g->h, g->w);
    x.out = map_of(k->out[0].layout, g->c, g->h, g->w);
    x.slices = blocks_of(g->c);
    x.chunk = stn_conv_chunk(g->kh, g->kw);
    x.chunks = ceil_div(g->o, x.chunk);
    grad_x_bands(&x);
    x.width = (uint64_t)blocks_of(g->o) * LANES;
    x.most = ISA(grad_most)(g);
    x.list_size = x.width * x.most;
    x.images = (uint32_t)(UNIT_BYTES / (x.list_size * sizeof(item)));
    x.images = max_u32(1, min_u32(x.images, min_u32(UNIT_IMAGES, g->n / (4 * threads))));

    const uint64_t pixels = (uint64_t)g->oh * g->ow, images = (uint64_t)threads * x.images;
    carver c = {.base = workspace};
    x.w = carve(&c, (uint64_t)x.slices * g->o * g->kh * g->kw * LANES * sizeof *x.w);
    x.gz = carve(&c, threads * pixels * LANES * sizeof *x.gz);
    x.sums = carve(&c, threads * (x.area + APART) * sizeof *x.sums);
    x.list = carve(&c, images * x.list_size * sizeof *x.list);
    x.count = carve(&c, threads * x.width * sizeof *x.count);
    x.starts = carve(&c, images * x.width * (g->oh + 1) * sizeof *x.starts);
    x.turned = carve(&c, x.out.step == 1 ? images * x.x.image * sizeof *x.turned : 0);
    x.bytes = c.used;
    return x;
}

/* Weights of one slice. */
static void turn_weights(void *user, uint32_t slice, uint32_t thread) {
    (void)thread;
    const grad_x *x = user;
    const conv_geom *g = &x->g;
    const uint32_t taps = g->kh * g->kw, first = slice * LANES;
    const float *w = x->call->in[x->call->kernel->n_in - 1];
    float *to = x->w + (uint64_t)slice * g->o * taps * LANES;
    for (uint32_t o = 0; o < g->o; o++, to += (uint64_t)taps * LANES) {
        const float *from = w + ((uint64_t)o * g->c + first) * taps;
        turn_rows(from, taps, min_u32(LANES, g->c - first), taps, to, LANES);
    }
}

/* The workspace of one thread. */
static grad_x local_of(const grad_x *all, uint32_t thread) {
    grad_x x = *all;
    x.gz += (uint64_t)thread * x.g.oh * x.g.ow * LANES;
    x.sums += thread * (x.area + APART);
    x.list += thread * x.images * x.list_size;
    x.count += thread * x.width;
    x.starts += thread * x.images * x.width * (x.g.oh + 1);
    x.turned += thread * x.images * x.x.image;
    return x;
}

static void list_image(const grad_x *x, uint32_t n, uint32_t slot) {
    const conv_geom *g = &x->g;
    memset(x->count, 0, x->width * sizeof *x->count);
    grad_lists lists = {.most = x->most};
    lists.row_step = (int32_t)(g->sh * x->pitch);
    lists.col_step = (int32_t)(g->sw * LANES);
    for (uint32_t b = 0; b < blocks_of(g->o); b++) {
        const uint64_t channel = slot * x->width + b * LANES;
        lists.list = x->list + channel * x->most;
        lists.count = x->count + b * LANES;
        lists.starts = x->starts + channel * (g->oh + 1);
        ISA(grad_list)(&x->source, n, b, &lists, x->gz, NULL);
    }
}

/* Moves the sums of a chunk into `rows` rows of the gradient. */
VEC void store_rows(const grad_x *x, const float *from, float *out, uint32_t rows, bool add,
                    bool last) {
    const vf limit = v_set1(last ? STN_LIM_G : 0.0f);
    const uint64_t row = (uint64_t)x->g.w * LANES;
    vi seen = vi_set1(0);
    for (uint32_t r = 0; r < rows; r++, from += x->pitch, out += row) {
        for (uint64_t i = 0; i < row; i += LANES) {
            const vf sum = v_load(from + i);
            const vf v = v_snap(add ? v_add(v_load(out + i), sum) : sum, limit);
            seen = v_seen(seen, v);
            v_store(out + i, v);
        }
    }
    if (last) {
        flag_seen(x->call, seen);
    }
}

/* Adds the items of one output channel to the sums of padded rows top .. bottom - 1. */
static void sum_channel(const grad_x *x, const item *list, const uint32_t *starts, const float *w,
                        uint32_t top, uint32_t bottom) {
    const conv_geom *g = &x->g;
    const uint32_t low = top < g->kh ? 0 : ceil_div(top - g->kh + 1, g->sh);
    const uint32_t end = min_u32(g->oh, (bottom - 1) / g->sh + 1);
    scatter job = {.kw = g->kw, .pitch = (ptrdiff_t)x->pitch};
    for (uint32_t r = low, next; r < end; r = next) {
        const uint32_t at = r * g->sh, from = top > at ? top - at : 0;
        const uint32_t to = min_u32(g->kh, bottom - at);
        next = r + 1;
        if (from == 0 && to == g->kh) {
            next = max_u32(next, min_u32(end, (bottom - g->kh) / g->sh + 1));
        }
        job.item = list + starts[r];
        job.end = list + starts[next];
        job.w = w + (uint64_t)from * g->kw * LANES;
        job.kh = to - from;
        job.sum = x->sums + ((ptrdiff_t)from - (ptrdiff_t)top) * job.pitch;
        ISA(scatter_kernel)(job.kh, job.kw)(&job);
    }
}

/* Band `band` of one slice of one image, one chunk. */
static void sum_band(const grad_x *x, uint32_t slot, uint32_t slice, uint32_t chunk, uint32_t band,
                     float *out) {
    const conv_geom *g = &x->g;
    const uint64_t taps = (uint64_t)g->kh * g->kw;
    const uint32_t row = band * x->band_rows, rows = min_u32(x->band_rows, g->h - row);
    const uint32_t pad = taps > SCATTER_HELD ? 0 : g->ph;
    const uint32_t top = row + g->ph - (band == 0 ? pad : 0);
    const uint32_t bottom = row + rows + g->ph + (band + 1 == x->bands ? pad : 0);
    memset(x->sums, 0, (bottom - top) * x->pitch * sizeof *x->sums);
    for (uint32_t o = chunk * x->chunk; o < min_u32(g->o, (chunk + 1) * x->chunk); o++) {
        const uint64_t channel = slot * x->width + o;
        sum_channel(x, x->list + channel * x->most, x->starts + channel * (g->oh + 1),
                    x->w + ((uint64_t)slice * g->o + o) * taps * LANES, top, bottom);
    }
    const float *from = x->sums + (row + g->ph - top) * x->pitch + (uint64_t)g->pw * LANES;
    store_rows(x, from, out + (uint64_t)row * g->w * LANES, rows, chunk > 0,
               chunk + 1 == x->chunks);
}

/* The pixels of one image to planes of its channels. */
static void turn_image(const grad_x *x, const float *from, float *to) {
    const uint32_t pixels = (uint32_t)x->out.plane;
    for (uint32_t c = 0; c < x->g.c; c += LANES, from += x->x.plane) {
        for (uint32_t p = 0; p < pixels; p += LANES) {
            const uint32_t n = min_u32(LANES, pixels - p);
            vf r[LANES];
            for (uint32_t i = 0; i < LANES; i++) {
                r[i] = v_load(from + (uint64_t)min_u32(p + i, pixels - 1) * LANES);
            }
            v_transpose(r);
            for (uint32_t i = 0; i < min_u32(LANES, x->g.c - c); i++) {
                v_store_some(to + (c + i) * x->out.plane + p, r[i], n);
            }
        }
    }
}

static void grad_x_unit(void *user, uint32_t unit, uint32_t thread) {
    const grad_x x = local_of(user, thread);
    const uint32_t first = unit * x.images, images = min_u32(x.images, x.rows - first);
    float *out = (float *)x.call->out[0] + first * x.out.image;
    float *gx = x.out.step == 1 ? x.turned : out;
    for (uint32_t i = 0; i < images; i++) {
        list_image(&x, first + i, i);
    }
    for (uint32_t s = 0; s < x.slices; s++) {
        for (uint32_t c = 0; c < x.chunks; c++) {
            for (uint32_t i = 0; i < images * x.bands; i++) {
                const uint32_t slot = i / x.bands;
                sum_band(&x, slot, s, c, i % x.bands, gx + slot * x.x.image + s * x.x.plane);
            }
        }
    }
    for (uint32_t i = 0; x.out.step == 1 && i < images; i++) {
        turn_image(&x, gx + i * x.x.image, out + i * x.out.image);
    }
}

static void run_lists(grad_x *x) {
    cpu_pool_run(x->call->pool, x->slices, turn_weights, x);
    cpu_pool_run(x->call->pool, ceil_div(x->rows, x->images), grad_x_unit, x);
}

/* ---- which way ------------------------------------------------------------------------------ */

/* What each way takes for an image that has `items` gradients, and 16 input channels, in eighths of
 * a cycle, as measured; only the speed depends on it. list_item: one gradient of a list. */
typedef struct ways {
    uint64_t dense, cache, rows;
} ways;

static uint32_t list_item(const conv_geom *g) {
    const uint32_t taps = g->kh * g->kw;
    return (taps > SCATTER_HELD ? 14 : 10) * taps + 64;
}

static ways ways_of(const grad_x *x, uint64_t items) {
    const conv_geom *g = &x->g;
    const uint64_t taps = (uint64_t)g->kh * g->kw, pixels = (uint64_t)g->h * g->w;
    const uint64_t row = min_u32(g->kh, g->h) * (7 * g->w + 20 * V_REGS);
    ways cost = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
    cost.cache = items * list_item(g) + x->chunks * pixels * 96;
    if (ISA(dense_fits)(g)) {
        cost.dense = pixels * g->o * taps * 5;
    }
    if (ISA(rows_fit)(g)) {
        cost.rows = items * row + x->chunks * (pixels * 24 + g->h * 120);
    }
    return cost;
}

static void run_dense(const cpu_call *call, const grad_x *x) {
    carver c = {.base = call->workspace};
    dense d = ISA(dense_plan)(&x->g, cpu_pool_threads(call->pool), &c);
    d.call = call;
    d.source = x->source;
    d.source.g = &d.g;
    d.rows = x->rows;
    ISA(dense_run)(&d);
}

static void run_rows(const cpu_call *call, const grad_x *x) {
    carver c = {.base = call->workspace};
    grad_rows r = ISA(rows_plan)(&x->g, cpu_pool_threads(call->pool), &c);
    r.call = call;
    r.source = x->source;
    r.source.g = &r.g;
    r.rows = x->rows;
    ISA(rows_run)(&r);
}

/* The first image tells how many gradients are zero. Only the speed depends on it. */
static void run_grad_x(const cpu_call *call) {
    grad_x x = grad_x_plan(call->kernel, cpu_pool_threads(call->pool), call->workspace);
    x.call = call;
    x.source = ISA(grad_source)(&x.g, call);
    x.rows = min_u32(cpu_rows(call), x.g.n);
    if (x.out.step == 1) {
        run_lists(&x);
        return;
    }
    const ways cost = ways_of(&x, x.rows > 0 ? ISA(grad_count)(&x.source, x.gz) : 0);
    if (cost.dense < cost.cache && cost.dense < cost.rows) {
        run_dense(call, &x);
    } else if (cost.rows < cost.cache) {
        run_rows(call, &x);
    } else {
        run_lists(&x);
    }
}

/* Whether conv_grad_plane.c takes less for a gradient than a list, in eighths of a cycle: there it
 * meets every channel by itself, but 16 columns at once, of which a stride leaves few. */
static bool plane_pays(const stn_kernel *k, const conv_geom *g) {
    const bool planar = g->c <= PLANAR_CHANNELS || k->out[0].layout == STN_NCHW;
    const bool strided = g->sh > 1 && g->sw > 1;
    return planar && (!strided || g->c * (g->kh + 12u) * 10u < list_item(g));
}

bool ISA(conv_grad_x)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_X;
    const conv_geom g = conv_geometry(k, &k->out[0], &k->in[block ? 3 : 1], &k->in[0]);
    if (!conv_fits(&g) || !ISA(grad_readable)(k, &g) || k->in[k->n_in - 1].layout != STN_NCHW) {
        return false;
    }
    if (plane_pays(k, &g)) {
        return ISA(conv_grad_plane)(k, threads, impl);
    }
    const grad_x x = grad_x_plan(k, threads, NULL);
    const uint64_t reach = (uint64_t)(g.oh * g.sh + g.kh) * x.pitch;
    if (reach >= UINT64_C(1) << 30) {
        return false;
    }
    carver all = {0}, row = {0};
    if (ISA(dense_fits)(&g)) {
        (void)ISA(dense_plan)(&g, threads, &all);
    }
    if (ISA(rows_fit)(&g)) {
        (void)ISA(rows_plan)(&g, threads, &row);
    }
    const uint64_t other = all.used > row.used ? all.used : row.used;
    impl->workspace = other > x.bytes ? other : x.bytes;
    impl->run = run_grad_x;
    return true;
}
