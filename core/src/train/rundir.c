/* Run directory: recipe as run, run.json, metrics, checkpoints.
 *
 * Everything is append-only or written by temporary file and rename, so that a kill at any moment
 * leaves a directory that can be resumed. Checkpoints are named ckpt-<10 digits>.stn; the newest
 * two are kept.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "plugin/registry.h"
#include "train/config.h"
#include "train/run.h"

#define CKPT_DIGITS 10u
#define KEEP 2u

/* The step in "ckpt-0000000123.stn", or -1. */
static int64_t ckpt_step(const char *name) {
    uint64_t step;
    char digits[CKPT_DIGITS + 1u];
    if (strlen(name) != 5u + CKPT_DIGITS + 4u || !stn__str_starts(name, "ckpt-") ||
        !stn__str_ends(name, ".stn")) {
        return -1;
    }
    memcpy(digits, name + 5, CKPT_DIGITS);
    digits[CKPT_DIGITS] = '\0';
    return stn__parse_u64(digits, &step) ? (int64_t)step : -1;
}

/* dir/name, or STN_E_NOMEM. */
static int32_t path_of(const stn_run *run, const char *name, char **path, stn_err *err) {
    *path = stn__path_join(run->dir, name);
    return *path != NULL ? STN_OK : stn__nomem(err, "a path in the run directory", 4096);
}

/* Calls fn with the checkpoints' paths, newest first, until it wants no more (returns false). */
typedef bool (*ckpt_fn)(stn_run *run, const char *path, uint64_t rank, int32_t *status,
                        stn_err *err);

static int32_t each_checkpoint(stn_run *run, ckpt_fn fn, uint64_t *count, stn_err *err) {
    stn__names names;
    STN_TRY(stn__dir_list(run->dir, &names, err));
    int32_t status = STN_OK;
    bool more = true;
    *count = 0;
    /* Fixed-width numbers: the order by name is the order by step. */
    for (uint64_t i = names.n; i-- > 0 && more;) {
        char *path = NULL;
        if (ckpt_step(names.name[i]) < 0) {
            continue;
        }
        status = path_of(run, names.name[i], &path, err);
        more = status == STN_OK && fn(run, path, (*count)++, &status, err);
        stn__free(path);
    }
    stn__names_free(&names);
    return status;
}

static bool remove_old(stn_run *run, const char *path, uint64_t rank, int32_t *status,
                       stn_err *err) {
    (void)run;
    if (rank >= KEEP && unlink(path) != 0 && errno != ENOENT) {
        *status = stn__file_fail(err, "remove the old checkpoint", path, errno);
    }
    return *status == STN_OK;
}

int32_t stn__rundir_save(stn_run *run, stn_err *err) {
    char name[32], *path = NULL;
    uint64_t count;
    if (run->dir == NULL || run->saved_step == run->step) {
        return STN_OK;
    }
    (void)snprintf(name, sizeof name, "ckpt-%0*" PRIu64 ".stn", (int)CKPT_DIGITS, run->step);
    STN_TRY(path_of(run, name, &path, err));
    int32_t status = stn_run_save(run, path, err);
    stn__free(path);
    STN_TRY(status);
    run->saved_step = run->step;
    return each_checkpoint(run, remove_old, &count, err);
}

/* Loads a checkpoint; a bad file is told and the one before is tried. */
static bool try_load(stn_run *run, const char *path, uint64_t rank, int32_t *status, stn_err *err) {
    (void)rank;
    *status = stn_run_load(run, path, err);
    if (*status != STN_E_FORMAT && *status != STN_E_IO) {
        return false;
    }
    stn__log_line(&run->ctx->log, STN_LOG_WARN, "%s; trying the checkpoint before it", err->text);
    return true;
}

static int32_t resume(stn_run *run, stn_err *err) {
    uint64_t count;
    STN_TRY(each_checkpoint(run, try_load, &count, err));
    if (count == 0) {
        return stn_fail(err, STN_E_NOTFOUND, "%.150s: no checkpoint to resume from", run->dir);
    }
    run->saved_step = run->step;
    return STN_OK;
}

static json_t *describe(const stn_run *run) {
    const stn_device_entry *d = stn_dev_info(run->dev);
    return json_pack("{s:i, s:s, s:s, s:{s:s, s:s, s:s, s:s, s:s}, s:s, s:s, s:s, s:I, s:b}",
                     "schema", 1, "version", stn_version(), "contract", STN_CONTRACT, "device",
                     "backend", d->backend, "name", d->info.name, "id", d->info.id, "driver",
                     d->info.driver, "variant", d->info.variant, "recipe", run->identity,
                     "data_files", run->info.files, "data_hash", run->info.hash, "seed",
                     (json_int_t)run->seed, "reproducible", !run->not_reproducible);
}

