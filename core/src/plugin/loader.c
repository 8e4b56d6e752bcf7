/* Loading of plugins: dlopen, checks of the descriptor, init, table.
 *
 * One lock for the whole process, because a library exists once however many contexts use it: init
 * runs for the first, fini for the last. Libraries are never closed: their code may still be
 * referred to, and closing has crashed OpenCL runtimes.
 */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>

#include "base/mem.h"
#include "plugin/fpstate.h"
#include "plugin/note.h"
#include "plugin/registry.h"

struct stn__module {
    void *library;
    const stn_plugin *plugin;
    uint32_t users; /* contexts; init has run while > 0 */
    stn__module *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static stn__module *modules;

static int32_t refuse(stn_err *err, const char *reason) {
    return stn_fail(err, STN_E_PLUGIN, "%s", reason);
}

/* The descriptor must repeat what the note promised. */
static int32_t check_entry(const stn_plugin *plugin, const stn_plugin_note *note, stn_err *err) {
    if (plugin->magic != STN_PLUGIN_MAGIC) {
        return refuse(err, "wrong magic number in stn_plugin_entry; build it with this stn's "
                           "headers");
    }
    if (plugin->struct_size < sizeof *plugin) {
        return stn_fail(err, STN_E_PLUGIN,
                        "its descriptor has %" PRIu32 " bytes instead of %zu; build it with this "
                        "stn's headers",
                        plugin->struct_size, sizeof *plugin);
    }
    if (plugin->abi_major != STN_ABI_MAJOR || plugin->kind != note->kind ||
        plugin->features != note->features || plugin->name == NULL || plugin->version == NULL ||
        strcmp(plugin->name, note->name) != 0) {
        return refuse(err, "its descriptor differs from its note; write both with STN_PLUGIN");
    }
    if (plugin->vtable == NULL || (plugin->n_options > 0 && plugin->options == NULL)) {
        return refuse(err, "its descriptor lacks the table or the options; write it with "
                           "STN_PLUGIN");
    }
    return STN_OK;
}

static int32_t open_library(const char *path, void **library, stn_err *err) {
    stn__fpstate state;
    stn__fpstate_save(&state);
    *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    stn__fpstate_restore(&state);
    if (*library == NULL) {
        const char *reason = dlerror();
        return stn_fail(err, STN_E_PLUGIN, "cannot be loaded: %s",
                        reason == NULL ? "unknown reason" : reason);
    }
    return STN_OK;
}

static int32_t call_init(const stn_plugin *plugin, stn_err *err) {
    if (plugin->init == NULL) {
        return STN_OK;
    }
    stn_err why = {0};
    stn__fpstate state;
    stn__fpstate_save(&state);
    int32_t status = plugin->init(&stn__host, &why);
    stn__fpstate_restore(&state);
    if (status == STN_OK) {
        return STN_OK;
    }
    why.text[sizeof why.text - 1] = '\0';
    stn_fail(err, status == STN_E_NOMEM ? STN_E_NOMEM : STN_E_PLUGIN, "its start failed: %s",
             why.text[0] == '\0' ? stn_status_text(status) : why.text);
    if (err != NULL) {
        err->native = why.native;
    }
    return status == STN_E_NOMEM ? STN_E_NOMEM : STN_E_PLUGIN;
}

/* The module of an opened library, new ones with no users. */
static int32_t find_module(void *library, stn__module **module, stn_err *err) {
    for (stn__module *m = modules; m != NULL; m = m->next) {
        if (m->library == library) {
            *module = m;
            return STN_OK;
        }
    }
    const stn_plugin *plugin = dlsym(library, "stn_plugin_entry");
    if (plugin == NULL) {
        return refuse(err, "it exports no stn_plugin_entry; write it with STN_PLUGIN");
    }
    stn__module *m = stn__calloc(1, sizeof *m);
    if (m == NULL) {
        return stn__nomem(err, "a plugin", sizeof *m);
    }
    *m = (stn__module){library, plugin, 0, modules};
    modules = m;
    *module = m;
    return STN_OK;
}

static int32_t load(stn__record *record, stn_err *err) {
    void *library = NULL;
    stn__module *module = NULL;
    STN_TRY(open_library(record->path, &library, err));
    STN_TRY(find_module(library, &module, err));
    STN_TRY(check_entry(module->plugin, &record->note, err));
    STN_TRY(stn__vtable_copy(record, module->plugin, err));
    if (module->users == 0) {
        STN_TRY(call_init(module->plugin, err));
    }
    module->users++;
    record->module = module;
    return STN_OK;
}

static int32_t refused(const stn__record *record, stn_err *err) {
    return stn_fail(err, STN_E_PLUGIN, "plugin %s refused: %s", record->path, record->reason);
}

static int32_t load_locked(stn_ctx *ctx, stn__record *record, stn_err *err) {
    if (record->module != NULL) {
        return STN_OK;
    }
    if (record->refused) {
        return refused(record, err);
    }
    stn_err why = {0};
    int32_t status = load(record, &why);
    if (status == STN_OK) {
        stn__log_line(&ctx->log, STN_LOG_DEBUG, "plugin %s loaded", record->path);
        return STN_OK;
    }
    if (status == STN_E_NOMEM) { /* may go better next time */
        return stn_fail(err, status, "plugin %s: %s", record->path, why.text);
    }
    record->refused = true;
    (void)snprintf(record->reason, sizeof record->reason, "%s", why.text);
    refused(record, err);
    if (err != NULL) {
        err->native = why.native;
    }
    return STN_E_PLUGIN;
}

int32_t stn__record_load(stn_ctx *ctx, uint32_t index, stn_err *err) {
    (void)pthread_mutex_lock(&lock);
    int32_t status = load_locked(ctx, &ctx->record[index], err);
    (void)pthread_mutex_unlock(&lock);
    return status;
}

const stn_plugin *stn__record_plugin(const stn__record *record) {
    return record->module->plugin;
}

/* The file name an unreadable plugin would have: stn_NAME.so. */
static bool file_is_named(const char *path, const char *name) {
    const char *base = stn__path_base(path);
    size_t n = strlen(name);
    return stn__str_starts(base, "stn_") && strncmp(base + 4, name, n) == 0 &&
           strcmp(base + 4 + n, ".so") == 0;
}

static int32_t not_found(const stn_ctx *ctx, uint32_t kind, const char *name, stn_err *err) {
    const char *near = NULL;
    for (uint64_t i = 0; i < ctx->n && near == NULL; i++) {
        const char *known = ctx->record[i].note.name;
        if (!ctx->record[i].refused && ctx->record[i].note.kind == kind) {
            near = stn_suggest(name, &known, 1);
        }
    }
    int32_t code = kind == STN_KIND_BACKEND ? STN_E_NODEVICE : STN_E_NOTFOUND;
    const char *kind_name = stn__kind_name(kind);
    return stn_fail(err, code, "no %s plugin '%.40s'%s%s%s looked in %s", kind_name, name,
                    near == NULL ? "" : ", did you mean '", near == NULL ? ";" : near,
                    near == NULL ? "" : "'?", stn__text_get(&ctx->tried));
}

/* A file refused at its loading still hides later ones of its name: another plugin must not step in
 * unnoticed. */
static int32_t find_locked(const stn_ctx *ctx, uint32_t kind, const char *name, uint32_t *index,
                           stn_err *err) {
    const stn__record *broken = NULL;
    for (uint64_t i = 0; i < ctx->n; i++) {
        const stn__record *r = &ctx->record[i];
        bool named = r->note.kind == kind && strcmp(r->note.name, name) == 0;
        bool unreadable = r->note.name[0] == '\0' && file_is_named(r->path, name);
        if (named && !r->refused && !r->shadowed) {
            *index = (uint32_t)i;
            return STN_OK;
        }
        if (r->refused && (named || unreadable) && broken == NULL) {
            broken = r;
        }
    }
    return broken != NULL ? refused(broken, err) : not_found(ctx, kind, name, err);
}

int32_t stn__record_find(stn_ctx *ctx, uint32_t kind, const char *name, uint32_t *index,
                         stn_err *err) {
    (void)pthread_mutex_lock(&lock);
    int32_t status = find_locked(ctx, kind, name, index, err);
    (void)pthread_mutex_unlock(&lock);
    return status;
}

void stn__records_unload(stn_ctx *ctx) {
    (void)pthread_mutex_lock(&lock);
    for (uint64_t i = ctx->n; i-- > 0;) {
        stn__module *module = ctx->record[i].module;
        if (module != NULL && --module->users == 0 && module->plugin->fini != NULL) {
            module->plugin->fini();
        }
        ctx->record[i].module = NULL;
    }
    (void)pthread_mutex_unlock(&lock);
}

int32_t stn_plugin_get(stn_ctx *ctx, uint32_t index, stn_plugin_info *info) {
    if (index >= ctx->n) {
        return STN_E_NOTFOUND;
    }
    const stn__record *r = &ctx->record[index];
    (void)pthread_mutex_lock(&lock);
    *info = (stn_plugin_info){.path = r->path,
                              .name = r->note.name,
                              .version = r->note.version,
                              .kind = r->note.kind,
                              .abi_major = r->note.abi_major,
                              .abi_minor = r->note.abi_minor,
                              .features = r->note.features,
                              .refused = r->refused,
                              .loaded = r->module != NULL,
                              .shadowed = r->shadowed,
                              .reason = r->reason};
    (void)pthread_mutex_unlock(&lock);
    return STN_OK;
}
