/* CONV_GRAD_X and CONV_BLOCK_GRAD_X with few input channels, or into NCHW: lanes are pixels of a
 * row (slide.h), and only gradients that are not zero are taken. Where hardly any is zero
 * conv_grad_x_few.c takes all terms.
 *
 * A task takes some images. Output channels are outermost, so that the frames of one (output
 * channel, input channel) serve all of them from the first cache; a chunk's sums stay in memory
 * between its output channels. A frame has, for each place of the kernel against a strip, `pitch`
 * rows: one of zeros if a step has two lines, then the kernel. Kernels higher than a window
 * are cut into pieces, the lowest first: a pixel meets the lower rows of the kernel in the earlier
 * rows of the gradient.
 */
#include "conv_grad_plane.h"
#include "conv_grad_x_few.h"
#include "gradient_bits.h"
#include "slide.h"

#define PLANE_BYTES (1024u << 10) /* gradients and sums of the images of a task */
#define PLANE_IMAGES 16u

/* Gradients that reach a strip of SLIDE_COLS input columns: those from column `first` (a multiple
 * of 16, or the first window of record `record`) on that the masks' `words` words keep. */
typedef struct plane_strip {
    uint32_t first, record, words;
} plane_strip;

typedef struct plane {
    conv_geom g;
    grad_source source;
    const cpu_call *call;
    map_addr x;
    bool windows;
    uint32_t images, rows;     /* of a task; real rows of the batch */
    grad_bits to;              /* as it is for every image */
    uint32_t advance, lines;   /* of a step */
    uint32_t col_step, spread; /* input columns: from column to column, and within a window */
    uint32_t strips, words;
    uint32_t pieces, piece_rows, pitch;
    uint32_t channels;     /* input channels that share a step: 1 or 3 */
    uint32_t left, places; /* columns before the first place; places of a kernel */
    uint64_t line, frame, strip_size, image_size;
    uint32_t chunk; /* output channels of a chunk */
    uint64_t bytes;
    /* Workspace; for all threads: */
    plane_strip *strip;
    uint32_t *first; /* of every record */
    int32_t *ramp;   /* lines: places of a row's columns */
    uint64_t *keep;  /* [strips][words] */
    /* and per thread: */
    float *gz;      /* lines: one block */
    float *list;    /* [images][16][to.channel] */
    uint64_t *mask; /* [images][16][to.mask_channel] */
    float *kernel;  /* [KH][line]: weights between zeros */
    float *frames;  /* [channels][pieces][frame] */
    float *sums;    /* [images][C][strips][strip_size] of a chunk */
    float *totals;  /* as sums, of the chunks before */
} plane;

/* Gradient columns (windows) that reach a strip: *low .. *end - 1. */
static void reaching(const plane *p, uint32_t strip, uint32_t *low, uint32_t *end) {
    const conv_geom *g = &p->g;
    const uint32_t last = (strip + 1) * SLIDE_COLS - 1 + g->pw;
    const uint32_t width = SLIDE_COLS + g->kw + p->spread - 1;
    const uint32_t first = last + 1 > width ? last + 1 - width : 0;
    *end = min_u32(p->to.cols, last / p->col_step + 1);
    *low = min_u32(*end, ceil_div(first, p->col_step));
}

static plane_strip strip_at(const plane *p, uint32_t strip) {
    uint32_t low, end;
    reaching(p, strip, &low, &end);
    if (p->windows) {
        const bool one = p->to.cols <= LANES;
        return (plane_strip){one ? 0 : low, one ? 0 : strip, 1};
    }
    low = low / LANES * LANES;
    return (plane_strip){low, 0, ceil_div(end - low, SLIDE_WORD)};
}

/* Which bits of word m are gradients that reach the strip. */
static uint64_t kept_bits(const plane *p, uint32_t strip, uint32_t m) {
    uint32_t low, end;
    reaching(p, strip, &low, &end);
    uint64_t bits = 0;
    for (uint32_t i = 0; i < SLIDE_WORD; i++) {
        const uint32_t col =
            strip_at(p, strip).first + (p->windows ? i % LANES : m * SLIDE_WORD + i);
        bits |= (uint64_t)(col >= low && col < end) << i;
    }
    return bits;
}

