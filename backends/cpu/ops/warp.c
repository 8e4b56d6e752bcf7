/* WARP and its gradients, bilinear, all paddings and corner conventions (contract C5).
 *
 * Per image the coordinates of all output pixels are computed first, 16 pixels a vector. NCHW maps
 * are then sampled 16 pixels at a time from a copy with a frame (outside values, or the repeated
 * edge, so that every corner exists); NC16 maps 16 channels at a time, corner by corner.
 */
#include "fast.h"

#define FRAME_LOW 2u /* corners lie in [-2, size + 2] */
#define FRAME 5u

/* Coordinates of one image. */
typedef struct coords {
    int32_t *x, *y;         /* first corner */
    float *fx, *fy;         /* place between the corners */
    float *sign_x, *sign_y; /* of the coordinate's gradient: 1, -1, or 0 where it is constant */
} coords;

typedef struct warp {
    const stn_warp_params *p;
    const cpu_call *call;
    const float *theta;
    uint32_t rows, c, blocks, pixels, padded; /* padded: pixels rounded up to vectors */
    uint32_t in_h, in_w, pitch;
    bool edge; /* border or reflection: corners stay inside */
    map_addr in, out;
    uint64_t local_floats, frame_floats, sum_floats, bytes;
    float *xt, *yt; /* [padded] */
    float *local;   /* per thread: coords, frame_floats, twice sum_floats */
} warp;

/* Lanes of the channel sums that can be anything but +0: folding the others changes nothing. */
static uint32_t channel_lanes(uint32_t channels) {
    uint32_t lanes = 1;
    while (lanes < channels && lanes < LANES) {
        lanes *= 2;
    }
    return lanes;
}

/* Tensors: the sampled map (or its gradient) and the output (or its gradient). */
static warp warp_plan(const stn_kernel *k, uint32_t threads, void *workspace) {
    const stn_tensor *in = k->op == STN_OP_WARP_GRAD_X ? &k->out[0]
                           : k->op == STN_OP_WARP      ? &k->in[0]
                                                       : &k->in[1];
    const stn_tensor *out = k->op == STN_OP_WARP ? &k->out[0] : &k->in[0];
    const stn_warp_params *p = &k->params.warp;
    warp w = {.p = p, .c = in->dim[1], .in_h = p->in_h, .in_w = p->in_w};
    w.blocks = blocks_of(w.c);
    w.pixels = p->out_h * p->out_w;
    w.padded = blocks_of(w.pixels) * LANES;
    w.pitch = w.in_w + FRAME;
    w.edge = p->padding == STN_PAD_BORDER || p->padding == STN_PAD_REFLECTION;
    w.in = map_of(in->layout, w.c, w.in_h, w.in_w);
    w.out = map_of(out->layout, w.c, p->out_h, p->out_w);
    /* NC16: lines of outside values, or one block of sums and a line for what lies outside. */
    w.frame_floats = in->layout == STN_NCHW ? (uint64_t)(w.in_h + FRAME) * w.pitch
                                            : ((uint64_t)w.in_h * w.in_w + w.blocks) * LANES;
    const bool slopes = k->op == STN_OP_WARP_GRAD_THETA && in->layout == STN_NCHW;
    w.sum_floats = slopes ? (uint64_t)channel_lanes(w.c) * w.padded : 0;
    w.local_floats = (6u * w.padded + w.frame_floats + 2u * w.sum_floats + LANES) / LANES * LANES;
    carver c = {.base = workspace};
    w.xt = carve(&c, w.padded * sizeof *w.xt);
    w.yt = carve(&c, w.padded * sizeof *w.yt);
    w.local = carve(&c, threads * w.local_floats * sizeof *w.local);
    w.bytes = c.used;
    return w;
}

static float table(const stn_warp_params *p, uint32_t i, uint32_t n) {
    if (p->corners == STN_CORNERS_HALF) {
        return (float)((2.0 * i + 1.0 - n) / (double)n);
    }
    return n == 1 ? 0.0f : (float)((2.0 * i - (n - 1.0)) / (n - 1.0));
}

static void fill_tables(warp *w) {
    const stn_warp_params *p = w->p;
    for (uint32_t i = 0; i < w->padded; i++) {
        w->xt[i] = i < w->pixels ? table(p, i % p->out_w, p->out_w) : 0.0f;
        w->yt[i] = i < w->pixels ? table(p, i / p->out_w, p->out_h) : 0.0f;
    }
}

