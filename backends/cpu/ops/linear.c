/* LINEAR and LINEAR_GRAD_X. Lanes are outputs (forward) or 16 neighbours of x's storage (gradient).
 *
 * Each task packs the weights of its lanes piece by piece into its own cache and takes all of its
 * images through them, so large weights are read once and never copied as a whole.
 */
#include "linear.h"

/* Terms packed at once. NC16 maps: up to LIST_PIXELS the block of a tile of images stays in the
 * first cache and its elements are looked up; up to TURN_PIXELS blocks of channels are turned into
 * canonical order; beyond, they would not stay in the second cache and are read where they are. */
#define PIECE 1024u
#define TURN_TERMS 2048u
#define LIST_PIXELS 32u
#define TURN_PIXELS 1024u

typedef struct pieces {
    linear l;
    uint32_t groups, bundles, parts, length; /* length: most terms of a piece */
    uint64_t bytes, size;                    /* size: floats of one thread */
    bool listed, turned;
    int32_t *place; /* listed: [depth] */
    float *scratch;
} pieces;

static uint32_t part_rows(const pieces *p) {
    return ceil_div(p->l.n, p->parts);
}

/* ---- forward -------------------------------------------------------------------------------- */

/* Outputs of a task, in panels: a tile of images is turned once for all of them. */
#define BUNDLE (64u / PANEL_WIDTH)

/* One thread's packed weights [BUNDLE][length][PANEL_WIDTH], a tile of images
 * [TILE_P][length + 16], and the sums and the open chunk of the images of a part,
 * [BUNDLE][rows][PANEL_WIDTH] each. */
typedef struct forward_local {
    float *w, *x, *sum, *open;
    uint64_t w_panel, sum_panel; /* floats of one panel */
} forward_local;

static forward_local forward_carve(pieces *p, float *base) {
    const uint64_t tile = p->turned ? TILE_P * (p->length + LANES) : 0;
    carver c = {.base = (char *)base};
    forward_local at = {.w_panel = (uint64_t)p->length * PANEL_WIDTH,
                        .sum_panel = (part_rows(p) + TILE_P) * (uint64_t)PANEL_WIDTH};
    at.w = carve(&c, BUNDLE * at.w_panel * sizeof *at.w);
    at.x = carve(&c, tile * sizeof *at.x);
    at.sum = carve(&c, BUNDLE * at.sum_panel * sizeof *at.sum);
    at.open = carve(&c, BUNDLE * at.sum_panel * sizeof *at.open);
    p->size = c.used / sizeof *base;
    return at;
}

static pieces forward_plan(const stn_tensor *x, const stn_tensor *y, uint32_t threads,
                           void *workspace) {
    pieces p = {.l = linear_shape(x, y)};
    p.groups = ceil_div(p.l.out, PANEL_WIDTH);
    p.bundles = ceil_div(p.groups, BUNDLE);
    p.parts = share_parts(p.bundles, p.l.n, threads);
    p.listed = p.l.blocked && p.l.pixels <= LIST_PIXELS;
    p.turned = p.l.blocked && !p.listed && p.l.pixels <= TURN_PIXELS;
    p.length = PIECE;
    if (p.turned) {
        const uint32_t block = LANES * p.l.pixels;
        p.length = block * max_u32(1, TURN_TERMS / block);
    }
    forward_carve(&p, NULL);
    carver c = {.base = workspace};
    p.place = carve(&c, p.listed ? p.l.depth * sizeof *p.place : 0);
    p.scratch = carve(&c, threads * p.size * sizeof *p.scratch);
    p.bytes = c.used;
    return p;
}

/* w[k - first][o]: terms first .. end-1 of the group's outputs. */
static void pack_outputs(const pieces *p, uint32_t group, uint32_t first, uint32_t end, float *to) {
    const linear *l = &p->l;
    const float *w = l->call->in[1];
    for (uint32_t v = 0; v < TILE_V; v++) {
        const uint32_t o = (group * TILE_V + v) * LANES;
        const uint32_t rows = o < l->out ? min_u32(LANES, l->out - o) : 0;
        turn_rows(w + (uint64_t)o * l->depth + first, l->depth, rows, end - first, to + v * LANES,
                  PANEL_WIDTH);
    }
}

