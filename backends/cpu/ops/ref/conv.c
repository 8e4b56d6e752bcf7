/* Convolution, its gradients, and the bias gradient.
 *
 * x[N,C,H,W], w[O,C,KH,KW], y[N,O,OH,OW], OH = (H + 2 pad_h - KH) / stride_h + 1.
 */
#include "ref.h"

/* Position i of the input that output position o and kernel position k meet; false in padding. */
static bool input_at(uint32_t o, uint32_t k, uint32_t stride, uint32_t pad, uint32_t size,
                     uint32_t *i) {
    int64_t at = (int64_t)o * stride + k - pad;
    *i = (uint32_t)at;
    return at >= 0 && at < (int64_t)size;
}

/* k = (c, kh, kw), chunks of CB channels. */
static float forward_sum(const cpu_call *call, uint32_t n, uint32_t o, uint32_t oh, uint32_t ow) {
    const stn_conv_params *p = &call->kernel->params.conv;
    const stn_tensor *x = &call->kernel->in[0], *w = &call->kernel->in[1];
    uint32_t kernel_h = w->dim[2], kernel_w = w->dim[3];
    uint64_t length = (uint64_t)stn_conv_chunk(kernel_h, kernel_w) * kernel_h * kernel_w;
    ref_chunk sum = ref_chunk_new(length);
    for (uint32_t c = 0; c < x->dim[1]; c++) {
        ref_plane image = ref_in(call, 0, n, c), weight = ref_in(call, 1, o, c);
        for (uint32_t kh = 0; kh < kernel_h; kh++) {
            uint32_t h, v;
            bool in_h = input_at(oh, kh, p->stride_h, p->pad_h, x->dim[2], &h);
            for (uint32_t kw = 0; kw < kernel_w; kw++) {
                bool in_w = input_at(ow, kw, p->stride_w, p->pad_w, x->dim[3], &v);
                if (in_h && in_w) {
                    ref_chunk_term(&sum, ref_at(image, (size_t)h * x->dim[3] + v),
                                   ref_at(weight, (size_t)kh * kernel_w + kw));
                } else {
                    ref_chunk_skip(&sum);
                }
            }
        }
    }
    return ref_chunk_total(&sum);
}

static void forward_plane(const cpu_call *call, uint32_t task) {
    const stn_tensor *y = &call->kernel->out[0];
    uint32_t n = task / y->dim[1], o = task % y->dim[1];
    ref_plane_out out = ref_out(call, 0, n, o);
    for (uint32_t oh = 0; oh < y->dim[2]; oh++) {
        for (uint32_t ow = 0; ow < y->dim[3]; ow++) {
            float sum = forward_sum(call, n, o, oh, ow);
            if (call->kernel->n_in == 3) {
                sum = sum + ref_element(call, 2, 0, o);
            }
            ref_put(call, out, (size_t)oh * y->dim[3] + ow, stn_snap_x(sum));
        }
    }
}

/* Position o of the output gradient whose window meets input position i at kernel position k. */
static bool output_at(uint32_t i, uint32_t k, uint32_t stride, uint32_t pad, uint32_t size,
                      uint32_t *o) {
    *o = (i + pad - k) / stride; /* wraps before the first window, and is not used then */
    return i + pad >= k && (i + pad - k) % stride == 0 && *o < size;
}

/* Forward convolution of the dilated, padded gradient with the weights turned by 180 degrees:
 * k = (o, kh', kw') with kh = KH-1-kh', chunks of CB output channels. */
static float grad_x_sum(const cpu_call *call, uint32_t n, uint32_t c, uint32_t h, uint32_t v) {
    const stn_conv_params *p = &call->kernel->params.conv;
    const stn_tensor *gy = &call->kernel->in[0], *w = &call->kernel->in[1];
    uint32_t kernel_h = w->dim[2], kernel_w = w->dim[3];
    uint64_t length = (uint64_t)stn_conv_chunk(kernel_h, kernel_w) * kernel_h * kernel_w;
    ref_chunk sum = ref_chunk_new(length);
    for (uint32_t o = 0; o < gy->dim[1]; o++) {
        ref_plane grad = ref_in(call, 0, n, o), weight = ref_in(call, 1, o, c);
        for (uint32_t kh = kernel_h; kh-- > 0;) {
            uint32_t oh, ow;
            bool in_h = output_at(h, kh, p->stride_h, p->pad_h, gy->dim[2], &oh);
            for (uint32_t kw = kernel_w; kw-- > 0;) {
                bool in_w = output_at(v, kw, p->stride_w, p->pad_w, gy->dim[3], &ow);
                if (in_h && in_w) {
                    ref_chunk_term(&sum, ref_at(grad, (size_t)oh * gy->dim[3] + ow),
                                   ref_at(weight, (size_t)kh * kernel_w + kw));
                } else {
                    ref_chunk_skip(&sum);
                }
            }
        }
    }
    return ref_chunk_total(&sum);
}

static void grad_x_plane(const cpu_call *call, uint32_t task) {
    const stn_tensor *gx = &call->kernel->out[0];
    uint32_t n = task / gx->dim[1], c = task % gx->dim[1];
    ref_plane_out out = ref_out(call, 0, n, c);
    for (uint32_t h = 0; h < gx->dim[2]; h++) {
        for (uint32_t v = 0; v < gx->dim[3]; v++) {
            float sum = grad_x_sum(call, n, c, h, v);
            ref_put(call, out, (size_t)h * gx->dim[3] + v, stn_snap_g(sum));
        }
    }
}

