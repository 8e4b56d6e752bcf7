/* MAXPOOL, AVGPOOL and their gradients on NC16 maps: lanes are channels, a task is one block of
 * one image. Lanes past C are +0 and stay so.
 */
#include "gradient.h"

typedef struct pool {
    const cpu_call *call;
    conv_geom g; /* the pool's part, behind a convolution of oh x ow values */
    float scale; /* average: of a window's sum */
    bool halving;
} pool;

static pool pool_shape(const stn_kernel *k) {
    const bool forward = k->op == STN_OP_MAXPOOL || k->op == STN_OP_AVGPOOL;
    const stn_pool_params *p = &k->params.pool;
    const stn_tensor *x = forward ? &k->in[0] : &k->out[0], *y = forward ? &k->out[0] : &k->in[0];
    pool s = {.scale = p->scale};
    s.halving = p->kh == 2 && p->kw == 2 && p->stride_h == 2 && p->stride_w == 2;
    s.g = (conv_geom){.n = x->dim[0],
                      .o = x->dim[1],
                      .oh = x->dim[2],
                      .ow = x->dim[3],
                      .pool_kh = p->kh,
                      .pool_kw = p->kw,
                      .pool_sh = p->stride_h,
                      .pool_sw = p->stride_w,
                      .poh = y->dim[2],
                      .pow = y->dim[3],
                      .pooled = true};
    return s;
}

/* Places of task `task` in the maps behind and before the pool. */
static uint64_t small_at(const conv_geom *g, uint32_t task) {
    return (uint64_t)task * g->poh * g->pow * LANES;
}
static uint64_t large_at(const conv_geom *g, uint32_t task) {
    return (uint64_t)task * g->oh * g->ow * LANES;
}

/* ---- maximum -------------------------------------------------------------------------------- */

/* One row of windows; x: its first value. */
VEC vi max_row(const conv_geom *g, const uint32_t kh, const uint32_t kw, const float *x, float *y,
               uint8_t *index, vi seen) {
    for (uint32_t q = 0; q < g->pow; q++, x += g->pool_sw * LANES) {
        vf best = v_load(x);
        vi where = vi_set1(0);
        for (uint32_t i = 0; i < kh; i++) {
            for (uint32_t j = i == 0 ? 1 : 0; j < kw; j++) {
                const vf v = v_load(x + ((uint64_t)i * g->ow + j) * LANES);
                const vm better = v_gt(v, best);
                best = v_select(better, v, best);
                where = vi_select(better, vi_set1((int32_t)(i * kw + j)), where);
            }
        }
        seen = v_seen(seen, best);
        v_store(y + q * LANES, best);
        vi_store_u8(index + q * LANES, where);
    }
    return seen;
}

static void max_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const pool *s = user;
    const conv_geom *g = &s->g;
    const float *x = (const float *)s->call->in[0] + large_at(g, task);
    float *y = (float *)s->call->out[0] + small_at(g, task);
    uint8_t *index = (uint8_t *)s->call->out[1] + small_at(g, task);
    vi seen = vi_set1(0);
    for (uint32_t r = 0; r < g->poh; r++) {
        const uint64_t out = (uint64_t)r * g->pow * LANES;
        const float *row = x + (uint64_t)r * g->pool_sh * g->ow * LANES;
        if (g->pool_kh == 2 && g->pool_kw == 2) {
            seen = max_row(g, 2, 2, row, y + out, index + out, seen);
        } else if (g->pool_kh == 3 && g->pool_kw == 3) {
            seen = max_row(g, 3, 3, row, y + out, index + out, seen);
        } else {
            seen = max_row(g, g->pool_kh, g->pool_kw, row, y + out, index + out, seen);
        }
    }
    flag_seen(s->call, seen);
}

static void max_grad_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const pool *s = user;
    const conv_geom *g = &s->g;
    const grad_block b = {.gy = (const float *)s->call->in[0] + small_at(g, task),
                          .y = (const float *)s->call->in[0] + small_at(g, task),
                          .index = (const uint8_t *)s->call->in[1] + small_at(g, task)};
    float *gx = (float *)s->call->out[0] + large_at(g, task);
    vi seen = vi_set1(0);
    (void)ISA(grad_dense)(g, &b, gx);
    for (uint64_t i = 0; i < (uint64_t)g->oh * g->ow; i++) {
        seen = v_seen(seen, v_load(gx + i * LANES));
    }
    flag_seen(s->call, seen);
}

