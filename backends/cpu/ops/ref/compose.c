/* Composition of affine maps, rows of six: c = a(b(.)), and its gradients. */
#include "ref.h"

static void compose_row(const cpu_call *call, uint32_t n) {
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t j = 0; j < 3; j++) {
            float shift = j == 2 ? ref_element(call, 0, n, 3 * i + 2) : 0.0f;
            float c =
                fmaf(ref_element(call, 0, n, 3 * i + 1), ref_element(call, 1, n, 3 + j), shift);
            c = fmaf(ref_element(call, 0, n, 3 * i), ref_element(call, 1, n, j), c);
            ref_put(call, ref_out(call, 0, n, 3 * i + j), 0, stn_snap_x(c));
        }
    }
}

/* Inputs gc a b; outputs ga gb. */
static void compose_grad_row(const cpu_call *call, uint32_t n) {
    for (uint32_t i = 0; i < 2; i++) {
        for (uint32_t k = 0; k < 2; k++) {
            float sum = 0.0f;
            for (uint32_t j = 0; j < 3; j++) {
                sum = fmaf(ref_element(call, 0, n, 3 * i + j), ref_element(call, 2, n, 3 * k + j),
                           sum);
            }
            ref_put(call, ref_out(call, 0, n, 3 * i + k), 0, stn_snap_g(sum));
        }
        float shift = ref_element(call, 0, n, 3 * i + 2);
        ref_put(call, ref_out(call, 0, n, 3 * i + 2), 0, stn_snap_g(shift));
    }
    for (uint32_t k = 0; k < 2; k++) {
        for (uint32_t j = 0; j < 3; j++) {
            float sum = 0.0f;
            for (uint32_t i = 0; i < 2; i++) {
                sum = fmaf(ref_element(call, 0, n, 3 * i + j), ref_element(call, 1, n, 3 * i + k),
                           sum);
            }
            ref_put(call, ref_out(call, 1, n, 3 * k + j), 0, stn_snap_g(sum));
        }
    }
}

static void compose(const cpu_call *call) {
    ref_parallel(call, ref_rows(call, &call->kernel->in[0]), compose_row);
}

static void compose_grad(const cpu_call *call) {
    ref_parallel(call, ref_rows(call, &call->kernel->in[0]), compose_grad_row);
}

cpu_fn ref_compose_fn(uint32_t op) {
    return op == STN_OP_COMPOSE ? compose : op == STN_OP_COMPOSE_GRAD ? compose_grad : NULL;
}
