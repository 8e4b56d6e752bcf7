/* Listing, choosing and opening of devices over all backends. */
#include "plugin/device.h"

#include <inttypes.h>
#include <string.h>

#include "base/mem.h"
#include "plugin/note.h"
#include "plugin/options.h"
#include "plugin/registry.h"

typedef struct device_list {
    stn_device_entry *entry;
    uint64_t n, cap;
    stn__text backends; /* "cpu (1 device), opencl (refused: ...)", for messages */
} device_list;

static void list_free(device_list *list) {
    stn__free(list->entry);
    stn__text_free(&list->backends);
}

static int32_t add_device(device_list *list, const char *name, const stn_backend *backend,
                          uint32_t index, stn_err *err) {
    if (!stn__grow((void **)&list->entry, &list->cap, list->n + 1, sizeof *list->entry)) {
        return stn__nomem(err, "the list of devices", (list->n + 1) * sizeof *list->entry);
    }
    stn_device_entry *entry = &list->entry[list->n];
    memset(entry, 0, sizeof *entry);
    (void)snprintf(entry->backend, sizeof entry->backend, "%s", name);
    entry->index = index;
    entry->info.struct_size = (uint32_t)sizeof entry->info;
    STN_TRY(backend->device_info(index, &entry->info, err));
    list->n++;
    return STN_OK;
}

static int32_t add_devices(device_list *list, const char *name, const stn_backend *backend,
                           stn_err *err) {
    uint32_t count = 0;
    STN_TRY(backend->device_count(&count, err));
    for (uint32_t i = 0; i < count; i++) {
        STN_TRY(add_device(list, name, backend, i, err));
    }
    return STN_OK;
}

/* Devices of one backend, named in list->backends with their number or the reason for none. */
static int32_t add_backend(stn_ctx *ctx, device_list *list, const char *name, stn_err *err) {
    const stn_backend *backend = NULL;
    uint64_t before = list->n;
    const char *separator = list->backends.size == 0 ? "" : ", ";
    int32_t status = stn_backend_load(ctx, name, &backend, err);
    if (status == STN_OK) {
        status = add_devices(list, name, backend, err);
    }
    if (status != STN_OK) {
        list->n = before;
        stn__text_addf(&list->backends, "%s%s (%s)", separator, name, err->text);
    } else {
        uint64_t n = list->n - before;
        stn__text_addf(&list->backends, "%s%s (%" PRIu64 " device%s)", separator, name, n,
                       n == 1 ? "" : "s");
    }
    return status;
}

/* All devices of the backend, or of every backend: then one that fails is only logged. */
static int32_t list_devices(stn_ctx *ctx, const char *backend, device_list *list, stn_err *err) {
    stn_err why = {0};
    *list = (device_list){0};
    if (backend != NULL) {
        int32_t status = add_backend(ctx, list, backend, &why);
        if (status != STN_OK) {
            list_free(list);
            if (err != NULL) {
                *err = why;
                err->code = status;
            }
        }
        return status;
    }
    for (uint64_t i = 0; i < ctx->n; i++) {
        const stn__record *r = &ctx->record[i];
        if (r->note.kind != STN_KIND_BACKEND || r->shadowed || r->note.name[0] == '\0') {
            continue;
        }
        int32_t status = add_backend(ctx, list, r->note.name, &why);
        if (status == STN_E_NOMEM) {
            list_free(list);
            return stn_fail(err, status, "%s", why.text);
        }
        if (status != STN_OK) {
            stn__log_line(&ctx->log, STN_LOG_WARN, "backend %s: %s", r->note.name, why.text);
        }
    }
    return STN_OK;
}

int32_t stn_device_list(stn_ctx *ctx, const char *backend, stn_device_entry *entries, uint32_t cap,
                        uint32_t *n, stn_err *err) {
    device_list list;
    *n = 0;
    STN_TRY(list_devices(ctx, backend, &list, err));
    for (uint64_t i = 0; i < list.n && i < cap; i++) {
        entries[i] = list.entry[i];
    }
    *n = (uint32_t)list.n;
    list_free(&list);
    return STN_OK;
}

/* Smaller is better: GPUs, then CPUs driven natively, then CPUs through another layer. */
static int rank_class(const stn_device_entry *e) {
    return e->info.is_cpu == 0 ? 0 : strcmp(e->backend, "cpu") == 0 ? 1 : 2;
}

/* Own memory before shared, then more memory, then more units; ties go to the earlier one. */
static bool better(const stn_device_entry *a, const stn_device_entry *b) {
    int class_a = rank_class(a), class_b = rank_class(b);
    if (class_a != class_b) {
        return class_a < class_b;
    }
    uint64_t shared_a = a->info.capabilities & STN_CAP_UNIFIED_MEMORY,
             shared_b = b->info.capabilities & STN_CAP_UNIFIED_MEMORY;
    if (shared_a != shared_b) {
        return shared_a < shared_b;
    }
    if (a->info.memory != b->info.memory) {
        return a->info.memory > b->info.memory;
    }
    return a->info.compute_units > b->info.compute_units;
}

