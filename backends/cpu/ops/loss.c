/* XENT, XENT_GRAD and XENT_BOTH on 16 rows at a time: the lanes are rows, so a sum over classes is
 * the chain of the reference (ref/loss.c). */
#include "fast.h"

typedef struct xent {
    const cpu_call *call;
    uint32_t rows, heads, classes, width; /* width: heads * classes */
    float *stats, *grad;                  /* NULL: not wanted */
    int32_t *best;
    float *logits; /* per thread: [width][16] */
} xent;

/* The largest of a row's logits and the first class that has it. */
static vf first_maximum(const float *z, uint32_t classes, vi *where) {
    vf max = v_load(z);
    *where = vi_set1(0);
    for (uint32_t k = 1; k < classes; k++) {
        const vf value = v_load(z + k * LANES);
        *where = vi_select(v_gt(value, max), vi_set1((int32_t)k), *where);
        max = v_max(value, max);
    }
    return max;
}

/* Statistics and class of a head: (z_label - max, sum of exponentials) and the first maximum. A
 * label that is no class counts as the maximum. */
static void put_stats(const xent *x, uint32_t first, uint32_t n, uint32_t head, vf score, vf sum,
                      vi where) {
    float a[LANES], b[LANES];
    int32_t class[LANES];
    v_store(a, score);
    v_store(b, sum);
    vi_store(class, where);
    for (uint32_t j = 0; j < n; j++) {
        const uint64_t at = (uint64_t)(first + j) * x->heads + head;
        x->stats[2 * at] = a[j];
        x->stats[2 * at + 1] = b[j];
        x->best[at] = class[j];
    }
}

/* z: the head's logits, which become its gradients if those are wanted. */
static vi head_task(const xent *x, uint32_t first, uint32_t n, uint32_t head, float *z) {
    const int32_t *labels = (const int32_t *)x->call->in[1] + (uint64_t)first * x->heads + head;
    int32_t of[LANES] = {0};
    for (uint32_t j = 0; j < n; j++) {
        of[j] = labels[(uint64_t)j * x->heads];
    }
    const vi label = vi_load(of);
    vi where, seen = vi_set1(0);
    const vf max = first_maximum(z, x->classes, &where);
    vf score = max, sum = v_zero();
    for (uint32_t k = 0; k < x->classes; k++) {
        const vf value = v_load(z + k * LANES), e = v_exp(v_sub(value, max));
        score = v_select(vi_eq(label, vi_set1((int32_t)k)), value, score);
        sum = v_add(sum, e);
        v_store(z + k * LANES, e);
    }
    score = v_sub(score, max);
    const vm real = vm_first(n);
    if (x->stats != NULL) {
        put_stats(x, first, n, head, score, sum, where);
        seen = v_seen(v_seen(seen, v_keep(real, score)), v_keep(real, sum));
    }
    if (x->grad != NULL) {
        const vf recip = v_recip(sum);
        const vf inv_n = v_set1(x->call->step->scalar[x->call->kernel->params.loss.slot_inv_n]);
        for (uint32_t k = 0; k < x->classes; k++) {
            const vm target = vi_eq(label, vi_set1((int32_t)k));
            const vf off = v_select(target, v_set1(-1.0f), v_set1(-0.0f));
            const vf g = v_mul(v_fma(v_load(z + k * LANES), recip, off), inv_n);
            v_store(z + k * LANES, v_snap(g, v_set1(STN_LIM_G)));
            seen = v_seen(seen, v_keep(real, g));
        }
    }
    return seen;
}

static void xent_task(void *user, uint32_t task, uint32_t thread) {
    const xent *x = user;
    const uint32_t first = task * LANES, n = min_u32(LANES, x->rows - first);
    float *z = x->logits + (uint64_t)thread * (x->width * LANES + APART);
    vi seen = vi_set1(0);
    turn_rows((const float *)x->call->in[0] + (uint64_t)first * x->width, x->width, n, x->width, z,
              LANES);
    for (uint32_t h = 0; h < x->heads; h++) {
        seen = vi_max(seen, head_task(x, first, n, h, z + (uint64_t)h * x->classes * LANES));
    }
    if (x->grad != NULL) {
        float *to = x->grad + (uint64_t)first * x->width;
        for (uint32_t j = 0; j < n; j++, to += x->width) {
            for (uint32_t k = 0; k < x->width; k++) {
                to[k] = z[(uint64_t)k * LANES + j];
            }
        }
    }
    flag_seen(x->call, seen);
}

static void run_xent(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    const bool stats = k->op != STN_OP_XENT_GRAD;
    xent x = {.call = call,
              .rows = min_u32(cpu_rows(call), k->in[0].dim[0]),
              .heads = k->params.loss.heads,
              .classes = k->params.loss.classes,
              .width = k->in[0].dim[1],
              .stats = stats ? call->out[0] : NULL,
              .best = stats ? call->out[1] : NULL,
              .grad = k->op == STN_OP_XENT_BOTH   ? call->out[2]
                      : k->op == STN_OP_XENT_GRAD ? call->out[0]
                                                  : NULL,
              .logits = call->workspace};
    cpu_pool_run(call->pool, ceil_div(x.rows, LANES), xent_task, &x);
}

bool ISA(loss)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const uint64_t width = k->in[0].dim[1];
    for (uint32_t i = 0; i < k->n_in + k->n_out; i++) {
        const stn_tensor *t = i < k->n_in ? &k->in[i] : &k->out[i - k->n_in];
        if (t->layout != STN_NCHW) {
            return false;
        }
    }
    impl->workspace = threads * (width * LANES + APART) * sizeof(float);
    impl->run = run_xent;
    return true;
}
