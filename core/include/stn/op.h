/* Operators as data: identifier, parameter struct, tensor descriptions (part of the plugin ABI).
 *
 * A new operator appends a line to op.def and, if needed, a parameter struct here; no vtable
 * changes. Every struct begins with struct_size, set by the caller; a callee that meets a larger
 * struct with a non-zero unknown tail answers "not supported".
 */
#ifndef STN_OP_H
#define STN_OP_H

#include <stdint.h>

enum {
#define STN_OP(number, NAME, name, min_in, max_in, n_out, params, text) STN_OP_##NAME = (number),
#include <stn/op.def>
#undef STN_OP
};

#define STN_MAX_IN 8u
#define STN_MAX_OUT 3u
#define STN_MAX_RANK 4u

/* Element types. */
enum { STN_F32 = 0, STN_U8 = 1, STN_I32 = 2 };

/* Memory layouts. NCHW is row-major and always supported. NC16 keeps blocks of 16 channels
 * together, [N][ceil(C/16)][H*W][16]; channels past C hold +0 (u8: 0) in every op's output.
 * NC16 is only used for values with four meaningful dimensions; a backend says in op_query whether
 * it takes the combination asked for. */
enum { STN_NCHW = 0, STN_NC16 = 1 };

/* A tensor's description. Dimensions past `rank` are 1. Batched values have the *nominal* batch in
 * dim[0]; how many rows are real is stn_step.count. */
typedef struct stn_tensor {
    uint32_t dtype;
    uint32_t layout;
    uint32_t rank;
    uint32_t dim[STN_MAX_RANK];
} stn_tensor;

/* What changes from step to step; the same kernels and plans serve every step. Scalars are computed
 * on the host in double, rounded once to float, and addressed by the *slots* of parameter structs.
 * `count` is the number of images in this batch, 1 .. nominal batch; a short last batch has fewer.
 *
 * A batch may be run in micro-batches of whole shards, one after another (contract C4, SHARDS).
 * Then the operands hold the images `first` .. `first` + count - 1 of the batch (dropout draws for
 * the whole batch's elements), and with `partial` = 1 the gradients of weights and biases are sums
 * over a subtree of the shards and must not be snapped. */
typedef struct stn_step {
    uint32_t struct_size;
    uint32_t count;
    uint64_t step; /* number of the optimizer step from 0; (lo, hi) of the dropout stream */
    uint64_t seed; /* Philox key (lo, hi) */
    uint32_t n_scalars;
    uint32_t first;
    const float *scalar;
    uint32_t partial, reserved;
} stn_step;

/* Convolution: y[n,o,oh,ow] = sum x[n,c,oh*stride_h+kh-pad_h,...] w[o,c,kh,kw]. `shards` is S of
 * contract C4 (a power of two); used by the weight and bias gradients, ignored elsewhere. */
typedef struct stn_conv_params {
    uint32_t struct_size;
    uint32_t stride_h, stride_w;
    uint32_t pad_h, pad_w;
    uint32_t shards;
} stn_conv_params;

typedef struct stn_linear_params {
    uint32_t struct_size;
    uint32_t shards;
} stn_linear_params;

typedef struct stn_reduce_params {
    uint32_t struct_size;
    uint32_t shards;
} stn_reduce_params;

/* Window kh x kw (kh*kw <= 256), no padding; output size floor((H-kh)/stride_h)+1. `scale` is
 * float(1/(kh*kw)), used by the average pool; 2x2 windows with stride 2 give
 * ((a+b)+(c+d))*0.25, others add row-major and multiply by `scale`. */
typedef struct stn_pool_params {
    uint32_t struct_size;
    uint32_t kh, kw;
    uint32_t stride_h, stride_w;
    float scale;
} stn_pool_params;

/* slope 0: relu. */
typedef struct stn_act_params {
    uint32_t struct_size;
    float slope;
} stn_act_params;

/* Element e (its NCHW index in the whole batch) is dropped if its Philox word of stream
 * STN_RNG_STREAM(STN_RNG_DROPOUT, id), counter (step lo, step hi), is < threshold =
 * floor(p * 2^32); scale = float(1/(1-p)). */
typedef struct stn_dropout_params {
    uint32_t struct_size;
    uint32_t id;
    uint32_t threshold;
    float scale;
} stn_dropout_params;

/* Batch norm over N = count*H*W values a channel. Slots: inv_n = float(1/N), inv_n1 =
 * float(1/(N-1)). `momentum` is the weight of the new value. */
typedef struct stn_bn_params {
    uint32_t struct_size;
    uint32_t shards;
    float eps, momentum;
    uint32_t slot_inv_n, slot_inv_n1;
} stn_bn_params;

enum { STN_CORNERS_ALIGNED = 1, STN_CORNERS_HALF = 2 }; /* no value is a default: 0 is refused */
enum { STN_FILTER_BILINEAR = 1, STN_FILTER_NEAREST = 2 };
enum { STN_PAD_ZEROS = 1, STN_PAD_BORDER = 2, STN_PAD_REFLECTION = 3, STN_PAD_BACKGROUND = 4 };