/* Chooses windows or lines; false if windows do not fit a record. */
static bool plane_steps(plane *p, bool windows) {
    const conv_geom *g = &p->g;
    p->windows = windows;
    p->to.rows = windows ? g->poh : g->oh;
    p->to.cols = windows ? g->pow : g->ow;
    p->lines = windows ? 2 : 1;
    p->advance = windows ? p->lines : g->sh;
    p->col_step = windows ? g->pool_sw * g->sw : g->sw;
    p->spread = windows ? (g->pool_kw - 1) * g->sw : 0;
    p->strips = ceil_div(g->w, SLIDE_COLS);
    p->to.records = p->to.cols <= LANES ? 1 : p->strips;
    p->words = 1;
    bool fit = true;
    for (uint32_t s = 0; s < p->strips; s++) {
        uint32_t low, end;
        reaching(p, s, &low, &end);
        fit = fit && (p->to.cols <= LANES || end - low <= LANES);
        p->words = max_u32(p->words, strip_at(p, s).words);
    }
    return fit;
}

static void plane_sizes(plane *p) {
    const conv_geom *g = &p->g;
    p->piece_rows = piece_of(g->kh, SLIDE_MAX - (p->lines - 1));
    p->pieces = ceil_div(g->kh, p->piece_rows);
    p->pitch = p->piece_rows + p->lines - 1;
    p->channels = g->c % 3 == 0 && p->pitch <= SLIDE_THREE ? 3 : 1;
    p->left = g->kw - 1 + p->spread;
    p->places = p->left + SLIDE_COLS + p->spread;
    p->line = (uint64_t)p->places + SLIDE_COLS;
    p->frame = ((uint64_t)p->places * p->pitch + p->lines - 1) * SLIDE_COLS;
    const uint32_t rows = p->to.rows * p->advance + p->pieces * p->piece_rows + p->lines;
    p->strip_size = (uint64_t)ceil_div(rows, V_REGS) * LANES;
    p->image_size = g->c * p->strips * p->strip_size;
    p->to.col_step = (int32_t)(g->sw * p->pitch * SLIDE_COLS);
    p->to.line_step = (int32_t)SLIDE_COLS;
    if (p->windows) {
        const uint64_t records = (uint64_t)p->to.records;
        p->to.channel = records * p->to.rows * GRAD_RECORD;
        p->to.mask_channel = records * p->to.rows;
    } else {
        p->to.channel = (uint64_t)p->to.rows * p->to.cols + LANES;
        p->to.mask_channel = (uint64_t)blocks_of(p->to.cols) * p->to.rows;
    }
}

static void plane_carve(plane *p, uint32_t threads, void *workspace) {
    const conv_geom *g = &p->g;
    const uint64_t lists = (uint64_t)threads * p->images * LANES;
    carver c = {.base = workspace};
    p->strip = carve(&c, p->strips * sizeof *p->strip);
    p->first = carve(&c, p->strips * sizeof *p->first);
    p->ramp = carve(&c, p->to.cols * sizeof *p->ramp);
    p->keep = carve(&c, (uint64_t)p->strips * p->words * sizeof *p->keep);
    p->gz = carve(&c, p->windows ? 0 : threads * (uint64_t)g->oh * g->ow * LANES * sizeof *p->gz);
    p->list = carve(&c, lists * p->to.channel * sizeof *p->list);
    p->mask = carve(&c, lists * p->to.mask_channel * sizeof *p->mask);
    p->kernel = carve(&c, threads * (g->kh * p->line + APART) * sizeof *p->kernel);
    p->frames =
        carve(&c, threads * (p->channels * p->pieces * p->frame + APART) * sizeof *p->frames);
    p->sums = carve(&c, threads * p->images * p->image_size * sizeof *p->sums);
    p->totals = carve(&c, (threads * p->images * p->image_size + LANES) * sizeof *p->totals);
    p->bytes = c.used;
}