/* One block of channels of one image in canonical order. */
static void turn_block(const linear *l, const float *block, uint32_t channels, float *to) {
    span s = {.channels = channels};
    for (; s.first < l->pixels; s.first += SPAN, block += SPAN * LANES) {
        s.vectors = min_u32(SPAN, l->pixels - s.first);
        vf r[LANES];
        for (uint32_t v = 0; v < LANES; v++) {
            r[v] = v < s.vectors ? v_load(block + v * LANES) : v_zero();
        }
        span_store(l, &s, to, r);
    }
}

/* Elements first .. end-1 of `images` images in order: whole blocks of channels. */
static void turn_images(const linear *l, const float *x, uint32_t images, uint32_t first,
                        uint32_t end, float *to, uint64_t pitch) {
    for (uint32_t i = 0; i < images; i++, x += l->x.image, to += pitch) {
        for (uint32_t k = first; k < end; k += LANES * l->pixels) {
            const uint32_t channel = k / l->pixels;
            turn_block(l, x + map_channel(&l->x, channel), min_u32(LANES, l->channels - channel),
                       to + (k - first));
        }
    }
}

/* Where the scalars of terms first.. of images row .. row + images - 1 lie. */
static panel piece_scalars(const pieces *p, const forward_local *at, uint32_t row, uint32_t images,
                           uint32_t first, uint32_t end) {
    const linear *l = &p->l;
    const float *x = (const float *)l->call->in[0] + row * l->x.image;
    panel job = {.a = x + first, .step = 1};
    uint64_t pitch = l->x.image;
    if (p->listed) {
        job.a = x;
        job.place = p->place + first;
    } else if (p->turned) {
        pitch = p->length + LANES;
        turn_images(l, x, images, first, end, at->x, pitch);
        job.a = at->x;
    } else if (l->blocked) {
        job.a = x + map_channel(&l->x, first / l->pixels) + (uint64_t)(first % l->pixels) * LANES;
        job.step = LANES;
    }
    for (uint32_t i = 0; i < TILE_P; i++) {
        job.row[i] = (ptrdiff_t)(min_u32(i, images - 1) * pitch);
    }
    return job;
}

/* Takes a tile of images through the packed terms first .. end-1, chunk by chunk. */
static void piece_sums(const pieces *p, panel *job, const float *w, uint32_t vectors,
                       uint32_t first, uint32_t end, float *sum, float *open) {
    uint32_t stop;
    for (uint32_t k = first; k < end; k = stop) {
        const uint32_t chunk = k / STN_LINEAR_CHUNK;
        stop = min_u32(end, (chunk + 1) * STN_LINEAR_CHUNK);
        const bool whole = stop % STN_LINEAR_CHUNK == 0 || stop == p->l.depth;
        job->w = w + (uint64_t)(k - first) * PANEL_WIDTH;
        job->terms = stop - k;
        job->start = k % STN_LINEAR_CHUNK == 0 ? NULL : open;
        job->add = whole && chunk > 0 ? sum : NULL;
        job->out = whole ? sum : open;
        panel_run(job, vectors);
        if (job->place != NULL) {
            job->place += job->terms;
        } else {
            job->a += (ptrdiff_t)job->terms * job->step;
        }
    }
}

static uint32_t piece_end(const pieces *p, uint32_t first) {
    const linear *l = &p->l;
    const uint32_t end = min_u32(l->depth, first + p->length);
    /* Read in place: a channel's pixels are as far apart as the step says. */
    return l->blocked && !p->listed && !p->turned
               ? min_u32(end, (first / l->pixels + 1) * l->pixels)
               : end;
}

static void store_outputs(const linear *l, uint32_t group, uint32_t vectors, uint32_t first,
                          uint32_t end, const float *sum) {
    const float *bias = l->call->kernel->n_in > 2 ? l->call->in[2] : NULL;
    vi seen = vi_set1(0);
    for (uint32_t v = 0; v < vectors; v++) {
        const uint32_t o = (group * TILE_V + v) * LANES, lanes = min_u32(LANES, l->out - o);
        const vf b = bias == NULL ? v_zero() : v_load_n(bias + o, lanes);
        float *y = (float *)l->call->out[0] + o;
        for (uint32_t n = first; n < end; n++) {
            const vf total =
                v_add(v_load(sum + (uint64_t)(n - first) * PANEL_WIDTH + v * LANES), b);
            const vf value = v_snap(total, v_set1(STN_LIM_X));
            seen = v_seen(seen, v_keep(vm_first(lanes), value));
            v_store_some(y + (uint64_t)n * l->out, value, lanes);
        }
    }
    flag_seen(l->call, seen);
}

