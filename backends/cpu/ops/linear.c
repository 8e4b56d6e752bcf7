/* LINEAR and its gradients on the register tile.
 *
 * y[n,o] = sum_k x[n,k] w[o,k] (k canonical: c, h, w). The layout of x only changes where element k
 * lies, so NC16 maps are read in place. Lanes are outputs (forward) or 16 neighbours of x's
 * storage (gradients).
 */
#include "fast.h"
#include "isa/tile.h"

#define GROUP (TILE_V * LANES)
#define UNIT_ROWS 32u /* images of one task */
#define MAX_LEVELS 11u

typedef struct linear {
    const cpu_call *call;
    map_addr x;
    uint32_t n, rows, out, depth, pixels; /* depth: K; pixels: H*W */
    uint32_t vectors, groups;             /* 16-lane vectors of the lanes' side, in groups */
    bool blocked;
    uint64_t bytes;
    float *packed; /* [groups][terms][GROUP] */
    term *terms;
    float *sums; /* per thread: [UNIT_ROWS][GROUP] */
} linear;

/* Canonical index of lane 0 of storage vector v, and how far apart its lanes are. */
static uint32_t lane_index(const linear *l, uint32_t v, uint32_t *stride) {
    *stride = l->blocked ? l->pixels : 1;
    return l->blocked ? v / l->pixels * LANES * l->pixels + v % l->pixels : v * LANES;
}

/* Lanes of storage vector v that are elements. */
static uint32_t lane_count(const linear *l, uint32_t v) {
    return l->blocked ? min_u32(LANES, (l->depth / l->pixels) - v / l->pixels * LANES)
                      : min_u32(LANES, l->depth - v * LANES);
}

/* x: the input or its gradient; y: the output or its gradient. */
static linear linear_plan(const stn_tensor *x, const stn_tensor *y, bool forward, uint32_t threads,
                          void *workspace) {
    linear l = {.n = x->dim[0], .out = y->dim[1], .pixels = x->dim[2] * x->dim[3]};
    l.depth = x->dim[1] * l.pixels;
    l.blocked = x->layout == STN_NC16;
    l.x = map_of(x->layout, x->dim[1], x->dim[2], x->dim[3]);
    l.vectors = forward ? blocks_of(l.out) : (uint32_t)((l.x.image + LANES - 1) / LANES);
    l.groups = ceil_div(l.vectors, TILE_V);
    const uint32_t terms = forward ? l.depth : l.out;
    carver c = {.base = workspace};
    l.packed = carve(&c, (uint64_t)l.groups * terms * GROUP * sizeof *l.packed);
    l.terms = carve(&c, terms * sizeof *l.terms);
    l.sums = carve(&c, (uint64_t)threads * (UNIT_ROWS + TILE_P) * GROUP * sizeof *l.sums);
    l.bytes = c.used;
    return l;
}

/* Sums of a group for images first .. first+rows-1 over `depth` terms in chunks of 512. */
static void linear_sums(const linear *l, const float *a, uint64_t pitch, uint32_t group,
                        uint32_t depth, uint32_t rows, float *sums) {
    const uint32_t vectors = min_u32(TILE_V, l->vectors - group * TILE_V);
    const float *w = l->packed + (uint64_t)group * depth * GROUP;
    tile job = {.a = a, .vector = {w}};
    job.vector[TILE_V - 1] = w + (vectors - 1) * LANES;
    for (uint32_t start = 0; start < depth; start += STN_LINEAR_CHUNK) {
        job.term = l->terms + start;
        job.terms = min_u32(STN_LINEAR_CHUNK, depth - start);
        job.add = start > 0;
        for (uint32_t p = 0; p < rows; p += TILE_P) {
            for (uint32_t i = 0; i < TILE_P; i++) {
                job.scalar[i] = (ptrdiff_t)(min_u32(p + i, rows - 1) * pitch);
            }
            job.out = sums + (uint64_t)p * GROUP;
            tile_run(&job, vectors);
        }
    }
}