#define STN_MAX_BACKGROUND 8u

/* Affine grid and sampler. theta maps output to input coordinates in [-1,1], x right, y down.
 * in_h x in_w is the size of the sampled map (GRID_GRAD and WARP need both sizes). background[c]
 * is the value of channel c outside the image with STN_PAD_BACKGROUND (C <= STN_MAX_BACKGROUND). */
typedef struct stn_warp_params {
    uint32_t struct_size;
    uint32_t corners, filter, padding;
    uint32_t in_h, in_w, out_h, out_w;
    float background[STN_MAX_BACKGROUND];
} stn_warp_params;

/* Softmax cross-entropy of `heads` groups of `classes` logits; the gradient's 1/N comes from
 * slot_inv_n = float(1/count). */
typedef struct stn_loss_params {
    uint32_t struct_size;
    uint32_t heads, classes;
    uint32_t slot_inv_n;
} stn_loss_params;

/* Class of the result: 0 snaps to X, 1 to G, 2 to none (sums of micro-batches). `factor` is used by
 * SCALE only. */
enum { STN_CLASS_X = 0, STN_CLASS_G = 1, STN_CLASS_NONE = 2 };
typedef struct stn_scale_params {
    uint32_t struct_size;
    uint32_t gradient;
    float factor;
} stn_scale_params;

/* SGD: lr from slot_lr; momentum mu, nesterov, wd. Adam: slot_lr = lr', slot_eps = eps',
 * slot_lw = lr*wd (AdamW only); omb1 = float(1-beta1), omb2 = float(1-beta2). */
typedef struct stn_opt_params {
    uint32_t struct_size;
    uint32_t slot_lr, slot_eps, slot_lw;
    uint32_t nesterov, decoupled;
    float mu, wd;
    float omb1, omb2;
} stn_opt_params;

typedef struct stn_none_params {
    uint32_t struct_size;
} stn_none_params;

/* conv, then max-pool if pool.kh > 0, then activation if act != 0. The gradients take the gradient
 * of the block's output and undo activation (predicate on y) and pool (index) themselves; the
 * result equals ACT_GRAD, MAXPOOL_GRAD, then CONV_GRAD_X, or CONV_GRAD_W and BIAS_GRAD. */
typedef struct stn_conv_block_params {
    uint32_t struct_size;
    uint32_t act;
    float slope;
    stn_conv_params conv;
    stn_pool_params pool;
} stn_conv_block_params;

/* linear, then activation if act != 0. The gradient takes that of the block's output and undoes the
 * activation itself (predicate on y); the result equals ACT_GRAD, then LINEAR_GRAD_W, BIAS_GRAD and
 * LINEAR_GRAD_X. */
typedef struct stn_linear_block_params {
    uint32_t struct_size;
    uint32_t act;
    float slope;
    uint32_t shards;
} stn_linear_block_params;

/* The parameters of any operator: what a backend copies when it prepares one. */
typedef union stn_op_params {
    uint32_t struct_size;
    stn_conv_params conv;
    stn_linear_params linear;
    stn_reduce_params reduce;
    stn_pool_params pool;
    stn_act_params act;
    stn_dropout_params dropout;
    stn_bn_params bn;
    stn_warp_params warp;
    stn_loss_params loss;
    stn_scale_params scale;
    stn_opt_params opt;
    stn_none_params none;
    stn_conv_block_params block;
    stn_linear_block_params linear_block;
} stn_op_params;

/* One operator with its operands. `params` points to the struct that op.def names. */
typedef struct stn_op_desc {
    uint32_t struct_size;
    uint32_t op;
    uint32_t n_in, n_out;
    const void *params;
    const stn_tensor *in;
    const stn_tensor *out;
} stn_op_desc;

/* Number of stored elements, padding of NC16 included; 0 if it does not fit in 2^40. */
static inline uint64_t stn_tensor_elems(const stn_tensor *t) {
    uint64_t n = 1;
    for (uint32_t i = 0; i < STN_MAX_RANK; i++) {
        uint64_t d = t->dim[i];
        if (i == 1 && t->layout == STN_NC16) {
            d = (d + 15u) / 16u * 16u;
        }
        if (d == 0 || n > (UINT64_C(1) << 40) / d) {
            return 0;
        }
        n *= d;
    }
    return n;
}

static inline uint64_t stn_tensor_bytes(const stn_tensor *t) {
    return stn_tensor_elems(t) * (t->dtype == STN_U8 ? 1u : 4u);
}

/* Position of element (n, c, hw) with hw = h*W+w in a tensor of rank 4. */
static inline uint64_t stn_tensor_at(const stn_tensor *t, uint64_t n, uint64_t c, uint64_t hw) {
    uint64_t plane = (uint64_t)t->dim[2] * t->dim[3], channels = t->dim[1];
    if (t->layout == STN_NC16) {
        uint64_t blocks = (channels + 15u) / 16u;
        return ((n * blocks + c / 16u) * plane + hw) * 16u + c % 16u;
    }
    return (n * channels + c) * plane + hw;
}

#endif