static coords coords_of(const warp *w, uint32_t thread, float **frame) {
    float *base = w->local + thread * w->local_floats;
    coords c = {.fx = base, .fy = base + w->padded};
    c.sign_x = base + 2u * w->padded;
    c.sign_y = base + 3u * w->padded;
    c.x = (int32_t *)(void *)(base + 4u * w->padded);
    c.y = (int32_t *)(void *)(base + 5u * w->padded);
    *frame = base + 6u * w->padded;
    return c;
}

/* ---- coordinates ---------------------------------------------------------------------------- */

static float axis_scale(const stn_warp_params *p, uint32_t size) {
    return p->corners == STN_CORNERS_ALIGNED ? (float)(size - 1u) * 0.5f : (float)size * 0.5f;
}

VEC vf round_coord(vf p) {
    return v_mul(v_rint(v_mul(p, v_set1(0x1p20f))), v_set1(0x1p-20f));
}

/* Clamps to [0, size-1]; the gradient on or beyond the edge is zero. NaN goes to 0. */
VEC vf clamp_edge(vf p, uint32_t size, vf *sign) {
    const vf last = v_set1((float)(size - 1u));
    const vm above = v_gt(p, v_zero()), below = v_lt(p, last);
    *sign = v_keep(vm_and(above, below), *sign);
    return v_keep(above, v_select(below, p, last));
}

static vf reflect(const stn_warp_params *w, vf x, uint32_t size, vf *sign) {
    const bool aligned = w->corners == STN_CORNERS_ALIGNED;
    const float period = aligned ? 2.0f * (float)(size - 1u) : 2.0f * (float)size;
    const float inverse = period > 0.0f ? (float)(1.0 / period) : 0.0f;
    const vf scale = v_set1(axis_scale(w, size)), full = v_set1(period);
    const vf q = v_fma(x, scale, scale), one = v_set1(1.0f), minus = v_set1(-1.0f);
    const vm near = v_lt(v_abs(q), v_set1(0x1p20f));
    const vf a = v_keep(near, v_abs(q));
    vf r = v_fma(v_neg(v_floor(v_mul(a, v_set1(inverse)))), full, a);
    r = v_select(v_lt(r, v_zero()), v_add(r, full), r);
    r = v_select(v_lt(r, full), r, v_sub(r, full));
    const vm flip = v_gt(r, v_set1(0.5f * period));
    r = v_select(flip, v_sub(full, r), r);
    const vf direction = v_select(v_lt(q, v_zero()), minus, one);
    *sign = v_keep(near, v_select(flip, v_neg(direction), direction));
    return clamp_edge(round_coord(aligned ? r : v_sub(r, v_set1(0.5f))), size, sign);
}

static vf to_pixels(const stn_warp_params *w, vf x, uint32_t size, vf *sign) {
    if (w->padding == STN_PAD_REFLECTION) {
        return reflect(w, x, size, sign);
    }
    const vf low = v_set1(-2.0f), high = v_set1((float)size + 1.0f);
    vf q = v_fma(x, v_set1(axis_scale(w, size)), v_set1((float)(size - 1u) * 0.5f));
    q = v_select(v_gt(q, low), q, low);
    q = round_coord(v_select(v_lt(q, high), q, high));
    *sign = v_set1(1.0f);
    return w->padding == STN_PAD_BORDER ? clamp_edge(q, size, sign) : q;
}

VEC void axis_coords(const warp *w, const float *theta, uint32_t i, uint32_t size, int32_t *first,
                     float *fraction, float *signs) {
    const vf inner = v_fma(v_set1(theta[1]), v_load(w->yt + i), v_set1(theta[2]));
    const vf x = v_fma(v_set1(theta[0]), v_load(w->xt + i), inner);
    vf sign;
    const vf p = to_pixels(w->p, v_snap(x, v_set1(STN_LIM_X)), size, &sign), corner = v_floor(p);
    vi_store(first + i, vf_int(corner));
    v_store(fraction + i, v_sub(p, corner));
    v_store(signs + i, sign);
}

static void image_coords(const warp *w, uint32_t n, const coords *c) {
    const float *theta = w->theta + 6u * n;
    for (uint32_t i = 0; i < w->padded; i += LANES) {
        axis_coords(w, theta, i, w->in_w, c->x, c->fx, c->sign_x);
        axis_coords(w, theta + 3, i, w->in_h, c->y, c->fy, c->sign_y);
    }
}

/* ---- corners: NCHW -------------------------------------------------------------------------- */

