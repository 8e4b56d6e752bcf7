/* Convolutions and linear layers on the tiles of gpu_tile.cl. A linear layer is a convolution of
 * maps of one pixel with chunks of its own length.
 */
#include "gpu.h"

#include <stdio.h>

/* --- tiles ------------------------------------------------------------------------------------ */

#define MAX_PARTS 65535u
#define MAX_PARTS_BYTES (UINT64_C(64) << 20)

uint64_t gpu_tile_count(gpu_tile t, uint64_t m, uint64_t n) {
    return gpu_divide_up(m, t.tm) * gpu_divide_up(n, t.tn);
}

/* Outputs that the tiles hold, those past the edges too. */
static uint64_t covered(gpu_tile t, uint64_t m, uint64_t n) {
    return gpu_tile_count(t, m, n) * t.tm * t.tn;
}

/* A large tile reads each operand less often, a small one gives a large device enough groups (three
 * for two compute units) and wastes less at the edges (a third more than the smallest, at most). */
gpu_tile gpu_tile_choose(const stn_device *device, uint64_t m, uint64_t n, uint64_t products) {
    static const gpu_tile tiles[] = {
        {64, 128, 8, 8}, {64, 64, 8, 4}, {32, 128, 8, 4},
        {32, 64, 4, 4},  {32, 32, 2, 4}, {16, 32, 1, 4},
    };
    const uint32_t last = sizeof tiles / sizeof tiles[0] - 1u;
    uint64_t units = device->info.compute_units > 0 ? device->info.compute_units : 1;
    for (uint32_t i = 0; i < last; i++) {
        uint64_t groups = gpu_tile_count(tiles[i], m, n) * products;
        if (2u * groups >= 3u * units &&
            3u * covered(tiles[i], m, n) <= 4u * covered(tiles[last], m, n)) {
            return tiles[i];
        }
    }
    return tiles[last];
}

/* An H100 has registers for four groups of the largest tile at a time, if its compiler, which
 * would take a few more, is told so. It listens only where a kernel does not require a size of
 * group. */
#define LARGEST_TILE (64u * 128u)
#define NV_FOUR_GROUPS " -DANY_GROUP -cl-nv-maxrregcount=128"

void gpu_tile_name(const stn_kernel *k, gpu_tile t, gpu_variant v, char text[GPU_OPTIONS]) {
    const char *const names[] = {"FLOW", "LEVELS", "INSIDE", "LINEAR", "TURNED", "WHOLE"};
    const uint32_t values[] = {v.flow, v.levels, v.inside, v.linear, v.turned, v.whole};
    int n = snprintf(text, GPU_OPTIONS, "-DTM=%u -DTN=%u -DRM=%u -DRN=%u", t.tm, t.tn, t.rm, t.rn);
    for (uint32_t i = 0; i < sizeof values / sizeof *values; i++) {
        if (values[i] != 0) {
            n += snprintf(text + n, GPU_OPTIONS - (size_t)n, " -D%s=%u", names[i], values[i]);
        }
    }
    if (k->device->nv_options && t.tm * t.tn == LARGEST_TILE) {
        (void)snprintf(text + n, GPU_OPTIONS - (size_t)n, NV_FOUR_GROUPS);
    }
}

uint32_t gpu_tile_slice(gpu_tile t) {
    return t.rm * t.rn > 32u ? 8u : 16u;
}

/* Items of a group along the columns and the rows of its tile. */
static uint32_t items_across(gpu_tile t) {
    return t.tn / t.rn;
}
static uint32_t items_down(gpu_tile t) {
    return t.tm / t.rm;
}

ocl_range gpu_tile_range(gpu_tile t, uint64_t m, uint64_t n, uint64_t products) {
    return (ocl_range){{gpu_divide_up(n, t.tn) * items_across(t),
                        gpu_divide_up(m, t.tm) * items_down(t), products},
                       OCL_EXACT,
                       {items_across(t), items_down(t), 1}};
}

/* A group loads both slices of every term. An item holds the sums of RM x RN outputs, and up to 32
 * outputs their totals too, its share of the slice in flight and a row and column of the slice at
 * work; a group two slices with padded rows. */
ocl_tile_work gpu_tile_work(gpu_tile t, uint64_t flops, uint64_t terms) {
    uint32_t slice = gpu_tile_slice(t);
    uint32_t shares = (t.tm + t.tn) * slice / (items_across(t) * items_down(t));
    uint32_t sums = t.rm * t.rn > 32u ? t.rm * t.rn : 2u * t.rm * t.rn;
    return (ocl_tile_work){flops, terms * (t.tm + t.tn) * 4u, sums + shares + t.rm + t.rn,
                           2u * slice * (t.tm + 4u + t.tn + 4u) * 4u};
}

