/* Opening a run: config -> dataset, model, net; position and batches. */
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "train/config.h"
#include "train/run.h"

/* The options of one plugin as given under "<prefix>." in the config. Strings belong to the
 * config; the two arrays to the caller (stn__free). */
typedef struct option_list {
    const char **name, **value;
    uint32_t count;
} option_list;

static void options_free(option_list *o) {
    stn__free(o->name);
    stn__free(o->value);
    memset(o, 0, sizeof *o);
}

static int32_t options_take(const stn_config *config, const char *prefix, option_list *o,
                            stn_err *err) {
    uint32_t total = stn_config_count(config);
    size_t length = strlen(prefix);
    memset(o, 0, sizeof *o);
    o->name = stn__calloc(total + 1u, sizeof *o->name);
    o->value = stn__calloc(total + 1u, sizeof *o->value);
    if (o->name == NULL || o->value == NULL) {
        options_free(o);
        return stn_fail(err, STN_E_NOMEM, "no memory for the options of %s", prefix);
    }
    for (uint32_t i = 0; i < total; i++) {
        stn_config_item item;
        STN_TRY(stn_config_item_at(config, i, &item));
        if (strncmp(item.key, prefix, length) == 0 && item.key[length] == '.' &&
            item.value != NULL) {
            o->name[o->count] = item.key + length + 1u;
            o->value[o->count] = item.value;
            o->count++;
        }
    }
    return STN_OK;
}

static stn_options options_view(const option_list *o) {
    stn_options view = {sizeof view, o->count, o->name, o->value};
    return view;
}

static int32_t open_dataset(stn_run *run, stn_err *err) {
    const char *name = stn_config_get(run->config, "dataset");
    char dir[4096];
    option_list options;
    STN_TRY(stn_dataset_load(run->ctx, name, &run->dataset, err));
    STN_TRY(stn_data_find(run->ctx, name, stn_config_get(run->config, "data-dir"), dir, sizeof dir,
                          err));
    STN_TRY(options_take(run->config, "dataset", &options, err));
    stn_options view = options_view(&options);
    int32_t status = run->dataset->open(dir, &view, &run->data, err);
    options_free(&options);
    STN_TRY(status);
    run->info.struct_size = sizeof run->info;
    STN_TRY(run->dataset->info(run->data, &run->info, err));
    uint32_t train = run->info.count[STN_SPLIT_TRAIN];
    if (run->batch > train) {
        return stn_fail(
            err, STN_E_USAGE,
            "batch %u is larger than the training set (%u images): choose a smaller batch",
            run->batch, train);
    }
    return STN_OK;
}

static uint32_t optimizer_number(const char *name) {
    return strcmp(name, "adamw") == 0  ? STN_OPT_ADAMW
           : strcmp(name, "adam") == 0 ? STN_OPT_ADAM
                                       : STN_OPT_SGD;
}

static void fill_spec(const stn_run *run, stn_net_spec *spec) {
    const stn_config *c = run->config;
    const char *variant = stn_config_get(c, "dataset.distortion");
    spec->model = stn_config_get(c, "model");
    spec->request.struct_size = sizeof spec->request;
    spec->request.channels = run->info.channels;
    spec->request.height = run->info.out_h;
    spec->request.width = run->info.out_w;
    spec->request.heads = run->info.heads;
    spec->request.classes = run->info.classes;
    spec->request.width_factor = stn_config_real(c, "width");
    spec->request.network = stn_config_get(c, "network");
    spec->request.variant = variant != NULL ? variant : "none";
    spec->batch = run->batch;
    spec->shards = (uint32_t)stn_config_int(c, "shards");
    spec->input_dtype = run->info.augments ? STN_F32 : STN_U8;
    for (uint32_t i = 0; i < run->info.channels; i++) {
        double mean = run->info.mean[i], deviation = run->info.std[i];
        spec->mul[i] = (float)(1.0 / (255.0 * deviation));
        spec->add[i] = (float)(-mean / deviation);
    }
    spec->optimizer = optimizer_number(stn_config_get(c, "optimizer"));
    spec->nesterov = stn_config_bool(c, "nesterov") ? 1u : 0u;
    spec->momentum = stn_config_real(c, "momentum");
    spec->weight_decay = stn_config_real(c, "weight-decay");
    spec->beta1 = stn_config_real(c, "beta1");
    spec->beta2 = stn_config_real(c, "beta2");
    spec->eps = stn_config_real(c, "eps");
    spec->loc_rate = stn_config_real(c, "loc-rate");
}

