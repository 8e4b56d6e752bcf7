/* Gradients of a convolution with bits that tell which are not zero: by rows for slide.h, by pixels
 * for conv_grad_w_planar.c. */
#ifndef CPU_OPS_GRADIENT_BITS_H
#define CPU_OPS_GRADIENT_BITS_H

#include "gradient.h"

/* Lines: row r of channel j lies at g + j * channel + r * cols; the bits of columns 16 * b to
 * 16 * b + 63 are mask[j * mask_channel + b * rows + r].
 *
 * Windows, for a pool whose windows are two rows without overlap or gap: records of up to 16
 * windows of a row, the first of record b being window first[b]. A record is 16 gradients (in g)
 * and 16 places (in at): col_step times the column that got the gradient, less line_step if it was
 * in the lower row. Record (b, r) lies at j * channel + (b * rows + r) * GRAD_RECORD; bits 0 to 15
 * of its mask are the gradients of the upper row, 16 to 31 those of the lower one. */
#define GRAD_RECORD 32u
typedef struct grad_bits {
    uint32_t rows, cols;
    float *g;
    uint64_t *mask;
    uint64_t channel, mask_channel; /* lines: channel >= rows * cols + 15, vectors are stored */
    /* Windows only. */
    int32_t *at;
    int32_t col_step, line_step;
    uint32_t records;
    const uint32_t *first;
} grad_bits;

/* Fills *to with the gradients of one block of image n. scratch: [OH*OW*16]. */
void ISA(grad_lines)(const grad_source *s, uint32_t n, uint32_t block, const grad_bits *to,
                     float *scratch);
/* The same from the windows of a pool. */
bool ISA(grad_has_windows)(const conv_geom *g);
void ISA(grad_windows)(const grad_source *s, uint32_t n, uint32_t block, const grad_bits *to);

/* Pixels: bit t % 32 of word t / 32 is pixel t of the convolution's output, row-major. */
#define GRAD_WORD 32u

/* Words of an image, an even number. */
static inline uint32_t grad_words(const conv_geom *g) {
    return 2 * ceil_div(g->oh * g->ow, 2 * GRAD_WORD);
}
/* Notes which gradients of one block of image n are not zero: bits [words][16 channels]. The
 * gradients go to `flow` as they are met: one vector for every window of a pool whose windows do
 * not overlap, otherwise one for every pixel; room for all pixels. plane (may be NULL): as in
 * grad_list. */
void ISA(grad_note)(const grad_source *s, uint32_t n, uint32_t block, float *flow, uint32_t *bits,
                    float *plane);
/* Which vector of `flow` holds the gradient of that pixel. */
uint32_t ISA(grad_vector)(const conv_geom *g, uint32_t row, uint32_t col);

#endif
