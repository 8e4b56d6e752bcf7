/* Model plugin mnist_stn: the networks of the study on distorted MNIST.
 *
 * Classifier: conv 9x9 64, pool, relu, conv 7x7 64, pool, relu, linear. The variant (rotate 28x28,
 * scale 112x112, translate 60x60; none as rotate) chooses the localization nets; translate samples
 * at half size. Parameter names and counts: see stn_nets.h and tests/unit/test_models.c.
 */
#include "stn_nets.h"

#include <string.h>

#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))

static const nets_block blocks[] = {{64, 9, 0, 2, 0.0}, {64, 7, 0, 2, 0.0}};

/* Fully connected: rotate. */
static const nets_layer fcn[] = {{.kind = NETS_FC, .out = 32},
                                 {.kind = NETS_FC, .out = 32},
                                 {.kind = NETS_FC, .out = 32},
                                 {.kind = NETS_END}};
/* Jaderberg's convolutional localization of a 28x28 image: 28, 14, 10, 5, 1. */
static const nets_layer cnnloc[] = {{.kind = NETS_HALVE},
                                    {NETS_CONV, 20, 5, 0, 2},
                                    {NETS_CONV, 20, 5, 0, 0},
                                    {.kind = NETS_FC, .out = 20},
                                    {.kind = NETS_END}};
/* Two convolutions, each with a pool; on 112x112 behind a halving. */
static const nets_layer cnn_mp[] = {{NETS_CONV, 20, 5, 0, 2},
                                    {NETS_CONV, 20, 5, 0, 2},
                                    {.kind = NETS_FC, .out = 20},
                                    {.kind = NETS_END}};
static const nets_layer halved_cnn_mp[] = {{.kind = NETS_HALVE},
                                           {NETS_CONV, 20, 5, 0, 2},
                                           {NETS_CONV, 20, 5, 0, 2},
                                           {.kind = NETS_FC, .out = 20},
                                           {.kind = NETS_END}};
/* The same for maps of side 26, too small for the second pool. */
static const nets_layer cnn_t[] = {{NETS_CONV, 20, 5, 0, 2},
                                   {NETS_CONV, 20, 5, 0, 0},
                                   {.kind = NETS_FC, .out = 20},
                                   {.kind = NETS_END}};

static const nets_loc rotate_locs[] = {{"c0_cnnloc", cnnloc}, {"", fcn}};
static const nets_loc scale_locs[] = {{"c0", halved_cnn_mp}, {"", cnn_mp}};
static const nets_loc translate_locs[] = {{"c0", cnn_mp}, {"", cnn_t}};

#define FAMILY(variant_, locs_, half_)                                                             \
    {                                                                                              \
        .variant = variant_, .padding = "border", .blocks = blocks, .n_blocks = COUNT(blocks),     \
        .locs = locs_, .n_locs = COUNT(locs_), .half = half_                                       \
    }
static const nets_family families[] = {
    FAMILY("rotate", rotate_locs, 0), FAMILY("none", rotate_locs, 0),
    FAMILY("scale", scale_locs, 0), FAMILY("translate", translate_locs, 1)};

static const stn_network_info networks[] = {
    {"cnn", "plain CNN, no transformer"},
    {"c0", "transformer on the image"},
    {"c0_cnnloc", "c0 with a convolutional localization net (rotate, none)"},
    {"c1", "transformer on the features after block 1"},
    {"dl1", "warps the image; localization behind its own copy of block 1"},
    {"sl1", "warps the image; localization behind the classifier's block 1"}};

static const stn_option_info options[] = {NETS_OPTION_PADDING("border"), NETS_OPTION_BACKGROUND,
                                          NETS_OPTION_ST_BN};

static int32_t build(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                     stn_err *err) {
    const char *variant = request->variant != NULL ? request->variant : "none";
    for (uint32_t i = 0; i < COUNT(families); i++) {
        if (strcmp(families[i].variant, variant) == 0) {
            return nets_build(b, g, request, &families[i], err);
        }
    }
    return stn_fail(err, STN_E_USAGE,
                    "model mnist_stn has no variant '%s': use none, rotate, scale or translate",
                    variant);
}

static const stn_model model = {.struct_size = (uint32_t)sizeof(stn_model),
                                .n_networks = COUNT(networks),
                                .networks = networks,
                                .build = build};

static int32_t init(const stn_host *host, stn_err *err) {
    (void)host;
    (void)err;
    return STN_OK;
}

STN_PLUGIN(STN_KIND_MODEL, "mnist_stn", "0.1.0", "MIT", "spatial transformer networks for MNIST",
           options, COUNT(options), &model, init, NULL);