static void forward_task(void *user, uint32_t task, uint32_t thread) {
    pieces p = *(const pieces *)user;
    const linear *l = &p.l;
    const uint32_t group = task % p.bundles * BUNDLE, groups = min_u32(BUNDLE, p.groups - group);
    const uint32_t first = task / p.bundles * part_rows(&p);
    const uint32_t end = min_u32(first + part_rows(&p), l->rows), blocks = blocks_of(l->out);
    const forward_local at = forward_carve(&p, p.scratch + thread * p.size);
    for (uint32_t k = 0, stop; first < end && k < l->depth; k = stop) {
        stop = piece_end(&p, k);
        for (uint32_t i = 0; i < groups; i++) {
            pack_outputs(&p, group + i, k, stop, at.w + i * at.w_panel);
        }
        for (uint32_t n = first; n < end; n += TILE_P) {
            const panel scalars = piece_scalars(&p, &at, n, min_u32(TILE_P, end - n), k, stop);
            for (uint32_t i = 0; i < groups; i++) {
                const uint64_t place = i * at.sum_panel + (uint64_t)(n - first) * PANEL_WIDTH;
                const uint32_t vectors = min_u32(TILE_V, blocks - (group + i) * TILE_V);
                panel job = scalars;
                piece_sums(&p, &job, at.w + i * at.w_panel, vectors, k, stop, at.sum + place,
                           at.open + place);
            }
        }
    }
    for (uint32_t i = 0; i < groups; i++) {
        const uint32_t vectors = min_u32(TILE_V, blocks - (group + i) * TILE_V);
        store_outputs(l, group + i, vectors, first, end, at.sum + i * at.sum_panel);
    }
}

static void run_linear(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    pieces p = forward_plan(&k->in[0], &k->out[0], cpu_pool_threads(call->pool), call->workspace);
    p.l.call = call;
    p.l.rows = min_u32(cpu_rows(call), p.l.n);
    int32_t *place = p.place;
    for (uint32_t c = 0; p.listed && c < p.l.channels; c++) {
        for (uint32_t i = 0; i < p.l.pixels; i++) {
            *place++ = (int32_t)(map_channel(&p.l.x, c) + (uint64_t)i * LANES);
        }
    }
    cpu_pool_run(call->pool, p.bundles * p.parts, forward_task, &p);
}

/* ---- input gradient ------------------------------------------------------------------------- */

/* A thread packs [SPAN_GROUPS][length][PANEL_WIDTH] weights and keeps, with several chunks of
 * outputs, the sums [SPAN_GROUPS][images][PANEL_WIDTH]. */
static uint64_t grad_x_rows(const pieces *p) {
    return (p->l.out > p->length ? part_rows(p) : 0) + TILE_P;
}

static pieces grad_x_plan(const stn_tensor *x, const stn_tensor *y, uint32_t threads,
                          void *workspace) {
    pieces p = {.l = linear_shape(x, y)};
    p.parts = share_parts(p.l.spans, p.l.n, threads);
    p.length = min_u32(p.l.out, STN_LINEAR_CHUNK);
    p.size = (uint64_t)SPAN_GROUPS * PANEL_WIDTH * (p.length + grad_x_rows(&p));
    carver c = {.base = workspace};
    p.scratch = carve(&c, threads * p.size * sizeof *p.scratch);
    p.bytes = c.used;
    return p;
}

static void pack_span(const linear *l, const span *s, uint32_t first, uint32_t end, float *to) {
    const uint64_t pitch = (uint64_t)(end - first) * PANEL_WIDTH;
    for (uint32_t o = first; o < end; o++, to += PANEL_WIDTH) {
        const float *w = (const float *)l->call->in[1] + (uint64_t)o * l->depth;
        vf r[LANES];
        if (l->blocked) {
            span_weights(l, s, w, r);
        }
        for (uint32_t v = 0; v < s->vectors; v++) {
            v_store(to + v / TILE_V * pitch + v % TILE_V * LANES,
                    l->blocked ? r[v] : v_load_some(w + s->first + v * LANES, span_lanes(l, s, v)));
        }
    }
}

