/* A small network that uses every kind of layer and every difficulty of the graph: a layer used
 * twice, values used several times, blocks with and without pool and bias, warps of the image and
 * of features, composition, batch norm with and without affine, dropout, several heads. */
#ifndef TINY_MODEL_H
#define TINY_MODEL_H

#include <stn/stn.h>

enum {
    TINY_BATCH = 6,
    TINY_CHANNELS = 2,
    TINY_SIDE = 12,
    TINY_HEADS = 2,
    TINY_CLASSES = 5,
    TINY_PIXELS = TINY_CHANNELS * TINY_SIDE * TINY_SIDE,
};

extern const stn_model tiny_model;

/* SGD with momentum, Nesterov and weight decay, 4 shards, u8 pixels. */
stn_net_spec tiny_spec(void);
/* Fills a batch with reproducible pixels and labels. */
void tiny_batch(uint32_t number, uint8_t *images, int32_t *labels);
/* Opens the CPU backend of the build tree with a kernel set ("ref", "auto"). Fails the test if
 * that does not work. close: device, then context. */
stn_dev *tiny_cpu(stn_ctx **ctx, const char *kernels, const char *threads);

#endif