/* ---- forward -------------------------------------------------------------------------------- */

static void pack_outputs(void *user, uint32_t group, uint32_t thread) {
    (void)thread;
    const linear *l = user;
    const float *w = l->call->in[1];
    float *to = l->packed + (uint64_t)group * l->depth * GROUP;
    const uint32_t first = group * GROUP, real = min_u32(GROUP, l->out - first);
    memset(to, 0, (uint64_t)l->depth * GROUP * sizeof *to);
    for (uint32_t k = 0; k < l->depth; k++) {
        for (uint32_t o = 0; o < real; o++) {
            to[(uint64_t)k * GROUP + o] = w[(uint64_t)(first + o) * l->depth + k];
        }
    }
}

static void forward_task(void *user, uint32_t task, uint32_t thread) {
    const linear *l = user;
    const uint32_t group = task % l->groups, first = task / l->groups * UNIT_ROWS;
    const uint32_t rows = min_u32(UNIT_ROWS, l->rows - first);
    float *sums = l->sums + (uint64_t)thread * (UNIT_ROWS + TILE_P) * GROUP;
    linear_sums(l, (const float *)l->call->in[0] + first * l->x.image, l->x.image, group, l->depth,
                rows, sums);
    const float *bias = l->call->kernel->n_in > 2 ? l->call->in[2] : NULL;
    vi seen = vi_set1(0);
    for (uint32_t v = 0; v < min_u32(TILE_V, l->vectors - group * TILE_V); v++) {
        const uint32_t o = (group * TILE_V + v) * LANES, lanes = min_u32(LANES, l->out - o);
        const vf b = bias == NULL ? v_zero() : v_load_n(bias + o, lanes);
        for (uint32_t i = 0; i < rows; i++) {
            const vf sum = v_add(v_load(sums + (uint64_t)i * GROUP + v * LANES), b);
            const vf y = v_snap(sum, v_set1(STN_LIM_X));
            seen = v_seen(seen, v_keep(vm_first(lanes), y));
            v_store_n((float *)l->call->out[0] + (uint64_t)(first + i) * l->out + o, y, lanes);
        }
    }
    flag_seen(l->call, seen);
}

static void run_linear(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    linear l =
        linear_plan(&k->in[0], &k->out[0], true, cpu_pool_threads(call->pool), call->workspace);
    l.call = call;
    l.rows = min_u32(cpu_rows(call), l.n);
    for (uint32_t t = 0; t < l.depth; t++) {
        const uint64_t at = map_channel(&l.x, t / l.pixels) + t % l.pixels * l.x.step;
        l.terms[t] = (term){(int32_t)at, (int32_t)(t * GROUP)};
    }
    cpu_pool_run(call->pool, l.groups, pack_outputs, &l);
    cpu_pool_run(call->pool, ceil_div(l.rows, UNIT_ROWS) * l.groups, forward_task, &l);
}

/* ---- input gradient ------------------------------------------------------------------------- */

static void pack_inputs(void *user, uint32_t group, uint32_t thread) {
    (void)thread;
    const linear *l = user;
    const float *w = l->call->in[1];
    float *to = l->packed + (uint64_t)group * l->out * GROUP;
    memset(to, 0, (uint64_t)l->out * GROUP * sizeof *to);
    for (uint32_t v = 0; v < min_u32(TILE_V, l->vectors - group * TILE_V); v++) {
        uint32_t stride;
        const uint32_t index = lane_index(l, group * TILE_V + v, &stride);
        const uint32_t lanes = lane_count(l, group * TILE_V + v);
        for (uint32_t o = 0; o < l->out; o++) {
            for (uint32_t j = 0; j < lanes; j++) {
                to[(uint64_t)o * GROUP + v * LANES + j] =
                    w[(uint64_t)o * l->depth + index + (uint64_t)j * stride];
            }
        }
    }
}

