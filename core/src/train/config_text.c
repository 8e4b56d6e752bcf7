/* Texts of settings: recipes, configuration files and the environment (docs/configuration.md).
 *
 * Input: "key = value" lines, untrusted. Every message names the text and the line.
 */
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/config.h"
#include "train/recipes.h"

#define MAX_TEXT (UINT64_C(1) << 20)
#define MAX_DEPTH 8u
#define MAX_RECIPES 256u

/* One text being read, and the one that included it. */
typedef struct source {
    const char *label; /* "recipe mnist-r-sl1", "/home/me/my.recipe" */
    const char *path;  /* of a file, NULL for other texts */
    uint32_t origin, depth;
    const struct source *parent;
    bool keys_seen;
} source;

static int32_t read_text(stn_config *config, source *src, const char *text, uint64_t size,
                         stn_err *err);

uint32_t stn_recipe_count(stn_ctx *ctx) {
    (void)ctx;
    uint32_t n = 0;
    for (uint32_t i = 0; i < stn__recipe_total; i++) {
        n += stn__recipes[i].name[0] != '_';
    }
    return n;
}

const char *stn_recipe_name(stn_ctx *ctx, uint32_t index) {
    (void)ctx;
    for (uint32_t i = 0; i < stn__recipe_total; i++) {
        if (stn__recipes[i].name[0] != '_' && index-- == 0) {
            return stn__recipes[i].name;
        }
    }
    return NULL;
}

const char *stn__recipe_find(const char *name) {
    for (uint32_t i = 0; i < stn__recipe_total; i++) {
        if (strcmp(stn__recipes[i].name, name) == 0) {
            return stn__recipes[i].text;
        }
    }
    return NULL;
}

static int32_t unknown_recipe(const char *name, const source *parent, stn_err *err) {
    const char *known[MAX_RECIPES], *where = parent == NULL ? "" : parent->label;
    uint32_t n = 0;
    for (; n < stn__recipe_total && n < MAX_RECIPES; n++) {
        known[n] = stn__recipes[n].name;
    }
    const char *near = stn_suggest(name, known, n);
    return stn_fail(err, STN_E_NOTFOUND,
                    "%s%sno recipe is called '%.60s'%s%s%s (a file needs a '/' or ends in .recipe)",
                    where, parent == NULL ? "" : ": ", name, near == NULL ? "" : ", did you mean '",
                    near == NULL ? "" : near, near == NULL ? "" : "'?");
}

/* The path of a recipe file named in `parent`: relative names start from the parent's directory. */
static char *file_path(const char *name, const source *parent) {
    const char *base = parent == NULL || parent->path == NULL ? NULL : parent->path;
    if (base == NULL || name[0] == '/') {
        return stn__strdup(name);
    }
    char *dir = stn__strndup(base, (uint64_t)(stn__path_base(base) - base));
    char *path = dir == NULL ? NULL : stn__path_join(dir, name);
    stn__free(dir);
    return path;
}

static int32_t read_file(stn_config *config, source *src, stn_err *err) {
    char *text;
    uint64_t size;
    STN_TRY(stn__file_read(src->path, MAX_TEXT, &text, &size, err));
    int32_t status = read_text(config, src, text, size, err);
    stn__free(text);
    return status;
}

static int32_t read_recipe(stn_config *config, const char *name, uint32_t origin,
                           const source *parent, stn_err *err) {
    const char *text = stn__recipe_find(name);
    source src = {
        .origin = origin, .parent = parent, .depth = parent == NULL ? 0 : parent->depth + 1};
    if (text == NULL && strchr(name, '/') == NULL && !stn__str_ends(name, ".recipe")) {
        return unknown_recipe(name, parent, err);
    }
    stn__text label = {0};
    char *path = text == NULL ? file_path(name, parent) : NULL;
    stn__text_addf(&label, "recipe %s", text == NULL && path != NULL ? path : name);
    int32_t status = stn__text_check(&label, "recipe", err);
    if (text == NULL && path == NULL) {
        status = stn__nomem(err, "recipe", strlen(name));
    }
    src.label = stn__text_get(&label);
    src.path = path;
    for (const source *s = parent; status == STN_OK && s != NULL; s = s->parent) {
        if (strcmp(s->label, src.label) == 0 || src.depth > MAX_DEPTH) {
            status = stn_fail(err, STN_E_FORMAT, "%s: '%.60s' is included by itself or too deeply",
                              parent->label, name);
        }
    }
    if (status == STN_OK) {
        status = text != NULL ? read_text(config, &src, text, strlen(text), err)
                              : read_file(config, &src, err);
    }
    stn__text_free(&label);
    stn__free(path);
    return status;
}

/* Cuts a comment ('#' at the start or after a blank) and the blanks around what is left. */
static char *trim(char *line) {
    for (char *p = line; *p != '\0'; p++) {
        if (*p == '#' && (p == line || stn__is_blank(p[-1]))) {
            *p = '\0';
            break;
        }
    }
    while (stn__is_blank(*line)) {
        line++;
    }
    size_t size = strlen(line);
    while (size > 0 && stn__is_blank(line[size - 1])) {
        line[--size] = '\0';
    }
    return line;
}

