/* stnrun bench step --trace: one training step as a timeline of its operators, in the JSON format
 * that Chrome (chrome://tracing) and Perfetto (ui.perfetto.dev) open.
 *
 * Each operator is waited for, so the times are right on every backend. On a device with a queue
 * the step takes longer that way than it does otherwise; what the device itself measured is shown
 * beside. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

typedef struct trace {
    stn_net *net;
    uint32_t n;
    stn_span *spans;
    double begin_ms, end_ms; /* of the whole step, the same clock */
    json_t *events;
} trace;

static double microseconds(const trace *t, uint64_t ns) {
    return 1e-3 * (double)ns - 1e3 * t->begin_ms;
}

/* A complete event of the only thread. */
static void add_event(trace *t, const char *name, const char *category, double begin, double end,
                      json_t *about) {
    json_array_append_new(t->events, json_pack("{s:s, s:s, s:s, s:f, s:f, s:i, s:i, s:o}", "name",
                                               name, "cat", category, "ph", "X", "ts", begin, "dur",
                                               end > begin ? end - begin : 0, "pid", 1, "tid", 1,
                                               "args", about));
}

static void add_name(trace *t, const char *what, const char *name) {
    json_array_append_new(t->events, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", what, "ph",
                                               "M", "pid", 1, "tid", 1, "args", "name", name));
}

static int32_t add_operators(trace *t, stn_err *err) {
    for (uint32_t i = 0; i < t->n; i++) {
        stn_node_info node;
        STN_TRY(stn_net_node_get(t->net, false, i, &node, err));
        json_t *about = json_pack("{s:s, s:i, s:I, s:I}", "of", node.name, "node", (int)i, "flops",
                                  (json_int_t)node.flops, "bytes", (json_int_t)node.bytes);
        if (node.ns > 0) {
            json_object_set_new(about, "device_us", json_real(1e-3 * (double)node.ns));
        }
        add_event(t, node.op, "operator", microseconds(t, t->spans[i].begin),
                  microseconds(t, t->spans[i].end), about);
    }
    return STN_OK;
}

static int32_t fill_trace(trace *t, const bench *b, stn_err *err) {
    char text[512];
    double first = microseconds(t, t->spans[0].begin),
           last = microseconds(t, t->spans[t->n - 1].end), end = 1e3 * (t->end_ms - t->begin_ms);
    add_name(t, "process_name", device_text(b->s.dev, text, sizeof text));
    add_name(t, "thread_name", "operators, each waited for (host clock)");
    add_event(t, "step", "step", 0.0, end,
              json_pack("{s:s, s:I}", "network", stn_config_get(b->s.config, "network"), "batch",
                        (json_int_t)b->data.count[0]));
    add_event(t, "copy images and labels", "host", 0.0, first, json_object());
    STN_TRY(add_operators(t, err));
    add_event(t, "collect results", "host", last, end, json_object());
    return STN_OK;
}

static int32_t write_file(const trace *t, const bench *b, const char *path, stn_err *err) {
    json_t *about = bench_json("stnrun-bench-trace/1", &b->s);
    json_object_set_new(about, "times",
                        json_string("host clock, each operator waited for; "
                                    "device_us: as the device measured it"));
    json_t *document = json_pack("{s:s, s:o, s:O}", "displayTimeUnit", "ms", "otherData", about,
                                 "traceEvents", t->events);
    bool ok = document != NULL &&
              json_dump_file(document, path, JSON_COMPACT | JSON_REAL_PRECISION(9)) == 0;
    json_decref(document);
    return ok ? STN_OK : stn_fail(err, STN_E_IO, "%s: cannot write the trace", path);
}

int write_trace(bench *b, const char *path) {
    trace t = {.net = stn_run_net(b->s.run)};
    stn_err err = {0};
    t.n = stn_net_node_count(t.net, false);
    t.spans = calloc(t.n, sizeof *t.spans);
    t.events = json_array();
    if (t.spans == NULL || t.events == NULL) {
        (void)stn_fail(&err, STN_E_NOMEM, "no memory for a trace of %u operators", t.n);
        free(t.spans);
        json_decref(t.events);
        return fail(&err);
    }
    stn_net_watch(t.net, t.spans);
    t.begin_ms = now_ms();
    int status = timed_step(&b->s, &b->data, stn_run_step(b->s.run), NULL);
    t.end_ms = now_ms();
    stn_net_watch(t.net, NULL);
    if (status == EXIT_OK &&
        (fill_trace(&t, b, &err) != STN_OK || write_file(&t, b, path, &err) != STN_OK)) {
        status = fail(&err);
    }
    json_decref(t.events);
    free(t.spans);
    return status;
}
