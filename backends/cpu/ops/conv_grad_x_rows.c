/* CONV_GRAD_X and CONV_BLOCK_GRAD_X by lists, for narrow maps: a row of pixels is summed in
 * registers, lanes are 16 input channels.
 *
 * An item of the list adds a whole row of its kernel, which stands behind zeros: where it lies on
 * the row is only an address, and columns that it does not touch add zeros, which changes no bit. A
 * term costs a load, its sum neither load nor store, and the sums of a chunk need no clearing.
 *
 * A row of pixels meets the items of some output rows. Rows that meet the same ones share a list.
 */
#include "conv_grad_x_rows.h"

#define UNIT_BYTES (256u << 10) /* lists of the images that share the weights of a chunk */
#define UNIT_IMAGES 16u
/* Most weights of a chunk that a row meets: they must stay in the first cache. */
#define MET_BYTES (40u << 10)
#define COPY_ITEMS 4u /* copied at once; lists have that much room behind them */

typedef struct row_job {
    const item *item, *end;
    const float *w; /* the frame of the chunk's first channel, moved to the row */
    float *out;
    bool add, last; /* a later chunk; the last one */
    vi *seen;
} row_job;

typedef void (*row_fn)(const row_job *job);

VEC void row_body(const row_job *job, const uint32_t vectors) {
    vr part[ROW_WIDEST][V_REGS];
    const item *end = job->end;
    UNROLL
    for (uint32_t k = 0; k < V_REGS; k++) {
        vr acc[ROW_WIDEST];
        UNROLL
        for (uint32_t i = 0; i < vectors; i++) {
            acc[i] = vr_zero();
        }
        const float *w = job->w + k * REG_LANES;
        for (const item *it = job->item; it < end; it++) {
            const vr g = vr_set1(it->g);
            const float *at = w + it->at;
            UNROLL
            for (uint32_t i = 0; i < vectors; i++) {
                acc[i] = vr_fma(g, vr_load(at + i * LANES), acc[i]);
            }
        }
        UNROLL
        for (uint32_t i = 0; i < vectors; i++) {
            part[i][k] = acc[i];
        }
    }
    vf sum[ROW_WIDEST];
    UNROLL
    for (uint32_t i = 0; i < vectors; i++) {
        sum[i] = v_of(part[i]);
    }
    float *out = job->out;
    if (job->add) {
        UNROLL
        for (uint32_t i = 0; i < vectors; i++) {
            sum[i] = v_add(v_load(out + i * LANES), sum[i]);
        }
    }
    if (job->last) {
        UNROLL
        for (uint32_t i = 0; i < vectors; i++) {
            sum[i] = v_snap(sum[i], v_set1(STN_LIM_G));
            *job->seen = v_seen(*job->seen, sum[i]);
        }
    }
    UNROLL
    for (uint32_t i = 0; i < vectors; i++) {
        v_store(out + i * LANES, sum[i]);
    }
}

#define ROW_WIDTHS(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#if defined(CPU_ISA_AVX512) || V_REGS == 2
#define ROW_WIDE(X) X(8) X(9) X(10) X(11) X(12) X(13) X(14)
#else
#define ROW_WIDE(X)
#endif
#if defined(CPU_ISA_AVX512)
#define ROW_WIDER(X) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) X(23) X(24)
#else
#define ROW_WIDER(X)
#endif
#define ROW_DEFINE(vectors)                                                                        \
    static __attribute__((noinline)) void row_##vectors(const row_job *job) {                      \
        row_body(job, vectors);                                                                    \
    }
ROW_WIDTHS(ROW_DEFINE)
ROW_WIDE(ROW_DEFINE)
ROW_WIDER(ROW_DEFINE)

#define ROW_ENTRY(vectors) [vectors] = row_##vectors,
static const row_fn row_kernel[ROW_WIDEST + 1] = {ROW_WIDTHS(ROW_ENTRY) ROW_WIDE(ROW_ENTRY)
                                                      ROW_WIDER(ROW_ENTRY)};

/* ---- plan ----------------------------------------------------------------------------------- */

/* Output rows whose kernels meet row h: *low .. *end - 1. */
static void meeting_rows(const conv_geom *g, uint32_t h, uint32_t *low, uint32_t *end) {
    const uint32_t at = h + g->ph, first = at < g->kh - 1 ? 0 : at - (g->kh - 1);
    *low = ceil_div(first, g->sh);
    *end = max_u32(*low, min_u32(g->oh, at / g->sh + 1));
}

