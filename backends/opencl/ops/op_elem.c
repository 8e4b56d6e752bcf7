/* Element-wise operators: launches of the general kernels. */
#include "ocl.h"

/* Operators in stored order need one layout. */
static bool one_layout(const stn_kernel *k) {
    for (uint32_t i = 0; i < k->n_in; i++) {
        if (k->in[i].layout != k->out[0].layout) {
            return false;
        }
    }
    return true;
}

static float class_limit(const stn_kernel *k) {
    uint32_t class = k->params.scale.gradient;
    return class == STN_CLASS_NONE ? 0.0f : class == STN_CLASS_G ? STN_LIM_G : STN_LIM_X;
}

static bool op_sum(stn_kernel *k, uint32_t row, const ocl_range *range) {
    ocl_arg t[STN_MAX_IN];
    uint32_t one_row = 0;
    for (uint32_t i = 0; i < STN_MAX_IN; i++) {
        t[i] = i < k->n_in ? A_IN(i) : A_NONE;
        if (i < k->n_in && k->in[i].dim[0] != k->out[0].dim[0]) {
            if (k->in[i].dim[0] != 1) {
                return false;
            }
            one_row |= 1u << i;
        }
    }
    if (one_row == 0 && k->device->device_class == OCL_CPU_VECTOR) {
        ocl_range images = {{1, 1, 1}, 1u, {1, 1, 1}};
        OCL_EMIT(k, "velem.cl", "", "sum16", &images, t[0], t[1], t[2], t[3], t[4], t[5], t[6],
                 t[7], A_OUT(0), A_U(k->n_in), A_U(row), A_F(class_limit(k)), A_ROWS(1), A_FLAGS);
        return true;
    }
    OCL_EMIT(k, "elem.cl", "", "sum", range, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7],
             A_OUT(0), A_U(k->n_in), A_U(one_row), A_U(row), A_F(class_limit(k)), A_ROWS(row),
             A_FLAGS);
    return true;
}

static bool op_copy(stn_kernel *k, const ocl_view *x, const ocl_view *y, const ocl_range *range) {
    uint32_t row = (uint32_t)ocl_row(y);
    if (k->in[0].dtype != k->out[0].dtype) {
        return false;
    }
    if (k->in[0].dtype == STN_U8) {
        OCL_EMIT(k, "elem.cl", "", "copy8", range, x->ref, y->ref, A_U(x->layout), A_U(y->layout),
                 A_U(x->c), A_U(x->h * x->w), A_ROWS(row));
        return true;
    }
    OCL_EMIT(k, "elem.cl", "", "copy32", range, x->ref, y->ref, A_U(x->layout), A_U(y->layout),
             A_U(x->c), A_U(x->h * x->w), A_ROWS(row));
    return true;
}

bool ocl_op_elementwise(stn_kernel *k) {
    ocl_view x = ocl_view_of(&k->in[0], A_IN(0)), y = ocl_view_of(&k->out[0], A_OUT(0));
    uint32_t row = (uint32_t)ocl_row(&y), total = x.h * x.w;
    ocl_range range = ocl_items(row, true);
    const stn_dropout_params *d = &k->params.dropout;
    bool vectors = k->device->device_class == OCL_CPU_VECTOR;
    switch (k->op) {
    case STN_OP_COPY:
        return op_copy(k, &x, &y, &range);
    case STN_OP_UNPACK:
        if (vectors && x.layout == STN_NCHW && y.layout == STN_NCHW) {
            ocl_range planes = {{x.c, 1, 1}, 1u, {1, 1, 1}};
            OCL_EMIT(k, "velem.cl", "",
                     k->in[0].dtype == STN_U8 ? "unpack8_planes" : "unpack32_planes", &planes,
                     x.ref, A_IN(1), A_IN(2), y.ref, A_U(x.c), A_U(total), A_ROWS(x.c), A_FLAGS);
            return k->in[0].dtype != STN_I32;
        }
        OCL_EMIT(k, "elem.cl", "", k->in[0].dtype == STN_U8 ? "unpack8" : "unpack32", &range, x.ref,
                 A_IN(1), A_IN(2), y.ref, A_U(x.layout), A_U(y.layout), A_U(x.c), A_U(total),
                 A_ROWS(row), A_FLAGS);
        return k->in[0].dtype != STN_I32;
    default:
        break;
    }
    if (!one_layout(k)) {
        return false;
    }
    switch (k->op) {
    case STN_OP_ACT:
        OCL_EMIT(k, "elem.cl", "", "act", &range, x.ref, y.ref, A_F(k->params.act.slope),
                 A_ROWS(row), A_FLAGS);
        return true;
    case STN_OP_ACT_GRAD:
        OCL_EMIT(k, "elem.cl", "", "act_grad", &range, x.ref, A_IN(1), y.ref,
                 A_F(k->params.act.slope), A_ROWS(row), A_FLAGS);
        return true;
    case STN_OP_SCALE:
        OCL_EMIT(k, "elem.cl", "", "scale", &range, x.ref, y.ref, A_F(k->params.scale.factor),
                 A_F(class_limit(k)), A_ROWS(row), A_FLAGS);
        return true;
    case STN_OP_DROPOUT:
    case STN_OP_DROPOUT_GRAD:
        if (vectors) {
            range = ocl_items((row + 15u) / 16u, true);
        }
        OCL_EMIT(k, vectors ? "velem.cl" : "elem.cl", "", vectors ? "dropout16" : "dropout", &range,
                 x.ref, y.ref, A_U(x.layout), A_U(x.c), A_U(total), A_U(d->id), A_U(d->threshold),
                 A_F(d->scale), A_F(k->op == STN_OP_DROPOUT ? STN_LIM_X : STN_LIM_G),
                 A_FIRST(x.c * total), A_STEP, A_ROWS(row), A_FLAGS);
        return true;
    case STN_OP_SUM:
        return op_sum(k, row, &range);
    default:
        return false;
    }
}
