/* Kernels of the class gpu: tiles in local memory, groups of lanes. Each emitter answers false
 * where it does not apply (another class, a layout that it does not read, an unusual shape, a
 * device whose work-groups are too small), and the caller then takes the general kernel.
 */
#ifndef OCL_GPU_H
#define OCL_GPU_H

#include "vec.h"

/* The device is of the class gpu and the operator has not fallen back to the general kernels. */
bool gpu_on(const stn_kernel *k);
/* Outputs tm x tn of a group of gpu_tile.cl, rm x 4 of them an item: always 128 items. */
typedef struct gpu_tile {
    uint32_t tm, tn, rm;
} gpu_tile;

/* The tile for `products` products of m x n outputs. */
gpu_tile gpu_tile_choose(const stn_device *device, uint64_t m, uint64_t n, uint64_t products);
/* Its build options, with FLOW and LEVELS where they are not 0. */
void gpu_tile_name(gpu_tile t, uint32_t flow, uint32_t levels, char text[64]);
/* What `flops` in groups over `terms` terms, counted over all groups, amount to. */
ocl_tile_work gpu_tile_work(gpu_tile t, uint64_t flops, uint64_t terms);
/* The range of one product. */
ocl_range gpu_tile_range(gpu_tile t, uint64_t m, uint64_t n, uint64_t products);
uint64_t gpu_tile_count(gpu_tile t, uint64_t m, uint64_t n);

/* Largest sizes for which the kernels' index arithmetic was written. */
#define GPU_MAX_SIDE 16384u

/* --- input gradients (gpu_grad_x.c) ----------------------------------------------------------- */
/* From the terms that each pixel meets, whatever the stride: it pays where that saves a quarter of
 * all windows, or where no other kernel is there. */
bool gpu_taps_pay(const stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_view gx);
/* Only where it pays. */
void gpu_taps(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_arg w, ocl_view gx);

/* Few channels, stride 1, and behind the convolution nothing, an activation, or a 2x2 max-pool of
 * stride 2 with or without one (p: the pool, if f->index is not NULL). g->oh, g->ow: the map before
 * the pool. */
bool gpu_few(stn_kernel *k, const ocl_geometry *g, const vec_flow *f, const stn_pool_params *p,
             ocl_arg w, ocl_view gx);

/* --- matrix products (gpu_tile.c) ------------------------------------------------------------- */
/* y = act(snap(conv + b)), class X. index not NULL: a 2x2 max-pool of stride 2 follows, y and index
 * are the pooled maps. */
bool gpu_conv(stn_kernel *k, const ocl_geometry *g, ocl_view x, ocl_arg w, ocl_arg b, ocl_view y,
              const ocl_view *index, bool act, float slope);
bool gpu_conv_grad_x(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_arg w, ocl_view gx);
bool gpu_conv_grad_w(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_view x, ocl_arg gw,
                     uint32_t shards);
/* Linear layers; x has C*H*W features of NCHW, o outputs. */
bool gpu_linear(stn_kernel *k, ocl_view x, ocl_arg w, ocl_arg b, ocl_arg y, uint32_t o, bool act,
                float slope);
/* f->act: an activation stands behind the layer. */
bool gpu_linear_grad_x(stn_kernel *k, const vec_flow *f, ocl_arg w, ocl_view gx);
/* gb may be A_NONE. */
bool gpu_linear_grad_w(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg gw, ocl_arg gb,
                       uint32_t shards);

/* p: the pool, if f->index is not NULL; m: shape and layout of the map between convolution and
 * pool, of geometry g. */
bool gpu_block_grad_x(stn_kernel *k, const ocl_geometry *g, const vec_flow *f,
                      const stn_pool_params *p, ocl_view m, ocl_arg w, ocl_view gx);
bool gpu_block_grad_w(stn_kernel *k, const ocl_geometry *g, const vec_flow *f,
                      const stn_pool_params *p, ocl_view m, ocl_view x, ocl_arg gw, ocl_arg gb,
                      uint32_t shards);

/* --- sums (gpu_sums.c) ------------------------------------------------------------------------ */
/* As ocl_emit_channel_sum. */
bool gpu_channel_sum(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                     uint32_t slot_inv_n, uint64_t part, ocl_arg out, uint32_t shards,
                     ocl_arg limit);
/* PLANE16 sums[N][C] of reduce.cl's modes; only where gpu_on. */
void gpu_plane_sums(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                    uint32_t slot_inv_n, ocl_arg sums);
/* A 2x2 pool of stride 2. */
bool gpu_halves(const stn_pool_params *p);
/* All operands are NCHW. */
bool gpu_flow_known(const vec_flow *f);
/* Writes the gradient m of the map before pool and activation unless m.ref is A_NONE, and its
 * PLANE16 sums [N][C] unless A_NONE; only where gpu_on and gpu_flow_known. */
void gpu_undo(stn_kernel *k, const vec_flow *f, const stn_pool_params *p, ocl_view m, ocl_arg sums);

#endif
