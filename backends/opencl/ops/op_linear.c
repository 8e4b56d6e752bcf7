/* Linear layers, alone or with an activation behind them: launches of the general kernels. */
#include "gpu.h"
#include "vec.h"

static void forward(stn_kernel *k, bool act, float slope) {
    ocl_view x = ocl_view_of(&k->in[0], A_IN(0));
    ocl_arg b = k->n_in > 2 ? A_IN(2) : A_NONE;
    uint32_t o = k->out[0].dim[1];
    if (vec_linear(k, x, A_IN(1), b, A_OUT(0), o, act, slope) ||
        gpu_linear(k, x, A_IN(1), b, A_OUT(0), o, act, slope)) {
        return;
    }
    ocl_range range = ocl_items(o, true);
    OCL_EMIT(k, "linear.cl", "", "linear", &range, x.ref, A_IN(1), b, A_OUT(0), A_U(x.layout),
             A_U(x.c), A_U(x.h * x.w), A_U(o), A_U(k->n_in > 2), A_U(act), A_F(slope), A_ROWS(o),
             A_FLAGS);
}

static void grad_x(stn_kernel *k, const vec_flow *f, ocl_arg w, ocl_view gx) {
    if (gpu_linear_grad_x(k, f, w, gx)) {
        return;
    }
    uint64_t row = ocl_row(&gx);
    ocl_range range = ocl_items(row, true);
    OCL_EMIT(k, "linear.cl", "", "linear_grad_x", &range, f->gy.ref, f->act ? f->y.ref : A_NONE, w,
             gx.ref, A_U(gx.layout), A_U(gx.c), A_U(gx.h * gx.w), A_U(f->gy.c), A_U(f->act),
             A_F(f->slope), A_ROWS((uint32_t)row), A_FLAGS);
    ocl_work(k, (ocl_tile_work){.flops = 2u * row * gx.n * f->gy.c});
}

/* gb may be A_NONE. */
static void grad_w(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg gw, ocl_arg gb,
                   uint32_t shards) {
    if (gpu_linear_grad_w(k, f, x, gw, gb, shards)) {
        return;
    }
    uint32_t o = f->gy.c, biases = gb.kind != OCL_ARG_NONE ? o : 0;
    uint64_t n = (uint64_t)o * x.c * x.h * x.w;
    ocl_range range = ocl_items(n + biases, false);
    OCL_EMIT(k, "linear.cl", "", "linear_grad_w", &range, f->gy.ref, f->act ? f->y.ref : A_NONE,
             x.ref, gw, gb, A_U(x.layout), A_U(x.c), A_U(x.h * x.w), A_U(o), A_U(f->act),
             A_F(f->slope), A_U(biases), A_ROWS(1), A_U((x.n + shards - 1u) / shards), A_U(shards),
             A_U((uint32_t)n), A_LIMIT, A_FLAGS);
    ocl_work(k, (ocl_tile_work){.flops = 2u * n * x.n + (uint64_t)biases * x.n});
}

/* gy y x w -> gw gb gx */
static void gradients(stn_kernel *k) {
    const stn_linear_block_params *p = &k->params.linear_block;
    ocl_view x = ocl_view_of(&k->in[2], A_IN(2)), gx = ocl_view_of(&k->out[2], A_OUT(2));
    vec_flow f = {.gy = ocl_view_of(&k->in[0], A_IN(0)),
                  .y = ocl_view_of(&k->in[1], A_IN(1)),
                  .act = p->act != 0,
                  .slope = p->slope};
    if (vec_linear_grad(k, &f, x, A_IN(3), A_OUT(0), A_OUT(1), gx, p->shards) ||
        gpu_linear_grads(k, &f, x, A_IN(3), A_OUT(0), A_OUT(1), gx, p->shards)) {
        return;
    }
    grad_w(k, &f, x, A_OUT(0), A_OUT(1), p->shards);
    grad_x(k, &f, A_IN(3), gx);
}

bool ocl_op_linear(stn_kernel *k) {
    if (k->device->fast_math) {
        return ocl_fast_linear(k);
    }
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), gx, x;
    vec_flow f = {.gy = gy};
    switch (k->op) {
    case STN_OP_LINEAR:
        forward(k, false, 0.0f);
        return true;
    case STN_OP_LINEAR_GRAD_X:
        gx = ocl_view_of(&k->out[0], A_OUT(0));
        if (!vec_linear_grad_x(k, gy, A_IN(1), gx)) {
            grad_x(k, &f, A_IN(1), gx);
        }
        return true;
    default:
        x = ocl_view_of(&k->in[1], A_IN(1));
        if (!ocl_shards_fit(k->params.linear.shards)) {
            return false;
        }
        if (!vec_linear_grad_w(k, gy, x, A_OUT(0), k->params.linear.shards)) {
            grad_w(k, &f, x, A_OUT(0), A_NONE, k->params.linear.shards);
        }
        return true;
    }
}

bool ocl_op_linear_block(stn_kernel *k) {
    const stn_linear_block_params *p = &k->params.linear_block;
    if (k->device->fast_math || p->act > 1) {
        return false; /* with --math fast the parts are offered, with CLBlast in the product */
    }
    if (k->op == STN_OP_LINEAR_BLOCK) {
        forward(k, p->act != 0, p->slope);
        return true;
    }
    if (!ocl_shards_fit(p->shards)) {
        return false;
    }
    gradients(k);
    return true;
}
