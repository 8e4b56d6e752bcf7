/* Setting keys of a config: names, labels for messages, authority of origins. */
#include <string.h>

#include "base/mem.h"
#include "train/config.h"

#define MAX_KEYS 128u

void stn__config_env_name(stn__text *name, const char *key) {
    stn__text_add(name, "STN_");
    for (; *key != '\0'; key++) {
        char c = *key == '-' || *key == '.' ? '_' : *key;
        c = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
        stn__text_bytes(name, &c, 1);
    }
}

/* Where a setting comes from if the caller does not say. */
static void default_where(stn__text *where, const char *key, uint32_t origin) {
    static const char *const names[] = {"default", "system file", "user file", "recipe"};
    if (origin == STN_FROM_ENV) {
        stn__config_env_name(where, key);
    } else if (origin >= STN_FROM_FLAG) {
        stn__text_addf(where, "--%s", key);
    } else {
        stn__text_add(where, names[origin]);
    }
}

void stn__config_label(stn__text *label, const char *key, uint32_t origin, const char *where) {
    stn__text_add(label, where);
    if (origin < STN_FROM_ENV) {
        stn__text_addf(label, ": %s", key);
    }
}

static int32_t unknown_key(const char *key, const char *where, stn_err *err) {
    const char *known[MAX_KEYS];
    uint32_t n = 0;
    while (n < MAX_KEYS && n < stn_key_count()) {
        known[n] = stn_key_get(n)->name;
        n++;
    }
    const char *near = stn_suggest(key, known, n);
    if (near != NULL) {
        return stn_fail(err, STN_E_USAGE, "%s: unknown setting '%.60s', did you mean '%s'?", where,
                        key, near);
    }
    return stn_fail(err, STN_E_USAGE,
                    "%s: unknown setting '%.60s'; 'stnrun train --help' lists all of them", where,
                    key);
}

/* Options of plugins: letters, digits, '-' and '_' after the dot. */
static bool is_option_name(const char *option) {
    return option[strspn(option, "abcdefghijklmnopqrstuvwxyz0123456789-_")] == '\0';
}

static int32_t set(stn_config *config, const char *key, const char *value, uint32_t origin,
                   const char *where, const char *label, stn_err *err) {
    const stn_key_info *info = stn__key_find(key);
    const char *option;
    char *canonical;
    if (info == NULL && (stn__owner_of(key, &option) == NULL || !is_option_name(option))) {
        return unknown_key(key, where, err);
    }
    const stn__item *old = stn__config_item(config, key);
    if (config->load != 0 && old != NULL && old->load == config->load) {
        return stn_fail(err, STN_E_USAGE, "%s: already set by %s", label, old->where);
    }
    STN_TRY(stn__value_canonical(label, info == NULL ? "string" : info->type,
                                 info == NULL ? "" : info->range, value, &canonical, err));
    int64_t shards;
    if (strcmp(key, "shards") == 0 && stn__parse_i64(canonical, &shards) &&
        (shards & (shards - 1)) != 0) {
        stn__free(canonical);
        return stn_fail(err, STN_E_USAGE, "%s: %.20s is not a power of two", label, value);
    }
    if (old != NULL && old->value != NULL && old->origin > origin) {
        stn__free(canonical);
        return STN_OK;
    }
    return stn__config_put(config, key, canonical, origin, where, err);
}

int32_t stn_config_set(stn_config *config, const char *key, const char *value, uint32_t origin,
                       const char *where, stn_err *err) {
    stn__text place = {0}, label = {0};
    if (where == NULL) {
        default_where(&place, key, origin);
    } else {
        stn__text_add(&place, where);
    }
    stn__config_label(&label, key, origin, stn__text_get(&place));
    int32_t status = stn__text_check(&place, "setting", err);
    if (status == STN_OK) {
        status = stn__text_check(&label, "setting", err);
    }
    if (status == STN_OK) {
        status = set(config, key, value, origin, stn__text_get(&place), stn__text_get(&label), err);
    }
    stn__text_free(&place);
    stn__text_free(&label);
    return status;
}
