/* Affine grids, the sampler, their fusions and the composition of maps. */
#include "gpu.h"
#include "vec.h"

static ocl_axis axis_of(uint32_t size, bool aligned) {
    double n = size, period = aligned ? 2.0 * (n - 1.0) : 2.0 * n;
    ocl_axis a = {(float)(aligned ? (n - 1.0) / 2.0 : n / 2.0), (float)((n - 1.0) / 2.0),
                  (float)period, period > 0.0 ? (float)(1.0 / period) : 0.0f};
    return a;
}

float ocl_warp_coordinate(uint32_t i, uint32_t size, bool aligned) {
    double n = size, at = 2.0 * i + 1.0 - n;
    return aligned ? (size == 1 ? 0.0f : (float)(at / (n - 1.0))) : (float)(at / n);
}

/* Coordinates of the output pixels along one direction. */
static uint32_t coordinates(stn_kernel *k, uint32_t size, bool aligned) {
    if (k->query || k->failed) {
        return 0;
    }
    float *t = ocl_host->alloc((uint64_t)size * sizeof *t, 0);
    if (t == NULL) {
        k->failed = stn_fail(&k->err, STN_E_NOMEM, "opencl: out of host memory for a table");
        return 0;
    }
    for (uint32_t i = 0; i < size; i++) {
        t[i] = ocl_warp_coordinate(i, size, aligned);
    }
    uint32_t index = ocl_table(k, t, size);
    ocl_host->free(t);
    return index;
}

#define MAP(p, x, y)                                                                               \
    A_U((p)->in_w), A_U((p)->in_h), A_F((x).s), A_F((y).s), A_F((x).o), A_F((y).o), A_F((x).per),  \
        A_F((y).per), A_F((x).inv), A_F((y).inv), A_U((p)->corners == STN_CORNERS_ALIGNED),        \
        A_U((p)->filter == STN_FILTER_NEAREST), A_U((p)->padding)
#define COORDS(c, p) (c).grid, (c).xt, (c).yt, A_U((c).from_theta), A_U((p)->out_h), A_U((p)->out_w)

typedef struct coords {
    ocl_arg grid, xt, yt;
    bool from_theta;
} coords;

ocl_arg ocl_warp_background(stn_kernel *k, const stn_warp_params *p) {
    if (p->padding != STN_PAD_BACKGROUND) {
        return A_NONE;
    }
    return A_TABLE(ocl_table(k, p->background, STN_MAX_BACKGROUND));
}

static coords coords_of(uint32_t input, bool from_theta, uint32_t xt, uint32_t yt) {

    coords c = {A_IN(input), from_theta ? A_TABLE(xt) : A_NONE, from_theta ? A_TABLE(yt) : A_NONE,
                from_theta};
    return c;
}

/* Sizes of gpu_warp.cl. */
#define GPU_GROUP 128u
#define GPU_CHANNELS 8u

static bool for_gpu(const stn_kernel *k, const ocl_view *a, const ocl_view *b) {
    return gpu_on(k) && a->layout == STN_NCHW && b->layout == STN_NCHW;
}

static void forward(stn_kernel *k, const stn_warp_params *p, coords c, ocl_axis x, ocl_axis y) {
    ocl_view image = ocl_view_of(&k->in[0], A_IN(0)), out = ocl_view_of(&k->out[0], A_OUT(0));
    uint64_t row = ocl_row(&out);
    ocl_range range = ocl_items(row, true);
    bool gpu = for_gpu(k, &image, &out);
    if (gpu) {
        range = ocl_items((uint64_t)out.h * out.w, true);
        range.size[1] = (image.c + GPU_CHANNELS - 1u) / GPU_CHANNELS;
    }
    OCL_EMIT(k, gpu ? "gpu_warp.cl" : "warp.cl", "", gpu ? "gpu_sample" : "sample", &range,
             image.ref, COORDS(c, p), ocl_warp_background(k, p), out.ref, A_U(image.layout),
             A_U(out.layout), A_U(image.c), MAP(p, x, y), A_ROWS((uint32_t)row), A_FLAGS);
}

static void grad_input(stn_kernel *k, const stn_warp_params *p, coords c, ocl_axis x, ocl_axis y) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), gx = ocl_view_of(&k->out[0], A_OUT(0));
    uint32_t stored = ocl_padded(&gx);
    ocl_range range = ocl_items(stored, true);
    range.group[0] = 1;
    bool gpu = for_gpu(k, &gy, &gx);
    if (gpu) {
        uint64_t tiles = ((uint64_t)gx.h * gx.w + GPU_GROUP - 1u) / GPU_GROUP;
        range = (ocl_range){{tiles * GPU_GROUP, (gx.c + GPU_CHANNELS - 1u) / GPU_CHANNELS, 1},
                            1u | OCL_EXACT,
                            {GPU_GROUP, 1, 1}};
    }
    OCL_EMIT(k, gpu ? "gpu_warp.cl" : "warp.cl", "", gpu ? "gpu_sample_grad_x" : "sample_grad_x",
             &range, gy.ref, COORDS(c, p), gx.ref, A_U(gy.layout), A_U(gx.layout), A_U(gx.c),
             A_U(stored), MAP(p, x, y), A_ROWS(stored), A_FLAGS);
}

