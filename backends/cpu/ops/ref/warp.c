/* Affine grid and sampler, one operator at a time (grid, sample) and in one (warp), with gradients.
 *
 * Coordinates of an output pixel come from a grid operand or from theta; then, per axis, to pixels,
 * the padding rule, rounding to 2^-20. x[N,C,H,W], theta[N,6], grid[N,OH,OW,2] = (x, y). One task
 * per image.
 */
#include "ref.h"

/* One coordinate in pixels of the input, multiple of 2^-20; the sign its gradient takes, 0 where
 * the padding rule makes it constant. */
typedef struct coord {
    float p, sign;
} coord;

/* Corners of the cell that holds a point, and the point's place in it. */
typedef struct cell {
    int32_t x0, x1, y0, y1;
    float fx, fy, sign_x, sign_y;
} cell;

/* Pixels per grid unit. */
static float axis_scale(const stn_warp_params *p, uint32_t size) {
    return p->corners == STN_CORNERS_ALIGNED ? (float)(size - 1u) * 0.5f : (float)size * 0.5f;
}

/* Place of output pixel i of n in [-1,1], in double, rounded once. */
static float table(const stn_warp_params *p, uint32_t i, uint32_t n) {
    if (p->corners == STN_CORNERS_HALF) {
        return (float)((2.0 * i + 1.0 - n) / (double)n);
    }
    return n == 1 ? 0.0f : (float)((2.0 * i - (n - 1.0)) / (n - 1.0));
}

static float round_coord(float p) {
    return rintf(p * 0x1p20f) * 0x1p-20f;
}

/* Clamps to the map; the gradient of a coordinate on or beyond its edge is zero. */
static coord clamp_to_border(coord c, uint32_t size) {
    float last = (float)(size - 1u);
    if (!(c.p > 0.0f)) {
        return (coord){0.0f, 0.0f};
    }
    return c.p < last ? c : (coord){last, 0.0f};
}

/* Folds the axis at its edges. The period P is exact, the number of periods comes from 1/P. */
static coord reflect(const stn_warp_params *p, float x, uint32_t size) {
    bool aligned = p->corners == STN_CORNERS_ALIGNED;
    float period = aligned ? 2.0f * (float)(size - 1u) : 2.0f * (float)size;
    float inverse = period > 0.0f ? (float)(1.0 / period) : 0.0f;
    float q = fmaf(x, axis_scale(p, size), axis_scale(p, size)), a = fabsf(q), sign = 1.0f;
    if (!(a < 0x1p20f)) {
        a = 0.0f;
        sign = 0.0f;
    }
    if (q < 0.0f) {
        sign = -sign;
    }
    float r = fmaf(-floorf(a * inverse), period, a);
    r = r < 0.0f ? r + period : r;
    r = r >= period ? r - period : r;
    if (r > 0.5f * period) {
        r = period - r;
        sign = -sign;
    }
    coord c = {round_coord(aligned ? r : r - 0.5f), sign};
    return clamp_to_border(c, size);
}

static coord to_pixels(const stn_warp_params *p, float x, uint32_t size) {
    if (p->padding == STN_PAD_REFLECTION) {
        return reflect(p, x, size);
    }
    float q = fmaf(x, axis_scale(p, size), (float)(size - 1u) * 0.5f);
    q = q > -2.0f ? q : -2.0f; /* NaN goes to -2 */
    q = q < (float)size + 1.0f ? q : (float)size + 1.0f;
    coord c = {round_coord(q), 1.0f};
    return p->padding == STN_PAD_BORDER ? clamp_to_border(c, size) : c;
}

/* Coordinate (axis 0: x, 1: y) of output pixel (h, w) from theta[n]. */
static float theta_coord(const cpu_call *call, uint32_t in, uint32_t n, uint32_t h, uint32_t w,
                         uint32_t axis) {
    const stn_warp_params *p = &call->kernel->params.warp;
    float a = ref_element(call, in, n, 3 * axis), b = ref_element(call, in, n, 3 * axis + 1);
    float shift = ref_element(call, in, n, 3 * axis + 2);
    float x = fmaf(a, table(p, w, p->out_w), fmaf(b, table(p, h, p->out_h), shift));
    return stn_snap_x(x);
}

