/* Records of convolution, linear layers, the bias gradient and the conv blocks. */
#include "graph/oprec.h"

#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof((list)[0])))

/* Most elements of a window, and so the longest side. */
#define MAX_WINDOW (1u << 20)

/* Height and width of the result of a conv block's convolution and pool. */
typedef struct shape2 {
    uint32_t h, w;
} shape2;

static int32_t conv_size(const stn__infer *q, const stn_conv_params *p, const stn_tensor *x,
                         const stn_tensor *w, shape2 *y) {
    STN_TRY(stn__window_size(q, 'h', x->dim[2], w->dim[2], p->stride_h, p->pad_h, &y->h));
    return stn__window_size(q, 'w', x->dim[3], w->dim[3], p->stride_w, p->pad_w, &y->w);
}

static int32_t check_weight(const stn__infer *q, uint32_t i) {
    STN_TRY(stn__need_dtype(q, i, STN_F32, "the weight"));
    if (q->in[i].rank != 4) {
        return STN__BAD(q, "the weight has %u dimensions, not 4 [O,C,KH,KW]", q->in[i].rank);
    }
    if ((uint64_t)q->in[i].dim[2] * q->in[i].dim[3] > MAX_WINDOW) {
        return STN__BAD(q, "a window of %ux%u is too large", q->in[i].dim[2], q->in[i].dim[3]);
    }
    return STN_OK;
}

static int32_t channels_agree(const stn__infer *q, uint32_t has, uint32_t must, const char *what) {
    return has == must ? STN_OK
                       : STN__BAD(q, "%s has %u channels and the weight %u", what, has, must);
}

/* x w [b] */
static int32_t conv_operands(const stn__infer *q) {
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(check_weight(q, 1));
    STN_TRY(channels_agree(q, q->in[0].dim[1], q->in[1].dim[1], "the input"));
    return q->n_in < 3 ? STN_OK : stn__need_vector(q, 2, q->in[1].dim[0], "the bias");
}

static int32_t infer_conv(const stn__infer *q) {
    shape2 y;
    STN_TRY(conv_operands(q));
    STN_TRY(conv_size(q, q->params, &q->in[0], &q->in[1], &y));
    q->out[0] = stn__f32(4, q->in[0].dim[0], q->in[1].dim[0], y.h, y.w);
    return STN_OK;
}

/* ---- results that the inputs do not determine ----------------------------------------------- */

/* Sizes after convolution and, if it has a window, pool. */
static int32_t forward_size(const stn__infer *q, const stn_conv_params *conv,
                            const stn_pool_params *pool, const stn_tensor *x, const stn_tensor *w,
                            shape2 *y) {
    STN_TRY(conv_size(q, conv, x, w, y));
    if (pool == NULL || pool->kh == 0) {
        return STN_OK;
    }
    STN_TRY(stn__window_size(q, 'h', y->h, pool->kh, pool->stride_h, 0, &y->h));
    return stn__window_size(q, 'w', y->w, pool->kw, pool->stride_w, 0, &y->w);
}

static int32_t must_give(const stn__infer *q, const shape2 *y, const stn_tensor *gy) {
    if (y->h != gy->dim[2] || y->w != gy->dim[3]) {
        return STN__BAD(q, "sizes do not fit: forward gives %ux%u, the gradient is %ux%u", y->h,
                        y->w, gy->dim[2], gy->dim[3]);
    }
    return STN_OK;
}

/* Smallest input size of a window whose result has size y. */
static uint64_t before_window(uint64_t y, uint32_t window, uint32_t stride) {
    return (y - 1u) * stride + window;
}

static uint32_t smallest_input(uint32_t y, uint32_t pool, uint32_t pool_stride, uint32_t window,
                               uint32_t stride, uint32_t pad) {
    uint64_t conv = pool == 0 ? y : before_window(y, pool, pool_stride);
    uint64_t size = before_window(conv, window, stride);
    return size <= 2u * (uint64_t)pad || size > UINT32_MAX ? 1u : (uint32_t)(size - 2u * pad);
}