static int32_t open_net(stn_run *run, const stn_run_options *options, stn_err *err) {
    stn_net_spec spec;
    memset(&spec, 0, sizeof spec);
    fill_spec(run, &spec);
    spec.keep_values = options->keep_values;
    spec.no_fusion = options->no_fusion;
    spec.mem_limit = (uint64_t)stn_config_int(run->config, "mem-limit");
    spec.progress = options->progress;
    spec.progress_user = options->progress_user;
    option_list list;
    STN_TRY(options_take(run->config, "model", &list, err));
    spec.request.options = options_view(&list);
    int32_t status = stn_net_open(run->ctx, run->dev, &spec, &run->net, err);
    options_free(&list);
    STN_TRY(status);
    return stn_net_init(run->net, run->seed, err);
}

int32_t stn__run_loader(stn_run *run, uint32_t split, bool training, stn__loader **loader,
                        stn_err *err) {
    stn__loader_spec spec = {
        .dataset = run->dataset,
        .data = run->data,
        .info = &run->info,
        .split = split,
        .batch = run->batch,
        .seed = run->seed,
        .shuffle = training,
    };
    return stn__loader_open(&spec, loader, err);
}

int32_t stn_run_open(stn_ctx *ctx, stn_config *config, stn_dev *dev, const stn_run_options *options,
                     stn_run **out, stn_err *err) {
    static const stn_run_options defaults;
    *out = NULL;
    options = options != NULL ? options : &defaults;
    STN_TRY(stn__config_complete(config, err));
    stn_run *run = stn__calloc(1, sizeof *run);
    if (run == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory for a run");
    }
    run->ctx = ctx;
    run->config = config;
    run->dev = dev;
    run->seed = (uint64_t)stn_config_int(config, "seed");
    run->batch = (uint32_t)stn_config_int(config, "batch");
    run->length = (uint64_t)stn_config_int(config, "steps");
    run->saved_step = UINT64_MAX;
    run->not_reproducible =
        options->not_reproducible || strcmp(stn_config_get(config, "math"), "fast") == 0;
    run->identity = stn__strdup(stn_config_identity(config));
    int32_t status = run->identity != NULL
                         ? STN_OK
                         : stn_fail(err, STN_E_NOMEM, "no memory for the run's identity");
    if (status == STN_OK) {
        status = open_dataset(run, err);
    }
    if (status == STN_OK) {
        status = open_net(run, options, err);
    }
    if (status == STN_OK) {
        /* Whatever opened the device so: its own answer counts, not the setting alone. */
        run->not_reproducible = run->not_reproducible || !stn_net_exact(run->net);
    }
    if (status == STN_OK) {
        status = stn__run_loader(run, STN_SPLIT_TRAIN, true, &run->train_loader, err);
    }
    if (status != STN_OK) {
        stn_run_close(run);
        return status;
    }
    *out = run;
    return STN_OK;
}

void stn_run_close(stn_run *run) {
    if (run == NULL) {
        return;
    }
    stn__loader_close(run->train_loader);
    stn_net_close(run->net);
    if (run->dataset != NULL && run->dataset->close != NULL && run->data != NULL) {
        run->dataset->close(run->data);
    }
    stn__free(run->identity);
    stn__free(run->dir);
    stn__free(run);
}

stn_net *stn_run_net(stn_run *run) {
    return run->net;
}

const stn_data_info *stn_run_data(const stn_run *run) {
    return &run->info;
}

uint64_t stn_run_step(const stn_run *run) {
    return run->step;
}

uint64_t stn_run_length(const stn_run *run) {
    return run->length;
}

bool stn_run_reproducible(const stn_run *run) {
    return !run->not_reproducible;
}

void stn_run_override(stn_run *run) {
    run->not_reproducible = true;
}

void stn_run_set_step(stn_run *run, uint64_t step) {
    run->step = step;
}

int32_t stn_run_batch(stn_run *run, uint64_t step, void *images, int32_t *labels, uint32_t *count,
                      stn_err *err) {
    stn__batch batch;
    STN_TRY(stn__loader_seek(run->train_loader, step, err));
    STN_TRY(stn__loader_next(run->train_loader, &batch, err));
    uint64_t pixels = (uint64_t)run->info.channels * run->info.out_h * run->info.out_w;
    uint64_t bytes = run->info.augments ? sizeof(float) : 1u;
    memcpy(images, batch.images, batch.count * pixels * bytes);
    memcpy(labels, batch.labels, (uint64_t)batch.count * run->info.heads * sizeof *labels);
    *count = batch.count;
    return STN_OK;
}
