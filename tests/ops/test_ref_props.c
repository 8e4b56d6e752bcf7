/* Properties of the reference that the contract promises: no subnormal ever arises (the same bits
 * with flush-to-zero on), outputs are in their class, non-finite values raise the flags, a raised
 * flag freezes the state, gradients are derivatives; and the harness notices what it should.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#if defined(__SSE__)
#include <immintrin.h>
#endif

#include "optest_cases.h"

static const stn_backend *backend;
static optest_dev ref;

static void open_ref(void) {
    const char *options[] = {"threads", "1", "cpu-kernels", "ref", NULL};
    char path[512];
    stn_err err = {0};
    cr_assert_eq(optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, &err), STN_OK,
                 "%s", err.text);
    cr_assert_eq(optest_open(backend, 0, options, &ref, &err), STN_OK, "%s", err.text);
}

static void close_ref(void) {
    optest_close(&ref);
}

static void must_run(const optest_case *c, const void *const *in, optest_result *result) {
    stn_err err = {0};
    cr_assert_eq(optest_run_data(&ref, c, in, result, &err), STN_OK, "%s: %s", c->name, err.text);
}

/* ---- the envelope --------------------------------------------------------------------------- */

#if defined(__SSE__)
#define FLUSH_BITS 0x8040u /* flush-to-zero and denormals-are-zero */

Test(props, flush_to_zero_changes_nothing, .init = open_ref, .fini = close_ref) {
    optest_filter filter = {.layout = OPTEST_NCHW};
    uint32_t n = 0;
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL; n++) {
        optest_result exact, flushed;
        char text[256] = "";
        stn_err err = {0};
        must_run(c, NULL, &exact);
        unsigned state = _mm_getcsr();
        _mm_setcsr(state | FLUSH_BITS);
        int32_t status = optest_run(&ref, c, &flushed, &err);
        _mm_setcsr(state);
        cr_assert_eq(status, STN_OK, "%s: %s", c->name, err.text);
        cr_expect(optest_equal(c, &exact, &flushed, text), "%s: %s", c->name, text);
        optest_free(&exact);
        optest_free(&flushed);
    }
    cr_assert_gt(n, 1500);
}
#endif

/* The gradient of a parameter: not snapped in a micro-batch. */
static bool sums_images(const optest_case *c, uint32_t out) {
    switch (c->op) {
    case STN_OP_CONV_GRAD_W:
    case STN_OP_LINEAR_GRAD_W:
    case STN_OP_BIAS_GRAD:
    case STN_OP_CONV_BLOCK_GRAD_W:
        return true;
    case STN_OP_LINEAR_BLOCK_GRAD:
        return out < 2;
    default:
        return false;
    }
}

/* Limit of the class of an output, 0 where nothing is snapped. */
static float limit_of(const optest_case *c, uint32_t out) {
    static const uint32_t plain[] = {STN_OP_CONV,    STN_OP_LINEAR,     STN_OP_AVGPOOL,
                                     STN_OP_DROPOUT, STN_OP_BN,         STN_OP_BN_UPDATE,
                                     STN_OP_BN_EVAL, STN_OP_GRID,       STN_OP_COMPOSE,
                                     STN_OP_UNPACK,  STN_OP_CONV_BLOCK, STN_OP_LINEAR_BLOCK};
    if (c->partial != 0 && sums_images(c, out)) {
        return 0.0f;
    }
    for (uint32_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        if (c->op == plain[i]) {
            return 0x1p-30f;
        }
    }
    switch (c->op) {
    case STN_OP_XENT:
    case STN_OP_COPY:
    case STN_OP_MAXPOOL: /* copies the bits of a value, -0 included */
    case STN_OP_ACT:
        return 0.0f;
    case STN_OP_SAMPLE:
    case STN_OP_WARP:
        return c->params.warp.filter == STN_FILTER_NEAREST ? 0.0f : 0x1p-30f;
    case STN_OP_XENT_BOTH:
        return out == 2 ? 0x1p-50f : 0.0f;
    case STN_OP_SUM:
    case STN_OP_SCALE:
        return c->params.scale.gradient == STN_CLASS_NONE ? 0.0f
               : c->params.scale.gradient == STN_CLASS_G  ? 0x1p-50f
                                                          : 0x1p-30f;
    case STN_OP_SGD:
        return out == 0 ? 0x1p-30f : 0x1p-50f;
    case STN_OP_ADAM:
        return out == 0 ? 0x1p-30f : out == 1 ? 0x1p-50f : 0x1p-100f;
    default:
        return 0x1p-50f;
    }
}

