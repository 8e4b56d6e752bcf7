/* Convolution, its gradients and the bias gradient: launches of the general kernels. */
#include "gpu.h"
#include "vec.h"

ocl_geometry ocl_geometry_of(const ocl_view *x, const ocl_view *y, const stn_tensor *w,
                             const stn_conv_params *p) {
    ocl_geometry g = {x->c, x->h, x->w,        y->c,        w->dim[2], w->dim[3],
                      y->h, y->w, p->stride_h, p->stride_w, p->pad_h,  p->pad_w};
    return g;
}

vec_pad vec_pad_of(const ocl_geometry *g) {
    return (vec_pad){g->h + 2u * g->ph, g->w + 2u * g->pw, g->ph, g->pw, 1, 1};
}

#define GEOMETRY(g)                                                                                \
    A_U((g).c), A_U((g).h), A_U((g).w), A_U((g).o), A_U((g).kh), A_U((g).kw), A_U((g).oh),         \
        A_U((g).ow), A_U((g).sh), A_U((g).sw), A_U((g).ph), A_U((g).pw)

void ocl_emit_conv(stn_kernel *k, const ocl_geometry *g, ocl_view x, ocl_arg w, ocl_arg b,
                   ocl_view y, bool act, float slope) {
    if (gpu_conv(k, g, x, w, b, y, NULL, act, slope)) {
        return;
    }
    vec_conv_job job = {*g, x, y, vec_pad_of(g), w, b, false, false, act, slope, NULL};
    if (vec_conv(k, &job)) {
        return;
    }
    uint64_t row = ocl_row(&y);
    ocl_range range = ocl_items(row, true);
    OCL_EMIT(k, "conv.cl", "", "conv", &range, x.ref, w, b, y.ref, A_U(x.layout), A_U(y.layout),
             GEOMETRY(*g), A_U(b.kind != OCL_ARG_NONE), A_U(act), A_F(slope), A_ROWS((uint32_t)row),
             A_FLAGS);
}

void ocl_emit_conv_grad_x(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_arg w,
                          ocl_view gx) {
    if (gpu_conv_grad_x(k, g, gy, w, gx)) {
        return;
    }
    /* The dilated, padded gradient convolved with the turned weights (C5). */
    if (g->kh > g->ph && g->kw > g->pw) {
        ocl_geometry t = {g->o, 0, 0, g->c, g->kh, g->kw, g->h, g->w, 1, 1, 0, 0};
        vec_pad pad = {g->h + g->kh - 1u,
                       g->w + g->kw - 1u,
                       g->kh - 1u - g->ph,
                       g->kw - 1u - g->pw,
                       g->sh,
                       g->sw};
        vec_conv_job job = {t, gy, gx, pad, w, A_NONE, true, true, false, 0.0f, NULL};
        if (vec_conv(k, &job)) {
            return;
        }
    }
    vec_flow flow = {gy, gy, NULL, false, 0.0f};
    if (gx.layout == STN_NCHW && vec_grad_x(k, g, &flow, w, gx)) {
        return;
    }
    uint64_t row = ocl_row(&gx);
    ocl_range range = ocl_items(row, true);
    OCL_EMIT(k, "conv.cl", "", "conv_grad_x", &range, gy.ref, w, gx.ref, A_U(gy.layout),
             A_U(gx.layout), GEOMETRY(*g), A_ROWS((uint32_t)row), A_FLAGS);
}

void ocl_emit_conv_grad_w(stn_kernel *k, const ocl_geometry *g, ocl_view gy, ocl_view x, ocl_arg gw,
                          uint32_t shards) {
    if (gpu_conv_grad_w(k, g, gy, x, gw, shards)) {
        return;
    }
    vec_flow flow = {gy, gy, NULL, false, 0.0f};
    if (vec_grad_w(k, g, &flow, x, gw, A_NONE, shards)) {
        return;
    }
    uint64_t n = (uint64_t)g->o * g->c * g->kh * g->kw;
    uint32_t length = (x.n + shards - 1u) / shards;
    uint64_t part = ocl_ws(k, n * shards * 4u);
    ocl_range range = {{n, shards, 1}, 0, {64, 1, 1}};
    OCL_EMIT(k, "conv.cl", "", "conv_grad_w", &range, gy.ref, x.ref, A_WS(part), A_U(gy.layout),
             A_U(x.layout), GEOMETRY(*g), A_ROWS(1), A_U(length), A_U((uint32_t)n), A_F(1.0f));
    ocl_emit_tree(k, part, gw, (uint32_t)n, A_NONE, 0, shards);
}

