/* The input gradient of a convolution over lists of non-zero gradients, one row of pixels at a time
 * in registers: for narrow maps under high kernels. */
#ifndef CPU_OPS_CONV_GRAD_X_ROWS_H
#define CPU_OPS_CONV_GRAD_X_ROWS_H

#include "gradient.h"

#if defined(CPU_ISA_AVX512)
#define ROW_WIDEST 24u
#elif V_REGS == 2 /* with four, lists are faster: 10 pixels under 7 x 7 taps */
#define ROW_WIDEST 14u
#else
#define ROW_WIDEST 7u
#endif

typedef struct grad_rows {
    conv_geom g;
    map_addr x;
    uint32_t images;        /* of a unit */
    uint32_t slices;        /* blocks of input channels */
    uint32_t chunk, chunks; /* output channels of a chunk, and how many chunks */
    uint32_t zeros;         /* columns of zeros before each kernel row */
    uint32_t ranges;        /* of output rows that a row of pixels meets */
    uint64_t pitch, frame;  /* floats of a kernel row with its zeros, and of a kernel */
    uint64_t width, most;   /* O rounded up; items of a channel */
    uint64_t unit_items;    /* of the lists of an image */
    /* Workspace; the first two for all threads, the others per thread. */
    float *frames;      /* [slices][O][frame], then zeros */
    uint32_t *range;    /* [H]: which range a row meets */
    uint32_t *low;      /* [ranges]: its first output row, */
    uint32_t *end;      /* and the one after its last */
    float *gz;          /* one block */
    item *channel;      /* [width][most], of one image */
    uint32_t *count;    /* [width] */
    uint32_t *starts;   /* [width][OH + 1] */
    item *list;         /* [images][unit_items]: range after range, o ascending */
    uint32_t *from;     /* [images][ranges][chunks + 1] into the list of an image */
    grad_source source; /* of a call, as those below */
    const cpu_call *call;
    uint32_t rows;
} grad_rows;

bool ISA(rows_fit)(const conv_geom *g);
grad_rows ISA(rows_plan)(const conv_geom *g, uint32_t threads, carver *c);
void ISA(rows_run)(grad_rows *x);

#endif
