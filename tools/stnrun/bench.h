/* stnrun bench: what its kinds (step, ops, epoch, compare) share. */
#ifndef STNRUN_BENCH_H
#define STNRUN_BENCH_H

#include "session.h"

#define BATCHES 4u /* different batches, used in turn */

/* Batches of the run's data in memory, as the data pipeline makes them. */
typedef struct batches {
    uint32_t count[BATCHES];
    void *images[BATCHES];
    int32_t *labels[BATCHES];
} batches;

/* A run to be timed: `warmup` steps, then `repeats` timed ones (for epoch: pairs of blocks). */
typedef struct bench {
    session s;
    batches data;
    uint64_t warmup, repeats;
    double *ms; /* room for a time per repeat */
} bench;

/* --warmup and --repeats (b->repeats: what it is if not given), context, config, run and batches.
 * `extra` is a key and a value, or NULL, that counts as a flag. With `profile` the device is asked
 * to measure each operator, unless a setting says otherwise. On failure prints why and returns the
 * exit status; bench_close is needed all the same. */
int bench_open(const args *a, const char *const extra[2], bool profile, bench *b);
/* The flags --warmup and --repeats alone; false after a message. */
bool bench_repeats(const args *a, bench *b);
void bench_close(bench *b);

int batches_load(batches *b, const session *s);
void batches_free(batches *b);

/* Milliseconds of a clock that only goes forward. */
double now_ms(void);
/* Runs training step `step` and collects its result: *ms of time (may be NULL). Returns an exit
 * status, also after a signal. */
int timed_step(const session *s, const batches *b, uint64_t step, double *ms);
/* n steps, queued as many at a time as the net takes, as training does; ms of one (may be NULL). */
int timed_block(const session *s, const batches *b, uint64_t first, uint64_t n, double *ms);
/* Shortest and median time of a step, and the peak memory of the process. */
typedef struct step_times {
    double ms_min, ms_median, peak_rss_mib;
} step_times;
/* Warm-up and timed steps, numbered from `first` on. */
int time_steps(bench *b, uint64_t first, step_times *t);
/* Sorts the values; n > 0. */
double median(double *values, uint64_t n);
/* The run's model, network and batch, and its device: {"model": ..., "device": {...}}. */
json_t *bench_json(const char *schema, const session *s);
/* The same as a line for people. */
void print_heading(const session *s);

/* Runs one more training step and writes a Chrome/Perfetto trace of its operators. */
int write_trace(bench *b, const char *path);

int bench_step(const args *a);
int bench_ops(const args *a);
/* bench ops --model */
int bench_model(const args *a);
/* bench step --vs-torch */
int bench_torch(const args *a);
int bench_epoch(const args *a);
int bench_compare(const args *a);

#endif
