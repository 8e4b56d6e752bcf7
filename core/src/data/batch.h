/* Batches: order, pixels and labels of every step, made ahead by one background thread.
 *
 * The batches form an infinite sequence numbered by `step`. One pass over a split takes
 * steps = ceil(n / batch) of them; pass p = step / steps. Training (shuffle) takes the samples of
 * pass p, then called epoch p, in the order stn__shuffle(seed, p); otherwise the order is that of
 * the data set. The last batch of a pass is short if n is not a multiple of the batch. A sample's
 * transform depends on (seed, split, pass, sample) only. So the batch of a step is a pure function
 * of the loader's specification and the step: resuming, comparing and the number of threads change
 * nothing.
 *
 * Images are STN_F32 in 0..255 if info->augments, else the dataset's own STN_U8.
 */
#ifndef STN_DATA_BATCH_H
#define STN_DATA_BATCH_H

#include <stdbool.h>

#include <stn/dataset.h>

typedef struct stn__loader stn__loader;

/* dataset, data and info must outlive the loader; the loader's thread calls get and augment, which
 * are thread-safe by the dataset ABI. */
typedef struct stn__loader_spec {
    const stn_dataset *dataset;
    stn_data *data;
    const stn_data_info *info;
    uint32_t split; /* STN_SPLIT_* */
    uint32_t batch; /* images per batch, > 0; with shuffle at most the split's size */
    uint64_t seed;
    bool shuffle;
} stn__loader_spec;

/* One batch. The arrays belong to the loader and stay as they are until the following
 * stn__loader_next or stn__loader_close. Rows of images from `count` on are zero. */
typedef struct stn__batch {
    uint64_t step;
    uint32_t pass;          /* epoch, or evaluation pass */
    uint32_t count;         /* images in this batch, 1 .. spec.batch */
    const void *images;     /* [batch, channels, out_h, out_w] */
    const int32_t *labels;  /* [count, heads] */
    const uint32_t *sample; /* [count] numbers within the split */
    const double *poses;    /* [count, 4] as in stn_augment.pose, zeros without augment */
} stn__batch;

/* Checks the specification (E_USAGE for the batch, E_PLUGIN for impossible facts of the dataset)
 * and allocates; the thread starts with the first call of stn__loader_next. */
int32_t stn__loader_open(const stn__loader_spec *spec, stn__loader **loader, stn_err *err);
/* At any moment; waits for the batch in the making. */
void stn__loader_close(stn__loader *loader);

/* Steps of one pass. */
uint64_t stn__loader_steps(const stn__loader *loader);
uint32_t stn__loader_input_dtype(const stn__loader *loader); /* STN_F32 or STN_U8 */

/* Makes `step` the next batch; batches made ahead are dropped unless it is the next one already.
 * E_USAGE if the step lies beyond 2^32 passes. */
int32_t stn__loader_seek(stn__loader *loader, uint64_t step, stn_err *err);

/* The next batch of the sequence, waiting for it if need be. An error of the dataset comes back
 * here, at the step where it arose, and again with every call until the next seek. One thread at a
 * time may use a loader. */
int32_t stn__loader_next(stn__loader *loader, stn__batch *batch, stn_err *err);

#endif