/* Vectors group * TILE_V .. of images n .. from their sums. */
static vi store_inputs(const linear *l, const span *s, uint32_t group, uint32_t vectors, uint32_t n,
                       uint32_t images, const float *sum, vi seen) {
    float *gx = (float *)l->call->out[0] + n * l->x.image + s->at;
    for (uint32_t i = 0; i < images; i++, gx += l->x.image, sum += PANEL_WIDTH) {
        for (uint32_t v = 0; v < vectors; v++) {
            const vf g = v_snap(v_load(sum + v * LANES), v_set1(STN_LIM_G));
            const uint32_t at = group * TILE_V + v;
            seen = v_seen(seen, g);
            v_store_some(gx + at * LANES, g, span_lanes(l, s, at));
        }
    }
    return seen;
}

static void grad_x_task(void *user, uint32_t task, uint32_t thread) {
    const pieces *p = user;
    const linear *l = &p->l;
    const span s = span_at(l, task % l->spans);
    const uint32_t first = task / l->spans * part_rows(p);
    const uint32_t end = min_u32(first + part_rows(p), l->rows),
                   groups = ceil_div(s.vectors, TILE_V);
    float *w = p->scratch + thread * p->size;
    float *sums = w + (uint64_t)SPAN_GROUPS * PANEL_WIDTH * p->length;
    vi seen = vi_set1(0);
    for (uint32_t o = 0; o < l->out; o += p->length) {
        const uint32_t terms = min_u32(p->length, l->out - o);
        const bool last = o + terms == l->out;
        pack_span(l, &s, o, o + terms, w);
        for (uint32_t i = 0; i < groups; i++) {
            const uint32_t vectors = min_u32(TILE_V, s.vectors - i * TILE_V);
            for (uint32_t n = first; n < end; n += TILE_P) {
                const uint32_t images = min_u32(TILE_P, end - n);
                panel job = {.a = (const float *)l->call->in[0] + (uint64_t)n * l->out + o,
                             .step = 1,
                             .w = w + (uint64_t)i * terms * PANEL_WIDTH,
                             .terms = terms};
                for (uint32_t r = 0; r < TILE_P; r++) {
                    job.row[r] = (ptrdiff_t)((uint64_t)min_u32(r, images - 1) * l->out);
                }
                job.out = sums;
                if (l->out > p->length) {
                    job.out += (i * grad_x_rows(p) + n - first) * PANEL_WIDTH;
                }
                job.add = o > 0 ? job.out : NULL;
                panel_run(&job, vectors);
                if (last) {
                    seen = store_inputs(l, &s, i, vectors, n, images, job.out, seen);
                }
            }
        }
    }
    flag_seen(l->call, seen);
}

static void run_linear_grad_x(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    pieces p = grad_x_plan(&k->out[0], &k->in[0], cpu_pool_threads(call->pool), call->workspace);
    p.l.call = call;
    p.l.rows = min_u32(cpu_rows(call), p.l.n);
    cpu_pool_run(call->pool, p.l.spans * p.parts, grad_x_task, &p);
}

/* ---- selection ------------------------------------------------------------------------------ */

bool ISA(linear)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const uint64_t limit = UINT64_C(1) << 30;
    const bool forward = k->op == STN_OP_LINEAR, weight = k->op == STN_OP_LINEAR_GRAD_W;
    const stn_tensor *x = forward ? &k->in[0] : weight ? &k->in[1] : &k->out[0];
    const stn_tensor *y = forward ? &k->out[0] : &k->in[0];
    const stn_tensor *w = weight ? &k->out[0] : &k->in[1];
    if (y->layout != STN_NCHW || w->layout != STN_NCHW || y->dim[2] * y->dim[3] != 1 ||
        stn_tensor_elems(x) >= limit || stn_tensor_elems(w) >= limit ||
        stn_tensor_elems(y) >= limit) {
        return false;
    }
    if (weight) {
        return ISA(linear_grad_w)(k, threads, impl);
    }
    impl->workspace = (forward ? forward_plan : grad_x_plan)(x, y, threads, NULL).bytes;
    impl->run = forward ? run_linear : run_linear_grad_x;
    return true;
}
