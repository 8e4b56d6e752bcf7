/* What input gradients share whose lanes are 16 pixels of a row: conv_grad_plane.c, over those that
 * are not zero, and conv_grad_x_few.c, over all. */
#ifndef CPU_OPS_CONV_GRAD_PLANE_H
#define CPU_OPS_CONV_GRAD_PLANE_H

#include "conv.h"

/* Sets the lanes past C of image n's gradient to +0. */
void ISA(plane_clear)(const cpu_call *call, const map_addr *x, uint32_t n);

/* Snaps the sums of rows top .. top + rows - 1 of image n and stores them as its gradient: strips
 * of `cols` columns whose first rows are strip_size floats apart, [C][strips][strip_size]. Reads
 * whole vectors. */
void ISA(plane_store)(const cpu_call *call, const conv_geom *g, const map_addr *x, uint32_t n,
                      const float *sums, uint32_t cols, uint64_t strip_size, uint32_t top,
                      uint32_t rows);

#endif
