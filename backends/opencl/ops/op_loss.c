/* Softmax cross-entropy. */
#include "ocl.h"

bool ocl_op_loss(stn_kernel *k) {
    const stn_loss_params *p = &k->params.loss;
    ocl_range range = ocl_items(p->heads, true);
    if (k->in[0].layout != STN_NCHW || k->out[0].layout != STN_NCHW || p->classes == 0 ||
        (uint64_t)p->heads * p->classes != ocl_row(&(ocl_view){A_NONE, STN_NCHW, 1, k->in[0].dim[1],
                                                               k->in[0].dim[2], k->in[0].dim[3]})) {
        return false;
    }
    if (k->op != STN_OP_XENT_GRAD) {
        bool both = k->op == STN_OP_XENT_BOTH;
        OCL_EMIT(k, "loss.cl", "", "xent", &range, A_IN(0), A_IN(1), A_OUT(0), A_OUT(1),
                 both ? A_OUT(2) : A_NONE, A_U(p->classes), A_U(both),
                 both ? A_SLOT(p->slot_inv_n) : A_F(0.0f), A_ROWS(p->heads), A_FLAGS);
    } else {
        OCL_EMIT(k, "loss.cl", "", "xent_grad", &range, A_IN(0), A_IN(1), A_OUT(0), A_U(p->classes),
                 A_SLOT(p->slot_inv_n), A_ROWS(p->heads), A_FLAGS);
    }
    return true;
}