/* ---- average -------------------------------------------------------------------------------- */

/* The sum of a window of kh x kw values, row by row from +0, or in pairs. */
VEC vf window_sum(const pool *s, const float *x) {
    const uint64_t row = (uint64_t)s->g.ow * LANES;
    if (s->halving) {
        return v_add(v_add(v_load(x), v_load(x + LANES)),
                     v_add(v_load(x + row), v_load(x + row + LANES)));
    }
    vf sum = v_zero();
    for (uint32_t i = 0; i < s->g.pool_kh; i++) {
        for (uint32_t j = 0; j < s->g.pool_kw; j++) {
            sum = v_add(sum, v_load(x + i * row + j * LANES));
        }
    }
    return sum;
}

static vf average_scale(const pool *s) {
    return v_set1(s->halving ? 0.25f : s->scale);
}

static void average_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const pool *s = user;
    const conv_geom *g = &s->g;
    const float *x = (const float *)s->call->in[0] + large_at(g, task);
    float *y = (float *)s->call->out[0] + small_at(g, task);
    const vf scale = average_scale(s), limit = v_set1(STN_LIM_X);
    vi seen = vi_set1(0);
    for (uint32_t r = 0; r < g->poh; r++) {
        for (uint32_t q = 0; q < g->pow; q++, y += LANES) {
            const uint64_t corner = (uint64_t)r * g->pool_sh * g->ow + q * g->pool_sw;
            const vf v = v_snap(v_mul(window_sum(s, x + corner * LANES), scale), limit);
            seen = v_seen(seen, v);
            v_store(y, v);
        }
    }
    flag_seen(s->call, seen);
}

/* Windows along one axis that cover position i: *first .. *end - 1. */
static void covering(uint32_t i, uint32_t window, uint32_t stride, uint32_t count, uint32_t *first,
                     uint32_t *end) {
    *first = i < window ? 0 : (i - window) / stride + 1;
    *end = min_u32(count, i / stride + 1);
}

static void average_grad_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const pool *s = user;
    const conv_geom *g = &s->g;
    const float *gy = (const float *)s->call->in[0] + small_at(g, task);
    float *gx = (float *)s->call->out[0] + large_at(g, task);
    const vf scale = average_scale(s), limit = v_set1(STN_LIM_G);
    vi seen = vi_set1(0);
    for (uint32_t h = 0; h < g->oh; h++) {
        uint32_t top, bottom, left, right;
        covering(h, g->pool_kh, g->pool_sh, g->poh, &top, &bottom);
        for (uint32_t w = 0; w < g->ow; w++, gx += LANES) {
            covering(w, g->pool_kw, g->pool_sw, g->pow, &left, &right);
            vf sum = v_zero();
            for (uint32_t r = top; r < bottom; r++) {
                for (uint32_t q = left; q < right; q++) {
                    sum = v_add(sum, v_load(gy + ((uint64_t)r * g->pow + q) * LANES));
                }
            }
            const vf v = v_snap(v_mul(sum, scale), limit);
            seen = v_seen(seen, v);
            v_store(gx, v);
        }
    }
    flag_seen(s->call, seen);
}

/* ---- both ----------------------------------------------------------------------------------- */

static void run_pool(const cpu_call *call) {
    pool s = pool_shape(call->kernel);
    s.call = call;
    const uint32_t op = call->kernel->op;
    cpu_pool_run(call->pool, min_u32(cpu_rows(call), s.g.n) * blocks_of(s.g.o),
                 op == STN_OP_MAXPOOL        ? max_task
                 : op == STN_OP_MAXPOOL_GRAD ? max_grad_task
                 : op == STN_OP_AVGPOOL      ? average_task
                                             : average_grad_task,
                 &s);
}

bool ISA(pool)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    (void)threads;
    bool blocked = true;
    for (uint32_t i = 0; i < k->n_in; i++) {
        blocked = blocked && k->in[i].layout == STN_NC16;
    }
    for (uint32_t i = 0; i < k->n_out; i++) {
        blocked = blocked && k->out[i].layout == STN_NC16;
    }
    impl->run = run_pool;
    return blocked;
}