/* Coordinates of one output pixel in pixels; the last input is the grid or theta. */
static void locate(const cpu_call *call, uint32_t n, uint32_t h, uint32_t w, coord *x, coord *y) {
    const stn_kernel *kernel = call->kernel;
    const stn_warp_params *p = &kernel->params.warp;
    uint32_t last = kernel->n_in - 1u;
    float at[2];
    for (uint32_t axis = 0; axis < 2; axis++) {
        at[axis] = kernel->op >= STN_OP_WARP ? theta_coord(call, last, n, h, w, axis)
                                             : ref_at(ref_in(call, last, n, h), 2 * w + axis);
    }
    *x = to_pixels(p, at[0], p->in_w);
    *y = to_pixels(p, at[1], p->in_h);
}

/* Border and reflection never leave the map: their second corner stays inside, with weight 0. */
static int32_t next_index(const stn_warp_params *p, int32_t i, uint32_t size) {
    bool inside = p->padding == STN_PAD_BORDER || p->padding == STN_PAD_REFLECTION;
    return inside && i + 1 > (int32_t)size - 1 ? (int32_t)size - 1 : i + 1;
}

static cell cell_at(const cpu_call *call, uint32_t n, uint32_t h, uint32_t w) {
    const stn_warp_params *p = &call->kernel->params.warp;
    coord x, y;
    locate(call, n, h, w, &x, &y);
    cell c = {.x0 = (int32_t)floorf(x.p), .y0 = (int32_t)floorf(y.p)};
    c.x1 = next_index(p, c.x0, p->in_w);
    c.y1 = next_index(p, c.y0, p->in_h);
    c.fx = x.p - (float)c.x0;
    c.fy = y.p - (float)c.y0;
    c.sign_x = x.sign;
    c.sign_y = y.sign;
    return c;
}

static bool inside(const stn_warp_params *p, int32_t x, int32_t y) {
    return x >= 0 && x < (int32_t)p->in_w && y >= 0 && y < (int32_t)p->in_h;
}

/* Pixel (x, y) of channel c, or what lies outside the map. */
static float pixel(const stn_warp_params *p, ref_plane image, uint32_t c, int32_t x, int32_t y) {
    if (inside(p, x, y)) {
        return ref_at(image, (size_t)y * p->in_w + (size_t)x);
    }
    return p->padding == STN_PAD_BACKGROUND ? p->background[c] : 0.0f;
}

/* Nearest pixel, ties to even. */
static void nearest_at(const cpu_call *call, uint32_t n, uint32_t i, int32_t *x, int32_t *y) {
    const stn_warp_params *p = &call->kernel->params.warp;
    coord cx, cy;
    locate(call, n, i / p->out_w, i % p->out_w, &cx, &cy);
    *x = (int32_t)rintf(cx.p);
    *y = (int32_t)rintf(cy.p);
}

/* ---- grid ----------------------------------------------------------------------------------- */

static void grid_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        uint32_t h = i / p->out_w, w = i % p->out_w;
        for (uint32_t axis = 0; axis < 2; axis++) {
            ref_plane_out out = ref_out(call, 0, n, h);
            out.at[(2 * w + axis) * out.step] = theta_coord(call, 0, n, h, w, axis);
        }
    }
}

/* Six sums over the pixels, PLANE16: s*xt, s*yt, s for both axes. */
static void theta_add(ref_lanes sums[6], const stn_warp_params *p, uint32_t i, const float s[2]) {
    for (uint32_t axis = 0; axis < 2; axis++) {
        ref_lane_term(&sums[3 * axis], i, s[axis], table(p, i % p->out_w, p->out_w));
        ref_lane_term(&sums[3 * axis + 1], i, s[axis], table(p, i / p->out_w, p->out_h));
        ref_lane_add(&sums[3 * axis + 2], i, s[axis]);
    }
}