/* Copies a plane into its frame: outside values around it, or the last row and column repeated. */
static void make_frame(const warp *w, const float *plane, uint32_t channel, float *frame) {
    const float outside = w->p->padding == STN_PAD_BACKGROUND ? w->p->background[channel] : 0.0f;
    for (uint64_t i = 0; i < w->frame_floats; i++) {
        frame[i] = outside;
    }
    float *first = frame + FRAME_LOW * w->pitch + FRAME_LOW;
    for (uint32_t h = 0; h < w->in_h; h++) {
        memcpy(first + h * w->pitch, plane + (uint64_t)h * w->in_w, w->in_w * sizeof *first);
        if (w->edge) {
            first[h * w->pitch + w->in_w] = plane[(uint64_t)h * w->in_w + w->in_w - 1];
        }
    }
    if (w->edge) {
        memcpy(first + w->in_h * w->pitch, first + (w->in_h - 1) * w->pitch,
               (w->in_w + 1) * sizeof *first);
    }
}

/* The four corners of a vector of pixels or channels: a b / e d. */
typedef struct quad {
    vf a, b, e, d;
} quad;

VEC quad frame_quad(const warp *w, const coords *c, uint32_t i, const float *frame) {
    const vi pitch = vi_set1((int32_t)w->pitch);
    const vi at = vi_add(vi_mul(vi_load(c->y + i), pitch), vi_load(c->x + i));
    const float *first = frame + FRAME_LOW * w->pitch + FRAME_LOW;
    return (quad){v_gather(first, at), v_gather(first + 1, at), v_gather(first + w->pitch, at),
                  v_gather(first + w->pitch + 1, at)};
}

/* ---- corners: NC16 -------------------------------------------------------------------------- */

/* Offsets of the four corners of a pixel inside a block; `outside` where there is none. */
VEC void pixel_corners(const warp *w, const coords *c, uint32_t i, uint64_t outside,
                       uint64_t at[4]) {
    const int32_t width = (int32_t)w->in_w, height = (int32_t)w->in_h;
    const int32_t x0 = c->x[i], y0 = c->y[i];
    const int32_t x1 = w->edge && x0 + 1 > width - 1 ? width - 1 : x0 + 1;
    const int32_t y1 = w->edge && y0 + 1 > height - 1 ? height - 1 : y0 + 1;
    const bool in_x0 = x0 >= 0 && x0 < width, in_x1 = x1 >= 0 && x1 < width;
    const bool in_y0 = y0 >= 0 && y0 < height, in_y1 = y1 >= 0 && y1 < height;
    const int64_t top = (int64_t)y0 * width, bottom = (int64_t)y1 * width;
    at[0] = in_x0 && in_y0 ? (uint64_t)(top + x0) * LANES : outside;
    at[1] = in_x1 && in_y0 ? (uint64_t)(top + x1) * LANES : outside;
    at[2] = in_x0 && in_y1 ? (uint64_t)(bottom + x0) * LANES : outside;
    at[3] = in_x1 && in_y1 ? (uint64_t)(bottom + x1) * LANES : outside;
}

#define OUTSIDE UINT64_MAX

/* Corners of one pixel for one block of channels; `line` stands for the outside. */
VEC quad block_quad(const uint64_t at[4], const float *block, const float *line) {
    return (quad){v_load(at[0] == OUTSIDE ? line : block + at[0]),
                  v_load(at[1] == OUTSIDE ? line : block + at[1]),
                  v_load(at[2] == OUTSIDE ? line : block + at[2]),
                  v_load(at[3] == OUTSIDE ? line : block + at[3])};
}

/* Outside values of a block's channels. */
static void fill_line(const warp *w, uint32_t block, float *line) {
    for (uint32_t j = 0; j < LANES; j++) {
        const uint32_t channel = block * LANES + j;
        const bool background = w->p->padding == STN_PAD_BACKGROUND && channel < w->c;
        line[j] = background ? w->p->background[channel] : 0.0f;
    }
}

/* ---- forward -------------------------------------------------------------------------------- */

VEC vf blend(quad q, vf fx, vf fy) {
    const vf top = v_fma(fx, v_sub(q.b, q.a), q.a), bottom = v_fma(fx, v_sub(q.d, q.e), q.e);
    return v_snap(v_fma(fy, v_sub(bottom, top), top), v_set1(STN_LIM_X));
}

