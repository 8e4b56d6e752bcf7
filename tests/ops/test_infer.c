/* Shape inference: agrees with the case table, completes what the inputs leave open, and refuses
 * every bad combination with one line. */
#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

#include <stn/stn.h>

#include "optest.h"

static bool same_dims(const stn_tensor *a, const stn_tensor *b) {
    return a->dtype == b->dtype && memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

Test(infer, agrees_with_the_case_table) {
    optest_filter filter = {.data = OPTEST_NORMAL};
    uint32_t n = 0;
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL; n++) {
        stn_tensor out[STN_MAX_OUT] = {c->out[0]};
        stn_err err = {0};
        cr_assert_eq(stn_op_infer(c->op, &c->params, c->in, c->n_in, out, &err), STN_OK, "%s: %s",
                     c->name, err.text);
        for (uint32_t i = 0; i < c->n_out; i++) {
            cr_assert(same_dims(&out[i], &c->out[i]), "%s: output %u", c->name, i);
            cr_assert_eq(out[i].layout, STN_NCHW, "%s: output %u", c->name, i);
        }
    }
    cr_assert_gt(n, 1000);
}

/* Without a wanted shape the result is one that leads back to the operands. */
Test(infer, smallest_shape_fits) {
    optest_filter filter = {.data = OPTEST_NORMAL, .layout = OPTEST_NCHW};
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL;) {
        stn_tensor out[STN_MAX_OUT] = {{0}};
        stn_err err = {0};
        cr_assert_eq(stn_op_infer(c->op, &c->params, c->in, c->n_in, out, &err), STN_OK, "%s: %s",
                     c->name, err.text);
        for (uint32_t k = 0; k < STN_MAX_RANK && c->op != STN_OP_LINEAR_GRAD_X; k++) {
            cr_assert_leq(out[0].dim[k], c->out[0].dim[k], "%s", c->name);
        }
    }
}

Test(infer, flops_of_a_convolution) {
    stn_conv_params p = {sizeof p, 1, 1, 0, 0, 16};
    stn_tensor in[2] = {{STN_F32, STN_NCHW, 4, {2, 3, 5, 6}}, {STN_F32, STN_NCHW, 4, {4, 3, 2, 3}}};
    stn_tensor out = {STN_F32, STN_NCHW, 4, {2, 4, 4, 4}};
    stn_op_desc desc = {sizeof desc, STN_OP_CONV, 2, 1, &p, in, &out};
    cr_assert_eq(stn_op_flops(&desc), 2u * 2 * 4 * 4 * 4 * 3 * 2 * 3);
}

Test(infer, list_is_op_def) {
    cr_assert_geq(stn_op_count(), 40);
    cr_assert_null(stn_op_get(stn_op_count()));
    for (uint32_t i = 0; i < stn_op_count(); i++) {
        const stn_op_info *info = stn_op_get(i);
        cr_assert_eq(stn_op_find(info->number), info);
    }
    cr_assert_null(stn_op_find(9999));
}

/* ---- refusals ------------------------------------------------------------------------------- */

/* Each change makes one good case bad; the message must name the operator and contain `says`. */
typedef struct change {
    uint32_t op;
    void (*make)(optest_case *c);
    const char *says;
} change;

#define CHANGE(name, body)                                                                         \
    static void name(optest_case *c) {                                                             \
        body;                                                                                      \
    }

