/* Max and average pooling. x[N,C,H,W], y[N,C,OH,OW], OH = (H - kh) / stride_h + 1, no padding. */
#include "ref.h"

/* First element of the window, row-major, that none after it exceeds. */
static void maxpool_plane(const cpu_call *call, uint32_t task) {
    const stn_pool_params *p = &call->kernel->params.pool;
    const stn_tensor *x = &call->kernel->in[0], *y = &call->kernel->out[0];
    uint32_t n = task / x->dim[1], c = task % x->dim[1];
    ref_plane image = ref_in(call, 0, n, c);
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(y); i++) {
        uint32_t top = i / y->dim[3] * p->stride_h, left = i % y->dim[3] * p->stride_w;
        float best = ref_at(image, (size_t)top * x->dim[3] + left);
        uint32_t index = 0;
        for (uint32_t k = 1; k < p->kh * p->kw; k++) {
            float v = ref_at(image, (size_t)(top + k / p->kw) * x->dim[3] + left + k % p->kw);
            if (v > best) {
                best = v;
                index = k;
            }
        }
        ref_put(call, out, i, best);
        uint8_t *indices = call->out[1];
        indices[stn_tensor_at(&call->kernel->out[1], n, c, i)] = (uint8_t)index;
    }
}

/* Windows along one axis that cover position i: first .. end-1. */
static void covering(uint32_t i, uint32_t window, uint32_t stride, uint32_t count, uint32_t *first,
                     uint32_t *end) {
    *first = i < window ? 0 : (i - window) / stride + 1u;
    *end = i / stride + 1u < count ? i / stride + 1u : count;
}

static void maxpool_grad_plane(const cpu_call *call, uint32_t task) {
    const stn_pool_params *p = &call->kernel->params.pool;
    const stn_tensor *gy = &call->kernel->in[0], *gx = &call->kernel->out[0];
    uint32_t n = task / gx->dim[1], c = task % gx->dim[1];
    const uint8_t *index = call->in[1];
    ref_plane grad = ref_in(call, 0, n, c);
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(gx); i++) {
        uint32_t h = i / gx->dim[3], w = i % gx->dim[3], first_h, end_h, first_w, end_w;
        covering(h, p->kh, p->stride_h, gy->dim[2], &first_h, &end_h);
        covering(w, p->kw, p->stride_w, gy->dim[3], &first_w, &end_w);
        float sum = 0.0f;
        for (uint32_t oh = first_h; oh < end_h; oh++) {
            for (uint32_t ow = first_w; ow < end_w; ow++) {
                uint32_t o = oh * gy->dim[3] + ow;
                uint32_t here = (h - oh * p->stride_h) * p->kw + (w - ow * p->stride_w);
                if (index[stn_tensor_at(&call->kernel->in[1], n, c, o)] == here) {
                    sum = sum + ref_at(grad, o);
                }
            }
        }
        ref_put(call, out, i, stn_snap_g(sum));
    }
}

static bool halving(const stn_pool_params *p) {
    return p->kh == 2 && p->kw == 2 && p->stride_h == 2 && p->stride_w == 2;
}

static void avgpool_plane(const cpu_call *call, uint32_t task) {
    const stn_pool_params *p = &call->kernel->params.pool;
    const stn_tensor *x = &call->kernel->in[0], *y = &call->kernel->out[0];
    uint32_t n = task / x->dim[1], c = task % x->dim[1], width = x->dim[3];
    ref_plane image = ref_in(call, 0, n, c);
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(y); i++) {
        size_t corner = (size_t)(i / y->dim[3] * p->stride_h) * width + i % y->dim[3] * p->stride_w;
        float sum = 0.0f;
        if (halving(p)) {
            float top = ref_at(image, corner) + ref_at(image, corner + 1);
            float bottom = ref_at(image, corner + width) + ref_at(image, corner + width + 1);
            sum = (top + bottom) * 0.25f;
        } else {
            for (uint32_t k = 0; k < p->kh * p->kw; k++) {
                sum = sum + ref_at(image, corner + (size_t)(k / p->kw) * width + k % p->kw);
            }
            sum = sum * p->scale;
        }
        ref_put(call, out, i, stn_snap_x(sum));
    }
}

/* Sum over the windows that cover a pixel, row-major, then times the constant. */
static void avgpool_grad_plane(const cpu_call *call, uint32_t task) {
    const stn_pool_params *p = &call->kernel->params.pool;
    const stn_tensor *gy = &call->kernel->in[0], *gx = &call->kernel->out[0];
    uint32_t n = task / gx->dim[1], c = task % gx->dim[1];
    ref_plane grad = ref_in(call, 0, n, c);
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(gx); i++) {
        uint32_t first_h, end_h, first_w, end_w;
        covering(i / gx->dim[3], p->kh, p->stride_h, gy->dim[2], &first_h, &end_h);
        covering(i % gx->dim[3], p->kw, p->stride_w, gy->dim[3], &first_w, &end_w);
        float sum = 0.0f;
        for (uint32_t oh = first_h; oh < end_h; oh++) {
            for (uint32_t ow = first_w; ow < end_w; ow++) {
                sum = sum + ref_at(grad, (size_t)oh * gy->dim[3] + ow);
            }
        }
        ref_put(call, out, i, stn_snap_g(sum * (halving(p) ? 0.25f : p->scale)));
    }
}

static void planes(const cpu_call *call, void (*fn)(const cpu_call *call, uint32_t task)) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    ref_parallel(call, (uint64_t)rows * call->kernel->out[0].dim[1], fn);
    for (uint32_t i = 0; i < call->kernel->n_out; i++) {
        ref_clear_padding(call, i, rows);
    }
}

static void maxpool(const cpu_call *call) {
    planes(call, maxpool_plane);
}

static void maxpool_grad(const cpu_call *call) {
    planes(call, maxpool_grad_plane);
}

static void avgpool(const cpu_call *call) {
    planes(call, avgpool_plane);
}

static void avgpool_grad(const cpu_call *call) {
    planes(call, avgpool_grad_plane);
}

cpu_fn ref_pool_fn(uint32_t op) {
    return op == STN_OP_MAXPOOL        ? maxpool
           : op == STN_OP_MAXPOOL_GRAD ? maxpool_grad
           : op == STN_OP_AVGPOOL      ? avgpool
           : op == STN_OP_AVGPOOL_GRAD ? avgpool_grad
                                       : NULL;
}