/* --- tables ----------------------------------------------------------------------------------- */

/* Windows of `channels` planes: offset of channel and window element in the input, window row and
 * column, offset in the weights. turned: the window backwards, weights [term channel][m]. */
typedef struct terms {
    uint32_t channels, kh, kw, plane, width;
    bool turned;
    uint32_t weight_step; /* from channel to channel */
} terms;

static uint32_t table_of(stn_kernel *k, const terms *s) {
    if (k->query || k->failed) {
        return 0;
    }
    uint32_t window = s->kh * s->kw;
    uint64_t words = (uint64_t)s->channels * window * 4u;
    uint32_t *t = ocl_host->alloc(words * sizeof *t, 0);
    if (t == NULL) {
        k->failed = stn_fail(&k->err, STN_E_NOMEM, "opencl: out of host memory for a table");
        return 0;
    }
    for (uint32_t c = 0, e = 0; c < s->channels; c++) {
        for (uint32_t r = 0; r < window; r++, e += 4) {
            uint32_t kh = r / s->kw, kw = r % s->kw;
            t[e] = c * s->plane + kh * s->width + kw;
            t[e + 1] = kh << 16 | kw;
            t[e + 2] = c * s->weight_step + (s->turned ? window - 1u - r : r);
            t[e + 3] = 0;
        }
    }
    uint32_t index = ocl_table(k, t, words);
    ocl_host->free(t);
    return index;
}

/* --- products over terms ---------------------------------------------------------------------- */

typedef struct job {
    terms s;
    uint32_t m, chunk, weight_row; /* weight_row: from output row to row */
    uint32_t linear;               /* LINEAR; 2: weight_row goes from term to term */
    uint32_t h, w;                 /* input map */
    uint32_t oh, ow;               /* output map, before the pool */
    uint32_t sh, sw, ph, pw;
    ocl_arg x, flow, w_ref, b, y, index; /* flow: output of the activation before x, or A_NONE */
    uint32_t n;
    bool pool, act;
    float slope, limit;
} job;

/* Columns of one image; with the pool the elements of its windows. */
static uint32_t columns_of(const job *j) {
    return j->pool ? j->oh / 2u * (j->ow / 2u) * 4u : j->oh * j->ow;
}

static bool fits(const stn_kernel *k, const job *j) {
    return gpu_on(k) && j->h <= GPU_MAX_SIDE && j->w <= GPU_MAX_SIDE && j->s.kh <= GPU_MAX_SIDE &&
           j->s.kw <= GPU_MAX_SIDE && (uint64_t)columns_of(j) * j->n < (UINT64_C(1) << 31);
}

/* Whether every chunk gets groups of its own, with a second launch that adds them in order: where
 * the device would stand still or take small tiles otherwise. `t`: the tile for chunks together. */
static bool splits(const stn_kernel *k, const job *j, uint64_t columns, uint32_t length,
                   gpu_tile *t) {
    uint64_t chunks = gpu_divide_up(length, j->chunk);
    uint64_t groups = gpu_tile_count(*t, j->m, columns), units = k->device->info.compute_units;
    gpu_tile each = gpu_tile_choose(k->device, j->m, columns, chunks);
    if (chunks < 2 || chunks > MAX_PARTS || columns * j->m * chunks * 4u > MAX_PARTS_BYTES ||
        (groups >= units && each.tm * each.tn <= t->tm * t->tn)) {
        return false;
    }
    *t = each;
    return true;
}

static void emit_finish(stn_kernel *k, const char *options, const job *j, ocl_arg part,
                        uint32_t columns, uint64_t chunks) {
    ocl_range range = ocl_items(gpu_divide_up(columns, 4) * j->m, true);
    OCL_EMIT(k, "gpu_tile.cl", options, "conv_finish", &range, part, j->b, j->y, j->index,
             A_U(j->m), A_U(columns), A_U((uint32_t)chunks), A_U(j->b.kind != OCL_ARG_NONE),
             A_U(j->pool), A_U(j->act), A_F(j->slope), A_F(j->limit), A_ROWS(columns), A_FLAGS);
    ocl_work(k, (ocl_tile_work){.flops = (uint64_t)columns * j->n * j->m * chunks});
}

