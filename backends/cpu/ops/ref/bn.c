/* Batch norm: training forward, running statistics, evaluation, backward. One task per channel.
 *
 * N counts count*H*W values; 1/N and 1/(N-1) come from the host. x[N,C,H,W], stats[3,C] = (S, Q,
 * r).
 */
#include "ref.h"

/* What the normalised value of an element needs. */
typedef struct moments {
    float sum, inv_n, r;
} moments;

static float centred(const moments *m, float x) {
    return stn_snap_x(fmaf(-m->sum, m->inv_n, x));
}

static float normalised(const moments *m, float x) {
    return stn_snap_x(centred(m, x) * m->r);
}

/* The sums taken over a channel; `g` is the output gradient. */
enum { SUM_X, SUM_SQUARES, SUM_G, SUM_G_XHAT };

static void add_term(ref_lanes *lanes, uint32_t i, int what, const moments *m, float g, float x) {
    if (what == SUM_SQUARES) {
        ref_lane_term(lanes, i, centred(m, x), centred(m, x));
    } else if (what == SUM_G_XHAT) {
        ref_lane_term(lanes, i, g, normalised(m, x));
    } else {
        ref_lane_add(lanes, i, what == SUM_X ? x : g);
    }
}

/* As the bias gradient: PLANE16 over pixels, images ascending, SHARDS. x is input `x_in`; the
 * gradient, where used, is input 0. */
static float channel_sum(const cpu_call *call, uint32_t x_in, uint32_t c, int what,
                         const moments *m) {
    const stn_tensor *x = &call->kernel->in[x_in];
    uint32_t shards = call->kernel->params.bn.shards, rows = ref_rows(call, x);
    uint64_t length = ref_shard_length(x->dim[0], shards);
    float sum[REF_MAX_SHARDS];
    for (uint32_t s = 0; s < shards; s++) {
        sum[s] = 0.0f;
        for (uint64_t n = s * length; n < (s + 1) * length && n < rows; n++) {
            ref_plane image = ref_in(call, x_in, (uint32_t)n, c);
            ref_plane grad = ref_in(call, 0, (uint32_t)n, c);
            ref_lanes lanes = {{0}};
            for (uint32_t i = 0; i < ref_plane_size(x); i++) {
                add_term(&lanes, i, what, m, ref_at(grad, i), ref_at(image, i));
            }
            sum[s] = sum[s] + ref_lanes_fold(&lanes);
        }
    }
    return ref_shard_tree(sum, shards);
}

static float inv_n(const cpu_call *call) {
    return call->step->scalar[call->kernel->params.bn.slot_inv_n];
}

/* Element c of a [C] operand, or `otherwise` if there is none. */
static float optional(const cpu_call *call, uint32_t i, uint32_t c, float otherwise) {
    return i < call->kernel->n_in ? ref_element(call, i, 0, c) : otherwise;
}

static void forward_channel(const cpu_call *call, uint32_t c) {
    const stn_tensor *x = &call->kernel->in[0];
    moments m = {.inv_n = inv_n(call)};
    m.sum = stn_snap_x(channel_sum(call, 0, c, SUM_X, &m));
    float squares = stn_snap_x(channel_sum(call, 0, c, SUM_SQUARES, &m));
    m.r = stn_snap_x(stn_rsqrt(fmaf(squares, m.inv_n, call->kernel->params.bn.eps)));
    ref_put(call, ref_out(call, 1, 0, c), 0, m.sum);
    ref_put(call, ref_out(call, 1, 1, c), 0, squares);
    ref_put(call, ref_out(call, 1, 2, c), 0, m.r);
    float gamma = optional(call, 1, c, 1.0f), beta = optional(call, 2, c, 0.0f);
    for (uint32_t n = 0; n < ref_rows(call, x); n++) {
        ref_plane image = ref_in(call, 0, n, c);
        ref_plane_out out = ref_out(call, 0, n, c);
        for (uint32_t i = 0; i < ref_plane_size(x); i++) {
            float xhat = normalised(&m, ref_at(image, i));
            ref_put(call, out, i, stn_snap_x(fmaf(gamma, xhat, beta)));
        }
    }
}

