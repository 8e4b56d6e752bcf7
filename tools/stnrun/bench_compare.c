/* stnrun bench compare: the same steps on several sides in turn, so that whatever else the machine
 * does meets all of them. The ratio of a side is the median over the steps of its time over the
 * first side's time for the same step. All sides see the same batches and must end in the same
 * state: exit status 4 if they do not. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "compare.h"

/* What is shown of a side. */
typedef struct side_figures {
    double ms_min, ms_median;
    double ratio, low, high; /* median and quartiles of time over the first side's */
} side_figures;

typedef struct bench_sides {
    stn_ctx *ctx;
    side_list sides;
    batches data;
    bench b; /* warmup and repeats only */
    double *ms[MAX_SIDES];
    uint64_t block; /* steps */
    double *ratios; /* one side's */
    side_figures figures[MAX_SIDES];
    bool equal;
} bench_sides;

static int make_room(bench_sides *c) {
    bool ok = (c->ratios = calloc(c->b.repeats, sizeof *c->ratios)) != NULL;
    for (uint32_t k = 0; k < c->sides.n && ok; k++) {
        ok = (c->ms[k] = calloc(c->b.repeats, sizeof *c->ms[k])) != NULL;
    }
    if (!ok) {
        stn_err err = {0};
        (void)stn_fail(&err, STN_E_NOMEM, "no memory for %" PRIu64 " times", c->b.repeats);
        return fail(&err);
    }
    return EXIT_OK;
}

static uint64_t warm_blocks(const bench_sides *c) {
    return (c->b.warmup + c->block - 1) / c->block;
}

/* Every block on every side before the next one; another side begins each time. */
static int time_sides(bench_sides *c) {
    uint64_t warm = warm_blocks(c);
    for (uint64_t i = 0; i < warm + c->b.repeats; i++) {
        for (uint32_t j = 0; j < c->sides.n; j++) {
            uint32_t k = (uint32_t)((i + j) % c->sides.n);
            double *ms = i < warm ? NULL : &c->ms[k][i - warm];
            int status = timed_block(&c->sides.side[k].s, &c->data, i * c->block, c->block, ms);
            if (status != EXIT_OK) {
                return status;
            }
        }
    }
    return EXIT_OK;
}

static int evaluate(bench_sides *c) {
    uint64_t n = c->b.repeats;
    c->equal = true;
    for (uint32_t k = c->sides.n; k-- > 0;) { /* the first side's order is needed to the end */
        side *one = &c->sides.side[k];
        side_figures *f = &c->figures[k];
        stn_err err = {0};
        for (uint64_t i = 0; i < n; i++) {
            c->ratios[i] = c->ms[k][i] / c->ms[0][i];
        }
        f->ratio = median(c->ratios, n);
        f->low = c->ratios[n / 4];
        f->high = c->ratios[n - 1 - n / 4];
        f->ms_median = median(c->ms[k], n);
        f->ms_min = c->ms[k][0];
        if (stn_run_state_hash(one->s.run, one->hash, &err) != STN_OK) {
            return fail(&err);
        }
    }
    for (uint32_t k = 1; k < c->sides.n; k++) {
        c->equal = c->equal && strcmp(c->sides.side[k].hash, c->sides.side[0].hash) == 0;
    }
    return EXIT_OK;
}

static int print_sides_json(const bench_sides *c) {
    json_t *list = json_array(),
           *result = bench_json("stnrun-bench-compare/1", &c->sides.side[0].s);
    for (uint32_t k = 0; k < c->sides.n; k++) {
        const side_figures *f = &c->figures[k];
        const side *one = &c->sides.side[k];
        json_array_append_new(
            list, json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:s, s:b, s:o}", "side", one->label,
                            "ms_min", f->ms_min, "ms_median", f->ms_median, "ratio_to_first",
                            f->ratio, "ratio_low", f->low, "ratio_high", f->high, "state_hash",
                            one->hash, "reproducible", (int)stn_run_reproducible(one->s.run),
                            "device", device_json(stn_dev_info(one->s.dev))));
    }
    (void)json_object_del(result, "device");
    (void)json_object_del(result, "reproducible");
    json_object_set_new(result, "warmup", json_integer((json_int_t)c->b.warmup));
    json_object_set_new(result, "repeats", json_integer((json_int_t)c->b.repeats));
    json_object_set_new(result, "block", json_integer((json_int_t)c->block));
    json_object_set_new(result, "equal", json_boolean(c->equal));
    json_object_set_new(result, "sides", list);
    return print_json(result);
}

static void print_sides(const bench_sides *c) {
    const stn_config *config = c->sides.side[0].s.config;
    printf("%s %s, batch %" PRId64 "; ratios of time to side %s: median and quartiles of %" PRIu64
           " pairs\n",
           stn_config_get(config, "model"), stn_config_get(config, "network"),
           stn_config_int(config, "batch"), c->sides.side[0].label, c->b.repeats);
    printf("%-16s %10s %10s %8s %8s %8s\n", "side", "min ms", "median ms", "ratio", "low", "high");
    for (uint32_t k = 0; k < c->sides.n; k++) {
        const side_figures *f = &c->figures[k];
        printf("%-16s %10.2f %10.2f %8.3f %8.3f %8.3f\n", c->sides.side[k].label, f->ms_min,
               f->ms_median, f->ratio, f->low, f->high);
    }
    uint64_t steps = (warm_blocks(c) + c->b.repeats) * c->block;
    if (c->equal) {
        printf("state %s after %" PRIu64 " steps on all sides\n", c->sides.side[0].hash, steps);
    }
    for (uint32_t k = 0; k < c->sides.n; k++) {
        const char *mark = session_mark(&c->sides.side[k].s);
        if (!c->equal) {
            printf("DIFFERENT  %s  side %s after %" PRIu64 " steps\n", c->sides.side[k].hash,
                   c->sides.side[k].label, steps);
        }
        if (mark[0] != 0) {
            printf("side %s: %s", c->sides.side[k].label, mark);
        }
    }
}

static int run_sides(const args *a, bench_sides *c) {
    int status = sides_choose(a, &c->sides);
    status = status == EXIT_OK ? open_context(a, &c->ctx) : status;
    status = status == EXIT_OK ? sides_open(a, c->ctx, &c->sides) : status;
    status = status == EXIT_OK ? make_room(c) : status;
    status = status == EXIT_OK ? batches_load(&c->data, &c->sides.side[0].s) : status;
    status = status == EXIT_OK ? time_sides(c) : status;
    status = status == EXIT_OK ? evaluate(c) : status;
    if (status != EXIT_OK) {
        return status;
    }
    if (out.json || out.jsonl) {
        status = print_sides_json(c);
    } else {
        print_sides(c);
    }
    return status != EXIT_OK ? status : c->equal ? EXIT_OK : EXIT_MISMATCH;
}

int bench_compare(const args *a) {
    bench_sides *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return usage_error(a, "out of memory");
    }
    c->b.repeats = 30;
    bool good = bench_repeats(a, &c->b) && args_number(a, "block", 1, 1000000, 1, &c->block);
    int status = good ? run_sides(a, c) : EXIT_USAGE;
    sides_close(&c->sides);
    batches_free(&c->data);
    for (uint32_t k = 0; k < MAX_SIDES; k++) {
        free(c->ms[k]);
    }
    free(c->ratios);
    stn_close(c->ctx);
    free(c);
    return status;
}