static plane plane_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    const bool block = k->op == STN_OP_CONV_BLOCK_GRAD_X;
    plane p = {.g = conv_geometry(k, &k->out[0], &k->in[block ? 3 : 1], &k->in[0])};
    const conv_geom *g = &p.g;
    p.x = map_of(k->out[0].layout, g->c, g->h, g->w);
    p.chunk = stn_conv_chunk(g->kh, g->kw);
    if (g->sh > 1 || !ISA(grad_has_windows)(g) || !plane_steps(&p, true)) {
        (void)plane_steps(&p, false);
    }
    plane_sizes(&p);
    const uint64_t list = LANES * p.to.channel * sizeof *p.list;
    const uint64_t image = list + 2 * p.image_size * sizeof *p.sums;
    p.images = min_u32(PLANE_IMAGES, g->n / (4 * threads));
    p.images = max_u32(1, min_u32(p.images, (uint32_t)(PLANE_BYTES / image)));
    plane_carve(&p, threads, workspace);
    return p;
}

/* The workspace of one thread. */
static plane plane_local(const plane *all, uint32_t thread) {
    plane p = *all;
    const uint64_t images = (uint64_t)thread * p.images;
    p.gz += (uint64_t)thread * p.g.oh * p.g.ow * LANES;
    p.list += images * LANES * p.to.channel;
    p.mask += images * LANES * p.to.mask_channel;
    p.kernel += thread * (p.g.kh * p.line + APART);
    p.frames += thread * (p.channels * p.pieces * p.frame + APART);
    p.sums += images * p.image_size;
    p.totals += images * p.image_size;
    return p;
}

static void list_image(const plane *p, uint32_t n, uint32_t i, uint32_t block) {
    grad_bits to = p->to;
    to.g = p->list + (uint64_t)i * LANES * to.channel;
    to.mask = p->mask + (uint64_t)i * LANES * to.mask_channel;
    if (p->windows) {
        to.at = (int32_t *)(void *)(to.g + LANES);
        ISA(grad_windows)(&p->source, n, block, &to);
    } else {
        ISA(grad_lines)(&p->source, n, block, &to, p->gz);
    }
}

/* The kernel of (o, c) at every place, into frames that are zero elsewhere. */
static void make_frames(const plane *p, uint32_t o, uint32_t c) {
    const conv_geom *g = &p->g;
    const float *w = p->call->in[p->call->kernel->n_in - 1];
    w += ((uint64_t)o * g->c + c) * g->kh * g->kw;
    /* All rows first: loads that overlap a store just made would wait for it. */
    for (uint32_t kh = 0; kh < g->kh; kh++) {
        memcpy(p->kernel + kh * p->line + SLIDE_COLS - 1 + p->spread, w + (uint64_t)kh * g->kw,
               g->kw * sizeof *w);
    }
    for (uint32_t kh = 0; kh < g->kh; kh++) {
        const uint32_t row = kh % p->piece_rows + p->lines - 1;
        const float *from = p->kernel + kh * p->line + p->places;
        float *to = p->frames + (c % p->channels * p->pieces + kh / p->piece_rows) * p->frame +
                    (uint64_t)row * SLIDE_COLS;
        for (uint32_t i = 0; i < p->places; i++) {
            vr_store(to + (uint64_t)i * p->pitch * SLIDE_COLS, vr_load(--from));
        }
    }
}

/* Adds output channel j of the block of image i to the sums of the input channels from c on that
 * share a step. */