static void emit(stn_kernel *k, const job *j) {
    char options[GPU_OPTIONS];
    uint32_t columns = columns_of(j), width = j->pool ? j->ow / 2u : j->ow;
    uint32_t length = j->s.channels * j->s.kh * j->s.kw;
    uint64_t all = (uint64_t)columns * j->n;
    gpu_tile t = gpu_tile_choose(k->device, j->m, all, 1);
    bool split = splits(k, j, all, length, &t);
    uint64_t chunks = split ? gpu_divide_up(length, j->chunk) : 1;
    uint32_t slice = gpu_tile_slice(t);
    gpu_variant v = {.flow = j->flow.kind != OCL_ARG_NONE,
                     .inside = j->linear == 0 && j->ph == 0 && j->pw == 0,
                     .linear = j->linear,
                     .turned = j->s.turned,
                     .whole = length % slice == 0 && j->chunk % slice == 0};
    gpu_tile_name(k, t, v, options);
    ocl_arg y = split ? A_WS(ocl_ws(k, all * j->m * chunks * 4u)) : j->y;
    /* Groups along the columns of all images that are there. */
    ocl_range range = {
        {gpu_divide_up(columns, t.rn), gpu_divide_up(j->m, t.tm) * items_down(t), chunks},
        1u | OCL_EXACT,
        {items_across(t), items_down(t), 1}};
    OCL_EMIT(k, "gpu_tile.cl", options, "conv_tile", &range, j->x, j->flow, j->w_ref, j->b, y,
             j->index, j->linear == 0 ? A_TABLE(table_of(k, &j->s)) : A_NONE, A_U(j->m),
             A_U(length), A_U(j->chunk), A_U(j->weight_row), A_U(j->s.channels * j->s.plane),
             A_U(j->h), A_U(j->w), A_U(columns), A_U(width), A_U(j->sh), A_U(j->sw), A_U(j->ph),
             A_U(j->pw), A_U(j->b.kind != OCL_ARG_NONE), A_U(j->pool), A_U(j->act), A_F(j->slope),
             A_F(j->limit), A_U(split), A_ROWS(columns), A_FLAGS);
    ocl_work(k, gpu_tile_work(t, 2u * all * j->m * length, gpu_tile_count(t, j->m, all) * length));
    if (split) {
        emit_finish(k, options, j, y, columns, chunks);
    }
}

static bool product(stn_kernel *k, const job *j) {
    if (!fits(k, j)) {
        return false;
    }
    emit(k, j);
    return true;
}

bool gpu_conv(stn_kernel *k, const ocl_geometry *g, ocl_view x, ocl_arg w, ocl_arg b, ocl_view y,
              const ocl_view *index, bool act, float slope) {
    if (x.layout != STN_NCHW || y.layout != STN_NCHW ||
        (index != NULL && index->layout != STN_NCHW)) {
        return false;
    }
    if (gpu_few_y(k, g, x, w, b, y, index, act, slope)) {
        return true;
    }
    uint32_t window = g->kh * g->kw;
    job j = {.s = {g->c, g->kh, g->kw, g->h * g->w, g->w, false, window},
             .m = g->o,
             .chunk = stn_conv_chunk(g->kh, g->kw) * window,
             .weight_row = g->c * window,
             .h = g->h,
             .w = g->w,
             .oh = g->oh,
             .ow = g->ow,
             .sh = g->sh,
             .sw = g->sw,
             .ph = g->ph,
             .pw = g->pw,
             .x = x.ref,
             .flow = A_NONE,
             .w_ref = w,
             .b = b,
             .y = y.ref,
             .index = index != NULL ? index->ref : A_NONE,
             .n = x.n,
             .pool = index != NULL,
             .act = act,
             .slope = slope,
             .limit = STN_LIM_X};
    return product(k, &j);
}

/* Stride 1: a convolution of gy, padded by the rest of the window, with the turned weights. */
static job grad_x_job(const ocl_geometry *g, ocl_view gy, ocl_arg w, ocl_view gx) {
    uint32_t window = g->kh * g->kw;
    job j = {.s = {g->o, g->kh, g->kw, g->oh * g->ow, g->ow, true, g->c * window},
             .m = g->c,
             .chunk = stn_conv_chunk(g->kh, g->kw) * window,
             .weight_row = window,
             .h = g->oh,
             .w = g->ow,
             .oh = g->h,
             .ow = g->w,
             .sh = 1,
             .sw = 1,
             .ph = g->kh - 1u - g->ph, /* wraps where the padding exceeds the window */
             .pw = g->kw - 1u - g->pw,
             .x = gy.ref,
             .flow = A_NONE,
             .w_ref = w,
             .b = A_NONE,
             .y = gx.ref,
             .index = A_NONE,
             .n = gx.n,
             .limit = STN_LIM_G};
    return j;
}