/* Ways to match a selector, strictest first; the first way that matches anything decides. */
enum { BY_PLACE, BY_ID, BY_NAME, BY_PART, N_WAYS };

static bool matches(const stn_device_entry *e, const char *selector, int way) {
    char place[64];
    switch (way) {
    case BY_PLACE: /* "1" or "opencl:1" */
        (void)snprintf(place, sizeof place, "%s:%" PRIu32, e->backend, e->index);
        return strcmp(place, selector) == 0 || strcmp(strrchr(place, ':') + 1, selector) == 0;
    case BY_ID:
        return strcmp(e->info.id, selector) == 0;
    case BY_NAME:
        return strcmp(e->info.name, selector) == 0;
    default:
        return stn__str_contains_nocase(e->info.id, selector) ||
               stn__str_contains_nocase(e->info.name, selector);
    }
}

static int32_t no_choice(const device_list *list, const char *selector, const char *problem,
                         stn_err *err) {
    if (list->n == 0) {
        return stn_fail(err, STN_E_NODEVICE,
                        "no device found; backends: %s; install a driver or give --backend cpu",
                        list->backends.size == 0 ? "none" : stn__text_get(&list->backends));
    }
    stn__text all = {0};
    for (uint64_t i = 0; i < list->n; i++) {
        const stn_device_entry *e = &list->entry[i];
        stn__text_addf(&all, "%s%s:%" PRIu32 " %s", i == 0 ? "" : ", ", e->backend, e->index,
                       e->info.name);
    }
    stn_fail(err, STN_E_NODEVICE, "device '%.60s' %s; choose one of: %s", selector, problem,
             stn__text_get(&all));
    stn__text_free(&all);
    return STN_E_NODEVICE;
}

static int32_t choose(const device_list *list, const char *selector,
                      const stn_device_entry **chosen, stn_err *err) {
    bool any = selector == NULL || selector[0] == '\0';
    *chosen = NULL;
    for (uint64_t i = 0; any && i < list->n; i++) {
        if (*chosen == NULL || better(&list->entry[i], *chosen)) {
            *chosen = &list->entry[i];
        }
    }
    for (int way = 0; !any && way < N_WAYS && *chosen == NULL; way++) {
        for (uint64_t i = 0; i < list->n; i++) {
            if (!matches(&list->entry[i], selector, way)) {
                continue;
            }
            if (*chosen != NULL) {
                return no_choice(list, selector, "matches several devices", err);
            }
            *chosen = &list->entry[i];
        }
    }
    return *chosen != NULL ? STN_OK : no_choice(list, selector, "matches nothing", err);
}

static int32_t open_device(stn_dev *dev, const stn_options *options, stn_err *err) {
    char owner[64];
    const char *name = dev->entry.backend;
    const stn_plugin *plugin = NULL;
    const stn_options none = {.struct_size = (uint32_t)sizeof none};
    (void)snprintf(owner, sizeof owner, "backend '%s'", name);
    STN_TRY(stn_plugin_load(dev->ctx, STN_KIND_BACKEND, name, &plugin, err));
    STN_TRY(stn_backend_load(dev->ctx, name, &dev->backend, err));
    STN_TRY(stn__options_check(plugin->options, plugin->n_options, owner, options, err));
    STN_TRY(dev->backend->device_open(dev->entry.index, options == NULL ? &none : options,
                                      &dev->handle, err));
    int32_t status = dev->backend->device_query(dev->handle, &dev->entry.info, err);
    if (status != STN_OK) {
        dev->backend->device_close(dev->handle);
    }
    return status;
}

int32_t stn_dev_open(stn_ctx *ctx, const char *backend, const char *selector,
                     const stn_options *options, stn_dev **dev, stn_err *err) {
    device_list list;
    const stn_device_entry *chosen = NULL;
    *dev = NULL;
    if (backend != NULL && backend[0] == '\0') {
        backend = NULL;
    }
    STN_TRY(list_devices(ctx, backend, &list, err));
    int32_t status = choose(&list, selector, &chosen, err);
    stn_dev *made = status == STN_OK ? stn__calloc(1, sizeof *made) : NULL;
    if (status == STN_OK && made == NULL) {
        status = stn__nomem(err, "a device", sizeof *made);
    }
    if (made != NULL) {
        made->ctx = ctx;
        made->entry = *chosen;
        status = open_device(made, options, err);
    }
    list_free(&list);
    if (status != STN_OK) {
        stn__free(made);
        return status;
    }
    *dev = made;
    return STN_OK;
}

void stn_dev_close(stn_dev *dev) {
    if (dev != NULL) {
        dev->backend->device_close(dev->handle);
        stn__free(dev);
    }
}

const stn_device_entry *stn_dev_info(const stn_dev *dev) {
    return &dev->entry;
}

int32_t stn_dev_peaks(stn_dev *dev, stn_peaks *peaks, stn_err *err) {
    *peaks = (stn_peaks){.struct_size = (uint32_t)sizeof *peaks};
    return dev->backend->peaks(dev->handle, peaks, err);
}

const stn_backend *stn_dev_backend(const stn_dev *dev) {
    return dev->backend;
}

stn_device *stn_dev_handle(const stn_dev *dev) {
    return dev->handle;
}