/* gx of gy (in[0]) and a weight: the wanted shape or the smallest, checked by going forward. */
static int32_t take_gx(const stn__infer *q, const stn_conv_params *p, const stn_pool_params *pool,
                       const stn_tensor *w) {
    const stn_tensor *gy = &q->in[0];
    uint32_t kh = pool == NULL ? 0 : pool->kh, kw = pool == NULL ? 0 : pool->kw;
    uint32_t sh = pool == NULL ? 1 : pool->stride_h, sw = pool == NULL ? 1 : pool->stride_w;
    stn_tensor smallest = stn__f32(4, gy->dim[0], w->dim[1], 0, 0);
    smallest.dim[2] = smallest_input(gy->dim[2], kh, sh, w->dim[2], p->stride_h, p->pad_h);
    smallest.dim[3] = smallest_input(gy->dim[3], kw, sw, w->dim[3], p->stride_w, p->pad_w);
    stn__take_wanted(q, &smallest);
    if (q->out[0].dim[0] != gy->dim[0] || q->out[0].dim[1] != w->dim[1]) {
        return STN__BAD(q, "the wanted result has %u rows of %u channels, not %u of %u",
                        q->out[0].dim[0], q->out[0].dim[1], gy->dim[0], w->dim[1]);
    }
    shape2 y;
    STN_TRY(forward_size(q, p, pool, &q->out[0], w, &y));
    return must_give(q, &y, gy);
}

/* Size of one axis after the convolution and the pool, 0 if a window does not fit. */
static uint32_t axis_forward(uint32_t in, uint32_t window, uint32_t stride, uint32_t pad,
                             uint32_t pool, uint32_t pool_stride) {
    uint64_t padded = (uint64_t)in + 2u * (uint64_t)pad;
    if (padded < window) {
        return 0;
    }
    uint64_t y = (padded - window) / stride + 1u;
    return (uint32_t)(pool == 0 ? y : y < pool ? 0 : (y - pool) / pool_stride + 1u);
}

/* Smallest window (above the padding) that leads from `in` to `y`; 1 if there is none, which the
 * check that follows refuses. */
static uint32_t smallest_window(uint32_t in, uint32_t y, uint32_t stride, uint32_t pad,
                                uint32_t pool, uint32_t pool_stride) {
    for (uint32_t k = pad + 1u; k <= (uint64_t)in + 2u * (uint64_t)pad && k <= MAX_WINDOW; k++) {
        uint32_t size = axis_forward(in, k, stride, pad, pool, pool_stride);
        if (size <= y) {
            return size == y ? k : 1u;
        }
    }
    return 1u;
}

static int32_t take_gw(const stn__infer *q, const stn_conv_params *p, const stn_pool_params *pool,
                       const stn_tensor *x) {
    const stn_tensor *gy = &q->in[0];
    if (p->stride_h == 0 || p->stride_w == 0) {
        return STN__BAD(q, "the stride is 0");
    }
    uint32_t kh = pool == NULL ? 0 : pool->kh, kw = pool == NULL ? 0 : pool->kw;
    uint32_t sh = kh == 0 ? 1 : pool->stride_h, sw = kh == 0 ? 1 : pool->stride_w;
    stn_tensor smallest = stn__f32(4, gy->dim[1], x->dim[1], 0, 0);
    smallest.dim[2] = smallest_window(x->dim[2], gy->dim[2], p->stride_h, p->pad_h, kh, sh);
    smallest.dim[3] = smallest_window(x->dim[3], gy->dim[3], p->stride_w, p->pad_w, kw, sw);
    stn__take_wanted(q, &smallest);
    if (q->out[0].dim[0] != gy->dim[1] || q->out[0].dim[1] != x->dim[1]) {
        return STN__BAD(q, "the wanted result joins %u to %u channels, not %u to %u",
                        q->out[0].dim[1], q->out[0].dim[0], x->dim[1], gy->dim[1]);
    }
    shape2 y;
    STN_TRY(forward_size(q, p, pool, x, &q->out[0], &y));
    return must_give(q, &y, gy);
}

