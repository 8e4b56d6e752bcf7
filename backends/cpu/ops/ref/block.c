/* Composite blocks: the parts run one after another through scratch memory. This defines what
 * a fused kernel must equal.
 *
 * Scratch is two tensors in NCHW and a byte map: a conv-sized gradient or activation, and an
 * output-sized one.
 */
#include "ref.h"

/* One part of a block: a kernel of its own on operands of the block or scratch. */
typedef struct part {
    stn_kernel kernel;
    cpu_call call;
} part;

static part part_new(const cpu_call *call, uint32_t op) {
    part p = {.call = *call};
    p.kernel.op = op;
    return p;
}

static void part_in(part *p, const stn_tensor *t, const void *data) {
    p->call.in[p->kernel.n_in] = data;
    p->kernel.in[p->kernel.n_in++] = *t;
}

static void part_out(part *p, const stn_tensor *t, void *data) {
    p->call.out[p->kernel.n_out] = data;
    p->kernel.out[p->kernel.n_out++] = *t;
}

static void part_run(part *p, cpu_fn fn) {
    p->call.kernel = &p->kernel;
    fn(&p->call);
}

static uint32_t conv_size(uint32_t in, uint32_t window, uint32_t stride, uint32_t pad) {
    return (in + 2u * pad - window) / stride + 1u;
}

/* The convolution's output, before the pool, in NCHW. */
static stn_tensor conv_tensor(const stn_kernel *kernel) {
    const stn_conv_params *p = &kernel->params.block.conv;
    bool forward = kernel->op == STN_OP_CONV_BLOCK;
    bool to_w = kernel->op == STN_OP_CONV_BLOCK_GRAD_W;
    const stn_tensor *x = forward ? &kernel->in[0] : to_w ? &kernel->in[3] : &kernel->out[0];
    const stn_tensor *w = forward ? &kernel->in[1] : to_w ? &kernel->out[0] : &kernel->in[3];
    stn_tensor t = {STN_F32, STN_NCHW, 4, {x->dim[0], w->dim[0], 0, 0}};
    t.dim[2] = conv_size(x->dim[2], w->dim[2], p->stride_h, p->pad_h);
    t.dim[3] = conv_size(x->dim[3], w->dim[3], p->stride_w, p->pad_w);
    return t;
}

static stn_tensor plain(const stn_tensor *t) {
    stn_tensor copy = *t;
    copy.layout = STN_NCHW;
    return copy;
}

static uint64_t aligned_bytes(const stn_tensor *t) {
    return (stn_tensor_bytes(t) + 63u) / 64u * 64u;
}

/* The block's output (forward) or its gradient (backward). */
static const stn_tensor *result_tensor(const stn_kernel *kernel) {
    return kernel->op == STN_OP_CONV_BLOCK ? &kernel->out[0] : &kernel->in[0];
}

uint64_t ref_block_workspace(const stn_kernel *kernel) {
    if (kernel->op == STN_OP_LINEAR_BLOCK_GRAD) {
        return aligned_bytes(&kernel->in[0]); /* the gradient behind the activation */
    }
    if (kernel->op < STN_OP_CONV_BLOCK || kernel->op > STN_OP_CONV_BLOCK_GRAD_W) {
        return 0;
    }
    stn_tensor conv = conv_tensor(kernel), result = plain(result_tensor(kernel));
    return aligned_bytes(&conv) + aligned_bytes(&result);
}

static bool has_pool(const cpu_call *call) {
    return call->kernel->params.block.pool.kh > 0;
}

/* The activation on output 0 in place. */
static void activate(const cpu_call *call, float slope) {
    const stn_tensor *y = &call->kernel->out[0];
    part act = part_new(call, STN_OP_ACT);
    act.kernel.params.act.slope = slope;
    part_in(&act, y, call->out[0]);
    part_out(&act, y, call->out[0]);
    part_run(&act, ref_act_fn(STN_OP_ACT));
}

/* conv -> scratch; pool -> y; activation on y in place. */
static void block(const cpu_call *call) {
    const stn_kernel *kernel = call->kernel;
    const stn_conv_block_params *p = &kernel->params.block;
    const stn_tensor *y = &kernel->out[0];
    stn_tensor conv_t = conv_tensor(kernel);
    part conv = part_new(call, STN_OP_CONV);
    conv.kernel.params.conv = p->conv;
    for (uint32_t i = 0; i < kernel->n_in; i++) {
        part_in(&conv, &kernel->in[i], call->in[i]);
    }
    part_out(&conv, has_pool(call) ? &conv_t : y, has_pool(call) ? call->workspace : call->out[0]);
    part_run(&conv, ref_conv_fn(STN_OP_CONV));
    if (has_pool(call)) {
        part pool = part_new(call, STN_OP_MAXPOOL);
        pool.kernel.params.pool = p->pool;
        part_in(&pool, &conv_t, call->workspace);
        part_out(&pool, y, call->out[0]);
        part_out(&pool, &kernel->out[1], call->out[1]);
        part_run(&pool, ref_pool_fn(STN_OP_MAXPOOL));
    }
    if (p->act) {
        activate(call, p->slope);
    }
}

/* Undoes activation and pool. Returns the gradient of the convolution's output and describes it;
 * it is the operand itself where there is nothing to undo. */
