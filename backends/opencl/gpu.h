/* Kernels of the class gpu: tiles in local memory, groups of lanes. Each emitter answers false
 * where it does not apply (another class, a layout that it does not read, an unusual shape, a
 * device whose work-groups are too small), and the caller then takes the general kernel.
 */
#ifndef OCL_GPU_H
#define OCL_GPU_H

#include "vec.h"

/* The device is of the class gpu and the operator has not fallen back to the general kernels. */
bool gpu_on(const stn_kernel *k);
/* Outputs tm x tn of a group of gpu_tile.cl, rm x rn of them an item. */
typedef struct gpu_tile {
    uint32_t tm, tn, rm, rn;
} gpu_tile;
/* Its build options of these names, where they are not 0. */
typedef struct gpu_variant {
    uint32_t flow, levels, inside, linear, turned, whole;
} gpu_variant;
#define GPU_OPTIONS 160u

/* The tile for `products` products of m x n outputs. */
gpu_tile gpu_tile_choose(const stn_device *device, uint64_t m, uint64_t n, uint64_t products);
void gpu_tile_name(const stn_kernel *k, gpu_tile t, gpu_variant v, char text[GPU_OPTIONS]);
/* Terms of a slice (TK). */
uint32_t gpu_tile_slice(gpu_tile t);
/* What `flops` in groups over `terms` terms, counted over all groups, amount to. */
ocl_tile_work gpu_tile_work(gpu_tile t, uint64_t flops, uint64_t terms);
/* The range of one product. */
ocl_range gpu_tile_range(gpu_tile t, uint64_t m, uint64_t n, uint64_t products);
uint64_t gpu_tile_count(gpu_tile t, uint64_t m, uint64_t n);

/* Largest sizes for which the kernels' index arithmetic was written. */
#define GPU_MAX_SIDE 16384u

/* What the direct kernels for few channels take: channels, and columns of a window, a row of which
 * they hold in registers. */
#define GPU_FEW_CHANNELS 4u
#define GPU_FEW_WIDEST 16u

static inline uint64_t gpu_divide_up(uint64_t a, uint64_t b) {
    return (a + b - 1u) / b;
}

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

/* As gpu_conv, of few channels and stride 1 (gpu_few_y.c). */
bool gpu_few_y(stn_kernel *k, const ocl_geometry *g, ocl_view x, ocl_arg w, ocl_arg b, ocl_view y,
               const ocl_view *index, bool act, float slope);

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
/* All gradients of a layer of little work, in one launch (gpu_linear.c). f->act: an activation
 * stands behind the layer. */
bool gpu_linear_grads(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg w, ocl_arg gw,
                      ocl_arg gb, ocl_view gx, uint32_t shards);
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

/* How the images of a batch are split: shards of `length` images, in `parts` parts each, chunks of
 * `images` images. */
typedef struct gpu_split {
    uint32_t shards, length, parts, images;
} gpu_split;
/* Where a weight gradient's gradient comes from: in, which has to pass backwards through an
 * activation with the output y and a pool with this index, of qh x qw values, if they are given.
 * planes: PLANE16 sums [N][O] for the bias gradient gb, or both A_NONE; planes_pass: those too have
 * to pass the activation. */
typedef struct gpu_source {
    ocl_arg in, y, index, gb, planes;
    uint32_t qh, qw;
    float slope;
    bool planes_pass;
} gpu_source;
/* A weight gradient where the channels are few and the parts of a shard its chunks (gpu_few_w.c).
 */
bool gpu_few_w_known(const stn_kernel *k, const ocl_geometry *g, const gpu_split *s,
                     const gpu_source *f, uint32_t n);
/* The sums of all its chunks, part[chunk][o][c*kh*kw]; only if known. */
void gpu_few_w(stn_kernel *k, const ocl_geometry *g, const gpu_split *s, const gpu_source *f,
               uint32_t n, ocl_arg x, ocl_arg part);

/* --- sums (gpu_sums.c) ------------------------------------------------------------------------ */
/* As ocl_emit_channel_sum. */
bool gpu_channel_sum(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                     uint32_t slot_inv_n, uint64_t part, ocl_arg out, uint32_t shards,
                     ocl_arg limit);
/* PLANE16 sums[N][C] of reduce.cl's modes; only where gpu_on. */
void gpu_plane_sums(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                    uint32_t slot_inv_n, ocl_arg sums);
/* The range of kernels with a tree over shards for each of n values (TREES of gpu_sums.cl). */
ocl_range gpu_trees(uint64_t n);
/* A 2x2 pool of stride 2. */
bool gpu_halves(const stn_pool_params *p);
/* All operands are NCHW. */
bool gpu_flow_known(const vec_flow *f);
/* Writes the gradient m of the map before pool and activation unless m.ref is A_NONE, and its
 * PLANE16 sums [N][C] unless A_NONE; only where gpu_on and gpu_flow_known. */
void gpu_undo(stn_kernel *k, const vec_flow *f, const stn_pool_params *p, ocl_view m, ocl_arg sums);

#endif