Test(props, outputs_are_in_their_class, .init = open_ref, .fini = close_ref) {
    optest_filter filter = {.layout = OPTEST_NCHW};
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL;) {
        optest_result r;
        must_run(c, NULL, &r);
        for (uint32_t i = 0; i < c->n_out; i++) {
            float limit = limit_of(c, i);
            const float *v = r.out[i];
            for (uint64_t k = 0; k < optest_elems(&c->out[i]) && c->out[i].dtype == STN_F32; k++) {
                bool zero = v[k] == 0.0f && (limit == 0.0f || !signbit(v[k]));
                cr_assert(zero || !(fabsf(v[k]) < limit) || limit == 0.0f, "%s: output %u is %a",
                          c->name, i, (double)v[k]);
            }
        }
        optest_free(&r);
    }
}

/* ---- flags ---------------------------------------------------------------------------------- */

/* The first case of an operator with at least two rows. */
static optest_case case_of(uint32_t op) {
    optest_filter filter = {.op = op, .data = OPTEST_NORMAL, .layout = OPTEST_NCHW};
    const optest_case *c = optest_next(NULL, &filter);
    while (c != NULL && (c->in[0].dim[0] < 2 || optest_elems(&c->in[0]) <= 8)) {
        c = optest_next(c, &filter);
    }
    cr_assert_not_null(c, "no case of operator %u", op);
    return *c;
}

/* Infinity in the first element of input i; the flag words after the run. */
static void run_poisoned(uint32_t op, uint32_t i, uint32_t flags[2]) {
    optest_case c = case_of(op);
    const void *in[STN_MAX_IN] = {NULL};
    optest_result r;
    float *data = malloc(optest_elems(&c.in[i]) * sizeof *data);
    optest_fill(&c, i, data);
    data[0] = INFINITY;
    in[i] = data;
    must_run(&c, in, &r);
    memcpy(flags, r.flags, sizeof r.flags);
    optest_free(&r);
    free(data);
}

Test(props, infinities_raise_both_flags, .init = open_ref, .fini = close_ref) {
    static const uint32_t ops[] = {
        STN_OP_CONV,    STN_OP_CONV_GRAD_X, STN_OP_CONV_GRAD_W, STN_OP_LINEAR,    STN_OP_BIAS_GRAD,
        STN_OP_MAXPOOL, STN_OP_AVGPOOL,     STN_OP_ACT,         STN_OP_BN,        STN_OP_BN_EVAL,
        STN_OP_COMPOSE, STN_OP_XENT,        STN_OP_SCALE,       STN_OP_SUM,       STN_OP_BN_GRAD,
        STN_OP_SGD,     STN_OP_ADAM,        STN_OP_GRID_GRAD,   STN_OP_CONV_BLOCK};
    for (uint32_t k = 0; k < sizeof ops / sizeof ops[0]; k++) {
        uint32_t flags[2];
        run_poisoned(ops[k], 0, flags);
        cr_expect_eq(flags[0], 42, "operator %u: flag %u", ops[k], flags[0]); /* step 41 */
        cr_expect_eq(flags[1], 42, "operator %u: node flag %u", ops[k], flags[1]);
    }
}

Test(props, grids_are_exempt, .init = open_ref, .fini = close_ref) {
    uint32_t flags[2];
    run_poisoned(STN_OP_GRID, 0, flags);
    cr_expect_eq(flags[0], 0);
}

