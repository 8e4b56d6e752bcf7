/* The distortions of the study: what to draw, and the sizes and constants that go with each.
 *
 * Random draws (stn_draw): purpose 0 is the transform, purpose 1 the clutter.
 *   rotate     purpose 0, draw 0: angle U(-90, 90) degrees
 *   translate  purpose 0, draws 0 and 1: shifts U(-16, 16) in x and y, rounded to whole pixels
 *   scale      purpose 0, draw 0: log2 of the magnification, U(-1, 2)
 *   clutter crop k = 0..5, purpose 1, draws 8k+0 training image, +1 and +2 place of its 6x6 crop;
 *     translate: +3 and +4 top left corner, 0..53; scale: +3 half side s = 1..9 of the resized
 *     crop, +4 and +5 its centre, 2..109 (its corner is centre - s)
 */
#ifndef DISTORT_H
#define DISTORT_H

#include <stdbool.h>

#include <stn/dataset.h>

enum { DISTORT_NONE, DISTORT_ROTATE, DISTORT_SCALE, DISTORT_TRANSLATE, DISTORT_COUNT };

typedef struct distort_info {
    const char *name;
    uint32_t side;   /* of the distorted image */
    float mean, std; /* normalisation of the study, of pixel values / 255 */
} distort_info;

extern const distort_info distort_table[DISTORT_COUNT];

/* Fills *out (struct_size excepted) for one sample. n_train: training images to take clutter from.
 * Pure and thread-safe. */
void distort_draw(const stn_host *host, uint32_t distortion, bool clutter, uint32_t n_train,
                  const stn_draw_key *key, stn_augment *out);

#endif
