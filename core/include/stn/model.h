/* Model ABI: a model plugin declares a static graph through a builder; the core does the rest.
 *
 * Builder errors are sticky: after the first one every call returns STN_NO_VALUE and does nothing,
 * and the core reports the first error with the name of the layer, so models need no checks.
 * Parameters and layers are named by dotted paths ("cls.conv1"); using a path twice shares the
 * parameters (a shared layer), and its shapes must agree.
 */
#ifndef STN_MODEL_H
#define STN_MODEL_H

#include <stn/op.h>
#include <stn/plugin.h>

typedef int32_t stn_val; /* a value of the graph */
#define STN_NO_VALUE (-1)

typedef struct stn_graph stn_graph;

typedef struct stn_conv_spec {
    uint32_t struct_size;
    uint32_t out, kh, kw, stride_h, stride_w, pad_h, pad_w;
    uint32_t bias; /* 1: with bias */
} stn_conv_spec;

/* Initial values of a parameter (contract, random kind 1). */
enum { STN_INIT_FAN_IN = 0, STN_INIT_ZERO = 1, STN_INIT_ONE = 2 };

typedef struct stn_builder {
    uint32_t struct_size;
    uint32_t reserved;
    stn_val (*input)(stn_graph *g); /* the normalised image [N,C,H,W] */
    /* Current shape of a value. */
    void (*shape)(stn_graph *g, stn_val v, uint32_t dim[STN_MAX_RANK]);
    /* A one-row constant [1,n], added or composed with every row. */
    stn_val (*constant)(stn_graph *g, const char *path, const float *data, uint32_t n);
    /* Layers with parameters path.weight and path.bias. */
    stn_val (*conv)(stn_graph *g, const char *path, stn_val x, const stn_conv_spec *spec);
    stn_val (*linear)(stn_graph *g, const char *path, stn_val x, uint32_t out, uint32_t bias,
                      uint32_t init);
    /* Batch norm with running statistics path.running_mean, path.running_var; affine adds
     * path.weight (1) and path.bias (0). */
    stn_val (*batch_norm)(stn_graph *g, const char *path, stn_val x, uint32_t affine, float eps,
                          float momentum);
    stn_val (*maxpool)(stn_graph *g, stn_val x, uint32_t window, uint32_t stride);
    stn_val (*avgpool)(stn_graph *g, stn_val x, uint32_t window, uint32_t stride);
    stn_val (*act)(stn_graph *g, stn_val x, float slope);  /* 0: relu */
    stn_val (*dropout)(stn_graph *g, stn_val x, double p); /* identity in evaluation and if p = 0 */
    stn_val (*halve)(stn_graph *g, stn_val x);             /* 2x2 means */
    stn_val (*add)(stn_graph *g, stn_val a, stn_val b);    /* b may have one row */
    stn_val (*scale)(stn_graph *g, stn_val x, float factor);
    /* Passes x forward; multiplies its gradient. */
    stn_val (*scale_grad)(stn_graph *g, stn_val x, float factor);
    /* Spatial transformer: warp = affine grid + sampler. spec->in_h, in_w are filled by the core.
     */
    stn_val (*warp)(stn_graph *g, stn_val x, stn_val theta, const stn_warp_params *spec);
    stn_val (*compose)(stn_graph *g, stn_val a, stn_val b);
    /* Makes a value observable by name (evaluation, figures, compare): "theta1", "warped1" ... */
    void (*mark)(stn_graph *g, const char *name, stn_val v);
    /* Ends the graph: logits [N, heads*classes] against the dataset's labels. */
    void (*loss)(stn_graph *g, stn_val logits, uint32_t heads, uint32_t classes);
    /* Reports a model error (sticky). */
    void (*fail)(stn_graph *g, const char *text);
} stn_builder;

/* What the model is asked to build. */
typedef struct stn_model_request {
    uint32_t struct_size;
    uint32_t channels, height, width;
    uint32_t heads, classes;
    double width_factor; /* multiplies channel and hidden widths; 1 = the study */
    const char *network; /* "sl1" */
    const char *variant; /* of the dataset: "rotate", "scale", "translate", "none" */
    stn_options options; /* padding, st_bn, ... */
} stn_model_request;

typedef struct stn_network_info {
    const char *name, *help;
} stn_network_info;

typedef struct stn_model {
    uint32_t struct_size;
    uint32_t n_networks;
    const stn_network_info *networks;
    int32_t (*build)(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                     stn_err *err); /* [required] */
} stn_model;

#endif
