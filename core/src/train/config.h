/* Inside of a config (stn_config_* of stn.h): items, canonical values and their origin.
 *
 * Every key of the flag table has one item from the start; dotted keys (plugin options) are added
 * when they are set, or with their default by stn_config_check. Items are kept sorted by key, and
 * values are canonical: the same setting is the same text.
 */
#ifndef STN_TRAIN_CONFIG_H
#define STN_TRAIN_CONFIG_H

#include <stn/stn.h>

#include "base/text.h"

typedef struct stn__item {
    const stn_key_info *info;  /* NULL for a dotted key */
    char *key, *value, *where; /* value NULL: not set */
    uint32_t origin;
    uint32_t load; /* the text it came from, to find a key given twice in one text; 0 = none */
    int64_t integer;
    double real;
    bool boolean;
} stn__item;

struct stn_config {
    stn_ctx *ctx; /* may be NULL: plugin options are then not checked */
    stn__item *items;
    uint64_t n, cap;
    uint32_t load;    /* number of the text being read */
    uint32_t loads;   /* texts read so far */
    bool environment; /* stn_config_env was called: plugin options look there too */
    stn__text identity;
};

#define STN__MAX_LR_STEPS 32u

/* The entry of the flag table, or NULL. */
const stn_key_info *stn__key_find(const char *key);
/* Checks `value` against a type ("int", "size", "float", "string", "bool", "choice:...",
 * "list") and range
 * and gives the canonical text, to be freed. `label` begins the message. */
int32_t stn__value_canonical(const char *label, const char *type, const char *range,
                             const char *value, char **canonical, stn_err *err);
/* "1000,2000": increasing numbers > 0, at most STN__MAX_LR_STEPS. */
bool stn__parse_steps(const char *text, uint64_t *steps, uint32_t *n);

/* The item of a key, or NULL. */
stn__item *stn__config_item(const stn_config *config, const char *key);
/* Gives an item a checked value. `canonical` is taken over, also on failure. */
int32_t stn__config_put(stn_config *config, const char *key, char *canonical, uint32_t origin,
                        const char *where, stn_err *err);
void stn__config_remove(stn_config *config, stn__item *item);
/* How messages name a setting: "--lr", "STN_LR", "recipe mnist-r-sl1:4: lr". */
void stn__config_label(stn__text *label, const char *key, uint32_t origin, const char *where);
/* "STN_LR_STEPS" of "lr-steps". */
void stn__config_env_name(stn__text *name, const char *key);

/* E_USAGE unless dataset, model and network are set: what a run needs at least. */
int32_t stn__config_complete(const stn_config *config, stn_err *err);
/* The settings as a recipe: sorted lines of everything that describes the run, length and reporting
 * included, without what belongs to a machine (device, threads, directories). */
void stn__config_as_recipe(const stn_config *config, stn__text *text);

/* Plugin kinds that take dotted keys: 0 dataset, 1 model, 2 backend. */
#define STN__OWNERS 3u
typedef struct stn__owner {
    const char *key; /* "dataset": names the plugin; its options are "dataset.X" */
    uint32_t kind;
} stn__owner;
extern const stn__owner stn__owners[STN__OWNERS];
/* The owner of "dataset.X" and X; NULL if the key has no such form. */
const stn__owner *stn__owner_of(const char *key, const char **option);

#endif
