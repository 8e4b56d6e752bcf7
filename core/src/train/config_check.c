/* Final checks of a config: plugin options against their lists, settings against each other.
 *
 * After this every option of the chosen dataset and model has a canonical value, so that the
 * identity of a run does not depend on which defaults were written out.
 */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "train/config.h"

#define MAX_KNOWN 64u /* names offered as suggestions */

static const stn_option_info *find_option(const stn_plugin *plugin, const char *name) {
    for (uint32_t i = 0; i < plugin->n_options; i++) {
        if (strcmp(plugin->options[i].name, name) == 0) {
            return &plugin->options[i];
        }
    }
    return NULL;
}

static int32_t unknown_option(const stn_plugin *plugin, const char *label, const char *owner,
                              const char *name, stn_err *err) {
    stn__text all = {0};
    const char *known[MAX_KNOWN];
    uint32_t n = 0;
    for (; n < plugin->n_options && n < MAX_KNOWN; n++) {
        known[n] = plugin->options[n].name;
        stn__text_addf(&all, "%s%s", n == 0 ? "" : ", ", known[n]);
    }
    const char *near = stn_suggest(name, known, n);
    int32_t status =
        near != NULL
            ? stn_fail(err, STN_E_USAGE, "%s: %s %s has no option '%.40s', did you mean '%s'?",
                       label, owner, plugin->name, name, near)
            : stn_fail(err, STN_E_USAGE, "%s: %s %s has no option '%.40s'; it has %s", label, owner,
                       plugin->name, name, all.size == 0 ? "none" : stn__text_get(&all));
    stn__text_free(&all);
    return status;
}

/* Checks a dotted item that the user has set, and makes its value canonical. */
static int32_t check_option(const stn_plugin *plugin, const char *owner, const char *name,
                            stn__item *item, stn_err *err) {
    const stn_option_info *info = find_option(plugin, name);
    stn__text label = {0};
    char *canonical = NULL;
    stn__config_label(&label, item->key, item->origin, item->where);
    int32_t status = stn__text_check(&label, "setting", err);
    if (status == STN_OK && info == NULL) {
        status = unknown_option(plugin, stn__text_get(&label), owner, name, err);
    } else if (status == STN_OK) {
        status = stn__value_canonical(stn__text_get(&label), info->type, info->range, item->value,
                                      &canonical, err);
    }
    stn__text_free(&label);
    STN_TRY(status);
    stn__free(item->value);
    item->value = canonical;
    return STN_OK;
}

/* Takes an option from the environment, else its default unless it belongs to the backend: there a
 * default would hide the key of the same name (threads). */
static int32_t fill_option(stn_config *config, const stn__owner *owner, const stn_plugin *plugin,
                           const stn_option_info *info, stn_err *err) {
    stn__text key = {0}, name = {0}, where = {0};
    stn__text_addf(&key, "%s.%s", owner->key, info->name);
    stn__text_addf(&where, "default of %s", plugin->name);
    stn__config_env_name(&name, stn__text_get(&key));
    int32_t status = stn__text_check(&key, "setting", err);
    status = status == STN_OK ? stn__text_check(&where, "setting", err) : status;
    status = status == STN_OK ? stn__text_check(&name, "setting", err) : status;
    if (status == STN_OK && config->environment) {
        const char *value = getenv(stn__text_get(&name));
        if (value != NULL && value[0] != '\0') {
            status = stn_config_set(config, stn__text_get(&key), value, STN_FROM_ENV, NULL, err);
        }
    }
    if (status == STN_OK && owner->kind != STN_KIND_BACKEND && info->def != NULL &&
        stn_config_get(config, stn__text_get(&key)) == NULL) {
        status = stn_config_set(config, stn__text_get(&key), info->def, STN_FROM_DEFAULT,
                                stn__text_get(&where), err);
    }
    stn__text_free(&key);
    stn__text_free(&name);
    stn__text_free(&where);
    return status;
}

