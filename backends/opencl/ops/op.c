/* Queries and preparation: checks what every operator needs, then hands to the op's own file. */
#include "ocl.h"

#include <string.h>

ocl_view ocl_view_of(const stn_tensor *t, ocl_arg ref) {
    ocl_view v = {ref, t->layout, t->dim[0], t->dim[1], t->dim[2], t->dim[3]};
    if (t->dtype == STN_U8) {
        v.ref.size = 1;
    }
    return v;
}

static size_t params_size(uint32_t op) {
    switch (op) {
#define STN_OP(number, NAME, name, min_in, max_in, n_out, params, text)                            \
    case number:                                                                                   \
        return sizeof(stn_##params##_params);
#include <stn/op.def>
#undef STN_OP
    default:
        return 0;
    }
}

static bool counts_fit(const stn_op_desc *desc) {
    switch (desc->op) {
#define STN_OP(number, NAME, name, min_in, max_in, outs, params, text)                             \
    case number:                                                                                   \
        return desc->n_in >= (min_in) && desc->n_in <= (max_in) && desc->n_out == (outs);
#include <stn/op.def>
#undef STN_OP
    default:
        return false;
    }
}

static ocl_op_fn find_op(uint32_t op) {
    switch (op) {
    case STN_OP_CONV:
    case STN_OP_CONV_GRAD_X:
    case STN_OP_CONV_GRAD_W:
        return ocl_op_conv;
    case STN_OP_LINEAR:
    case STN_OP_LINEAR_GRAD_X:
    case STN_OP_LINEAR_GRAD_W:
        return ocl_op_linear;
    case STN_OP_BIAS_GRAD:
        return ocl_op_bias_grad;
    case STN_OP_MAXPOOL:
    case STN_OP_MAXPOOL_GRAD:
    case STN_OP_AVGPOOL:
    case STN_OP_AVGPOOL_GRAD:
        return ocl_op_pool;
    case STN_OP_BN:
    case STN_OP_BN_UPDATE:
    case STN_OP_BN_EVAL:
    case STN_OP_BN_GRAD:
        return ocl_op_bn;
    case STN_OP_COMPOSE:
    case STN_OP_COMPOSE_GRAD:
        return ocl_op_compose;
    case STN_OP_XENT:
    case STN_OP_XENT_GRAD:
    case STN_OP_XENT_BOTH:
        return ocl_op_loss;
    case STN_OP_SGD:
    case STN_OP_ADAM:
        return ocl_op_opt;
    case STN_OP_CONV_BLOCK:
    case STN_OP_CONV_BLOCK_GRAD_X:
    case STN_OP_CONV_BLOCK_GRAD_W:
        return ocl_op_block;
    case STN_OP_LINEAR_BLOCK:
    case STN_OP_LINEAR_BLOCK_GRAD:
        return ocl_op_linear_block;
    default:
        return op >= STN_OP_GRID && op <= STN_OP_WARP_GRAD_THETA ? ocl_op_warp : ocl_op_elementwise;
    }
}

/* Indices inside kernels are 32 bits wide. */
static bool tensor_fits(const stn_tensor *t) {
    uint64_t n = stn_tensor_elems(t);
    if (t->layout == STN_NC16 && t->rank < STN_MAX_RANK) {
        return false;
    }
    return t->layout <= STN_NC16 && t->dtype <= STN_I32 && t->rank <= STN_MAX_RANK && n > 0 &&
           n < (UINT64_C(1) << 31);
}

/* Bits of the operands that are feature maps and may be NC16; all others are row-major here. */
static void map_operands(uint32_t op, uint32_t *in, uint32_t *out) {
    switch (op) {
    case STN_OP_CONV_GRAD_W:
        *in = 3u, *out = 0u;
        break;
    case STN_OP_MAXPOOL_GRAD:
    case STN_OP_ACT_GRAD:
        *in = 3u, *out = 1u;
        break;
    case STN_OP_MAXPOOL:
        *in = 1u, *out = 3u;
        break;
    case STN_OP_LINEAR:
    case STN_OP_LINEAR_BLOCK:
    case STN_OP_BIAS_GRAD:
        *in = 1u, *out = 0u;
        break;
    case STN_OP_LINEAR_GRAD_X:
        *in = 0u, *out = 1u;
        break;
    case STN_OP_LINEAR_GRAD_W:
        *in = 2u, *out = 0u;
        break;
    case STN_OP_LINEAR_BLOCK_GRAD:
        *in = 4u, *out = 4u;
        break;
    case STN_OP_BN_GRAD:
        *in = 3u, *out = 1u;
        break;
    case STN_OP_SAMPLE_GRAD_GRID:
    case STN_OP_WARP_GRAD_THETA:
        *in = 3u, *out = 0u;
        break;
    case STN_OP_SUM:
    case STN_OP_SGD:
    case STN_OP_ADAM:
        *in = 255u, *out = 7u;
        break;
    case STN_OP_CONV_BLOCK:
        *in = 1u, *out = 3u;
        break;
    case STN_OP_CONV_BLOCK_GRAD_X:
        *in = 7u, *out = 1u;
        break;
    case STN_OP_CONV_BLOCK_GRAD_W:
        *in = 15u, *out = 0u;
        break;
    case STN_OP_GRID:
    case STN_OP_GRID_GRAD:
    case STN_OP_BN_UPDATE:
    case STN_OP_COMPOSE:
    case STN_OP_COMPOSE_GRAD:
    case STN_OP_XENT:
    case STN_OP_XENT_GRAD:
    case STN_OP_XENT_BOTH:
        *in = 0u, *out = 0u;
        break;
    default:
        *in = 1u, *out = 1u;
        break;
    }
}

/* Copies the descriptor into k; false where it is not one this backend can know. */
static bool take_desc(stn_kernel *k, stn_device *device, const stn_op_desc *desc) {
    memset(k, 0, sizeof *k);
    size_t size = params_size(desc->op);
    if (size == 0 || !counts_fit(desc)) {
        return false;
    }
    uint32_t given = 0;
    memcpy(&given, desc->params, sizeof given);
    for (size_t i = size; i < given; i++) {
        if (((const unsigned char *)desc->params)[i] != 0) {
            return false;
        }
    }
    memcpy(&k->params, desc->params, given < size ? given : size);
    uint32_t maps_in = 0, maps_out = 0;
    map_operands(desc->op, &maps_in, &maps_out);
    k->device = device;
    k->op = desc->op;
    k->n_in = desc->n_in;
    k->n_out = desc->n_out;
    for (uint32_t i = 0; i < desc->n_in; i++) {
        k->in[i] = desc->in[i];
        if (!tensor_fits(&k->in[i]) || (k->in[i].layout != STN_NCHW && !(maps_in >> i & 1u))) {
            return false;
        }
    }
    for (uint32_t i = 0; i < desc->n_out; i++) {
        k->out[i] = desc->out[i];
        if (!tensor_fits(&k->out[i]) || (k->out[i].layout != STN_NCHW && !(maps_out >> i & 1u))) {
            return false;
        }
    }
    k->rows =
        desc->op >= STN_OP_SUM && desc->op <= STN_OP_UNPACK ? k->out[0].dim[0] : k->in[0].dim[0];
    return true;
}

int32_t ocl_op_query(stn_device *device, const stn_op_desc *desc, stn_support *support,
                     stn_err *err) {
    stn_kernel *k = ocl_host->alloc(sizeof *k, 0);
    if (k == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: out of host memory for a query");
    }
    bool yes = take_desc(k, device, desc);
    k->query = true;
    yes = yes && find_op(desc->op)(k) && !k->failed;
    support->exact = !k->inexact;
    /* Room for the general kernels too, should the device refuse others when they are compiled. */
    uint64_t workspace = k->workspace;
    k->workspace = 0;
    k->general = true;
    yes = yes && find_op(desc->op)(k) && !k->failed;
    support->level = yes;
    support->workspace = !yes ? 0 : workspace > k->workspace ? workspace : k->workspace;
    ocl_host->free(k);
    return STN_OK;
}

int32_t ocl_op_general(stn_kernel *kernel, stn_err *err) {
    ocl_launches_free(kernel);
    kernel->general = true;
    kernel->workspace = 0;
    if (!find_op(kernel->op)(kernel) || kernel->failed) {
        return stn_fail(err, STN_E_FAIL, "opencl: operator %u has no kernel for this device",
                        kernel->op);
    }
    return STN_OK;
}

int32_t ocl_op_prepare(stn_device *device, const stn_op_desc *desc, stn_kernel **kernel,
                       stn_err *err) {
    *kernel = NULL;
    stn_kernel *k = ocl_host->alloc(sizeof *k, 0);
    if (k == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: out of host memory for an operator");
    }
    int32_t status = STN_OK;
    if (!take_desc(k, device, desc) || !find_op(desc->op)(k)) {
        status = stn_fail(err, STN_E_UNSUPPORTED,
                          "opencl: operator %u does not support these shapes", desc->op);
    } else if (k->failed) {
        status = k->failed;
        if (err != NULL) {
            *err = k->err;
        }
    }
    if (status != STN_OK) {
        ocl_op_free(k);
        return status;
    }
    *kernel = k;
    return STN_OK;
}