/* Numbers the ranges; writes them if there is room for them. */
static void find_ranges(grad_rows *x) {
    uint32_t before_low = 0, before_end = 0;
    x->ranges = 0;
    for (uint32_t h = 0; h < x->g.h; h++) {
        uint32_t low, end;
        meeting_rows(&x->g, h, &low, &end);
        if (h == 0 || low != before_low || end != before_end) {
            if (x->low != NULL) {
                x->low[x->ranges] = low;
                x->end[x->ranges] = end;
            }
            x->ranges++;
        }
        if (x->range != NULL) {
            x->range[h] = x->ranges - 1;
        }
        before_low = low;
        before_end = end;
    }
}

bool ISA(rows_fit)(const conv_geom *g) {
    carver none = {0};
    if (g->w > ROW_WIDEST) {
        return false;
    }
    const grad_rows x = ISA(rows_plan)(g, 1, &none);
    const uint64_t reach = x.chunk * x.frame + (uint64_t)(g->oh * g->sh + g->kh) * x.pitch;
    const uint64_t rows = min_u32(ceil_div(g->kh, g->sh), g->oh);
    const uint64_t met = min_u32(g->o, x.chunk) * rows * x.pitch * sizeof(float);
    return met <= MET_BYTES && reach < UINT64_C(1) << 30 && x.unit_items < UINT64_C(1) << 31;
}

grad_rows ISA(rows_plan)(const conv_geom *g, uint32_t threads, carver *c) {
    grad_rows x = {.g = *g};
    x.x = map_of(STN_NC16, g->c, g->h, g->w);
    x.slices = blocks_of(g->c);
    x.chunk = stn_conv_chunk(g->kh, g->kw);
    x.chunks = ceil_div(g->o, x.chunk);
    /* From column 0 of the map to the right edge of a kernel at the left edge of the padding, and
     * at least as far the other way. */
    x.zeros = g->w + g->pw > g->kw ? g->w + g->pw - g->kw : 0;
    x.pitch = (uint64_t)(x.zeros + g->kw) * LANES;
    x.frame = g->kh * x.pitch;
    x.width = (uint64_t)blocks_of(g->o) * LANES;
    x.most = ISA(grad_most)(g);
    find_ranges(&x);
    x.unit_items = x.ranges * g->o * x.most + COPY_ITEMS;
    x.images = (uint32_t)(UNIT_BYTES / (x.unit_items * sizeof(item)));
    x.images = max_u32(1, min_u32(x.images, min_u32(UNIT_IMAGES, g->n / (4 * threads))));

    const uint64_t pixels = (uint64_t)g->oh * g->ow, images = (uint64_t)threads * x.images;
    x.frames = carve(c, (x.slices * g->o * x.frame + (uint64_t)x.zeros * LANES) * sizeof *x.frames);
    x.range = carve(c, g->h * sizeof *x.range);
    x.low = carve(c, x.ranges * sizeof *x.low);
    x.end = carve(c, x.ranges * sizeof *x.end);
    x.gz = carve(c, threads * (pixels * LANES + APART) * sizeof *x.gz);
    x.channel = carve(c, threads * (x.width * x.most + COPY_ITEMS) * sizeof *x.channel);
    x.count = carve(c, threads * x.width * sizeof *x.count);
    x.starts = carve(c, threads * x.width * (g->oh + 1) * sizeof *x.starts);
    x.list = carve(c, images * x.unit_items * sizeof *x.list);
    x.from = carve(c, images * x.ranges * (x.chunks + 1) * sizeof *x.from);
    return x;
}

/* The workspace of one thread. */
static grad_rows local_of(const grad_rows *all, uint32_t thread) {
    grad_rows x = *all;
    const uint64_t image = (uint64_t)thread * x.images;
    x.gz += thread * ((uint64_t)x.g.oh * x.g.ow * LANES + APART);
    x.channel += thread * (x.width * x.most + COPY_ITEMS);
    x.count += thread * x.width;
    x.starts += thread * x.width * (x.g.oh + 1);
    x.list += image * x.unit_items;
    x.from += image * x.ranges * (x.chunks + 1);
    return x;
}

/* Frames of one slice. */
static void fill_frames(void *user, uint32_t slice, uint32_t thread) {
    (void)thread;
    const grad_rows *x = user;
    const conv_geom *g = &x->g;
    const uint32_t taps = g->kh * g->kw, first = slice * LANES;
    const float *w = x->call->in[x->call->kernel->n_in - 1];
    float *to = x->frames + (uint64_t)slice * g->o * x->frame;
    for (uint32_t r = 0; r < g->o * g->kh; r++, to += x->pitch) {
        const float *from = w + ((uint64_t)(r / g->kh) * g->c + first) * taps + r % g->kh * g->kw;
        memset(to, 0, (uint64_t)x->zeros * LANES * sizeof *to);
        turn_rows(from, taps, min_u32(LANES, g->c - first), g->kw, to + x->zeros * LANES, LANES);
    }
}

