/* stnrun bench ops --model: what every kernel of a training step does, computed from its launch.
 *
 * Nothing is run or timed, so no device of the class is needed: the numbers belong to the launches
 * that a device would get. Bounds are for the peaks given; occupancy is for the limits below. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

/* Limits of one compute unit: work-items, groups (and groups of one wave), registers. */
typedef struct unit {
    const char *name;
    uint32_t items, groups, small_groups, registers, local_bytes, wave;
} unit;

static const unit units[] = {
    {"cc80", 2048, 32, 32, 65536, 164 * 1024, 32}, /* NVIDIA, compute capability 8.0 (A100) */
    {"cc75", 1024, 16, 16, 65536, 64 * 1024, 32},  /* NVIDIA, compute capability 7.5 (T4) */
    {"gcn", 2560, 16, 40, 65536, 64 * 1024, 64},   /* AMD, GCN and CDNA */
};
#define N_UNITS (sizeof units / sizeof units[0])

/* Added to the values that a kernel is designed to hold: addresses, counters, constants. */
#define OTHER_REGISTERS 24u
/* Of a kernel without such a design. */
#define PLAIN_REGISTERS 32u

typedef struct model_row {
    stn_launch launch;
    const char *op, *name; /* of the operator; NULL for the sums */
    double bound_us;
} model_row;

typedef struct model {
    bench b;
    uint64_t gflops, gbytes; /* a second */
    model_row *rows, sum;
    uint32_t n;
    uint64_t declared; /* work of all operators */
} model;

static uint32_t registers_of(const stn_launch *l) {
    return l->registers == 0 ? PLAIN_REGISTERS : l->registers + OTHER_REGISTERS;
}

static uint32_t at_most(uint32_t x, uint32_t limit) {
    return x < limit ? x : limit;
}

/* Share of a unit's items that are resident at once, if there are groups enough. */
static double occupancy(const unit *u, const stn_launch *l) {
    uint32_t items = l->group[0] * l->group[1] * l->group[2];
    uint32_t held = (items + u->wave - 1) / u->wave * u->wave;
    uint32_t groups = at_most(held > u->wave ? u->groups : u->small_groups, u->items / held);
    groups = at_most(groups, u->registers / (held * registers_of(l)));
    if (l->local_bytes > 0) {
        groups = at_most(groups, u->local_bytes / l->local_bytes);
    }
    return (double)(groups * items) / u->items;
}

static uint64_t bytes_of(const stn_launch *l) {
    return l->read + l->written;
}

static double bound_us(const model *m, const stn_launch *l) {
    double work = 1e-3 * (double)l->flops / (double)m->gflops;
    double memory = 1e-3 * (double)bytes_of(l) / (double)m->gbytes;
    return work > memory ? work : memory;
}

/* ---- gathering ------------------------------------------------------------------------------- */

static void add_row(model *m, const stn_launch *l, const stn_node_info *node) {
    model_row *row = &m->rows[m->n++];
    *row = (model_row){*l, node->op, node->name, bound_us(m, l)};
    m->sum.launch.flops += l->flops;
    m->sum.launch.read += l->read;
    m->sum.launch.written += l->written;
    m->sum.launch.loads += l->loads;
    m->sum.bound_us += row->bound_us;
}

static int32_t gather(model *m, stn_err *err) {
    stn_net *net = stn_run_net(m->b.s.run);
    for (uint32_t i = 0; i < stn_net_node_count(net, false); i++) {
        stn_node_info node;
        uint32_t n;
        STN_TRY(stn_net_node_get(net, false, i, &node, err));
        if (stn_net_node_launches(net, false, i, &n, err) == STN_E_UNSUPPORTED) {
            return stn_fail(err, STN_E_UNSUPPORTED,
                            "backend %s does not describe its kernels; use --backend opencl",
                            stn_dev_info(m->b.s.dev)->backend);
        }
        m->declared += node.flops;
        for (uint32_t k = 0; k < n; k++) {
            stn_launch launch;
            STN_TRY(stn_net_launch_get(net, false, i, k, &launch, err));
            model_row *more = realloc(m->rows, (m->n + 1u) * sizeof *more);
            if (more == NULL) {
                return stn_fail(err, STN_E_NOMEM, "no memory for %u kernels", m->n + 1);
            }
            m->rows = more;
            add_row(m, &launch, &node);
        }
    }
    return STN_OK;
}

/* ---- as JSON --------------------------------------------------------------------------------- */

static json_t *intensity_json(const stn_launch *l) {
    return bytes_of(l) == 0 ? json_null() : json_real((double)l->flops / (double)bytes_of(l));
}

static json_t *row_json(const model_row *row) {
    const stn_launch *l = &row->launch;
    json_t *shares = json_object();
    for (size_t u = 0; u < N_UNITS; u++) {
        json_object_set_new(shares, units[u].name, json_real(occupancy(&units[u], l)));
    }
    return json_pack(
        "{s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:o, s:[i,i,i], s:I, s:i, s:i, s:i, s:o, s:f}",
        "kernel", l->name, "operator", row->op, "name", row->name, "flops", (json_int_t)l->flops,
        "bytes_read", (json_int_t)l->read, "bytes_written", (json_int_t)l->written,
        "bytes_loaded_by_groups", (json_int_t)l->loads, "flops_per_byte", intensity_json(l),
        "group", (int)l->group[0], (int)l->group[1], (int)l->group[2], "groups",
        (json_int_t)l->groups, "registers", (int)registers_of(l), "local_bytes",
        (int)l->local_bytes, "private_bytes", (int)l->private_bytes, "occupancy", shares,
        "roofline_us", row->bound_us);
}

