/* The input gradient of a convolution over all its terms. */
#ifndef CPU_OPS_CONV_GRAD_X_DENSE_H
#define CPU_OPS_CONV_GRAD_X_DENSE_H

#include "conv_forward.h"
#include "gradient.h"

typedef struct dense {
    forward f; /* the convolution from framed gradients to inputs */
    conv_geom g;
    float *gz, *frames; /* workspace, per thread: one block; the images of a unit */
    grad_source source; /* of a call, as those below */
    const cpu_call *call;
    uint32_t rows;
} dense;

bool ISA(dense_fits)(const conv_geom *g);
dense ISA(dense_plan)(const conv_geom *g, uint32_t threads, carver *c);
void ISA(dense_run)(dense *d);

#endif