static void grid_grad_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    ref_lanes sums[6] = {{{0}}};
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        ref_plane grad = ref_in(call, 0, n, i / p->out_w);
        float s[2] = {ref_at(grad, i % p->out_w * 2), ref_at(grad, i % p->out_w * 2 + 1)};
        theta_add(sums, p, i, s);
    }
    for (uint32_t k = 0; k < 6; k++) {
        ref_put(call, ref_out(call, 0, n, k), 0, stn_snap_g(ref_lanes_fold(&sums[k])));
    }
}

/* ---- forward -------------------------------------------------------------------------------- */

static void nearest_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        int32_t x, y;
        nearest_at(call, n, i, &x, &y);
        for (uint32_t c = 0; c < call->kernel->out[0].dim[1]; c++) {
            ref_put(call, ref_out(call, 0, n, c), i, pixel(p, ref_in(call, 0, n, c), c, x, y));
        }
    }
}

static void bilinear_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        cell at = cell_at(call, n, i / p->out_w, i % p->out_w);
        for (uint32_t c = 0; c < call->kernel->out[0].dim[1]; c++) {
            ref_plane image = ref_in(call, 0, n, c);
            float a = pixel(p, image, c, at.x0, at.y0), b = pixel(p, image, c, at.x1, at.y0);
            float e = pixel(p, image, c, at.x0, at.y1), d = pixel(p, image, c, at.x1, at.y1);
            float top = fmaf(at.fx, b - a, a), bottom = fmaf(at.fx, d - e, e);
            ref_put(call, ref_out(call, 0, n, c), i, stn_snap_x(fmaf(at.fy, bottom - top, top)));
        }
    }
}

/* ---- gradient to the input ------------------------------------------------------------------ */

/* Adds to an input pixel if it exists. gx holds unsnapped sums until the image is done. */
static void scatter(const cpu_call *call, uint32_t n, int32_t x, int32_t y, uint32_t i,
                    float weight, bool weighted) {
    const stn_warp_params *p = &call->kernel->params.warp;
    if (!inside(p, x, y)) {
        return;
    }
    for (uint32_t c = 0; c < call->kernel->out[0].dim[1]; c++) {
        ref_plane_out out = ref_out(call, 0, n, c);
        float *sum = &out.at[((size_t)y * p->in_w + (size_t)x) * out.step];
        float grad = ref_at(ref_in(call, 0, n, c), i);
        *sum = weighted ? fmaf(weight, grad, *sum) : *sum + grad;
    }
}

/* Output pixels row-major, so every input pixel is a chain over those that touch it. */
static void scatter_pixel(const cpu_call *call, uint32_t n, uint32_t i) {
    const stn_warp_params *p = &call->kernel->params.warp;
    if (p->filter == STN_FILTER_NEAREST) {
        int32_t x, y;
        nearest_at(call, n, i, &x, &y);
        scatter(call, n, x, y, i, 1.0f, false);
        return;
    }
    cell at = cell_at(call, n, i / p->out_w, i % p->out_w);
    float gx = 1.0f - at.fx, gy = 1.0f - at.fy;
    scatter(call, n, at.x0, at.y0, i, gx * gy, true);
    scatter(call, n, at.x1, at.y0, i, at.fx * gy, true);
    scatter(call, n, at.x0, at.y1, i, gx * at.fy, true);
    scatter(call, n, at.x1, at.y1, i, at.fx * at.fy, true);
}

static void grad_x_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    const stn_tensor *gx = &call->kernel->out[0];
    for (uint32_t c = 0; c < gx->dim[1]; c++) {
        ref_plane_out out = ref_out(call, 0, n, c);
        for (uint32_t i = 0; i < ref_plane_size(gx); i++) {
            out.at[i * out.step] = 0.0f;
        }
    }
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        scatter_pixel(call, n, i);
    }
    for (uint32_t c = 0; c < gx->dim[1]; c++) {
        ref_plane_out out = ref_out(call, 0, n, c);
        for (uint32_t i = 0; i < ref_plane_size(gx); i++) {
            ref_put(call, out, i, stn_snap_g(out.at[i * out.step]));
        }
    }
}

/* ---- gradient to the coordinates ------------------------------------------------------------ */

static float signed_sum(ref_lanes *sum, float sign) {
    float s = ref_lanes_fold(sum);
    return sign == 0.0f ? 0.0f : stn_snap_g(sign < 0.0f ? -s : s);
}

