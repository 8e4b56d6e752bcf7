/* math=fast on OpenCL: products by CLBlast stay close to the scalar reference, keep their class and
 * flags, and say that they are not exact; whatever does not use them is exact.
 *
 * Both kernel classes share the same code; the default class of the device is tested.
 */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optest.h"
#include "optest_cases.h"

/* Largest distance measured over the table: 2.8e-6 (3136 terms, untuned kernels on PoCL); tuned
 * kernels sum in other orders. */
#define TOLERANCE 1e-5

static optest_dev ref, fast;

static void open_backend(const char *name, const char *const *options, optest_dev *dev) {
    const stn_backend *backend = NULL;
    stn_err err = {0};
    char path[512];
    cr_assert_eq(optest_load(optest_plugin_path(name, path, sizeof path), &backend, &err), STN_OK,
                 "%s", err.text);
    cr_assert_eq(optest_open(backend, 0, options, dev, &err), STN_OK, "%s", err.text);
}

static void open_both(void) {
    const char *const ref_options[] = {"cpu-kernels", "ref", "threads", "1", NULL};
    const char *const fast_options[] = {"math", "fast", NULL};
    open_backend("cpu", ref_options, &ref);
    open_backend("opencl", fast_options, &fast);
}

static void close_both(void) {
    optest_close(&ref);
    optest_close(&fast);
}

static stn_support ask(const optest_case *c) {
    stn_support support = {.struct_size = sizeof support};
    stn_err err = {0};
    stn_op_desc desc = {sizeof desc, c->op, c->n_in, c->n_out, &c->params, c->in, c->out};
    cr_assert_eq(fast.backend->op_query(fast.device, &desc, &support, &err), STN_OK, "%s",
                 err.text);
    return support;
}

/* max |a - b| / max |a| over the real rows of output 0. */
static double distance(const optest_case *c, const optest_result *a, const optest_result *b,
                       float limit) {
    const float *x = a->out[0], *y = b->out[0];
    uint64_t n = optest_elems(&c->out[0]);
    double gap = 0, top = 0;
    if (c->batched_out & 1u) {
        n = n / c->out[0].dim[0] * c->count;
    }
    for (uint64_t i = 0; i < n; i++) {
        gap = fmax(gap, fabs((double)x[i] - (double)y[i]));
        top = fmax(top, fabs((double)x[i]));
        cr_assert(y[i] == 0.0f ? !signbit(y[i]) : fabsf(y[i]) >= limit,
                  "%s: %a is not in its class", c->name, (double)y[i]);
    }
    return top > 0 ? gap / top : gap;
}

/* Runs a case on both; its distance. */
static double compare(const optest_case *c, float limit) {
    optest_result a, b;
    stn_err err = {0};
    cr_assert_eq(optest_run(&ref, c, &a, &err), STN_OK, "%s: %s", c->name, err.text);
    cr_assert_eq(optest_run(&fast, c, &b, &err), STN_OK, "%s: %s", c->name, err.text);
    double d = distance(c, &a, &b, limit);
    cr_assert_eq(b.flags[0], a.flags[0], "%s: other flags", c->name);
    optest_free(&a);
    optest_free(&b);
    return d;
}

/* Every case of `op` with benign data, against the reference; the worst distance. */
static double worst_of(uint32_t op, float limit, uint32_t *run) {
    optest_filter filter = {.op = op, .data = OPTEST_NORMAL, .layout = OPTEST_NCHW};
    double worst = 0;
    for (const optest_case *c = optest_next(NULL, &filter); c != NULL;
         c = optest_next(c, &filter)) {
        stn_support support = ask(c);
        cr_assert_eq(support.level, 1, "%s is not offered", c->name);
        cr_assert_eq(support.exact, 0, "%s claims to be exact", c->name);
        double d = compare(c, limit);
        if (d > worst) {
            worst = d;
            fprintf(stderr, "%s: %.3g\n", c->name, d);
        }
        (*run)++;
    }
    return worst;
}

Test(opencl_fast, products, .init = open_both, .fini = close_both, .timeout = 900) {
    static const struct {
        uint32_t op;
        bool gradient;
    } ops[] = {{STN_OP_LINEAR, false}, {STN_OP_LINEAR_GRAD_X, true}, {STN_OP_LINEAR_GRAD_W, true},
               {STN_OP_CONV, false},   {STN_OP_CONV_GRAD_X, true},   {STN_OP_CONV_GRAD_W, true}};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        uint32_t run = 0;
        double d = worst_of(ops[i].op, ops[i].gradient ? 0x1p-50f : 0x1p-30f, &run);
        fprintf(stderr, "operator %u: %u cases, worst %.3g\n", ops[i].op, run, d);
        cr_assert_gt(run, 0);
        cr_assert_lt(d, TOLERANCE);
    }
}

