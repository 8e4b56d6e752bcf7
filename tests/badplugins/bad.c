/* One source for every test plugin, sound or broken in one way chosen by -D BAD_...
 *
 * The note and the entry are written by hand, field by field, because the macro of the public
 * header would keep them equal. Devices: two GPUs of one name and a CPU, nothing computes.
 */
#include <stdlib.h>
#include <string.h>

#include <stn/backend.h>
#include <stn/dataset.h>
#include <stn/model.h>
#include <stn/plugin.h>

#ifndef BAD_NAME
#define BAD_NAME "good"
#endif
#ifndef BAD_ENTRY_NAME
#define BAD_ENTRY_NAME BAD_NAME
#endif
#ifndef BAD_NOTE_MAGIC
#define BAD_NOTE_MAGIC STN_PLUGIN_MAGIC
#endif
#ifndef BAD_ENTRY_MAGIC
#define BAD_ENTRY_MAGIC STN_PLUGIN_MAGIC
#endif
#ifndef BAD_MAJOR
#define BAD_MAJOR STN_ABI_MAJOR
#endif
#ifndef BAD_MINOR
#define BAD_MINOR STN_ABI_MINOR
#endif
#ifndef BAD_KIND
#define BAD_KIND 1 /* a number, for the preprocessor: STN_KIND_BACKEND */
#endif
#ifndef BAD_ENTRY_KIND
#define BAD_ENTRY_KIND BAD_KIND
#endif
#ifndef BAD_FEATURES
#define BAD_FEATURES STN_FEATURES_BUILT
#endif
#ifndef BAD_DESCRIPTOR_SIZE
#define BAD_DESCRIPTOR_SIZE sizeof(stn_plugin)
#endif
#ifndef BAD_TABLE_SIZE
#define BAD_TABLE_SIZE sizeof(table)
#endif
#ifndef BAD_DEVICES
#define BAD_DEVICES 3u
#endif
#ifndef BAD_HAS_TABLE
#define BAD_HAS_TABLE 1
#endif

#ifndef BAD_NO_NOTE
static const stn_plugin_note note STN_NOTE_SECTION = {4,
                                                      (uint32_t)(sizeof(stn_plugin_note) - 16u),
                                                      1,
                                                      "stn",
                                                      BAD_NOTE_MAGIC,
                                                      BAD_MAJOR,
                                                      BAD_MINOR,
                                                      BAD_KIND,
                                                      BAD_FEATURES,
                                                      BAD_NAME,
                                                      "1.2"};
#endif

#if defined(BAD_CONSTRUCTOR_MARK)
/* Proof that code ran: creates the file named by the environment. */
__attribute__((constructor)) static void leave_mark(void) {
    const char *path = getenv("STN_TEST_MARK");
    FILE *file = path == NULL ? NULL : fopen(path, "w");
    if (file != NULL) {
        (void)fclose(file);
    }
}
#endif

#if defined(BAD_FLUSH_TO_ZERO) && (defined(__SSE__) || defined(__x86_64__))
#include <xmmintrin.h>
/* What linking with -ffast-math does (some compilers have stopped doing it for libraries). */
__attribute__((constructor)) static void flush_to_zero(void) {
    _mm_setcsr(_mm_getcsr() | 0x8040u);
}
#elif defined(BAD_FLUSH_TO_ZERO) && defined(__aarch64__)
__attribute__((constructor)) static void flush_to_zero(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    __asm__ volatile("msr fpcr, %0" : : "r"(control | (UINT64_C(1) << 24)));
}
#endif

#ifdef BAD_UNRESOLVED
int stn_function_that_nobody_has(void);
#endif

static const stn_host *host;

static int32_t start(const stn_host *given, stn_err *err) {
    host = given;
#if defined(BAD_INIT_FAILS)
    return stn_fail(err, STN_E_IO, "the flux compensator is missing");
#elif defined(BAD_INIT_SILENT)
    (void)err;
    return STN_E_NODEVICE;
#elif defined(BAD_UNRESOLVED)
    (void)err;
    return stn_function_that_nobody_has();
#else
    (void)err;
    host->log(STN_LOG_INFO, BAD_NAME " starts");
    return STN_OK;
#endif
}