/* Gradient of the loss to the coordinates of one output pixel, per input pixel, class G. */
static void coord_grad(const cpu_call *call, uint32_t n, uint32_t i, float s[2]) {
    const stn_warp_params *p = &call->kernel->params.warp;
    s[0] = 0.0f;
    s[1] = 0.0f;
    if (p->filter == STN_FILTER_NEAREST) {
        return;
    }
    cell at = cell_at(call, n, i / p->out_w, i % p->out_w);
    ref_lanes sum_x = {{0}}, sum_y = {{0}};
    for (uint32_t c = 0; c < call->kernel->in[1].dim[1]; c++) {
        ref_plane image = ref_in(call, 1, n, c);
        float grad = ref_at(ref_in(call, 0, n, c), i);
        float a = pixel(p, image, c, at.x0, at.y0), b = pixel(p, image, c, at.x1, at.y0);
        float e = pixel(p, image, c, at.x0, at.y1), d = pixel(p, image, c, at.x1, at.y1);
        float dx = stn_snap_x(fmaf(at.fy, (d - e) - (b - a), b - a));
        float dy = stn_snap_x(fmaf(at.fx, (d - b) - (e - a), e - a));
        ref_lane_term(&sum_x, c, grad, dx);
        ref_lane_term(&sum_y, c, grad, dy);
    }
    s[0] = signed_sum(&sum_x, at.sign_x);
    s[1] = signed_sum(&sum_y, at.sign_y);
}

static void sample_grad_grid_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        float s[2];
        coord_grad(call, n, i, s);
        ref_plane_out out = ref_out(call, 0, n, i / p->out_w);
        uint32_t at = i % p->out_w * 2;
        ref_put(call, out, at, stn_snap_g(axis_scale(p, p->in_w) * s[0]));
        ref_put(call, out, at + 1, stn_snap_g(axis_scale(p, p->in_h) * s[1]));
    }
}

static void warp_grad_theta_row(const cpu_call *call, uint32_t n) {
    const stn_warp_params *p = &call->kernel->params.warp;
    ref_lanes sums[6] = {{{0}}};
    for (uint32_t i = 0; i < p->out_h * p->out_w; i++) {
        float s[2];
        coord_grad(call, n, i, s);
        theta_add(sums, p, i, s);
    }
    for (uint32_t k = 0; k < 6; k++) {
        float total = stn_snap_g(ref_lanes_fold(&sums[k]));
        float scale = axis_scale(p, k < 3 ? p->in_w : p->in_h);
        ref_put(call, ref_out(call, 0, n, k), 0, stn_snap_g(scale * total));
    }
}

static void images(const cpu_call *call, void (*fn)(const cpu_call *call, uint32_t task)) {
    uint32_t rows = ref_rows(call, &call->kernel->in[0]);
    ref_parallel(call, rows, fn);
    ref_clear_padding(call, 0, rows);
}

static void grid(const cpu_call *call) {
    images(call, grid_row);
}

static void grid_grad(const cpu_call *call) {
    images(call, grid_grad_row);
}

static void sample(const cpu_call *call) {
    bool nearest = call->kernel->params.warp.filter == STN_FILTER_NEAREST;
    images(call, nearest ? nearest_row : bilinear_row);
}

static void grad_x(const cpu_call *call) {
    images(call, grad_x_row);
}

static void sample_grad_grid(const cpu_call *call) {
    images(call, sample_grad_grid_row);
}

static void warp_grad_theta(const cpu_call *call) {
    images(call, warp_grad_theta_row);
}

cpu_fn ref_warp_fn(uint32_t op) {
    return op == STN_OP_GRID                                        ? grid
           : op == STN_OP_GRID_GRAD                                 ? grid_grad
           : op == STN_OP_SAMPLE || op == STN_OP_WARP               ? sample
           : op == STN_OP_SAMPLE_GRAD_X || op == STN_OP_WARP_GRAD_X ? grad_x
           : op == STN_OP_SAMPLE_GRAD_GRID                          ? sample_grad_grid
           : op == STN_OP_WARP_GRAD_THETA                           ? warp_grad_theta
                                                                    : NULL;
}