static json_t *head_json(const model *m) {
    json_t *head = bench_json("stnrun-bench-model/1", &m->b.s);
    json_object_set_new(head, "peak_gflops_per_s", json_integer((json_int_t)m->gflops));
    json_object_set_new(head, "peak_gbytes_per_s", json_integer((json_int_t)m->gbytes));
    return head;
}

static json_t *sums_json(const model *m) {
    const stn_launch *l = &m->sum.launch;
    return json_pack("{s:i, s:I, s:I, s:I, s:I, s:I, s:f}", "kernels", (int)m->n, "flops",
                     (json_int_t)l->flops, "declared_flops", (json_int_t)m->declared, "bytes_read",
                     (json_int_t)l->read, "bytes_written", (json_int_t)l->written,
                     "bytes_loaded_by_groups", (json_int_t)l->loads, "roofline_us",
                     m->sum.bound_us);
}

static int print_record(json_t *record, const char *kind) {
    json_object_set_new(record, "record", json_string(kind));
    return print_json(record);
}

static int print_as_json(const model *m) {
    json_t *head = head_json(m);
    if (out.json) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < m->n; i++) {
            json_array_append_new(list, row_json(&m->rows[i]));
        }
        json_object_set_new(head, "kernels", list);
        json_object_set_new(head, "sums", sums_json(m));
        return print_json(head);
    }
    int status = print_record(head, "device");
    for (uint32_t i = 0; i < m->n && status == EXIT_OK; i++) {
        status = print_record(row_json(&m->rows[i]), "kernel");
    }
    return status == EXIT_OK ? print_record(sums_json(m), "sums") : status;
}

/* ---- for people ------------------------------------------------------------------------------ */

static void print_row(const model_row *row) {
    const stn_launch *l = &row->launch;
    char group[32];
    (void)snprintf(group, sizeof group, "%ux%ux%u", l->group[0], l->group[1], l->group[2]);
    printf("%8.1f %9.3f %9.3f %9.3f", row->bound_us, 1e-6 * (double)l->flops,
           1e-6 * (double)bytes_of(l), 1e-6 * (double)l->loads);
    if (bytes_of(l) > 0) {
        printf(" %7.2f", (double)l->flops / (double)bytes_of(l));
    } else {
        printf(" %7s", "-");
    }
    printf(" %9s %8" PRIu64 " %6u %5u", group, l->groups, l->local_bytes, registers_of(l));
    for (size_t u = 0; u < N_UNITS; u++) {
        printf(" %5.0f", 100.0 * occupancy(&units[u], l));
    }
    printf("  %-20s %s %s\n", l->name, row->op, row->name);
}

static void print_table(const model *m) {
    const stn_launch *l = &m->sum.launch;
    print_heading(&m->b.s);
    printf("bounds for %" PRIu64 " GFLOP/s and %" PRIu64 " GB/s; nothing was run\n", m->gflops,
           m->gbytes);
    printf("%8s %9s %9s %9s %7s %9s %8s %6s %5s", "bound us", "MFLOP", "MB", "MB loads", "FLOP/B",
           "group", "groups", "local", "regs");
    for (size_t u = 0; u < N_UNITS; u++) {
        printf(" %5s", units[u].name);
    }
    printf("  %-20s %s\n", "kernel", "operator");
    for (uint32_t i = 0; i < m->n; i++) {
        print_row(&m->rows[i]);
    }
    printf("%8.1f us in %u kernels: %.1f MFLOP (operators declare %.1f), %.1f MB\n",
           m->sum.bound_us, m->n, 1e-6 * (double)l->flops, 1e-6 * (double)m->declared,
           1e-6 * (double)bytes_of(l));
    fputs(session_mark(&m->b.s), stdout);
}

static bool chooses_backend(const args *a) {
    for (uint32_t i = 0; i < a->n_settings; i++) {
        if (a->setting[i].flag == NULL && strcmp(a->setting[i].name, "backend") == 0) {
            return true;
        }
    }
    return false;
}

int bench_model(const args *a) {
    static const char *const opencl[2] = {"backend", "opencl"};
    model m = {.b = {.repeats = 1}};
    stn_err err = {0};
    if (!args_number(a, "peak-gflops", 1, 100000000, 10000, &m.gflops) ||
        !args_number(a, "peak-gbytes", 1, 10000000, 500, &m.gbytes)) {
        return EXIT_USAGE;
    }
    int status = bench_open(a, chooses_backend(a) ? NULL : opencl, false, &m.b);
    if (status == EXIT_OK && gather(&m, &err) != STN_OK) {
        status = fail(&err);
    }
    if (status == EXIT_OK && (out.json || out.jsonl)) {
        status = print_as_json(&m);
    } else if (status == EXIT_OK) {
        print_table(&m);
    }
    free(m.rows);
    bench_close(&m.b);
    return status;
}