/* ---- a backend with a planted fault --------------------------------------------------------- */

static stn_backend faulty;
static int64_t stray;     /* byte offset from the start of output 0 that is overwritten */
static uint32_t old_flag; /* word 0 of the flags before the run */

static int32_t faulty_run(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args,
                          stn_err *err) {
    if (old_flag != 0) {
        STN_TRY(backend->fill(stream, args->flags, old_flag, 4, err));
    }
    STN_TRY(backend->op_run(stream, kernel, args, err));
    if (old_flag != 0) {
        STN_TRY(backend->fill(stream, args->flags, 0, 4, err));
    }
    if (stray == INT64_MAX) {
        return STN_OK;
    }
    stn_ref at = args->out[0];
    at.offset += (uint64_t)stray;
    return backend->fill(stream, at, 0x12345678, 4, err);
}

static void plant(int64_t at, uint32_t flag) {
    faulty = *backend;
    faulty.op_run = faulty_run;
    stray = at;
    old_flag = flag;
    ref.backend = &faulty;
}

Test(props, harness_notices_stray_writes, .init = open_ref, .fini = close_ref) {
    optest_case c = case_of(STN_OP_CONV);
    optest_result r;
    stn_err err = {0};
    const int64_t bytes = (int64_t)stn_tensor_bytes(&c.out[0]);
    const int64_t places[] = {-4, bytes, bytes + 64, -300};
    ref.apart = false;
    for (uint32_t i = 0; i < 4; i++) {
        plant(places[i], 0);
        cr_expect_eq(optest_run(&ref, &c, &r, &err), STN_E_MISMATCH, "offset %d", (int)places[i]);
        optest_free(&r);
    }
    c.count = 1; /* the last row is now past count */
    plant(bytes - 4, 0);
    cr_expect_eq(optest_run(&ref, &c, &r, &err), STN_E_MISMATCH);
    optest_free(&r);
}

Test(props, harness_notices_wrong_values, .init = open_ref, .fini = close_ref) {
    optest_case c = case_of(STN_OP_CONV);
    optest_result good, bad;
    stn_err err = {0};
    char text[256];
    must_run(&c, NULL, &good);
    plant(0, 0);
    cr_assert_eq(optest_run(&ref, &c, &bad, &err), STN_OK, "%s", err.text);
    cr_expect_not(optest_equal(&c, &good, &bad, text));
    cr_expect_not_null(strstr(text, "ulp"), "%s", text);
    optest_free(&good);
    optest_free(&bad);
}

/* Outputs of in-place operators equal their inputs when an earlier step raised the flag. */
Test(props, a_raised_flag_freezes_the_state, .init = open_ref, .fini = close_ref) {
    static const uint32_t ops[] = {STN_OP_SGD, STN_OP_ADAM, STN_OP_BN_UPDATE};
    for (uint32_t k = 0; k < 3; k++) {
        optest_case c = case_of(ops[k]);
        optest_result frozen, moved;
        plant(INT64_MAX, 7);
        must_run(&c, NULL, &frozen);
        plant(INT64_MAX, 0);
        must_run(&c, NULL, &moved);
        for (uint32_t i = 0; i < c.n_out; i++) {
            uint64_t n = optest_elems(&c.out[i]);
            float *before = malloc(n * sizeof *before);
            optest_fill(&c, (uint32_t)c.alias[i], before);
            cr_expect_eq(memcmp(before, frozen.out[i], n * sizeof *before), 0, "%s", c.name);
            cr_expect_neq(memcmp(before, moved.out[i], n * sizeof *before), 0, "%s", c.name);
            free(before);
        }
        optest_free(&frozen);
        optest_free(&moved);
    }
}

/* ---- gradients are derivatives -------------------------------------------------------------- */

/* A scalar function L of one operand, sum of gy * y over a forward pass in double. */
typedef double (*loss_fn)(const optest_case *forward, double *const *in, const float *gy);