static void stop(void) {
    host->log(STN_LOG_INFO, BAD_NAME " stops");
}

static const stn_option_info options[] = {
    {"threads", "int", "1..256", "1", "number of threads"},
    {"speed", "choice:slow,fast", "", "slow", "how fast to do nothing"},
};

#if BAD_KIND == 1 || BAD_KIND == 9

static int32_t device_count(uint32_t *count, stn_err *err) {
    (void)err;
    *count = BAD_DEVICES;
    return STN_OK;
}

static int32_t device_info(uint32_t index, stn_device_info *info, stn_err *err) {
    static const char *const name[] = {"Alpha GPU", "Alpha GPU", "Beta CPU"};
    static const char *const id[] = {"acme:alpha:1", "acme:alpha:2", "acme:beta"};
    if (index >= sizeof name / sizeof name[0]) {
        return stn_fail(err, STN_E_NODEVICE, "no device %u", index);
    }
    info->is_cpu = index == 2;
    info->memory = (index + 1) * UINT64_C(1000);
    info->compute_units = 1;
    (void)snprintf(info->name, sizeof info->name, "%s", name[index]);
    (void)snprintf(info->id, sizeof info->id, "%s", id[index]);
    return STN_OK;
}

static int32_t device_open(uint32_t index, const stn_options *given, stn_device **device,
                           stn_err *err) {
    static uint32_t opened[3];
    (void)given;
    (void)err;
    opened[index] = index;
    *device = (stn_device *)&opened[index];
    return STN_OK;
}

static void device_close(stn_device *device) {
    (void)device;
}

static int32_t device_query(stn_device *device, stn_device_info *info, stn_err *err) {
    uint32_t index;
    memcpy(&index, device, sizeof index);
    (void)snprintf(info->variant, sizeof info->variant, "idle");
    return device_info(index, info, err);
}

static int32_t never(stn_err *err) {
    return stn_fail(err, STN_E_UNSUPPORTED, "this test plugin computes nothing");
}

static int32_t buf_alloc(stn_device *device, uint64_t bytes, stn_buf **buf, stn_err *err) {
    (void)device;
    *buf = host->alloc(bytes, 256);
    return *buf == NULL ? stn_fail(err, STN_E_NOMEM, "no memory") : STN_OK;
}

static void buf_free(stn_buf *buf) {
    host->free(buf);
}

static int32_t stream_open(stn_device *device, stn_stream **stream, stn_err *err) {
    (void)device;
    (void)stream;
    return never(err);
}

static void stream_close(stn_stream *stream) {
    (void)stream;
}

static int32_t put(stn_stream *stream, stn_ref dst, const void *src, uint64_t bytes, stn_err *err) {
    (void)stream;
    (void)dst;
    (void)src;
    (void)bytes;
    return never(err);
}

static int32_t get(stn_stream *stream, void *dst, stn_ref src, uint64_t bytes, stn_err *err) {
    (void)stream;
    (void)dst;
    (void)src;
    (void)bytes;
    return never(err);
}

static int32_t copy(stn_stream *stream, stn_ref dst, stn_ref src, uint64_t bytes, stn_err *err) {
    (void)stream;
    (void)dst;
    (void)src;
    (void)bytes;
    return never(err);
}

static int32_t fill(stn_stream *stream, stn_ref dst, uint32_t word, uint64_t bytes, stn_err *err) {
    (void)stream;
    (void)dst;
    (void)word;
    (void)bytes;
    return never(err);
}

static int32_t wait(stn_stream *stream, stn_err *err) {
    (void)stream;
    return never(err);
}

static int32_t op_query(stn_device *device, const stn_op_desc *desc, stn_support *support,
                        stn_err *err) {
    (void)device;
    (void)desc;
    (void)support;
    return never(err);
}