/* Where one weight stands, and the images of one shard. */
typedef struct tap {
    uint32_t o, c, kh, kw, first, end;
} tap;

/* k = (n, oh, ow) over the images of a shard, chunks of G images. */
static float grad_w_shard(const cpu_call *call, const tap *t) {
    const stn_conv_params *p = &call->kernel->params.conv;
    const stn_tensor *gy = &call->kernel->in[0], *x = &call->kernel->in[1];
    uint32_t out_h = gy->dim[2], out_w = gy->dim[3];
    ref_chunk sum = ref_chunk_new((uint64_t)stn_wgrad_chunk(out_h, out_w) * out_h * out_w);
    for (uint32_t n = t->first; n < t->end; n++) {
        ref_plane grad = ref_in(call, 0, n, t->o), image = ref_in(call, 1, n, t->c);
        for (uint32_t oh = 0; oh < out_h; oh++) {
            uint32_t h, v;
            bool in_h = input_at(oh, t->kh, p->stride_h, p->pad_h, x->dim[2], &h);
            for (uint32_t ow = 0; ow < out_w; ow++) {
                bool in_w = input_at(ow, t->kw, p->stride_w, p->pad_w, x->dim[3], &v);
                if (in_h && in_w) {
                    ref_chunk_term(&sum, ref_at(grad, (size_t)oh * out_w + ow),
                                   ref_at(image, (size_t)h * x->dim[3] + v));
                } else {
                    ref_chunk_skip(&sum);
                }
            }
        }
    }
    return ref_chunk_total(&sum);
}

/* The images of shard s: first .. end-1, cut at the rows that are real. */
static void shard_images(const cpu_call *call, uint32_t shards, uint32_t s, uint32_t *first,
                         uint32_t *end) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    uint64_t length = ref_shard_length(call->kernel->in[0].dim[0], shards);
    uint64_t from = s * length, to = from + length;
    *first = from < rows ? (uint32_t)from : rows;
    *end = to < rows ? (uint32_t)to : rows;
}

static void grad_w_plane(const cpu_call *call, uint32_t task) {
    uint32_t shards = call->kernel->params.conv.shards;
    const stn_tensor *gw = &call->kernel->out[0];
    tap t = {.o = task / gw->dim[1], .c = task % gw->dim[1]};
    ref_plane_out out = ref_out(call, 0, t.o, t.c);
    for (t.kh = 0; t.kh < gw->dim[2]; t.kh++) {
        for (t.kw = 0; t.kw < gw->dim[3]; t.kw++) {
            float sum[REF_MAX_SHARDS];
            for (uint32_t s = 0; s < shards; s++) {
                shard_images(call, shards, s, &t.first, &t.end);
                sum[s] = grad_w_shard(call, &t);
            }
            float total = ref_shard_tree(sum, shards);
            ref_put(call, out, (size_t)t.kh * gw->dim[3] + t.kw,
                    stn_snap(total, cpu_grad_limit(call)));
        }
    }
}

/* PLANE16 over the pixels of each image, plain adds over the images of a shard, then the tree. */
static void bias_channel(const cpu_call *call, uint32_t c) {
    uint32_t shards = call->kernel->params.reduce.shards;
    uint32_t pixels = ref_plane_size(&call->kernel->in[0]);
    float sum[REF_MAX_SHARDS];
    for (uint32_t s = 0; s < shards; s++) {
        uint32_t first, end;
        shard_images(call, shards, s, &first, &end);
        sum[s] = 0.0f;
        for (uint32_t n = first; n < end; n++) {
            ref_plane grad = ref_in(call, 0, n, c);
            ref_lanes lanes = {{0}};
            for (uint32_t i = 0; i < pixels; i++) {
                ref_lane_add(&lanes, i, ref_at(grad, i));
            }
            sum[s] = sum[s] + ref_lanes_fold(&lanes);
        }
    }
    ref_put(call, ref_out(call, 0, 0, c), 0,
            stn_snap(ref_shard_tree(sum, shards), cpu_grad_limit(call)));
}

static void conv(const cpu_call *call) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    ref_parallel(call, (uint64_t)rows * call->kernel->out[0].dim[1], forward_plane);
    ref_clear_padding(call, 0, rows);
}

static void conv_grad_x(const cpu_call *call) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    ref_parallel(call, (uint64_t)rows * call->kernel->out[0].dim[1], grad_x_plane);
    ref_clear_padding(call, 0, rows);
}

static void conv_grad_w(const cpu_call *call) {
    const stn_tensor *gw = &call->kernel->out[0];
    ref_parallel(call, (uint64_t)gw->dim[0] * gw->dim[1], grad_w_plane);
    ref_clear_padding(call, 0, gw->dim[0]);
}

static void bias_grad(const cpu_call *call) {
    ref_parallel(call, call->kernel->in[0].dim[1], bias_channel);
}

cpu_fn ref_conv_fn(uint32_t op) {
    return op == STN_OP_CONV          ? conv
           : op == STN_OP_CONV_GRAD_X ? conv_grad_x
           : op == STN_OP_CONV_GRAD_W ? conv_grad_w
           : op == STN_OP_BIAS_GRAD   ? bias_grad
                                      : NULL;
}