static int32_t check_network(const stn_config *config, const char *model, stn_err *err) {
    const stn_model *m;
    const stn__item *item = stn__config_item(config, "network");
    STN_TRY(stn_model_load(config->ctx, model, &m, err));
    const char *known[MAX_KNOWN];
    uint32_t n = 0;
    for (uint32_t i = 0; i < m->n_networks; i++) {
        if (strcmp(m->networks[i].name, item->value) == 0) {
            return STN_OK;
        }
        if (n < MAX_KNOWN) {
            known[n++] = m->networks[i].name;
        }
    }
    const char *near = stn_suggest(item->value, known, n);
    return stn_fail(err, STN_E_USAGE,
                    "%s: model %s has no network '%.40s'%s%s%s; see stnrun models", item->where,
                    model, item->value, near == NULL ? "" : ", did you mean '",
                    near == NULL ? "" : near, near == NULL ? "" : "'?");
}

static int32_t check_owner(stn_config *config, const stn__owner *owner, stn_err *err) {
    const char *chosen = stn_config_get(config, owner->key), *option;
    const stn_plugin *plugin = NULL;
    if (chosen != NULL) {
        STN_TRY(stn_plugin_load(config->ctx, owner->kind, chosen, &plugin, err));
        for (uint32_t i = 0; i < plugin->n_options; i++) {
            STN_TRY(fill_option(config, owner, plugin, &plugin->options[i], err));
        }
    }
    for (uint64_t i = 0; i < config->n; i++) {
        stn__item *item = &config->items[i];
        if (stn__owner_of(item->key, &option) != owner) {
            continue;
        }
        if (plugin == NULL) {
            return stn_fail(err, STN_E_USAGE, "%s: %s is set, but no %s", item->where, item->key,
                            owner->key);
        }
        STN_TRY(check_option(plugin, owner->key, option, item, err));
    }
    return STN_OK;
}

/* Defaults filled in by an earlier check may belong to other plugins than those chosen now. */
static void drop_old_defaults(stn_config *config) {
    for (uint64_t i = config->n; i-- > 0;) {
        stn__item *item = &config->items[i];
        if (item->info == NULL && item->origin == STN_FROM_DEFAULT) {
            stn__config_remove(config, item);
        }
    }
}

static int32_t check_together(const stn_config *config, stn_err *err) {
    const char *schedule = stn_config_get(config, "schedule");
    const stn__item *nesterov = stn__config_item(config, "nesterov");
    if (strcmp(schedule, "step") == 0 && stn_config_get(config, "lr-steps") == NULL) {
        return stn_fail(err, STN_E_USAGE, "%s: schedule = step needs lr-steps, such as 10000,20000",
                        stn__config_item(config, "schedule")->where);
    }
    if (nesterov->boolean && stn_config_real(config, "momentum") <= 0) {
        return stn_fail(err, STN_E_USAGE, "%s: nesterov needs a momentum above 0", nesterov->where);
    }
    return STN_OK;
}

int32_t stn_config_check(stn_config *config, stn_err *err) {
    drop_old_defaults(config);
    STN_TRY(check_together(config, err));
    if (config->ctx == NULL) {
        return STN_OK;
    }
    for (uint32_t i = 0; i < STN__OWNERS; i++) {
        STN_TRY(check_owner(config, &stn__owners[i], err));
    }
    const char *model = stn_config_get(config, "model");
    if (model != NULL && stn_config_get(config, "network") != NULL) {
        STN_TRY(check_network(config, model, err));
    }
    return STN_OK;
}

int32_t stn__config_complete(const stn_config *config, stn_err *err) {
    static const char *const needed[] = {"dataset", "model", "network"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const char *value = stn_config_get(config, needed[i]);
        if (value == NULL || value[0] == '\0') {
            return stn_fail(
                err, STN_E_USAGE,
                "no %s is set: give --recipe NAME ('stnrun recipes' lists them) or --%s", needed[i],
                needed[i]);
        }
    }
    return STN_OK;
}
