/* stn_op_exec on the CPU backend equals the guarded runs of the operator table. */
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "optest.h"

static stn_ctx *ctx;
static stn_dev *dev;

static void open_all(void) {
    static const char *const names[] = {"cpu-kernels"}, *const values[] = {"ref"};
    stn_options options = {sizeof options, 1, names, values};
    stn_open_options open = {.plugin_path = STN_TEST_PLUGIN_DIR};
    stn_err err = {0};
    cr_assert_eq(stn_open(&open, &ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(ctx, "cpu", NULL, &options, &dev, &err), STN_OK, "%s", err.text);
}

static void close_all(void) {
    stn_dev_close(dev);
    stn_close(ctx);
}

static stn_step step_of(const optest_case *c) {
    return (stn_step){.struct_size = sizeof(stn_step),
                      .count = c->count,
                      .step = 41,
                      .seed = UINT64_C(0x123456789abcdef),
                      .n_scalars = OPTEST_SLOTS,
                      .scalar = c->scalar};
}

static stn_op_desc desc_of(const optest_case *c) {
    return (stn_op_desc){sizeof(stn_op_desc), c->op, c->n_in, c->n_out, &c->params, c->in, c->out};
}

Test(op_exec, equals_the_guarded_run, .init = open_all, .fini = close_all) {
    optest_filter filter = {.data = OPTEST_NORMAL, .layout = OPTEST_NCHW, .tiny = true};
    optest_dev direct = {.backend = stn_dev_backend(dev), .device = stn_dev_handle(dev)};
    stn_err err = {0};
    cr_assert_eq(direct.backend->stream_open(direct.device, &direct.stream, &err), STN_OK);
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL;) {
        void *in[STN_MAX_IN], *out[STN_MAX_OUT];
        optest_result expected, got = {{NULL}, {0, 0}};
        char text[256];
        for (uint32_t i = 0; i < c->n_in; i++) {
            in[i] = malloc(optest_elems(&c->in[i]) * 4);
            optest_fill(c, i, in[i]);
        }
        for (uint32_t i = 0; i < c->n_out; i++) {
            got.out[i] = out[i] = malloc(optest_elems(&c->out[i]) * 4);
        }
        stn_step step = step_of(c);
        stn_op_desc desc = desc_of(c);
        cr_assert_eq(stn_op_exec(dev, &desc, (const void *const *)in, out, &step, &err), STN_OK,
                     "%s: %s", c->name, err.text);
        cr_assert_eq(optest_run(&direct, c, &expected, &err), STN_OK, "%s: %s", c->name, err.text);
        cr_assert(optest_equal(c, &expected, &got, text), "%s: %s", c->name, text);
        optest_free(&expected);
        optest_free(&got);
        for (uint32_t i = 0; i < c->n_in; i++) {
            free(in[i]);
        }
    }
    direct.backend->stream_close(direct.stream);
}

Test(op_exec, refusals, .init = open_all, .fini = close_all) {
    stn_act_params p = {sizeof p, 0.0f};
    stn_tensor in = {STN_F32, STN_NCHW, 2, {1, 2, 1, 1}},
               out = {STN_F32, STN_NCHW, 2, {1, 3, 1, 1}};
    float x[2] = {1.0f, INFINITY}, y[3];
    const void *inputs[] = {x};
    void *outputs[] = {y};
    stn_step step = {.struct_size = sizeof step, .count = 1};
    stn_op_desc desc = {sizeof desc, STN_OP_ACT, 1, 1, &p, &in, &out};
    stn_err err = {0};
    cr_assert_eq(stn_op_exec(dev, &desc, inputs, outputs, &step, &err), STN_E_USAGE);
    cr_assert_not_null(strstr(err.text, "another type or shape"), "%s", err.text);
    out.dim[1] = 2;
    cr_assert_eq(stn_op_exec(dev, &desc, inputs, outputs, &step, &err), STN_E_NONFINITE);
    cr_assert_eq(y[0], 1.0f);
    cr_assert_eq(y[1], INFINITY);
    desc.n_out = 2;
    cr_assert_eq(stn_op_exec(dev, &desc, inputs, outputs, &step, &err), STN_E_USAGE);
}
