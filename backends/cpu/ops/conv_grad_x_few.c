/* CONV_GRAD_X and CONV_BLOCK_GRAD_X of few input channels, or into NCHW, where most gradients are
 * not zero: lanes are 16 pixels of a row, as in conv_grad_plane.c, and every term is taken.
 * Stride 1.
 *
 * A task is an image, band by band. The gradients of 16 output channels are undone and turned into
 * rows between zeros, of which a tile of FEW_ROWS x 16 pixels reads a vector once for all kernel
 * rows that meet it. A tile takes output channels, frame rows and columns ascending: the contract's
 * order, whose turned kernel ascends with them.
 */
#include "conv_grad_x_few.h"

#include "conv_grad_plane.h"
#include "sparse.h"

#define FEW_PIECE 5u             /* kernel rows at a time */
#define FRAME_BYTES (160u << 10) /* in the second cache, beside what is read */
#define AHEAD 48u                /* vectors that are asked for before they are read */

bool ISA(few_x_fits)(const conv_geom *g) {
    return g->sh == 1 && g->sw == 1 && g->ph < g->kh && g->pw < g->kw;
}

/* The tiles' terms, and turning the gradients. */
uint64_t ISA(few_x_cost)(const conv_geom *g) {
    const uint64_t taps = (uint64_t)g->c * g->kh * g->kw;
    return g->o * (blocks_of(g->w) * g->h * taps * 10 + (uint64_t)g->oh * g->ow * 16);
}

few_x ISA(few_x_plan)(const stn_kernel *k, const conv_geom *g, uint32_t threads, carver *c) {
    few_x f = {.g = *g, .x = map_of(k->out[0].layout, g->c, g->h, g->w)};
    f.strips = blocks_of(g->w);
    f.chunk = stn_conv_chunk(g->kh, g->kw);
    f.pitch = (uint64_t)blocks_of(f.strips * LANES + g->kw - 1) * LANES;
    /* What undoes a pool does so for a whole image. */
    const uint64_t fit = FRAME_BYTES / (LANES * f.pitch * sizeof(float));
    const uint32_t most = g->pooled || fit > g->h ? g->h : max_u32((uint32_t)fit, 2 * g->kh);
    f.band = ceil_div(piece_of(g->h, min_u32(most, g->h)), FEW_ROWS) * FEW_ROWS;
    f.frame = (uint64_t)(f.band + g->kh - 1) * LANES * f.pitch;
    f.pixels = (uint64_t)g->c * f.strips * f.band * LANES;
    f.w = carve(c, (uint64_t)g->c * g->o * g->kh * g->kw * sizeof *f.w);
    f.gz = carve(c, threads * (uint64_t)g->oh * g->ow * LANES * sizeof *f.gz);
    f.at = carve(c, threads * (f.frame + APART) * sizeof *f.at);
    f.sums = carve(c, threads * (f.pixels + APART) * sizeof *f.sums);
    f.totals = carve(c, threads * (f.pixels + APART) * sizeof *f.totals);
    return f;
}

/* ---- tiles ---------------------------------------------------------------------------------- */

/* Adds output channels to a tile's sums, in a piece of kernel rows. */
typedef struct few_tile {
    const float *frame, *w;        /* of the first channel, at the piece's first row */
    uint64_t pitch, plane, w_step; /* from row to row, from channel to channel */
    uint32_t outputs, kw;
    float *sum; /* [FEW_ROWS][16] */
} few_tile;

/* Keeps a vector that serves several multiply-adds from being loaded for each of them. */
VEC vf in_register(vf v) {
#if defined(CPU_ISA_AVX512)
    __asm__("" : "+v"(v));
#endif
    return v;
}

