/* stnrun bench epoch: does the data ever wait? Blocks of training as `train` does it, every batch
 * made by the data pipeline from a cold start, and blocks of as many steps on batches that are
 * already in memory, in turn. The ratio is the median over the pairs of blocks. The pipeline's own
 * rate, with nothing else at work, is measured at the end. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

typedef struct epoch {
    bench b;
    uint64_t block;                    /* steps */
    double *memory, *pipeline, *ratio; /* images a second of each block, and their ratios */
    double data_rate;                  /* images a second of the pipeline alone */
    char hash[STN_HASH_HEX];
} epoch;

/* Images of the training step `step`: the last batch of an epoch is short. */
static uint64_t step_images(const epoch *e, uint64_t step) {
    uint64_t n = stn_run_data(e->b.s.run)->count[STN_SPLIT_TRAIN];
    uint64_t batch = (uint64_t)stn_config_int(e->b.s.config, "batch");
    uint64_t first = step % ((n + batch - 1) / batch) * batch;
    return n - first < batch ? n - first : batch;
}

static int memory_block(epoch *e, double *rate) {
    uint64_t first = stn_run_step(e->b.s.run), images = 0;
    double ms = 0.0;
    for (uint64_t i = 0; i < e->block; i++) {
        images += e->b.data.count[(first + i) % BATCHES];
    }
    int status = timed_block(&e->b.s, &e->b.data, first, e->block, &ms);
    *rate = 1e3 * (double)images / (ms * (double)e->block);
    return status;
}

/* The steps since the last block were not the pipeline's, so what it had made ahead is dropped. */
static int pipeline_block(epoch *e, double *rate) {
    uint64_t first = stn_run_step(e->b.s.run), images = 0;
    stn_err err = {0};
    for (uint64_t i = 0; i < e->block; i++) {
        images += step_images(e, first + i);
    }
    double start = now_ms();
    int32_t status = stn_run_train(e->b.s.run, first + e->block, NULL, NULL, &err);
    *rate = 1e3 * (double)images / (now_ms() - start);
    return status == STN_OK ? EXIT_OK : fail(&err);
}

static int data_alone(epoch *e) {
    uint64_t first = stn_run_step(e->b.s.run) + e->block, images = 0;
    stn_err err = {0};
    double start = now_ms();
    for (uint64_t i = 0; i < e->block; i++) {
        uint32_t count;
        if (stn_run_batch(e->b.s.run, first + i, e->b.data.images[0], e->b.data.labels[0], &count,
                          &err) != STN_OK) {
            return fail(&err);
        }
        images += count;
    }
    e->data_rate = 1e3 * (double)images / (now_ms() - start);
    return EXIT_OK;
}

static int measure(epoch *e) {
    uint64_t steps = e->b.warmup + 2 * e->b.repeats * e->block;
    stn_err err = {0};
    int status = EXIT_OK;
    if (steps > stn_run_length(e->b.s.run)) {
        (void)stn_fail(&err, STN_E_USAGE,
                       "%" PRIu64 " steps are to be run, the recipe has %" PRIu64
                       "; give --steps, or a smaller --repeats or --block",
                       steps, stn_run_length(e->b.s.run));
        return fail(&err);
    }
    for (uint64_t i = 0; i < e->b.warmup && status == EXIT_OK; i++) {
        status = timed_step(&e->b.s, &e->b.data, i, NULL);
    }
    for (uint64_t i = 0; i < e->b.repeats && status == EXIT_OK; i++) {
        status = memory_block(e, &e->memory[i]);
        status = status == EXIT_OK ? pipeline_block(e, &e->pipeline[i]) : status;
        e->ratio[i] = e->pipeline[i] / e->memory[i];
        if (signal_stop() != 0) {
            return 128 + signal_stop();
        }
    }
    if (status == EXIT_OK && stn_run_state_hash(e->b.s.run, e->hash, &err) != STN_OK) {
        status = fail(&err);
    }
    return status == EXIT_OK ? data_alone(e) : status;
}

static int print_epoch(epoch *e) {
    uint64_t n = e->b.repeats;
    double memory = median(e->memory, n), pipeline = median(e->pipeline, n);
    double ratio = median(e->ratio, n);
    if (out.json || out.jsonl) {
        json_t *result = bench_json("stnrun-bench-epoch/1", &e->b.s);
        json_t *figures = json_pack(
            "{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:s}", "warmup", (json_int_t)e->b.warmup,
            "repeats", (json_int_t)n, "block", (json_int_t)e->block, "images_per_s", pipeline,
            "images_per_s_in_memory", memory, "ratio", ratio, "ratio_min", e->ratio[0], "ratio_max",
            e->ratio[n - 1], "images_per_s_data_alone", e->data_rate, "state_hash", e->hash);
        (void)json_object_update(result, figures);
        json_decref(figures);
        return print_json(result);
    }
    print_heading(&e->b.s);
    printf("end to end, cold start: %.0f images/s; batches in memory: %.0f images/s (medians)\n"
           "ratio: %.1f %%, median of %" PRIu64 " pairs of blocks of %" PRIu64
           " steps, %.1f to %.1f %%\n"
           "data pipeline alone: %.0f images/s\n",
           pipeline, memory, 100.0 * ratio, n, e->block, 100.0 * e->ratio[0],
           100.0 * e->ratio[n - 1], e->data_rate);
    fputs(session_mark(&e->b.s), stdout);
    return EXIT_OK;
}

int bench_epoch(const args *a) {
    static const char *const no_tests[2] = {"eval-every", "0"};
    epoch e = {.b = {.repeats = 5}};
    if (!args_number(a, "block", 1, 1000000, 64, &e.block)) {
        return EXIT_USAGE;
    }
    int status = bench_open(a, no_tests, false, &e.b);
    if (status == EXIT_OK) {
        e.memory = calloc(e.b.repeats, sizeof *e.memory);
        e.pipeline = calloc(e.b.repeats, sizeof *e.pipeline);
        e.ratio = calloc(e.b.repeats, sizeof *e.ratio);
        if (e.memory == NULL || e.pipeline == NULL || e.ratio == NULL) {
            stn_err err = {0};
            (void)stn_fail(&err, STN_E_NOMEM, "no memory for %" PRIu64 " rates", e.b.repeats);
            status = fail(&err);
        }
    }
    status = status == EXIT_OK ? measure(&e) : status;
    status = status == EXIT_OK ? print_epoch(&e) : status;
    free(e.memory);
    free(e.pipeline);
    free(e.ratio);
    bench_close(&e.b);
    return status;
}
