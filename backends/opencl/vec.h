/* Kernels of CPU devices (class cpu-vector): each answers false where it does not apply, and the
 * caller then takes the general kernel.
 */
#ifndef OCL_VEC_H
#define OCL_VEC_H

#include "conv.h"

/* True on CPU devices for two NC16 maps. */
bool vec_blocks(const stn_kernel *k, const ocl_view *a, const ocl_view *b);

/* True on CPU devices for convolutions of `images` that are worth a kernel compiled for their
 * shape. */
bool vec_wanted(const stn_kernel *k, const ocl_geometry *g, uint32_t images);

/* Where the source stands in a padded plane of h x w: (r*sh + top, c*sw + left). */
typedef struct vec_pad {
    uint32_t h, w, top, left, sh, sw;
} vec_pad;

/* The padding of a forward convolution. */
vec_pad vec_pad_of(const ocl_geometry *g);
ocl_view vec_padded(stn_kernel *k, ocl_view x, const vec_pad *p);

/* A convolution; g describes it without padding (after pad): h, w are not used. */
typedef struct vec_conv_job {
    ocl_geometry g;
    ocl_view x, y;
    vec_pad pad;
    ocl_arg w, b;
    bool transposed; /* w is [C][O][KH][KW], taken backwards */
    bool gradient;   /* class of the result */
    bool act;
    float slope;
    const ocl_view *index; /* not NULL: 2x2 max-pool with stride 2, y is the pooled map */
} vec_conv_job;

bool vec_conv(stn_kernel *k, const vec_conv_job *job);

/* The gradient that flows into a convolution: gy as it is, or behind an activation (act) and a 2x2
 * max-pool of stride 2 (index) that are undone on the way. */
typedef struct vec_flow {
    ocl_view gy, y;
    const ocl_view *index; /* NULL: no pool */
    bool act;
    float slope;
} vec_flow;

/* Weight gradient [O,C,KH,KW], and the bias gradient unless gb is A_NONE. g is the unpadded
 * geometry of the forward convolution. */
bool vec_grad_w(stn_kernel *k, const ocl_geometry *g, const vec_flow *flow, ocl_view x, ocl_arg gw,
                ocl_arg gb, uint32_t shards);
/* Input gradient from the non-zero terms: to NC16 with stride 1, to NCHW with any stride. */
bool vec_grad_x(stn_kernel *k, const ocl_geometry *g, const vec_flow *flow, ocl_arg w, ocl_view gx);

/* Linear layers; o outputs. act: an activation stands behind it. */
bool vec_linear(stn_kernel *k, ocl_view x, ocl_arg w, ocl_arg b, ocl_arg y, uint32_t o, bool act,
                float slope);
bool vec_linear_grad_x(stn_kernel *k, ocl_view gy, ocl_arg w, ocl_view gx);
bool vec_linear_grad_w(stn_kernel *k, ocl_view gy, ocl_view x, ocl_arg gw, uint32_t shards);
/* All gradients, behind an activation if f->act. */
bool vec_linear_grad(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg w, ocl_arg gw,
                     ocl_arg gb, ocl_view gx, uint32_t shards);

/* Pools of NC16 maps; x or gx is the large map, act: an activation stands behind the pool. */
bool vec_maxpool(stn_kernel *k, ocl_view x, ocl_view y, ocl_view index, const stn_pool_params *p,
                 bool act, float slope);
bool vec_maxpool_grad(stn_kernel *k, ocl_view gy, ocl_view y, ocl_view index, ocl_view gx,
                      const stn_pool_params *p, bool act, float slope);
bool vec_avgpool(stn_kernel *k, ocl_view x, ocl_view y, const stn_pool_params *p, float scale,
                 bool halve);
bool vec_avgpool_grad(stn_kernel *k, ocl_view gy, ocl_view gx, const stn_pool_params *p,
                      float scale);

/* Facts of one direction of the map from grid to pixels (NUMERICS.md, "to pixels", "padding rule"):
 * pixel = grid * s + o; reflection has period per. All host double, rounded once. */
typedef struct ocl_axis {
    float s, o, per, inv;
} ocl_axis;

/* Coordinate of output pixel i of `size`, xt of NUMERICS.md "affine grid". */
float ocl_warp_coordinate(uint32_t i, uint32_t size, bool aligned);
/* The table of the channels' background, A_NONE with another padding. */
ocl_arg ocl_warp_background(stn_kernel *k, const stn_warp_params *p);

/* The fusions of affine grid and sampler. */
bool vec_warp(stn_kernel *k, const stn_warp_params *p, const ocl_axis *x, const ocl_axis *y);

#endif