static int32_t write_text(const stn_run *run, const char *name, const char *text, stn_err *err) {
    char *path = NULL;
    STN_TRY(path_of(run, name, &path, err));
    int32_t status = stn__file_write(path, text, strlen(text), err);
    stn__free(path);
    return status;
}

static int32_t write_run_json(const stn_run *run, stn_err *err) {
    json_t *json = describe(run);
    char *text = json != NULL ? json_dumps(json, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
    json_decref(json);
    if (text == NULL) {
        return stn__nomem(err, "run.json", 4096);
    }
    int32_t status = write_text(run, "run.json", text, err);
    free(text);
    return status;
}

static int32_t append(const stn_run *run, const char *name, const stn__text *text, stn_err *err) {
    char *path = NULL;
    STN_TRY(stn__text_check(text, name, err));
    STN_TRY(path_of(run, name, &path, err));
    int32_t status = stn__file_append(path, stn__text_get(text), strlen(stn__text_get(text)), err);
    stn__free(path);
    return status;
}

static int32_t begin(const stn_run *run, stn_err *err) {
    stn__text recipe = {0};
    stn__config_as_recipe(run->config, &recipe);
    int32_t status = stn__text_check(&recipe, "recipe", err);
    if (status == STN_OK) {
        status = write_text(run, "recipe", stn__text_get(&recipe), err);
    }
    stn__text_free(&recipe);
    STN_TRY(status);
    return write_text(run, "metrics.csv",
                      "step,epoch,loss,error_percent,lr,images_per_s,test_error_percent\n", err);
}

static int32_t check_directory(const stn_run *run, bool want_resume, stn_err *err) {
    char *path = NULL;
    STN_TRY(path_of(run, "run.json", &path, err));
    bool exists = stn__is_file(path);
    stn__free(path);
    if (exists && !want_resume) {
        return stn_fail(err, STN_E_EXISTS,
                        "%.120s: holds a run already; give --resume to continue it or choose "
                        "another directory",
                        run->dir);
    }
    if (!exists && want_resume) {
        return stn_fail(err, STN_E_NOTFOUND, "%.150s: no run to resume (run.json is missing)",
                        run->dir);
    }
    return STN_OK;
}

int32_t stn_run_directory(stn_run *run, const char *dir, bool want_resume, stn_err *err) {
    stn_err local = {0};
    err = err != NULL ? err : &local;
    run->dir = stn__strdup(dir);
    if (run->dir == NULL) {
        return stn__nomem(err, "the run directory's name", strlen(dir));
    }
    int32_t status = check_directory(run, want_resume, err);
    if (status == STN_OK) {
        status = stn__dir_create(dir, err);
    }
    if (status == STN_OK) {
        status = want_resume ? resume(run, err) : begin(run, err);
    }
    if (status == STN_OK) {
        /* The state now is a checkpoint, so that a kill at any later moment can resume. */
        status = stn__rundir_save(run, err);
    }
    if (status == STN_OK) {
        /* Last: its presence says that the directory holds a run. */
        status = write_run_json(run, err);
    }
    if (status != STN_OK) {
        stn__free(run->dir);
        run->dir = NULL;
    }
    return status;
}

/* The members of one record in order; `value` < 0 of the last one leaves it out. */
static void add_record(stn__text *jsonl, stn__text *csv, const stn_progress *p, double test_error) {
    const struct {
        const char *name;
        double value;
    } member[] = {
        {"epoch", p->epoch},
        {"loss", p->loss},
        {"error_percent", p->error_percent},
        {"lr", p->lr},
        {"images_per_s", p->images_per_s},
    };
    stn__text_addf(jsonl, "{\"step\": %" PRIu64, p->step);
    stn__text_addf(csv, "%" PRIu64, p->step);
    for (size_t i = 0; i < sizeof member / sizeof member[0]; i++) {
        stn__text_addf(jsonl, ", \"%s\": ", member[i].name);
        stn__text_real(jsonl, member[i].value);
        stn__text_add(csv, ",");
        stn__text_real(csv, member[i].value);
    }
    stn__text_add(csv, ",");
    if (test_error >= 0.0) {
        stn__text_add(jsonl, ", \"test_error_percent\": ");
        stn__text_real(jsonl, test_error);
        stn__text_real(csv, test_error);
    }
    stn__text_add(jsonl, "}\n");
    stn__text_add(csv, "\n");
}

int32_t stn__rundir_record(stn_run *run, const stn_progress *p, double test_error, stn_err *err) {
    if (run->dir == NULL) {
        return STN_OK;
    }
    stn__text jsonl = {0}, csv = {0};
    add_record(&jsonl, &csv, p, test_error);
    int32_t status = append(run, "metrics.jsonl", &jsonl, err);
    if (status == STN_OK) {
        status = append(run, "metrics.csv", &csv, err);
    }
    stn__text_free(&jsonl);
    stn__text_free(&csv);
    return status;
}