static bool grad_x_known(const ocl_geometry *g, ocl_view gy, ocl_view gx) {
    return gy.layout == STN_NCHW && gx.layout == STN_NCHW && g->sh == 1 && g->sw == 1;
}

bool gpu_conv_grad_x(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_arg w, ocl_view gx) {
    job j = grad_x_job(g, gy, w, gx);
    vec_flow f = {gy, gy, NULL, false, 0.0f};
    if (gpu_few(k, g, &f, NULL, w, gx)) {
        return true;
    }
    if (gpu_taps_pay(k, g, gy, gx)) {
        gpu_taps(k, g, gy, w, gx);
        return true;
    }
    return grad_x_known(g, gy, gx) && product(k, &j);
}

/* A map of one pixel: `in` channels to `out`. */
static job pixel_job(uint32_t n, uint32_t in, uint32_t out) {
    return (job){.s = {in, 1, 1, 1, 1, false, 1},
                 .m = out,
                 .chunk = STN_LINEAR_CHUNK,
                 .weight_row = in,
                 .linear = 1,
                 .h = 1,
                 .w = 1,
                 .oh = 1,
                 .ow = 1,
                 .sh = 1,
                 .sw = 1,
                 .flow = A_NONE,
                 .b = A_NONE,
                 .index = A_NONE,
                 .n = n,
                 .limit = STN_LIM_X};
}

bool gpu_linear(stn_kernel *k, ocl_view x, ocl_arg w, ocl_arg b, ocl_arg y, uint32_t o, bool act,
                float slope) {
    job j = pixel_job(x.n, x.c * x.h * x.w, o);
    j.x = x.ref;
    j.w_ref = w;
    j.b = b;
    j.y = y;
    j.act = act;
    j.slope = slope;
    return x.layout == STN_NCHW && product(k, &j);
}

bool gpu_linear_grad_x(stn_kernel *k, const vec_flow *f, ocl_arg w, ocl_view gx) {
    uint32_t features = gx.c * gx.h * gx.w;
    job j = pixel_job(gx.n, f->gy.c, features);
    j.linear = 2;
    j.weight_row = features;
    j.x = f->gy.ref;
    j.flow = f->act ? f->y.ref : A_NONE;
    j.slope = f->slope;
    j.w_ref = w;
    j.y = gx.ref;
    j.limit = STN_LIM_G;
    return gx.layout == STN_NCHW && product(k, &j);
}

/* --- weight gradients ------------------------------------------------------------------------- */

static bool split_of(const stn_kernel *k, const ocl_geometry *g, uint32_t n, uint32_t shards,
                     uint32_t images, gpu_split *s) {
    uint64_t values = (uint64_t)g->o * g->c * g->kh * g->kw, length = gpu_divide_up(n, shards);
    if (!gpu_on(k) || g->h > GPU_MAX_SIDE || g->w > GPU_MAX_SIDE || g->kh > GPU_MAX_SIDE ||
        g->kw > GPU_MAX_SIDE || (uint64_t)n * g->oh * g->ow >= (UINT64_C(1) << 31)) {
        return false;
    }
    /* Chunks of a shard side by side, unless their sums would take too much memory. */
    uint64_t parts = gpu_divide_up(length, images);
    if (parts * shards * values * 4u > MAX_PARTS_BYTES) {
        parts = 1;
    }
    *s = (gpu_split){shards, (uint32_t)length, (uint32_t)parts, images};
    return parts * shards * values < (UINT64_C(1) << 31) && parts * shards <= MAX_PARTS;
}

/* A group that sums all shards holds a tree of levels, each as large as its outputs. */
#define MOST_TREE 16u
/* What a partial sum costs, written and read again, in multiply-adds: four for each byte. */
#define PART_COST 32u

/* Whether groups sum all shards, each of tile *t: where the partial sums of all shards would be a
 * part of the work that counts; all of it, if the tile is one that multiplies slowly. */
static bool whole_tree(const stn_kernel *k, const gpu_split *s, uint64_t m, uint64_t n,
                       uint64_t count, gpu_tile *t) {
    uint64_t partial = (uint64_t)s->parts * s->shards * PART_COST;
    *t = gpu_tile_choose(k->device, m, n, 1);
    *t = t->rm > 4 ? (gpu_tile){32, 64, 4, 4} : *t;
    return s->shards <= MOST_TREE && count <= (t->rm < 4 ? 2u : 8u) * partial;
}

