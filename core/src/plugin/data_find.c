/* The directory of a dataset's files.
 *
 * Places in order: the data directory given, or else STN_DATA_DIR, the user's data directory, the
 * distribution's own. A data directory holds one directory per dataset ("mnist/"); a directory
 * given by the user may also be the dataset's own. A dataset that names no directories needs no
 * files: it gets the data directory as given, or "".
 */
#include <string.h>

#include "base/env.h"
#include "base/file.h"
#include "base/mem.h"
#include "plugin/registry.h"

typedef struct search_state {
    const stn_dataset *dataset;
    stn__text tried, found;
} search_state;

/* Takes `dir` if it holds files; true if the search is over. */
static bool try_dir(search_state *s, const char *dir) {
    stn__text_addf(&s->tried, "%s%s", s->tried.size == 0 ? "" : ", ", dir);
    if (!stn__dir_has_file(dir)) {
        return false;
    }
    stn__text_add(&s->found, dir);
    return true;
}

static bool try_data_dir(search_state *s, const char *dir, bool itself) {
    const char *const *sub = s->dataset->subdirs;
    for (; sub != NULL && *sub != NULL; sub++) {
        char *path = stn__path_join(dir, *sub);
        if (path == NULL) {
            s->tried.failed = true;
            return true;
        }
        bool done = try_dir(s, path);
        stn__free(path);
        if (done) {
            return true;
        }
    }
    return itself && try_dir(s, dir);
}

static void search(search_state *s, const char *data_dir) {
    const char *environment = stn__env("STN_DATA_DIR");
    if (data_dir != NULL && data_dir[0] != '\0') {
        (void)try_data_dir(s, data_dir, true);
        return;
    }
    if (environment != NULL && try_data_dir(s, environment, true)) {
        return;
    }
    char *user = stn__user_dir("XDG_DATA_HOME", ".local/share", "data");
    bool done = user != NULL && try_data_dir(s, user, false);
    stn__free(user);
    const char *const *dir = s->dataset->system_dirs;
    for (; !done && dir != NULL && *dir != NULL; dir++) {
        done = try_dir(s, *dir);
    }
}

int32_t stn_data_find(stn_ctx *ctx, const char *dataset, const char *data_dir, char *dir,
                      uint32_t cap, stn_err *err) {
    search_state s = {0};
    STN_TRY(stn_dataset_load(ctx, dataset, &s.dataset, err));
    if (s.dataset->subdirs == NULL && s.dataset->system_dirs == NULL) {
        int n = snprintf(dir, cap, "%s", data_dir != NULL ? data_dir : "");
        return n >= 0 && (uint32_t)n < cap
                   ? STN_OK
                   : stn_fail(err, STN_E_USAGE, "the path of the data is too long: %s", data_dir);
    }
    search(&s, data_dir);
    int32_t status = stn__text_check(&s.tried, "the search for data", err);
    if (status == STN_OK) {
        status = stn__text_check(&s.found, "the search for data", err);
    }
    if (status == STN_OK && s.found.size == 0) {
        status = stn_fail(err, STN_E_NOTFOUND,
                          "no files of dataset '%s'; give --data-dir or STN_DATA_DIR; tried: %s",
                          dataset, stn__text_get(&s.tried));
    } else if (status == STN_OK && s.found.size >= cap) {
        status = stn_fail(err, STN_E_USAGE, "the path of the data is too long: %s",
                          stn__text_get(&s.found));
    } else if (status == STN_OK) {
        memcpy(dir, stn__text_get(&s.found), (size_t)s.found.size + 1);
    }
    stn__text_free(&s.tried);
    stn__text_free(&s.found);
    return status;
}
