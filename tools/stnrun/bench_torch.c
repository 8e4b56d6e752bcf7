/* stnrun bench step --vs-torch: training steps of stn and of PyTorch in turn, so that whatever else
 * the machine does meets both. A round is `repeats` steps here, then one process of the reference's
 * bench_torch.py; a ratio is the median over the rounds of PyTorch's time over stn's.
 *
 * PyTorch runs as the fastest of its CPU variants: channels last, its allocator kept from returning
 * memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

#define MAX_ROUNDS 1000u
#define MAX_OUTPUT 4096u
#define TORCH_SECONDS "2" /* of its steps in a round */

extern char **environ;

typedef struct versus {
    bench b;
    uint64_t rounds, step;
    const char *python, *script;
    char net[96], batch[24], threads[24], omp_threads[48];
    step_times ours[MAX_ROUNDS], theirs[MAX_ROUNDS];
} versus;

/* ---- PyTorch's process ----------------------------------------------------------------------- */

static int spawn(const versus *v, int to, pid_t *child) {
    char *const keep[] = {(char *)(uintptr_t)v->omp_threads, "MALLOC_MMAP_MAX_=0",
                          "MALLOC_TRIM_THRESHOLD_=68719476736", "MALLOC_TOP_PAD_=268435456",
                          "THP_MEM_ALLOC_ENABLE=1"};
    const size_t n_keep = sizeof keep / sizeof *keep;
    const char *const words[] = {v->python,  v->script,   "step",        "--net",
                                 v->net,     "--batch",   v->batch,      "--threads",
                                 v->threads, "--seconds", TORCH_SECONDS, "--channels-last",
                                 "--label",  "cl_malloc", NULL};
    size_t n = 0;
    while (environ[n] != NULL) {
        n++;
    }
    char **env = calloc(n + n_keep + 1, sizeof *env);
    if (env == NULL) {
        return ENOMEM;
    }
    memcpy(env, keep, sizeof keep); /* the first of a name counts */
    memcpy(env + n_keep, environ, n * sizeof *env);
    posix_spawn_file_actions_t files;
    int error = posix_spawn_file_actions_init(&files);
    if (error == 0) {
        error = posix_spawn_file_actions_adddup2(&files, to, STDOUT_FILENO);
        error = error != 0 ? error
                           : posix_spawnp(child, v->python, &files, NULL,
                                          (char *const *)(uintptr_t)words, env);
        posix_spawn_file_actions_destroy(&files);
    }
    free(env);
    return error;
}

/* All that the child prints, cut to MAX_OUTPUT - 1 characters. */
static void read_all(int from, char *text) {
    size_t used = 0;
    char rest[256];
    for (;;) {
        const bool room = used < MAX_OUTPUT - 1;
        ssize_t n =
            read(from, room ? text + used : rest, room ? MAX_OUTPUT - 1 - used : sizeof rest);
        if (n > 0) {
            used += room ? (size_t)n : 0;
        } else if (n == 0 || errno != EINTR) {
            break;
        }
    }
    text[used] = 0;
}

static bool parse(const char *text, step_times *t) {
    json_t *line = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    const bool ok = json_unpack(line, "{s:F, s:F, s:F}", "ms_min", &t->ms_min, "ms_median",
                                &t->ms_median, "peak_rss_mib", &t->peak_rss_mib) == 0;
    json_decref(line);
    return ok && t->ms_min > 0 && t->ms_median > 0;
}

static int theirs(const versus *v, step_times *t) {
    char text[MAX_OUTPUT] = "";
    int ends[2], ended = 0;
    pid_t child = 0;
    int error = pipe2(ends, O_CLOEXEC) != 0 ? errno : 0;
    if (error == 0) {
        error = spawn(v, ends[1], &child);
        close(ends[1]);
        if (error == 0) {
            read_all(ends[0], text);
            while (waitpid(child, &ended, 0) < 0 && errno == EINTR) {
            }
        }
        close(ends[0]);
    }
    if (signal_stop() != 0) {
        return 128 + signal_stop();
    }
    if (error != 0) {
        fprintf(stderr,
                "stnrun: cannot run %s: %s; set STN_TORCH_PYTHON to a Python with PyTorch\n",
                v->python, strerror(error));
        return EXIT_FAIL;
    }
    if (!WIFEXITED(ended) || WEXITSTATUS(ended) != 0 || !parse(text, t)) {
        fprintf(stderr,
                "stnrun: %s %s step --net %s gave no figures; run it by itself to see why\n",
                v->python, v->script, v->net);
        return EXIT_FAIL;
    }
    return EXIT_OK;
}

/* ---- the measurement ------------------------------------------------------------------------- */

/* The reference's name of the network, mnist_r_sl1, from the recipe's. */
static int name_net(const args *a, versus *v) {
    const char *recipe = args_value(a, "recipe");
    recipe = recipe != NULL ? recipe : getenv("STN_RECIPE");
    if (recipe == NULL) {
        return usage_error(a, "--vs-torch needs --recipe NAME: PyTorch's network is found by it");
    }
    const char *slash = strrchr(recipe, '/');
    (void)snprintf(v->net, sizeof v->net, "%s", slash != NULL ? slash + 1 : recipe);
    v->net[strcspn(v->net, ".")] = 0;
    for (char *c = v->net; *c != 0; c++) {
        *c = *c == '-' ? '_' : *c;
    }
    return EXIT_OK;
}

