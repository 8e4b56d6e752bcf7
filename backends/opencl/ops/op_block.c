/* conv + max-pool + activation and its gradients, from the general kernels: the unpooled map lives
 * in workspace, in the layout of the block's output.
 */
#include "gpu.h"
#include "vec.h"

/* The map between convolution and pool, N x O x CH x CW. */
static ocl_view between(const ocl_view *x, const ocl_view *y, const stn_tensor *w,
                        const stn_conv_params *p) {
    ocl_view m = {A_NONE,
                  y->layout,
                  x->n,
                  w->dim[0],
                  (x->h + 2u * p->pad_h - w->dim[2]) / p->stride_h + 1u,
                  (x->w + 2u * p->pad_w - w->dim[3]) / p->stride_w + 1u};
    return m;
}

static bool fits(const ocl_view *m) {
    return (uint64_t)m->n * ocl_row(m) < (UINT64_C(1) << 31);
}

static ocl_view place(stn_kernel *k, ocl_view m) {
    m.ref = A_WS(ocl_ws(k, (uint64_t)m.n * ocl_row(&m) * 4u));
    return m;
}

static bool halving(const stn_pool_params *p) {
    return p->kh == 2 && p->kw == 2 && p->stride_h == 2 && p->stride_w == 2;
}

static bool forward(stn_kernel *k, const stn_conv_block_params *p) {
    ocl_view x = ocl_view_of(&k->in[0], A_IN(0)), y = ocl_view_of(&k->out[0], A_OUT(0));
    ocl_view index = ocl_view_of(&k->out[1], A_OUT8(1));
    ocl_arg b = k->n_in > 2 ? A_IN(2) : A_NONE;
    ocl_view m = between(&x, &y, &k->in[1], &p->conv);
    if (!fits(&m) || index.layout != y.layout) {
        return false;
    }
    if (p->pool.kh == 0) {
        ocl_geometry g = ocl_geometry_of(&x, &y, &k->in[1], &p->conv);
        ocl_emit_conv(k, &g, x, A_IN(1), b, y, p->act != 0, p->slope);
        return true;
    }
    ocl_geometry g = ocl_geometry_of(&x, &m, &k->in[1], &p->conv);
    if (halving(&p->pool)) {
        if (gpu_conv(k, &g, x, A_IN(1), b, y, &index, p->act != 0, p->slope)) {
            return true;
        }
        vec_conv_job job = {g,     x,     y,           vec_pad_of(&g), A_IN(1), b,
                            false, false, p->act != 0, p->slope,       &index};
        if (vec_conv(k, &job)) {
            return true;
        }
    }
    m = place(k, m);
    ocl_emit_conv(k, &g, x, A_IN(1), b, m, false, 0.0f);
    ocl_emit_maxpool(k, m, y, index, &p->pool, p->act != 0, p->slope);
    return true;
}

/* Gradient of the map between convolution and pool. */
static bool undo(stn_kernel *k, const stn_conv_block_params *p, ocl_view m, ocl_view *gm) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), y = ocl_view_of(&k->in[1], A_IN(1));
    ocl_view index = ocl_view_of(&k->in[2], A_IN8(2));
    if (p->pool.kh == 0 && p->act == 0) {
        *gm = gy;
        return true;
    }
    m = place(k, m);
    *gm = m;
    if (p->pool.kh != 0) {
        ocl_emit_maxpool_grad(k, gy, y, index, m, &p->pool, p->act != 0, p->slope);
        return true;
    }
    uint64_t row = ocl_row(&m);
    ocl_range range = ocl_items(row, true);
    OCL_EMIT(k, "elem.cl", "", "act_grad", &range, gy.ref, y.ref, m.ref, A_F(p->slope),
             A_ROWS((uint32_t)row), A_FLAGS);
    return y.layout == gy.layout;
}

/* The flow into the convolution; *index is where an index view may live. False: the pool is of a
 * kind that lists do not know. */
static bool flow_of(const stn_kernel *k, const stn_conv_block_params *p, ocl_view *index,
                    vec_flow *f) {
    *index = ocl_view_of(&k->in[2], A_IN8(2));
    *f = (vec_flow){ocl_view_of(&k->in[0], A_IN(0)), ocl_view_of(&k->in[1], A_IN(1)),
                    p->pool.kh != 0 ? index : NULL, p->act != 0, p->slope};
    return p->pool.kh == 0 || halving(&p->pool);
}

static bool grad_x(stn_kernel *k, const stn_conv_block_params *p) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), gx = ocl_view_of(&k->out[0], A_OUT(0)), gm;
    ocl_view m = between(&gx, &gy, &k->in[3], &p->conv), index;
    vec_flow f;
    if (!fits(&m)) {
        return false;
    }
    ocl_geometry g = ocl_geometry_of(&gx, &m, &k->in[3], &p->conv);
    bool lists = flow_of(k, p, &index, &f);
    if (gpu_block_grad_x(k, &g, &f, &p->pool, m, A_IN(3), gx) ||
        (lists && (f.index != NULL || gx.layout == STN_NCHW) &&
         vec_grad_x(k, &g, &f, A_IN(3), gx))) {
        return true;
    }
    if (!undo(k, p, m, &gm)) {
        return false;
    }
    ocl_emit_conv_grad_x(k, &g, gm, A_IN(3), gx);
    return true;
}

static bool grad_w(stn_kernel *k, const stn_conv_block_params *p) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), x = ocl_view_of(&k->in[3], A_IN(3)), gm;
    ocl_view m = between(&x, &gy, &k->out[0], &p->conv), index;
    vec_flow f;
    if (!ocl_shards_fit(p->conv.shards) || !fits(&m)) {
        return false;
    }
    ocl_geometry g = ocl_geometry_of(&x, &m, &k->out[0], &p->conv);
    bool lists = flow_of(k, p, &index, &f);
    if (gpu_block_grad_w(k, &g, &f, &p->pool, m, x, A_OUT(0), A_OUT(1), p->conv.shards) ||
        (lists && vec_grad_w(k, &g, &f, x, A_OUT(0), A_OUT(1), p->conv.shards))) {
        return true;
    }
    if (!undo(k, p, m, &gm)) {
        return false;
    }
    ocl_emit_conv_grad_w(k, &g, gm, x, A_OUT(0), p->conv.shards);
    ocl_emit_bias_grad(k, gm, A_OUT(1), p->conv.shards);
    return true;
}

bool ocl_op_block(stn_kernel *k) {
    const stn_conv_block_params *p = &k->params.block;
    if (k->device->fast_math) {
        return false; /* the parts are offered, with CLBlast in the convolution */
    }
    if (p->conv.stride_h == 0 || p->conv.stride_w == 0 || p->pool.kh * p->pool.kw > 256 ||
        (p->pool.kh != 0 && (p->pool.kw == 0 || p->pool.stride_h == 0 || p->pool.stride_w == 0))) {
        return false;
    }
    if (k->op == STN_OP_CONV_BLOCK) {
        return forward(k, p);
    }
    return k->op == STN_OP_CONV_BLOCK_GRAD_X ? grad_x(k, p) : grad_w(k, p);
}
