/* CPU backend plugin: one device, the host's processors.
 *
 * Streams run everything at once in the calling thread and the pool, so sync never waits. Kernel
 * sets are asked best first; "ref" answers every operator in every layout.
 */
#define _GNU_SOURCE
#include "cpu.h"
#include "info.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define MAX_THREADS 1024u

/* Tests build this plugin a second time, under another name and with one planted wrong rounding. */
#ifndef CPU_PLUGIN_NAME
#define CPU_PLUGIN_NAME "cpu"
#define CPU_AFTER_RUN(call) ((void)0)
#else
#define CPU_AFTER_RUN(call) cpu_plant_fault(call)
#endif

static const stn_host *host;

struct stn_device {
    cpu_pool *pool;
    uint32_t best; /* first entry of `sets` that may be asked */
    /* One kernel at a time: the pool is not reentrant, streams may live on different threads. */
    pthread_mutex_t lock;
};

struct stn_buf {
    uint8_t *data;
    uint64_t bytes;
};

struct stn_stream {
    stn_device *device;
    stn_err failed; /* sticky; code 0 while all is well */
};

/* ---- kernel sets ---------------------------------------------------------------------------- */

static const char *lacks_nothing(void) {
    return NULL;
}

/* Compiled sets, best first. */
static const struct kernel_set {
    const char *name;
    const char *(*lacks)(void);
    bool (*select)(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl);
    const cpu_probe *probe;
} sets[] = {
#ifdef CPU_HAVE_AVX512
    {"avx512", cpu_lacks_avx512, cpu_avx512_select, &cpu_avx512_probe},
#endif
#ifdef CPU_HAVE_AVX2
    {"avx2", cpu_lacks_avx2, cpu_avx2_select, &cpu_avx2_probe},
#endif
#ifdef CPU_HAVE_PORTABLE
    {"portable", cpu_lacks_fma, cpu_portable_select, &cpu_portable_probe},
#endif
#ifdef CPU_HAVE_SSE2
    {"sse2", lacks_nothing, cpu_sse2_select, &cpu_sse2_probe},
#endif
    {"ref", lacks_nothing, cpu_ref_select, &cpu_ref_probe},
};
#define N_SETS ((uint32_t)(sizeof sets / sizeof sets[0]))

/* Resolves the option cpu-kernels. */
static int32_t choose_set(const char *name, uint32_t *best, stn_err *err) {
    bool automatic = strcmp(name, "auto") == 0;
    for (uint32_t i = 0; i < N_SETS; i++) {
        const char *missing = sets[i].lacks();
        if (automatic && missing == NULL) {
            *best = i;
            return STN_OK;
        }
        if (!automatic && strcmp(name, sets[i].name) == 0) {
            if (missing != NULL) {
                return stn_fail(err, STN_E_NODEVICE,
                                "this processor lacks %s, which --cpu-kernels %s needs; use "
                                "--cpu-kernels auto",
                                missing, name);
            }
            *best = i;
            return STN_OK;
        }
    }
    return stn_fail(err, STN_E_NODEVICE,
                    "no CPU kernel set \"%s\" in this build; use auto, ref or another set of "
                    "`stnrun plugins`",
                    name);
}

/* The best implementation; `kernel` is filled except impl. */
static void select_impl(const stn_device *device, stn_kernel *kernel) {
    for (uint32_t i = device->best; i < N_SETS; i++) {
        if (sets[i].lacks() == NULL &&
            sets[i].select(kernel, cpu_pool_threads(device->pool), &kernel->impl)) {
            kernel->impl.set = sets[i].name;
            return;
        }
    }
}

/* ---- devices -------------------------------------------------------------------------------- */

static int32_t device_count(uint32_t *count, stn_err *err) {
    (void)err;
    *count = 1;
    return STN_OK;
}

/* Writes at most the bytes that the caller's struct has. */
static void give_info(stn_device_info *out, const stn_device_info *info) {
    uint32_t size = out->struct_size;
    memcpy(out, info, size < sizeof *info ? size : sizeof *info);
    out->struct_size = size;
}

static int32_t device_info(uint32_t index, stn_device_info *out, stn_err *err) {
    if (index != 0) {
        return stn_fail(err, STN_E_NODEVICE, "the CPU backend has one device, index 0, not %u",
                        index);
    }
    stn_device_info info = {.layout = STN_NC16};
    cpu_describe(&info);
    give_info(out, &info);
    return STN_OK;
}

