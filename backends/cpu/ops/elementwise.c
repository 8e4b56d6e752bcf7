/* Element-wise operators: activation, sum, scale, pixel unpacking and the optimizers.
 *
 * Operands of one layout are walked flat, padding channels included: +0 stays +0 under all of
 * them. Tasks are runs of SPAN elements; a task loads and stores nothing outside its operands.
 */
#include "fast.h"

#define SPAN 16384u

/* One task's elements: begin .. end-1 of the stored tensors. */
typedef struct span {
    const cpu_call *call;
    uint64_t begin, end;
    vi seen;
} span;

typedef struct flat {
    const cpu_call *call;
    void (*fn)(span *s);
    uint64_t total;
} flat;

static const float *in_of(const span *s, uint32_t i) {
    return s->call->in[i];
}
static float *out_of(const span *s, uint32_t i) {
    return s->call->out[i];
}
static uint32_t lanes_at(const span *s, uint64_t i) {
    return (uint32_t)(s->end - i < LANES ? s->end - i : LANES);
}
/* Lanes past n are +0 in x, or were loaded as +0. */
VEC void put(span *s, uint32_t out, uint64_t i, vf x, uint32_t n) {
    s->seen = v_seen(s->seen, n == LANES ? x : v_keep(vm_first(n), x));
    v_store_some(out_of(s, out) + i, x, n);
}

static void flat_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const flat *f = user;
    const uint64_t begin = (uint64_t)task * SPAN;
    span s = {.call = f->call, .begin = begin, .seen = vi_set1(0)};
    s.end = f->total - begin < SPAN ? f->total : begin + SPAN;
    f->fn(&s);
    flag_seen(f->call, s.seen);
}

/* Runs fn over the first `rows` rows of operands stored like `t`. */
static void run_flat(const cpu_call *call, const stn_tensor *t, uint32_t rows,
                     void (*fn)(span *s)) {
    flat f = {call, fn, stn_tensor_elems(t) / t->dim[0] * min_u32(rows, t->dim[0])};
    cpu_pool_run(call->pool, (uint32_t)((f.total + SPAN - 1) / SPAN), flat_task, &f);
}

/* ---- activation ----------------------------------------------------------------------------- */

static void act_span(span *s) {
    const vf slope = v_set1(s->call->kernel->params.act.slope), limit = v_set1(STN_LIM_X);
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        const vf x = v_load_some(in_of(s, 0) + i, n);
        put(s, 0, i, v_select(v_gt(x, v_zero()), x, v_snap(v_mul(slope, x), limit)), n);
    }
}

/* relu: not through a product, which would turn an infinity into NaN. */
static void relu_span(span *s) {
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        const vf x = v_load_some(in_of(s, 0) + i, n);
        put(s, 0, i, v_keep(v_gt(x, v_zero()), x), n);
    }
}

static void act_grad_span(span *s) {
    const float slope = s->call->kernel->params.act.slope;
    const bool leaky = slope < 0.0f || slope > 0.0f;
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        const vf g = v_load_some(in_of(s, 0) + i, n);
        const vm on = v_gt(v_load_some(in_of(s, 1) + i, n), v_zero());
        const vf low = leaky ? v_snap(v_mul(v_set1(slope), g), v_set1(STN_LIM_G)) : v_zero();
        put(s, 0, i, v_select(on, g, low), n);
    }
}

static void run_act(const cpu_call *call) {
    const float slope = call->kernel->params.act.slope;
    const bool leaky = slope < 0.0f || slope > 0.0f;
    run_flat(call, &call->kernel->in[0], cpu_rows(call), leaky ? act_span : relu_span);
}
static void run_act_grad(const cpu_call *call) {
    run_flat(call, &call->kernel->in[0], cpu_rows(call), act_grad_span);
}

/* ---- sum and scale -------------------------------------------------------------------------- */

static float class_limit(const span *s) {
    return cpu_class_limit(s->call->kernel);
}

static void sum_span(span *s) {
    const vf limit = v_set1(class_limit(s));
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        vf x = v_load_some(in_of(s, 0) + i, n);
        for (uint32_t k = 1; k < s->call->kernel->n_in; k++) {
            x = v_add(x, v_load_some(in_of(s, k) + i, n));
        }
        put(s, 0, i, v_snap(x, limit), n);
    }
}

/* Sum in which some operands have one row, added to every row. A task is a row. */
static void sum_row(void *user, uint32_t row, uint32_t thread) {
    (void)thread;
    const cpu_call *call = user;
    const stn_kernel *k = call->kernel;
    const uint64_t length = stn_tensor_elems(&k->out[0]) / k->out[0].dim[0];
    cpu_call shifted = *call;
    for (uint32_t i = 0; i < k->n_in; i++) {
        const uint64_t from = k->in[i].dim[0] == 1 ? 0 : row * length;
        shifted.in[i] = (const float *)call->in[i] + from;
    }
    shifted.out[0] = (float *)call->out[0] + row * length;
    span s = {.call = &shifted, .end = length, .seen = vi_set1(0)};
    sum_span(&s);
    flag_seen(call, s.seen);
}

static void run_sum(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    bool repeated = false;
    for (uint32_t i = 0; i < k->n_in; i++) {
        repeated = repeated || k->in[i].dim[0] != k->out[0].dim[0];
    }
    if (repeated) {
        cpu_call copy = *call;
        cpu_pool_run(call->pool, min_u32(cpu_rows(call), k->out[0].dim[0]), sum_row, &copy);
    } else {
        run_flat(call, &k->out[0], cpu_rows(call), sum_span);
    }
}

