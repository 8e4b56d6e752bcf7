/* The sides of a comparison: from the flag that lists them to their opened runs. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"

/* A flag that lists sides, and the setting each item is put into. */
static const struct {
    const char *flag, *key;
} axes[] = {{"backends", "backend"}, {"devices", "device"}, {"variants", "device-class"},
            {"threads", "threads"},  {"math", "math"},      {"cpu-kernels", "cpu-kernels"}};
#define N_AXES (sizeof axes / sizeof axes[0])

/* Settings that an axis implies: thread counts are the CPU backend's, and so on. */
static const char *implied_backend(const char *key) {
    bool opencl = strcmp(key, "device-class") == 0 || strcmp(key, "math") == 0;
    bool cpu = strcmp(key, "threads") == 0 || strcmp(key, "cpu-kernels") == 0;
    return opencl ? "opencl" : cpu ? "cpu" : NULL;
}

static bool given(const args *a, const char *key) {
    for (uint32_t i = 0; i < a->n_settings; i++) {
        if (a->setting[i].flag == NULL && strcmp(a->setting[i].name, key) == 0) {
            return true;
        }
    }
    return false;
}

static void side_set(side *one, const char *key, const char *value) {
    uint32_t n = 0;
    while (one->set[n] != NULL) {
        n += 2;
    }
    one->set[n] = key;
    one->set[n + 1] = value;
}

static int split_sides(const args *a, side_list *s, const char *key, const char *list) {
    s->items = strdup(list);
    if (s->items == NULL) {
        return usage_error(a, "out of memory");
    }
    for (char *item = s->items, *next = item; item != NULL; item = next) {
        next = strchr(item, ',');
        if (next != NULL) {
            *next++ = 0;
        }
        if (item[0] == 0 || s->n == MAX_SIDES) {
            return usage_error(a, "'%s': a list of 2 to %u items is needed", list, MAX_SIDES);
        }
        side *one = &s->side[s->n++];
        (void)snprintf(one->label, sizeof one->label, "%s", item);
        side_set(one, key, item);
        if (implied_backend(key) != NULL && !given(a, "backend")) {
            side_set(one, "backend", implied_backend(key));
        }
    }
    return EXIT_OK;
}

/* The one axis given with a list makes the sides; a single item is a setting of all of them. */
int sides_choose(const args *a, side_list *s) {
    const char *lists[N_AXES];
    for (size_t i = 0; i < N_AXES; i++) {
        lists[i] = args_value(a, axes[i].flag);
        if (lists[i] == NULL || strchr(lists[i], ',') == NULL) {
            continue;
        }
        if (s->n > 0) {
            return usage_error(a, "only one of --backends, --devices, --variants, --threads, "
                                  "--cpu-kernels, --math can list sides");
        }
        int status = split_sides(a, s, axes[i].key, lists[i]);
        if (status != EXIT_OK) {
            return status;
        }
        lists[i] = NULL;
    }
    if (s->n == 0) {
        return usage_error(a, "a list of sides is needed, for example --backends cpu,opencl");
    }
    for (size_t i = 0; i < N_AXES; i++) {
        for (uint32_t k = 0; lists[i] != NULL && k < s->n; k++) {
            side_set(&s->side[k], axes[i].key, lists[i]);
        }
    }
    return EXIT_OK;
}

int side_open(const args *a, stn_ctx *ctx, side *one, const stn_run_options *options) {
    one->s.ctx = ctx;
    one->s.shared_ctx = true;
    int status = open_config(a, ctx, NULL, one->set, &one->s.config);
    return status == EXIT_OK ? session_open_run(a, &one->s, options) : status;
}

int sides_open(const args *a, stn_ctx *ctx, side_list *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        note("side %s:", s->side[i].label);
        int status = side_open(a, ctx, &s->side[i], NULL);
        if (status != EXIT_OK) {
            return status;
        }
    }
    return EXIT_OK;
}

void sides_close(side_list *s) {
    for (uint32_t i = 0; i < s->n; i++) {
        session_close(&s->side[i].s);
    }
    free(s->items);
    s->items = NULL;
}

void sides_settings(const args *a, const char **set) {
    side one = {.label = ""};
    for (size_t i = 0; i < N_AXES; i++) {
        if (args_value(a, axes[i].flag) != NULL) {
            side_set(&one, axes[i].key, args_value(a, axes[i].flag));
        }
    }
    memcpy(set, one.set, sizeof one.set);
}
