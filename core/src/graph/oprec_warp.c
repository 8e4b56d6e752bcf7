/* Records of the affine grid, the sampler, both in one, and composition of maps. */
#include "graph/oprec.h"

#include <math.h>

#define COUNT(list) ((uint32_t)(sizeof(list) / sizeof((list)[0])))

/* Sides of a sampled map: reflection folds coordinates below 2^20 with a period of up to 2 W. */
#define MAX_SIDE (1u << 18)

static int32_t need_theta(const stn__infer *q, uint32_t i, uint32_t rows, const char *what) {
    stn_tensor theta = stn__f32(2, rows, 6, 1, 1);
    STN_TRY(stn__need_dtype(q, i, STN_F32, what));
    return stn__need_shape(q, i, &theta, what);
}

static int32_t check_output(const stn__infer *q) {
    const stn_warp_params *p = q->params;
    if (p->corners != STN_CORNERS_ALIGNED && p->corners != STN_CORNERS_HALF) {
        return STN__BAD(q, "corners is %u: say aligned (1) or half-pixel (2), there is no default",
                        p->corners);
    }
    if (p->out_h == 0 || p->out_w == 0 || p->out_h > MAX_SIDE || p->out_w > MAX_SIDE) {
        return STN__BAD(q, "an output of %ux%u is not possible", p->out_h, p->out_w);
    }
    return STN_OK;
}

static int32_t check_background(const stn__infer *q, uint32_t channels) {
    const stn_warp_params *p = q->params;
    if (p->padding != STN_PAD_BACKGROUND) {
        return STN_OK;
    }
    if (channels > STN_MAX_BACKGROUND) {
        return STN__BAD(q, "background padding takes at most %u channels, not %u",
                        STN_MAX_BACKGROUND, channels);
    }
    for (uint32_t c = 0; c < channels; c++) {
        float v = p->background[c];
        if (!isfinite(v) || (v != 0.0f && fabsf(v) < 0x1p-30f)) {
            return STN__BAD(q, "the background of channel %u is not finite or below 2^-30", c);
        }
    }
    return STN_OK;
}

static int32_t check_sampler(const stn__infer *q, uint32_t channels) {
    const stn_warp_params *p = q->params;
    STN_TRY(check_output(q));
    if (p->filter != STN_FILTER_BILINEAR && p->filter != STN_FILTER_NEAREST) {
        return STN__BAD(q, "filter is %u: say bilinear (1) or nearest (2), there is no default",
                        p->filter);
    }
    if (p->padding < STN_PAD_ZEROS || p->padding > STN_PAD_BACKGROUND) {
        return STN__BAD(q,
                        "padding is %u: say zeros, border, reflection or background (1 to 4), "
                        "there is no default",
                        p->padding);
    }
    if (p->in_h == 0 || p->in_w == 0 || p->in_h > MAX_SIDE || p->in_w > MAX_SIDE) {
        return STN__BAD(q, "a map of %ux%u cannot be sampled", p->in_h, p->in_w);
    }
    return check_background(q, channels);
}

/* The last input: a grid, or theta for the operators in one. */
static int32_t check_coordinates(const stn__infer *q) {
    const stn_warp_params *p = q->params;
    uint32_t last = q->n_in - 1u, rows = q->in[0].dim[0];
    if (q->op >= STN_OP_WARP) {
        return need_theta(q, last, rows, "theta");
    }
    stn_tensor grid = stn__f32(4, rows, p->out_h, p->out_w, 2);
    STN_TRY(stn__need_dtype(q, last, STN_F32, "the grid"));
    if (q->in[last].layout != STN_NCHW) {
        return STN__BAD(q, "the grid must be row-major");
    }
    return stn__need_shape(q, last, &grid, "the grid");
}

/* A map of the input's or the output's size. */
static int32_t need_map(const stn__infer *q, uint32_t i, bool output, const char *what) {
    const stn_warp_params *p = q->params;
    stn_tensor map = stn__f32(4, q->in[0].dim[0], q->in[0].dim[1], output ? p->out_h : p->in_h,
                              output ? p->out_w : p->in_w);
    STN_TRY(stn__need_dtype(q, i, STN_F32, what));
    return stn__need_shape(q, i, &map, what);
}

static int32_t infer_grid(const stn__infer *q) {
    const stn_warp_params *p = q->params;
    STN_TRY(check_output(q));
    STN_TRY(need_theta(q, 0, q->in[0].dim[0], "theta"));
    q->out[0] = stn__f32(4, q->in[0].dim[0], p->out_h, p->out_w, 2);
    return STN_OK;
}