static void scale_span(span *s) {
    const vf limit = v_set1(class_limit(s)), factor = v_set1(s->call->kernel->params.scale.factor);
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        put(s, 0, i, v_snap(v_mul(factor, v_load_some(in_of(s, 0) + i, n)), limit), n);
    }
}
static void run_scale(const cpu_call *call) {
    run_flat(call, &call->kernel->in[0], cpu_rows(call), scale_span);
}

/* ---- pixels --------------------------------------------------------------------------------- */

/* One channel of one image, NCHW. */
static void unpack_plane(void *user, uint32_t plane, uint32_t thread) {
    (void)thread;
    const cpu_call *call = user;
    const stn_tensor *t = &call->kernel->in[0];
    const uint32_t pixels = t->dim[2] * t->dim[3], c = plane % t->dim[1];
    const uint64_t at = (uint64_t)plane * pixels;
    const vf mul = v_set1(((const float *)call->in[1])[c]);
    const vf add = v_set1(((const float *)call->in[2])[c]), limit = v_set1(STN_LIM_X);
    float *out = (float *)call->out[0] + at;
    vi seen = vi_set1(0);
    for (uint32_t i = 0; i < pixels; i += LANES) {
        const uint32_t n = min_u32(LANES, pixels - i);
        vf v;
        if (t->dtype == STN_U8) {
            uint8_t byte[LANES] = {0};
            memcpy(byte, (const uint8_t *)call->in[0] + at + i, n);
            v = vi_float(vi_load_u8(byte));
        } else {
            v = v_load_some((const float *)call->in[0] + at + i, n);
        }
        const vf y = v_snap(v_fma(v, mul, add), limit);
        seen = v_seen(seen, v_keep(vm_first(n), y));
        v_store_some(out + i, y, n);
    }
    flag_seen(call, seen);
}

static void run_unpack(const cpu_call *call) {
    const stn_tensor *t = &call->kernel->in[0];
    cpu_call copy = *call;
    cpu_pool_run(call->pool, min_u32(cpu_rows(call), t->dim[0]) * t->dim[1], unpack_plane, &copy);
}

/* ---- optimizers ----------------------------------------------------------------------------- */

static vf slot(const span *s, uint32_t index) {
    return v_set1(s->call->step->scalar[index]);
}

static void sgd_span(span *s) {
    const stn_opt_params *p = &s->call->kernel->params.opt;
    const vf lr = v_neg(slot(s, p->slot_lr)), mu = v_set1(p->mu), wd = v_set1(p->wd);
    const vf lim_g = v_set1(STN_LIM_G), lim_x = v_set1(STN_LIM_X);
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        const vf w = v_load_some(in_of(s, 1) + i, n);
        const vf g = v_snap(v_fma(wd, w, v_load_some(in_of(s, 0) + i, n)), lim_g);
        const vf v = v_snap(v_fma(mu, v_load_some(in_of(s, 2) + i, n), g), lim_g);
        const vf u = p->nesterov ? v_snap(v_fma(mu, v, g), lim_g) : v;
        put(s, 0, i, v_snap(v_fma(lr, u, w), lim_x), n);
        put(s, 1, i, v, n);
    }
}

static void adam_span(span *s) {
    const stn_opt_params *p = &s->call->kernel->params.opt;
    const vf lr = v_neg(slot(s, p->slot_lr)), eps = slot(s, p->slot_eps);
    const vf lw = p->decoupled ? v_neg(slot(s, p->slot_lw)) : v_zero();
    const vf lim_g = v_set1(STN_LIM_G), lim_x = v_set1(STN_LIM_X);
    for (uint64_t i = s->begin; i < s->end; i += LANES) {
        const uint32_t n = lanes_at(s, i);
        vf g = v_load_some(in_of(s, 0) + i, n), w = v_load_some(in_of(s, 1) + i, n);
        vf m = v_load_some(in_of(s, 2) + i, n), v = v_load_some(in_of(s, 3) + i, n);
        if (p->decoupled) {
            w = v_fma(lw, w, w);
        } else {
            g = v_fma(v_set1(p->wd), w, g);
        }
        g = v_snap(g, v_set1(STN_LIM_GA));
        m = v_snap(v_fma(v_set1(p->omb1), v_snap(v_sub(g, m), lim_g), m), lim_g);
        v = v_snap(v_fma(v_set1(p->omb2), v_fma(g, g, v_neg(v)), v), v_set1(STN_LIM_V));
        const vf q = v_snap(v_divide(m, v_add(v_root(v), eps)), lim_x);
        put(s, 0, i, v_snap(v_fma(lr, q, w), lim_x), n);
        put(s, 1, i, m, n);
        put(s, 2, i, v, n);
    }
}

static void run_optimizer(const cpu_call *call) {
    const stn_tensor *w = &call->kernel->in[1];
    if (!cpu_flagged(call)) {
        run_flat(call, w, w->dim[0], call->kernel->op == STN_OP_SGD ? sgd_span : adam_span);
    }
}

/* ---- selection ------------------------------------------------------------------------------ */

/* All float operands are stored alike. */
static bool alike(const stn_kernel *k) {
    bool same = true;
    for (uint32_t i = 0; i < k->n_in; i++) {
        same = same && k->in[i].layout == k->out[0].layout;
    }
    for (uint32_t i = 0; i < k->n_out; i++) {
        same = same && k->out[i].layout == k->out[0].layout;
    }
    return same;
}

bool ISA(elementwise)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    (void)threads;
    impl->run = k->op == STN_OP_ACT        ? run_act
                : k->op == STN_OP_ACT_GRAD ? run_act_grad
                : k->op == STN_OP_SUM      ? run_sum
                : k->op == STN_OP_SCALE    ? run_scale
                : k->op == STN_OP_UNPACK   ? run_unpack
                                           : run_optimizer;
    return alike(k) && (k->op != STN_OP_UNPACK || k->in[0].layout == STN_NCHW);
}