static int32_t same_batch(const stn__infer *q, uint32_t i) {
    if (q->in[i].dim[0] != q->in[0].dim[0]) {
        return STN__BAD(q, "the input has %u rows and the gradient %u", q->in[i].dim[0],
                        q->in[0].dim[0]);
    }
    return stn__need_dtype(q, i, STN_F32, "the input");
}

static int32_t infer_conv_grad_x(const stn__infer *q) {
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the gradient"));
    STN_TRY(check_weight(q, 1));
    STN_TRY(channels_agree(q, q->in[0].dim[1], q->in[1].dim[0], "the gradient"));
    return take_gx(q, q->params, NULL, &q->in[1]);
}

static int32_t infer_conv_grad_w(const stn__infer *q) {
    const stn_conv_params *p = q->params;
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the gradient"));
    STN_TRY(same_batch(q, 1));
    STN_TRY(stn__need_shards(q, p->shards));
    return take_gw(q, p, NULL, &q->in[1]);
}

/* ---- linear --------------------------------------------------------------------------------- */

static uint64_t row_elems(const stn_tensor *t) {
    return (uint64_t)t->dim[1] * t->dim[2] * t->dim[3];
}

static int32_t need_matrix(const stn__infer *q, uint32_t i, const char *what) {
    STN_TRY(stn__need_dtype(q, i, STN_F32, what));
    if (q->in[i].dim[2] != 1 || q->in[i].dim[3] != 1) {
        return STN__BAD(q, "%s must be a matrix, not %ux%ux%ux%u", what, q->in[i].dim[0],
                        q->in[i].dim[1], q->in[i].dim[2], q->in[i].dim[3]);
    }
    return STN_OK;
}

static int32_t infer_linear(const stn__infer *q) {
    const stn_tensor *x = &q->in[0], *w = &q->in[1];
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(need_matrix(q, 1, "the weight"));
    if (row_elems(x) != w->dim[1]) {
        return STN__BAD(q, "the input has %llu values a row and the weight takes %u",
                        (unsigned long long)row_elems(x), w->dim[1]);
    }
    if (q->n_in == 3) {
        STN_TRY(stn__need_vector(q, 2, w->dim[0], "the bias"));
    }
    q->out[0] = stn__f32(2, x->dim[0], w->dim[0], 1, 1);
    return STN_OK;
}

static int32_t infer_linear_grad_x(const stn__infer *q) {
    const stn_tensor *gy = &q->in[0], *w = &q->in[1];
    STN_TRY(need_matrix(q, 0, "the gradient"));
    STN_TRY(need_matrix(q, 1, "the weight"));
    STN_TRY(channels_agree(q, gy->dim[1], w->dim[0], "the gradient"));
    stn_tensor smallest = stn__f32(2, gy->dim[0], w->dim[1], 1, 1);
    stn__take_wanted(q, &smallest);
    if (q->out[0].dim[0] != gy->dim[0] || row_elems(&q->out[0]) != w->dim[1]) {
        return STN__BAD(q, "the wanted result has %u rows of %llu values, not %u of %u",
                        q->out[0].dim[0], (unsigned long long)row_elems(&q->out[0]), gy->dim[0],
                        w->dim[1]);
    }
    return STN_OK;
}

static int32_t infer_linear_grad_w(const stn__infer *q) {
    const stn_linear_params *p = q->params;
    STN_TRY(need_matrix(q, 0, "the gradient"));
    STN_TRY(same_batch(q, 1));
    STN_TRY(stn__need_shards(q, p->shards));
    if (row_elems(&q->in[1]) > UINT32_MAX) {
        return STN__BAD(q, "the input is too large");
    }
    q->out[0] = stn__f32(2, q->in[0].dim[1], (uint32_t)row_elems(&q->in[1]), 1, 1);
    return STN_OK;
}

static int32_t infer_bias_grad(const stn__infer *q) {
    const stn_reduce_params *p = q->params;
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the gradient"));
    STN_TRY(stn__need_shards(q, p->shards));
    q->out[0] = stn__f32(1, q->in[0].dim[1], 1, 1, 1);
    return STN_OK;
}