static int32_t device_query(stn_device *device, stn_device_info *out, stn_err *err) {
    (void)err;
    stn_device_info info = {.layout = STN_NC16};
    cpu_describe(&info);
    if (device->best == N_SETS - 1u) {
        info.layout = STN_NCHW;
    }
    info.compute_units = cpu_pool_threads(device->pool);
    (void)snprintf(info.variant, sizeof info.variant, "%s", sets[device->best].name);
    give_info(out, &info);
    return STN_OK;
}

static const char *option(const stn_options *options, const char *name, const char *otherwise) {
    for (uint32_t i = 0; options != NULL && i < options->count; i++) {
        if (strcmp(options->name[i], name) == 0) {
            return options->value[i];
        }
    }
    return otherwise;
}

static int32_t parse_threads(const char *text, uint32_t *threads, stn_err *err) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 0 || value > (long)MAX_THREADS) {
        return stn_fail(err, STN_E_USAGE, "threads is \"%s\"; give 1 to %u, or 0 for all", text,
                        MAX_THREADS);
    }
    *threads = value == 0 ? cpu_online() : (uint32_t)value;
    return STN_OK;
}

static int32_t device_open(uint32_t index, const stn_options *options, stn_device **out,
                           stn_err *err) {
    *out = NULL;
    if (index != 0) {
        return stn_fail(err, STN_E_NODEVICE, "the CPU backend has one device, index 0, not %u",
                        index);
    }
    uint32_t threads = 0, best = 0;
    STN_TRY(parse_threads(option(options, "threads", "0"), &threads, err));
    STN_TRY(choose_set(option(options, "cpu-kernels", "auto"), &best, err));
    stn_device *device = host->alloc(sizeof *device, 0);
    if (device == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory for the CPU device");
    }
    *device = (stn_device){.best = best};
    int32_t status = cpu_pool_new(threads, &device->pool, err);
    if (status != STN_OK) {
        host->free(device);
        return status;
    }
    pthread_mutex_init(&device->lock, NULL);
    *out = device;
    return STN_OK;
}

static void device_close(stn_device *device) {
    if (device != NULL) {
        cpu_pool_free(device->pool);
        pthread_mutex_destroy(&device->lock);
        host->free(device);
    }
}

/* ---- memory and streams --------------------------------------------------------------------- */

static int32_t buf_alloc(stn_device *device, uint64_t bytes, stn_buf **out, stn_err *err) {
    (void)device;
    *out = NULL;
    stn_buf *buf = host->alloc(sizeof *buf, 0);
    uint8_t *data = buf == NULL ? NULL : host->alloc(bytes == 0 ? 1 : bytes, 64);
    if (data == NULL) {
        host->free(buf);
        return stn_fail(err, STN_E_NOMEM,
                        "no host memory for a buffer of %llu bytes; use a smaller batch",
                        (unsigned long long)bytes);
    }
    *buf = (stn_buf){data, bytes};
    *out = buf;
    return STN_OK;
}

static void buf_free(stn_buf *buf) {
    if (buf != NULL) {
        host->free(buf->data);
        host->free(buf);
    }
}

static int32_t stream_open(stn_device *device, stn_stream **out, stn_err *err) {
    stn_stream *stream = host->alloc(sizeof *stream, 0);
    *out = stream;
    if (stream == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory for a stream");
    }
    *stream = (stn_stream){.device = device};
    return STN_OK;
}

static void stream_close(stn_stream *stream) {
    host->free(stream);
}

/* The sticky error of the stream, also the result of sync and flush. */
static int32_t stream_status(stn_stream *stream, stn_err *err) {
    if (stream->failed.code != STN_OK && err != NULL) {
        *err = stream->failed;
    }
    return stream->failed.code;
}

/* Address of a range of a buffer; NULL and the sticky error if it is not inside. */
static uint8_t *locate(stn_stream *stream, stn_ref ref, uint64_t bytes, const char *what) {
    if (ref.buf == NULL || ref.offset > ref.buf->bytes || bytes > ref.buf->bytes - ref.offset) {
        (void)stn_fail(&stream->failed, STN_E_FAIL,
                       "%s: %llu bytes at offset %llu do not fit in a buffer of %llu bytes", what,
                       (unsigned long long)bytes, (unsigned long long)ref.offset,
                       (unsigned long long)(ref.buf == NULL ? 0 : ref.buf->bytes));
        return NULL;
    }
    return ref.buf->data + ref.offset;
}

static bool healthy(const stn_stream *stream) {
    return stream->failed.code == STN_OK;
}

static int32_t stream_write(stn_stream *stream, stn_ref dst, const void *src, uint64_t bytes,
                            stn_err *err) {
    uint8_t *to = healthy(stream) ? locate(stream, dst, bytes, "write") : NULL;
    if (to != NULL) {
        memcpy(to, src, bytes);
    }
    return stream_status(stream, err);
}