CHANGE(zero_rows, c->in[0].dim[0] = 0)
CHANGE(no_rank, c->in[0].rank = 0)
CHANGE(rank_five, c->in[0].rank = 5)
CHANGE(past_rank, c->in[0].rank = 2)
CHANGE(huge, c->in[0].dim[0] = c->in[0].dim[2] = UINT32_MAX)
CHANGE(odd_type, c->in[0].dtype = 7)
CHANGE(byte_input, c->in[0].dtype = STN_U8)
CHANGE(short_struct, c->params.struct_size = 4)
CHANGE(one_input, c->n_in = 1)
CHANGE(conv_channels, c->in[1].dim[1]++)
CHANGE(conv_bias, c->in[2].dim[0]++)
CHANGE(conv_window, c->in[1].dim[2] = 1000)
CHANGE(conv_stride, c->params.conv.stride_w = 0)
CHANGE(conv_pad, c->params.conv.pad_h = c->in[1].dim[2])
CHANGE(conv_pad_huge, c->params.conv.pad_w = UINT32_MAX)
CHANGE(shards_zero, c->params.conv.shards = 0)
CHANGE(shards_three, c->params.conv.shards = 3)
CHANGE(shards_many, c->params.conv.shards = 2048)
CHANGE(wanted_size, c->out[0].dim[2] += 40)
CHANGE(wanted_rows, c->out[0].dim[0]++)
CHANGE(wanted_rank, c->out[0].rank = 9)
CHANGE(batch, c->in[1].dim[0]++)
CHANGE(linear_width, c->in[1].dim[1]++)
CHANGE(linear_shards, c->params.linear.shards = 5)
CHANGE(reduce_shards, c->params.reduce.shards = 0)
CHANGE(pool_zero, c->params.pool.kh = 0)
CHANGE(pool_large, c->params.pool.kh = c->params.pool.kw = 17)
CHANGE(pool_window, c->params.pool.kh = 100)
CHANGE(pool_scale, c->params.pool.scale = 0.0f; c->params.pool.stride_h = 1)
CHANGE(index_type, c->in[1].dtype = STN_I32)
CHANGE(index_shape, c->in[1].dim[3]++)
CHANGE(slope_nan, c->params.act.slope = NAN)
CHANGE(slope_negative, c->params.act.slope = -0.5f)
CHANGE(drop_scale, c->params.dropout.scale = 0.5f)
CHANGE(drop_id, c->params.dropout.id = 1u << 28)
CHANGE(bn_eps, c->params.bn.eps = 0.0f)
CHANGE(bn_momentum, c->params.bn.momentum = 2.0f)
CHANGE(bn_single, c->in[0].dim[0] = c->in[0].dim[2] = c->in[0].dim[3] = 1)
CHANGE(bn_beta, c->n_in = 2)
CHANGE(bn_gamma, c->in[1].dim[0]++)
CHANGE(bn_stats, c->in[2].dim[0] = 2)
CHANGE(no_corners, c->params.warp.corners = 0)
CHANGE(no_filter, c->params.warp.filter = 0)
CHANGE(no_padding, c->params.warp.padding = 0)
CHANGE(bad_padding, c->params.warp.padding = 5)
CHANGE(no_output, c->params.warp.out_w = 0)
CHANGE(in_size, c->params.warp.in_h++)
CHANGE(theta_width, c->in[1].dim[1] = 5)
CHANGE(theta_rows, c->in[1].dim[0]++)
CHANGE(grid_shape, c->in[1].dim[3] = 3)
CHANGE(background_wide, c->params.warp.padding = 4; c->in[0].dim[1] = 9)
CHANGE(background_nan, c->params.warp.padding = 4; c->params.warp.background[0] = NAN)
CHANGE(compose_rows, c->in[1].dim[0]++)
CHANGE(no_heads, c->params.loss.heads = 0)
CHANGE(loss_classes, c->params.loss.classes++)
CHANGE(loss_overflow, c->params.loss.heads = c->params.loss.classes = 65536)
CHANGE(label_type, c->in[1].dtype = STN_F32)
CHANGE(sum_shape, c->in[1].dim[1]++)
CHANGE(sum_class, c->params.scale.gradient = 3)
CHANGE(scale_inf, c->params.scale.factor = INFINITY)
CHANGE(unpack_type, c->in[0].dtype = STN_I32)
CHANGE(unpack_mul, c->in[1].dim[0]++)
CHANGE(opt_shape, c->in[1].dim[0]++)
CHANGE(opt_mu, c->params.opt.mu = 1.5f)
CHANGE(opt_wd, c->params.opt.wd = -1.0f)
CHANGE(opt_flag, c->params.opt.nesterov = 2)
CHANGE(opt_beta, c->params.opt.omb2 = NAN)
CHANGE(block_pool, c->params.block.pool.kh = 2; c->params.block.pool.kw = 0)
CHANGE(block_pool_stride, c->params.block.pool.kh = c->params.block.pool.kw = 2;
       c->params.block.pool.stride_h = 0)
CHANGE(block_act, c->params.block.act = 2)
CHANGE(linear_block_act, c->params.linear_block.act = 2)
CHANGE(linear_block_weight, c->in[3].dim[1]++)
CHANGE(block_index, c->in[2].dtype = STN_F32)

