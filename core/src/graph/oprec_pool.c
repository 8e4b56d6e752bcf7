/* Records of pooling, activations and dropout. */
#include "graph/oprec.h"

#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof((list)[0])))

static int32_t check_pool(const stn__infer *q) {
    const stn_pool_params *p = q->params;
    if ((uint64_t)p->kh * p->kw > 256) {
        return STN__BAD(q, "a window of %ux%u has more than 256 elements", p->kh, p->kw);
    }
    bool average = q->op == STN_OP_AVGPOOL || q->op == STN_OP_AVGPOOL_GRAD;
    bool halving = p->kh == 2 && p->kw == 2 && p->stride_h == 2 && p->stride_w == 2;
    if (average && !halving && p->kh * p->kw > 0 && (p->scale < 1.0f / 512.0f || p->scale > 1.0f)) {
        return STN__BAD(q, "scale is %g and must be 1/(kh*kw)", (double)p->scale);
    }
    return STN_OK;
}

static int32_t pooled(const stn__infer *q, const stn_tensor *x, stn_tensor *y) {
    const stn_pool_params *p = q->params;
    *y = stn__f32(4, x->dim[0], x->dim[1], 0, 0);
    STN_TRY(stn__window_size(q, 'h', x->dim[2], p->kh, p->stride_h, 0, &y->dim[2]));
    return stn__window_size(q, 'w', x->dim[3], p->kw, p->stride_w, 0, &y->dim[3]);
}

static int32_t infer_pool(const stn__infer *q) {
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(check_pool(q));
    STN_TRY(pooled(q, &q->in[0], &q->out[0]));
    if (q->op == STN_OP_MAXPOOL) {
        q->out[1] = stn__like(&q->out[0], STN_U8);
    }
    return STN_OK;
}

static uint32_t before_window(uint32_t y, uint32_t window, uint32_t stride) {
    uint64_t size = (uint64_t)(y - 1u) * stride + window;
    return size > UINT32_MAX ? 0 : (uint32_t)size;
}

static int32_t infer_pool_grad(const stn__infer *q) {
    const stn_pool_params *p = q->params;
    const stn_tensor *gy = &q->in[0];
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the gradient"));
    STN_TRY(check_pool(q));
    if (q->op == STN_OP_MAXPOOL_GRAD) {
        STN_TRY(stn__need_dtype(q, 1, STN_U8, "the index"));
        STN_TRY(stn__need_shape(q, 1, gy, "the index"));
    }
    stn_tensor smallest = stn__f32(4, gy->dim[0], gy->dim[1], 0, 0), y;
    smallest.dim[2] = before_window(gy->dim[2], p->kh, p->stride_h);
    smallest.dim[3] = before_window(gy->dim[3], p->kw, p->stride_w);
    stn__take_wanted(q, &smallest);
    STN_TRY(pooled(q, &q->out[0], &y));
    return stn__need_shape(q, 0, &y, "the gradient");
}

static int32_t infer_act(const stn__infer *q) {
    const stn_act_params *p = q->params;
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(stn__need_finite(q, p->slope, "the slope"));
    if (p->slope < 0.0f) {
        return STN__BAD(q, "the slope is negative: the gradient could not tell the sides apart");
    }
    if (q->op == STN_OP_ACT_GRAD) {
        STN_TRY(stn__need_dtype(q, 1, STN_F32, "the output"));
        STN_TRY(stn__need_shape(q, 1, &q->in[0], "the output"));
    }
    q->out[0] = stn__like(&q->in[0], STN_F32);
    return STN_OK;
}

static int32_t infer_dropout(const stn__infer *q) {
    const stn_dropout_params *p = q->params;
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(stn__need_finite(q, p->scale, "the scale"));
    if (p->scale < 1.0f) {
        return STN__BAD(q, "the scale %g is below 1: it is 1/(1-p)", (double)p->scale);
    }
    if (p->id >> 28 != 0) {
        return STN__BAD(q, "the id %u does not fit in 28 bits", p->id);
    }
    stn_tensor plain = stn__like(&q->in[0], STN_F32);
    if (stn_tensor_elems(&plain) > UINT64_C(1) << 32) {
        return STN__BAD(q, "more than 2^32 elements cannot be numbered");
    }
    q->out[0] = plain;
    return STN_OK;
}

static uint64_t pool_flops(const stn_op_desc *desc) {
    const stn_pool_params *p = desc->params;
    bool forward = desc->op == STN_OP_MAXPOOL || desc->op == STN_OP_AVGPOOL;
    stn_tensor y = stn__like(forward ? &desc->out[0] : &desc->in[0], STN_F32);
    return stn_tensor_elems(&y) * p->kh * p->kw;
}

const stn__op_rec stn__oprec_pool[] = {
    {STN_OP_MAXPOOL, infer_pool, pool_flops},
    {STN_OP_MAXPOOL_GRAD, infer_pool_grad, pool_flops},
    {STN_OP_AVGPOOL, infer_pool, pool_flops},
    {STN_OP_AVGPOOL_GRAD, infer_pool_grad, pool_flops},
    {STN_OP_ACT, infer_act, NULL},
    {STN_OP_ACT_GRAD, infer_act, NULL},
    {STN_OP_DROPOUT, infer_dropout, NULL},
    {STN_OP_DROPOUT_GRAD, infer_dropout, NULL},
};
const uint32_t stn__oprec_n_pool = COUNT(stn__oprec_pool);
