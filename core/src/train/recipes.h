/* The recipes shipped inside the library: a table made at build time from the files of recipes,
 * sorted by name. Names that begin with '_' are parts for inclusion and are not offered to users.
 */
#ifndef STN_TRAIN_RECIPES_H
#define STN_TRAIN_RECIPES_H

#include <stdint.h>

typedef struct stn__recipe {
    const char *name, *text;
} stn__recipe;

extern const stn__recipe stn__recipes[];
extern const uint32_t stn__recipe_total;

/* The text of a shipped recipe, or NULL. */
const char *stn__recipe_find(const char *name);

#endif
