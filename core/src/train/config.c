/* Configs: items with their origin, typed access and the canonical text of a run's identity. */
#include "train/config.h"

#include <string.h>

#include "base/mem.h"

stn__item *stn__config_item(const stn_config *config, const char *key) {
    uint64_t low = 0, high = config->n;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        int order = strcmp(key, config->items[middle].key);
        if (order == 0) {
            return &config->items[middle];
        }
        *(order < 0 ? &high : &low) = order < 0 ? middle : middle + 1;
    }
    return NULL;
}

/* Adds an item without value at its place. */
static int32_t insert(stn_config *config, const char *key, stn__item **item, stn_err *err) {
    void *items = config->items;
    if (!stn__grow(&items, &config->cap, config->n + 1, sizeof *config->items)) {
        return stn__nomem(err, "setting", sizeof *config->items);
    }
    config->items = items;
    char *name = stn__strdup(key);
    if (name == NULL) {
        return stn__nomem(err, "setting", strlen(key) + 1);
    }
    uint64_t at = 0;
    while (at < config->n && strcmp(config->items[at].key, key) < 0) {
        at++;
    }
    memmove(&config->items[at + 1], &config->items[at],
            (size_t)(config->n - at) * sizeof *config->items);
    config->items[at] = (stn__item){.key = name, .info = stn__key_find(key)};
    config->n++;
    *item = &config->items[at];
    return STN_OK;
}

void stn__config_remove(stn_config *config, stn__item *item) {
    uint64_t at = (uint64_t)(item - config->items);
    stn__free(item->key);
    stn__free(item->value);
    stn__free(item->where);
    memmove(item, item + 1, (size_t)(config->n - at - 1) * sizeof *item);
    config->n--;
}

static void cache_numbers(stn__item *item) {
    uint64_t large;
    if (stn__parse_u64(item->value, &large) ||
        (item->info != NULL && strcmp(item->info->type, "size") == 0 &&
         stn__parse_size(item->value, &large))) {
        memcpy(&item->integer, &large, sizeof large); /* seeds use all 64 bits */
    } else if (!stn__parse_i64(item->value, &item->integer)) {
        item->integer = 0;
    }
    if (!stn__parse_real(item->value, &item->real)) {
        item->real = 0;
    }
    if (!stn__parse_bool(item->value, &item->boolean)) {
        item->boolean = false;
    }
}

int32_t stn__config_put(stn_config *config, const char *key, char *canonical, uint32_t origin,
                        const char *where, stn_err *err) {
    stn__item *item = stn__config_item(config, key);
    char *place = stn__strdup(where);
    int32_t status = place == NULL ? stn__nomem(err, "setting", strlen(where) + 1) : STN_OK;
    if (status == STN_OK && item == NULL) {
        status = insert(config, key, &item, err);
    }
    if (status != STN_OK) {
        stn__free(canonical);
        stn__free(place);
        return status;
    }
    stn__free(item->value);
    stn__free(item->where);
    item->value = canonical;
    item->where = place;
    item->origin = origin;
    item->load = config->load;
    cache_numbers(item);
    return STN_OK;
}

static int32_t put_default(stn_config *config, const stn_key_info *info, stn_err *err) {
    stn__item *item;
    char *canonical;
    if (info->def == NULL) {
        return insert(config, info->name, &item, err);
    }
    STN_TRY(stn__value_canonical(info->name, info->type, info->range, info->def, &canonical, err));
    return stn__config_put(config, info->name, canonical, STN_FROM_DEFAULT, "default", err);
}

int32_t stn_config_new(stn_ctx *ctx, stn_config **config, stn_err *err) {
    stn_config *c = stn__calloc(1, sizeof *c);
    *config = NULL;
    if (c == NULL) {
        return stn__nomem(err, "config", sizeof *c);
    }
    c->ctx = ctx;
    for (uint32_t i = 0; i < stn_key_count(); i++) {
        int32_t status = put_default(c, stn_key_get(i), err);
        if (status != STN_OK) {
            stn_config_free(c);
            return status;
        }
    }
    *config = c;
    return STN_OK;
}

void stn_config_free(stn_config *config) {
    if (config == NULL) {
        return;
    }
    for (uint64_t i = 0; i < config->n; i++) {
        stn__free(config->items[i].key);
        stn__free(config->items[i].value);
        stn__free(config->items[i].where);
    }
    stn__free(config->items);
    stn__text_free(&config->identity);
    stn__free(config);
}