/* Central differences of L to every element of input i against `grad`: the worst difference over
 * the largest derivative. */
static double disagreement(const optest_case *c, loss_fn loss, double *const *in, const float *gy,
                           uint32_t i, const float *grad, double step) {
    double worst = 0.0, size = 0.0;
    for (uint64_t k = 0; k < optest_elems(&c->in[i]); k++) {
        double x = in[i][k];
        in[i][k] = x + step;
        double up = loss(c, in, gy);
        in[i][k] = x - step;
        double down = loss(c, in, gy);
        in[i][k] = x;
        double derivative = (up - down) / (2.0 * step);
        worst = fmax(worst, fabs(derivative - (double)grad[k]));
        size = fmax(size, fabs(derivative));
    }
    cr_assert_gt(size, 0.0, "%s: no derivative", c->name);
    return worst / size;
}

static float *filled(const optest_case *c, uint32_t i) {
    float *data = malloc(optest_elems(&c->in[i]) * sizeof *data);
    optest_fill(c, i, data);
    return data;
}

static double *doubles(const float *x, uint64_t n) {
    double *d = malloc(n * sizeof *d);
    for (uint64_t i = 0; i < n; i++) {
        d[i] = (double)x[i];
    }
    return d;
}

static double conv_loss(const optest_case *c, double *const *in, const float *gy) {
    const uint32_t *x = c->in[0].dim, *w = c->in[1].dim, *y = c->out[0].dim;
    const stn_conv_params *p = &c->params.conv;
    double loss = 0.0;
    for (uint32_t i = 0; i < y[0] * y[1] * y[2] * y[3]; i++) {
        uint32_t ow = i % y[3], oh = i / y[3] % y[2], o = i / y[3] / y[2] % y[1];
        uint32_t n = i / y[3] / y[2] / y[1];
        for (uint32_t k = 0; k < w[1] * w[2] * w[3]; k++) {
            uint32_t ch = k / w[3] / w[2];
            int64_t h = (int64_t)oh * p->stride_h + k / w[3] % w[2] - p->pad_h;
            int64_t v = (int64_t)ow * p->stride_w + k % w[3] - p->pad_w;
            if (h >= 0 && h < x[2] && v >= 0 && v < x[3]) {
                loss += (double)gy[i] * in[1][o * w[1] * w[2] * w[3] + k] *
                        in[0][((n * x[1] + ch) * x[2] + h) * x[3] + v];
            }
        }
    }
    return loss;
}

/* Agreement reached: conv 1.0e-7, batch norm 1.2e-7, warp 7.1e-7 (coordinates are multiples of
 * 2^-20 pixel); the bounds are ten times that. */
Test(props, conv_gradients_are_derivatives, .init = open_ref, .fini = close_ref) {
    optest_case c = case_of(STN_OP_CONV), gx, gw;
    stn_tensor x = c.in[0], w = c.in[1], y = c.out[0];
    gx = case_new(STN_OP_CONV_GRAD_X, sizeof(stn_conv_params), x.dim[0]);
    gx.params.conv = c.params.conv;
    case_in(&gx, y, OPTEST_G, true);
    gw = gx;
    gw.op = STN_OP_CONV_GRAD_W;
    case_in(&gx, w, OPTEST_X, false);
    case_out(&gx, x, true);
    case_in(&gw, x, OPTEST_X, true);
    case_out(&gw, w, false);
    float *xv = filled(&c, 0), *wv = filled(&c, 1), *gy = filled(&gx, 0);
    double *in[2] = {doubles(xv, optest_elems(&x)), doubles(wv, optest_elems(&w))};
    optest_result rx, rw;
    must_run(&gx, (const void *[]){gy, wv}, &rx);
    must_run(&gw, (const void *[]){gy, xv}, &rw);
    double to_x = disagreement(&c, conv_loss, in, gy, 0, rx.out[0], 1e-3);
    double to_w = disagreement(&c, conv_loss, in, gy, 1, rw.out[0], 1e-3);
    cr_expect_lt(to_x, 1e-6, "to x: %g", to_x);
    cr_expect_lt(to_w, 1e-6, "to w: %g", to_w);
    optest_free(&rx);
    optest_free(&rw);
    free(xv), free(wv), free(gy), free(in[0]), free(in[1]);
}

