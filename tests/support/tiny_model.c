/* The network of tiny_model.h, and devices to run it on. */
#include "tiny_model.h"

#include <stdio.h>
#include <string.h>

#include <stn/num.h>

static const float identity[6] = {1, 0, 0, 0, 1, 0};

static stn_val block(const stn_builder *b, stn_graph *g, const char *path, stn_val x, uint32_t out,
                     uint32_t bias, uint32_t pool, float slope) {
    stn_conv_spec conv = {sizeof conv, out, 3, 3, 1, 1, 1, 1, bias};
    x = b->conv(g, path, x, &conv);
    if (pool != 0) {
        x = b->maxpool(g, x, 2, 2);
    }
    return b->act(g, x, slope);
}

static stn_val warp(const stn_builder *b, stn_graph *g, stn_val x, stn_val theta, uint32_t padding,
                    uint32_t side) {
    stn_warp_params spec = {.struct_size = sizeof spec,
                            .corners = STN_CORNERS_ALIGNED,
                            .filter = STN_FILTER_BILINEAR,
                            .padding = padding,
                            .out_h = side,
                            .out_w = side};
    return b->warp(g, x, theta, &spec);
}

static int32_t build(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                     stn_err *err) {
    (void)err;
    stn_val image = b->input(g);
    stn_val base = b->constant(g, "identity", identity, 6);
    stn_val features = block(b, g, "cls.conv1", image, 8, 1, 2, 0.0f);
    stn_val hidden = b->act(g, b->linear(g, "loc.fc1", features, 7, 1, STN_INIT_FAN_IN), 0.0f);
    stn_val theta = b->add(g, b->linear(g, "loc.theta", hidden, 6, 1, STN_INIT_ZERO), base);
    theta = b->scale_grad(g, theta, 0.5f);
    b->mark(g, "theta1", theta);
    stn_val warped = warp(b, g, image, theta, STN_PAD_BORDER, TINY_SIDE);
    stn_val again = block(b, g, "cls.conv1", warped, 8, 1, 2, 0.0f);
    stn_val normal = b->batch_norm(g, "cls.bn1", again, 1, 1e-5f, 0.1f);
    stn_val turned =
        warp(b, g, normal, b->compose(g, base, b->compose(g, theta, theta)), STN_PAD_ZEROS, 6);
    stn_val second = block(b, g, "cls.conv2", turned, 20, 0, 0, 0.25f);
    stn_val plain = b->batch_norm(g, "loc.bn", second, 0, 1e-5f, 0.2f);
    stn_val dropped = b->dropout(g, plain, 0.25);
    stn_val sum = b->add(g, b->scale(g, dropped, 0.5f), b->add(g, dropped, second));
    stn_val half = b->avgpool(g, b->halve(g, sum), 3, 1);
    b->loss(g, b->linear(g, "cls.out", half, request->heads * request->classes, 1, STN_INIT_FAN_IN),
            request->heads, request->classes);
    return STN_OK;
}

const stn_model tiny_model = {.struct_size = sizeof(stn_model), .build = build};

stn_net_spec tiny_spec(void) {
    stn_net_spec spec = {.request = {.struct_size = sizeof(stn_model_request),
                                     .channels = TINY_CHANNELS,
                                     .height = TINY_SIDE,
                                     .width = TINY_SIDE,
                                     .heads = TINY_HEADS,
                                     .classes = TINY_CLASSES,
                                     .width_factor = 1.0,
                                     .network = "tiny"},
                         .batch = TINY_BATCH,
                         .shards = 4,
                         .input_dtype = STN_U8,
                         .optimizer = STN_OPT_SGD,
                         .nesterov = 1,
                         .momentum = 0.9,
                         .weight_decay = 5e-4,
                         .beta1 = 0.9,
                         .beta2 = 0.999,
                         .eps = 1e-8,
                         .loc_rate = 0.5};
    for (uint32_t c = 0; c < STN_MAX_CHANNELS; c++) {
        spec.mul[c] = 1.0f / 128.0f;
        spec.add[c] = -1.0f;
    }
    return spec;
}

void tiny_batch(uint32_t number, uint8_t *images, int32_t *labels) {
    uint32_t stream = STN_RNG_STREAM(STN_RNG_AUGMENT, 7);
    for (uint32_t i = 0; i < TINY_BATCH * TINY_PIXELS; i++) {
        images[i] = (uint8_t)(stn_philox(1, 2, i, stream, number, 0) >> 24);
    }
    for (uint32_t i = 0; i < TINY_BATCH * TINY_HEADS; i++) {
        labels[i] = (int32_t)(stn_philox(1, 2, i, stream, number, 1) % TINY_CLASSES);
    }
}

stn_dev *tiny_cpu(stn_ctx **ctx, const char *kernels, const char *threads) {
    const char *names[] = {"cpu-kernels", "threads"};
    const char *values[] = {kernels, threads};
    stn_options options = {sizeof options, 2, names, values};
    stn_open_options open = {.plugin_path = OPTEST_PLUGIN_DIR};
    stn_dev *dev = NULL;
    stn_err err = {0};
    if (stn_open(&open, ctx, &err) != STN_OK ||
        stn_dev_open(*ctx, "cpu", NULL, &options, &dev, &err) != STN_OK) {
        (void)fprintf(stderr, "no CPU device: %s\n", err.text);
    }
    return dev;
}
