/* Pools of NC16 maps on CPU devices (kernels/vpool.cl): one item per row of the result. */
#include "vec.h"

bool vec_blocks(const stn_kernel *k, const ocl_view *a, const ocl_view *b) {
    return k->device->device_class == OCL_CPU_VECTOR && a->layout == STN_NC16 &&
           b->layout == STN_NC16;
}

/* Rows of one image of a map, over its blocks of channels. */
static uint32_t lines(const ocl_view *v) {
    return ocl_padded(v) / 16u * v->h;
}

static ocl_range range_of(const ocl_view *v) {
    return (ocl_range){{lines(v), 1, 1}, 1u, {8, 1, 1}};
}

bool vec_maxpool(stn_kernel *k, ocl_view x, ocl_view y, ocl_view index, const stn_pool_params *p,
                 bool act, float slope) {
    ocl_range range = range_of(&y);
    if (!vec_blocks(k, &x, &y) || index.layout != STN_NC16) {
        return false;
    }
    OCL_EMIT(k, "vpool.cl", "", "maxpool_blocks", &range, x.ref, y.ref, index.ref,
             OCL_WINDOW(x, y, p), A_U(act), A_F(slope), A_ROWS(lines(&y)), A_FLAGS);
    return true;
}

bool vec_maxpool_grad(stn_kernel *k, ocl_view gy, ocl_view y, ocl_view index, ocl_view gx,
                      const stn_pool_params *p, bool act, float slope) {
    ocl_range range = range_of(&gx);
    if (!vec_blocks(k, &gy, &gx) || index.layout != STN_NC16 || (act && y.layout != STN_NC16)) {
        return false;
    }
    OCL_EMIT(k, "vpool.cl", "", "maxpool_grad_blocks", &range, gy.ref, y.ref, index.ref, gx.ref,
             OCL_WINDOW(gx, gy, p), A_U(act), A_F(slope), A_ROWS(lines(&gx)), A_FLAGS);
    return true;
}

bool vec_avgpool(stn_kernel *k, ocl_view x, ocl_view y, const stn_pool_params *p, float scale,
                 bool halve) {
    ocl_range range = range_of(&y);
    if (!vec_blocks(k, &x, &y)) {
        return false;
    }
    OCL_EMIT(k, "vpool.cl", "", "avgpool_blocks", &range, x.ref, y.ref, OCL_WINDOW(x, y, p),
             A_F(scale), A_U(halve), A_ROWS(lines(&y)), A_FLAGS);
    return true;
}

bool vec_avgpool_grad(stn_kernel *k, ocl_view gy, ocl_view gx, const stn_pool_params *p,
                      float scale) {
    ocl_range range = range_of(&gx);
    if (!vec_blocks(k, &gy, &gx)) {
        return false;
    }
    OCL_EMIT(k, "vpool.cl", "", "avgpool_grad_blocks", &range, gy.ref, gx.ref,
             OCL_WINDOW(gx, gy, p), A_F(scale), A_ROWS(lines(&gx)), A_FLAGS);
    return true;
}