static double pixel(const optest_case *c, const double *x, uint32_t n, uint32_t ch, double h,
                    double w) {
    const uint32_t *d = c->in[0].dim;
    bool inside = h >= 0 && h < d[2] && w >= 0 && w < d[3];
    return inside ? x[((n * d[1] + ch) * d[2] + (uint32_t)h) * d[3] + (uint32_t)w] : 0.0;
}

/* Bilinear, zeros outside, half-pixel corners. */
static double warp_loss(const optest_case *c, double *const *in, const float *gy) {
    const stn_warp_params *p = &c->params.warp;
    const uint32_t *y = c->out[0].dim;
    double loss = 0.0;
    for (uint32_t i = 0; i < y[0] * y[1] * y[2] * y[3]; i++) {
        uint32_t w = i % y[3], h = i / y[3] % y[2], ch = i / y[3] / y[2] % y[1];
        uint32_t n = i / y[3] / y[2] / y[1];
        const double *t = in[1] + 6 * n;
        double xt = (2.0 * w + 1.0) / p->out_w - 1.0, yt = (2.0 * h + 1.0) / p->out_h - 1.0;
        double px = ((t[0] * xt + t[1] * yt + t[2]) * p->in_w + p->in_w - 1.0) / 2.0;
        double py = ((t[3] * xt + t[4] * yt + t[5]) * p->in_h + p->in_h - 1.0) / 2.0;
        double x0 = floor(px), y0 = floor(py), fx = px - x0, fy = py - y0;
        double top =
            pixel(c, in[0], n, ch, y0, x0) * (1 - fx) + pixel(c, in[0], n, ch, y0, x0 + 1) * fx;
        double bottom = pixel(c, in[0], n, ch, y0 + 1, x0) * (1 - fx) +
                        pixel(c, in[0], n, ch, y0 + 1, x0 + 1) * fx;
        loss += (double)gy[i] * (top * (1 - fy) + bottom * fy);
    }
    return loss;
}

Test(props, warp_gradients_are_derivatives, .init = open_ref, .fini = close_ref) {
    stn_tensor x = case_tensor(2, 3, 6, 5), y = case_tensor(2, 3, 4, 7), theta = case_matrix(2, 6);
    stn_warp_params p = {sizeof p, STN_CORNERS_HALF, STN_FILTER_BILINEAR, STN_PAD_ZEROS, 6, 5, 4, 7,
                         {0}};
    optest_case c = case_new(STN_OP_WARP, sizeof p, 2), gx, gt;
    c.params.warp = p;
    c.data = OPTEST_NORMAL;
    gx = gt = c;
    gx.op = STN_OP_WARP_GRAD_X;
    gx.name[0] = 'g'; /* other data than the forward case */
    gt.op = STN_OP_WARP_GRAD_THETA;
    case_in(&c, x, OPTEST_X, true);
    case_in(&c, theta, OPTEST_THETA, true);
    case_out(&c, y, true);
    case_in(&gx, y, OPTEST_G, true);
    case_in(&gx, theta, OPTEST_THETA, true);
    case_out(&gx, x, true);
    case_in(&gt, y, OPTEST_G, true);
    case_in(&gt, x, OPTEST_X, true);
    case_in(&gt, theta, OPTEST_THETA, true);
    case_out(&gt, theta, true);
    float *xv = filled(&c, 0), *tv = filled(&c, 1), *gy = filled(&gx, 0);
    double *in[2] = {doubles(xv, optest_elems(&x)), doubles(tv, 12)};
    optest_result rx, rt;
    must_run(&gx, (const void *[]){gy, tv}, &rx);
    must_run(&gt, (const void *[]){gy, xv, tv}, &rt);
    double to_x = disagreement(&c, warp_loss, in, gy, 0, rx.out[0], 1e-3);
    double to_t = disagreement(&c, warp_loss, in, gy, 1, rt.out[0], 1e-7);
    cr_expect_lt(to_x, 7e-6, "to x: %g", to_x);
    cr_expect_lt(to_t, 7e-6, "to theta: %g", to_t);
    optest_free(&rx);
    optest_free(&rt);
    free(xv), free(tv), free(gy), free(in[0]), free(in[1]);
}