/* ---- blocks --------------------------------------------------------------------------------- */

static int32_t block_params(const stn__infer *q) {
    const stn_conv_block_params *p = q->params;
    if (p->pool.kh > 0 && (p->pool.kw == 0 || (uint64_t)p->pool.kh * p->pool.kw > 256)) {
        return STN__BAD(q, "a pool of %ux%u is not possible", p->pool.kh, p->pool.kw);
    }
    if (p->pool.kh > 0 && (p->pool.stride_h == 0 || p->pool.stride_w == 0)) {
        return STN__BAD(q, "the pool's stride is 0");
    }
    if (p->act > 1) {
        return STN__BAD(q, "act is %u and must be 0 or 1", p->act);
    }
    STN_TRY(stn__need_finite(q, p->slope, "the slope"));
    return p->slope < 0.0f ? STN__BAD(q, "the slope is negative") : STN_OK;
}

static int32_t infer_block(const stn__infer *q) {
    const stn_conv_block_params *p = q->params;
    shape2 y;
    STN_TRY(block_params(q));
    STN_TRY(conv_operands(q));
    STN_TRY(forward_size(q, &p->conv, &p->pool, &q->in[0], &q->in[1], &y));
    q->out[0] = stn__f32(4, q->in[0].dim[0], q->in[1].dim[0], y.h, y.w);
    q->out[1] = stn__like(&q->out[0], STN_U8);
    return STN_OK;
}

/* gy y index */
static int32_t block_gradient(const stn__infer *q) {
    STN_TRY(block_params(q));
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the gradient"));
    STN_TRY(stn__need_dtype(q, 1, STN_F32, "the output"));
    STN_TRY(stn__need_shape(q, 1, &q->in[0], "the output"));
    STN_TRY(stn__need_dtype(q, 2, STN_U8, "the index"));
    return stn__need_shape(q, 2, &q->in[0], "the index");
}

static int32_t infer_block_grad_x(const stn__infer *q) {
    const stn_conv_block_params *p = q->params;
    STN_TRY(block_gradient(q));
    STN_TRY(check_weight(q, 3));
    STN_TRY(channels_agree(q, q->in[0].dim[1], q->in[3].dim[0], "the gradient"));
    return take_gx(q, &p->conv, &p->pool, &q->in[3]);
}

static int32_t infer_block_grad_w(const stn__infer *q) {
    const stn_conv_block_params *p = q->params;
    STN_TRY(block_gradient(q));
    STN_TRY(same_batch(q, 3));
    STN_TRY(stn__need_shards(q, p->conv.shards));
    STN_TRY(take_gw(q, &p->conv, &p->pool, &q->in[3]));
    q->out[1] = stn__f32(1, q->in[0].dim[1], 1, 1, 1);
    return STN_OK;
}

static int32_t linear_block_params(const stn__infer *q) {
    const stn_linear_block_params *p = q->params;
    if (p->act > 1) {
        return STN__BAD(q, "act is %u and must be 0 or 1", p->act);
    }
    STN_TRY(stn__need_finite(q, p->slope, "the slope"));
    return p->slope < 0.0f ? STN__BAD(q, "the slope is negative") : STN_OK;
}

static int32_t infer_linear_block(const stn__infer *q) {
    STN_TRY(linear_block_params(q));
    return infer_linear(q);
}

