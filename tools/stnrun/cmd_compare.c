/* stnrun compare: the same training on several sides, step by step. Prints the state hash after
 * each step; at the first step where it differs, the first operator, tensor and element that do.
 * Exit status 0: all equal, 4: different. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compare.h"

typedef struct comparison {
    stn_ctx *ctx;
    side_list sides;
    uint64_t steps;
    char dir[4096], before[4160]; /* temporary folder and the checkpoint in it */
    json_t *rows;
} comparison;

/* The folder that holds the checkpoint before the step at work. */
static int make_folder(comparison *c) {
    const char *tmp = getenv("TMPDIR");
    (void)snprintf(c->dir, sizeof c->dir, "%s/stnrun-compare-XXXXXX",
                   tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    if (mkdtemp(c->dir) == NULL) {
        perror("stnrun: a temporary folder for compare");
        c->dir[0] = 0;
        return EXIT_FAIL;
    }
    (void)snprintf(c->before, sizeof c->before, "%s/before.stn", c->dir);
    return EXIT_OK;
}

/* Hashes of all sides after `step` steps; *other is a side that differs from the first, or 0. */
static int hash_sides(comparison *c, uint64_t step, uint32_t *other) {
    stn_err err = {0};
    *other = 0;
    for (uint32_t i = 0; i < c->sides.n; i++) {
        if (stn_run_state_hash(c->sides.side[i].s.run, c->sides.side[i].hash, &err) != STN_OK) {
            return fail(&err);
        }
        if (*other == 0 && strcmp(c->sides.side[i].hash, c->sides.side[0].hash) != 0) {
            *other = i;
        }
    }
    if (c->rows != NULL) {
        json_t *hashes = json_object();
        for (uint32_t i = 0; i < c->sides.n; i++) {
            json_object_set_new(hashes, c->sides.side[i].label, json_string(c->sides.side[i].hash));
        }
        json_array_append_new(c->rows, json_pack("{s:I, s:b, s:o}", "step", (json_int_t)step,
                                                 "equal", (int)(*other == 0), "hashes", hashes));
        return EXIT_OK;
    }
    printf("step %" PRIu64 "  %s", step, *other == 0 ? "equal      " : "DIFFERENT  ");
    for (uint32_t i = 0; i < (*other == 0 ? 1 : c->sides.n); i++) {
        printf("%s%s%s%s", i > 0 ? "  " : "", *other == 0 ? "" : c->sides.side[i].label,
               *other == 0 ? "" : " ", c->sides.side[i].hash);
    }
    putchar('\n');
    (void)fflush(stdout);
    return EXIT_OK;
}

/* Says which sides lie outside the contract. */
static void mark_sides(const comparison *c) {
    for (uint32_t i = 0; i < c->sides.n; i++) {
        const char *mark = session_mark(&c->sides.side[i].s);
        if (mark[0] != 0) {
            printf("side %s: %s", c->sides.side[i].label, mark);
        }
    }
}

static json_t *marks_json(const comparison *c) {
    json_t *marks = json_object();
    for (uint32_t i = 0; i < c->sides.n; i++) {
        json_object_set_new(marks, c->sides.side[i].label,
                            json_boolean(stn_run_reproducible(c->sides.side[i].s.run)));
    }
    return marks;
}

static json_t *difference_json(const comparison *c, const difference *d, uint32_t other) {
    return json_pack("{s:I, s:i, s:s, s:s, s:[i,i,i,i], s:s, s:s, s:f, s:f, s:o}", "step",
                     (json_int_t)d->step, "node", d->node == UINT32_MAX ? -1 : (int)d->node,
                     "operator", d->op, "tensor", d->tensor, "element", (int)d->at[0],
                     (int)d->at[1], (int)d->at[2], (int)d->at[3], "first", c->sides.side[0].label,
                     "second", c->sides.side[other].label, "value_first", d->value[0],
                     "value_second", d->value[1], "ulp",
                     d->ulp == UINT64_MAX ? json_null() : json_integer((json_int_t)d->ulp));
}

static void print_difference(const comparison *c, const difference *d, uint32_t other) {
    if (!d->found) {
        printf("the hashes differ, but repeating step %" PRIu64 " with every value kept shows no "
               "difference: one side does not repeat its own results\n",
               d->step);
        return;
    }
    printf("first difference: step %" PRIu64 ", ", d->step);
    if (d->node != UINT32_MAX) {
        printf("node %u, ", d->node);
    }
    printf("operator %s, tensor \"%s\", element [%u,%u,%u,%u]\n", d->op, d->tensor, d->at[0],
           d->at[1], d->at[2], d->at[3]);
    for (int i = 0; i < 2; i++) {
        const char *label = c->sides.side[i == 0 ? 0 : other].label;
        if (d->integer) {
            printf("  %-16s %.0f\n", label, d->value[i]);
        } else {
            printf("  %-16s %-16a %.9g\n", label, d->value[i], d->value[i]);
        }
    }
    if (!d->integer && d->ulp != UINT64_MAX) {
        printf("  distance %" PRIu64 " ulp\n", d->ulp);
    }
}

static int explain(const args *a, comparison *c, uint64_t step, uint32_t other) {
    difference d = {.step = step};
    if (step == 0) {
        fputs("stnrun: the initial states differ already: the sides read different data or "
              "settings\n",
              stderr);
        return EXIT_MISMATCH;
    }
    int status = find_difference(
        a, c->ctx, (side *const[2]){&c->sides.side[0], &c->sides.side[other]}, c->before, step, &d);
    if (status != EXIT_OK) {
        return status;
    }
    if (c->rows == NULL) {
        print_difference(c, &d, other);
    } else {
        json_array_append_new(c->rows,
                              json_pack("{s:o}", "difference",
                                        d.found ? difference_json(c, &d, other) : json_null()));
    }
    return EXIT_MISMATCH;
}

static int compare_steps(const args *a, comparison *c) {
    stn_err err = {0};
    uint32_t other = 0;
    for (uint64_t step = 0; step <= c->steps; step++) {
        for (uint32_t i = 0; i < c->sides.n && step > 0; i++) {
            if (stn_run_train(c->sides.side[i].s.run, step, NULL, NULL, &err) != STN_OK) {
                return fail(&err);
            }
        }
        int status = hash_sides(c, step, &other);
        if (status != EXIT_OK) {
            return status;
        }
        if (other != 0) {
            return explain(a, c, step, other);
        }
        if (signal_stop() != 0) {
            return 128 + signal_stop();
        }
        if (step < c->steps && stn_run_save(c->sides.side[0].s.run, c->before, &err) != STN_OK) {
            return fail(&err);
        }
    }
    if (c->rows == NULL) {
        printf("%" PRIu64 " steps, all sides equal\n", c->steps);
    }
    return EXIT_OK;
}

static void close_comparison(comparison *c) {
    sides_close(&c->sides);
    if (c->dir[0] != 0) {
        (void)unlink(c->before);
        (void)rmdir(c->dir);
    }
    json_decref(c->rows);
    stn_close(c->ctx);
    free(c);
}

int cmd_compare(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    comparison *c = calloc(1, sizeof *c);
    if (c == NULL) {
        return usage_error(a, "out of memory");
    }
    c->rows = out.json || out.jsonl ? json_array() : NULL;
    int status = args_number(a, "steps", 1, 1000000000, 10, &c->steps) ? EXIT_OK : EXIT_USAGE;
    if (status == EXIT_OK) {
        status = sides_choose(a, &c->sides);
    }
    if (status == EXIT_OK) {
        status = open_context(a, &c->ctx);
    }
    if (status == EXIT_OK) {
        status = sides_open(a, c->ctx, &c->sides);
    }
    if (status == EXIT_OK) {
        uint64_t length = stn_run_length(c->sides.side[0].s.run);
        c->steps = c->steps < length ? c->steps : length;
    }
    if (status == EXIT_OK) {
        status = make_folder(c);
    }
    if (status == EXIT_OK) {
        signals_setup();
        status = compare_steps(a, c);
    }
    if (c->rows != NULL && (status == EXIT_OK || status == EXIT_MISMATCH)) {
        (void)print_json(json_pack("{s:s, s:b, s:o, s:O}", "schema", "stnrun-compare/1", "equal",
                                   (int)(status == EXIT_OK), "reproducible", marks_json(c), "steps",
                                   c->rows));
    } else if (status == EXIT_OK || status == EXIT_MISMATCH) {
        mark_sides(c);
    }
    close_comparison(c);
    return status;
}
