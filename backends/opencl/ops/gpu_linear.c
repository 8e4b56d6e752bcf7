/* Linear layers of little work on the class gpu (gpu_linear_grads of gpu_sums.cl). */
#include "gpu.h"

/* Multiply-adds from which the launches of tiles are worth it. */
#define MIN_WORK (UINT64_C(1) << 22)
#define GX_ITEMS 128u /* values of gx of a group */

bool gpu_linear_grads(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg w, ocl_arg gw,
                      ocl_arg gb, ocl_view gx, uint32_t shards) {
    uint64_t features = (uint64_t)x.c * x.h * x.w, values = features * f->gy.c;
    uint32_t biases = gb.kind != OCL_ARG_NONE ? f->gy.c : 0;
    if (!gpu_on(k) || x.layout != STN_NCHW || gx.layout != STN_NCHW || values * x.n >= MIN_WORK) {
        return false;
    }
    ocl_range range = gpu_trees(values + biases);
    uint64_t trees = range.size[1] / range.group[1];
    range.size[1] += gpu_divide_up(features * x.n, GX_ITEMS) * range.group[1];
    OCL_EMIT(k, "gpu_sums.cl", "", "gpu_linear_grads", &range, f->gy.ref,
             f->act ? f->y.ref : A_NONE, x.ref, w, gw, gb, gx.ref, A_U((uint32_t)features),
             A_U(f->gy.c), A_U(f->act), A_F(f->slope), A_U((uint32_t)values), A_U(biases),
             A_U((uint32_t)trees), A_ROWS(1), A_U((x.n + shards - 1u) / shards), A_U(shards),
             A_LIMIT, A_FLAGS);
    ocl_work(k, (ocl_tile_work){.flops = 4u * values * x.n + (uint64_t)biases * x.n});
    return true;
}