/* Batch norm with gamma and beta; inputs x gamma beta. */
static double bn_loss(const optest_case *c, double *const *in, const float *gy) {
    const uint32_t *d = c->in[0].dim;
    uint32_t plane = d[2] * d[3];
    double loss = 0.0, n = (double)d[0] * plane;
    for (uint32_t ch = 0; ch < d[1]; ch++) {
        double sum = 0.0, squares = 0.0;
        for (uint32_t i = 0; i < d[0] * plane; i++) {
            sum += in[0][(i / plane * d[1] + ch) * plane + i % plane];
        }
        for (uint32_t i = 0; i < d[0] * plane; i++) {
            double v = in[0][(i / plane * d[1] + ch) * plane + i % plane] - sum / n;
            squares += v * v;
        }
        double r = 1.0 / sqrt(squares / n + (double)c->params.bn.eps);
        for (uint32_t i = 0; i < d[0] * plane; i++) {
            uint32_t at = (i / plane * d[1] + ch) * plane + i % plane;
            double xhat = (in[0][at] - sum / n) * r;
            loss += (double)gy[at] * (in[1][ch] * xhat + in[2][ch]);
        }
    }
    return loss;
}

Test(props, batch_norm_gradients_are_derivatives, .init = open_ref, .fini = close_ref) {
    stn_tensor x = case_tensor(3, 2, 4, 3), v = case_vector(2), stats = case_matrix(3, 2);
    optest_case f = case_new(STN_OP_BN, sizeof(stn_bn_params), 3), g;
    f.params.bn =
        (stn_bn_params){sizeof(stn_bn_params), 2, 1e-5f, 0.1f, OPTEST_INV_N, OPTEST_INV_N1};
    f.scalar[OPTEST_INV_N] = (float)(1.0 / 36.0);
    f.data = OPTEST_NORMAL;
    g = f;
    g.op = STN_OP_BN_GRAD;
    g.name[0] = 'g'; /* other data than the forward case */
    case_in(&f, x, OPTEST_X, true);
    case_in(&f, v, OPTEST_X, false);
    case_in(&f, v, OPTEST_X, false);
    case_out(&f, x, true);
    case_out(&f, stats, false);
    case_in(&g, x, OPTEST_G, true);
    case_in(&g, x, OPTEST_X, true);
    case_in(&g, stats, OPTEST_POS, false);
    case_in(&g, v, OPTEST_X, false);
    case_out(&g, x, true);
    case_out(&g, v, false);
    case_out(&g, v, false);
    float *xv = filled(&f, 0), *gamma = filled(&f, 1), *beta = filled(&f, 2), *gy = filled(&g, 0);
    double *in[3] = {doubles(xv, optest_elems(&x)), doubles(gamma, 2), doubles(beta, 2)};
    optest_result r, grads;
    must_run(&f, (const void *[]){xv, gamma, beta}, &r);
    must_run(&g, (const void *[]){gy, xv, r.out[1], gamma}, &grads);
    for (uint32_t i = 0; i < 3; i++) {
        double d = disagreement(&f, bn_loss, in, gy, i, grads.out[i], 1e-4);
        cr_expect_lt(d, 1.2e-6, "input %u: %g", i, d);
    }
    for (uint32_t i = 0; i < 3; i++) {
        free(in[i]);
    }
    optest_free(&r);
    optest_free(&grads);
    free(xv), free(gamma), free(beta), free(gy);
}
