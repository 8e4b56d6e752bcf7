/* Parts of convolution used by conv, conv_block and batch norm. */
#ifndef OCL_CONV_H
#define OCL_CONV_H

#include "ocl.h"

typedef struct ocl_geometry {
    uint32_t c, h, w, o, kh, kw, oh, ow, sh, sw, ph, pw;
} ocl_geometry;

/* x input side, y output side, w weights [O,C,KH,KW]. */
ocl_geometry ocl_geometry_of(const ocl_view *x, const ocl_view *y, const stn_tensor *w,
                             const stn_conv_params *p);
/* y = act(snap(conv + b)); b may be A_NONE. */
void ocl_emit_conv(stn_kernel *k, const ocl_geometry *g, ocl_view x, ocl_arg w, ocl_arg b,
                   ocl_view y, bool act, float slope);
void ocl_emit_conv_grad_x(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_arg w,
                          ocl_view gx);
void ocl_emit_conv_grad_w(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_view x, ocl_arg gw,
                          uint32_t shards);
/* Sum per channel over images and pixels (reduce.cl, plane_sum modes), `part` is workspace of
 * N*C floats. */
void ocl_emit_channel_sum(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                          uint32_t slot_inv_n, uint64_t part, ocl_arg out, uint32_t shards,
                          ocl_arg limit);
/* A power of two that the tree's stack holds. */
bool ocl_shards_fit(uint32_t shards);

void ocl_emit_maxpool(stn_kernel *k, ocl_view x, ocl_view y, ocl_view index,
                      const stn_pool_params *p, bool act, float slope);
void ocl_emit_maxpool_grad(stn_kernel *k, ocl_view gy, ocl_view y, ocl_view index, ocl_view gx,
                           const stn_pool_params *p, bool act, float slope);
/* Arguments of a pool's kernels: x is the large map, y the pooled one. */
#define OCL_WINDOW(x, y, p)                                                                        \
    A_U((x).h), A_U((x).w), A_U((y).h), A_U((y).w), A_U((p)->kh), A_U((p)->kw),                    \
        A_U((p)->stride_h), A_U((p)->stride_w)

#endif
