/* Where plugins are looked for, in order: files given by the user, STN_PLUGIN_PATH, the user's data
 * directory, the installed directory, the build tree beside the program. Files of a directory are
 * taken in bytewise order. The working directory is never searched: relative entries of the path
 * are passed over.
 */
#define _XOPEN_SOURCE 700
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/env.h"
#include "base/file.h"
#include "base/mem.h"
#include "plugin/note.h"
#include "plugin/registry.h"

#define PLUGIN_SUBDIR "stn/1" /* below a libdir; the number is STN_ABI_MAJOR */

static bool listed(const stn_ctx *ctx, const struct stat *info) {
    for (uint64_t i = 0; i < ctx->n; i++) {
        if (ctx->record[i].inode == (uint64_t)info->st_ino &&
            ctx->record[i].device == (uint64_t)info->st_dev) {
            return true;
        }
    }
    return false;
}

static void mark_shadowed(stn_ctx *ctx, stn__record *record) {
    for (const stn__record *r = ctx->record; r != record; r++) {
        if (!r->refused && r->note.kind == record->note.kind &&
            strcmp(r->note.name, record->note.name) == 0) {
            record->shadowed = true;
            stn__log_line(&ctx->log, STN_LOG_DEBUG, "plugin %s is hidden by %s", record->path,
                          r->path);
            return;
        }
    }
}

/* Reads the note of one file and appends its record; a broken plugin is not an error. */
static int32_t add_file(stn_ctx *ctx, const char *path, stn_err *err) {
    struct stat info;
    bool exists = stat(path, &info) == 0;
    if (exists && listed(ctx, &info)) {
        return STN_OK;
    }
    if (!stn__grow((void **)&ctx->record, &ctx->cap, ctx->n + 1, sizeof *ctx->record)) {
        return stn__nomem(err, "the list of plugins", (ctx->n + 1) * sizeof *ctx->record);
    }
    stn__record *record = &ctx->record[ctx->n];
    memset(record, 0, sizeof *record);
    record->path = stn__strdup(path);
    if (record->path == NULL) {
        return stn__nomem(err, "the list of plugins", strlen(path));
    }
    ctx->n++;
    if (exists) {
        record->inode = (uint64_t)info.st_ino;
        record->device = (uint64_t)info.st_dev;
    }
    stn_err why = {0};
    int32_t status = stn__note_read(path, &record->note, &why);
    if (status == STN_E_NOMEM) {
        return stn_fail(err, status, "%s", why.text);
    }
    if (status == STN_OK) {
        status = stn__note_check(&record->note, &why);
    }
    if (status != STN_OK) {
        record->refused = true;
        (void)snprintf(record->reason, sizeof record->reason, "%s", why.text);
        stn__log_line(&ctx->log, STN_LOG_WARN, "plugin %s refused: %s", path, why.text);
        return STN_OK;
    }
    mark_shadowed(ctx, record);
    return STN_OK;
}

static void add_tried(stn_ctx *ctx, const char *place) {
    stn__text_addf(&ctx->tried, "%s%s", ctx->tried.size == 0 ? "" : ", ", place);
}

static int32_t add_names(stn_ctx *ctx, const char *dir, const stn__names *names, stn_err *err) {
    for (uint64_t i = 0; i < names->n; i++) {
        if (!stn__str_ends(names->name[i], ".so")) {
            continue;
        }
        char *path = stn__path_join(dir, names->name[i]);
        if (path == NULL) {
            return stn__nomem(err, "the list of plugins", strlen(dir));
        }
        int32_t status = add_file(ctx, path, err);
        stn__free(path);
        STN_TRY(status);
    }
    return STN_OK;
}

static int32_t add_dir(stn_ctx *ctx, const char *dir, stn_err *err) {
    stn__names names;
    stn_err why = {0};
    add_tried(ctx, dir);
    int32_t status = stn__dir_list(dir, &names, &why);
    if (status == STN_E_NOMEM) {
        return stn_fail(err, status, "%s", why.text);
    }
    if (status != STN_OK) {
        if (status != STN_E_NOTFOUND) {
            stn__log_line(&ctx->log, STN_LOG_WARN, "plugins: %s", why.text);
        }
        return STN_OK;
    }
    status = add_names(ctx, dir, &names, err);
    stn__names_free(&names);
    return status;
}

/* Takes ownership of `dir`, which may be NULL (unknown). */
static int32_t add_owned_dir(stn_ctx *ctx, char *dir, stn_err *err) {
    if (dir == NULL) {
        return STN_OK;
    }
    int32_t status = add_dir(ctx, dir, err);
    stn__free(dir);
    return status;
}

static int32_t add_path(stn_ctx *ctx, const char *path, stn_err *err) {
    while (path != NULL && *path != '\0') {
        const char *colon = strchr(path, ':');
        size_t size = colon == NULL ? strlen(path) : (size_t)(colon - path);
        if (path[0] == '/') {
            char *dir = stn__strndup(path, size);
            if (dir == NULL) {
                return stn__nomem(err, "the plugin path", size);
            }
            STN_TRY(add_owned_dir(ctx, dir, err));
        } else if (size > 0) {
            stn__log_line(&ctx->log, STN_LOG_WARN,
                          "plugin path: '%.*s' is passed over because it is not absolute",
                          (int)size, path);
        }
        path = colon == NULL ? NULL : colon + 1;
    }
    return STN_OK;
}

/* A file named by the user; made absolute, since a bare name would send dlopen searching. */
static int32_t add_given(stn_ctx *ctx, const char *file, stn_err *err) {
    add_tried(ctx, file);
    errno = 0;
    char *absolute = realpath(file, NULL);
    if (absolute == NULL && errno == ENOMEM) {
        return stn__nomem(err, "a plugin's path", strlen(file));
    }
    int32_t status = add_file(ctx, absolute == NULL ? file : absolute, err);
    free(absolute);
    return status;
}

/* Programs stand in BUILD/bin, plugins in BUILD/lib; the same holds for an installed prefix. */
static char *build_tree_dir(void) {
    char *bin = stn__program_dir();
    char *slash = bin == NULL ? NULL : strrchr(bin, '/');
    char *dir = NULL;
    if (slash != NULL) {
        slash[slash == bin ? 1 : 0] = '\0';
        dir = stn__path_join(bin, "lib/" PLUGIN_SUBDIR);
    }
    stn__free(bin);
    return dir;
}

int32_t stn__search(stn_ctx *ctx, const stn_open_options *options, stn_err *err) {
    const char *const *files = options == NULL ? NULL : options->plugin_files;
    for (; files != NULL && *files != NULL; files++) {
        STN_TRY(add_given(ctx, *files, err));
    }
    bool given = options != NULL && options->plugin_path != NULL;
    STN_TRY(add_path(ctx, given ? options->plugin_path : stn__env("STN_PLUGIN_PATH"), err));
    STN_TRY(add_owned_dir(ctx, stn__user_dir("XDG_DATA_HOME", ".local/share", "plugins"), err));
    STN_TRY(add_dir(ctx, STN_LIBDIR "/" PLUGIN_SUBDIR, err));
    STN_TRY(add_owned_dir(ctx, build_tree_dir(), err));
    return stn__text_check(&ctx->tried, "the list of plugin directories", err);
}