static uint32_t levels_of(uint32_t shards) {
    uint32_t levels = 1;
    for (; shards > 1; shards /= 2) {
        levels++;
    }
    return levels;
}

/* The second launch: the parts that `rows` products left (A_NONE: none) and the bias gradient. */
static void finish(stn_kernel *k, const ocl_geometry *g, const gpu_split *s, uint32_t n,
                   const gpu_source *f, ocl_arg part, ocl_arg gw) {
    uint32_t values = part.kind != OCL_ARG_NONE ? g->o * g->c * g->kh * g->kw : 0;
    uint32_t biases = f->gb.kind != OCL_ARG_NONE ? g->o : 0;
    if (values + biases == 0) {
        return;
    }
    ocl_range all = gpu_trees((uint64_t)values + biases);
    OCL_EMIT(k, "gpu_sums.cl", "", "gpu_finish", &all, part, values > 0 ? gw : A_NONE, f->planes,
             f->planes_pass ? f->y : A_NONE, f->gb, A_U(values), A_U(s->parts), A_U(s->shards),
             A_U(biases), A_U(f->planes_pass), A_F(f->slope), A_ROWS(1), A_U(s->length), A_LIMIT,
             A_FLAGS);
    ocl_work(k, (ocl_tile_work){.flops = (uint64_t)s->parts * s->shards * values +
                                         (uint64_t)n * biases});
}

/* Three warps to a group instead of four: an H100 multiplies weight gradients faster in them. */
static gpu_tile weights_tile(const stn_kernel *k, uint32_t m, uint32_t n, uint32_t rows) {
    gpu_tile t = gpu_tile_choose(k->device, m, n, rows);
    return t.rn == 8 ? (gpu_tile){64, 96, 8, 8} : t;
}

static void weights(stn_kernel *k, const ocl_geometry *g, const gpu_split *s, uint32_t n,
                    const gpu_source *f, ocl_arg x, ocl_arg gw) {
    char options[GPU_OPTIONS];
    bool act = f->y.kind != OCL_ARG_NONE, pool = f->index.kind != OCL_ARG_NONE;
    uint32_t columns = g->c * g->kh * g->kw, values = g->o * columns, rows = s->parts * s->shards;
    uint64_t pixels = (uint64_t)n * g->oh * g->ow, bytes = (uint64_t)rows * values * 4u;
    if (gpu_few_w_known(k, g, s, f, n)) {
        ocl_arg part = A_WS(ocl_ws(k, bytes));
        gpu_few_w(k, g, s, f, n, x, part);
        finish(k, g, s, n, f, part, gw);
        return;
    }
    terms window = {g->c, g->kh, g->kw, g->h * g->w, g->w, false, 0};
    gpu_tile t;
    bool whole = whole_tree(k, s, g->o, columns, pixels, &t);
    gpu_variant v = {.flow = pool ? 2u : act,
                     .levels = whole ? levels_of(s->shards) : 0,
                     .inside = g->ph == 0 && g->pw == 0};
    rows = whole ? 1 : rows;
    t = whole ? t : weights_tile(k, g->o, columns, rows);
    v.whole = g->oh * g->ow % gpu_tile_slice(t) == 0;
    gpu_tile_name(k, t, v, options);
    ocl_arg part = whole ? gw : A_WS(ocl_ws(k, bytes));
    ocl_range range = gpu_tile_range(t, g->o, columns, rows);
    OCL_EMIT(k, "gpu_tile.cl", options, "conv_grad_w_tile", &range, f->in, f->y, f->index, x, part,
             A_TABLE(table_of(k, &window)), A_U(g->o), A_U(columns), A_U(g->c * g->h * g->w),
             A_U(g->h), A_U(g->w), A_U(g->oh * g->ow), A_U(g->ow), A_U(f->qh * f->qw), A_U(f->qw),
             A_U(g->sh), A_U(g->sw), A_U(g->ph), A_U(g->pw), A_U(act), A_ROWS(1), A_U(s->length),
             A_U(s->images), A_U(s->parts), A_F(f->slope), A_LIMIT, A_FLAGS);
    ocl_tile_work work =
        gpu_tile_work(t, 2u * pixels * values, gpu_tile_count(t, g->o, columns) * pixels);
    work.registers += v.levels * t.rm * t.rn;
    ocl_work(k, work);
    finish(k, g, s, n, f, whole ? A_NONE : part, gw);
}

