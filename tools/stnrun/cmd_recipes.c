/* stnrun recipes: names of the shipped recipes, or the settings of one. */
#include <stdio.h>

#include "stnrun.h"

static int print_recipe(stn_ctx *ctx, const char *name) {
    stn_config *config = NULL;
    stn_err err = {0};
    if (stn_config_new(ctx, &config, &err) != STN_OK ||
        stn_config_recipe(config, name, STN_FROM_RECIPE, &err) != STN_OK) {
        stn_config_free(config);
        return fail(&err);
    }
    for (uint32_t i = 0; i < stn_config_count(config); i++) {
        stn_config_item item;
        if (stn_config_item_at(config, i, &item) == STN_OK && item.origin == STN_FROM_RECIPE) {
            printf("%s = %s\n", item.key, item.value);
        }
    }
    stn_config_free(config);
    return EXIT_OK;
}

int cmd_recipes(args *a) {
    stn_ctx *ctx = NULL;
    int status = open_context(a, &ctx);
    if (status != EXIT_OK) {
        return status;
    }
    if (a->n_positional > 0) {
        status = print_recipe(ctx, a->positional[0]);
    } else if (out.json || out.jsonl) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < stn_recipe_count(ctx); i++) {
            json_array_append_new(list, json_string(stn_recipe_name(ctx, i)));
        }
        status = print_json(json_pack("{s:s, s:o}", "schema", "stnrun-recipes/1", "recipes", list));
    } else {
        for (uint32_t i = 0; i < stn_recipe_count(ctx); i++) {
            puts(stn_recipe_name(ctx, i));
        }
    }
    stn_close(ctx);
    return status;
}
