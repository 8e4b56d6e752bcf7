/* Dataset ABI: raw 8-bit images and labels, and what to do to them.
 *
 * A dataset only describes: shuffling, batching, prefetch, random numbers, sampling of pixels and
 * normalisation belong to the core. `get` and `augment` are pure, thread-safe functions, so order
 * and augmentation never depend on the number of workers.
 */
#ifndef STN_DATASET_H
#define STN_DATASET_H

#include <stn/num.h>
#include <stn/plugin.h>

#define STN_MAX_CHANNELS 4u
#define STN_MAX_CLUTTER 8u

enum { STN_SPLIT_TRAIN = 0, STN_SPLIT_TEST = 1 };

typedef struct stn_data stn_data; /* an opened dataset, owned by the plugin */

typedef struct stn_data_info {
    uint32_t struct_size;
    uint32_t channels;
    uint32_t src_h, src_w; /* size of the images that `get` returns */
    uint32_t out_h, out_w; /* size after augment (equal to src without one) */
    uint32_t heads, classes;
    uint32_t augments; /* 1: `augment` must be called for every sample */
    uint32_t count[2]; /* samples by split */
    float mean[STN_MAX_CHANNELS], std[STN_MAX_CHANNELS]; /* of pixel values / 255, per channel */
    char files[1024]; /* what was opened, one path a line, for the user */
    char hash[65];    /* SHA-256 of the content (not of the compressed files), hex */
} stn_data_info;

/* Draws of one sample (numerics contract, "Random numbers", kind 3): stn_draw(rng, purpose, k) is
 * the k-th word for `purpose`. Split and purpose share the stream id, so that training and test
 * samples never share draws. */
typedef struct stn_draw_key {
    uint32_t seed_lo, seed_hi, split, pass, sample;
} stn_draw_key;

static inline uint32_t stn_draw(const stn_draw_key *key, uint32_t purpose, uint32_t k) {
    uint32_t stream = STN_RNG_STREAM(STN_RNG_AUGMENT, key->split << 16 | purpose);
    return stn_philox(key->seed_lo, key->seed_hi, k, stream, key->pass, key->sample);
}

/* Uniform in [0,1) from one draw, a multiple of 2^-32. */
static inline double stn_draw_unit(const stn_draw_key *key, uint32_t purpose, uint32_t k) {
    return (double)stn_draw(key, purpose, k) * 0x1p-32;
}

/* Uniform integer in [0, n): high word of draw * n; the bias is below n / 2^32. */
static inline uint32_t stn_draw_below(const stn_draw_key *key, uint32_t purpose, uint32_t k,
                                      uint32_t n) {
    return (uint32_t)(((uint64_t)stn_draw(key, purpose, k) * n) >> 32);
}

/* A crop of another (or the same) sample, added onto the output and clamped to 255. The source
 * rectangle is resized bilinearly (half-pixel corners, border) to dst_w x dst_h when sizes differ,
 * copied otherwise; parts outside the output are cut. */
typedef struct stn_clutter {
    uint32_t split, sample;
    uint32_t src_x, src_y, src_w, src_h;
    int32_t dst_x, dst_y;
    uint32_t dst_w, dst_h;
} stn_clutter;

/* What to do to a sample. mode 0: whole-pixel placement, out(x,y) = src(x-shift_x, y-shift_y), 0
 * outside. mode 1: sampled with theta (output to input coordinates, aligned corners, bilinear,
 * zeros outside) on values 0..255. `pose` repeats the drawn transform for evaluation: angle in
 * degrees counter-clockwise (content), log2 scale, shift in pixels (x to the right, y down). */
typedef struct stn_augment {
    uint32_t struct_size;
    uint32_t mode;
    int32_t shift_x, shift_y;
    float theta[6];
    double pose[4];
    uint32_t n_clutter;
    stn_clutter clutter[STN_MAX_CLUTTER];
} stn_augment;

typedef struct stn_dataset {
    uint32_t struct_size;
    uint32_t reserved;
    /* Opens the files found in directory `dir` (the dataset's own directory). [required] */
    int32_t (*open)(const char *dir, const stn_options *options, stn_data **data, stn_err *err);
    void (*close)(stn_data *data);
    int32_t (*info)(stn_data *data, stn_data_info *info, stn_err *err); /* [required] */
    /* Images (u8, channels*src_h*src_w each) and labels (heads each) of n samples. [required] */
    int32_t (*get)(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                   uint8_t *images, int32_t *labels, stn_err *err);
    /* The drawn transform of one sample; key->split and key->sample name it. */
    int32_t (*augment)(stn_data *data, const stn_draw_key *key, stn_augment *augment, stn_err *err);
    /* Directory names below the data directory where this dataset may lie, best first, NULL-ended:
     * for example {"mnist", "fashion-mnist"}; and absolute directories of the distribution. Both
     * NULL: the dataset needs no files, and `open` gets the user's data directory or "". */
    const char *const *subdirs;
    const char *const *system_dirs;
} stn_dataset;

#endif
