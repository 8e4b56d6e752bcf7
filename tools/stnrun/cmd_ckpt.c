/* stnrun ckpt: show, verify, diff, export (to safetensors) and import (from safetensors). A
 * checkpoint may be given as a run directory, whose newest one is then meant. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "stnrun.h"

static const char *const roles[] = {"parameter", "statistic", "optimizer"};

static const char *role_name(uint32_t role) {
    return role < 3 ? roles[role] : "unknown";
}

static int open_ckpt(const char *path, stn_ckpt **ckpt) {
    char file[4096];
    stn_err err = {0};
    if (!find_checkpoint(path, file, sizeof file)) {
        return EXIT_USAGE;
    }
    return stn_ckpt_open(file, ckpt, &err) == STN_OK ? EXIT_OK : fail(&err);
}

/* "64x1x9x9" */
static const char *dims_text(const stn_ckpt_tensor *t, char buf[64]) {
    size_t n = 0;
    buf[0] = 0;
    for (uint32_t i = 0; i < t->rank && n < 48; i++) {
        n += (size_t)snprintf(buf + n, 64 - n, "%s%u", i > 0 ? "x" : "", t->dim[i]);
    }
    return buf;
}

static double norm_of(const stn_ckpt_tensor *t) {
    double squares = 0;
    for (uint64_t i = 0; i < t->elems; i++) {
        squares += (double)t->data[i] * (double)t->data[i];
    }
    return sqrt(squares);
}

static json_t *tensor_json(const stn_ckpt_tensor *t) {
    json_t *dims = json_array();
    for (uint32_t i = 0; i < t->rank; i++) {
        json_array_append_new(dims, json_integer(t->dim[i]));
    }
    return json_pack("{s:s, s:s, s:o, s:I, s:f}", "name", t->name, "role", role_name(t->role),
                     "dim", dims, "elems", (json_int_t)t->elems, "norm", norm_of(t));
}

static int show_json(const stn_ckpt *ckpt, const stn_ckpt_info *info) {
    json_t *tensors = json_array();
    for (uint32_t i = 0; i < info->n_tensors; i++) {
        stn_ckpt_tensor t;
        if (stn_ckpt_tensor_get(ckpt, i, &t) == STN_OK) {
            json_array_append_new(tensors, tensor_json(&t));
        }
    }
    return print_json(json_pack("{s:s, s:i, s:s, s:s, s:s, s:I, s:I, s:s, s:s, s:b, s:s, s:s, s:o}",
                                "schema", "stnrun-ckpt/1", "format", (int)info->format, "contract",
                                info->contract, "model", info->model, "network", info->network,
                                "step", (json_int_t)info->step, "seed", (json_int_t)info->seed,
                                "data_hash", info->data_hash, "state_hash", info->state_hash,
                                "reproducible", (int)!info->not_reproducible, "recipe",
                                info->recipe, "note", info->note, "tensors", tensors));
}

static int show(const args *a, const stn_ckpt *ckpt) {
    stn_ckpt_info info;
    (void)a;
    stn_ckpt_info_get(ckpt, &info);
    if (out.json || out.jsonl) {
        return show_json(ckpt, &info);
    }
    printf("format %u, contract %s\nmodel %s, network %s\nstep %" PRIu64 ", seed %" PRIu64
           "\nstate hash %s\ndata hash %s\n%smade by %s\n\n%s\n",
           info.format, info.contract, info.model, info.network, info.step, info.seed,
           info.state_hash, info.data_hash,
           info.not_reproducible ? "NOT REPRODUCIBLE (--math fast or an overridden self-test)\n"
                                 : "",
           info.note, info.recipe);
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        stn_ckpt_tensor t;
        char dims[64];
        if (stn_ckpt_tensor_get(ckpt, i, &t) == STN_OK) {
            printf("%-44s %-10s %-16s norm %.6g\n", t.name, role_name(t.role), dims_text(&t, dims),
                   norm_of(&t));
        }
    }
    return EXIT_OK;
}

