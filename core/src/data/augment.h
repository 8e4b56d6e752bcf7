/* Execution of drawn transforms: what a dataset's `augment` asks for becomes pixels.
 *
 * All arithmetic is fp32 on values 0..255 and fixed to the bit:
 *   mode 0  whole pixels are copied, 0 outside
 *   mode 1  the contract's affine grid and sampler (C5): aligned corners, bilinear, zeros outside
 *   clutter the crop is resized by the contract's sampler with theta = identity, half-pixel
 *           corners and border padding (copied if the sizes agree), added to the output, and the
 *           sum is clamped to 255 by select; crops in the order given
 */
#ifndef STN_DATA_AUGMENT_H
#define STN_DATA_AUGMENT_H

#include <stdbool.h>

#include <stn/dataset.h>

/* Coordinates are clamped to [-2, size+1], so corners lie in [-2, size+2]: zeros that stand around
 * a padded source plane, before and after. */
#define STN__PAD_BEFORE 2u
#define STN__PAD_AFTER 3u
#define STN__PAD_BOTH (STN__PAD_BEFORE + STN__PAD_AFTER)

/* Samples one plane. src: (h + 5) x (w + 5) floats, the image inside its zeros. xt[out_w] and
 * yt[out_h]: the grid of stn__grid_axis. */
typedef struct stn__sampling {
    const float *src, *xt, *yt;
    uint32_t h, w, out_h, out_w;
    float theta[6];
} stn__sampling;

/* plain: the version for every processor; otherwise the fastest. Same bits. Thread-safe. */
void stn__sample_plane(const stn__sampling *job, bool plain, float *out);

/* Aligned output coordinates t[i] = (2i - n + 1) / (n - 1), 0 if n = 1; double, rounded once. */
void stn__grid_axis(float *t, uint32_t n);

/* Tables and scratch memory for one dataset; belongs to one thread at a time. */
typedef struct stn__augmenter {
    const stn_dataset *dataset;
    stn_data *data;
    const stn_data_info *info;
    float *xt, *yt, *padded;
    uint8_t *other;  /* an image that lends clutter */
    int32_t *labels; /* its labels, unused */
} stn__augmenter;

/* Needs info->augments. The three pointers must outlive the augmenter. */
int32_t stn__augmenter_open(stn__augmenter *a, const stn_dataset *dataset, stn_data *data,
                            const stn_data_info *info, stn_err *err);
void stn__augmenter_close(stn__augmenter *a);

/* Draws and executes the transform of the sample that `key` names. image: its channels*src_h*src_w
 * bytes; out: channels*out_h*out_w floats; pose: what the dataset reported. A request that leaves
 * the image or the data set is E_PLUGIN. */
int32_t stn__augmenter_run(stn__augmenter *a, const stn_draw_key *key, const uint8_t *image,
                           float *out, double pose[4], stn_err *err);

#endif
