/* A model plugin to start from: a small CNN, with or without a spatial transformer.
 *
 *   stnrun train --dataset example --model example_stn --network stn --batch 64 --steps 300 \
 *       --lr 0.02 --momentum 0.9 --loc-rate 0.1
 *
 * What a model does: it declares values and layers through the builder and ends with a loss. The
 * core infers shapes, differentiates, plans memory and chooses kernels. Builder errors are sticky
 * (everything after the first does nothing and the core reports it), so nothing is checked here.
 * Parameters are named by paths: the layer "cls.conv1" has "cls.conv1.weight" and
 * "cls.conv1.bias"; using a path twice shares them. Parameters that begin with "loc" have their own
 * learning rate (loc-rate).
 */
#include <string.h>

#include <stn/model.h>

/* conv k x k without padding, relu, max-pool 2x2. */
static stn_val block(const stn_builder *b, stn_graph *g, const char *path, stn_val x, uint32_t out,
                     uint32_t k) {
    const stn_conv_spec conv = {.struct_size = (uint32_t)sizeof conv,
                                .out = out,
                                .kh = k,
                                .kw = k,
                                .stride_h = 1,
                                .stride_w = 1,
                                .bias = 1};
    x = b->conv(g, path, x, &conv);
    x = b->maxpool(g, x, 2, 2);
    return b->act(g, x, 0.0f); /* slope 0: relu */
}

/* The transform of every image: theta[N,6] = identity + what a small network says. Its last layer
 * starts at zero, so training starts without any transform. */
static stn_val localization(const stn_builder *b, stn_graph *g, stn_val x) {
    static const float identity[6] = {1, 0, 0, 0, 1, 0};
    x = b->halve(g, x); /* 28x28 to 14x14 */
    x = b->linear(g, "loc.fc1", x, 32, 1, STN_INIT_FAN_IN);
    x = b->act(g, x, 0.0f);
    x = b->linear(g, "loc.theta", x, 6, 1, STN_INIT_ZERO);
    return b->add(g, x, b->constant(g, "identity", identity, 6));
}

/* The image sampled at the affine grid of theta, at its own size. Corners and padding have no
 * hidden default: every warp says what it wants. */
static stn_val transform(const stn_builder *b, stn_graph *g, stn_val image) {
    stn_warp_params warp = {.struct_size = (uint32_t)sizeof warp,
                            .corners = STN_CORNERS_ALIGNED,
                            .filter = STN_FILTER_BILINEAR,
                            .padding = STN_PAD_BORDER};
    uint32_t dim[STN_MAX_RANK] = {0};
    b->shape(g, image, dim); /* N, C, H, W */
    warp.out_h = dim[2];
    warp.out_w = dim[3];
    stn_val theta = localization(b, g, image);
    stn_val warped = b->warp(g, image, theta, &warp);
    b->mark(g, "theta1", theta); /* names under which evaluation and figures find them */
    b->mark(g, "warped1", warped);
    return warped;
}

static int32_t build(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                     stn_err *err) {
    stn_val x = b->input(g);
    if (strcmp(request->network, "stn") == 0) {
        x = transform(b, g, x);
    } else if (strcmp(request->network, "cnn") != 0) {
        return stn_fail(err, STN_E_USAGE, "example_stn has no network '%s': use cnn or stn",
                        request->network);
    }
    x = block(b, g, "cls.conv1", x, 8, 5);  /* 28x28 to 12x12 */
    x = block(b, g, "cls.conv2", x, 16, 5); /* 12x12 to 4x4 */
    stn_val logits =
        b->linear(g, "cls.out", x, request->heads * request->classes, 1, STN_INIT_FAN_IN);
    b->mark(g, "logits", logits);
    b->loss(g, logits, request->heads, request->classes);
    return STN_OK;
}

static const stn_network_info networks[] = {{"cnn", "two convolutions and a linear layer"},
                                            {"stn", "the same behind a spatial transformer"}};

static const stn_model model = {.struct_size = (uint32_t)sizeof(stn_model),
                                .n_networks = 2,
                                .networks = networks,
                                .build = build};

static int32_t init(const stn_host *host, stn_err *err) {
    (void)host;
    (void)err;
    return STN_OK;
}

/* The one exported symbol, and the ELF note by which the program knows the plugin unloaded. */
STN_PLUGIN(STN_KIND_MODEL, "example_stn", "0.1.0", "MIT",
           "a small spatial transformer network, a plugin to start from", NULL, 0, &model, init,
           NULL);