static int cmd_show(const args *a) {
    stn_ckpt *ckpt = NULL;
    int status = open_ckpt(a->positional[1], &ckpt);
    if (status == EXIT_OK) {
        status = show(a, ckpt);
    }
    stn_ckpt_close(ckpt);
    return status;
}

/* Opening reads and verifies the whole file, its state hash included. */
static int cmd_verify(const args *a) {
    int status = EXIT_OK;
    for (uint32_t i = 1; i < a->n_positional; i++) {
        stn_ckpt *ckpt = NULL;
        int one = open_ckpt(a->positional[i], &ckpt);
        if (one == EXIT_OK) {
            stn_ckpt_info info;
            stn_ckpt_info_get(ckpt, &info);
            printf("%s: ok, step %" PRIu64 ", state hash %s\n", a->positional[i], info.step,
                   info.state_hash);
        }
        stn_ckpt_close(ckpt);
        status = status == EXIT_OK ? one : status;
    }
    return status;
}

/* The tensor of the same name, by bisection: tensors are sorted by name. */
static bool find_tensor(const stn_ckpt *ckpt, const char *name, stn_ckpt_tensor *t) {
    stn_ckpt_info info;
    stn_ckpt_info_get(ckpt, &info);
    uint32_t low = 0, high = info.n_tensors;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (stn_ckpt_tensor_get(ckpt, middle, t) != STN_OK) {
            return false;
        }
        int order = strcmp(t->name, name);
        if (order == 0) {
            return true;
        }
        low = order < 0 ? middle + 1 : low;
        high = order < 0 ? high : middle;
    }
    return false;
}

static bool diff_text(const char *what, const char *x, const char *y) {
    if (strcmp(x, y) == 0) {
        return false;
    }
    printf("%s differs:\n  %s\n  %s\n", what, x, y);
    return true;
}

/* Prints what differs between two tensors of one name; true if anything does. */
static bool diff_tensor(const stn_ckpt_tensor *x, const stn_ckpt_tensor *y) {
    uint64_t differing = 0, first = 0;
    double distance = 0;
    char p[64], q[64];
    if (x->rank != y->rank || memcmp(x->dim, y->dim, x->rank * sizeof x->dim[0]) != 0) {
        printf("%s: shapes %s and %s\n", x->name, dims_text(x, p), dims_text(y, q));
        return true;
    }
    for (uint64_t i = 0; i < x->elems; i++) {
        if (memcmp(&x->data[i], &y->data[i], sizeof x->data[i]) != 0) {
            first = differing == 0 ? i : first;
            differing++;
            distance = fmax(distance, fabs((double)x->data[i] - (double)y->data[i]));
        }
    }
    if (differing > 0) {
        printf("%s: %" PRIu64 " of %" PRIu64 " elements differ, at most by %.3g; first [%" PRIu64
               "]: %a and %a\n",
               x->name, differing, x->elems, distance, first, (double)x->data[first],
               (double)y->data[first]);
    }
    return differing > 0;
}

static bool diff_tensors(const stn_ckpt *a, const stn_ckpt *b) {
    stn_ckpt_info info;
    stn_ckpt_tensor x, y;
    bool different = false;
    stn_ckpt_info_get(a, &info);
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        if (stn_ckpt_tensor_get(a, i, &x) != STN_OK) {
            continue;
        }
        if (!find_tensor(b, x.name, &y)) {
            printf("%s: only in the first\n", x.name);
            different = true;
        } else {
            different = diff_tensor(&x, &y) || different;
        }
    }
    stn_ckpt_info_get(b, &info);
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        if (stn_ckpt_tensor_get(b, i, &y) == STN_OK && !find_tensor(a, y.name, &x)) {
            printf("%s: only in the second\n", y.name);
            different = true;
        }
    }
    return different;
}

