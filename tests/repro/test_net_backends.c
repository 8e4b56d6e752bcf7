/* The same training, to the bit, on the CPU reference, the fast CPU kernels and OpenCL (both device
 * classes), with several threads, fused and unfused. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "graph/net.h"
#include "tiny_model.h"

enum { STEPS = 3 };

static stn_err err;

/* One way to run: a backend with its options. */
typedef struct way {
    const char *backend, *option, *value;
    bool no_fusion;
} way;

static const way ways[] = {
    {"cpu", "cpu-kernels", "ref", false},
    {"cpu", "cpu-kernels", "ref", true},
    {"cpu", "cpu-kernels", "portable", false},
    {"cpu", "cpu-kernels", "auto", false},
    {"cpu", "cpu-kernels", "auto", true},
    {"cpu", "threads", "7", false},
    {"opencl", "device-class", "cpu-vector", false},
    {"opencl", "device-class", "cpu-vector", true},
    {"opencl", "device-class", "gpu", false},
    {"opencl", "device-class", "gpu", true},
};

static stn_dev *open_way(const way *w, stn_ctx **ctx) {
    stn_options options = {sizeof options, 1, &w->option, &w->value};
    stn_open_options open = {.plugin_path = STN_TEST_PLUGIN_DIR};
    stn_dev *dev = NULL;
    cr_assert_eq(stn_open(&open, ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(*ctx, w->backend, NULL, &options, &dev, &err), STN_OK, "%s %s: %s",
                 w->backend, w->value, err.text);
    return dev;
}

/* All state, in canonical order, after STEPS steps, the last one short. To be freed. */
static float *train(const way *w, const char *network, stn_net_spec spec, uint64_t *elems) {
    static uint8_t images[3 * TINY_BATCH * TINY_PIXELS];
    int32_t labels[TINY_BATCH * TINY_HEADS];
    stn_ctx *ctx = NULL;
    stn_dev *dev = open_way(w, &ctx);
    stn_net *net = NULL;
    spec.no_fusion = w->no_fusion;
    int32_t status = network == NULL ? stn__net_open(dev, &tiny_model, &spec, &net, &err)
                                     : stn_net_open(ctx, dev, &spec, &net, &err);
    cr_assert_eq(status, STN_OK, "%s %s: %s", w->backend, w->value, err.text);
    cr_assert_eq(stn_net_init(net, 3, &err), STN_OK, "%s", err.text);
    stn_step_result results[STEPS];
    uint32_t n;
    for (uint32_t i = 0; i < STEPS; i++) {
        for (uint32_t part = 0; part < 3; part++) { /* three tiny batches fill six 28x28 images */
            uint32_t at = part * TINY_BATCH * TINY_PIXELS;
            tiny_batch(i + 100 * part, images + at, labels);
        }
        uint32_t count = i + 1 == STEPS ? TINY_BATCH - 2 : TINY_BATCH;
        stn_net_step_args args = {images, labels, count, 0.05, i, 11};
        cr_assert_eq(stn_net_train_step(net, &args, &err), STN_OK, "%s", err.text);
    }
    cr_assert_eq(stn_net_collect(net, results, &n, NULL, &err), STN_OK, "%s %s: %s", w->backend,
                 w->value, err.text);
    float *all = NULL;
    *elems = 0;
    for (uint32_t i = 0; i < stn_net_state_count(net); i++) {
        stn_state_info info;
        cr_assert_eq(stn_net_state_get(net, i, &info), STN_OK);
        all = realloc(all, (*elems + info.elems) * sizeof *all);
        cr_assert_eq(stn_net_state_read(net, i, all + *elems, &err), STN_OK, "%s", err.text);
        *elems += info.elems;
    }
    stn_net_close(net);
    stn_dev_close(dev);
    stn_close(ctx);
    return all;
}

static void check_ways(const char *network, const stn_net_spec *spec) {
    uint64_t n, m;
    float *want = train(&ways[0], network, *spec, &n);
    for (uint32_t i = 1; i < sizeof ways / sizeof ways[0]; i++) {
        float *got = train(&ways[i], network, *spec, &m);
        cr_assert_eq(n, m);
        cr_expect_eq(memcmp(want, got, n * sizeof *want), 0, "%s: %s %s%s differs", network,
                     ways[i].backend, ways[i].value, ways[i].no_fusion ? " unfused" : "");
        free(got);
    }
    free(want);
}

Test(net_backends, tiny_sgd) {
    stn_net_spec spec = tiny_spec();
    check_ways(NULL, &spec);
}

Test(net_backends, tiny_adam) {
    stn_net_spec spec = tiny_spec();
    spec.optimizer = STN_OPT_ADAM;
    check_ways(NULL, &spec);
}

/* A narrow network of the study. */
static void check_mnist(const char *network) {
    stn_net_spec spec = tiny_spec();
    spec.model = "mnist_stn";
    spec.request.channels = 1;
    spec.request.height = spec.request.width = 28;
    spec.request.heads = 1;
    spec.request.classes = TINY_CLASSES;
    spec.request.width_factor = 0.2;
    spec.request.network = network;
    spec.request.variant = "rotate";
    spec.request.options.struct_size = sizeof(stn_options);
    check_ways(network, &spec);
}

Test(net_backends, sl1) {
    check_mnist("sl1");
}

Test(net_backends, c1) {
    check_mnist("c1");
}
