/* Networks of the STN study, described by tables and declared by one walker.
 *
 * A family (one per data set and variant) lists the classifier's blocks and the layers of its
 * localization nets. The network's name says the rest:
 *
 *   cnn          no transformer
 *   c<X>         the map after X conv blocks is warped; the localization sees that map
 *   sl<X>        the image is warped; the localization sees X blocks of the classifier (shared)
 *   dl<X>        the image is warped; the localization sees its own copy of X blocks
 *   several digits: one transformer per depth ("0123"; "10" is depth ten)
 *   x<N>         the same transformer N times      _<suffix>   another localization net
 *
 * Parameter names: cls.conv<k>, cls.fc<k>, cls.out; loc.conv<k>, loc.fc<k>, loc.theta,
 * loc.copy.conv<k>; loc<X>.* where there are several localization nets. Marks: theta<i> (the matrix
 * applied at step i, composed where the network composes), warped<i>, logits.
 */
#ifndef STN_NETS_H
#define STN_NETS_H

#include <stdbool.h>

#include <stn/model.h>

/* Convolution k x k, then max-pool pool x pool with stride 2 (0: none), activation, dropout. */
typedef struct nets_block {
    uint32_t out, kernel, pad, pool;
    double dropout;
} nets_block;

/* Localization layers: 2x2 means; conv + pool + relu; linear + relu. A last linear layer to the six
 * numbers of theta follows and is not listed. */
enum { NETS_END = 0, NETS_HALVE, NETS_CONV, NETS_FC };

typedef struct nets_layer {
    uint32_t kind, out, kernel, pad, pool;
} nets_layer;

/* The localization net of one network, or of every network without suffix (name ""). */
typedef struct nets_loc {
    const char *network;
    const nets_layer *layers; /* ended by NETS_END */
} nets_loc;

typedef struct nets_family {
    const char *variant; /* for messages */
    const char *padding; /* default of the option */
    const nets_block *blocks;
    const uint32_t *fc; /* hidden linear layers of the classifier */
    const nets_loc *locs;
    uint32_t n_blocks, n_fc, n_locs;
    uint32_t half; /* 1: a warp halves the size of what it samples */
    float slope;   /* of the classifier's activation */
    double drop_in, drop_fc;
} nets_family;

/* Declares request->network. Errors of shape and memory are the builder's (sticky); returned are
 * E_USAGE for an unknown name or option value and E_UNSUPPORTED for a network that the family does
 * not define. */
int32_t nets_build(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                   const nets_family *family, stn_err *err);

/* Options that nets_build understands; the default padding differs between the data sets. */
#define NETS_OPTION_PADDING(default_)                                                              \
    {                                                                                              \
        "padding", "choice:zeros,border,reflection,background", "", default_,                      \
            "what a warp sees outside the map it samples"                                          \
    }
#define NETS_OPTION_BACKGROUND                                                                     \
    {                                                                                              \
        "background", "float", "", "0",                                                            \
            "value outside the map with padding = background (after normalisation)"                \
    }
#define NETS_OPTION_ST_BN                                                                          \
    { "st_bn", "bool", "", "false", "batch norm without affine parameters after every warp" }
#define NETS_OPTION_DROPOUT                                                                        \
    { "dropout", "bool", "", "true", "the dropout of the study; false leaves it out" }

#endif