static int cmd_diff(const args *a) {
    stn_ckpt *first = NULL, *second = NULL;
    if (a->n_positional != 3) {
        return usage_error(a, "diff needs two checkpoints");
    }
    int status = open_ckpt(a->positional[1], &first);
    if (status == EXIT_OK) {
        status = open_ckpt(a->positional[2], &second);
    }
    if (status == EXIT_OK) {
        stn_ckpt_info x, y;
        stn_ckpt_info_get(first, &x);
        stn_ckpt_info_get(second, &y);
        bool different = diff_text("contract", x.contract, y.contract);
        different = diff_text("recipe", x.recipe, y.recipe) || different;
        different = diff_text("data hash", x.data_hash, y.data_hash) || different;
        if (x.step != y.step || x.seed != y.seed) {
            printf("step %" PRIu64 " and %" PRIu64 ", seed %" PRIu64 " and %" PRIu64 "\n", x.step,
                   y.step, x.seed, y.seed);
            different = true;
        }
        different = diff_tensors(first, second) || different;
        different = diff_text("state hash", x.state_hash, y.state_hash) || different;
        if (!different) {
            printf("equal, state hash %s\n", x.state_hash);
        }
        status = different ? EXIT_MISMATCH : EXIT_OK;
    }
    stn_ckpt_close(first);
    stn_ckpt_close(second);
    return status;
}

/* An existing output is only replaced with --force. */
static int check_output(const args *a, const char *path) {
    struct stat info;
    if (stat(path, &info) == 0 && !args_has(a, "force")) {
        fprintf(stderr, "stnrun: %s exists; give --force to replace it\n", path);
        return EXIT_FAIL;
    }
    return EXIT_OK;
}

/* Parameters and statistics under their PyTorch names; optimizer state stays behind. */
static int export_tensors(const stn_ckpt *ckpt, const char *path) {
    stn_ckpt_info info;
    stn_err err = {0};
    stn_ckpt_info_get(ckpt, &info);
    stn_tensor_entry *entries = calloc(info.n_tensors + 1, sizeof *entries);
    if (entries == NULL) {
        (void)stn_fail(&err, STN_E_NOMEM, "out of memory for %u tensors", info.n_tensors);
        return fail(&err);
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        stn_ckpt_tensor t;
        if (stn_ckpt_tensor_get(ckpt, i, &t) != STN_OK || t.role > 1) {
            continue;
        }
        entries[n] = (stn_tensor_entry){
            .name = t.name, .dtype = STN_ST_F32, .rank = t.rank, .elems = t.elems, .data = t.data};
        for (uint32_t k = 0; k < t.rank; k++) {
            entries[n].dim[k] = t.dim[k];
        }
        n++;
    }
    char step[32];
    (void)snprintf(step, sizeof step, "%" PRIu64, info.step);
    const char *metadata[] = {"model", info.model, "network",     info.network, "step",
                              step,    "contract", info.contract, "state_hash", info.state_hash,
                              NULL};
    int32_t status = stn_tensors_write(path, entries, n, metadata, &err);
    free(entries);
    if (status != STN_OK) {
        return fail(&err);
    }
    printf("%s: %u tensors\n", path, n);
    return EXIT_OK;
}

static int cmd_export(const args *a) {
    stn_ckpt *ckpt = NULL;
    if (a->n_positional != 3) {
        return usage_error(a, "export needs a checkpoint and the safetensors file to write");
    }
    int status = check_output(a, a->positional[2]);
    if (status == EXIT_OK) {
        status = open_ckpt(a->positional[1], &ckpt);
    }
    if (status == EXIT_OK) {
        status = export_tensors(ckpt, a->positional[2]);
    }
    stn_ckpt_close(ckpt);
    return status;
}

/* A tensor of the file for each parameter and statistic of `like`; shapes must agree. Optimizer
 * state begins at zero, as the step does. */