static void slide_image(const plane *p, uint32_t i, uint32_t j, uint32_t c) {
    const conv_geom *g = &p->g;
    const uint64_t lane = (uint64_t)i * LANES + j;
    float *sum = p->sums + i * p->image_size + c * p->strips * p->strip_size;
    slide job = {.steps = p->to.rows, .advance = p->advance, .pitch = p->to.cols};
    job.word_step = (uint64_t)(SLIDE_WORD / LANES) * p->to.rows;
    job.frame_step = p->pieces * p->frame;
    job.sum_step = p->strips * p->strip_size;
    for (uint32_t s = 0; s < p->strips; s++, sum += p->strip_size) {
        const plane_strip *strip = &p->strip[s];
        const uint64_t start =
            p->windows ? (uint64_t)strip->record * p->to.rows * GRAD_RECORD : strip->first;
        job.g = p->list + lane * p->to.channel + start;
        job.at = p->windows ? (const int32_t *)(const void *)(job.g + LANES) : p->ramp + start;
        job.mask = p->mask + lane * p->to.mask_channel +
                   (uint64_t)(p->windows ? strip->record : strip->first / LANES) * p->to.rows;
        job.keep = p->keep + (uint64_t)s * p->words;
        job.words = strip->words;
        job.shift = (((ptrdiff_t)p->left - (ptrdiff_t)(g->pw + s * SLIDE_COLS)) * p->pitch +
                     (p->lines - 1)) *
                    (ptrdiff_t)SLIDE_COLS;
        for (uint32_t piece = p->pieces; piece-- > 0;) {
            const uint32_t row = piece * p->piece_rows;
            const uint32_t rows = min_u32(p->piece_rows, g->kh - row) + p->lines - 1;
            job.frame = p->frames + piece * p->frame;
            job.sum = sum + (uint64_t)row * SLIDE_COLS;
            ISA(slide_kernel)(rows, p->windows, p->channels == 3)(&job);
        }
    }
}

/* Ends a chunk of one image: its sums join the totals and start again from zero. */
static void end_chunk(const plane *p, uint32_t image) {
    float *sums = p->sums + image * p->image_size, *totals = p->totals + image * p->image_size;
    for (uint64_t i = 0; i < p->image_size; i += LANES) {
        v_store(totals + i, v_add(v_load(totals + i), v_load(sums + i)));
        v_store(sums + i, v_zero());
    }
}

static void store_row(const map_addr *x, const float *from, float *to, uint32_t lanes, vi *seen) {
    const vf v = v_keep(vm_first(lanes), v_snap(v_load(from), v_set1(STN_LIM_G)));
    *seen = v_seen(*seen, v);
    if (x->step == 1) {
        v_store_some(to, v, lanes);
        return;
    }
    float lane[LANES];
    v_store(lane, v);
    for (uint32_t i = 0; i < lanes; i++) {
        to[i * x->step] = lane[i];
    }
}

void ISA(plane_clear)(const cpu_call *call, const map_addr *x, uint32_t n) {
    if (x->step > 1) {
        memset((float *)call->out[0] + n * x->image, 0, x->image * sizeof(float));
    }
}

void ISA(plane_store)(const cpu_call *call, const conv_geom *g, const map_addr *x, uint32_t n,
                      const float *sums, uint32_t cols, uint64_t strip_size, uint32_t top,
                      uint32_t rows) {
    float *image = (float *)call->out[0] + n * x->image + (uint64_t)top * g->w * x->step;
    vi seen = vi_set1(0);
    for (uint32_t c = 0; c < g->c; c++) {
        for (uint32_t w = 0; w < g->w; w += cols, sums += strip_size) {
            float *to = image + map_channel(x, c) + (uint64_t)w * x->step;
            for (uint32_t h = 0; h < rows; h++) {
                store_row(x, sums + (uint64_t)h * cols, to + (uint64_t)h * g->w * x->step,
                          min_u32(cols, g->w - w), &seen);
            }
        }
    }
    flag_seen(call, seen);
}

