/* Linear layers: launches of the general kernels. */
#include "gpu.h"
#include "vec.h"

bool ocl_op_linear(stn_kernel *k) {
    if (k->device->fast_math) {
        return ocl_fast_linear(k);
    }
    ocl_view a = ocl_view_of(&k->in[0], A_IN(0));
    if (k->op == STN_OP_LINEAR) {
        uint32_t o = k->out[0].dim[1];
        if (vec_linear(k, a, A_IN(1), k->n_in > 2 ? A_IN(2) : A_NONE, A_OUT(0), o) ||
            gpu_linear(k, a, A_IN(1), k->n_in > 2 ? A_IN(2) : A_NONE, A_OUT(0), o)) {
            return true;
        }
        ocl_range range = ocl_items(o, true);
        OCL_EMIT(k, "linear.cl", "", "linear", &range, a.ref, A_IN(1),
                 k->n_in > 2 ? A_IN(2) : A_NONE, A_OUT(0), A_U(a.layout), A_U(a.c), A_U(a.h * a.w),
                 A_U(o), A_U(k->n_in > 2), A_ROWS(o), A_FLAGS);
        return k->out[0].layout == STN_NCHW;
    }
    if (k->in[0].layout != STN_NCHW) {
        return false;
    }
    uint32_t o = a.c;
    if (k->op == STN_OP_LINEAR_GRAD_X) {
        ocl_view gx = ocl_view_of(&k->out[0], A_OUT(0));
        if (vec_linear_grad_x(k, a, A_IN(1), gx) || gpu_linear_grad_x(k, a.ref, A_IN(1), gx, o)) {
            return true;
        }
        uint64_t row = ocl_row(&gx);
        ocl_range range = ocl_items(row, true);
        OCL_EMIT(k, "linear.cl", "", "linear_grad_x", &range, a.ref, A_IN(1), gx.ref,
                 A_U(gx.layout), A_U(gx.c), A_U(gx.h * gx.w), A_U(o), A_ROWS((uint32_t)row),
                 A_FLAGS);
        return true;
    }
    ocl_view x = ocl_view_of(&k->in[1], A_IN(1));
    uint32_t shards = k->params.linear.shards;
    if (!ocl_shards_fit(shards)) {
        return false;
    }
    if (vec_linear_grad_w(k, a, x, A_OUT(0), shards) ||
        gpu_linear_grad_w(k, a.ref, x, A_OUT(0), o, shards)) {
        return true;
    }
    uint64_t n = (uint64_t)o * x.c * x.h * x.w;
    ocl_range range = ocl_items(n, false);
    OCL_EMIT(k, "linear.cl", "", "linear_grad_w", &range, a.ref, x.ref, A_OUT(0), A_U(x.layout),
             A_U(x.c), A_U(x.h * x.w), A_U(o), A_ROWS(1), A_U((x.n + shards - 1u) / shards),
             A_U(shards), A_U((uint32_t)n), A_FLAGS);
    return true;
}