static int32_t take_tensors(const stn_ckpt *like, const stn_tensors *file, const char *path,
                            stn_ckpt_tensor *tensors, float *zero, stn_err *err) {
    stn_ckpt_info info;
    stn_ckpt_info_get(like, &info);
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        stn_tensor_entry entry;
        STN_TRY(stn_ckpt_tensor_get(like, i, &tensors[i]));
        if (tensors[i].role > 1) {
            tensors[i].data = zero;
            continue;
        }
        if (stn_tensors_find(file, tensors[i].name, &entry) != STN_OK) {
            return stn_fail(err, STN_E_FORMAT, "%s: parameter %s is missing", path,
                            tensors[i].name);
        }
        bool same = entry.dtype == STN_ST_F32 && entry.rank == tensors[i].rank;
        for (uint32_t k = 0; same && k < entry.rank; k++) {
            same = entry.dim[k] == tensors[i].dim[k];
        }
        if (!same) {
            return stn_fail(err, STN_E_FORMAT, "%s: %s has another type or shape than the model's",
                            path, tensors[i].name);
        }
        tensors[i].data = entry.data;
    }
    return STN_OK;
}

static int32_t import_file(const stn_ckpt *like, const char *source, const char *target,
                           stn_err *err) {
    stn_tensors *file = NULL;
    stn_ckpt_info info;
    uint64_t largest = 1;
    stn_ckpt_info_get(like, &info);
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        stn_ckpt_tensor t;
        STN_TRY(stn_ckpt_tensor_get(like, i, &t));
        largest = t.elems > largest ? t.elems : largest;
    }
    STN_TRY(stn_tensors_open(source, &file, err));
    stn_ckpt_tensor *tensors = calloc(info.n_tensors + 1, sizeof *tensors);
    float *zero = calloc(largest, sizeof *zero);
    int32_t status = tensors == NULL || zero == NULL
                         ? stn_fail(err, STN_E_NOMEM, "out of memory for %s", source)
                         : take_tensors(like, file, source, tensors, zero, err);
    if (status == STN_OK) {
        info.step = 0;
        info.adam_powers[0] = info.adam_powers[1] = 1;
        info.note = "imported from safetensors";
        status = stn_ckpt_write(target, &info, tensors, info.n_tensors, err);
    }
    free(zero);
    free(tensors);
    stn_tensors_close(file);
    return status;
}

static int cmd_import(const args *a) {
    stn_ckpt *like = NULL;
    stn_err err = {0};
    const char *model = args_value(a, "like");
    if (a->n_positional != 3 || model == NULL) {
        return usage_error(a,
                           "import needs --like CHECKPOINT, a safetensors file and the checkpoint "
                           "to write");
    }
    int status = check_output(a, a->positional[2]);
    if (status == EXIT_OK) {
        status = open_ckpt(model, &like);
    }
    if (status == EXIT_OK &&
        import_file(like, a->positional[1], a->positional[2], &err) != STN_OK) {
        status = fail(&err);
    }
    if (status == EXIT_OK) {
        printf("%s written, step 0\n", a->positional[2]);
    }
    stn_ckpt_close(like);
    return status;
}

int cmd_ckpt(args *a) {
    static const struct {
        const char *name;
        int (*run)(const args *a);
    } actions[] = {{"show", cmd_show},
                   {"verify", cmd_verify},
                   {"diff", cmd_diff},
                   {"export", cmd_export},
                   {"import", cmd_import}};
    const char *known[sizeof actions / sizeof actions[0]];
    if (a->n_positional == 0) {
        return usage_error(a, "show, verify, diff, export or import is needed");
    }
    for (size_t i = 0; i < sizeof actions / sizeof actions[0]; i++) {
        known[i] = actions[i].name;
        if (strcmp(a->positional[0], actions[i].name) == 0) {
            if (a->n_positional < 2) {
                return usage_error(a, "%s needs a checkpoint", actions[i].name);
            }
            return actions[i].run(a);
        }
    }
    const char *guess = stn_suggest(a->positional[0], known, sizeof known / sizeof known[0]);
    return usage_error(a, "unknown action '%s'%s%s", a->positional[0],
                       guess == NULL ? "" : ", did you mean ", guess == NULL ? "" : guess);
}