/* gy y x w -> gw gb gx */
static int32_t infer_linear_block_grad(const stn__infer *q) {
    const stn_linear_block_params *p = q->params;
    STN_TRY(linear_block_params(q));
    STN_TRY(need_matrix(q, 0, "the gradient"));
    STN_TRY(stn__need_dtype(q, 1, STN_F32, "the output"));
    STN_TRY(stn__need_shape(q, 1, &q->in[0], "the output"));
    STN_TRY(same_batch(q, 2));
    STN_TRY(stn__need_dtype(q, 3, STN_F32, "the weight"));
    STN_TRY(stn__need_shards(q, p->shards));
    if (row_elems(&q->in[2]) > UINT32_MAX) {
        return STN__BAD(q, "the input is too large");
    }
    q->out[0] = stn__f32(2, q->in[0].dim[1], (uint32_t)row_elems(&q->in[2]), 1, 1);
    STN_TRY(stn__need_shape(q, 3, &q->out[0], "the weight"));
    q->out[1] = stn__f32(1, q->in[0].dim[1], 1, 1, 1);
    q->out[2] = stn__like(&q->in[2], STN_F32);
    return STN_OK;
}

/* ---- work ----------------------------------------------------------------------------------- */

/* 2 N OH OW per weight. For a block the map before the pool counts. */
static uint64_t conv_flops(const stn_op_desc *desc) {
    bool block = desc->op >= STN_OP_CONV_BLOCK;
    bool to_x = desc->op == STN_OP_CONV_GRAD_X || desc->op == STN_OP_CONV_BLOCK_GRAD_X;
    bool to_w = desc->op == STN_OP_CONV_GRAD_W || desc->op == STN_OP_CONV_BLOCK_GRAD_W;
    uint32_t other = block && (to_x || to_w) ? 3 : 1;
    const stn_tensor *w = to_w ? &desc->out[0] : &desc->in[other];
    const stn_tensor *x = to_w ? &desc->in[other] : to_x ? &desc->out[0] : &desc->in[0];
    const stn_conv_params *p =
        block ? &((const stn_conv_block_params *)desc->params)->conv : desc->params;
    uint64_t h = axis_forward(x->dim[2], w->dim[2], p->stride_h, p->pad_h, 0, 1);
    uint64_t v = axis_forward(x->dim[3], w->dim[3], p->stride_w, p->pad_w, 0, 1);
    return 2u * x->dim[0] * h * v * w->dim[0] * row_elems(w);
}

static uint64_t linear_flops(const stn_op_desc *desc) {
    const stn_tensor *w = desc->op == STN_OP_LINEAR_GRAD_W ? &desc->out[0] : &desc->in[1];
    return 2u * desc->in[0].dim[0] * (uint64_t)w->dim[0] * w->dim[1];
}

static uint64_t linear_block_flops(const stn_op_desc *desc) {
    const stn_tensor *w = desc->op == STN_OP_LINEAR_BLOCK ? &desc->in[1] : &desc->in[3];
    uint64_t products = desc->op == STN_OP_LINEAR_BLOCK ? 1 : 2;
    return products * 2u * desc->in[0].dim[0] * (uint64_t)w->dim[0] * w->dim[1];
}

static uint64_t bias_flops(const stn_op_desc *desc) {
    return desc->in[0].dim[0] * row_elems(&desc->in[0]);
}

const stn__op_rec stn__oprec_conv[] = {
    {STN_OP_CONV, infer_conv, conv_flops},
    {STN_OP_CONV_GRAD_X, infer_conv_grad_x, conv_flops},
    {STN_OP_CONV_GRAD_W, infer_conv_grad_w, conv_flops},
    {STN_OP_LINEAR, infer_linear, linear_flops},
    {STN_OP_LINEAR_GRAD_X, infer_linear_grad_x, linear_flops},
    {STN_OP_LINEAR_GRAD_W, infer_linear_grad_w, linear_flops},
    {STN_OP_BIAS_GRAD, infer_bias_grad, bias_flops},
    {STN_OP_CONV_BLOCK, infer_block, conv_flops},
    {STN_OP_CONV_BLOCK_GRAD_X, infer_block_grad_x, conv_flops},
    {STN_OP_CONV_BLOCK_GRAD_W, infer_block_grad_w, conv_flops},
    {STN_OP_LINEAR_BLOCK, infer_linear_block, linear_block_flops},
    {STN_OP_LINEAR_BLOCK_GRAD, infer_linear_block_grad, linear_block_flops},
};
const uint32_t stn__oprec_n_conv = COUNT(stn__oprec_conv);