static const change changes[] = {
    {STN_OP_CONV, zero_rows, "is 0"},
    {STN_OP_CONV, no_rank, "dimensions"},
    {STN_OP_CONV, rank_five, "dimensions"},
    {STN_OP_CONV, past_rank, "past its rank"},
    {STN_OP_CONV, huge, "too large"},
    {STN_OP_CONV, odd_type, "unknown type"},
    {STN_OP_CONV, byte_input, "must hold f32"},
    {STN_OP_CONV, short_struct, "struct_size"},
    {STN_OP_CONV, one_input, "inputs"},
    {STN_OP_CONV, conv_channels, "channels"},
    {STN_OP_CONV, conv_bias, "bias"},
    {STN_OP_CONV, conv_window, "larger than the map"},
    {STN_OP_CONV, conv_stride, "must not be 0"},
    {STN_OP_CONV, conv_pad, "padding"},
    {STN_OP_CONV, conv_pad_huge, "padding"},
    {STN_OP_CONV_GRAD_X, conv_stride, "must not be 0"},
    {STN_OP_CONV_GRAD_X, wanted_size, "do not fit"},
    {STN_OP_CONV_GRAD_X, wanted_rows, "wanted result"},
    {STN_OP_CONV_GRAD_X, wanted_rank, "dimensions"},
    {STN_OP_CONV_GRAD_W, shards_zero, "power of two"},
    {STN_OP_CONV_GRAD_W, shards_three, "power of two"},
    {STN_OP_CONV_GRAD_W, shards_many, "power of two"},
    {STN_OP_CONV_GRAD_W, conv_stride, "stride is 0"},
    {STN_OP_CONV_GRAD_W, batch, "rows"},
    {STN_OP_LINEAR, linear_width, "values a row"},
    {STN_OP_LINEAR_GRAD_X, linear_width, "values"},
    {STN_OP_LINEAR_GRAD_W, linear_shards, "power of two"},
    {STN_OP_LINEAR_GRAD_W, batch, "rows"},
    {STN_OP_BIAS_GRAD, reduce_shards, "power of two"},
    {STN_OP_MAXPOOL, pool_zero, "must not be 0"},
    {STN_OP_MAXPOOL, pool_large, "256"},
    {STN_OP_MAXPOOL, pool_window, "larger than the map"},
    {STN_OP_MAXPOOL_GRAD, index_type, "must hold u8"},
    {STN_OP_MAXPOOL_GRAD, index_shape, "index"},
    {STN_OP_AVGPOOL, pool_scale, "1/(kh*kw)"},
    {STN_OP_AVGPOOL_GRAD, wanted_size, "must be"},
    {STN_OP_ACT, slope_nan, "not finite"},
    {STN_OP_ACT, slope_negative, "negative"},
    {STN_OP_ACT_GRAD, index_shape, "output"},
    {STN_OP_DROPOUT, drop_scale, "below 1"},
    {STN_OP_DROPOUT_GRAD, drop_id, "28 bits"},
    {STN_OP_BN, bn_eps, "2^-30"},
    {STN_OP_BN, bn_momentum, "momentum"},
    {STN_OP_BN, bn_single, "variance"},
    {STN_OP_BN, bn_beta, "beta"},
    {STN_OP_BN, bn_gamma, "vector"},
    {STN_OP_BN_UPDATE, bn_gamma, "vector"},
    {STN_OP_BN_EVAL, bn_gamma, "vector"},
    {STN_OP_BN_GRAD, bn_stats, "stats"},
    {STN_OP_GRID, no_corners, "no default"},
    {STN_OP_GRID, no_output, "not possible"},
    {STN_OP_GRID_GRAD, no_corners, "no default"},
    {STN_OP_SAMPLE, no_filter, "no default"},
    {STN_OP_SAMPLE, grid_shape, "grid"},
    {STN_OP_SAMPLE_GRAD_X, no_padding, "no default"},
    {STN_OP_SAMPLE_GRAD_GRID, no_corners, "no default"},
    {STN_OP_WARP, no_padding, "no default"},
    {STN_OP_WARP, bad_padding, "no default"},
    {STN_OP_WARP, in_size, "must be"},
    {STN_OP_WARP, theta_width, "theta"},
    {STN_OP_WARP, theta_rows, "theta"},
    {STN_OP_WARP, background_wide, "channels"},
    {STN_OP_WARP, background_nan, "background"},
    {STN_OP_WARP_GRAD_X, theta_width, "theta"},
    {STN_OP_WARP_GRAD_THETA, in_size, "must be"},
    {STN_OP_COMPOSE, compose_rows, "map"},
    {STN_OP_COMPOSE_GRAD, compose_rows, "map"},
    {STN_OP_XENT, no_heads, "must not be 0"},
    {STN_OP_XENT, loss_classes, "logits"},
    {STN_OP_XENT, loss_overflow, "logits"},
    {STN_OP_XENT_GRAD, label_type, "must hold i32"},
    {STN_OP_SUM, sum_shape, "must be"},
    {STN_OP_SUM, sum_class, "0, 1 or 2"},
    {STN_OP_SCALE, scale_inf, "not finite"},
    {STN_OP_UNPACK, unpack_type, "bytes or floats"},
    {STN_OP_UNPACK, unpack_mul, "vector"},
    {STN_OP_SGD, opt_shape, "must be"},
    {STN_OP_SGD, opt_mu, "momentum"},
    {STN_OP_SGD, opt_wd, "weight decay"},
    {STN_OP_SGD, opt_flag, "0 or 1"},
    {STN_OP_ADAM, opt_beta, "1-beta2"},
    {STN_OP_CONV_BLOCK, block_pool, "pool"},
    {STN_OP_CONV_BLOCK, block_pool_stride, "stride"},
    {STN_OP_CONV_BLOCK, block_act, "act"},
    {STN_OP_CONV_BLOCK_GRAD_X, block_index, "index"},
    {STN_OP_CONV_BLOCK_GRAD_W, block_index, "index"},
    {STN_OP_LINEAR_BLOCK, linear_block_act, "act"},
    {STN_OP_LINEAR_BLOCK_GRAD, linear_block_act, "act"},
    {STN_OP_LINEAR_BLOCK_GRAD, linear_block_weight, "the weight"},
};

