/* Records of the loss, element-wise operators and optimizers. */
#include "graph/oprec.h"

#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof((list)[0])))

static int32_t infer_loss(const stn__infer *q) {
    const stn_loss_params *p = q->params;
    const stn_tensor *z = &q->in[0];
    uint64_t logits = (uint64_t)p->heads * p->classes;
    if (logits == 0) {
        return STN__BAD(q, "heads and classes must not be 0 (%u and %u)", p->heads, p->classes);
    }
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the logits"));
    if (z->dim[1] != logits || z->dim[2] != 1 || z->dim[3] != 1) {
        return STN__BAD(q, "rows have %llu logits and %u heads of %u classes need %llu",
                        (unsigned long long)z->dim[1] * z->dim[2] * z->dim[3], p->heads, p->classes,
                        (unsigned long long)logits);
    }
    stn_tensor label = stn__f32(2, z->dim[0], p->heads, 1, 1);
    STN_TRY(stn__need_dtype(q, 1, STN_I32, "the labels"));
    STN_TRY(stn__need_shape(q, 1, &label, "the labels"));
    if (q->op == STN_OP_XENT_GRAD) {
        q->out[0] = stn__like(z, STN_F32);
        return STN_OK;
    }
    if (p->heads > UINT32_MAX / 2u) {
        return STN__BAD(q, "%u heads are too many", p->heads);
    }
    q->out[0] = stn__f32(2, z->dim[0], 2u * p->heads, 1, 1);
    q->out[1] = stn__like(&label, STN_I32);
    if (q->op == STN_OP_XENT_BOTH) {
        q->out[2] = stn__like(z, STN_F32);
    }
    return STN_OK;
}

static int32_t infer_sum(const stn__infer *q) {
    const stn_scale_params *p = q->params;
    if (p->gradient > STN_CLASS_NONE) {
        return STN__BAD(q, "gradient is %u and must be 0, 1 or 2", p->gradient);
    }
    for (uint32_t i = 0; i < q->n_in; i++) {
        stn_tensor shape = q->in[0];
        STN_TRY(stn__need_dtype(q, i, STN_F32, "an operand"));
        if (i > 0 && q->in[i].dim[0] == 1) {
            shape.dim[0] = 1;
        }
        STN_TRY(stn__need_shape(q, i, &shape, "an operand"));
    }
    q->out[0] = stn__like(&q->in[0], STN_F32);
    return STN_OK;
}

static int32_t infer_scale(const stn__infer *q) {
    const stn_scale_params *p = q->params;
    if (p->gradient > STN_CLASS_NONE) {
        return STN__BAD(q, "gradient is %u and must be 0, 1 or 2", p->gradient);
    }
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the input"));
    STN_TRY(stn__need_finite(q, p->factor, "the factor"));
    q->out[0] = stn__like(&q->in[0], STN_F32);
    return STN_OK;
}

static int32_t infer_copy(const stn__infer *q) {
    q->out[0] = stn__like(&q->in[0], q->in[0].dtype);
    return STN_OK;
}

static int32_t infer_unpack(const stn__infer *q) {
    if (q->in[0].dtype == STN_I32) {
        return STN__BAD(q, "pixels must be bytes or floats");
    }
    STN_TRY(stn__need_vector(q, 1, q->in[0].dim[1], "mul"));
    STN_TRY(stn__need_vector(q, 2, q->in[0].dim[1], "add"));
    q->out[0] = stn__like(&q->in[0], STN_F32);
    return STN_OK;
}

static int32_t within(const stn__infer *q, float value, float low, float high, const char *what) {
    STN_TRY(stn__need_finite(q, value, what));
    if (value < low || value > high) {
        return STN__BAD(q, "%s is %g and must be within %g..%g", what, (double)value, (double)low,
                        (double)high);
    }
    return STN_OK;
}

static int32_t infer_optimizer(const stn__infer *q) {
    const stn_opt_params *p = q->params;
    if (p->nesterov > 1 || p->decoupled > 1) {
        return STN__BAD(q, "nesterov and decoupled must be 0 or 1");
    }
    STN_TRY(within(q, p->wd, 0.0f, 1e6f, "the weight decay"));
    if (q->op == STN_OP_SGD) {
        STN_TRY(within(q, p->mu, 0.0f, 1.0f, "the momentum"));
    } else {
        STN_TRY(within(q, p->omb1, 0.0f, 1.0f, "1-beta1"));
        STN_TRY(within(q, p->omb2, 0.0f, 1.0f, "1-beta2"));
    }
    for (uint32_t i = 0; i < q->n_in; i++) {
        STN_TRY(stn__need_dtype(q, i, STN_F32, "an operand"));
        STN_TRY(stn__need_shape(q, i, &q->in[0], "an operand"));
        if (i > 0) {
            q->out[i - 1] = stn__like(&q->in[i], STN_F32);
        }
    }
    return STN_OK;
}

/* Exponential 20, share and target 3. */
static uint64_t loss_flops(const stn_op_desc *desc) {
    return (uint64_t)desc->in[0].dim[0] * desc->in[0].dim[1] * 23u;
}

static uint64_t sum_flops(const stn_op_desc *desc) {
    stn_tensor y = stn__like(&desc->out[0], STN_F32);
    return stn_tensor_elems(&y) * (desc->n_in - 1u);
}

/* Three multiply-adds, or five with a divide and a square root of about 20 each. */
static uint64_t optimizer_flops(const stn_op_desc *desc) {
    stn_tensor w = stn__like(&desc->out[0], STN_F32);
    return stn_tensor_elems(&w) * (desc->op == STN_OP_SGD ? 6u : 50u);
}

const stn__op_rec stn__oprec_rest[] = {
    {STN_OP_XENT, infer_loss, loss_flops},
    {STN_OP_XENT_GRAD, infer_loss, loss_flops},
    {STN_OP_XENT_BOTH, infer_loss, loss_flops},
    {STN_OP_SUM, infer_sum, sum_flops},
    {STN_OP_SCALE, infer_scale, NULL},
    {STN_OP_COPY, infer_copy, NULL},
    {STN_OP_UNPACK, infer_unpack, NULL},
    {STN_OP_SGD, infer_optimizer, optimizer_flops},
    {STN_OP_ADAM, infer_optimizer, optimizer_flops},
};
const uint32_t stn__oprec_n_rest = COUNT(stn__oprec_rest);
