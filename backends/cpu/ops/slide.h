/* A window of rows that slides down the input gradient, in registers.
 *
 * A strip is SLIDE_COLS columns of the input gradient, one register a row. A step takes one line
 * (row of the convolution's output), or the two lines under a row of pool windows; their non-zero
 * gradients touch the rows of the window, each by
 *
 *   window[k] = fma(g, frame[at + k * SLIDE_COLS + lane], window[k])
 *
 * and then the window moves down. So a gradient costs one term a row and no traffic with the sums.
 * A frame holds the kernel moved to each column that it can have against a strip, so that every
 * load is aligned. For two lines a row of zeros precedes each of them, where the gradients of the
 * lower line point to: a row of terms more, but half as many loops of unforeseeable length.
 * Three input channels may have a window and a frame each, which share what finding a gradient
 * costs.
 *
 * Bits tell which gradients are not zero, ascending in contract order.
 */
#ifndef CPU_OPS_SLIDE_H
#define CPU_OPS_SLIDE_H

#include "fast.h"

/* Most rows of a window, and of three (0: there are not enough registers). */
#if defined(CPU_ISA_AVX512)
#define SLIDE_MAX 12u
#define SLIDE_THREE 8u
#elif V_REGS > 1
#define SLIDE_MAX 12u
#define SLIDE_THREE 0u
#else
#define SLIDE_MAX 7u
#define SLIDE_THREE 0u
#endif

#define SLIDE_COLS REG_LANES

#define SLIDE_WORD 64u /* bits of a mask of one line: its columns */

typedef struct slide {
    const float *g;       /* [steps][pitch] */
    const int32_t *at;    /* [steps][at_pitch], in floats */
    const uint64_t *mask; /* [words][word_step], one of each per step */
    const uint64_t *keep; /* [words]: which gradients reach the strip */
    const float *frame;
    ptrdiff_t shift; /* added to every `at` */
    uint32_t steps, words, advance;
    uint64_t pitch, at_pitch, word_step;
    float *sum;                    /* [steps * advance + rows][SLIDE_COLS] */
    uint64_t frame_step, sum_step; /* from channel to channel, if there are three */
} slide;

typedef void (*slide_fn)(const slide *job);

/* The kernel for 1 to SLIDE_MAX rows, or with `three` for as many channels of 1 to SLIDE_THREE.
 * With `windows` g, at and mask are grad_windows' records, there is one word, and the pitches and
 * `advance` (2) are implied. */
slide_fn ISA(slide_kernel)(uint32_t rows, bool windows, bool three);

#endif
