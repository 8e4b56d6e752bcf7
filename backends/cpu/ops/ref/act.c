/* Activations and dropout: one element at a time. */
#include "ref.h"

static void act_plane(const cpu_call *call, uint32_t task) {
    const stn_tensor *x = &call->kernel->in[0];
    float slope = call->kernel->params.act.slope;
    uint32_t n = task / x->dim[1], c = task % x->dim[1];
    ref_plane in = ref_in(call, 0, n, c);
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(x); i++) {
        float v = ref_at(in, i);
        ref_put(call, out, i, v > 0.0f ? v : slope == 0.0f ? 0.0f : stn_snap_x(slope * v));
    }
}

/* The predicate is that of the forward pass, taken on the stored output. */
static void act_grad_plane(const cpu_call *call, uint32_t task) {
    const stn_tensor *gy = &call->kernel->in[0];
    float slope = call->kernel->params.act.slope;
    uint32_t n = task / gy->dim[1], c = task % gy->dim[1];
    ref_plane grad = ref_in(call, 0, n, c), y = ref_in(call, 1, n, c);
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(gy); i++) {
        float g = ref_at(grad, i);
        ref_put(call, out, i,
                ref_at(y, i) > 0.0f ? g
                : slope == 0.0f     ? 0.0f
                                    : stn_snap_g(slope * g));
    }
}

/* Dropout forward (class X) and backward (class G) with the mask drawn anew. */
static void dropout_plane(const cpu_call *call, uint32_t task) {
    const stn_dropout_params *p = &call->kernel->params.dropout;
    const stn_step *step = call->step;
    const stn_tensor *x = &call->kernel->in[0];
    float limit = call->kernel->op == STN_OP_DROPOUT ? STN_LIM_X : STN_LIM_G;
    uint32_t pixels = ref_plane_size(x), first = step->first * x->dim[1];
    ref_plane in = ref_in(call, 0, task / x->dim[1], task % x->dim[1]);
    ref_plane_out out = ref_out(call, 0, task / x->dim[1], task % x->dim[1]);
    for (uint32_t i = 0; i < pixels; i++) {
        uint32_t word =
            stn_philox((uint32_t)step->seed, (uint32_t)(step->seed >> 32),
                       (first + task) * pixels + i, STN_RNG_STREAM(STN_RNG_DROPOUT, p->id),
                       (uint32_t)step->step, (uint32_t)(step->step >> 32));
        float v = ref_at(in, i);
        ref_put(call, out, i, word < p->threshold ? 0.0f : stn_snap(v * p->scale, limit));
    }
}

static void planes(const cpu_call *call, void (*fn)(const cpu_call *call, uint32_t task)) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    ref_parallel(call, (uint64_t)rows * call->kernel->in[0].dim[1], fn);
    ref_clear_padding(call, 0, rows);
}

static void act(const cpu_call *call) {
    planes(call, act_plane);
}

static void act_grad(const cpu_call *call) {
    planes(call, act_grad_plane);
}

static void dropout(const cpu_call *call) {
    planes(call, dropout_plane);
}

cpu_fn ref_act_fn(uint32_t op) {
    return op == STN_OP_ACT                                    ? act
           : op == STN_OP_ACT_GRAD                             ? act_grad
           : op == STN_OP_DROPOUT || op == STN_OP_DROPOUT_GRAD ? dropout
                                                               : NULL;
}