const char *stn_config_get(const stn_config *config, const char *key) {
    const stn__item *item = stn__config_item(config, key);
    return item == NULL ? NULL : item->value;
}

int64_t stn_config_int(const stn_config *config, const char *key) {
    const stn__item *item = stn__config_item(config, key);
    return item == NULL ? 0 : item->integer;
}

double stn_config_real(const stn_config *config, const char *key) {
    const stn__item *item = stn__config_item(config, key);
    return item == NULL ? 0 : item->real;
}

bool stn_config_bool(const stn_config *config, const char *key) {
    const stn__item *item = stn__config_item(config, key);
    return item != NULL && item->boolean;
}

/* Whether a setting changes bits of the run: the numbers of the other optimizers and schedules do
 * not, and the length does only where the schedule looks at it. */
static bool is_identity(const stn_config *config, const stn__item *item) {
    static const struct {
        const char *key, *switch_key, *values;
    } conditions[] = {
        {"momentum", "optimizer", "sgd"},     {"nesterov", "optimizer", "sgd"},
        {"beta1", "optimizer", "adam,adamw"}, {"beta2", "optimizer", "adam,adamw"},
        {"eps", "optimizer", "adam,adamw"},   {"lr-steps", "schedule", "step"},
        {"lr-factor", "schedule", "step"},    {"steps", "schedule", "cosine"},
    };
    const char *option;
    if (item->info == NULL) {
        return stn__owner_of(item->key, &option)->kind != STN_KIND_BACKEND;
    }
    for (size_t i = 0; i < sizeof conditions / sizeof conditions[0]; i++) {
        if (strcmp(conditions[i].key, item->key) == 0) {
            return strstr(conditions[i].values, stn_config_get(config, conditions[i].switch_key)) !=
                   NULL;
        }
    }
    return item->info->identity != 0;
}

static uint32_t count_set(const stn_config *config, uint32_t stop, const stn__item **found) {
    uint32_t n = 0;
    for (uint64_t i = 0; i < config->n; i++) {
        if (config->items[i].value != NULL && n++ == stop) {
            *found = &config->items[i];
            break;
        }
    }
    return n;
}

uint32_t stn_config_count(const stn_config *config) {
    const stn__item *none = NULL;
    return count_set(config, UINT32_MAX, &none);
}

int32_t stn_config_item_at(const stn_config *config, uint32_t index, stn_config_item *item) {
    const stn__item *found = NULL;
    (void)count_set(config, index, &found);
    if (found == NULL) {
        return STN_E_NOTFOUND;
    }
    *item = (stn_config_item){.key = found->key,
                              .value = found->value,
                              .where = found->where,
                              .origin = found->origin,
                              .identity = is_identity(config, found) ? 1 : 0};
    return STN_OK;
}

const char *stn_config_identity(stn_config *config) {
    stn__text_clear(&config->identity);
    for (uint64_t i = 0; i < config->n; i++) {
        const stn__item *item = &config->items[i];
        if (item->value != NULL && is_identity(config, item)) {
            stn__text_addf(&config->identity, "%s = %s\n", item->key, item->value);
        }
    }
    return stn__text_check(&config->identity, "identity", NULL) == STN_OK
               ? stn__text_get(&config->identity)
               : NULL;
}

/* Settings of the machine a run happens on. */
static bool is_of_machine(const stn__item *item) {
    static const char *const keys[] = {"recipe",       "out",     "data-dir",
                                       "backend",      "device",  "cpu-kernels",
                                       "device-class", "threads", "mem-limit"};
    const char *option;
    const stn__owner *owner = stn__owner_of(item->key, &option);
    if (owner != NULL) {
        return owner->kind == STN_KIND_BACKEND;
    }
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (strcmp(keys[i], item->key) == 0) {
            return true;
        }
    }
    return false;
}

void stn__config_as_recipe(const stn_config *config, stn__text *text) {
    for (uint64_t i = 0; i < config->n; i++) {
        const stn__item *item = &config->items[i];
        if (item->value != NULL && !is_of_machine(item)) {
            stn__text_addf(text, "%s = %s\n", item->key, item->value);
        }
    }
}
