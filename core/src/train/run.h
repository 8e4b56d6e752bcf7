/* Inside of a run: dataset, net, position and run directory (implements stn_run_* of stn.h).
 *
 * A run is one deterministic function of (identity text, data, seed): everything that may differ
 * between two machines (device, directory, reporting interval) stays outside of the hashed state.
 */
#ifndef STN_TRAIN_RUN_H
#define STN_TRAIN_RUN_H

#include <stn/stn.h>

#include "data/batch.h"

struct stn_run {
    stn_ctx *ctx;
    stn_config *config; /* not owned */
    stn_dev *dev;       /* not owned */
    const stn_dataset *dataset;
    stn_data *data;
    stn_data_info info;
    stn_net *net;
    stn__loader *train_loader;
    uint64_t seed, step, length;
    uint32_t batch;
    char *identity;        /* canonical recipe text */
    char *dir;             /* run directory, NULL without one */
    uint64_t saved_step;   /* step of the newest checkpoint, UINT64_MAX if none */
    bool not_reproducible; /* trained under --math fast or a self-test override */
};

/* Everything a checkpoint holds, gathered from the device. Free with stn__snapshot_free. */
typedef struct stn__snapshot {
    stn_ckpt_info info;
    stn_ckpt_tensor *tensors;
    float *data;
    char *note;
    uint32_t n;
} stn__snapshot;

/* Monotonic seconds. */
double stn__seconds(void);
/* A loader over a split of the run's data: shuffled epochs for training, passes otherwise. */
int32_t stn__run_loader(stn_run *run, uint32_t split, bool training, stn__loader **loader,
                        stn_err *err);

int32_t stn__snapshot_take(stn_run *run, stn__snapshot *snapshot, stn_err *err);
void stn__snapshot_free(stn__snapshot *snapshot);

/* One line of metrics.jsonl and metrics.csv; does nothing without a run directory. `test_error` is
 * negative when no evaluation belongs to this record. */
int32_t stn__rundir_record(stn_run *run, const stn_progress *progress, double test_error,
                           stn_err *err);
/* Saves ckpt-<step>.stn into the run directory and removes all but the last two. */
int32_t stn__rundir_save(stn_run *run, stn_err *err);

#endif
