/* Sums over images and pixels on the class gpu (gpu_sums.cl). */
#include "gpu.h"

#define PLANES 4u
#define MAX_SHARDS 256u

bool gpu_on(const stn_kernel *k) {
    return k->device->device_class == OCL_GPU && !k->general && k->device->max_group >= 128;
}

static ocl_range lanes_of(uint32_t planes_per_row) {
    return (ocl_range){{16, planes_per_row, 1}, 2u | OCL_EXACT, {16, PLANES, 1}};
}

void gpu_plane_sums(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                    uint32_t slot_inv_n, ocl_arg sums) {
    ocl_range planes = lanes_of(a.c);
    OCL_EMIT(k, "gpu_sums.cl", "", "gpu_plane_sum", &planes, a.ref, x.ref, stats, sums,
             A_U(a.layout), A_U(x.layout), A_U(a.c), A_U(a.h * a.w), A_U(mode),
             mode == 0 ? A_F(0.0f) : A_SLOT(slot_inv_n), A_ROWS(a.c), A_F(1.0f));
}

bool gpu_channel_sum(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                     uint32_t slot_inv_n, uint64_t part, ocl_arg out, uint32_t shards,
                     ocl_arg limit) {
    if (!gpu_on(k) || shards > MAX_SHARDS) {
        return false;
    }
    uint32_t length = (a.n + shards - 1u) / shards;
    ocl_range channels = {{64u * (uint64_t)a.c, 1, 1}, OCL_EXACT, {64, 1, 1}};
    ocl_arg sums = A_WS(part);
    if (mode == 0 && a.layout == STN_NCHW && a.h * a.w == 1) {
        sums = a.ref; /* a plane of one value is its own sum */
    } else {
        gpu_plane_sums(k, mode, a, x, stats, slot_inv_n, sums);
    }
    OCL_EMIT(k, "gpu_sums.cl", "", "gpu_shard_sum", &channels, sums, out, A_U(a.c), A_ROWS(1),
             A_U(length), A_U(shards), limit, A_FLAGS);
    return true;
}

ocl_range gpu_trees(uint64_t n) {
    return (ocl_range){{16, gpu_divide_up(n, 16) * 8u, 1}, OCL_EXACT, {16, 8, 1}};
}

bool gpu_halves(const stn_pool_params *p) {
    return p->kh == 2 && p->kw == 2 && p->stride_h == 2 && p->stride_w == 2;
}

bool gpu_flow_known(const vec_flow *f) {
    return f->gy.layout == STN_NCHW && f->y.layout == STN_NCHW &&
           (f->index == NULL || f->index->layout == STN_NCHW);
}

void gpu_undo(stn_kernel *k, const vec_flow *f, const stn_pool_params *p, ocl_view m,
              ocl_arg sums) {
    static const stn_pool_params pixel = {sizeof pixel, 1, 1, 1, 1, 1.0f};
    bool pool = f->index != NULL, stored = m.ref.kind != OCL_ARG_NONE;
    ocl_range planes = lanes_of(m.c);
    if (pool && gpu_halves(p)) {
        OCL_EMIT(k, "gpu_sums.cl", "", "gpu_unpool", &planes, f->gy.ref, f->y.ref, f->index->ref,
                 m.ref, sums, A_U(m.h), A_U(m.w), A_U(f->gy.h), A_U(f->gy.w), A_U(f->act),
                 A_F(f->slope), A_U(sums.kind != OCL_ARG_NONE), A_U(stored), A_ROWS(m.c), A_FLAGS);
        return;
    }
    p = pool ? p : &pixel;
    OCL_EMIT(k, "gpu_sums.cl", "", "gpu_undo", &planes, f->gy.ref, f->y.ref,
             pool ? f->index->ref : A_NONE, m.ref, sums, A_U(m.c), A_U(m.h), A_U(m.w), A_U(f->gy.h),
             A_U(f->gy.w), A_U(p->kh), A_U(p->kw), A_U(p->stride_h), A_U(p->stride_w), A_U(pool),
             A_U(f->act), A_F(f->slope), A_U(sums.kind != OCL_ARG_NONE), A_U(stored), A_ROWS(m.c),
             A_FLAGS);
}
