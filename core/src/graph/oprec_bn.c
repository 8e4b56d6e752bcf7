/* Records of batch norm. stats[3,C] = (S, Q, r). */
#include "graph/oprec.h"

#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof((list)[0])))

static int32_t check_params(const stn__infer *q) {
    const stn_bn_params *p = q->params;
    STN_TRY(stn__need_finite(q, p->eps, "eps"));
    if (p->eps < 0x1p-30f) {
        return STN__BAD(q, "eps is %g and must be at least 2^-30", (double)p->eps);
    }
    STN_TRY(stn__need_finite(q, p->momentum, "the momentum"));
    if (p->momentum < 0.0f || p->momentum > 1.0f) {
        return STN__BAD(q, "the momentum %g is not within 0..1", (double)p->momentum);
    }
    return STN_OK;
}

static int32_t need_values(const stn__infer *q, const stn_tensor *x) {
    const stn_bn_params *p = q->params;
    STN_TRY(stn__need_shards(q, p->shards));
    if ((uint64_t)x->dim[0] * x->dim[2] * x->dim[3] < 2) {
        return STN__BAD(q, "one value a channel has no variance; use a larger batch or map");
    }
    return STN_OK;
}

static int32_t need_stats(const stn__infer *q, uint32_t i, uint32_t channels) {
    stn_tensor stats = stn__f32(2, 3, channels, 1, 1);
    STN_TRY(stn__need_dtype(q, i, STN_F32, "stats"));
    return stn__need_shape(q, i, &stats, "stats");
}

/* gamma and beta at i and i + 1: both or none. */
static int32_t check_affine(const stn__infer *q, uint32_t i, uint32_t channels) {
    if (q->n_in == i) {
        return STN_OK;
    }
    if (q->n_in == i + 1) {
        return STN__BAD(q, "gamma comes without beta");
    }
    STN_TRY(stn__need_vector(q, i, channels, "gamma"));
    return stn__need_vector(q, i + 1, channels, "beta");
}

static int32_t infer_bn(const stn__infer *q) {
    const stn_tensor *x = &q->in[0];
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(check_params(q));
    STN_TRY(need_values(q, x));
    STN_TRY(check_affine(q, 1, x->dim[1]));
    q->out[0] = stn__like(x, STN_F32);
    q->out[1] = stn__f32(2, 3, x->dim[1], 1, 1);
    return STN_OK;
}

static int32_t infer_update(const stn__infer *q) {
    uint32_t channels = q->in[0].dim[1];
    STN_TRY(check_params(q));
    STN_TRY(need_stats(q, 0, channels));
    STN_TRY(stn__need_vector(q, 1, channels, "the running mean"));
    STN_TRY(stn__need_vector(q, 2, channels, "the running variance"));
    q->out[0] = stn__like(&q->in[1], STN_F32);
    q->out[1] = stn__like(&q->in[2], STN_F32);
    return STN_OK;
}

static int32_t infer_eval(const stn__infer *q) {
    const stn_tensor *x = &q->in[0];
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(check_params(q));
    STN_TRY(stn__need_vector(q, 1, x->dim[1], "the running mean"));
    STN_TRY(stn__need_vector(q, 2, x->dim[1], "the running variance"));
    STN_TRY(check_affine(q, 3, x->dim[1]));
    q->out[0] = stn__like(x, STN_F32);
    return STN_OK;
}

static int32_t infer_grad(const stn__infer *q) {
    const stn_tensor *gy = &q->in[0];
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the gradient"));
    STN_TRY(stn__need_dtype(q, 1, STN_F32, "the input"));
    STN_TRY(stn__need_shape(q, 1, gy, "the input"));
    STN_TRY(check_params(q));
    STN_TRY(need_values(q, gy));
    STN_TRY(need_stats(q, 2, gy->dim[1]));
    if (q->n_in == 4) {
        STN_TRY(stn__need_vector(q, 3, gy->dim[1], "gamma"));
    }
    q->out[0] = stn__like(gy, STN_F32);
    q->out[1] = stn__f32(1, gy->dim[1], 1, 1, 1);
    q->out[2] = q->out[1];
    return STN_OK;
}

/* Forward: sum 1, centred square 4, normalise 5. Backward: two sums 6, result 9. */
static uint64_t bn_flops(const stn_op_desc *desc) {
    stn_tensor x = stn__like(&desc->out[0], STN_F32);
    return stn_tensor_elems(&x) * (desc->op == STN_OP_BN        ? 10u
                                   : desc->op == STN_OP_BN_GRAD ? 15u
                                                                : 4u);
}

const stn__op_rec stn__oprec_bn[] = {
    {STN_OP_BN, infer_bn, bn_flops},
    {STN_OP_BN_UPDATE, infer_update, bn_flops},
    {STN_OP_BN_EVAL, infer_eval, bn_flops},
    {STN_OP_BN_GRAD, infer_grad, bn_flops},
};
const uint32_t stn__oprec_n_bn = COUNT(stn__oprec_bn);
