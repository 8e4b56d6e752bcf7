/* The weight gradient of a convolution of few channels over its gradients that are not zero. */
#ifndef CPU_OPS_CONV_GRAD_W_PLANAR_H
#define CPU_OPS_CONV_GRAD_W_PLANAR_H

#include "conv_grad_w.h"

/* Where a pixel of the convolution's output has its gradient and its window, in floats. */
typedef struct pixel_place {
    uint32_t flow, window;
} pixel_place;

typedef struct grad_w_planar {
    const grad_w *w;
    uint32_t words;             /* of bits of an image */
    uint32_t height;            /* kernel rows of a vector */
    uint32_t vectors;           /* of a channel's kernel, without ... */
    bool column;                /* ... the one that holds the ninth column */
    uint32_t pass;              /* vectors of one pass */
    uint32_t rows;              /* of the padded image */
    uint32_t lanes;             /* 16 / height: floats of a row in a window */
    uint64_t flow_image, image; /* floats: of gradients, of windows */
    uint64_t part_size;
    uint64_t local_bytes;
    /* Workspace */
    float *part; /* [shards][O][C][vectors + column][16] */
    char *local; /* [threads][local_bytes]: */
    /* that of one thread, of the images of a chunk */
    float *flow;        /* one block: [images][pixels][16] */
    float *windows;     /* [images][C][OW][rows][lanes] and 16 more */
    float *columns;     /* [images][C][OW][rows] and 16 more */
    uint32_t *bits;     /* one block: [images][words][16] */
    pixel_place *place; /* [images][words][GRAD_WORD] */
} grad_w_planar;

grad_w_planar ISA(planar_plan)(const grad_w *w, uint32_t threads, carver *c);
void ISA(planar_run)(grad_w_planar *p);

#endif
