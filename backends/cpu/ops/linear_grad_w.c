/* LINEAR_GRAD_W: gw[o,k] = sum_n gy[n,o] x[n,k] over shards of images.
 *
 * Lanes are 16 neighbours of x's storage. A task packs a span of x of all images and goes through
 * the outputs, TILE_P at a time; the tree over the shards is a binary counter of open sums.
 */
#include "linear.h"

#define MAX_LEVELS 11u

typedef struct grad_w {
    linear l;
    uint32_t shards, parts;
    uint64_t size, bytes; /* size: floats of one thread */
    float *scratch;       /* x [SPAN_GROUPS][n][PANEL_WIDTH], gy [n][TILE_P] */
} grad_w;

static grad_w grad_w_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    grad_w w = {.l = linear_shape(&k->in[1], &k->in[0]), .shards = k->params.linear.shards};
    w.parts = share_parts(w.l.spans, w.l.out, threads);
    w.size = w.l.n * (uint64_t)(SPAN_GROUPS * PANEL_WIDTH + TILE_P);
    carver c = {.base = workspace};
    w.scratch = carve(&c, threads * w.size * sizeof *w.scratch);
    w.bytes = c.used;
    return w;
}

static void pack_images(const linear *l, const span *s, float *to) {
    const float *x = (const float *)l->call->in[1] + s->at;
    const uint64_t pitch = (uint64_t)l->n * PANEL_WIDTH;
    for (uint32_t n = 0; n < l->rows; n++, x += l->x.image, to += PANEL_WIDTH) {
        for (uint32_t v = 0; v < s->vectors; v++) {
            v_store(to + v / TILE_V * pitch + v % TILE_V * LANES,
                    v_load_some(x + v * LANES, span_lanes(l, s, v)));
        }
    }
}

static void pack_gradients(const linear *l, uint32_t o, float *to) {
    const float *gy = l->call->in[0];
    for (uint32_t n = 0; n < l->rows; n++, gy += l->out, to += TILE_P) {
        if (o + TILE_P <= l->out) {
            memcpy(to, gy + o, TILE_P * sizeof *to);
            continue;
        }
        for (uint32_t p = 0; p < TILE_P; p++) {
            to[p] = gy[min_u32(o + p, l->out - 1)];
        }
    }
}

/* Sums of a tile over all shards; returns where they are in level[]. */
static const float *shard_sums(const grad_w *w, panel *job, const float *x, const float *gy,
                               uint32_t vectors, float level[][PANEL_SIZE]) {
    const uint64_t length = ceil_div(w->l.n, w->shards);
    uint32_t top = 0;
    for (uint32_t s = 0; s < w->shards; s++) {
        const uint32_t first = min_u32((uint32_t)(s * length), w->l.rows);
        const uint32_t end = min_u32((uint32_t)((s + 1) * length), w->l.rows);
        top = (uint32_t)__builtin_ctz(~s);
        job->a = gy + (uint64_t)first * TILE_P;
        job->w = x + (uint64_t)first * PANEL_WIDTH;
        job->terms = end - first;
        job->add = top > 0 ? level[0] : NULL;
        job->out = level[top];
        panel_run(job, vectors);
        for (uint32_t l = 1; l < top; l++) {
            for (uint32_t i = 0; i < PANEL_SIZE; i += LANES) {
                v_store(level[top] + i, v_add(v_load(level[l] + i), v_load(level[top] + i)));
            }
        }
    }
    return level[top];
}

/* Output o of a span from its sums [SPAN][16]. */
static vi store_span(const linear *l, const span *s, uint32_t o, const float *sum, vi seen) {
    float *gw = (float *)l->call->out[0] + (uint64_t)o * l->depth;
    const vf limit = v_set1(cpu_grad_limit(l->call));
    vf r[LANES];
    for (uint32_t v = 0; v < LANES; v++) {
        r[v] = v < s->vectors ? v_snap(v_load(sum + v * LANES), limit) : v_zero();
        seen = v_seen(seen, r[v]);
    }
    if (l->blocked) {
        span_store(l, s, gw, r);
        return seen;
    }
    for (uint32_t v = 0; v < s->vectors; v++) {
        v_store_some(gw + s->first + v * LANES, r[v], span_lanes(l, s, v));
    }
    return seen;
}

static void grad_w_task(void *user, uint32_t task, uint32_t thread) {
    const grad_w *w = user;
    const linear *l = &w->l;
    const span s = span_at(l, task % l->spans);
    const uint32_t tiles = ceil_div(l->out, TILE_P), share = ceil_div(tiles, w->parts);
    const uint32_t first = task / l->spans * share, end = min_u32(first + share, tiles);
    float *x = w->scratch + thread * w->size;
    float *gy = x + (uint64_t)SPAN_GROUPS * PANEL_WIDTH * l->n;
    float level[MAX_LEVELS][PANEL_SIZE] = {{0}}, sum[TILE_P][SPAN * LANES];
    panel job = {.step = TILE_P};
    vi seen = vi_set1(0);
    for (uint32_t p = 0; p < TILE_P; p++) {
        job.row[p] = p;
    }
    pack_images(l, &s, x);
    for (uint32_t t = first; t < end; t++) {
        pack_gradients(l, t * TILE_P, gy);
        for (uint32_t i = 0; i * TILE_V < s.vectors; i++) {
            const uint32_t vectors = min_u32(TILE_V, s.vectors - i * TILE_V);
            const float *total =
                shard_sums(w, &job, x + (uint64_t)i * l->n * PANEL_WIDTH, gy, vectors, level);
            for (uint32_t p = 0; p < TILE_P; p++) {
                memcpy(sum[p] + i * PANEL_WIDTH, total + p * PANEL_WIDTH,
                       PANEL_WIDTH * sizeof *total);
            }
        }
        for (uint32_t p = 0; p < min_u32(TILE_P, l->out - t * TILE_P); p++) {
            seen = store_span(l, &s, t * TILE_P + p, sum[p], seen);
        }
    }
    flag_seen(l->call, seen);
}

static void run_linear_grad_w(const cpu_call *call) {
    grad_w w = grad_w_plan(call->kernel, cpu_pool_threads(call->pool), call->workspace);
    w.l.call = call;
    w.l.rows = min_u32(cpu_rows(call), w.l.n);
    cpu_pool_run(call->pool, w.l.spans * w.parts, grad_w_task, &w);
}

bool ISA(linear_grad_w)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const grad_w w = grad_w_plan(k, threads, NULL);
    impl->workspace = w.bytes;
    impl->run = run_linear_grad_w;
    return w.shards <= 1u << (MAX_LEVELS - 1u);
}
