/* Model plugin plankton_stn: the networks of the study on plankton images, 95x95.
 *
 * Ten blocks of conv 3x3 and leaky relu, four of them with a pool 3x3 stride 2 (95, 47, 23, 11, 5),
 * then two hidden linear layers, dropout 0.5 before each linear layer.
 */
#include "stn_nets.h"

#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))

static const nets_block blocks[] = {{32, 3, 1, 0, 0.0},  {32, 3, 1, 3, 0.0},  {64, 3, 1, 0, 0.0},
                                    {64, 3, 1, 3, 0.0},  {128, 3, 1, 0, 0.0}, {128, 3, 1, 0, 0.0},
                                    {128, 3, 1, 3, 0.0}, {256, 3, 1, 0, 0.0}, {256, 3, 1, 0, 0.0},
                                    {256, 3, 1, 3, 0.0}};
static const uint32_t hidden[] = {512, 512};

static const nets_layer fc64[] = {
    {.kind = NETS_FC, .out = 64}, {.kind = NETS_FC, .out = 64}, {.kind = NETS_END}};
static const nets_layer large[] = {{NETS_CONV, 32, 3, 1, 3},
                                   {NETS_CONV, 32, 3, 1, 3},
                                   {.kind = NETS_FC, .out = 32},
                                   {.kind = NETS_FC, .out = 32},
                                   {.kind = NETS_END}};
static const nets_loc locs[] = {{"c0_large", large}, {"", fc64}};

static const nets_family family = {.variant = "none",
                                   .padding = "border",
                                   .blocks = blocks,
                                   .n_blocks = COUNT(blocks),
                                   .fc = hidden,
                                   .n_fc = COUNT(hidden),
                                   .locs = locs,
                                   .n_locs = COUNT(locs),
                                   .slope = 0x1.555556p-2f, /* 1/3 */
                                   .drop_in = 0.5,
                                   .drop_fc = 0.5};

static const stn_network_info networks[] = {
    {"cnn", "plain CNN, no transformer"},
    {"c0", "transformer on the image"},
    {"c0_large", "c0 with a convolutional localization net"},
    {"c2", "transformer on the features after layer 2"},
    {"sl2", "warps the image; localization behind the classifier's first 2 layers"},
    {"dl2", "warps the image; localization behind its own copy of 2 layers"},
    {"c4", "as c2 after layer 4"},
    {"sl4", "as sl2 with 4 layers"},
    {"dl4", "as dl2 with 4 layers"},
    {"c7", "as c2 after layer 7"},
    {"sl7", "as sl2 with 7 layers"},
    {"dl7", "as dl2 with 7 layers"},
    {"c10", "as c2 after layer 10"},
    {"sl10", "as sl2 with 10 layers"},
    {"dl10", "as dl2 with 10 layers"}};

static const stn_option_info options[] = {NETS_OPTION_PADDING("border"), NETS_OPTION_BACKGROUND,
                                          NETS_OPTION_ST_BN, NETS_OPTION_DROPOUT};

static int32_t build(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                     stn_err *err) {
    return nets_build(b, g, request, &family, err);
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

STN_PLUGIN(STN_KIND_MODEL, "plankton_stn", "0.1.0", "MIT",
           "spatial transformer networks for plankton images", options, COUNT(options), &model,
           init, NULL);
