/* Steps that several commands share: context, config, device, admission, checkpoint lookup. */
#define _POSIX_C_SOURCE 200809L
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "stnrun.h"

int open_context(const args *a, stn_ctx **ctx) {
    const char *files[MAX_SETTINGS + 1];
    uint32_t n = 0;
    for (uint32_t i = 0; i < a->n_settings; i++) {
        if (strcmp(a->setting[i].name, "plugin") == 0) {
            files[n++] = a->setting[i].value;
        }
    }
    files[n] = NULL;
    stn_open_options options = {
        .plugin_files = files, .plugin_path = getenv("STN_PLUGIN_PATH"), .log = log_line};
    stn_err err = {0};
    return stn_open(&options, ctx, &err) == STN_OK ? EXIT_OK : fail(&err);
}

/* The flags that are keys, then `extra`. */
static int32_t set_flags(const args *a, const char *const *extra, stn_config *config,
                         stn_err *err) {
    for (uint32_t i = 0; i < a->n_settings; i++) {
        const setting *s = &a->setting[i];
        char where[64];
        (void)snprintf(where, sizeof where, "--%s", s->name);
        if (s->flag == NULL) {
            STN_TRY(stn_config_set(config, s->name, s->value, STN_FROM_FLAG, where, err));
        }
    }
    for (; extra != NULL && extra[0] != NULL; extra += 2) {
        char where[64];
        (void)snprintf(where, sizeof where, "--%s", extra[0]);
        STN_TRY(stn_config_set(config, extra[0], extra[1], STN_FROM_FLAG, where, err));
    }
    return STN_OK;
}

int32_t fill_config(const args *a, const char *recipe, const char *text, const char *where,
                    const char *const *extra, stn_config *config, stn_err *err) {
    STN_TRY(stn_config_files(config, err));
    if (text != NULL) {
        STN_TRY(stn_config_text(config, text, strlen(text), STN_FROM_RECIPE, where, err));
    } else {
        recipe = recipe != NULL ? recipe : args_value(a, "recipe");
        recipe = recipe != NULL ? recipe : getenv("STN_RECIPE");
        if (recipe != NULL && recipe[0] != 0) {
            STN_TRY(stn_config_recipe(config, recipe, STN_FROM_RECIPE, err));
        }
    }
    STN_TRY(stn_config_env(config, err));
    STN_TRY(set_flags(a, extra, config, err));
    return stn_config_check(config, err);
}

int open_config(const args *a, stn_ctx *ctx, const char *recipe, const char *const *extra,
                stn_config **config) {
    stn_err err = {0};
    int32_t status = stn_config_new(ctx, config, &err);
    if (status == STN_OK) {
        status = fill_config(a, recipe, NULL, NULL, extra, *config, &err);
    }
    if (status == STN_OK) {
        return EXIT_OK;
    }
    stn_config_free(*config);
    *config = NULL;
    return fail(&err);
}

#define MAX_OPTIONS 32u

/* A value for option `name` of backend `backend`: key backend.NAME, else BACKEND-NAME
 * (cpu-kernels), else NAME (threads, math); NULL leaves the backend's default. */
static const char *backend_option(const stn_config *config, const char *backend, const char *name) {
    char key[96];
    (void)snprintf(key, sizeof key, "backend.%s", name);
    const char *value = stn_config_get(config, key);
    if (value == NULL) {
        (void)snprintf(key, sizeof key, "%s-%s", backend, name);
        value = stn_config_get(config, key);
    }
    if (value == NULL) {
        value = stn_config_get(config, name);
    }
    return value != NULL && value[0] != 0 ? value : NULL;
}

/* --math fast must reach a backend that knows it: it would be ignored, and results marked in vain.
 */
static int32_t check_math(const stn_config *config, const stn_plugin *plugin, stn_err *err) {
    const char *math = stn_config_get(config, "math");
    bool known = math == NULL || strcmp(math, "fast") != 0;
    for (uint32_t i = 0; i < plugin->n_options && !known; i++) {
        known = strcmp(plugin->options[i].name, "math") == 0;
    }
    return known ? STN_OK
                 : stn_fail(err, STN_E_USAGE,
                            "--math fast needs --backend opencl; backend %.40s computes exactly",
                            plugin->name);
}