static void plane_task(void *user, uint32_t task, uint32_t thread) {
    const plane p = plane_local(user, thread);
    const uint32_t first = task * p.images, images = min_u32(p.images, p.rows - first);
    memset(p.kernel, 0, p.g.kh * p.line * sizeof *p.kernel);
    memset(p.frames, 0, p.channels * p.pieces * p.frame * sizeof *p.frames);
    memset(p.sums, 0, images * p.image_size * sizeof *p.sums);
    memset(p.totals, 0, images * p.image_size * sizeof *p.totals);
    for (uint32_t o = 0; o < p.g.o; o++) {
        for (uint32_t i = 0; o % LANES == 0 && i < images; i++) {
            list_image(&p, first + i, i, o / LANES);
        }
        const bool ends = (o + 1) % p.chunk == 0 || o + 1 == p.g.o;
        for (uint32_t c = 0; c < p.g.c; c += p.channels) {
            for (uint32_t i = c; i < c + p.channels; i++) {
                make_frames(&p, o, i);
            }
            for (uint32_t i = 0; i < images; i++) {
                slide_image(&p, i, o % LANES, c);
                if (ends && c + p.channels == p.g.c) {
                    end_chunk(&p, i);
                }
            }
        }
    }
    for (uint32_t i = 0; i < images; i++) {
        const float *totals = p.totals + i * p.image_size + (uint64_t)p.g.ph * SLIDE_COLS;
        ISA(plane_clear)(p.call, &p.x, first + i);
        ISA(plane_store)(p.call, &p.g, &p.x, first + i, totals, SLIDE_COLS, p.strip_size, 0, p.g.h);
    }
}

static void run_bits(plane *p) {
    p->to.first = p->first;
    for (uint32_t s = 0; s < p->strips; s++) {
        p->strip[s] = strip_at(p, s);
        p->first[s] = p->strip[s].first;
        for (uint32_t m = 0; m < p->words; m++) {
            p->keep[s * p->words + m] = kept_bits(p, s, m);
        }
    }
    for (uint32_t i = 0; i < p->to.cols; i++) {
        p->ramp[i] = (int32_t)i * p->to.col_step;
    }
    cpu_pool_run(p->call->pool, ceil_div(p->rows, p->images), plane_task, p);
}

/* What an image with so many non-zero gradients takes, in eighths of a cycle as measured with
 * AVX-512, less in proportion for registers of fewer lanes: each meets the kernel rows of every
 * input channel, in one strip or two. */
static uint64_t bits_cost(const plane *p, uint64_t items) {
    const conv_geom *g = &p->g;
    const uint64_t each = g->c * 10u * g->kh / V_REGS + g->c / p->channels * 38u;
    return items * each * (SLIDE_COLS + g->kw - 1) / SLIDE_COLS;
}

/* Whether conv_grad_x_few.c, which takes all terms, would win if as few gradients as can be were
 * zero. */
static bool few_possible(const plane *p) {
    const uint64_t most = (uint64_t)p->g.o * ISA(grad_most)(&p->g);
    return ISA(few_x_fits)(&p->g) && ISA(few_x_cost)(&p->g) < bits_cost(p, most);
}

/* The first image tells how many gradients are zero. Only the speed depends on it. */
static void run_plane(const cpu_call *call) {
    const uint32_t threads = cpu_pool_threads(call->pool);
    plane p = plane_plan(call->kernel, threads, call->workspace);
    p.call = call;
    p.source = ISA(grad_source)(&p.g, call);
    p.rows = min_u32(cpu_rows(call), p.g.n);
    if (p.rows > 0 && few_possible(&p)) {
        carver c = {.base = call->workspace};
        few_x f = ISA(few_x_plan)(call->kernel, &p.g, threads, &c);
        if (ISA(few_x_cost)(&p.g) < bits_cost(&p, ISA(grad_count)(&p.source, f.gz))) {
            f.call = call;
            f.source = p.source;
            f.source.g = &f.g;
            f.rows = p.rows;
            ISA(few_x_run)(&f);
            return;
        }
    }
    run_bits(&p);
}

bool ISA(conv_grad_plane)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const plane p = plane_plan(k, threads, NULL);
    const uint64_t limit = UINT64_C(1) << 30;
    const uint64_t reach = ((uint64_t)p.g.ow * p.g.sw + p.places) * p.pitch * SLIDE_COLS;
    if (reach >= limit || p.frame * p.pieces >= limit || p.image_size >= limit) {
        return false;
    }
    carver all = {0};
    if (few_possible(&p)) {
        (void)ISA(few_x_plan)(k, &p.g, threads, &all);
    }
    impl->workspace = all.used > p.bytes ? all.used : p.bytes;
    impl->run = run_plane;
    return true;
}