VEC void few_body(const few_tile *job, const uint32_t rows, const uint32_t kw) {
    vf acc[FEW_ROWS];
    UNROLL
    for (uint32_t h = 0; h < FEW_ROWS; h++) {
        acc[h] = v_load(job->sum + h * LANES);
    }
    const float *from = job->frame, *w = job->w;
    for (uint32_t o = 0; o < job->outputs; o++, from += job->plane, w += job->w_step) {
        const float *row = from;
        UNROLL
        for (uint32_t r = 0; r < FEW_ROWS + rows - 1; r++, row += job->pitch) {
            /* Pins the address: otherwise those of all rows are made, and kept, at once. */
            __asm__("" : "+r"(row));
            for (uint32_t i = 0; i < kw; i++) {
                const vf v = in_register(v_load(row + i));
                UNROLL
                for (uint32_t k = r < FEW_ROWS ? 0 : r - FEW_ROWS + 1; k < rows && k <= r; k++) {
                    acc[r - k] = v_fma(v, v_set1(w[k * kw + i]), acc[r - k]);
                }
            }
        }
    }
    UNROLL
    for (uint32_t h = 0; h < FEW_ROWS; h++) {
        v_store(job->sum + h * LANES, acc[h]);
    }
}

typedef void (*few_fn)(const few_tile *job);

#define FEW_DEFINE(rows)                                                                           \
    static __attribute__((noinline)) void few_##rows(const few_tile *job) {                        \
        few_body(job, rows, job->kw);                                                              \
    }
FEW_DEFINE(1)
FEW_DEFINE(2)
FEW_DEFINE(3)
FEW_DEFINE(4)
FEW_DEFINE(5)

static __attribute__((noinline)) void few_3x3(const few_tile *job) {
    few_body(job, 3, 3);
}

static few_fn few_kernel(uint32_t rows, uint32_t kw) {
    static const few_fn kernel[FEW_PIECE + 1] = {NULL, few_1, few_2, few_3, few_4, few_5};
    return rows == 3 && kw == 3 ? few_3x3 : kernel[rows];
}

/* Adds output channels o .. end - 1, which lie in one block, to the pixels of input channel c. */
static void sum_channels(const few_x *f, uint32_t c, uint32_t o, uint32_t end) {
    const conv_geom *g = &f->g;
    const uint64_t taps = (uint64_t)g->kh * g->kw;
    const uint32_t most = piece_of(g->kh, FEW_PIECE), step = most == g->kh ? end - o : 1;
    few_tile job = {.pitch = LANES * f->pitch, .plane = f->pitch, .w_step = taps, .kw = g->kw};
    job.outputs = step;
    for (uint32_t s = 0; s < f->strips; s++) {
        float *sums = f->sums + ((uint64_t)c * f->strips + s) * f->band * LANES;
        for (uint32_t h = 0; h < f->band; h += FEW_ROWS) {
            job.sum = sums + (uint64_t)h * LANES;
            for (uint32_t i = o; i < end; i += step) {
                const float *frame = f->at + i % LANES * f->pitch + s * LANES;
                const float *w = f->w + ((uint64_t)c * g->o + i) * taps;
                for (uint32_t row = 0; row < g->kh; row += most) {
                    job.frame = frame + (h + row) * job.pitch;
                    job.w = w + (uint64_t)row * g->kw;
                    few_kernel(min_u32(most, g->kh - row), g->kw)(&job);
                }
            }
        }
    }
}

/* ---- images --------------------------------------------------------------------------------- */

static void turn_kernels(void *user, uint32_t o, uint32_t thread) {
    (void)thread;
    const few_x *f = user;
    const conv_geom *g = &f->g;
    const uint64_t taps = (uint64_t)g->kh * g->kw;
    const float *from = (const float *)f->call->in[f->call->kernel->n_in - 1] + o * g->c * taps;
    for (uint32_t c = 0; c < g->c; c++, from += taps) {
        float *to = f->w + ((uint64_t)c * g->o + o) * taps;
        for (uint64_t i = 0; i < taps; i++) {
            to[i] = from[taps - 1 - i];
        }
    }
}

/* The workspace of one thread. */
static few_x few_local(const few_x *all, uint32_t thread) {
    few_x f = *all;
    f.gz += (uint64_t)thread * f.g.oh * f.g.ow * LANES;
    f.at += thread * (f.frame + APART);
    f.sums += thread * (f.pixels + APART);
    f.totals += thread * (f.pixels + APART);
    return f;
}