static int32_t stream_read(stn_stream *stream, void *dst, stn_ref src, uint64_t bytes,
                           stn_err *err) {
    const uint8_t *from = healthy(stream) ? locate(stream, src, bytes, "read") : NULL;
    if (from != NULL) {
        memcpy(dst, from, bytes);
    }
    return stream_status(stream, err);
}

static int32_t stream_copy(stn_stream *stream, stn_ref dst, stn_ref src, uint64_t bytes,
                           stn_err *err) {
    uint8_t *to = healthy(stream) ? locate(stream, dst, bytes, "copy") : NULL;
    const uint8_t *from = to != NULL ? locate(stream, src, bytes, "copy") : NULL;
    if (from != NULL) {
        memmove(to, from, bytes);
    }
    return stream_status(stream, err);
}

static int32_t stream_fill(stn_stream *stream, stn_ref dst, uint32_t word, uint64_t bytes,
                           stn_err *err) {
    uint8_t *to = healthy(stream) ? locate(stream, dst, bytes, "fill") : NULL;
    if (to != NULL) {
        for (uint64_t i = 0; i < bytes; i++) {
            to[i] = ((const uint8_t *)&word)[i % 4];
        }
    }
    return stream_status(stream, err);
}

/* ---- operators ------------------------------------------------------------------------------ */

