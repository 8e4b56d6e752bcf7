/* stnrun bench ops: every operator of a training step against what the device can do at best.
 *
 * The peaks (fused multiply-adds on registers, memory beyond the caches) are measured first, on the
 * same device with the same threads. An operator's roofline is the longer one of its work at the
 * first peak and its operands, each moved once, at the second. Work is counted as declared: a
 * kernel that skips zeros, or finds its operands in a cache, may take less than its roofline. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"

typedef struct ops_bench {
    bench b;
    stn_peaks peaks; /* zeros where the backend cannot measure them */
    uint32_t n;
    double *us; /* [operator][repeat] */
} ops_bench;

/* One line of the result. */
typedef struct op_row {
    stn_node_info node;
    double us_min, us_median, roof_us; /* roof_us 0: unknown */
    double gflops, gbytes;             /* a second, in the shortest time */
} op_row;

static int measure_peaks(ops_bench *o) {
    stn_err err = {0};
    note("measuring the device's peaks");
    int32_t status = stn_dev_peaks(o->b.s.dev, &o->peaks, &err);
    if (status == STN_E_UNSUPPORTED) {
        note("warning: %s; there are no shares", err.text);
        return EXIT_OK;
    }
    return status == STN_OK ? EXIT_OK : fail(&err);
}

static int time_operators(ops_bench *o) {
    stn_net *net = stn_run_net(o->b.s.run);
    stn_err err = {0};
    for (uint64_t i = 0; i < o->b.warmup + o->b.repeats; i++) {
        uint64_t k = i - o->b.warmup;
        int status = timed_step(&o->b.s, &o->b.data, i, i < o->b.warmup ? NULL : &o->b.ms[k]);
        if (status != EXIT_OK) {
            return status;
        }
        for (uint32_t j = 0; i >= o->b.warmup && j < o->n; j++) {
            stn_node_info node;
            if (stn_net_node_get(net, false, j, &node, &err) != STN_OK) {
                return fail(&err);
            }
            o->us[j * o->b.repeats + k] = 1e-3 * (double)node.ns;
        }
    }
    return EXIT_OK;
}

