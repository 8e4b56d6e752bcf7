/* stnrun bench: how long training steps and their operators take. This file: the kinds of
 * measurement, what they share, and the step.
 *
 * step: every step is timed on its own, results collected, after a warm-up. The state hash after
 * the last step is printed, so that a speed figure always says which bits it belongs to: it depends
 * on the number of steps only, not on the device. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

#include "bench.h"
#include "compare.h"

#define QUEUE_MAX 64u /* steps in flight */

double now_ms(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e3 * (double)t.tv_sec + 1e-6 * (double)t.tv_nsec;
}

static int no_memory(const char *what, uint64_t n) {
    stn_err err = {0};
    (void)stn_fail(&err, STN_E_NOMEM, "no memory for %" PRIu64 " %s", n, what);
    return fail(&err);
}

/* ---- batches and steps ----------------------------------------------------------------------- */

int batches_load(batches *b, const session *s) {
    const stn_data_info *info = stn_run_data(s->run);
    size_t rows = (size_t)stn_config_int(s->config, "batch");
    size_t pixels = (size_t)info->channels * info->out_h * info->out_w;
    stn_err err = {0};
    for (uint32_t i = 0; i < BATCHES; i++) {
        b->images[i] = malloc(rows * pixels * sizeof(float));
        b->labels[i] = malloc(rows * info->heads * sizeof(int32_t));
        if (b->images[i] == NULL || b->labels[i] == NULL) {
            return no_memory("images in memory", BATCHES * rows);
        }
        if (stn_run_batch(s->run, i, b->images[i], b->labels[i], &b->count[i], &err) != STN_OK) {
            return fail(&err);
        }
    }
    return EXIT_OK;
}

void batches_free(batches *b) {
    for (uint32_t i = 0; i < BATCHES; i++) {
        free(b->images[i]);
        free(b->labels[i]);
    }
    *b = (batches){0};
}

static int32_t queue_step(const session *s, const batches *b, uint64_t step, stn_err *err) {
    uint32_t k = (uint32_t)(step % BATCHES);
    stn_net_step_args in = {.images = b->images[k],
                            .labels = b->labels[k],
                            .count = b->count[k],
                            .lr = stn_config_real(s->config, "lr"),
                            .step = step,
                            .seed = (uint64_t)stn_config_int(s->config, "seed")};
    return stn_net_train_step(stn_run_net(s->run), &in, err);
}

int timed_block(const session *s, const batches *b, uint64_t first, uint64_t n, double *ms) {
    stn_net *net = stn_run_net(s->run);
    stn_step_result results[QUEUE_MAX];
    uint32_t depth = stn_net_queue_depth(net), got;
    stn_err err = {0};
    int32_t status = STN_OK;
    depth = depth < QUEUE_MAX ? depth : QUEUE_MAX;
    double start = now_ms();
    for (uint64_t i = 0; i < n && status == STN_OK; i++) {
        status = queue_step(s, b, first + i, &err);
        if (status == STN_OK && ((i + 1) % depth == 0 || i + 1 == n)) {
            status = stn_net_collect(net, results, &got, NULL, &err);
        }
    }
    if (ms != NULL) {
        *ms = (now_ms() - start) / (double)n;
    }
    stn_run_set_step(s->run, first + n);
    return status != STN_OK ? fail(&err) : signal_stop() != 0 ? 128 + signal_stop() : EXIT_OK;
}

int timed_step(const session *s, const batches *b, uint64_t step, double *ms) {
    return timed_block(s, b, step, 1, ms);
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(double *values, uint64_t n) {
    qsort(values, n, sizeof *values, ascending);
    return n % 2 == 1 ? values[n / 2] : 0.5 * (values[n / 2 - 1] + values[n / 2]);
}

/* ---- opening --------------------------------------------------------------------------------- */

/* Sets the backend's option `profile`, if it has one and nothing else has set it. */
static int ask_profile(session *s) {
    const char *backend = stn_config_get(s->config, "backend");
    const stn_plugin *plugin = NULL;
    stn_err err = {0};
    int32_t status = stn_plugin_load(s->ctx, STN_KIND_BACKEND, backend, &plugin, &err);
    for (uint32_t i = 0; status == STN_OK && i < plugin->n_options; i++) {
        if (strcmp(plugin->options[i].name, "profile") == 0) {
            status = stn_config_set(s->config, "backend.profile", "true", STN_FROM_DEFAULT, "bench",
                                    &err);
        }
    }
    return status == STN_OK ? EXIT_OK : fail(&err);
}

bool bench_repeats(const args *a, bench *b) {
    return args_number(a, "warmup", 0, 1000000, 3, &b->warmup) &&
           args_number(a, "repeats", 1, 1000000, b->repeats, &b->repeats);
}

int bench_open(const args *a, const char *const extra[2], bool profile, bench *b) {
    const char *settings[MAX_SIDE_SETTINGS + 2] = {NULL};
    if (extra != NULL) {
        memcpy(settings, extra, 2 * sizeof *extra);
    }
    sides_settings(a, settings + (extra != NULL ? 2 : 0));
    if (!bench_repeats(a, b)) {
        return EXIT_USAGE;
    }
    int status = open_context(a, &b->s.ctx);
    if (status == EXIT_OK) {
        status = open_config(a, b->s.ctx, NULL, settings, &b->s.config);
    }
    if (status == EXIT_OK && profile) {
        status = ask_profile(&b->s);
    }
    if (status == EXIT_OK) {
        status = session_open_run(a, &b->s, NULL);
    }
    if (status == EXIT_OK) {
        b->ms = calloc(b->repeats, sizeof *b->ms);
        status = b->ms == NULL ? no_memory("times", b->repeats) : batches_load(&b->data, &b->s);
    }
    return status;
}

void bench_close(bench *b) {
    batches_free(&b->data);
    free(b->ms);
    session_close(&b->s);
}

json_t *bench_json(const char *schema, const session *s) {
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:b, s:o}", "schema", schema, "model",
        stn_config_get(s->config, "model"), "network", stn_config_get(s->config, "network"),
        "batch", (json_int_t)stn_config_int(s->config, "batch"), "reproducible",
        (int)stn_run_reproducible(s->run), "device", device_json(stn_dev_info(s->dev)));
}