/* Messages quote the text: what a terminal would obey is refused. */
static bool is_printable(const char *line) {
    for (; *line != '\0'; line++) {
        if (((unsigned char)*line < ' ' && *line != '\t') || *line == 127) {
            return false;
        }
    }
    return true;
}

static int32_t read_setting(stn_config *config, source *src, uint32_t number, char *line,
                            stn_err *err) {
    char *value = strchr(line, '=');
    if (value == NULL || value == line) {
        return stn_fail(err, STN_E_FORMAT, "%s:%u: '%.60s' is not of the form key = value",
                        src->label, number, line);
    }
    *value++ = '\0';
    char *key = trim(line);
    value = trim(value);
    if (strcmp(key, "include") == 0) {
        if (src->keys_seen) {
            return stn_fail(err, STN_E_FORMAT, "%s:%u: include must stand before all settings",
                            src->label, number);
        }
        uint32_t load = config->load;
        int32_t status = read_recipe(config, value, src->origin, src, err);
        config->load = load;
        return status;
    }
    src->keys_seen = true;
    if (strcmp(key, "recipe") == 0 && src->origin == STN_FROM_RECIPE) {
        return stn_fail(err, STN_E_FORMAT,
                        "%s:%u: a recipe takes in another one by include = %.60s", src->label,
                        number, value);
    }
    stn__text where = {0};
    stn__text_addf(&where, "%s:%u", src->label, number);
    int32_t status = stn__text_check(&where, "setting", err);
    if (status == STN_OK) {
        status = stn_config_set(config, key, value, src->origin, stn__text_get(&where), err);
    }
    stn__text_free(&where);
    return status;
}

static int32_t read_lines(stn_config *config, source *src, char *text, stn_err *err) {
    uint32_t number = 1;
    for (char *line = text; line != NULL; number++) {
        char *next = strchr(line, '\n');
        if (next != NULL) {
            *next++ = '\0';
        }
        line = trim(line);
        if (!is_printable(line)) {
            return stn_fail(err, STN_E_FORMAT, "%s:%u: the line holds a control character",
                            src->label, number);
        }
        if (*line != '\0') {
            STN_TRY(read_setting(config, src, number, line, err));
        }
        line = next;
    }
    return STN_OK;
}

static int32_t read_text(stn_config *config, source *src, const char *text, uint64_t size,
                         stn_err *err) {
    if (size > MAX_TEXT || (size > 0 && memchr(text, 0, (size_t)size) != NULL)) {
        return stn_fail(err, STN_E_FORMAT, "%s: not a text of settings (too long, or a zero byte)",
                        src->label);
    }
    char *copy = stn__strndup(size == 0 ? "" : text, size);
    if (copy == NULL) {
        return stn__nomem(err, "settings", size + 1);
    }
    config->load = ++config->loads;
    int32_t status = read_lines(config, src, copy, err);
    config->load = 0;
    stn__free(copy);
    return status;
}

int32_t stn_config_recipe(stn_config *config, const char *recipe, uint32_t origin, stn_err *err) {
    return read_recipe(config, recipe, origin, NULL, err);
}

int32_t stn_config_text(stn_config *config, const char *text, uint64_t size, uint32_t origin,
                        const char *where, stn_err *err) {
    source src = {.label = where == NULL ? "text" : where, .origin = origin};
    return read_text(config, &src, text, size, err);
}

static int32_t read_if_there(stn_config *config, const char *path, uint32_t origin, stn_err *err) {
    source src = {.label = path, .path = path, .origin = origin};
    return stn__is_file(path) ? read_file(config, &src, err) : STN_OK;
}

/* The user's file: $XDG_CONFIG_HOME/stn/stn.conf or ~/.config/stn/stn.conf; NULL if there is no
 * home. Only absolute directories count. */
static char *user_file(void) {
    const char *dir = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (dir != NULL && dir[0] == '/') {
        return stn__path_join(dir, "stn/stn.conf");
    }
    return home != NULL && home[0] == '/' ? stn__path_join(home, ".config/stn/stn.conf") : NULL;
}

int32_t stn_config_files(stn_config *config, stn_err *err) {
    STN_TRY(read_if_there(config, STN_SYSCONFDIR "/stn/stn.conf", STN_FROM_SYSTEM, err));
    char *path = user_file();
    int32_t status = path == NULL ? STN_OK : read_if_there(config, path, STN_FROM_USER, err);
    stn__free(path);
    return status;
}

int32_t stn_config_env(stn_config *config, stn_err *err) {
    config->environment = true;
    for (uint32_t i = 0; i < stn_key_count(); i++) {
        const char *key = stn_key_get(i)->name;
        stn__text name = {0};
        stn__config_env_name(&name, key);
        int32_t status = stn__text_check(&name, "setting", err);
        const char *value = getenv(stn__text_get(&name));
        if (status == STN_OK && value != NULL && value[0] != '\0') {
            status = stn_config_set(config, key, value, STN_FROM_ENV, NULL, err);
        }
        stn__text_free(&name);
        STN_TRY(status);
    }
    return STN_OK;
}