/* Facts of op.def that a backend needs. */
static const struct op_facts {
    uint32_t op, min_in, max_in, n_out, params_size;
    const char *name;
} ops[] = {
#define STN_OP(number, NAME, name, min_in, max_in, n_out, params, text)                            \
    {number, min_in, max_in, n_out, (uint32_t)sizeof(stn_##params##_params), name},
#include <stn/op.def>
#undef STN_OP
};

static const struct op_facts *find_op(uint32_t op) {
    for (uint32_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (ops[i].op == op) {
            return &ops[i];
        }
    }
    return NULL;
}

/* Copies parameters; false if the struct is from a newer ABI and says something unknown. */
static bool copy_params(const struct op_facts *facts, const void *params, stn_op_params *copy) {
    memset(copy, 0, sizeof *copy);
    uint32_t size;
    memcpy(&size, params, sizeof size);
    for (uint32_t i = facts->params_size; i < size; i++) {
        if (((const uint8_t *)params)[i] != 0) {
            return false;
        }
    }
    memcpy(copy, params, size < facts->params_size ? size : facts->params_size);
    return true;
}

static bool usable(const stn_tensor *t) {
    return t->dtype <= STN_I32 && (t->layout == STN_NCHW || t->layout == STN_NC16) &&
           stn_tensor_elems(t) != 0;
}

/* Fills kernel from desc and chooses its implementation; false: not supported. */
static bool make_kernel(const stn_device *device, const stn_op_desc *desc, stn_kernel *kernel) {
    const struct op_facts *facts = find_op(desc->op);
    memset(kernel, 0, sizeof *kernel);
    if (facts == NULL || desc->n_in < facts->min_in || desc->n_in > facts->max_in ||
        desc->n_out != facts->n_out || !copy_params(facts, desc->params, &kernel->params)) {
        return false;
    }
    kernel->op = desc->op;
    kernel->n_in = desc->n_in;
    kernel->n_out = desc->n_out;
    for (uint32_t i = 0; i < desc->n_in; i++) {
        kernel->in[i] = desc->in[i];
        if (!usable(&kernel->in[i])) {
            return false;
        }
    }
    for (uint32_t i = 0; i < desc->n_out; i++) {
        kernel->out[i] = desc->out[i];
        if (!usable(&kernel->out[i])) {
            return false;
        }
    }
    select_impl(device, kernel);
    return kernel->impl.run != NULL;
}

static int32_t op_query(stn_device *device, const stn_op_desc *desc, stn_support *support,
                        stn_err *err) {
    (void)err;
    stn_kernel kernel;
    uint32_t level = make_kernel(device, desc, &kernel) ? 1 : 0;
    stn_support full = {.level = level, .exact = level};
    full.workspace = level == 0 ? 0 : kernel.impl.workspace;
    uint32_t size = support->struct_size;
    memcpy(support, &full, size < sizeof full ? size : sizeof full);
    support->struct_size = size;
    return STN_OK;
}

static int32_t op_prepare(stn_device *device, const stn_op_desc *desc, stn_kernel **out,
                          stn_err *err) {
    stn_kernel *kernel = host->alloc(sizeof *kernel, 0);
    *out = NULL;
    if (kernel == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory for a kernel");
    }
    if (!make_kernel(device, desc, kernel)) {
        host->free(kernel);
        return stn_fail(err, STN_E_UNSUPPORTED, "the CPU backend does not know operator %u",
                        desc->op);
    }
    *out = kernel;
    return STN_OK;
}

static void op_free(stn_kernel *kernel) {
    host->free(kernel);
}

/* Addresses of all operands; false after a failure, which is the stream's sticky error. */
static bool bind_operands(stn_stream *stream, const stn_kernel *kernel, const stn_run_args *args,
                          cpu_call *call) {
    const char *name = find_op(kernel->op)->name;
    for (uint32_t i = 0; i < kernel->n_in; i++) {
        call->in[i] = locate(stream, args->in[i], stn_tensor_bytes(&kernel->in[i]), name);
    }
    for (uint32_t i = 0; i < kernel->n_out; i++) {
        call->out[i] = locate(stream, args->out[i], stn_tensor_bytes(&kernel->out[i]), name);
    }
    if (kernel->impl.workspace > 0) {
        call->workspace = locate(stream, args->workspace, kernel->impl.workspace, name);
    }
    if (args->flags.buf != NULL) {
        uint64_t bytes = (UINT64_C(2) + args->node) * 4u;
        call->flags = (uint32_t *)(void *)locate(stream, args->flags, bytes, name);
    }
    return healthy(stream);
}

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

static int32_t op_run(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args,
                      stn_err *err) {
    cpu_call call = {.kernel = kernel, .step = args->step, .node = args->node};
    call.pool = stream->device->pool;
    if (healthy(stream) && bind_operands(stream, kernel, args, &call)) {
        pthread_mutex_lock(&stream->device->lock);
        uint64_t start = now_ns();
        kernel->impl.run(&call);
        CPU_AFTER_RUN(&call);
        kernel->ns = now_ns() - start;
        pthread_mutex_unlock(&stream->device->lock);
    }
    return stream_status(stream, err);
}

static int32_t op_time(stn_stream *stream, stn_kernel *kernel, uint64_t *ns, stn_err *err) {
    *ns = kernel->ns;
    return stream_status(stream, err);
}

static int32_t peaks(stn_device *device, stn_peaks *out, stn_err *err) {
    stn_peaks found = {.struct_size = out->struct_size};
    pthread_mutex_lock(&device->lock);
    int32_t status = cpu_peaks(device->pool, sets[device->best].probe, host, &found, err);
    pthread_mutex_unlock(&device->lock);
    memcpy(out, &found, out->struct_size < sizeof found ? out->struct_size : sizeof found);
    return status;
}

/* Value of a flag word for this step; words keep the first step that went wrong. */
static void raise_flag(uint32_t *word, uint32_t value) {
    uint32_t none = 0;
    (void)__atomic_compare_exchange_n(word, &none, value, false, __ATOMIC_RELAXED,
                                      __ATOMIC_RELAXED);
}

void cpu_flag(const cpu_call *call) {
    if (call->flags != NULL) {
        uint32_t value = (uint32_t)(call->step->step + 1u);
        raise_flag(&call->flags[0], value);
        raise_flag(&call->flags[1u + call->node], value);
    }
}

bool cpu_flagged(const cpu_call *call) {
    return call->flags != NULL && __atomic_load_n(&call->flags[0], __ATOMIC_RELAXED) != 0;
}

/* ---- plugin --------------------------------------------------------------------------------- */

static const stn_option_info options_info[] = {
    {"threads", "int", "0..1024", "0", "threads of the CPU backend; 0: all processors"},
    {"cpu-kernels", "choice:auto,ref,sse2,portable,avx2,avx512", "", "auto",
     "kernel set; every set gives the same bits, ref is the slow readable one"},
};

static const stn_backend vtable = {
    .struct_size = sizeof(stn_backend),
    .device_count = device_count,
    .device_info = device_info,
    .device_open = device_open,
    .device_close = device_close,
    .device_query = device_query,
    .buf_alloc = buf_alloc,
    .buf_free = buf_free,
    .stream_open = stream_open,
    .stream_close = stream_close,
    .write = stream_write,
    .read = stream_read,
    .copy = stream_copy,
    .fill = stream_fill,
    .flush = stream_status,
    .sync = stream_status,
    .op_query = op_query,
    .op_prepare = op_prepare,
    .op_run = op_run,
    .op_free = op_free,
    .op_time = op_time,
    .peaks = peaks,
};

static int32_t init(const stn_host *services, stn_err *err) {
    (void)err;
    host = services;
    return STN_OK;
}

STN_PLUGIN(STN_KIND_BACKEND, CPU_PLUGIN_NAME, "0.1.0", "MIT",
           "CPU kernels: scalar reference and SIMD sets", options_info, 2, &vtable, init, NULL);
