/* Sum, scale, copy and pixel unpacking. */
#include "ref.h"

/* ((a+b)+c)+..., snapped once; a one-row operand is added to every row. */
static void sum_plane(const cpu_call *call, uint32_t task) {
    const stn_kernel *kernel = call->kernel;
    const stn_tensor *y = &kernel->out[0];
    uint32_t n = task / y->dim[1], c = task % y->dim[1];
    float limit = cpu_class_limit(kernel);
    ref_plane in[STN_MAX_IN];
    for (uint32_t k = 0; k < kernel->n_in; k++) {
        in[k] = ref_in(call, k, kernel->in[k].dim[0] == 1 ? 0 : n, c);
    }
    for (uint32_t i = 0; i < ref_plane_size(y); i++) {
        float sum = ref_at(in[0], i);
        for (uint32_t k = 1; k < kernel->n_in; k++) {
            sum = sum + ref_at(in[k], i);
        }
        ref_put(call, ref_out(call, 0, n, c), i, stn_snap(sum, limit));
    }
}

static void scale_plane(const cpu_call *call, uint32_t task) {
    const stn_scale_params *p = &call->kernel->params.scale;
    const stn_tensor *x = &call->kernel->in[0];
    uint32_t n = task / x->dim[1], c = task % x->dim[1];
    float limit = cpu_class_limit(call->kernel);
    ref_plane in = ref_in(call, 0, n, c);
    for (uint32_t i = 0; i < ref_plane_size(x); i++) {
        ref_put(call, ref_out(call, 0, n, c), i, stn_snap(p->factor * ref_at(in, i), limit));
    }
}

/* Moves the bits of any type; nothing is snapped or checked. */
static void copy_plane(const cpu_call *call, uint32_t task) {
    const stn_tensor *x = &call->kernel->in[0], *y = &call->kernel->out[0];
    uint32_t n = task / x->dim[1], c = task % x->dim[1];
    size_t size = x->dtype == STN_U8 ? 1 : 4;
    for (uint32_t i = 0; i < ref_plane_size(x); i++) {
        memcpy((uint8_t *)call->out[0] + stn_tensor_at(y, n, c, i) * size,
               (const uint8_t *)call->in[0] + stn_tensor_at(x, n, c, i) * size, size);
    }
}

/* Pixel values 0..255, bytes or floats, to normalised floats. */
static void unpack_plane(const cpu_call *call, uint32_t task) {
    const stn_tensor *v = &call->kernel->in[0];
    uint32_t n = task / v->dim[1], c = task % v->dim[1];
    float mul = ref_element(call, 1, 0, c), add = ref_element(call, 2, 0, c);
    for (uint32_t i = 0; i < ref_plane_size(v); i++) {
        uint64_t at = stn_tensor_at(v, n, c, i);
        float pixel = v->dtype == STN_U8 ? (float)((const uint8_t *)call->in[0])[at]
                                         : ((const float *)call->in[0])[at];
        ref_put(call, ref_out(call, 0, n, c), i, stn_snap_x(fmaf(pixel, mul, add)));
    }
}

static void planes(const cpu_call *call, void (*fn)(const cpu_call *call, uint32_t task)) {
    uint32_t rows = ref_rows(call, &call->kernel->out[0]);
    ref_parallel(call, (uint64_t)rows * call->kernel->out[0].dim[1], fn);
    ref_clear_padding(call, 0, rows);
}

static void sum(const cpu_call *call) {
    planes(call, sum_plane);
}

static void scale(const cpu_call *call) {
    planes(call, scale_plane);
}

static void copy(const cpu_call *call) {
    planes(call, copy_plane);
}

static void unpack(const cpu_call *call) {
    planes(call, unpack_plane);
}

cpu_fn ref_elementwise_fn(uint32_t op) {
    return op == STN_OP_SUM      ? sum
           : op == STN_OP_SCALE  ? scale
           : op == STN_OP_COPY   ? copy
           : op == STN_OP_UNPACK ? unpack
                                 : NULL;
}
