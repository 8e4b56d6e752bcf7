/* Optimizer steps, in place. Nothing changes while an earlier kernel of the run has raised the
 * flag, so the state stays that of the last good step (C6). One task per dim[0] of the parameter.
 */
#include "ref.h"

static float slot(const cpu_call *call, uint32_t index) {
    return call->step->scalar[index];
}

/* g w v -> w v */
static void sgd_element(const cpu_call *call, uint32_t n, uint32_t c, uint32_t i) {
    const stn_opt_params *p = &call->kernel->params.opt;
    float w = ref_at(ref_in(call, 1, n, c), i);
    float g = stn_snap_g(fmaf(p->wd, w, ref_at(ref_in(call, 0, n, c), i)));
    float v = stn_snap_g(fmaf(p->mu, ref_at(ref_in(call, 2, n, c), i), g));
    float u = p->nesterov ? stn_snap_g(fmaf(p->mu, v, g)) : v;
    ref_put(call, ref_out(call, 0, n, c), i, stn_snap_x(fmaf(-slot(call, p->slot_lr), u, w)));
    ref_put(call, ref_out(call, 1, n, c), i, v);
}

/* g w m v -> w m v */
static void adam_element(const cpu_call *call, uint32_t n, uint32_t c, uint32_t i) {
    const stn_opt_params *p = &call->kernel->params.opt;
    float g = ref_at(ref_in(call, 0, n, c), i), w = ref_at(ref_in(call, 1, n, c), i);
    float m = ref_at(ref_in(call, 2, n, c), i), v = ref_at(ref_in(call, 3, n, c), i);
    if (p->decoupled) {
        w = fmaf(-slot(call, p->slot_lw), w, w);
    } else {
        g = fmaf(p->wd, w, g);
    }
    g = stn_snap(g, STN_LIM_GA);
    float d = stn_snap_g(g - m);
    m = stn_snap_g(fmaf(p->omb1, d, m));
    float t = fmaf(g, g, -v);
    v = stn_snap(fmaf(p->omb2, t, v), STN_LIM_V);
    float q = stn_snap_x(stn_div(m, stn_sqrt(v) + slot(call, p->slot_eps)));
    ref_put(call, ref_out(call, 0, n, c), i, stn_snap_x(fmaf(-slot(call, p->slot_lr), q, w)));
    ref_put(call, ref_out(call, 1, n, c), i, m);
    ref_put(call, ref_out(call, 2, n, c), i, v);
}

static void step_row(const cpu_call *call, uint32_t n) {
    const stn_tensor *w = &call->kernel->in[1];
    for (uint32_t c = 0; c < w->dim[1]; c++) {
        for (uint32_t i = 0; i < ref_plane_size(w); i++) {
            if (call->kernel->op == STN_OP_SGD) {
                sgd_element(call, n, c, i);
            } else {
                adam_element(call, n, c, i);
            }
        }
    }
}

static void step(const cpu_call *call) {
    if (!cpu_flagged(call)) {
        ref_parallel(call, call->kernel->in[1].dim[0], step_row);
    }
}

cpu_fn ref_optimizer_fn(uint32_t op) {
    return op == STN_OP_SGD || op == STN_OP_ADAM ? step : NULL;
}
