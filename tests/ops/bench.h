/* What the programs that time operators share: operators that run again and again, pairs of runs,
 * the peak of the device's multiply-adds over a given time, and its peak of stores. */
#ifndef BENCH_H
#define BENCH_H

#include "optest.h"

/* Writes the data of input or output `index`. */
typedef void (*bench_fill)(void *user, const stn_tensor *t, bool output, uint32_t index,
                           void *data);

typedef struct bench_op {
    optest_dev *dev;
    stn_kernel *kernel;
    stn_ref in[STN_MAX_IN], out[STN_MAX_OUT], work;
    uint32_t n_in, n_out, count; /* count: rows of a batch */
} bench_op;

int32_t bench_open(bench_op *op, optest_dev *dev, const stn_op_desc *desc, uint32_t count,
                   bench_fill fill, void *user, stn_err *err);
/* One run on a bench_op; seconds on the wall. */
int32_t bench_run(void *op, double *seconds, stn_err *err);
void bench_close(bench_op *op);

/* Fused multiply-adds on registers as the kernel set of a device makes them, on as many threads. */
typedef struct bench_peak bench_peak;
int32_t bench_peak_open(optest_dev *dev, uint32_t threads, bench_peak **peak, stn_err *err);
void bench_peak_close(bench_peak *peak);
/* Makes a run take about that many seconds. */
void bench_peak_last(bench_peak *peak, double seconds);
/* Multiply-adds of a run, each counted as 2. */
double bench_peak_flop(const bench_peak *peak);
/* One run on a bench_peak. */
int32_t bench_peak_run(void *peak, double *seconds, stn_err *err);

/* Stores to as much memory as an operator's outputs, with the threads and vectors of a peak. */
typedef struct bench_stores {
    const bench_peak *peak;
    float *at;
    uint64_t floats; /* of each thread */
    bool past;       /* past the caches */
} bench_stores;
int32_t bench_stores_open(bench_stores *stores, const bench_peak *peak, uint64_t bytes,
                          stn_err *err);
void bench_stores_close(bench_stores *stores);
/* One run on a bench_stores. */
int32_t bench_stores_run(void *stores, double *seconds, stn_err *err);

typedef int32_t (*bench_fn)(void *user, double *seconds, stn_err *err);

typedef struct bench_pair {
    double first, second; /* seconds of a run, medians */
    double ratio;         /* second / first, median of the pairs' */
} bench_pair;

/* Runs both in turn until they took `seconds`, but a few times at least. */
int32_t bench_pairs(bench_fn first, void *a, bench_fn second, void *b, double seconds,
                    bench_pair *result, stn_err *err);

#endif
