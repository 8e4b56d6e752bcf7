/* Optimizers. */
#include "ocl.h"

#define SPAN 2048u /* values of an item on CPU devices */

ocl_arg ocl_emit_gate(stn_kernel *k) {
    uint64_t at = ocl_ws(k, 4);
    ocl_range one = {{1, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "opt.cl", "", "gate", &one, A_WS(at), A_FLAGS);
    return A_WS(at);
}

bool ocl_op_opt(stn_kernel *k) {
    const stn_opt_params *p = &k->params.opt;
    uint64_t n = stn_tensor_elems(&k->in[0]);
    ocl_range range = ocl_items(n, false);
    range.group[0] = 256;
    for (uint32_t i = 1; i < k->n_in; i++) {
        if (k->in[i].layout != k->in[0].layout) {
            return false;
        }
    }
    static const uint32_t zero = 0;
    ocl_arg ticket = A_TABLE(ocl_table(k, &zero, 1));
    if (k->op == STN_OP_SGD && k->device->device_class == OCL_CPU_VECTOR) {
        ocl_range spans = {{(n + SPAN - 1u) / SPAN, 1, 1}, 0, {1, 1, 1}};
        OCL_EMIT(k, "opt.cl", "", "sgd16", &spans, A_IN(0), A_OUT(0), A_OUT(1), ticket,
                 A_SLOT(p->slot_lr), A_F(p->mu), A_F(p->wd), A_U(p->nesterov), A_U((uint32_t)n),
                 A_U(SPAN), A_FLAGS);
        return true;
    }
    if (k->op == STN_OP_SGD) {
        OCL_EMIT(k, "opt.cl", "", "sgd", &range, A_IN(0), A_OUT(0), A_OUT(1), ticket,
                 A_SLOT(p->slot_lr), A_F(p->mu), A_F(p->wd), A_U(p->nesterov), A_U((uint32_t)n),
                 A_FLAGS);
        return true;
    }
    OCL_EMIT(k, "opt.cl", "", "adam", &range, A_IN(0), A_OUT(0), A_OUT(1), A_OUT(2), ticket,
             A_SLOT(p->slot_lr), A_SLOT(p->slot_eps), p->decoupled ? A_SLOT(p->slot_lw) : A_F(0.0f),
             A_F(p->wd), A_F(p->omb1), A_F(p->omb2), A_U(p->decoupled), A_U((uint32_t)n), A_FLAGS);
    return true;
}
