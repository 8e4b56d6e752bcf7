/* Fully connected layer and its gradients: x[N,C,H,W], w[O,K] with K = C*H*W and k = (c,h,w). */
#include "ref.h"

/* Output o of row n: CHUNK(512) over k. */
static void forward_row(const cpu_call *call, uint32_t n) {
    const stn_tensor *x = &call->kernel->in[0];
    uint32_t pixels = ref_plane_size(x);
    for (uint32_t o = 0; o < call->kernel->out[0].dim[1]; o++) {
        ref_chunk sum = ref_chunk_new(STN_LINEAR_CHUNK);
        for (uint32_t c = 0; c < x->dim[1]; c++) {
            ref_plane image = ref_in(call, 0, n, c);
            for (uint32_t i = 0; i < pixels; i++) {
                ref_chunk_term(&sum, ref_at(image, i), ref_element(call, 1, o, c * pixels + i));
            }
        }
        float total = ref_chunk_total(&sum);
        if (call->kernel->n_in == 3) {
            total = total + ref_element(call, 2, 0, o);
        }
        ref_put(call, ref_out(call, 0, n, o), 0, stn_snap_x(total));
    }
}

/* gx[n,k] = sum over o of gy[n,o] w[o,k], CHUNK(512) over o. */
static void grad_x_row(const cpu_call *call, uint32_t n) {
    const stn_tensor *gx = &call->kernel->out[0];
    uint32_t pixels = ref_plane_size(gx), outputs = call->kernel->in[0].dim[1];
    for (uint32_t c = 0; c < gx->dim[1]; c++) {
        ref_plane_out out = ref_out(call, 0, n, c);
        for (uint32_t i = 0; i < pixels; i++) {
            ref_chunk sum = ref_chunk_new(STN_LINEAR_CHUNK);
            for (uint32_t o = 0; o < outputs; o++) {
                ref_chunk_term(&sum, ref_element(call, 0, n, o),
                               ref_element(call, 1, o, c * pixels + i));
            }
            ref_put(call, out, i, stn_snap_g(ref_chunk_total(&sum)));
        }
    }
}

/* gw[o,k]: CHAIN over the images of a shard, then the tree. */
static void grad_w_output(const cpu_call *call, uint32_t o) {
    const stn_tensor *x = &call->kernel->in[1];
    uint32_t shards = call->kernel->params.linear.shards, pixels = ref_plane_size(x);
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    uint64_t length = ref_shard_length(call->kernel->in[0].dim[0], shards);
    for (uint32_t c = 0; c < x->dim[1]; c++) {
        for (uint32_t i = 0; i < pixels; i++) {
            float sum[REF_MAX_SHARDS];
            for (uint32_t s = 0; s < shards; s++) {
                sum[s] = 0.0f;
                for (uint64_t n = s * length; n < (s + 1) * length && n < rows; n++) {
                    sum[s] = fmaf(ref_element(call, 0, (uint32_t)n, o),
                                  ref_at(ref_in(call, 1, (uint32_t)n, c), i), sum[s]);
                }
            }
            ref_put(call, ref_out(call, 0, o, c * pixels + i), 0,
                    stn_snap(ref_shard_tree(sum, shards), cpu_grad_limit(call)));
        }
    }
}

static void linear(const cpu_call *call) {
    ref_parallel(call, ref_rows(call, &call->kernel->in[0]), forward_row);
}

static void linear_grad_x(const cpu_call *call) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    ref_parallel(call, rows, grad_x_row);
    ref_clear_padding(call, 0, rows);
}

static void linear_grad_w(const cpu_call *call) {
    ref_parallel(call, call->kernel->out[0].dim[0], grad_w_output);
}

cpu_fn ref_linear_fn(uint32_t op) {
    return op == STN_OP_LINEAR          ? linear
           : op == STN_OP_LINEAR_GRAD_X ? linear_grad_x
           : op == STN_OP_LINEAR_GRAD_W ? linear_grad_w
                                        : NULL;
}