static void grad_x_task(void *user, uint32_t task, uint32_t thread) {
    const linear *l = user;
    const uint32_t group = task % l->groups, first = task / l->groups * UNIT_ROWS;
    const uint32_t rows = min_u32(UNIT_ROWS, l->rows - first);
    float *sums = l->sums + (uint64_t)thread * (UNIT_ROWS + TILE_P) * GROUP;
    linear_sums(l, (const float *)l->call->in[0] + (uint64_t)first * l->out, l->out, group, l->out,
                rows, sums);
    vi seen = vi_set1(0);
    for (uint32_t i = 0; i < rows; i++) {
        float *gx = (float *)l->call->out[0] + (first + i) * l->x.image;
        for (uint32_t v = 0; v < min_u32(TILE_V, l->vectors - group * TILE_V); v++) {
            const uint64_t at = (uint64_t)(group * TILE_V + v) * LANES;
            const vf sum = v_load(sums + (uint64_t)i * GROUP + v * LANES);
            const vf g = v_snap(sum, v_set1(STN_LIM_G));
            seen = v_seen(seen, g);
            v_store_n(gx + at, g, (uint32_t)(l->x.image - at < LANES ? l->x.image - at : LANES));
        }
    }
    flag_seen(l->call, seen);
}

static void run_linear_grad_x(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    linear l =
        linear_plan(&k->out[0], &k->in[0], false, cpu_pool_threads(call->pool), call->workspace);
    l.call = call;
    l.rows = min_u32(cpu_rows(call), l.n);
    for (uint32_t o = 0; o < l.out; o++) {
        l.terms[o] = (term){(int32_t)o, (int32_t)(o * GROUP)};
    }
    cpu_pool_run(call->pool, l.groups, pack_inputs, &l);
    cpu_pool_run(call->pool, ceil_div(l.rows, UNIT_ROWS) * l.groups, grad_x_task, &l);
}

/* ---- weight gradient ------------------------------------------------------------------------ */

typedef struct grad_w {
    linear l;
    uint32_t shards;
    term *terms; /* [n]: image */
} grad_w;

static grad_w grad_w_plan(const stn_kernel *k, void *workspace) {
    grad_w w = {.l = linear_plan(&k->in[1], &k->in[0], false, 0, NULL),
                .shards = k->params.linear.shards};
    carver c = {.base = workspace};
    w.terms = carve(&c, w.l.n * sizeof *w.terms);
    w.l.bytes = c.used;
    return w;
}

/* Storage position of vector v; the last one of a plain row moves back to stay inside the row, and
 * *skip of its lanes belong to the vector before. */
static uint64_t vector_at(const linear *l, uint32_t v, uint32_t *skip) {
    const uint64_t at = (uint64_t)v * LANES;
    *skip = at + LANES > l->x.image ? (uint32_t)(at + LANES - l->x.image) : 0;
    return at - *skip;
}

/* Sums over all shards of one tile: TILE_P outputs from o on, one group of vectors. */
static void tile_shards(const grad_w *w, tile *job, uint32_t vectors, float *sum) {
    float level[MAX_LEVELS][TILE_P * GROUP];
    for (uint32_t s = 0; s < w->shards; s++) {
        const uint64_t length = ceil_div(w->l.n, w->shards);
        const uint32_t first = min_u32((uint32_t)(s * length), w->l.rows);
        const uint32_t end = min_u32((uint32_t)((s + 1) * length), w->l.rows);
        job->term = w->terms + first;
        job->terms = end - first;
        job->out = sum;
        tile_run(job, vectors);
        uint32_t l = 0;
        for (; (s >> l & 1u) != 0; l++) {
            for (uint32_t i = 0; i < TILE_P * GROUP; i += LANES) {
                v_store(sum + i, v_add(v_load(level[l] + i), v_load(sum + i)));
            }
        }
        memcpy(level[l], sum, sizeof level[l]);
    }
}