void print_heading(const session *s) {
    char text[512];
    printf("%s %s, batch %" PRId64 ", on %s\n", stn_config_get(s->config, "model"),
           stn_config_get(s->config, "network"), stn_config_int(s->config, "batch"),
           device_text(s->dev, text, sizeof text));
}

/* ---- step ------------------------------------------------------------------------------------ */

int time_steps(bench *b, uint64_t first, step_times *t) {
    struct rusage usage;
    for (uint64_t i = 0; i < b->warmup + b->repeats; i++) {
        double *ms = i < b->warmup ? NULL : &b->ms[i - b->warmup];
        int status = timed_step(&b->s, &b->data, first + i, ms);
        if (status != EXIT_OK) {
            return status;
        }
    }
    t->ms_median = median(b->ms, b->repeats);
    t->ms_min = b->ms[0];
    (void)getrusage(RUSAGE_SELF, &usage);
    t->peak_rss_mib = (double)usage.ru_maxrss / 1024.0;
    return EXIT_OK;
}

static int print_step(const bench *b, const step_times *t, const char *hash) {
    const double images_per_s = 1e3 * (double)b->data.count[0] / t->ms_min;
    stn_net_memory memory;
    stn_net_memory_get(stn_run_net(b->s.run), &memory);
    if (out.json || out.jsonl) {
        json_t *result = bench_json("stnrun-bench/1", &b->s);
        json_t *figures = json_pack(
            "{s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:I, s:s}", "warmup", (json_int_t)b->warmup,
            "steps", (json_int_t)b->repeats, "ms_min", t->ms_min, "ms_median", t->ms_median,
            "images_per_s", images_per_s, "peak_rss_mib", t->peak_rss_mib, "device_bytes",
            (json_int_t)memory.total, "launches",
            (json_int_t)stn_net_launches(stn_run_net(b->s.run), false), "state_hash", hash);
        (void)json_object_update(result, figures);
        json_decref(figures);
        return print_json(result);
    }
    print_heading(&b->s);
    printf("step: minimum %.2f ms, median %.2f ms of %" PRIu64 "; %.0f images/s; peak memory "
           "%.0f MiB\nstate %s after %" PRIu64 " steps\n",
           t->ms_min, t->ms_median, b->repeats, images_per_s, t->peak_rss_mib, hash,
           b->warmup + b->repeats);
    fputs(session_mark(&b->s), stdout);
    return EXIT_OK;
}

/* The trace is made by a step of its own, after the one that the state hash belongs to. */
int bench_step(const args *a) {
    const char *trace = args_value(a, "trace");
    struct stat info;
    bench b = {.repeats = 30};
    step_times times;
    char hash[STN_HASH_HEX];
    stn_err err = {0};
    if (args_has(a, "vs-torch")) {
        return bench_torch(a);
    }
    if (trace != NULL && stat(trace, &info) == 0 && !args_has(a, "force")) {
        fprintf(stderr, "stnrun: %s exists; give --force to replace it\n", trace);
        return EXIT_FAIL;
    }
    int status = bench_open(a, NULL, trace != NULL, &b);
    if (status == EXIT_OK) {
        status = time_steps(&b, 0, &times);
    }
    if (status == EXIT_OK && stn_run_state_hash(b.s.run, hash, &err) != STN_OK) {
        status = fail(&err);
    }
    if (status == EXIT_OK && trace != NULL) {
        status = write_trace(&b, trace);
    }
    if (status == EXIT_OK) {
        status = print_step(&b, &times, hash);
    }
    bench_close(&b);
    return status;
}

/* ---- the command ----------------------------------------------------------------------------- */

static const struct {
    const char *name;
    int (*run)(const args *a);
} kinds[] = {
    {"step", bench_step}, {"ops", bench_ops}, {"epoch", bench_epoch}, {"compare", bench_compare}};
#define N_KINDS (sizeof kinds / sizeof kinds[0])

int cmd_bench(args *a) {
    size_t k = 0;
    while (k < N_KINDS && (a->n_positional != 1 || strcmp(a->positional[0], kinds[k].name) != 0)) {
        k++;
    }
    if (k == N_KINDS) {
        return usage_error(a, "what to measure is needed: stnrun bench step|ops|epoch|compare "
                              "--recipe NAME");
    }
    signals_setup();
    return kinds[k].run(a);
}
