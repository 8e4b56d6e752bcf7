/* Opening and closing of contexts, and loading of plugins by name. */
#include <string.h>

#include "base/mem.h"
#include "plugin/registry.h"

int32_t stn_open(const stn_open_options *options, stn_ctx **ctx, stn_err *err) {
    *ctx = NULL;
    stn_ctx *made = stn__calloc(1, sizeof *made);
    if (made == NULL) {
        return stn__nomem(err, "a context", sizeof *made);
    }
    if (options != NULL) {
        made->log = (stn__log){options->log, options->log_user};
    }
    stn__host_attach(made);
    int32_t status = stn__search(made, options, err);
    if (status != STN_OK) {
        stn_close(made);
        return status;
    }
    *ctx = made;
    return STN_OK;
}

void stn_close(stn_ctx *ctx) {
    if (ctx == NULL) {
        return;
    }
    stn__records_unload(ctx);
    stn__host_detach(ctx);
    for (uint64_t i = 0; i < ctx->n; i++) {
        stn__free(ctx->record[i].path);
    }
    stn__free(ctx->record);
    stn__text_free(&ctx->tried);
    stn__free(ctx);
}

uint32_t stn_plugin_count(const stn_ctx *ctx) {
    return (uint32_t)ctx->n;
}

/* The loaded record of kind and name. */
static int32_t load_named(stn_ctx *ctx, uint32_t kind, const char *name, const stn__record **record,
                          stn_err *err) {
    uint32_t index = 0;
    STN_TRY(stn__record_find(ctx, kind, name, &index, err));
    STN_TRY(stn__record_load(ctx, index, err));
    *record = &ctx->record[index];
    return STN_OK;
}

int32_t stn_plugin_load(stn_ctx *ctx, uint32_t kind, const char *name, const stn_plugin **plugin,
                        stn_err *err) {
    const stn__record *record = NULL;
    *plugin = NULL;
    STN_TRY(load_named(ctx, kind, name, &record, err));
    *plugin = stn__record_plugin(record);
    return STN_OK;
}

int32_t stn_backend_load(stn_ctx *ctx, const char *name, const stn_backend **b, stn_err *err) {
    const stn__record *record = NULL;
    *b = NULL;
    STN_TRY(load_named(ctx, STN_KIND_BACKEND, name, &record, err));
    *b = &record->table.backend;
    return STN_OK;
}

int32_t stn_dataset_load(stn_ctx *ctx, const char *name, const stn_dataset **d, stn_err *err) {
    const stn__record *record = NULL;
    *d = NULL;
    STN_TRY(load_named(ctx, STN_KIND_DATASET, name, &record, err));
    *d = &record->table.dataset;
    return STN_OK;
}

int32_t stn_model_load(stn_ctx *ctx, const char *name, const stn_model **m, stn_err *err) {
    const stn__record *record = NULL;
    *m = NULL;
    STN_TRY(load_named(ctx, STN_KIND_MODEL, name, &record, err));
    *m = &record->table.model;
    return STN_OK;
}