/* A good case of the operator with as many inputs as it can have. */
static optest_case good_case(uint32_t op) {
    optest_filter filter = {.op = op, .data = OPTEST_NORMAL, .layout = OPTEST_NCHW};
    const optest_case *best = NULL;
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL;) {
        uint32_t elems = 0;
        for (uint32_t i = 0; i < STN_MAX_RANK; i++) {
            elems += c->in[0].dim[i] > 2;
        }
        if (elems >= 2 && (best == NULL || c->n_in > best->n_in)) {
            best = c;
        }
    }
    cr_assert_not_null(best, "no case of operator %u", op);
    return *best;
}

Test(infer, refusals) {
    for (uint32_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        optest_case c = good_case(changes[i].op);
        stn_err err = {0};
        changes[i].make(&c);
        stn_tensor out[STN_MAX_OUT] = {c.out[0]};
        int32_t status = stn_op_infer(c.op, &c.params, c.in, c.n_in, out, &err);
        const char *name = stn_op_find(c.op)->name;
        cr_expect_eq(status, STN_E_USAGE, "change %u of %s (%s) gave status %d", i, c.name,
                     changes[i].says, status);
        cr_expect_eq(strncmp(err.text, name, strlen(name)), 0, "change %u: \"%s\"", i, err.text);
        cr_expect_not_null(strstr(err.text, changes[i].says),
                           "change %u of %s: \"%s\" lacks \"%s\"", i, c.name, err.text,
                           changes[i].says);
        cr_expect_null(strchr(err.text, '\n'));
    }
}

Test(infer, unknown_operator_and_newer_parameters) {
    struct {
        stn_act_params known;
        uint32_t more;
    } newer = {{sizeof newer, 0.0f}, 1};
    stn_tensor in = {STN_F32, STN_NCHW, 4, {2, 3, 4, 5}}, out[STN_MAX_OUT] = {{0}};
    stn_err err = {0};
    cr_assert_eq(stn_op_infer(9999, &newer, &in, 1, out, &err), STN_E_USAGE);
    cr_assert_eq(stn_op_infer(STN_OP_ACT, &newer, &in, 1, out, &err), STN_E_UNSUPPORTED);
    newer.more = 0;
    cr_assert_eq(stn_op_infer(STN_OP_ACT, &newer, &in, 1, out, &err), STN_OK);
}