static void grad_w_store(const grad_w *w, uint32_t o, uint32_t v, uint32_t skip, const float *sum) {
    const linear *l = &w->l;
    uint32_t stride;
    const uint32_t index = lane_index(l, v, &stride), lanes = lane_count(l, v);
    float lane[LANES];
    const vf g = v_snap(v_load(sum), v_set1(STN_LIM_G));
    v_store(lane, g);
    float *to = (float *)l->call->out[0] + (uint64_t)o * l->depth + index;
    vi seen = vi_set1(0);
    for (uint32_t j = 0; j < lanes; j++) {
        to[(uint64_t)j * stride] = lane[j + skip];
    }
    seen = v_seen(seen, v_keep(vm_first(lanes + skip), g));
    flag_seen(l->call, seen);
}

static void grad_w_task(void *user, uint32_t group, uint32_t thread) {
    (void)thread;
    const grad_w *w = user;
    const linear *l = &w->l;
    const uint32_t vectors = min_u32(TILE_V, l->vectors - group * TILE_V);
    const float *gy = l->call->in[0], *x = l->call->in[1];
    uint32_t skip[TILE_V] = {0};
    tile job = {.a = gy};
    for (uint32_t v = 0; v < vectors; v++) {
        job.vector[v] = x + vector_at(l, group * TILE_V + v, &skip[v]);
    }
    for (uint32_t o = 0; o < l->out; o += TILE_P) {
        float sum[TILE_P * GROUP] = {0};
        for (uint32_t p = 0; p < TILE_P; p++) {
            job.scalar[p] = min_u32(o + p, l->out - 1);
        }
        tile_shards(w, &job, vectors, sum);
        for (uint32_t p = 0; p < min_u32(TILE_P, l->out - o); p++) {
            for (uint32_t v = 0; v < vectors; v++) {
                grad_w_store(w, o + p, group * TILE_V + v, skip[v], sum + p * GROUP + v * LANES);
            }
        }
    }
}

static void run_linear_grad_w(const cpu_call *call) {
    grad_w w = grad_w_plan(call->kernel, call->workspace);
    w.l.call = call;
    w.l.rows = min_u32(cpu_rows(call), w.l.n);
    for (uint32_t n = 0; n < w.l.rows; n++) {
        w.terms[n] = (term){(int32_t)(n * w.l.out), (int32_t)(n * w.l.x.image)};
    }
    cpu_pool_run(call->pool, w.l.groups, grad_w_task, &w);
}

/* ---- selection ------------------------------------------------------------------------------ */

bool ISA(linear)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const uint64_t limit = UINT64_C(1) << 30;
    const bool forward = k->op == STN_OP_LINEAR, weight = k->op == STN_OP_LINEAR_GRAD_W;
    const stn_tensor *x = forward ? &k->in[0] : weight ? &k->in[1] : &k->out[0];
    const stn_tensor *y = forward ? &k->out[0] : &k->in[0];
    const stn_tensor *w = weight ? &k->out[0] : &k->in[1];
    if (y->layout != STN_NCHW || w->layout != STN_NCHW || y->dim[2] * y->dim[3] != 1 ||
        stn_tensor_elems(x) >= limit || stn_tensor_elems(w) >= limit / 16 ||
        stn_tensor_elems(y) >= limit) {
        return false;
    }
    if (weight) {
        const grad_w plan = grad_w_plan(k, NULL);
        impl->workspace = plan.l.bytes;
        impl->run = run_linear_grad_w;
        return plan.l.x.image >= LANES && plan.shards <= 1u << (MAX_LEVELS - 1u);
    }
    impl->workspace = linear_plan(x, y, forward, threads, NULL).bytes;
    impl->run = forward ? run_linear : run_linear_grad_x;
    return true;
}