bool gpu_conv_grad_w(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_view x, ocl_arg gw,
                     uint32_t shards) {
    gpu_split s;
    if (gy.layout != STN_NCHW || x.layout != STN_NCHW ||
        !split_of(k, g, x.n, shards, stn_wgrad_chunk(g->oh, g->ow), &s)) {
        return false;
    }
    gpu_source f = {.in = gy.ref, .y = A_NONE, .index = A_NONE, .gb = A_NONE, .planes = A_NONE};
    weights(k, g, &s, x.n, &f, x.ref, gw);
    return true;
}

bool gpu_linear_grad_w(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg gw, ocl_arg gb,
                       uint32_t shards) {
    uint32_t o = f->gy.c;
    ocl_geometry g = {x.c * x.h * x.w, 1, 1, o, 1, 1, 1, 1, 1, 1, 0, 0};
    gpu_split s;
    /* A chain over the images of a shard: one chunk. */
    if (x.layout != STN_NCHW ||
        !split_of(k, &g, x.n, shards, (uint32_t)gpu_divide_up(x.n, shards), &s)) {
        return false;
    }
    gpu_source from = {.in = f->gy.ref,
                       .y = f->act ? f->y.ref : A_NONE,
                       .index = A_NONE,
                       .gb = gb,
                       .planes =
                           gb.kind != OCL_ARG_NONE ? f->gy.ref : A_NONE, /* planes of one value */
                       .slope = f->slope,
                       .planes_pass = f->act};
    weights(k, &g, &s, x.n, &from, x.ref, gw);
    return true;
}

/* Tiles along the weights of a channel read the gradient anew: beyond a few it pays to write it. */
static bool read_often(const ocl_geometry *g) {
    return g->c * g->kh * g->kw > 256u;
}

bool gpu_block_grad_w(stn_kernel *k, const ocl_geometry *g, const vec_flow *f,
                      const stn_pool_params *p, ocl_view m, ocl_view x, ocl_arg gw, ocl_arg gb,
                      uint32_t shards) {
    gpu_split s;
    if (!gpu_flow_known(f) || x.layout != STN_NCHW ||
        !split_of(k, g, x.n, shards, stn_wgrad_chunk(g->oh, g->ow), &s)) {
        return false;
    }
    ocl_arg sums = A_WS(ocl_ws(k, (uint64_t)m.n * m.c * 4u));
    gpu_source from = {.in = f->gy.ref, .y = A_NONE, .index = A_NONE, .gb = gb, .planes = sums};
    if (f->index == NULL && !f->act) {
        gpu_plane_sums(k, 0, f->gy, f->gy, A_NONE, 0, sums);
    } else if (read_often(g) || (f->index != NULL && (!gpu_halves(p) || m.w % 2u != 0))) {
        m.ref = from.in = A_WS(ocl_ws(k, (uint64_t)m.n * ocl_row(&m) * 4u));
        gpu_undo(k, f, p, m, sums);
    } else {
        m.ref = A_NONE;
        gpu_undo(k, f, p, m, sums);
        from.y = f->act ? f->y.ref : A_NONE;
        from.slope = f->slope;
        from.index = f->index != NULL ? f->index->ref : A_NONE;
        from.qh = f->gy.h;
        from.qw = f->gy.w;
    }
    weights(k, g, &s, x.n, &from, x.ref, gw);
    return true;
}

bool gpu_block_grad_x(stn_kernel *k, const ocl_geometry *g, const vec_flow *f,
                      const stn_pool_params *p, ocl_view m, ocl_arg w, ocl_view gx) {
    if (!gpu_flow_known(f) || (f->index == NULL && !f->act) || m.layout != STN_NCHW) {
        return false;
    }
    if (gpu_few(k, g, f, p, w, gx)) {
        return true;
    }
    job j = grad_x_job(g, m, w, gx);
    bool taps = gpu_taps_pay(k, g, m, gx);
    if (!taps && (!grad_x_known(g, m, gx) || !fits(k, &j))) {
        return false;
    }
    m.ref = A_WS(ocl_ws(k, (uint64_t)m.n * ocl_row(&m) * 4u));
    gpu_undo(k, f, p, m, A_NONE);
    if (taps) {
        gpu_taps(k, g, m, w, gx);
    } else {
        j.x = m.ref;
        emit(k, &j);
    }
    return true;
}
