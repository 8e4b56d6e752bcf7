/* The input gradient of a convolution with few input channels, or into NCHW, over all its terms. */
#ifndef CPU_OPS_CONV_GRAD_X_FEW_H
#define CPU_OPS_CONV_GRAD_X_FEW_H

#include "gradient.h"

/* Rows of pixels that a tile computes. */
#if defined(CPU_ISA_AVX512)
#define FEW_ROWS 8u
#else
#define FEW_ROWS 4u
#endif

/* An image is cut into bands of rows. Their pixels lie in strips of 16 columns,
 * [C][strips][band][16], the gradients of a block of channels in a frame with zeros around, [band +
 * KH - 1][16][pitch]: input pixel (h, w) meets those from row h and column w of the frame on. */
typedef struct few_x {
    conv_geom g;
    map_addr x;
    uint32_t strips, band;          /* band: rows, whole tiles */
    uint32_t chunk;                 /* output channels of a chunk */
    uint64_t pitch, frame, pixels;  /* floats of a frame's row, a frame, a band's pixels */
    float *w;                       /* workspace, for all threads: [C][O][taps turned] */
    float *gz, *at, *sums, *totals; /* and per thread; sums: of a chunk, totals: before it */
    grad_source source;             /* of a call, as those below */
    const cpu_call *call;
    uint32_t rows;
} few_x;

bool ISA(few_x_fits)(const conv_geom *g);
/* What it takes for an image, in eighths of a cycle as measured. */
uint64_t ISA(few_x_cost)(const conv_geom *g);
few_x ISA(few_x_plan)(const stn_kernel *k, const conv_geom *g, uint32_t threads, carver *c);
void ISA(few_x_run)(few_x *f);

#endif
