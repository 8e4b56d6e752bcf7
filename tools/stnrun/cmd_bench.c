/* stnrun bench: time of a training step and of its operators, on batches already in memory.
 *
 * step: every step is timed on its own, results collected, after a warm-up. The state hash after
 * the last step is printed, so that a speed figure always says which bits it belongs to: it depends
 * on the number of steps only, not on the device. ops: per operator of the step the shortest time
 * on the device, with its work. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "session.h"

#define BATCHES 4u /* different batches, used in turn */

typedef struct bench {
    session s;
    uint32_t count[BATCHES];
    void *images[BATCHES];
    int32_t *labels[BATCHES];
    double *ms;
    uint64_t *node_ns; /* per node of the training plan, shortest; NULL for step */
    uint64_t warmup, steps;
} bench;

typedef struct bench_result {
    double ms_min, ms_median, images_per_s;
    double peak_rss_mib;
    char state_hash[STN_HASH_HEX];
} bench_result;

static double now_ms(void) {
    struct timespec t;
    (void)timespec_get(&t, TIME_UTC);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int load_batches(bench *b) {
    const stn_data_info *info = stn_run_data(b->s.run);
    size_t rows = (size_t)stn_config_int(b->s.config, "batch");
    size_t pixels = (size_t)info->channels * info->out_h * info->out_w;
    stn_err err = {0};
    for (uint32_t i = 0; i < BATCHES; i++) {
        b->images[i] = malloc(rows * pixels * sizeof(float));
        b->labels[i] = malloc(rows * info->heads * sizeof(int32_t));
        if (b->images[i] == NULL || b->labels[i] == NULL) {
            (void)stn_fail(&err, STN_E_NOMEM, "no memory for %u batches of %zu images", BATCHES,
                           rows);
            return fail(&err);
        }
        if (stn_run_batch(b->s.run, i, b->images[i], b->labels[i], &b->count[i], &err) != STN_OK) {
            return fail(&err);
        }
    }
    return EXIT_OK;
}

static int32_t time_nodes(bench *b, stn_err *err) {
    stn_net *net = stn_run_net(b->s.run);
    for (uint32_t i = 0; i < stn_net_node_count(net, false); i++) {
        stn_node_info node;
        STN_TRY(stn_net_node_get(net, false, i, &node, err));
        if (node.ns < b->node_ns[i]) {
            b->node_ns[i] = node.ns;
        }
    }
    return STN_OK;
}

static int time_steps(bench *b) {
    stn_net *net = stn_run_net(b->s.run);
    stn_err err = {0};
    for (uint64_t i = 0; i < b->warmup + b->steps; i++) {
        uint32_t n = 0, k = (uint32_t)(i % BATCHES);
        stn_step_result result;
        stn_net_step_args step = {.images = b->images[k],
                                  .labels = b->labels[k],
                                  .count = b->count[k],
                                  .lr = stn_config_real(b->s.config, "lr"),
                                  .step = i,
                                  .seed = (uint64_t)stn_config_int(b->s.config, "seed")};
        double start = now_ms();
        int32_t status = stn_net_train_step(net, &step, &err);
        if (status == STN_OK) {
            status = stn_net_collect(net, &result, &n, NULL, &err);
        }
        if (status != STN_OK) {
            return fail(&err);
        }
        if (i >= b->warmup) {
            b->ms[i - b->warmup] = now_ms() - start;
            if (b->node_ns != NULL && time_nodes(b, &err) != STN_OK) {
                return fail(&err);
            }
        }
        if (signal_stop() != 0) {
            return 128 + signal_stop();
        }
    }
    stn_run_set_step(b->s.run, b->warmup + b->steps);
    return EXIT_OK;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int summarize(bench *b, bench_result *r) {
    struct rusage usage;
    stn_err err = {0};
    qsort(b->ms, b->steps, sizeof *b->ms, ascending);
    r->ms_min = b->ms[0];
    r->ms_median = b->ms[b->steps / 2];
    r->images_per_s = 1e3 * (double)b->count[0] / r->ms_min;
    (void)getrusage(RUSAGE_SELF, &usage);
    r->peak_rss_mib = (double)usage.ru_maxrss / 1024.0;
    return stn_run_state_hash(b->s.run, r->state_hash, &err) == STN_OK ? EXIT_OK : fail(&err);
}

static int print_result(const bench *b, const bench_result *r) {
    char text[256];
    stn_net_memory memory;
    stn_net_memory_get(stn_run_net(b->s.run), &memory);
    if (out.json || out.jsonl) {
        return print_json(json_pack(
            "{s:s, s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:s, s:b, s:o}", "schema",
            "stnrun-bench/1", "model", stn_config_get(b->s.config, "model"), "network",
            stn_config_get(b->s.config, "network"), "batch", (json_int_t)b->count[0], "warmup",
            (json_int_t)b->warmup, "steps", (json_int_t)b->steps, "ms_min", r->ms_min, "ms_median",
            r->ms_median, "images_per_s", r->images_per_s, "peak_rss_mib", r->peak_rss_mib,
            "device_bytes", (json_int_t)memory.total, "state_hash", r->state_hash, "reproducible",
            (int)stn_run_reproducible(b->s.run), "device", device_json(stn_dev_info(b->s.dev))));
    }
    printf("%s %s, batch %u, on %s\n", stn_config_get(b->s.config, "model"),
           stn_config_get(b->s.config, "network"), b->count[0],
           device_text(b->s.dev, text, sizeof text));
    printf("step: minimum %.2f ms, median %.2f ms of %" PRIu64 "; %.0f images/s; peak memory "
           "%.0f MiB\nstate %s after %" PRIu64 " steps\n",
           r->ms_min, r->ms_median, b->steps, r->images_per_s, r->peak_rss_mib, r->state_hash,
           b->warmup + b->steps);
    fputs(session_mark(&b->s), stdout);
    return EXIT_OK;
}

static int print_nodes(const bench *b) {
    stn_net *net = stn_run_net(b->s.run);
    uint32_t n = stn_net_node_count(net, false);
    uint64_t total = 0;
    json_t *rows = json_array();
    for (uint32_t i = 0; i < n; i++) {
        stn_node_info node;
        stn_err err = {0};
        if (stn_net_node_get(net, false, i, &node, &err) != STN_OK) {
            json_decref(rows);
            return fail(&err);
        }
        double us = 1e-3 * (double)b->node_ns[i];
        double gflops = b->node_ns[i] ? (double)node.flops / (double)b->node_ns[i] : 0.0;
        total += b->node_ns[i];
        if (out.json || out.jsonl) {
            json_array_append_new(rows, json_pack("{s:s, s:s, s:f, s:f, s:I}", "operator", node.op,
                                                  "name", node.name, "us", us, "gflops", gflops,
                                                  "flops", (json_int_t)node.flops));
        } else {
            printf("%10.1f us %8.1f GFLOP/s  %-22s %s\n", us, gflops, node.op, node.name);
        }
    }
    if (out.json || out.jsonl) {
        return print_json(json_pack("{s:s, s:o, s:b, s:o}", "schema", "stnrun-bench-ops/1",
                                    "operators", rows, "reproducible",
                                    (int)stn_run_reproducible(b->s.run), "device",
                                    device_json(stn_dev_info(b->s.dev))));
    }
    json_decref(rows);
    printf("%10.1f us in %u operators; minimum step %.2f ms\n", 1e-3 * (double)total, n, b->ms[0]);
    fputs(session_mark(&b->s), stdout);
    return EXIT_OK;
}

/* Room for a time per operator, none measured yet. */
static int watch_nodes(bench *b) {
    uint32_t n = stn_net_node_count(stn_run_net(b->s.run), false);
    b->node_ns = malloc((n + 1u) * sizeof *b->node_ns);
    if (b->node_ns == NULL) {
        stn_err err = {0};
        (void)stn_fail(&err, STN_E_NOMEM, "no memory for times of %u operators", n);
        return fail(&err);
    }
    memset(b->node_ns, 0xff, n * sizeof *b->node_ns);
    return EXIT_OK;
}

static int run_bench(args *a, bench *b, bool ops) {
    bench_result result;
    if (!args_number(a, "warmup", 0, 1000000, 3, &b->warmup) ||
        !args_number(a, "repeats", 1, 1000000, 30, &b->steps)) {
        return EXIT_USAGE;
    }
    b->ms = calloc(b->steps, sizeof *b->ms);
    int status = open_context(a, &b->s.ctx);
    if (status == EXIT_OK) {
        status = open_config(a, b->s.ctx, NULL, NULL, &b->s.config);
    }
    if (status == EXIT_OK) {
        status = session_open_run(a, &b->s, NULL);
    }
    if (status == EXIT_OK && b->ms == NULL) {
        stn_err err = {0};
        (void)stn_fail(&err, STN_E_NOMEM, "no memory for %" PRIu64 " times", b->steps);
        status = fail(&err);
    }
    status = status == EXIT_OK ? load_batches(b) : status;
    status = status == EXIT_OK && ops ? watch_nodes(b) : status;
    status = status == EXIT_OK ? time_steps(b) : status;
    status = status == EXIT_OK ? summarize(b, &result) : status;
    if (status != EXIT_OK) {
        return status;
    }
    return ops ? print_nodes(b) : print_result(b, &result);
}

int cmd_bench(args *a) {
    bool ops = a->n_positional == 1 && strcmp(a->positional[0], "ops") == 0;
    if (!ops && (a->n_positional != 1 || strcmp(a->positional[0], "step") != 0)) {
        return usage_error(a, "what to measure is needed: stnrun bench step|ops --recipe NAME");
    }
    bench b = {0};
    signals_setup();
    int status = run_bench(a, &b, ops);
    for (uint32_t i = 0; i < BATCHES; i++) {
        free(b.images[i]);
        free(b.labels[i]);
    }
    free(b.ms);
    free(b.node_ns);
    session_close(&b.s);
    return status;
}
