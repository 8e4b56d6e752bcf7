/* stnrun check: golden files of another framework against a device.
 * Measure of a tensor: max|ours - golden| / max|golden|; tolerance: ten times the spread the file
 * states, at least 2e-6 (float32 programs differ among themselves by that much). */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

void *check_alloc(check *c, uint64_t bytes, stn_err *err) {
    void *data = NULL;
    if (c->n_scratch < sizeof c->scratch / sizeof c->scratch[0] && bytes <= SIZE_MAX / 2) {
        data = calloc(1, bytes == 0 ? 1 : (size_t)bytes);
    }
    if (data == NULL) {
        (void)stn_fail(err, STN_E_NOMEM, "%s: out of memory", c->path);
        return NULL;
    }
    c->scratch[c->n_scratch++] = data;
    return data;
}

void check_release(check *c) {
    while (c->n_scratch > 0) {
        free(c->scratch[--c->n_scratch]);
    }
}

int32_t check_tensor(check *c, const char *name, uint64_t elems, stn_tensor_entry *entry,
                     stn_err *err) {
    if (stn_tensors_find(c->file, name, entry) != STN_OK) {
        return stn_fail(err, STN_E_FORMAT, "%s: tensor %s is missing", c->path, name);
    }
    if (entry->dtype == STN_ST_OTHER || (elems != 0 && entry->elems != elems)) {
        return stn_fail(err, STN_E_FORMAT,
                        "%s: tensor %s has another type or size than its case needs", c->path,
                        name);
    }
    return STN_OK;
}

bool check_has(const check *c, const char *name) {
    stn_tensor_entry entry;
    return stn_tensors_find(c->file, name, &entry) == STN_OK;
}

double check_value(const stn_tensor_entry *entry, uint64_t i) {
    switch (entry->dtype) {
    case STN_ST_F64:
        return ((const double *)entry->data)[i];
    case STN_ST_I64:
        return (double)((const int64_t *)entry->data)[i];
    case STN_ST_I32:
        return ((const int32_t *)entry->data)[i];
    case STN_ST_U8:
        return ((const uint8_t *)entry->data)[i];
    default:
        return (double)((const float *)entry->data)[i];
    }
}

int32_t check_floats(check *c, const char *name, uint64_t elems, const float **data, stn_err *err) {
    stn_tensor_entry entry;
    STN_TRY(check_tensor(c, name, elems, &entry, err));
    float *copy = check_alloc(c, entry.elems * sizeof *copy, err);
    if (copy == NULL) {
        return STN_E_NOMEM;
    }
    for (uint64_t i = 0; i < entry.elems; i++) {
        copy[i] = (float)check_value(&entry, i);
    }
    *data = copy;
    return STN_OK;
}

void check_report(check *c, const char *label, double agreement, bool exact, bool ok) {
    double tolerance = exact ? 0 : c->tolerance;
    c->compared++;
    c->beyond += !ok;
    if (c->mute) {
        return;
    }
    double ratio = agreement / (tolerance > 0 ? tolerance : DBL_MIN);
    if (!(ratio <= c->worst) || c->worst_name[0] == 0) {
        c->worst = ratio;
        (void)snprintf(c->worst_name, sizeof c->worst_name, "%s", label);
    }
    if (c->results != NULL) {
        json_t *one =
            json_pack("{s:s, s:s, s:i, s:b, s:b, s:f}", "file", c->path, "tensor", label, "moved",
                      (int)c->moved, "exact", (int)exact, "ok", (int)ok, "tolerance", tolerance);
        json_object_set_new(one, "agreement",
                            isfinite(agreement) ? json_real(agreement) : json_string("not finite"));
        json_array_append_new(c->results, one);
    } else if (!c->summary || !ok) {
        printf("  %-52s %9.2e  %s%.1e  %s\n", label, agreement, exact ? "exact, " : "tolerance ",
               tolerance, ok ? "ok" : "BEYOND");
    }
}

int32_t check_compare(check *c, const char *name, const char *label, const float *ours,
                      uint64_t elems, bool exact, stn_err *err) {
    stn_tensor_entry golden;
    STN_TRY(check_tensor(c, name, elems, &golden, err));
    double scale = 0, distance = 0;
    bool same = true;
    for (uint64_t i = 0; i < elems; i++) {
        double want = check_value(&golden, i), d = fabs((double)ours[i] - want);
        scale = fmax(scale, fabs(want));
        distance = d <= distance ? distance : d; /* a NaN sticks */
        same = same && ours[i] == (float)want;
    }
    double agreement = distance == 0 ? 0 : distance / scale;
    bool ok = exact ? same : agreement <= c->tolerance;
    check_report(c, label == NULL ? name : label, agreement, exact, ok);
    return STN_OK;
}

