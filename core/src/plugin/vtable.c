/* Complete copies of plugin tables: the plugin's entries where it has them, typed stubs where an
 * optional one is missing, a refusal where a required one is.
 *
 * A table shorter than ours comes from an older plugin, a longer one from a newer; an entry counts
 * only if it lies whole inside the plugin's size.
 */
#include <inttypes.h>
#include <string.h>

#include "plugin/registry.h"

typedef void (*any_fn)(void);

/* One function entry of a table. stub NULL: the entry is required. */
typedef struct slot {
    const char *name;
    size_t offset;
    any_fn stub;
} slot;

#define REQUIRED(type, entry)                                                                      \
    { #entry, offsetof(type, entry), NULL }
#define OPTIONAL(type, entry, stub)                                                                \
    { #entry, offsetof(type, entry), (any_fn)(stub) }

static int32_t unsupported(stn_err *err, const char *entry) {
    return stn_fail(err, STN_E_UNSUPPORTED, "this plugin does not offer %s; use a newer one",
                    entry);
}

static int32_t no_prepare_end(stn_device *device,
                              void (*progress)(void *user, uint32_t done, uint32_t total),
                              void *user, stn_err *err) {
    (void)device;
    (void)progress;
    (void)user;
    return unsupported(err, "prepare_end");
}

static int32_t no_op_time(stn_stream *stream, stn_kernel *kernel, uint64_t *ns, stn_err *err) {
    (void)stream;
    (void)kernel;
    *ns = 0;
    return unsupported(err, "op_time");
}

static int32_t no_peaks(stn_device *device, stn_peaks *peaks, stn_err *err) {
    (void)device;
    peaks->flops = 0.0;
    peaks->bytes = 0.0;
    return unsupported(err, "peaks");
}

static int32_t no_op_launches(const stn_kernel *kernel, uint32_t *n, stn_err *err) {
    (void)kernel;
    *n = 0;
    return unsupported(err, "op_launches");
}

static int32_t no_op_launch_get(stn_kernel *kernel, uint32_t index, stn_launch *launch,
                                stn_err *err) {
    (void)kernel;
    (void)index;
    uint32_t size = launch->struct_size;
    memset(launch, 0, size < sizeof *launch ? size : sizeof *launch);
    launch->struct_size = size;
    return unsupported(err, "op_launch_get");
}

static int32_t no_host_alloc(stn_device *device, uint64_t bytes, void **memory, stn_err *err) {
    (void)device;
    (void)bytes;
    *memory = NULL;
    return unsupported(err, "host_alloc");
}

static void no_host_free(stn_device *device, void *memory) {
    (void)device;
    (void)memory;
}

static void no_close(stn_data *data) {
    (void)data;
}

static int32_t no_augment(stn_data *data, const stn_draw_key *key, stn_augment *augment,
                          stn_err *err) {
    (void)data;
    (void)key;
    uint32_t size = augment->struct_size;
    memset(augment, 0, size < sizeof *augment ? size : sizeof *augment);
    augment->struct_size = size;
    return unsupported(err, "augment");
}

static const slot backend_slots[] = {
    REQUIRED(stn_backend, device_count),
    REQUIRED(stn_backend, device_info),
    REQUIRED(stn_backend, device_open),
    REQUIRED(stn_backend, device_close),
    REQUIRED(stn_backend, device_query),
    REQUIRED(stn_backend, buf_alloc),
    REQUIRED(stn_backend, buf_free),
    REQUIRED(stn_backend, stream_open),
    REQUIRED(stn_backend, stream_close),
    REQUIRED(stn_backend, write),
    REQUIRED(stn_backend, read),
    REQUIRED(stn_backend, copy),
    REQUIRED(stn_backend, fill),
    REQUIRED(stn_backend, flush),
    REQUIRED(stn_backend, sync),
    REQUIRED(stn_backend, op_query),
    REQUIRED(stn_backend, op_prepare),
    REQUIRED(stn_backend, op_run),
    REQUIRED(stn_backend, op_free),
    OPTIONAL(stn_backend, prepare_end, no_prepare_end),
    OPTIONAL(stn_backend, op_time, no_op_time),
    OPTIONAL(stn_backend, peaks, no_peaks),
    OPTIONAL(stn_backend, op_launches, no_op_launches),
    OPTIONAL(stn_backend, op_launch_get, no_op_launch_get),
    OPTIONAL(stn_backend, host_alloc, no_host_alloc),
    OPTIONAL(stn_backend, host_free, no_host_free),
};

static const slot dataset_slots[] = {
    REQUIRED(stn_dataset, open),
    OPTIONAL(stn_dataset, close, no_close),
    REQUIRED(stn_dataset, info),
    REQUIRED(stn_dataset, get),
    OPTIONAL(stn_dataset, augment, no_augment),
};

static const slot model_slots[] = {REQUIRED(stn_model, build)};

typedef struct layout {
    const slot *slots;
    size_t n_slots, size;
} layout;

#define LAYOUT(slots, type)                                                                        \
    { (slots), sizeof(slots) / sizeof((slots)[0]), sizeof(type) }

static const layout *layout_of(uint32_t kind) {
    static const layout backend = LAYOUT(backend_slots, stn_backend);
    static const layout dataset = LAYOUT(dataset_slots, stn_dataset);
    static const layout model = LAYOUT(model_slots, stn_model);
    return kind == STN_KIND_BACKEND ? &backend : kind == STN_KIND_DATASET ? &dataset : &model;
}

static int32_t fill_slot(char *table, uint32_t their_size, const slot *s, stn_err *err) {
    any_fn entry = NULL;
    if (s->offset + sizeof entry <= their_size) {
        memcpy(&entry, table + s->offset, sizeof entry);
    }
    if (entry == NULL && s->stub == NULL) {
        return stn_fail(err, STN_E_PLUGIN,
                        "its table lacks the required entry %s; ask its author or build it again",
                        s->name);
    }
    entry = entry == NULL ? s->stub : entry;
    memcpy(table + s->offset, &entry, sizeof entry);
    return STN_OK;
}

/* Entries that are data pointers: one that is cut by the table's end must not be half a pointer. */
static void drop_cut_pointers(stn__record *record, uint32_t their_size) {
    if (record->note.kind == STN_KIND_DATASET) {
        stn_dataset *d = &record->table.dataset;
        if (their_size < offsetof(stn_dataset, system_dirs)) {
            d->subdirs = NULL;
        }
        if (their_size < sizeof *d) {
            d->system_dirs = NULL;
        }
    }
}

int32_t stn__vtable_copy(stn__record *record, const stn_plugin *plugin, stn_err *err) {
    const layout *ours = layout_of(record->note.kind);
    uint32_t their_size = 0;
    memcpy(&their_size, plugin->vtable, sizeof their_size);
    if (their_size < 2 * sizeof(uint32_t)) {
        return stn_fail(err, STN_E_PLUGIN,
                        "its table says it has %" PRIu32 " bytes; set struct_size to its sizeof",
                        their_size);
    }
    char *table = (char *)&record->table;
    memset(&record->table, 0, sizeof record->table);
    memcpy(table, plugin->vtable, their_size < ours->size ? their_size : ours->size);
    for (size_t i = 0; i < ours->n_slots; i++) {
        STN_TRY(fill_slot(table, their_size, &ours->slots[i], err));
    }
    drop_cut_pointers(record, their_size);
    uint32_t size = (uint32_t)ours->size;
    memcpy(table, &size, sizeof size);
    return STN_OK;
}
