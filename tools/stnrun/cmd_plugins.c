/* stnrun plugins: every plugin file found, those refused with the reason; -v: options. */
#include <stdio.h>
#include <string.h>

#include "stnrun.h"

static bool selected(const args *a, const stn_plugin_info *info) {
    for (uint32_t i = 0; i < a->n_positional; i++) {
        if (strcmp(a->positional[i], info->name) == 0) {
            return true;
        }
    }
    return a->n_positional == 0;
}

static const char *state(const stn_plugin_info *info) {
    return info->refused ? "refused" : info->shadowed ? "shadowed" : "ok";
}

static void print_options(const stn_plugin *plugin) {
    printf("    %s; licence %s\n", plugin->description, plugin->licence);
    for (uint32_t i = 0; i < plugin->n_options; i++) {
        const stn_option_info *o = &plugin->options[i];
        printf("    --%s.%-14s %s%s%s, default %s: %s\n", kind_name(plugin->kind), o->name, o->type,
               o->range != NULL && o->range[0] != 0 ? ", " : "", o->range != NULL ? o->range : "",
               o->def != NULL && o->def[0] != 0 ? o->def : "none", o->help);
    }
}

static json_t *options_json(const stn_plugin *plugin) {
    json_t *list = json_array();
    for (uint32_t i = 0; i < plugin->n_options; i++) {
        const stn_option_info *o = &plugin->options[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:s*, s:s*, s:s}", "name", o->name,
                                              "type", o->type, "range", o->range, "default", o->def,
                                              "help", o->help));
    }
    return list;
}

static json_t *plugin_json(const stn_plugin_info *info, const stn_plugin *plugin) {
    json_t *one = json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:s}", "name", info->name, "kind",
                            kind_name(info->kind), "version", info->version, "path", info->path,
                            "abi_major", (int)info->abi_major, "abi_minor", (int)info->abi_minor,
                            "state", state(info), "reason", info->reason);
    if (plugin != NULL) {
        json_object_set_new(one, "description", json_string(plugin->description));
        json_object_set_new(one, "licence", json_string(plugin->licence));
        json_object_set_new(one, "options", options_json(plugin));
    }
    return one;
}

static void print_plugin(const stn_plugin_info *info, const stn_plugin *plugin) {
    printf("%-8s %-14s %-10s ABI %u.%u  %-8s %s\n", kind_name(info->kind), info->name,
           info->version, info->abi_major, info->abi_minor, state(info), info->path);
    if (info->refused) {
        printf("    %s\n", info->reason);
    }
    if (plugin != NULL) {
        print_options(plugin);
    }
}

static int list_plugins(const args *a, stn_ctx *ctx) {
    json_t *list = json_array();
    uint32_t shown = 0;
    for (uint32_t i = 0; i < stn_plugin_count(ctx); i++) {
        stn_plugin_info info;
        stn_err err = {0};
        const stn_plugin *plugin = NULL;
        if (stn_plugin_get(ctx, i, &info) != STN_OK || !selected(a, &info)) {
            continue;
        }
        shown++;
        bool load = out.verbose > 0 && !info.refused && !info.shadowed;
        if (load && stn_plugin_load(ctx, info.kind, info.name, &plugin, &err) != STN_OK) {
            (void)stn_plugin_get(ctx, i, &info);
        }
        if (out.json || out.jsonl) {
            json_array_append_new(list, plugin_json(&info, plugin));
        } else {
            print_plugin(&info, plugin);
        }
    }
    int status = EXIT_OK;
    if (out.json || out.jsonl) {
        status = print_json(json_pack("{s:s, s:O}", "schema", "stnrun-plugins/1", "plugins", list));
    }
    json_decref(list);
    if (shown == 0 && a->n_positional > 0) {
        fprintf(stderr, "stnrun: no plugin named '%s'\n", a->positional[0]);
        return EXIT_USAGE;
    }
    return status;
}

int cmd_plugins(args *a) {
    stn_ctx *ctx = NULL;
    int status = open_context(a, &ctx);
    if (status == EXIT_OK) {
        status = list_plugins(a, ctx);
        stn_close(ctx);
    }
    return status;
}