/* ---- lists ---------------------------------------------------------------------------------- */

/* Lists of all ranges of the image in place `slot`, from those of its channels. */
static void list_ranges(const grad_rows *x, uint32_t slot) {
    const conv_geom *g = &x->g;
    item *list = x->list + slot * x->unit_items, *to = list;
    uint32_t *from = x->from + (uint64_t)slot * x->ranges * (x->chunks + 1);
    for (uint32_t r = 0; r < x->ranges; r++) {
        for (uint32_t o = 0; o < g->o; o++) {
            const uint32_t *starts = x->starts + (uint64_t)o * (g->oh + 1);
            const uint32_t first = starts[x->low[r]], items = starts[x->end[r]] - first;
            const item *run = x->channel + o * x->most + first;
            if (o % x->chunk == 0) {
                *from++ = (uint32_t)(to - list);
            }
            uint32_t i = 0;
            do {
                memcpy(to + i, run + i, COPY_ITEMS * sizeof *to);
                i += COPY_ITEMS;
            } while (i < items);
            to += items;
        }
        *from++ = (uint32_t)(to - list);
    }
}

static void list_image(const grad_rows *x, uint32_t n, uint32_t slot) {
    const conv_geom *g = &x->g;
    memset(x->count, 0, x->width * sizeof *x->count);
    grad_lists lists = {.most = x->most};
    lists.row_step = -(int32_t)(g->sh * x->pitch);
    lists.col_step = -(int32_t)(g->sw * LANES);
    for (uint32_t b = 0; b < blocks_of(g->o); b++) {
        for (uint32_t j = 0; j < LANES; j++) {
            lists.shift[j] = (int32_t)((b * LANES + j) % x->chunk * x->frame);
        }
        lists.list = x->channel + (uint64_t)b * LANES * x->most;
        lists.count = x->count + b * LANES;
        lists.starts = x->starts + (uint64_t)b * LANES * (g->oh + 1);
        ISA(grad_list)(&x->source, n, b, &lists, x->gz, NULL);
    }
    list_ranges(x, slot);
}

/* ---- sums ----------------------------------------------------------------------------------- */

/* Row h of one slice of the images of the unit, one chunk. */
static void sum_row(const grad_rows *x, float *out, uint32_t images, uint32_t slice, uint32_t chunk,
                    uint32_t h, vi *seen) {
    const conv_geom *g = &x->g;
    const row_fn kernel = row_kernel[g->w];
    const uint64_t ends = (uint64_t)x->ranges * (x->chunks + 1);
    const uint32_t *from = x->from + x->range[h] * (x->chunks + 1) + chunk;
    const item *list = x->list;
    row_job job = {.add = chunk > 0, .last = chunk + 1 == x->chunks, .seen = seen};
    job.w = x->frames + ((uint64_t)slice * g->o + chunk * x->chunk) * x->frame +
            (h + g->ph) * x->pitch + (uint64_t)(x->zeros + g->pw) * LANES;
    job.out = out + slice * x->x.plane + (uint64_t)h * g->w * LANES;
    for (uint32_t i = 0; i < images; i++, from += ends, list += x->unit_items) {
        job.item = list + from[0];
        job.end = list + from[1];
        kernel(&job);
        job.out += x->x.image;
    }
}

static void rows_unit(void *user, uint32_t unit, uint32_t thread) {
    const grad_rows x = local_of(user, thread);
    const uint32_t first = unit * x.images, images = min_u32(x.images, x.rows - first);
    float *gx = (float *)x.call->out[0] + first * x.x.image;
    vi seen = vi_set1(0);
    for (uint32_t i = 0; i < images; i++) {
        list_image(&x, first + i, i);
    }
    for (uint32_t s = 0; s < x.slices; s++) {
        for (uint32_t c = 0; c < x.chunks; c++) {
            for (uint32_t h = 0; h < x.g.h; h++) {
                sum_row(&x, gx, images, s, c, h, &seen);
            }
        }
    }
    flag_seen(x.call, seen);
}

void ISA(rows_run)(grad_rows *x) {
    find_ranges(x);
    memset(x->frames + x->slices * x->g.o * x->frame, 0,
           (uint64_t)x->zeros * LANES * sizeof *x->frames);
    cpu_pool_run(x->call->pool, x->slices, fill_frames, x);
    cpu_pool_run(x->call->pool, ceil_div(x->rows, x->images), rows_unit, x);
}