/* Reads "info" from the metadata: error (the spread) sets the tolerance. */
static int32_t read_info(check *c, stn_err *err) {
    const char *text = stn_tensors_metadata(c->file, "info");
    c->info = text == NULL ? NULL : json_loads(text, 0, NULL);
    json_t *spread = json_object_get(c->info, "error");
    if (!json_is_number(spread)) {
        return stn_fail(err, STN_E_FORMAT,
                        "%s: not a golden file: its metadata lacks info.error, the spread",
                        c->path);
    }
    c->tolerance = fmax(10 * json_number_value(spread), 2e-6);
    return STN_OK;
}

static int32_t check_open_file(check *c, stn_err *err) {
    const char *slash = strrchr(c->path, '/');
    const char *base = slash == NULL ? c->path : slash + 1;
    STN_TRY(read_info(c, err));
    if (!out.json && !out.jsonl && !c->summary) {
        printf("%s\n", c->path);
    }
    if (strncmp(base, "op_", 3) == 0) {
        return check_ops(c, base, err);
    }
    if (strncmp(base, "net_", 4) == 0 || strncmp(base, "full_", 5) == 0) {
        return check_net(c, err);
    }
    return stn_fail(err, STN_E_USAGE, "%s: the name must begin with op_, net_ or full_", c->path);
}

/* One file; a file that cannot be read does not stop the others. */
static int check_file(check *c, const char *path) {
    stn_err err = {0};
    uint32_t before = c->beyond, compared = c->compared;
    c->path = path;
    c->worst = 0;
    c->worst_name[0] = 0;
    c->moved = 0;
    int32_t status = stn_tensors_open(path, &c->file, &err);
    if (status == STN_OK) {
        status = check_open_file(c, &err);
    }
    check_release(c);
    json_decref(c->info);
    c->info = NULL;
    stn_tensors_close(c->file);
    c->file = NULL;
    if (status != STN_OK) {
        return fail(&err);
    }
    if (!out.json && !out.jsonl) {
        printf("%s: %u tensors, %u beyond tolerance; worst %s at %.2g of its tolerance%s\n", path,
               c->compared - compared, c->beyond - before, c->worst_name, c->worst,
               c->moved != 0 ? "; parameters moved by one ulp, as the file lies on a kink" : "");
    }
    return EXIT_OK;
}

static int check_files(const args *a, check *c) {
    int status = EXIT_OK;
    if (!out.json && !out.jsonl) {
        char text[512];
        printf("device %s\n", device_text(c->dev, text, sizeof text));
    }
    for (uint32_t i = 0; i < a->n_positional; i++) {
        int one = check_file(c, a->positional[i]);
        status = status == EXIT_OK ? one : status;
    }
    if (status == EXIT_OK && c->beyond > 0) {
        status = EXIT_MISMATCH;
    }
    if (out.json || out.jsonl) {
        int printed =
            print_json(json_pack("{s:s, s:o, s:i, s:i, s:O}", "schema", "stnrun-check/1", "device",
                                 device_json(stn_dev_info(c->dev)), "compared", (int)c->compared,
                                 "beyond", (int)c->beyond, "tensors", c->results));
        status = status == EXIT_OK ? printed : status;
    }
    return status;
}

int cmd_check(args *a) {
    if (a->n_positional == 0) {
        return usage_error(a, "golden files are needed");
    }
    check c = {.summary = args_has(a, "summary")};
    stn_config *config = NULL;
    int status = open_context(a, &c.ctx);
    if (status == EXIT_OK) {
        status = open_config(a, c.ctx, NULL, NULL, &config);
    }
    if (status == EXIT_OK) {
        status = open_device(c.ctx, config, &c.dev);
    }
    if (status == EXIT_OK) {
        c.results = out.json || out.jsonl ? json_array() : NULL;
        status = check_files(a, &c);
    }
    json_decref(c.results);
    stn_dev_close(c.dev);
    stn_config_free(config);
    stn_close(c.ctx);
    return status;
}