int open_device(stn_ctx *ctx, const stn_config *config, stn_dev **dev) {
    stn_err err = {0};
    const char *backend = stn_config_get(config, "backend");
    const char *names[MAX_OPTIONS], *values[MAX_OPTIONS];
    stn_options options = {.struct_size = sizeof options, .name = names, .value = values};
    const stn_plugin *plugin = NULL;
    if (backend == NULL || backend[0] == 0) {
        backend = "cpu";
    }
    if (stn_plugin_load(ctx, STN_KIND_BACKEND, backend, &plugin, &err) != STN_OK) {
        return fail(&err);
    }
    for (uint32_t i = 0; i < plugin->n_options && options.count < MAX_OPTIONS; i++) {
        const char *value = backend_option(config, backend, plugin->options[i].name);
        if (value != NULL) {
            names[options.count] = plugin->options[i].name;
            values[options.count++] = value;
        }
    }
    if (check_math(config, plugin, &err) != STN_OK) {
        return fail(&err);
    }
    if (stn_dev_open(ctx, backend, stn_config_get(config, "device"), &options, dev, &err) !=
        STN_OK) {
        return fail(&err);
    }
    return EXIT_OK;
}

const char *device_text(const stn_dev *dev, char *buf, size_t cap) {
    const stn_device_entry *entry = stn_dev_info(dev);
    (void)snprintf(buf, cap, "%s:%u %s (%s), id %s", entry->backend, entry->index, entry->info.name,
                   entry->info.variant, entry->info.id);
    return buf;
}

json_t *device_json(const stn_device_entry *entry) {
    const stn_device_info *info = &entry->info;
    return json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:i, s:I, s:I, s:b, s:b, s:b, s:b}",
        "backend", entry->backend, "index", (int)entry->index, "id", info->id, "name", info->name,
        "vendor", info->vendor, "driver", info->driver, "platform", info->platform, "variant",
        info->variant, "cpu", (int)info->is_cpu, "compute_units", (int)info->compute_units,
        "memory", (json_int_t)info->memory, "max_alloc", (json_int_t)info->max_alloc, "fma",
        (int)((info->capabilities & STN_CAP_FMA) != 0), "correct_divide",
        (int)((info->capabilities & STN_CAP_CORRECT_DIVIDE) != 0), "subnormals",
        (int)((info->capabilities & STN_CAP_SUBNORMALS) != 0), "unified_memory",
        (int)((info->capabilities & STN_CAP_UNIFIED_MEMORY) != 0));
}

/* Where kernels are not compiled yet the self-test takes seconds: the bar says what it is at. */
static void report_failed(void *user, const char *part, bool ok, const char *detail) {
    (void)user;
    if (out.progress_bar) {
        fprintf(stderr, "\rself-test: %s\033[K%s", part,
                strcmp(part, "all") == 0 ? "\r\033[K" : "");
    }
    if (!ok) {
        fprintf(stderr, "%sstnrun: self-test: %s failed: %s\n", out.progress_bar ? "\r\033[K" : "",
                part, detail);
    }
}

int gate_run(const args *a, const stn_config *config, stn_run *run) {
    stn_err err = {0};
    const char *math = stn_config_get(config, "math");
    if (math != NULL && strcmp(math, "fast") == 0) {
        note("warning: --math fast does not obey the contract; results are marked as not "
             "reproducible");
        return EXIT_OK;
    }
    if (stn_run_selftest(run, report_failed, NULL, &err) == STN_OK) {
        return EXIT_OK;
    }
    if (args_has(a, "override-selftest")) {
        stn_run_override(run);
        note("warning: the device failed its self-test and is used all the same "
             "(--override-selftest); results are marked as not reproducible");
        return EXIT_OK;
    }
    return fail(&err);
}

bool find_checkpoint(const char *path, char *file, size_t cap) {
    struct stat info;
    if (stat(path, &info) != 0) {
        fprintf(stderr, "stnrun: %s: no such file or run directory\n", path);
        return false;
    }
    if (!S_ISDIR(info.st_mode)) {
        return snprintf(file, cap, "%s", path) < (int)cap;
    }
    DIR *dir = opendir(path);
    unsigned long long best = 0;
    bool found = false;
    const struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        unsigned long long step;
        int end = 0;
        if (sscanf(entry->d_name, "ckpt-%llu.stn%n", &step, &end) == 1 && end > 0 &&
            entry->d_name[end] == 0 && (!found || step >= best)) {
            best = step;
            found = snprintf(file, cap, "%s/%s", path, entry->d_name) < (int)cap;
        }
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    if (!found) {
        fprintf(stderr, "stnrun: %s: holds no checkpoint (ckpt-STEP.stn)\n", path);
    }
    return found;
}