bool ocl_shards_fit(uint32_t shards) {
    return shards > 0 && (shards & (shards - 1u)) == 0 && shards <= (1u << 16);
}

bool ocl_op_conv(stn_kernel *k) {
    const stn_conv_params *p = &k->params.conv;
    ocl_view a = ocl_view_of(&k->in[0], A_IN(0));
    if (p->stride_h == 0 || p->stride_w == 0) {
        return false;
    }
    if (k->device->fast_math) {
        return ocl_fast_conv(k);
    }
    if (k->op == STN_OP_CONV) {
        ocl_view y = ocl_view_of(&k->out[0], A_OUT(0));
        ocl_geometry g = ocl_geometry_of(&a, &y, &k->in[1], p);
        ocl_emit_conv(k, &g, a, A_IN(1), k->n_in > 2 ? A_IN(2) : A_NONE, y, false, 0.0f);
        return true;
    }
    if (k->op == STN_OP_CONV_GRAD_X) {
        ocl_view gx = ocl_view_of(&k->out[0], A_OUT(0));
        ocl_geometry g = ocl_geometry_of(&gx, &a, &k->in[1], p);
        ocl_emit_conv_grad_x(k, &g, a, A_IN(1), gx);
        return true;
    }
    ocl_view x = ocl_view_of(&k->in[1], A_IN(1));
    ocl_geometry g = ocl_geometry_of(&x, &a, &k->out[0], p);
    if (!ocl_shards_fit(p->shards)) {
        return false;
    }
    ocl_emit_conv_grad_w(k, &g, a, x, A_OUT(0), p->shards);
    return true;
}

/* --- sums over images ------------------------------------------------------------------------- */

void ocl_emit_tree(stn_kernel *k, uint64_t part, ocl_arg out, uint32_t n, ocl_arg out2, uint32_t n2,
                   uint32_t shards) {
    ocl_range range = ocl_items((uint64_t)n + n2, false);
    OCL_EMIT(k, "reduce.cl", "", "tree", &range, A_WS(part), out, out2, A_U(n), A_U(n2),
             A_U(shards), A_LIMIT, A_FLAGS);
}

void ocl_emit_bias_grad(stn_kernel *k, ocl_view gy, ocl_arg gb, uint32_t shards) {
    uint64_t part = ocl_ws(k, (uint64_t)gy.n * gy.c * 4u);
    ocl_emit_channel_sum(k, 0, gy, gy, A_NONE, 0, part, gb, shards, A_LIMIT);
}

void ocl_emit_channel_sum(stn_kernel *k, uint32_t mode, ocl_view a, ocl_view x, ocl_arg stats,
                          uint32_t slot_inv_n, uint64_t part, ocl_arg out, uint32_t shards,
                          ocl_arg limit) {
    if (gpu_channel_sum(k, mode, a, x, stats, slot_inv_n, part, out, shards, limit)) {
        return;
    }
    uint32_t length = (a.n + shards - 1u) / shards;
    ocl_range planes = ocl_items(a.c, true), channels = ocl_items(a.c, false);
    uint32_t items = a.c;
    bool blocks = vec_blocks(k, &a, &x);
    if (blocks) {
        items = ocl_padded(&a) / 16u;
        planes = (ocl_range){{items, 1, 1}, 1u, {1, 1, 1}};
    }
    OCL_EMIT(k, blocks ? "vbn.cl" : "reduce.cl", "", blocks ? "plane_sum_blocks" : "plane_sum",
             &planes, a.ref, x.ref, stats, A_WS(part), A_U(a.layout), A_U(x.layout), A_U(a.c),
             A_U(a.h * a.w), A_U(mode), mode == 0 ? A_F(0.0f) : A_SLOT(slot_inv_n), A_ROWS(items),
             A_F(1.0f));
    OCL_EMIT(k, "reduce.cl", "", "shard_sum", &channels, A_WS(part), out, A_U(a.c), A_ROWS(1),
             A_U(length), A_U(shards), limit, A_FLAGS);
}

bool ocl_op_bias_grad(stn_kernel *k) {
    if (!ocl_shards_fit(k->params.reduce.shards)) {
        return false;
    }
    ocl_emit_bias_grad(k, ocl_view_of(&k->in[0], A_IN(0)), A_OUT(0), k->params.reduce.shards);
    return true;
}