static int32_t op_prepare(stn_device *device, const stn_op_desc *desc, stn_kernel **kernel,
                          stn_err *err) {
    (void)device;
    (void)desc;
    (void)kernel;
    return never(err);
}

#ifndef BAD_NULL_ENTRY
static int32_t run(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args, stn_err *err) {
    (void)stream;
    (void)kernel;
    (void)args;
    return never(err);
}
#else
#define run NULL
#endif

static void op_free(stn_kernel *kernel) {
    (void)kernel;
}

static int32_t prepare_end(stn_device *device,
                           void (*progress)(void *user, uint32_t done, uint32_t total), void *user,
                           stn_err *err) {
    (void)device;
    (void)progress;
    (void)user;
    (void)err;
    return STN_OK;
}

/* A table of the future has entries that this core does not know. */
static const struct {
    stn_backend known;
#ifdef BAD_LONG_TABLE
    void *unknown[4];
#endif
} table = {.known = {.struct_size = (uint32_t)(BAD_TABLE_SIZE),
                     .device_count = device_count,
                     .device_info = device_info,
                     .device_open = device_open,
                     .device_close = device_close,
                     .device_query = device_query,
                     .buf_alloc = buf_alloc,
                     .buf_free = buf_free,
                     .stream_open = stream_open,
                     .stream_close = stream_close,
                     .write = put,
                     .read = get,
                     .copy = copy,
                     .fill = fill,
                     .flush = wait,
                     .sync = wait,
                     .op_query = op_query,
                     .op_prepare = op_prepare,
                     .op_run = run,
                     .op_free = op_free,
                     .prepare_end = prepare_end}};

#elif BAD_KIND == 2

static int32_t open_data(const char *dir, const stn_options *given, stn_data **data, stn_err *err) {
    (void)dir;
    (void)given;
    (void)data;
    return stn_fail(err, STN_E_UNSUPPORTED, "this test plugin has no data");
}

static int32_t info_data(stn_data *data, stn_data_info *info, stn_err *err) {
    (void)data;
    (void)info;
    return stn_fail(err, STN_E_UNSUPPORTED, "this test plugin has no data");
}

static int32_t get_data(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                        uint8_t *images, int32_t *labels, stn_err *err) {
    (void)data;
    (void)split;
    (void)sample;
    (void)n;
    (void)images;
    (void)labels;
    return stn_fail(err, STN_E_UNSUPPORTED, "this test plugin has no data");
}

static const char *const subdirs[] = {"toy-new", "toy", NULL};
static const char *const system_dirs[] = {"/nonexistent/stn-toy", NULL};
static const stn_dataset table = {.struct_size = (uint32_t)(BAD_TABLE_SIZE),
                                  .open = open_data,
                                  .info = info_data,
                                  .get = get_data,
                                  .subdirs = subdirs,
                                  .system_dirs = system_dirs};

#else

static const stn_model table = {.struct_size = (uint32_t)(BAD_TABLE_SIZE)};

#endif

#ifdef BAD_NO_ENTRY
/* Nothing is exported; the pointers keep the rest in use. */
STN_EXPORT const void *const stn_unused[] = {options, &table, (const void *)&host};
int32_t (*const stn_unused_start)(const stn_host *, stn_err *) = start;
void (*const stn_unused_stop)(void) = stop;
#else
extern const stn_plugin stn_plugin_entry;
STN_EXPORT const stn_plugin stn_plugin_entry = {.magic = BAD_ENTRY_MAGIC,
                                                .struct_size = (uint32_t)(BAD_DESCRIPTOR_SIZE),
                                                .abi_major = BAD_MAJOR,
                                                .abi_minor = BAD_MINOR,
                                                .kind = BAD_ENTRY_KIND,
                                                .features = BAD_FEATURES,
                                                .n_options = sizeof options / sizeof options[0],
                                                .name = BAD_ENTRY_NAME,
                                                .version = "1.2",
                                                .licence = "MIT",
                                                .description = "test plugin",
                                                .options = options,
                                                .vtable = BAD_HAS_TABLE ? &table : NULL,
                                                .init = start,
                                                .fini = stop};
#endif