static int32_t infer_grid_grad(const stn__infer *q) {
    const stn_warp_params *p = q->params;
    stn_tensor grid = stn__f32(4, q->in[0].dim[0], p->out_h, p->out_w, 2);
    STN_TRY(check_output(q));
    STN_TRY(stn__need_dtype(q, 0, STN_F32, "the grid's gradient"));
    STN_TRY(stn__need_shape(q, 0, &grid, "the grid's gradient"));
    q->out[0] = stn__f32(2, q->in[0].dim[0], 6, 1, 1);
    return STN_OK;
}

static int32_t infer_sample(const stn__infer *q) {
    const stn_warp_params *p = q->params;
    STN_TRY(check_sampler(q, q->in[0].dim[1]));
    STN_TRY(need_map(q, 0, false, "the input"));
    STN_TRY(check_coordinates(q));
    q->out[0] = stn__f32(4, q->in[0].dim[0], q->in[0].dim[1], p->out_h, p->out_w);
    return STN_OK;
}

static int32_t infer_grad_x(const stn__infer *q) {
    const stn_warp_params *p = q->params;
    STN_TRY(check_sampler(q, q->in[0].dim[1]));
    STN_TRY(need_map(q, 0, true, "the gradient"));
    STN_TRY(check_coordinates(q));
    q->out[0] = stn__f32(4, q->in[0].dim[0], q->in[0].dim[1], p->in_h, p->in_w);
    return STN_OK;
}

static int32_t infer_grad_coordinates(const stn__infer *q) {
    STN_TRY(check_sampler(q, q->in[0].dim[1]));
    STN_TRY(need_map(q, 0, true, "the gradient"));
    STN_TRY(need_map(q, 1, false, "the input"));
    STN_TRY(check_coordinates(q));
    q->out[0] = stn__like(&q->in[2], STN_F32);
    return STN_OK;
}

static int32_t infer_compose(const stn__infer *q) {
    uint32_t rows = q->in[0].dim[0];
    bool gradient = q->op == STN_OP_COMPOSE_GRAD;
    for (uint32_t i = 0; i < q->n_in; i++) {
        STN_TRY(need_theta(q, i, rows, gradient && i == 0 ? "the gradient" : "a map"));
    }
    for (uint32_t i = 0; i < (gradient ? 2u : 1u); i++) {
        q->out[i] = stn__f32(2, rows, 6, 1, 1);
    }
    return STN_OK;
}

/* Pixels times channels, counted as 9 (bilinear), 8 (four multiply-adds), 14 (two derivatives and
 * their sums). */
static uint64_t sampler_flops(const stn_op_desc *desc) {
    const stn_warp_params *p = desc->params;
    uint64_t pixels = (uint64_t)p->out_h * p->out_w * desc->in[0].dim[0] * desc->in[0].dim[1];
    bool forward = desc->op == STN_OP_SAMPLE || desc->op == STN_OP_WARP;
    bool to_x = desc->op == STN_OP_SAMPLE_GRAD_X || desc->op == STN_OP_WARP_GRAD_X;
    return pixels * (forward ? 9u : to_x ? 8u : 14u);
}

static uint64_t grid_flops(const stn_op_desc *desc) {
    const stn_warp_params *p = desc->params;
    return (uint64_t)p->out_h * p->out_w * desc->in[0].dim[0] * 8u;
}

const stn__op_rec stn__oprec_warp[] = {
    {STN_OP_GRID, infer_grid, grid_flops},
    {STN_OP_GRID_GRAD, infer_grid_grad, grid_flops},
    {STN_OP_SAMPLE, infer_sample, sampler_flops},
    {STN_OP_SAMPLE_GRAD_X, infer_grad_x, sampler_flops},
    {STN_OP_SAMPLE_GRAD_GRID, infer_grad_coordinates, sampler_flops},
    {STN_OP_WARP, infer_sample, sampler_flops},
    {STN_OP_WARP_GRAD_X, infer_grad_x, sampler_flops},
    {STN_OP_WARP_GRAD_THETA, infer_grad_coordinates, sampler_flops},
    {STN_OP_COMPOSE, infer_compose, NULL},
    {STN_OP_COMPOSE_GRAD, infer_compose, NULL},
};
const uint32_t stn__oprec_n_warp = COUNT(stn__oprec_warp);
