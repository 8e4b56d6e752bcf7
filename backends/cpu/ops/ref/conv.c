/* Convolution, its gradients, and the bias gradient.
 *
 * x[N,C,H,W], w[O,C,KH,KW], y[N,O,OH,OW], OH = (H + 2 pad_h - KH) / stride_h + 1.
 */
#include "ref.h"

/* Positions first <= i < end. */
typedef struct span {
    uint32_t first, end;
} span;

/* Kernel positions k that meet the input at o * stride + k - pad from output position o; the others
 * lie in padding. */
static span kernel_at(uint32_t o, uint32_t kernel, uint32_t stride, uint32_t pad, uint32_t size) {
    uint64_t at = (uint64_t)o * stride, past = (uint64_t)size + pad;
    uint64_t first = at < pad ? pad - at : 0, end = past > at ? past - at : 0;
    end = end < kernel ? end : kernel;
    return (span){(uint32_t)(first < end ? first : end), (uint32_t)end};
}

/* k = (c, kh, kw), chunks of CB channels. */
static float forward_sum(const cpu_call *call, uint32_t n, uint32_t o, uint32_t oh, uint32_t ow) {
    const stn_conv_params *p = &call->kernel->params.conv;
    const stn_tensor *x = &call->kernel->in[0], *w = &call->kernel->in[1];
    uint32_t kernel_h = w->dim[2], kernel_w = w->dim[3];
    span rows = kernel_at(oh, kernel_h, p->stride_h, p->pad_h, x->dim[2]);
    span cols = kernel_at(ow, kernel_w, p->stride_w, p->pad_w, x->dim[3]);
    ref_chunk sum = ref_chunk_new(stn_conv_chunk(kernel_h, kernel_w));
    for (uint32_t c = 0; c < x->dim[1]; c++) {
        ref_plane image = ref_in(call, 0, n, c), weight = ref_in(call, 1, o, c);
        for (uint32_t kh = rows.first; kh < rows.end; kh++) {
            uint32_t h = oh * p->stride_h + kh - p->pad_h;
            for (uint32_t kw = cols.first; kw < cols.end; kw++) {
                uint32_t v = ow * p->stride_w + kw - p->pad_w;
                ref_chunk_add(&sum, ref_at(image, (size_t)h * x->dim[3] + v),
                              ref_at(weight, (size_t)kh * kernel_w + kw));
            }
        }
        ref_chunk_count(&sum);
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

/* Output positions o whose windows hold input position i, at kernel position i + pad - o * stride.
 */
static span outputs_of(uint32_t i, uint32_t kernel, uint32_t stride, uint32_t pad, uint32_t size) {
    uint32_t last = i + pad, end = last / stride + 1;
    uint32_t first = last < kernel ? 0 : (last - kernel) / stride + 1;
    end = end < size ? end : size;
    return (span){first < end ? first : end, end};
}

/* Forward convolution of the dilated, padded gradient with the weights turned by 180 degrees:
 * k = (o, kh', kw') with kh = KH-1-kh', chunks of CB output channels. Of a channel these are the
 * outputs that the input reached, in their order. */
static float grad_x_sum(const cpu_call *call, uint32_t n, uint32_t c, uint32_t h, uint32_t v) {
    const stn_conv_params *p = &call->kernel->params.conv;
    const stn_tensor *gy = &call->kernel->in[0], *w = &call->kernel->in[1];
    uint32_t kernel_h = w->dim[2], kernel_w = w->dim[3];
    span rows = outputs_of(h, kernel_h, p->stride_h, p->pad_h, gy->dim[2]);
    span cols = outputs_of(v, kernel_w, p->stride_w, p->pad_w, gy->dim[3]);
    ref_chunk sum = ref_chunk_new(stn_conv_chunk(kernel_h, kernel_w));
    for (uint32_t o = 0; o < gy->dim[1]; o++) {
        ref_plane grad = ref_in(call, 0, n, o), weight = ref_in(call, 1, o, c);
        for (uint32_t oh = rows.first; oh < rows.end; oh++) {
            uint32_t kh = h + p->pad_h - oh * p->stride_h;
            for (uint32_t ow = cols.first; ow < cols.end; ow++) {
                uint32_t kw = v + p->pad_w - ow * p->stride_w;
                ref_chunk_add(&sum, ref_at(grad, (size_t)oh * gy->dim[3] + ow),
                              ref_at(weight, (size_t)kh * kernel_w + kw));
            }
        }
        ref_chunk_count(&sum);
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

/* Output positions o < outputs that see the input, o * stride + k - pad, through kernel position k.
 */
static span outputs_at(uint32_t k, uint32_t outputs, uint32_t stride, uint32_t pad, uint32_t size) {
    uint32_t first = k < pad ? (pad - k + stride - 1) / stride : 0;
    uint64_t past = (uint64_t)size + pad;
    uint64_t end = past > k ? (past - k - 1) / stride + 1 : 0;
    end = end < outputs ? end : outputs;
    return (span){first < end ? first : (uint32_t)end, (uint32_t)end};
}

/* k = (n, oh, ow) over the images of a shard, chunks of G images. */
static float grad_w_shard(const cpu_call *call, const tap *t) {
    const stn_conv_params *p = &call->kernel->params.conv;
    const stn_tensor *gy = &call->kernel->in[0], *x = &call->kernel->in[1];
    uint32_t out_h = gy->dim[2], out_w = gy->dim[3];
    span rows = outputs_at(t->kh, out_h, p->stride_h, p->pad_h, x->dim[2]);
    span cols = outputs_at(t->kw, out_w, p->stride_w, p->pad_w, x->dim[3]);
    ref_chunk sum = ref_chunk_new(stn_wgrad_chunk(out_h, out_w));
    for (uint32_t n = t->first; n < t->end; n++) {
        ref_plane grad = ref_in(call, 0, n, t->o), image = ref_in(call, 1, n, t->c);
        for (uint32_t oh = rows.first; oh < rows.end; oh++) {
            uint32_t h = oh * p->stride_h + t->kh - p->pad_h;
            for (uint32_t ow = cols.first; ow < cols.end; ow++) {
                uint32_t v = ow * p->stride_w + t->kw - p->pad_w;
                ref_chunk_add(&sum, ref_at(grad, (size_t)oh * out_w + ow),
                              ref_at(image, (size_t)h * x->dim[3] + v));
            }
        }
        ref_chunk_count(&sum);
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