/* Inputs stats rm rv. */
static void update_channel(const cpu_call *call, uint32_t c) {
    const stn_bn_params *p = &call->kernel->params.bn;
    float sum = ref_element(call, 0, 0, c), squares = ref_element(call, 0, 1, c);
    float mean = ref_element(call, 1, 0, c), var = ref_element(call, 2, 0, c);
    float d_mean = stn_snap_x(fmaf(sum, inv_n(call), -mean));
    float d_var = stn_snap_x(fmaf(squares, call->step->scalar[p->slot_inv_n1], -var));
    ref_put(call, ref_out(call, 0, 0, c), 0, stn_snap_x(fmaf(p->momentum, d_mean, mean)));
    ref_put(call, ref_out(call, 1, 0, c), 0, stn_snap_x(fmaf(p->momentum, d_var, var)));
}

/* Inputs x rm rv [gamma beta]. */
static void eval_channel(const cpu_call *call, uint32_t c) {
    const stn_tensor *x = &call->kernel->in[0];
    float mean = ref_element(call, 1, 0, c);
    float r = stn_snap_x(stn_rsqrt(ref_element(call, 2, 0, c) + call->kernel->params.bn.eps));
    float gamma = optional(call, 3, c, 1.0f), beta = optional(call, 4, c, 0.0f);
    for (uint32_t n = 0; n < ref_rows(call, x); n++) {
        ref_plane image = ref_in(call, 0, n, c);
        ref_plane_out out = ref_out(call, 0, n, c);
        for (uint32_t i = 0; i < ref_plane_size(x); i++) {
            float d = stn_snap_x(ref_at(image, i) - mean);
            float xhat = stn_snap_x(d * r);
            ref_put(call, out, i, stn_snap_x(fmaf(gamma, xhat, beta)));
        }
    }
}

/* Inputs gy x stats [gamma]; outputs gx ggamma gbeta. */
static void grad_channel(const cpu_call *call, uint32_t c) {
    const stn_tensor *x = &call->kernel->in[1];
    moments m = {.sum = ref_element(call, 2, 0, c), .inv_n = inv_n(call)};
    m.r = ref_element(call, 2, 2, c);
    float s1 = stn_snap_g(channel_sum(call, 1, c, SUM_G, &m));
    float s2 = stn_snap_g(channel_sum(call, 1, c, SUM_G_XHAT, &m));
    float m2 = stn_snap_g(s2 * m.inv_n), scale = stn_snap_x(optional(call, 3, c, 1.0f) * m.r);
    ref_put(call, ref_out(call, 1, 0, c), 0, s2);
    ref_put(call, ref_out(call, 2, 0, c), 0, s1);
    for (uint32_t n = 0; n < ref_rows(call, x); n++) {
        ref_plane grad = ref_in(call, 0, n, c), image = ref_in(call, 1, n, c);
        ref_plane_out out = ref_out(call, 0, n, c);
        for (uint32_t i = 0; i < ref_plane_size(x); i++) {
            float xhat = normalised(&m, ref_at(image, i));
            float t = stn_snap_g(fmaf(-xhat, m2, fmaf(-s1, m.inv_n, ref_at(grad, i))));
            ref_put(call, out, i, stn_snap_g(scale * t));
        }
    }
}

static void channels(const cpu_call *call, void (*fn)(const cpu_call *call, uint32_t task)) {
    ref_parallel(call, call->kernel->in[0].dim[1], fn);
    ref_clear_padding(call, 0, ref_rows(call, &call->kernel->in[0]));
}

static void bn(const cpu_call *call) {
    channels(call, forward_channel);
}

static void bn_update(const cpu_call *call) {
    if (!cpu_flagged(call)) {
        ref_parallel(call, call->kernel->in[0].dim[1], update_channel);
    }
}

static void bn_eval(const cpu_call *call) {
    channels(call, eval_channel);
}

static void bn_grad(const cpu_call *call) {
    channels(call, grad_channel);
}

cpu_fn ref_bn_fn(uint32_t op) {
    return op == STN_OP_BN          ? bn
           : op == STN_OP_BN_UPDATE ? bn_update
           : op == STN_OP_BN_EVAL   ? bn_eval
           : op == STN_OP_BN_GRAD   ? bn_grad
                                    : NULL;
}