static void forward_planes(const warp *w, uint32_t n, const coords *c, float *frame) {
    vi seen = vi_set1(0);
    for (uint32_t ch = 0; ch < w->c; ch++) {
        make_frame(w, (const float *)w->call->in[0] + n * w->in.image + ch * w->in.plane, ch,
                   frame);
        float *out = (float *)w->call->out[0] + n * w->out.image + ch * w->out.plane;
        for (uint32_t i = 0; i < w->pixels; i += LANES) {
            const uint32_t lanes = min_u32(LANES, w->pixels - i);
            const vf y = blend(frame_quad(w, c, i, frame), v_load(c->fx + i), v_load(c->fy + i));
            seen = v_seen(seen, v_keep(vm_first(lanes), y));
            v_store_some(out + i, y, lanes);
        }
    }
    flag_seen(w->call, seen);
}

static void forward_blocks(const warp *w, uint32_t n, const coords *c, float *line) {
    vi seen = vi_set1(0);
    for (uint32_t b = 0; b < w->blocks; b++) {
        const float *in = (const float *)w->call->in[0] + n * w->in.image + b * w->in.plane;
        float *out = (float *)w->call->out[0] + n * w->out.image + b * w->out.plane;
        fill_line(w, b, line);
        for (uint32_t i = 0; i < w->pixels; i++) {
            uint64_t at[4];
            pixel_corners(w, c, i, OUTSIDE, at);
            const vf y = blend(block_quad(at, in, line), v_set1(c->fx[i]), v_set1(c->fy[i]));
            seen = v_seen(seen, y);
            v_store(out + (uint64_t)i * LANES, y);
        }
    }
    flag_seen(w->call, seen);
}

static void forward_image(void *user, uint32_t n, uint32_t thread) {
    const warp *w = user;
    float *frame;
    const coords c = coords_of(w, thread, &frame);
    image_coords(w, n, &c);
    if (w->in.step == 1) {
        forward_planes(w, n, &c, frame);
    } else {
        forward_blocks(w, n, &c, frame);
    }
}

/* ---- gradient to theta ---------------------------------------------------------------------- */

/* Adds one vector of terms of the channel sums for both axes. */
VEC void slope_terms(quad q, vf fx, vf fy, vf grad, vf *sum_x, vf *sum_y) {
    const vf limit = v_set1(STN_LIM_X);
    const vf ba = v_sub(q.b, q.a), de = v_sub(q.d, q.e);
    const vf ea = v_sub(q.e, q.a), db = v_sub(q.d, q.b);
    *sum_x = v_fma(grad, v_snap(v_fma(fy, v_sub(de, ba), ba), limit), *sum_x);
    *sum_y = v_fma(grad, v_snap(v_fma(fx, v_sub(db, ea), ea), limit), *sum_y);
}

/* Channel sums of all pixels from NCHW maps: x and y get [padded] sums, PLANE16 over channels. */
static void slope_planes(const warp *w, uint32_t n, const coords *c, float *frame, uint32_t lanes,
                         float *sum_x, float *sum_y) {
    /* sum_x, sum_y: [lanes][padded], folded into the first. */
    memset(sum_x, 0, (uint64_t)lanes * w->padded * sizeof *sum_x);
    memset(sum_y, 0, (uint64_t)lanes * w->padded * sizeof *sum_y);
    for (uint32_t ch = 0; ch < w->c; ch++) {
        const float *gy = (const float *)w->call->in[0] + n * w->out.image + ch * w->out.plane;
        float *x = sum_x + ch % LANES * w->padded, *y = sum_y + ch % LANES * w->padded;
        make_frame(w, (const float *)w->call->in[1] + n * w->in.image + ch * w->in.plane, ch,
                   frame);
        for (uint32_t i = 0; i < w->pixels; i += LANES) {
            vf sx = v_load(x + i), sy = v_load(y + i);
            const vf grad = v_load_some(gy + i, min_u32(LANES, w->pixels - i));
            slope_terms(frame_quad(w, c, i, frame), v_load(c->fx + i), v_load(c->fy + i), grad, &sx,
                        &sy);
            v_store(x + i, sx);
            v_store(y + i, sy);
        }
    }
    for (uint32_t s = lanes / 2; s > 0; s /= 2) {
        for (uint64_t i = 0; i < (uint64_t)s * w->padded; i += LANES) {
            const uint64_t from = i + (uint64_t)s * w->padded;
            v_store(sum_x + i, v_add(v_load(sum_x + i), v_load(sum_x + from)));
            v_store(sum_y + i, v_add(v_load(sum_y + i), v_load(sum_y + from)));
        }
    }
}