static const void *undo(const cpu_call *call, stn_tensor *described) {
    const stn_kernel *kernel = call->kernel;
    const stn_conv_block_params *p = &kernel->params.block;
    stn_tensor conv_t = conv_tensor(kernel), result = plain(&kernel->in[0]);
    uint8_t *conv_grad = call->workspace, *result_grad = conv_grad + aligned_bytes(&conv_t);
    const void *grad = call->in[0];
    *described = kernel->in[0];
    if (p->act) {
        part act = part_new(call, STN_OP_ACT_GRAD);
        act.kernel.params.act.slope = p->slope;
        part_in(&act, described, grad);
        part_in(&act, &kernel->in[1], call->in[1]);
        part_out(&act, &result, result_grad);
        part_run(&act, ref_act_fn(STN_OP_ACT_GRAD));
        grad = result_grad;
        *described = result;
    }
    if (has_pool(call)) {
        part pool = part_new(call, STN_OP_MAXPOOL_GRAD);
        pool.kernel.params.pool = p->pool;
        part_in(&pool, described, grad);
        part_in(&pool, &kernel->in[2], call->in[2]);
        part_out(&pool, &conv_t, conv_grad);
        part_run(&pool, ref_pool_fn(STN_OP_MAXPOOL_GRAD));
        grad = conv_grad;
        *described = conv_t;
    }
    return grad;
}

/* Inputs gy y index w. */
static void block_grad_x(const cpu_call *call) {
    stn_tensor grad_t;
    const void *grad = undo(call, &grad_t);
    part conv = part_new(call, STN_OP_CONV_GRAD_X);
    conv.kernel.params.conv = call->kernel->params.block.conv;
    part_in(&conv, &grad_t, grad);
    part_in(&conv, &call->kernel->in[3], call->in[3]);
    part_out(&conv, &call->kernel->out[0], call->out[0]);
    part_run(&conv, ref_conv_fn(STN_OP_CONV_GRAD_X));
}

/* Inputs gy y index x; outputs gw gb. */
static void block_grad_w(const cpu_call *call) {
    stn_tensor grad_t;
    const void *grad = undo(call, &grad_t);
    part conv = part_new(call, STN_OP_CONV_GRAD_W);
    conv.kernel.params.conv = call->kernel->params.block.conv;
    part_in(&conv, &grad_t, grad);
    part_in(&conv, &call->kernel->in[3], call->in[3]);
    part_out(&conv, &call->kernel->out[0], call->out[0]);
    part_run(&conv, ref_conv_fn(STN_OP_CONV_GRAD_W));
    part bias = part_new(call, STN_OP_BIAS_GRAD);
    bias.kernel.params.reduce.shards = call->kernel->params.block.conv.shards;
    part_in(&bias, &grad_t, grad);
    part_out(&bias, &call->kernel->out[1], call->out[1]);
    part_run(&bias, ref_conv_fn(STN_OP_BIAS_GRAD));
}

/* ---- linear ---------------------------------------------------------------------------------- */

/* linear -> y; activation on y in place. */
static void linear_block(const cpu_call *call) {
    const stn_kernel *kernel = call->kernel;
    const stn_linear_block_params *p = &kernel->params.linear_block;
    part linear = part_new(call, STN_OP_LINEAR);
    for (uint32_t i = 0; i < kernel->n_in; i++) {
        part_in(&linear, &kernel->in[i], call->in[i]);
    }
    part_out(&linear, &kernel->out[0], call->out[0]);
    part_run(&linear, ref_linear_fn(STN_OP_LINEAR));
    if (p->act) {
        activate(call, p->slope);
    }
}

/* The part of a linear block's gradient that reads the gradient behind the activation and, if
 * other < STN_MAX_IN, that operand of the block. */
static void linear_part(const cpu_call *call, uint32_t op, const void *grad, uint32_t other,
                        uint32_t out, cpu_fn fn) {
    const stn_kernel *kernel = call->kernel;
    part p = part_new(call, op);
    p.kernel.params.linear.shards = kernel->params.linear_block.shards; /* reduce.shards too */
    part_in(&p, &kernel->in[0], grad);
    if (other < STN_MAX_IN) {
        part_in(&p, &kernel->in[other], call->in[other]);
    }
    part_out(&p, &kernel->out[out], call->out[out]);
    part_run(&p, fn);
}

/* Inputs gy y x w; outputs gw gb gx. */
static void linear_block_grad(const cpu_call *call) {
    const stn_kernel *kernel = call->kernel;
    const void *grad = call->in[0];
    if (kernel->params.linear_block.act) {
        part act = part_new(call, STN_OP_ACT_GRAD);
        act.kernel.params.act.slope = kernel->params.linear_block.slope;
        part_in(&act, &kernel->in[0], call->in[0]);
        part_in(&act, &kernel->in[1], call->in[1]);
        part_out(&act, &kernel->in[0], call->workspace);
        part_run(&act, ref_act_fn(STN_OP_ACT_GRAD));
        grad = call->workspace;
    }
    linear_part(call, STN_OP_LINEAR_GRAD_W, grad, 2, 0, ref_linear_fn(STN_OP_LINEAR_GRAD_W));
    linear_part(call, STN_OP_BIAS_GRAD, grad, STN_MAX_IN, 1, ref_conv_fn(STN_OP_BIAS_GRAD));
    linear_part(call, STN_OP_LINEAR_GRAD_X, grad, 3, 2, ref_linear_fn(STN_OP_LINEAR_GRAD_X));
}

cpu_fn ref_block_fn(uint32_t op) {
    switch (op) {
    case STN_OP_CONV_BLOCK:
        return block;
    case STN_OP_CONV_BLOCK_GRAD_X:
        return block_grad_x;
    case STN_OP_CONV_BLOCK_GRAD_W:
        return block_grad_w;
    case STN_OP_LINEAR_BLOCK:
        return linear_block;
    case STN_OP_LINEAR_BLOCK_GRAD:
        return linear_block_grad;
    default:
        return NULL;
    }
}
