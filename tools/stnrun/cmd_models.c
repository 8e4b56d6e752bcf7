/* stnrun models and stnrun datasets: what the plugins of these kinds offer. */
#include <stdio.h>

#include "stnrun.h"

static int print_model(stn_ctx *ctx, const char *name, json_t *list) {
    const stn_model *model = NULL;
    const stn_plugin *plugin = NULL;
    stn_err err = {0};
    if (stn_model_load(ctx, name, &model, &err) != STN_OK ||
        stn_plugin_load(ctx, STN_KIND_MODEL, name, &plugin, &err) != STN_OK) {
        return fail(&err);
    }
    if (list != NULL) {
        json_t *networks = json_array();
        for (uint32_t i = 0; i < model->n_networks; i++) {
            json_array_append_new(networks, json_pack("{s:s, s:s}", "name", model->networks[i].name,
                                                      "help", model->networks[i].help));
        }
        json_array_append_new(list, json_pack("{s:s, s:s, s:o}", "name", name, "description",
                                              plugin->description, "networks", networks));
        return EXIT_OK;
    }
    printf("%s: %s\n", name, plugin->description);
    for (uint32_t i = 0; i < model->n_networks; i++) {
        printf("    %-10s %s\n", model->networks[i].name, model->networks[i].help);
    }
    return EXIT_OK;
}

static int print_dataset(stn_ctx *ctx, const char *name, const char *data_dir, json_t *list) {
    const stn_plugin *plugin = NULL;
    stn_err err = {0};
    char dir[4096];
    if (stn_plugin_load(ctx, STN_KIND_DATASET, name, &plugin, &err) != STN_OK) {
        return fail(&err);
    }
    bool found = stn_data_find(ctx, name, data_dir, dir, sizeof dir, &err) == STN_OK;
    if (list != NULL) {
        json_array_append_new(list, json_pack("{s:s, s:s, s:s*, s:s*}", "name", name, "description",
                                              plugin->description, "directory", found ? dir : NULL,
                                              "reason", found ? NULL : err.text));
        return EXIT_OK;
    }
    printf("%s: %s\n    %s%s\n", name, plugin->description,
           found ? "found in " : "not found: ", found ? dir : err.text);
    return EXIT_OK;
}

/* Every usable plugin of a kind, once. A plugin that fails to load does not hide the others. */
static int list_kind(args *a, uint32_t kind, const char *schema) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    stn_ctx *ctx = NULL;
    stn_config *config = NULL;
    int status = open_context(a, &ctx);
    if (status == EXIT_OK && kind == STN_KIND_DATASET) {
        status = open_config(a, ctx, NULL, NULL, &config);
    }
    if (status != EXIT_OK) {
        stn_close(ctx);
        return status;
    }
    json_t *list = out.json || out.jsonl ? json_array() : NULL;
    for (uint32_t i = 0; i < stn_plugin_count(ctx); i++) {
        stn_plugin_info info;
        if (stn_plugin_get(ctx, i, &info) != STN_OK || info.kind != kind || info.refused ||
            info.shadowed) {
            continue;
        }
        int one = kind == STN_KIND_MODEL
                      ? print_model(ctx, info.name, list)
                      : print_dataset(ctx, info.name, stn_config_get(config, "data-dir"), list);
        status = status == EXIT_OK ? one : status;
    }
    if (list != NULL) {
        int printed = print_json(json_pack("{s:s, s:o}", "schema", schema,
                                           kind == STN_KIND_MODEL ? "models" : "datasets", list));
        status = status == EXIT_OK ? printed : status;
    }
    stn_config_free(config);
    stn_close(ctx);
    return status;
}

int cmd_models(args *a) {
    return list_kind(a, STN_KIND_MODEL, "stnrun-models/1");
}

int cmd_datasets(args *a) {
    return list_kind(a, STN_KIND_DATASET, "stnrun-datasets/1");
}