/* The same for 16 pixels i.. of NC16 maps. */
static void slope_blocks(const warp *w, uint32_t n, const coords *c, const float *line,
                         uint32_t first, float *sum_x, float *sum_y) {
    vf x[LANES], y[LANES];
    for (uint32_t j = 0; j < LANES; j++) {
        x[j] = v_zero();
        y[j] = v_zero();
        const uint32_t i = first + j;
        if (i >= w->pixels) {
            continue;
        }
        uint64_t at[4];
        pixel_corners(w, c, i, OUTSIDE, at);
        for (uint32_t b = 0; b < w->blocks; b++) {
            const float *gy = (const float *)w->call->in[0] + n * w->out.image + b * w->out.plane;
            const float *in = (const float *)w->call->in[1] + n * w->in.image + b * w->in.plane;
            slope_terms(block_quad(at, in, line + b * LANES), v_set1(c->fx[i]), v_set1(c->fy[i]),
                        v_load(gy + (uint64_t)i * LANES), &x[j], &y[j]);
        }
    }
    v_transpose(x);
    v_transpose(y);
    v_store(sum_x, v_fold_rows(x));
    v_store(sum_y, v_fold_rows(y));
}

/* The contract's sign and snap of a channel sum. */
VEC vf signed_sum(vf sum, vf sign) {
    const vf s = v_snap(v_select(v_lt(sign, v_zero()), v_neg(sum), sum), v_set1(STN_LIM_G));
    return v_keep(v_nonzero(sign), s);
}

/* Six sums over the pixels: s*xt, s*yt, s for both axes; lanes are pixels mod 16. */
VEC void theta_terms(const warp *w, const coords *c, uint32_t i, vf sum_x, vf sum_y, vf total[6]) {
    const vf xt = v_load(w->xt + i), yt = v_load(w->yt + i);
    const vf sx = signed_sum(sum_x, v_load(c->sign_x + i));
    const vf sy = signed_sum(sum_y, v_load(c->sign_y + i));
    total[0] = v_fma(sx, xt, total[0]);
    total[1] = v_fma(sx, yt, total[1]);
    total[2] = v_add(total[2], sx);
    total[3] = v_fma(sy, xt, total[3]);
    total[4] = v_fma(sy, yt, total[4]);
    total[5] = v_add(total[5], sy);
}

static void store_theta(const warp *w, uint32_t n, const vf total[6]) {
    float *out = (float *)w->call->out[0] + 6u * n;
    for (uint32_t k = 0; k < 6; k++) {
        const float scale = axis_scale(w->p, k < 3 ? w->in_w : w->in_h);
        out[k] = stn_snap_g(scale * stn_snap_g(v_fold(total[k])));
        if (stn_nonfinite(out[k])) {
            cpu_flag(w->call);
        }
    }
}

static void theta_image(void *user, uint32_t n, uint32_t thread) {
    const warp *w = user;
    float *frame, one_x[LANES], one_y[LANES];
    const coords c = coords_of(w, thread, &frame);
    const uint32_t lanes = channel_lanes(w->c);
    float *sum_x = frame + w->frame_floats, *sum_y = sum_x + w->sum_floats;
    vf total[6];
    for (uint32_t k = 0; k < 6; k++) {
        total[k] = v_zero();
    }
    image_coords(w, n, &c);
    if (w->in.step == 1) {
        slope_planes(w, n, &c, frame, lanes, sum_x, sum_y);
    } else {
        for (uint32_t b = 0; b < w->blocks; b++) {
            fill_line(w, b, frame + b * LANES);
        }
    }
    for (uint32_t i = 0; i < w->pixels; i += LANES) {
        if (w->in.step == 1) {
            theta_terms(w, &c, i, v_load(sum_x + i), v_load(sum_y + i), total);
        } else {
            slope_blocks(w, n, &c, frame, i, one_x, one_y);
            theta_terms(w, &c, i, v_load(one_x), v_load(one_y), total);
        }
    }
    store_theta(w, n, total);
}

/* ---- gradient to the input ------------------------------------------------------------------ */

