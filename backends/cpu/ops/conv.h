/* Geometry of a convolution block, shared by its forward and gradient kernels. */
#ifndef CPU_OPS_CONV_H
#define CPU_OPS_CONV_H

#include "fast.h"

/* y[n,o,oh,ow] = sum x[n,c,oh*sh+kh-ph,ow*sw+kw-pw] w[o,c,kh,kw], then windows of the pool (1x1
 * without one) that give poh x pow values, then the activation. */
typedef struct conv_geom {
    uint32_t n, c, h, w;
    uint32_t o, oh, ow;
    uint32_t kh, kw, sh, sw, ph, pw;
    uint32_t pool_kh, pool_kw, pool_sh, pool_sw, poh, pow;
    bool pooled, act;
    float slope;
    uint32_t shards;
} conv_geom;

/* From the tensors x, w and y, whichever operands they are. */
static inline conv_geom conv_geometry(const stn_kernel *k, const stn_tensor *x, const stn_tensor *w,
                                      const stn_tensor *y) {
    const bool block = k->op == STN_OP_CONV_BLOCK || k->op == STN_OP_CONV_BLOCK_GRAD_X ||
                       k->op == STN_OP_CONV_BLOCK_GRAD_W;
    const stn_conv_params *p = block ? &k->params.block.conv : &k->params.conv;
    conv_geom g = {.n = x->dim[0],
                   .c = x->dim[1],
                   .h = x->dim[2],
                   .w = x->dim[3],
                   .o = w->dim[0],
                   .kh = w->dim[2],
                   .kw = w->dim[3],
                   .sh = p->stride_h,
                   .sw = p->stride_w,
                   .ph = p->pad_h,
                   .pw = p->pad_w,
                   .pool_kh = 1,
                   .pool_kw = 1,
                   .pool_sh = 1,
                   .pool_sw = 1,
                   .poh = y->dim[2],
                   .pow = y->dim[3],
                   .shards = p->shards};
    g.oh = (g.h + 2 * g.ph - g.kh) / g.sh + 1;
    g.ow = (g.w + 2 * g.pw - g.kw) / g.sw + 1;
    if (block) {
        const stn_pool_params *pool = &k->params.block.pool;
        g.act = k->params.block.act != 0;
        g.slope = k->params.block.slope;
        if (pool->kh > 0) {
            g.pooled = true;
            g.pool_kh = pool->kh;
            g.pool_kw = pool->kw;
            g.pool_sh = pool->stride_h;
            g.pool_sw = pool->stride_w;
        }
    }
    return g;
}

/* Offsets fit the 32-bit fields of a term with room to spare. */
static inline bool conv_fits(const conv_geom *g) {
    const uint64_t limit = UINT64_C(1) << 30;
    const uint64_t in = (uint64_t)(g->c + LANES) * (g->h + 2 * g->ph) * (g->w + 2 * g->pw);
    const uint64_t out = (uint64_t)(g->o + LANES) * g->oh * g->ow;
    const uint64_t weights = (uint64_t)(g->o + 2 * LANES) * (g->c + LANES) * g->kh * g->kw;
    return in < limit && out < limit && weights < limit && g->sh > 0 && g->sw > 0;
}

#endif
