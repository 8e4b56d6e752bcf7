/* Softmax cross-entropy over `heads` groups of `classes` logits: z[N, heads*classes], label[N,
 * heads]. The loss itself is taken on the host in double from stats = (z_label - m, sum).
 */
#include "ref.h"

/* First maximum of a group of logits. */
static uint32_t first_maximum(const cpu_call *call, uint32_t n, uint32_t head, uint32_t classes) {
    uint32_t best = 0;
    for (uint32_t k = 1; k < classes; k++) {
        if (ref_element(call, 0, n, head * classes + k) >
            ref_element(call, 0, n, head * classes + best)) {
            best = k;
        }
    }
    return best;
}

/* Sum of e^(z-m), classes ascending; exponentials are not snapped. */
static float exponential_sum(const cpu_call *call, uint32_t n, uint32_t head, float max) {
    uint32_t classes = call->kernel->params.loss.classes;
    float sum = 0.0f;
    for (uint32_t k = 0; k < classes; k++) {
        sum = sum + stn_exp(ref_element(call, 0, n, head * classes + k) - max);
    }
    return sum;
}

static int32_t *int_at(const cpu_call *call, uint32_t out, uint32_t n, uint32_t c) {
    return (int32_t *)call->out[out] + stn_tensor_at(&call->kernel->out[out], n, c, 0);
}

static int32_t label_at(const cpu_call *call, uint32_t n, uint32_t head) {
    return ((const int32_t *)call->in[1])[stn_tensor_at(&call->kernel->in[1], n, head, 0)];
}

static void xent_row(const cpu_call *call, uint32_t n) {
    const stn_loss_params *p = &call->kernel->params.loss;
    for (uint32_t h = 0; h < p->heads; h++) {
        uint32_t best = first_maximum(call, n, h, p->classes);
        float max = ref_element(call, 0, n, h * p->classes + best);
        int32_t label = label_at(call, n, h);
        /* The core checks labels; a wrong one must still not read outside the row. */
        float z = label >= 0 && (uint32_t)label < p->classes
                      ? ref_element(call, 0, n, h * p->classes + (uint32_t)label)
                      : max;
        ref_put(call, ref_out(call, 0, n, 2 * h), 0, z - max);
        ref_put(call, ref_out(call, 0, n, 2 * h + 1), 0, exponential_sum(call, n, h, max));
        *int_at(call, 1, n, h) = (int32_t)best;
    }
}

/* Into output `out`. */
static void grad_row(const cpu_call *call, uint32_t n, uint32_t out) {
    const stn_loss_params *p = &call->kernel->params.loss;
    float inv_n = call->step->scalar[p->slot_inv_n];
    for (uint32_t h = 0; h < p->heads; h++) {
        uint32_t best = first_maximum(call, n, h, p->classes);
        float max = ref_element(call, 0, n, h * p->classes + best);
        float recip = stn_recip(exponential_sum(call, n, h, max));
        for (uint32_t k = 0; k < p->classes; k++) {
            uint32_t at = h * p->classes + k;
            float e = stn_exp(ref_element(call, 0, n, at) - max);
            float target = label_at(call, n, h) == (int32_t)k ? 1.0f : 0.0f;
            ref_put(call, ref_out(call, out, n, at), 0,
                    stn_snap_g(fmaf(e, recip, -target) * inv_n));
        }
    }
}

static void xent_grad_row(const cpu_call *call, uint32_t n) {
    grad_row(call, n, 0);
}

static void xent_both_row(const cpu_call *call, uint32_t n) {
    xent_row(call, n);
    grad_row(call, n, 2);
}

static void xent(const cpu_call *call) {
    ref_parallel(call, ref_rows(call, &call->kernel->in[0]), xent_row);
}

static void xent_grad(const cpu_call *call) {
    ref_parallel(call, ref_rows(call, &call->kernel->in[0]), xent_grad_row);
}

static void xent_both(const cpu_call *call) {
    ref_parallel(call, ref_rows(call, &call->kernel->in[0]), xent_both_row);
}

cpu_fn ref_loss_fn(uint32_t op) {
    return op == STN_OP_XENT        ? xent
           : op == STN_OP_XENT_GRAD ? xent_grad
           : op == STN_OP_XENT_BOTH ? xent_both
                                    : NULL;
}
