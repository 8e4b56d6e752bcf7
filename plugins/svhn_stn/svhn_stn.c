/* Model plugin svhn_stn: the networks of the study on street view house numbers, 64x64.
 *
 * Eight blocks of conv 5x5, relu, dropout 0.5 (not in block 1), every second with a pool, then
 * three hidden linear layers and the heads. Default padding of the warps: zeros.
 */
#include "stn_nets.h"

#define COUNT(a) ((uint32_t)(sizeof(a) / sizeof((a)[0])))

static const nets_block blocks[] = {{48, 5, 2, 2, 0.0},  {64, 5, 2, 0, 0.5},  {128, 5, 2, 2, 0.5},
                                    {160, 5, 2, 0, 0.5}, {192, 5, 2, 2, 0.5}, {192, 5, 2, 0, 0.5},
                                    {192, 5, 2, 2, 0.5}, {192, 5, 2, 0, 0.5}};
static const uint32_t hidden[] = {3072, 3072, 3072};

static const nets_layer small[] = {
    {.kind = NETS_FC, .out = 32}, {.kind = NETS_FC, .out = 32}, {.kind = NETS_END}};
static const nets_layer large[] = {{NETS_CONV, 32, 5, 2, 2},
                                   {NETS_CONV, 32, 5, 2, 0},
                                   {.kind = NETS_FC, .out = 32},
                                   {.kind = NETS_FC, .out = 32},
                                   {.kind = NETS_END}};
static const nets_loc locs[] = {{"c0_large", large}, {"", small}};

static const nets_family family = {.variant = "none",
                                   .padding = "zeros",
                                   .blocks = blocks,
                                   .n_blocks = COUNT(blocks),
                                   .fc = hidden,
                                   .n_fc = COUNT(hidden),
                                   .locs = locs,
                                   .n_locs = COUNT(locs),
                                   .drop_fc = 0.5};

static const stn_network_info networks[] = {
    {"cnn", "plain CNN, no transformer"},
    {"c0", "transformer on the image"},
    {"c0_large", "c0 with a convolutional localization net"},
    {"c3", "transformer on the features after block 3"},
    {"sl3", "warps the image; localization behind the classifier's first 3 blocks"},
    {"dl3", "warps the image; localization behind its own copy of 3 blocks"},
    {"c6", "as c3 after block 6"},
    {"sl6", "as sl3 with 6 blocks"},
    {"dl6", "as dl3 with 6 blocks"},
    {"c8", "as c3 after block 8"},
    {"sl8", "as sl3 with 8 blocks"},
    {"dl8", "as dl3 with 8 blocks"},
    {"c0123", "one transformer on each of the maps 0 to 3"},
    {"sl0123", "four warps of the image, localizations behind 0 to 3 shared blocks"},
    {"sl3x2", "sl3, its transformer applied twice"},
    {"sl6x2", "sl6, its transformer applied twice"}};

static const stn_option_info options[] = {NETS_OPTION_PADDING("zeros"), NETS_OPTION_BACKGROUND,
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

STN_PLUGIN(STN_KIND_MODEL, "svhn_stn", "0.1.0", "MIT", "spatial transformer networks for SVHN",
           options, COUNT(options), &model, init, NULL);