static void clear_frame(void *user, uint32_t slot, uint32_t thread) {
    (void)thread;
    const few_x f = few_local(user, slot);
    memset(f.at, 0, f.frame * sizeof *f.at);
}

/* Asks for what is read AHEAD vectors later, perhaps past the end. */
VEC void ask(const float *p) {
    __builtin_prefetch((const void *)((uintptr_t)p + AHEAD * LANES * sizeof *p));
}

/* Row r of a block of gradients into a row of the frame. */
static void frame_row(const few_x *f, const grad_block *block, uint32_t r, float *to) {
    const conv_geom *g = &f->g;
    const bool act = g->act && !g->pooled;
    const uint64_t row = (uint64_t)r * g->ow * LANES;
    for (uint32_t q = 0; q < g->ow; q += LANES) {
        const uint32_t cols = min_u32(LANES, g->ow - q);
        vf v[LANES];
        UNROLL
        for (uint32_t i = 0; i < LANES; i++) {
            const uint64_t at = row + min_u32(q + i, g->ow - 1) * LANES;
            const float *gy = block->gy + at, *y = act ? block->y + at : gy;
            ask(gy);
            ask(y);
            v[i] = act ? undo_act(g, gy, y) : v_load(gy);
        }
        v_transpose(v);
        UNROLL
        for (uint32_t i = 0; i < LANES; i++) {
            v_store_some(to + i * f->pitch + q, v[i], cols);
        }
    }
}

/* The gradients of a block of image n that meet the band from row `top` on. */
static void frame_block(const few_x *f, uint32_t n, uint32_t b, uint32_t top) {
    const conv_geom *g = &f->g;
    const uint64_t row = LANES * f->pitch;
    const uint32_t above = g->kh - 1 - g->ph;
    grad_block block = grad_block_of(&f->source, n, b);
    if (g->pooled) {
        block.gy = ISA(grad_dense)(g, &block, f->gz);
    }
    for (uint32_t i = 0; i < f->band + g->kh - 1; i++) {
        float *to = f->at + i * row;
        if (top + i >= above && top + i - above < g->oh) {
            frame_row(f, &block, top + i - above, to + (g->kw - 1 - g->pw));
        } else {
            memset(to, 0, row * sizeof *to);
        }
    }
}

/* Ends a chunk: its sums join the totals. */
static void add_chunk(const few_x *f, bool first) {
    for (uint64_t i = 0; i < f->pixels; i += LANES) {
        const vf sum = v_load(f->sums + i);
        v_store(f->totals + i, first ? sum : v_add(v_load(f->totals + i), sum));
    }
}

static void few_band(const few_x *f, uint32_t n, uint32_t top) {
    const conv_geom *g = &f->g;
    for (uint32_t o = 0, end; o < g->o; o = end) {
        end = min_u32(g->o, min_u32((o / LANES + 1) * LANES, (o / f->chunk + 1) * f->chunk));
        if (o % LANES == 0) {
            frame_block(f, n, o / LANES, top);
        }
        if (o % f->chunk == 0) {
            memset(f->sums, 0, f->pixels * sizeof *f->sums);
        }
        for (uint32_t c = 0; c < g->c; c++) {
            sum_channels(f, c, o, end);
        }
        if (end % f->chunk == 0 || end == g->o) {
            add_chunk(f, end <= f->chunk);
        }
    }
}

static void few_task(void *user, uint32_t n, uint32_t thread) {
    const few_x f = few_local(user, thread);
    const uint64_t strip = (uint64_t)f.band * LANES;
    ISA(plane_clear)(f.call, &f.x, n);
    for (uint32_t top = 0; top < f.g.h; top += f.band) {
        const uint32_t rows = min_u32(f.band, f.g.h - top);
        few_band(&f, n, top);
        ISA(plane_store)(f.call, &f.g, &f.x, n, f.totals, LANES, strip, top, rows);
    }
}

void ISA(few_x_run)(few_x *f) {
    cpu_pool *pool = f->call->pool;
    cpu_pool_run(pool, f->g.o, turn_kernels, f);
    cpu_pool_run(pool, cpu_pool_threads(pool), clear_frame, f);
    cpu_pool_run(pool, f->rows, few_task, f);
}