static int choose(const args *a, versus *v) {
    const char *python = getenv("STN_TORCH_PYTHON");
    v->python = python != NULL && python[0] != 0 ? python : "python3";
    v->script = getenv("STN_TORCH_BENCH");
    if (v->script == NULL || access(v->script, R_OK) != 0) {
        return usage_error(a, "--vs-torch: set STN_TORCH_BENCH to the reference's bench_torch.py, "
                              "and STN_TORCH_PYTHON to a Python with PyTorch; neither is part of "
                              "this project");
    }
    if (!args_number(a, "rounds", 1, MAX_ROUNDS, 5, &v->rounds)) {
        return EXIT_USAGE;
    }
    return name_net(a, v);
}

static int measure(versus *v) {
    const stn_config *config = v->b.s.config;
    const int64_t asked = stn_config_int(config, "threads"); /* 0: all */
    const int64_t threads = asked > 0 ? asked : (int64_t)sysconf(_SC_NPROCESSORS_ONLN);
    (void)snprintf(v->batch, sizeof v->batch, "%" PRId64, stn_config_int(config, "batch"));
    (void)snprintf(v->threads, sizeof v->threads, "%" PRId64, threads);
    (void)snprintf(v->omp_threads, sizeof v->omp_threads, "OMP_NUM_THREADS=%" PRId64, threads);
    for (uint64_t i = 0; i < v->rounds; i++) {
        int status = time_steps(&v->b, v->step, &v->ours[i]);
        v->step += v->b.warmup + v->b.repeats;
        status = status == EXIT_OK ? theirs(v, &v->theirs[i]) : status;
        if (status != EXIT_OK) {
            return status;
        }
        note("round %" PRIu64 " of %" PRIu64 ": %.2f ms, PyTorch %.2f ms", i + 1, v->rounds,
             v->ours[i].ms_median, v->theirs[i].ms_median);
    }
    return EXIT_OK;
}

/* Medians over the rounds. */
static step_times middle(const step_times *of, uint64_t rounds) {
    double min[MAX_ROUNDS], mid[MAX_ROUNDS], memory[MAX_ROUNDS];
    for (uint64_t i = 0; i < rounds; i++) {
        min[i] = of[i].ms_min;
        mid[i] = of[i].ms_median;
        memory[i] = of[i].peak_rss_mib;
    }
    return (step_times){median(min, rounds), median(mid, rounds), median(memory, rounds)};
}

static json_t *times_json(const step_times *t) {
    return json_pack("{s:f, s:f, s:f}", "ms_min", t->ms_min, "ms_median", t->ms_median,
                     "peak_rss_mib", t->peak_rss_mib);
}

static int report(versus *v) {
    double by_median[MAX_ROUNDS], by_min[MAX_ROUNDS];
    char hash[STN_HASH_HEX];
    stn_err err = {0};
    for (uint64_t i = 0; i < v->rounds; i++) {
        by_median[i] = v->theirs[i].ms_median / v->ours[i].ms_median;
        by_min[i] = v->theirs[i].ms_min / v->ours[i].ms_min;
    }
    const double ratio = median(by_median, v->rounds), ratio_min = median(by_min, v->rounds);
    const step_times stn = middle(v->ours, v->rounds), torch = middle(v->theirs, v->rounds);
    if (stn_run_state_hash(v->b.s.run, hash, &err) != STN_OK) {
        return fail(&err);
    }
    if (out.json || out.jsonl) {
        json_t *result = bench_json("stnrun-bench-torch/1", &v->b.s);
        json_object_set_new(result, "rounds", json_integer((json_int_t)v->rounds));
        json_object_set_new(result, "ratio_median", json_real(ratio));
        json_object_set_new(result, "ratio_min", json_real(ratio_min));
        json_object_set_new(result, "stn", times_json(&stn));
        json_object_set_new(result, "torch", times_json(&torch));
        json_object_set_new(result, "state_hash", json_string(hash));
        return print_json(result);
    }
    print_heading(&v->b.s);
    printf("%-8s %10s %10s %16s\n", "", "min ms", "median ms", "peak memory, MiB");
    printf("%-8s %10.2f %10.2f %16.0f\n", "stn", stn.ms_min, stn.ms_median, stn.peak_rss_mib);
    printf("%-8s %10.2f %10.2f %16.0f\n", "PyTorch", torch.ms_min, torch.ms_median,
           torch.peak_rss_mib);
    printf("PyTorch / stn, median of %" PRIu64 " rounds: %.2f by median steps, %.2f by shortest\n",
           v->rounds, ratio, ratio_min);
    printf("state %s after %" PRIu64 " steps\n", hash, v->step);
    fputs(session_mark(&v->b.s), stdout);
    return EXIT_OK;
}

int bench_torch(const args *a) {
    versus *v = calloc(1, sizeof *v);
    if (v == NULL) {
        return usage_error(a, "out of memory");
    }
    v->b.repeats = 30;
    int status = choose(a, v);
    status = status == EXIT_OK ? bench_open(a, NULL, false, &v->b) : status;
    status = status == EXIT_OK ? measure(v) : status;
    status = status == EXIT_OK ? report(v) : status;
    bench_close(&v->b);
    free(v);
    return status;
}