/* Row-major scatter of one plane into its frame: each input pixel's terms come in order. */
static void scatter_plane(const warp *w, const coords *c, const float *gy, float *frame) {
    float *first = frame + FRAME_LOW * w->pitch + FRAME_LOW;
    memset(frame, 0, w->frame_floats * sizeof *frame);
    for (uint32_t i = 0; i < w->pixels; i++) {
        const float gx = 1.0f - c->fx[i], gv = 1.0f - c->fy[i], g = gy[i];
        float *at = first + (int64_t)c->y[i] * w->pitch + c->x[i];
        at[0] = fmaf(gx * gv, g, at[0]);
        at[1] = fmaf(c->fx[i] * gv, g, at[1]);
        at[w->pitch] = fmaf(gx * c->fy[i], g, at[w->pitch]);
        at[w->pitch + 1] = fmaf(c->fx[i] * c->fy[i], g, at[w->pitch + 1]);
    }
}

/* Sums of one block of channels; the line after the last pixel takes what lies outside. */
static void scatter_block(const warp *w, const coords *c, const float *gy, float *sums) {
    const uint64_t outside = (uint64_t)w->in_h * w->in_w * LANES;
    memset(sums, 0, w->frame_floats * sizeof *sums);
    for (uint32_t i = 0; i < w->pixels; i++) {
        uint64_t at[4];
        pixel_corners(w, c, i, outside, at);
        const float gx = 1.0f - c->fx[i], gv = 1.0f - c->fy[i];
        const float weight[4] = {gx * gv, c->fx[i] * gv, gx * c->fy[i], c->fx[i] * c->fy[i]};
        const vf g = v_load(gy + (uint64_t)i * LANES);
        for (uint32_t k = 0; k < 4; k++) {
            v_store(sums + at[k], v_fma(v_set1(weight[k]), g, v_load(sums + at[k])));
        }
    }
}

/* Snaps `floats` sums into the result. */
static vi store_sums(const float *sums, uint64_t floats, float *out, vi seen) {
    for (uint64_t i = 0; i < floats; i += LANES) {
        const uint32_t lanes = (uint32_t)(floats - i < LANES ? floats - i : LANES);
        const vf g = v_snap(v_load_some(sums + i, lanes), v_set1(STN_LIM_G));
        seen = v_seen(seen, g);
        v_store_some(out + i, g, lanes);
    }
    return seen;
}

static void grad_x_image(void *user, uint32_t n, uint32_t thread) {
    const warp *w = user;
    float *frame;
    const coords c = coords_of(w, thread, &frame);
    image_coords(w, n, &c);
    vi seen = vi_set1(0);
    const uint32_t planes = w->in.step == 1 ? w->c : w->blocks;
    for (uint32_t b = 0; b < planes; b++) {
        const float *gy = (const float *)w->call->in[0] + n * w->out.image + b * w->out.plane;
        float *gx = (float *)w->call->out[0] + n * w->in.image + b * w->in.plane;
        if (w->in.step > 1) {
            scatter_block(w, &c, gy, frame);
            seen = store_sums(frame, w->in.plane, gx, seen);
            continue;
        }
        scatter_plane(w, &c, gy, frame);
        for (uint32_t h = 0; h < w->in_h; h++) {
            seen = store_sums(frame + (h + FRAME_LOW) * w->pitch + FRAME_LOW, w->in_w,
                              gx + (uint64_t)h * w->in_w, seen);
        }
    }
    flag_seen(w->call, seen);
}

/* ---- selection ------------------------------------------------------------------------------ */

static void run_warp(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    warp w = warp_plan(k, cpu_pool_threads(call->pool), call->workspace);
    w.call = call;
    w.theta = call->in[k->n_in - 1];
    fill_tables(&w);
    cpu_pool_run(call->pool, min_u32(cpu_rows(call), k->in[0].dim[0]),
                 k->op == STN_OP_WARP          ? forward_image
                 : k->op == STN_OP_WARP_GRAD_X ? grad_x_image
                                               : theta_image,
                 &w);
}

bool ISA(warp)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    const stn_warp_params *p = &k->params.warp;
    const uint32_t layout = k->in[0].layout;
    const bool same =
        k->op == STN_OP_WARP_GRAD_THETA ? k->in[1].layout == layout : k->out[0].layout == layout;
    const uint64_t limit = UINT64_C(1) << 30;
    if (!same || p->filter != STN_FILTER_BILINEAR ||
        (uint64_t)(p->in_h + FRAME) * (p->in_w + FRAME) * LANES >= limit ||
        (uint64_t)p->out_h * p->out_w >= limit) {
        return false;
    }
    impl->workspace = warp_plan(k, threads, NULL).bytes;
    impl->run = run_warp;
    return true;
}