static void grad_grid(stn_kernel *k, const stn_warp_params *p, coords c, ocl_axis x, ocl_axis y,
                      ocl_arg out, bool scaled) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), image = ocl_view_of(&k->in[1], A_IN(1));
    ocl_range range = ocl_items((uint64_t)p->out_h * p->out_w, true);
    bool gpu = scaled && for_gpu(k, &gy, &image);
    OCL_EMIT(k, gpu ? "gpu_warp.cl" : "warp.cl", "",
             gpu ? "gpu_sample_grad_grid" : "sample_grad_grid", &range, gy.ref, image.ref,
             COORDS(c, p), ocl_warp_background(k, p), out, A_U(gy.layout), A_U(image.layout),
             A_U(image.c), A_U(scaled), MAP(p, x, y), A_ROWS(p->out_h * p->out_w), A_FLAGS);
}

/* Both steps of the gradient to theta in one launch. */
static bool warp_grad_theta(stn_kernel *k, const stn_warp_params *p, coords c, ocl_axis x,
                            ocl_axis y) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), image = ocl_view_of(&k->in[1], A_IN(1));
    ocl_range range = {{GPU_GROUP, 1, 1}, 1u | OCL_EXACT, {GPU_GROUP, 1, 1}};
    if (!for_gpu(k, &gy, &image)) {
        return false;
    }
    OCL_EMIT(k, "gpu_warp.cl", "", "gpu_warp_grad_theta", &range, gy.ref, image.ref, COORDS(c, p),
             ocl_warp_background(k, p), A_OUT(0), A_U(image.c), MAP(p, x, y), A_FLAGS);
    return true;
}

static void grad_theta(stn_kernel *k, const stn_warp_params *p, ocl_arg s, ocl_arg xt, ocl_arg yt,
                       float sx, float sy) {
    ocl_range range = ocl_items(6, true);
    OCL_EMIT(k, "warp.cl", "", "theta_grad", &range, s, xt, yt, A_OUT(0), A_U(p->out_h),
             A_U(p->out_w), A_F(sx), A_F(sy), A_ROWS(6), A_FLAGS);
}

static bool params_known(const stn_kernel *k, const stn_warp_params *p) {
    uint32_t channels = k->op == STN_OP_GRID || k->op == STN_OP_GRID_GRAD ? 1 : k->in[0].dim[1];
    return (p->corners == STN_CORNERS_ALIGNED || p->corners == STN_CORNERS_HALF) &&
           (p->filter == STN_FILTER_BILINEAR || p->filter == STN_FILTER_NEAREST) &&
           p->padding >= STN_PAD_ZEROS && p->padding <= STN_PAD_BACKGROUND &&
           (p->padding != STN_PAD_BACKGROUND || channels <= STN_MAX_BACKGROUND) && p->out_h > 0 &&
           p->out_w > 0 && p->in_h > 0 && p->in_w > 0 && p->in_h < (1u << 20) &&
           p->in_w < (1u << 20);
}

bool ocl_op_warp(stn_kernel *k) {
    const stn_warp_params *p = &k->params.warp;
    if (!params_known(k, p)) {
        return false;
    }
    bool aligned = p->corners == STN_CORNERS_ALIGNED;
    bool theta =
        k->op != STN_OP_SAMPLE && k->op != STN_OP_SAMPLE_GRAD_X && k->op != STN_OP_SAMPLE_GRAD_GRID;
    ocl_axis x = axis_of(p->in_w, aligned), y = axis_of(p->in_h, aligned);
    if (vec_warp(k, p, &x, &y)) {
        return true;
    }
    uint32_t xt = theta ? coordinates(k, p->out_w, aligned) : 0;
    uint32_t yt = theta ? coordinates(k, p->out_h, aligned) : 0;
    ocl_range pixels = ocl_items((uint64_t)p->out_h * p->out_w, true);
    uint64_t s = 0;
    switch (k->op) {
    case STN_OP_GRID:
        OCL_EMIT(k, "warp.cl", "", "grid_of", &pixels, A_IN(0), A_TABLE(xt), A_TABLE(yt), A_OUT(0),
                 A_U(p->out_h), A_U(p->out_w), A_ROWS(p->out_h * p->out_w), A_F(1.0f));
        return true;
    case STN_OP_GRID_GRAD:
        grad_theta(k, p, A_IN(0), A_TABLE(xt), A_TABLE(yt), 1.0f, 1.0f);
        return true;
    case STN_OP_SAMPLE:
    case STN_OP_WARP:
        forward(k, p, coords_of(1, theta, xt, yt), x, y);
        return true;
    case STN_OP_SAMPLE_GRAD_X:
    case STN_OP_WARP_GRAD_X:
        grad_input(k, p, coords_of(1, theta, xt, yt), x, y);
        return true;
    case STN_OP_SAMPLE_GRAD_GRID:
        grad_grid(k, p, coords_of(2, false, 0, 0), x, y, A_OUT(0), true);
        return true;
    case STN_OP_WARP_GRAD_THETA:
        if (warp_grad_theta(k, p, coords_of(2, true, xt, yt), x, y)) {
            return true;
        }
        s = ocl_ws(k, (uint64_t)k->in[0].dim[0] * p->out_h * p->out_w * 8u);
        grad_grid(k, p, coords_of(2, true, xt, yt), x, y, A_WS(s), false);
        grad_theta(k, p, A_WS(s), A_TABLE(xt), A_TABLE(yt), x.s, y.s);
        return true;
    default:
        return false;
    }
}

bool ocl_op_compose(stn_kernel *k) {
    ocl_range range = ocl_items(6, true);
    if (k->op == STN_OP_COMPOSE) {
        OCL_EMIT(k, "warp.cl", "", "compose", &range, A_IN(0), A_IN(1), A_OUT(0), A_ROWS(6),
                 A_FLAGS);
    } else {
        OCL_EMIT(k, "warp.cl", "", "compose_grad", &range, A_IN(0), A_IN(1), A_IN(2), A_OUT(0),
                 A_OUT(1), A_ROWS(6), A_FLAGS);
    }
    return true;
}