/* A convolution whose batch takes several chunks: patches of 144 x 2304 floats an image, 12 images
 * in 2^22 floats; 27 of 30 rows are real. */
static optest_case large_conv(uint32_t op) {
    optest_case c = case_new(op, sizeof(stn_conv_params), 27);
    stn_tensor x = case_tensor(30, 16, 48, 48), y = case_tensor(30, 2, 48, 48);
    stn_tensor w = case_tensor(2, 16, 3, 3);
    bool to_x = op == STN_OP_CONV_GRAD_X, to_w = op == STN_OP_CONV_GRAD_W;
    c.params.conv = (stn_conv_params){sizeof(stn_conv_params), 1, 1, 1, 1, 16};
    (void)snprintf(c.name, sizeof c.name, "operator %u in chunks", op);
    case_in(&c, op == STN_OP_CONV ? x : y, op == STN_OP_CONV ? OPTEST_X : OPTEST_G, true);
    case_in(&c, to_w ? x : w, OPTEST_X, to_w);
    case_out(&c, to_x ? x : to_w ? w : y, !to_w);
    c.data = OPTEST_NORMAL;
    c.layout = OPTEST_NCHW;
    return c;
}

Test(opencl_fast, chunks, .init = open_both, .fini = close_both, .timeout = 900) {
    static const uint32_t ops[] = {STN_OP_CONV, STN_OP_CONV_GRAD_X, STN_OP_CONV_GRAD_W};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        optest_case c = large_conv(ops[i]);
        double d = compare(&c, i == 0 ? 0x1p-30f : 0x1p-50f);
        fprintf(stderr, "%s: %.3g\n", c.name, d);
        cr_assert_lt(d, TOLERANCE);
    }
}

/* An overflow in a product raises the flags of its step and node, as everywhere. */
Test(opencl_fast, overflow_is_flagged, .init = open_both, .fini = close_both) {
    static const uint32_t ops[] = {STN_OP_LINEAR, STN_OP_LINEAR_GRAD_X, STN_OP_LINEAR_GRAD_W,
                                   STN_OP_CONV,   STN_OP_CONV_GRAD_X,   STN_OP_CONV_GRAD_W};
    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        optest_filter filter = {
            .op = ops[i], .data = OPTEST_NORMAL, .layout = OPTEST_NCHW, .tiny = true};
        const optest_case *c = optest_next(NULL, &filter);
        const void *in[STN_MAX_IN] = {NULL};
        optest_result result;
        stn_err err = {0};
        uint64_t n = optest_elems(&c->in[0]), m = optest_elems(&c->in[1]);
        float *huge = malloc((n > m ? n : m) * sizeof *huge);
        cr_assert_not_null(huge);
        for (uint64_t e = 0; e < (n > m ? n : m); e++) {
            huge[e] = 0x1p100f;
        }
        in[0] = in[1] = huge;
        cr_assert_eq(optest_run_data(&fast, c, in, &result, &err), STN_OK, "%s", err.text);
        cr_assert_neq(result.flags[0], 0, "%s: no flag of the step", c->name);
        cr_assert_neq(result.flags[1], 0, "%s: no flag of the node", c->name);
        optest_free(&result);
        free(huge);
    }
}

static bool product(uint32_t op) {
    return op >= STN_OP_CONV && op <= STN_OP_LINEAR_GRAD_W;
}

static bool block_of_products(uint32_t op) {
    return op >= STN_OP_CONV_BLOCK && op <= STN_OP_LINEAR_BLOCK_GRAD;
}

/* Blocks and private layouts of products are left to their parts; all else stays exact. */
Test(opencl_fast, everything_else_is_exact, .init = open_both, .fini = close_both) {
    optest_filter filter = {.data = OPTEST_NORMAL};
    uint32_t products = 0, others = 0;
    for (const optest_case *c = optest_next(NULL, &filter); c != NULL;
         c = optest_next(c, &filter)) {
        stn_support support = ask(c);
        if (block_of_products(c->op)) {
            cr_assert_eq(support.level, 0, "%s is offered", c->name);
        } else if (product(c->op)) {
            cr_assert_eq(support.level, c->layout == OPTEST_NCHW, "%s", c->name);
            products++;
        } else if (support.level != 0) {
            cr_assert_eq(support.exact, 1, "%s is not exact", c->name);
            others++;
        }
    }
    cr_assert_gt(products, 0);
    cr_assert_gt(others, 0);
}
