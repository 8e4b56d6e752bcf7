/* Pools: launches of the general kernels. */
#include "vec.h"

void ocl_emit_maxpool(stn_kernel *k, ocl_view x, ocl_view y, ocl_view index,
                      const stn_pool_params *p, bool act, float slope) {
    if (vec_maxpool(k, x, y, index, p, act, slope)) {
        return;
    }
    uint64_t row = ocl_row(&y);
    ocl_range range = ocl_items(row, true);
    OCL_EMIT(k, "pool.cl", "", "maxpool", &range, x.ref, y.ref, index.ref, A_U(x.layout),
             A_U(y.layout), A_U(index.layout), A_U(x.c), OCL_WINDOW(x, y, p), A_U(act), A_F(slope),
             A_ROWS((uint32_t)row), A_FLAGS);
}

void ocl_emit_maxpool_grad(stn_kernel *k, ocl_view gy, ocl_view y, ocl_view index, ocl_view gx,
                           const stn_pool_params *p, bool act, float slope) {
    if (vec_maxpool_grad(k, gy, y, index, gx, p, act, slope)) {
        return;
    }
    uint64_t row = ocl_row(&gx);
    ocl_range range = ocl_items(row, true);
    OCL_EMIT(k, "pool.cl", "", "maxpool_grad", &range, gy.ref, y.ref, index.ref, gx.ref,
             A_U(gy.layout), A_U(y.layout), A_U(index.layout), A_U(gx.layout), A_U(gx.c),
             OCL_WINDOW(gx, gy, p), A_U(act), A_F(slope), A_ROWS((uint32_t)row), A_FLAGS);
}

static bool halves(const stn_pool_params *p) {
    return p->kh == 2 && p->kw == 2 && p->stride_h == 2 && p->stride_w == 2;
}

bool ocl_op_pool(stn_kernel *k) {
    const stn_pool_params *p = &k->params.pool;
    if (p->kh == 0 || p->kw == 0 || p->stride_h == 0 || p->stride_w == 0 || p->kh * p->kw > 256) {
        return false;
    }
    ocl_view x = ocl_view_of(&k->in[0], A_IN(0)), y = ocl_view_of(&k->out[0], A_OUT(0));
    float scale = halves(p) ? 0.25f : p->scale;
    uint64_t row = ocl_row(&y);
    ocl_range range = ocl_items(row, true);
    switch (k->op) {
    case STN_OP_MAXPOOL:
        /* The index is written by the item of its value. */
        if (k->out[1].layout != k->out[0].layout) {
            return false;
        }
        ocl_emit_maxpool(k, x, y, ocl_view_of(&k->out[1], A_OUT8(1)), p, false, 0.0f);
        return true;
    case STN_OP_MAXPOOL_GRAD:
        ocl_emit_maxpool_grad(k, x, x, ocl_view_of(&k->in[1], A_IN8(1)), y, p, false, 0.0f);
        return true;
    case STN_OP_AVGPOOL:
        if (vec_avgpool(k, x, y, p, scale, halves(p))) {
            return true;
        }
        OCL_EMIT(k, "pool.cl", "", "avgpool", &range, x.ref, y.ref, A_U(x.layout), A_U(y.layout),
                 A_U(x.c), OCL_WINDOW(x, y, p), A_F(scale), A_U(halves(p)), A_ROWS((uint32_t)row),
                 A_FLAGS);
        return true;
    default:
        if (vec_avgpool_grad(k, x, y, p, scale)) {
            return true;
        }
        OCL_EMIT(k, "pool.cl", "", "avgpool_grad", &range, x.ref, y.ref, A_U(x.layout),
                 A_U(y.layout), A_U(y.c), OCL_WINDOW(y, x, p), A_F(scale), A_ROWS((uint32_t)row),
                 A_FLAGS);
        return true;
    }
}