static int make_row(ops_bench *o, uint32_t i, op_row *row) {
    stn_err err = {0};
    if (stn_net_node_get(stn_run_net(o->b.s.run), false, i, &row->node, &err) != STN_OK) {
        return fail(&err);
    }
    double *us = o->us + i * o->b.repeats;
    double flops = (double)row->node.flops, bytes = (double)row->node.bytes;
    row->us_median = median(us, o->b.repeats);
    row->us_min = us[0];
    row->gflops = us[0] > 0.0 ? 1e-3 * flops / us[0] : 0.0;
    row->gbytes = us[0] > 0.0 ? 1e-3 * bytes / us[0] : 0.0;
    row->roof_us = 0.0;
    if (o->peaks.flops > 0.0 && o->peaks.bytes > 0.0) {
        double work = 1e6 * flops / o->peaks.flops, memory = 1e6 * bytes / o->peaks.bytes;
        row->roof_us = work > memory ? work : memory;
    }
    return EXIT_OK;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *ratio_json(double value, double of) {
    return value > 0.0 && of > 0.0 ? json_real(value / of) : json_null();
}

static json_t *row_json(const ops_bench *o, const op_row *row) {
    return json_pack(
        "{s:s, s:s, s:f, s:f, s:I, s:I, s:f, s:f, s:o, s:o, s:o, s:o, s:o}", "operator",
        row->node.op, "name", row->node.name, "us_min", row->us_min, "us_median", row->us_median,
        "flops", (json_int_t)row->node.flops, "bytes", (json_int_t)row->node.bytes, "gflops_per_s",
        row->gflops, "gbytes_per_s", row->gbytes, "flops_per_byte",
        ratio_json((double)row->node.flops, (double)row->node.bytes), "fma_share",
        ratio_json(1e9 * row->gflops, o->peaks.flops), "memory_share",
        ratio_json(1e9 * row->gbytes, o->peaks.bytes), "roofline_us", ratio_json(row->roof_us, 1.0),
        "time_over_roofline", ratio_json(row->us_min, row->roof_us));
}

static json_t *head_json(const ops_bench *o) {
    json_t *head = bench_json("stnrun-bench-ops/2", &o->b.s);
    json_object_set_new(head, "warmup", json_integer((json_int_t)o->b.warmup));
    json_object_set_new(head, "repeats", json_integer((json_int_t)o->b.repeats));
    json_object_set_new(head, "peak_gflops_per_s", ratio_json(o->peaks.flops, 1e9));
    json_object_set_new(head, "peak_gbytes_per_s", ratio_json(o->peaks.bytes, 1e9));
    return head;
}

static json_t *sums_json(const ops_bench *o, const op_row *sum) {
    return json_pack("{s:f, s:f, s:o, s:f}", "us_min", sum->us_min, "us_median", sum->us_median,
                     "roofline_us", ratio_json(sum->roof_us, 1.0), "step_ms_min", o->b.ms[0]);
}

/* One document, or with --jsonl a record for the device, one for each operator, one for the sums.
 */
static int print_rows_json(const ops_bench *o, const op_row *rows, const op_row *sum) {
    json_t *head = head_json(o), *list = json_array();
    for (uint32_t i = 0; i < o->n; i++) {
        json_array_append_new(list, row_json(o, &rows[i]));
    }
    if (out.json) {
        json_object_set_new(head, "operators", list);
        json_object_set_new(head, "sums", sums_json(o, sum));
        return print_json(head);
    }
    json_object_set_new(head, "record", json_string("device"));
    int status = print_json(head);
    for (uint32_t i = 0; status == EXIT_OK && i < o->n; i++) {
        json_t *row = json_incref(json_array_get(list, i));
        json_object_set_new(row, "record", json_string("operator"));
        status = print_json(row);
    }
    json_decref(list);
    json_t *sums = sums_json(o, sum);
    json_object_set_new(sums, "record", json_string("sums"));
    return status == EXIT_OK ? print_json(sums) : status;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_ratio(int width, int digits, double value, double of) {
    if (value > 0.0 && of > 0.0) {
        printf(" %*.*f", width, digits, value / of);
    } else {
        printf(" %*s", width, "-");
    }
}

static void print_row(const ops_bench *o, const op_row *row) {
    printf("%10.1f %10.1f %8.1f", row->us_min, row->us_median, row->gflops);
    print_ratio(6, 1, 1e11 * row->gflops, o->peaks.flops);
    printf(" %7.1f", row->gbytes);
    print_ratio(6, 1, 1e11 * row->gbytes, o->peaks.bytes);
    print_ratio(7, 2, (double)row->node.flops, (double)row->node.bytes);
    print_ratio(10, 1, row->roof_us, 1.0);
    print_ratio(6, 2, row->us_min, row->roof_us);
    printf("  %-20s %s\n", row->node.op, row->node.name);
}

static void print_rows(const ops_bench *o, const op_row *rows, const op_row *sum) {
    print_heading(&o->b.s);
    if (o->peaks.flops > 0.0) {
        printf("peaks as measured: %.1f GFLOP/s by fused multiply-adds, %.1f GB/s beyond the "
               "caches\n",
               1e-9 * o->peaks.flops, 1e-9 * o->peaks.bytes);
    }
    printf("%10s %10s %8s %6s %7s %6s %7s %10s %6s  %-20s %s\n", "min us", "median us", "GFLOP/s",
           "% peak", "GB/s", "% peak", "FLOP/B", "roof us", "x roof", "operator", "name");
    for (uint32_t i = 0; i < o->n; i++) {
        print_row(o, &rows[i]);
    }
    printf("%10.1f us in %u operators", sum->us_min, o->n);
    if (sum->roof_us > 0.0) {
        printf(", %.1f us by their rooflines", sum->roof_us);
    }
    printf("; minimum step %.2f ms\n", o->b.ms[0]);
    fputs(session_mark(&o->b.s), stdout);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static int print_operators(ops_bench *o, op_row *rows) {
    op_row sum = {.us_min = 0.0};
    for (uint32_t i = 0; i < o->n; i++) {
        int status = make_row(o, i, &rows[i]);
        if (status != EXIT_OK) {
            return status;
        }
        sum.us_min += rows[i].us_min;
        sum.us_median += rows[i].us_median;
        sum.roof_us += rows[i].roof_us;
    }
    (void)median(o->b.ms, o->b.repeats);
    if (sum.us_min <= 0.0) {
        note("warning: this device does not measure its operators");
    }
    if (out.json || out.jsonl) {
        return print_rows_json(o, rows, &sum);
    }
    print_rows(o, rows, &sum);
    return EXIT_OK;
}

int bench_ops(const args *a) {
    if (args_has(a, "model")) {
        return bench_model(a);
    }
    ops_bench o = {.b = {.repeats = 30}};
    op_row *rows = NULL;
    int status = bench_open(a, NULL, true, &o.b);
    if (status == EXIT_OK) {
        o.n = stn_net_node_count(stn_run_net(o.b.s.run), false);
        o.us = calloc(o.n * o.b.repeats, sizeof *o.us);
        rows = calloc(o.n, sizeof *rows);
        if (o.us == NULL || rows == NULL) {
            stn_err err = {0};
            (void)stn_fail(&err, STN_E_NOMEM, "no memory for times of %u operators", o.n);
            status = fail(&err);
        }
    }
    status = status == EXIT_OK ? measure_peaks(&o) : status;
    status = status == EXIT_OK ? time_operators(&o) : status;
    status = status == EXIT_OK ? print_operators(&o, rows) : status;
    free(rows);
    free(o.us);
    bench_close(&o.b);
    return status;
}
