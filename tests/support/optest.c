/* Operator tests: plugin loading, guarded runs and comparison. */
#define _GNU_SOURCE
#include "optest.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "plugin/registry.h"

#define GUARD 256u
#define CANARY 0xA5u
#define POISON 0xFFu

/* ---- host and devices ----------------------------------------------------------------------- */

static void *host_alloc(uint64_t bytes, uint64_t align) {
    if (bytes > UINT64_C(1) << 40) {
        return NULL; /* no machine has it, and sanitizers abort instead of failing */
    }
    return stn__host.alloc(bytes, align);
}

static void host_log(int32_t level, const char *text) {
    if (level <= STN_LOG_WARN) {
        fprintf(stderr, "%s\n", text);
    }
}

int32_t optest_load(const char *path, const stn_backend **backend, stn_err *err) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        return stn_fail(err, STN_E_PLUGIN, "%s", dlerror());
    }
    const stn_plugin *plugin = dlsym(library, "stn_plugin_entry");
    if (plugin == NULL || plugin->kind != STN_KIND_BACKEND) {
        return stn_fail(err, STN_E_PLUGIN, "%s is no backend", path);
    }
    static stn_host host; /* the library's own: memory as in a run, the same functions */
    host = stn__host;
    host.alloc = host_alloc;
    host.log = host_log;
    *backend = plugin->vtable;
    return plugin->init(&host, err);
}

static bool operands_apart(void) {
#if defined(__SANITIZE_ADDRESS__)
    return true;
#else
    const char *apart = getenv("STN_TEST_APART");
    return apart != NULL && *apart == '1';
#endif
}

int32_t optest_open(const stn_backend *backend, uint32_t index, const char *const *options,
                    optest_dev *dev, stn_err *err) {
    const char *name[16], *value[16];
    stn_options list = {sizeof list, 0, name, value};
    for (; options != NULL && options[0] != NULL && list.count < 16; options += 2) {
        name[list.count] = options[0];
        value[list.count++] = options[1];
    }
    *dev = (optest_dev){.backend = backend, .apart = operands_apart()};
    STN_TRY(backend->device_open(index, &list, &dev->device, err));
    return backend->stream_open(dev->device, &dev->stream, err);
}

void optest_close(optest_dev *dev) {
    if (dev->stream != NULL) {
        dev->backend->stream_close(dev->stream);
    }
    dev->backend->device_close(dev->device);
}

const char *optest_plugin_path(const char *name, char *path, uint32_t cap) {
    (void)snprintf(path, cap, "%s/stn_%s.so", OPTEST_PLUGIN_DIR, name);
    return path;
}

/* ---- memory image of a run ------------------------------------------------------------------ */

uint64_t optest_elems(const stn_tensor *t) {
    stn_tensor plain = *t;
    plain.layout = STN_NCHW;
    return stn_tensor_elems(&plain);
}

static uint64_t size_of(const stn_tensor *t) {
    return t->dtype == STN_U8 ? 1 : 4;
}

/* Rows that are real: the first `count` of a batched operand, else all. */
static uint64_t real_rows(const optest_case *c, const stn_tensor *t, bool batched) {
    return batched && c->count < t->dim[0] ? c->count : t->dim[0];
}

/* Copies rows to the stored order, or from it to row-major NCHW. */
static void copy_rows(const stn_tensor *t, uint64_t rows, void *plain, void *stored, bool store) {
    const uint64_t plane = (uint64_t)t->dim[2] * t->dim[3], size = size_of(t);
    const uint64_t run = t->layout == STN_NC16 ? 1 : plane, step = t->layout == STN_NC16 ? 16 : 0;
    uint8_t *at = plain;
    for (uint64_t k = 0; k < rows * t->dim[1]; k++) {
        uint8_t *to = (uint8_t *)stored + stn_tensor_at(t, k / t->dim[1], k % t->dim[1], 0) * size;
        for (uint64_t hw = 0; hw < plane; hw += run, at += run * size, to += step * size) {
            memcpy(store ? to : at, store ? at : to, run * size);
        }
    }
}

/* A buffer of the device: it holds `bytes` of the image. */
typedef struct part {
    uint64_t at, bytes;
    stn_buf *buf;
} part;

#define MOST_PARTS (STN_MAX_IN + STN_MAX_OUT + 1u)

/* All operands with guards between them. */
typedef struct image {
    uint8_t *bytes, *before;
    uint64_t size;
    uint64_t in[STN_MAX_IN], out[STN_MAX_OUT], workspace, workspace_size;
    part part[MOST_PARTS];
    uint32_t n_parts;
} image;

static uint64_t place(image *m, uint64_t bytes) {
    uint64_t at = m->size;
    m->part[m->n_parts++] = (part){.at = at, .bytes = bytes > 0 ? bytes : 4}; /* not empty */
    m->size = at + (bytes + GUARD - 1) / GUARD * GUARD + GUARD;
    return at;
}

static void lay_out(const optest_case *c, uint64_t workspace, bool apart, image *m) {
    m->size = GUARD;
    for (uint32_t i = 0; i < c->n_in; i++) {
        m->in[i] = place(m, stn_tensor_bytes(&c->in[i]));
    }
    for (uint32_t i = 0; i < c->n_out; i++) {
        m->out[i] = c->alias[i] >= 0 ? m->in[c->alias[i]] : place(m, stn_tensor_bytes(&c->out[i]));
    }
    m->workspace = place(m, workspace);
    m->workspace_size = workspace;
    if (!apart) {
        m->part[0] = (part){.bytes = m->size};
        m->n_parts = 1;
    }
}

static void put_input(const optest_case *c, uint32_t i, void *data, uint8_t *to) {
    const stn_tensor *t = &c->in[i];
    const uint64_t rows = real_rows(c, t, (c->batched_in >> i & 1u) != 0);
    /* Padding channels of real rows are +0, rows past count are garbage. */
    memset(to, POISON, stn_tensor_bytes(t));
    memset(to, 0, stn_tensor_bytes(t) / t->dim[0] * rows);
    copy_rows(t, rows, data, to, true);
}

/* Operands as they are before a run, up to the workspace. */
static int32_t put_operands(const optest_case *c, const void *const *in, image *m, stn_err *err) {
    for (uint32_t i = 0; i < c->n_out; i++) {
        memset(m->bytes + m->out[i], POISON, stn_tensor_bytes(&c->out[i]));
    }
    for (uint32_t i = 0; i < c->n_in; i++) {
        const uint64_t bytes = optest_elems(&c->in[i]) * size_of(&c->in[i]);
        uint8_t *data = malloc(bytes);
        if (data == NULL) {
            return stn_fail(err, STN_E_NOMEM, "%s: no memory", c->name);
        }
        if (in != NULL && in[i] != NULL) {
            memcpy(data, in[i], bytes);
        } else {
            optest_fill(c, i, data);
        }
        put_input(c, i, data, m->bytes + m->in[i]);
        free(data);
    }
    return STN_OK;
}

/* The generated operands, of the last run if that was of this case. */
static int32_t generate(const optest_case *c, optest_operands *kept, image *m, stn_err *err) {
    if (kept->bytes != NULL && memcmp(&kept->of, c, sizeof *c) == 0) {
        memcpy(m->bytes, kept->bytes, m->workspace);
        return STN_OK;
    }
    STN_TRY(put_operands(c, NULL, m, err));
    free(kept->bytes);
    kept->of = *c;
    kept->bytes = malloc(m->workspace);
    if (kept->bytes == NULL) {
        return stn_fail(err, STN_E_NOMEM, "%s: no memory", c->name);
    }
    memcpy(kept->bytes, m->bytes, m->workspace);
    return STN_OK;
}

static int32_t build_image(const optest_case *c, const void *const *in, optest_operands *kept,
                           image *m, stn_err *err) {
    m->bytes = malloc(m->size);
    m->before = malloc(m->size);
    if (m->bytes == NULL || m->before == NULL) {
        return stn_fail(err, STN_E_NOMEM, "%s: no memory", c->name);
    }
    memset(m->bytes, CANARY, m->size);
    STN_TRY(kept != NULL ? generate(c, kept, m, err) : put_operands(c, in, m, err));
    memcpy(m->before, m->bytes, m->size);
    return STN_OK;
}

/* Makes `before` like the bytes that a kernel may change. */
static void allow_writable(const optest_case *c, const image *m) {
    memcpy(m->before + m->workspace, m->bytes + m->workspace, m->workspace_size);
    for (uint32_t i = 0; i < c->n_out; i++) {
        const stn_tensor *t = &c->out[i];
        const uint64_t rows = real_rows(c, t, (c->batched_out >> i & 1u) != 0);
        memcpy(m->before + m->out[i], m->bytes + m->out[i], stn_tensor_bytes(t) / t->dim[0] * rows);
    }
}

static int32_t check_guards(const optest_case *c, const image *m, stn_err *err) {
    allow_writable(c, m);
    if (memcmp(m->bytes, m->before, m->size) == 0) {
        return STN_OK;
    }
    uint64_t i = 0;
    while (m->bytes[i] == m->before[i]) {
        i++;
    }
    for (uint32_t k = 0; k < c->n_out; k++) {
        if (i >= m->out[k] && i < m->out[k] + stn_tensor_bytes(&c->out[k])) {
            return stn_fail(err, STN_E_MISMATCH, "output %u: byte %llu past count was written", k,
                            (unsigned long long)(i - m->out[k]));
        }
    }
    return stn_fail(err, STN_E_MISMATCH, "byte %llu of the operand image was written",
                    (unsigned long long)i);
}

/* Padding channels of real rows must be +0. */
static int32_t check_padding(const optest_case *c, uint32_t i, const uint8_t *stored,
                             stn_err *err) {
    const stn_tensor *t = &c->out[i];
    if (t->layout != STN_NC16 || (c->ignored_out >> i & 1u) != 0) {
        return STN_OK;
    }
    uint64_t rows = real_rows(c, t, (c->batched_out >> i & 1u) != 0);
    for (uint64_t n = 0; n < rows; n++) {
        for (uint64_t ch = t->dim[1]; ch % 16 != 0; ch++) {
            for (uint64_t hw = 0; hw < (uint64_t)t->dim[2] * t->dim[3]; hw++) {
                static const uint8_t zero[4];
                uint64_t at = stn_tensor_at(t, n, ch, hw) * size_of(t);
                if (memcmp(stored + at, zero, size_of(t)) != 0) {
                    return stn_fail(err, STN_E_MISMATCH,
                                    "output %u: padding channel %llu of row %llu is not +0", i,
                                    (unsigned long long)ch, (unsigned long long)n);
                }
            }
        }
    }
    return STN_OK;
}

static int32_t take_output(const optest_case *c, uint32_t i, uint8_t *stored, optest_result *result,
                           stn_err *err) {
    const stn_tensor *t = &c->out[i];
    STN_TRY(check_padding(c, i, stored, err));
    uint8_t *to = calloc(optest_elems(t), size_of(t));
    if (to == NULL) {
        return stn_fail(err, STN_E_NOMEM, "%s: no memory", c->name);
    }
    copy_rows(t, real_rows(c, t, (c->batched_out >> i & 1u) != 0), to, stored, false);
    result->out[i] = to;
    return STN_OK;
}

/* ---- run ------------------------------------------------------------------------------------ */

static void describe(const optest_case *c, stn_op_desc *desc) {
    *desc = (stn_op_desc){sizeof *desc, c->op, c->n_in, c->n_out, &c->params, c->in, c->out};
}

static int32_t alloc_parts(optest_dev *dev, image *m, stn_err *err) {
    for (uint32_t i = 0; i < m->n_parts; i++) {
        STN_TRY(dev->backend->buf_alloc(dev->device, m->part[i].bytes, &m->part[i].buf, err));
    }
    return STN_OK;
}

static stn_ref ref_to(const image *m, uint64_t at) {
    const part *of = &m->part[m->n_parts - 1];
    while (of->at > at) {
        of--;
    }
    return (stn_ref){of->buf, at - of->at};
}

static int32_t upload(optest_dev *dev, const image *m, stn_err *err) {
    for (const part *p = m->part; p < m->part + m->n_parts; p++) {
        STN_TRY(dev->backend->write(dev->stream, (stn_ref){p->buf, 0}, m->bytes + p->at, p->bytes,
                                    err));
    }
    return STN_OK;
}

static int32_t download(optest_dev *dev, const image *m, stn_err *err) {
    for (const part *p = m->part; p < m->part + m->n_parts; p++) {
        STN_TRY(
            dev->backend->read(dev->stream, m->bytes + p->at, (stn_ref){p->buf, 0}, p->bytes, err));
    }
    return STN_OK;
}

/* Uploads, runs and downloads. Node 3 gives the flag word 4. */
static int32_t execute(optest_dev *dev, const optest_case *c, stn_kernel *kernel, const image *m,
                       stn_buf *flags, uint32_t words[8], stn_err *err) {
    const stn_backend *b = dev->backend;
    stn_ref in[STN_MAX_IN], out[STN_MAX_OUT];
    for (uint32_t i = 0; i < c->n_in; i++) {
        in[i] = ref_to(m, m->in[i]);
    }
    for (uint32_t i = 0; i < c->n_out; i++) {
        out[i] = ref_to(m, m->out[i]);
    }
    stn_step step = {.struct_size = sizeof step,
                     .count = c->count,
                     .step = 41,
                     .seed = UINT64_C(0x123456789abcdef),
                     .n_scalars = OPTEST_SLOTS,
                     .first = c->first,
                     .scalar = c->scalar,
                     .partial = c->partial};
    stn_run_args args = {sizeof args, 3, in, out, ref_to(m, m->workspace), {flags, 0}, &step};
    STN_TRY(upload(dev, m, err));
    STN_TRY(b->fill(dev->stream, (stn_ref){flags, 0}, 0, 32, err));
    STN_TRY(b->op_run(dev->stream, kernel, &args, err));
    STN_TRY(download(dev, m, err));
    STN_TRY(b->read(dev->stream, words, (stn_ref){flags, 0}, 32, err));
    return b->sync(dev->stream, err);
}

static int32_t prepare(optest_dev *dev, const optest_case *c, stn_kernel **kernel,
                       uint64_t *workspace, stn_err *err) {
    const stn_backend *b = dev->backend;
    stn_support support = {.struct_size = sizeof support};
    stn_op_desc desc;
    describe(c, &desc);
    STN_TRY(b->op_query(dev->device, &desc, &support, err));
    if (support.level == 0) {
        return stn_fail(err, STN_E_UNSUPPORTED, "the device does not take this operator");
    }
    *workspace = support.workspace;
    STN_TRY(b->op_prepare(dev->device, &desc, kernel, err));
    /* The core fills missing entries with stubs that answer "unsupported". */
    int32_t status = b->prepare_end == NULL ? STN_OK : b->prepare_end(dev->device, NULL, NULL, err);
    return status == STN_E_UNSUPPORTED ? STN_OK : status;
}

static int32_t collect(const optest_case *c, const image *m, const uint32_t words[8],
                       optest_result *result, stn_err *err) {
    STN_TRY(check_guards(c, m, err));
    for (uint32_t i = 0; i < 8; i++) {
        if (words[i] != (i == 0 || i == 4 ? words[4] : 0u)) {
            return stn_fail(err, STN_E_MISMATCH, "flag word %u is %u", i, words[i]);
        }
    }
    result->flags[0] = words[0];
    result->flags[1] = words[4];
    for (uint32_t i = 0; i < c->n_out; i++) {
        STN_TRY(take_output(c, i, m->bytes + m->out[i], result, err));
    }
    return STN_OK;
}

static int32_t run(optest_dev *dev, const optest_case *c, const void *const *in,
                   optest_operands *kept, optest_result *result, stn_err *err) {
    const stn_backend *b = dev->backend;
    stn_kernel *kernel = NULL;
    stn_buf *flags = NULL;
    image m = {0};
    uint64_t workspace = 0;
    uint32_t words[8];
    memset(result, 0, sizeof *result);
    int32_t status = prepare(dev, c, &kernel, &workspace, err);
    lay_out(c, workspace, dev->apart, &m);
    status = status != STN_OK ? status : build_image(c, in, kept, &m, err);
    status = status != STN_OK ? status : alloc_parts(dev, &m, err);
    status = status != STN_OK ? status : b->buf_alloc(dev->device, 32, &flags, err);
    status = status != STN_OK ? status : execute(dev, c, kernel, &m, flags, words, err);
    status = status != STN_OK ? status : collect(c, &m, words, result, err);
    for (uint32_t i = 0; i < m.n_parts; i++) {
        b->buf_free(m.part[i].buf);
    }
    b->buf_free(flags);
    if (kernel != NULL) {
        b->op_free(kernel);
    }
    free(m.bytes);
    free(m.before);
    return status;
}

int32_t optest_run(optest_dev *dev, const optest_case *c, optest_result *result, stn_err *err) {
    return run(dev, c, NULL, NULL, result, err);
}

int32_t optest_run_data(optest_dev *dev, const optest_case *c, const void *const *in,
                        optest_result *result, stn_err *err) {
    return run(dev, c, in, NULL, result, err);
}

int32_t optest_run_again(optest_dev *dev, const optest_case *c, optest_operands *kept,
                         optest_result *result, stn_err *err) {
    return run(dev, c, NULL, kept, result, err);
}

void optest_free(optest_result *result) {
    for (uint32_t i = 0; i < STN_MAX_OUT; i++) {
        free(result->out[i]);
        result->out[i] = NULL;
    }
}

/* ---- comparison ----------------------------------------------------------------------------- */

/* Distance in units of the last place; order of floats as order of integers. */
static int64_t ordered(uint32_t bits) {
    return bits & 0x80000000u ? -(int64_t)(bits & 0x7fffffffu) : (int64_t)bits;
}

static bool same(uint32_t dtype, const uint8_t *a, const uint8_t *b) {
    uint32_t size = dtype == STN_U8 ? 1 : 4;
    if (memcmp(a, b, size) == 0) {
        return true;
    }
    float x, y;
    if (dtype != STN_F32) {
        return false;
    }
    memcpy(&x, a, 4);
    memcpy(&y, b, 4);
    return isnan(x) && isnan(y);
}

static void say(const optest_case *c, uint32_t i, uint64_t k, const uint8_t *a, const uint8_t *b,
                char text[256]) {
    const stn_tensor *t = &c->out[i];
    uint64_t plane = (uint64_t)t->dim[2] * t->dim[3];
    unsigned n = (unsigned)(k / plane / t->dim[1]), ch = (unsigned)(k / plane % t->dim[1]);
    unsigned h = (unsigned)(k % plane / t->dim[3]), w = (unsigned)(k % t->dim[3]);
    if (t->dtype == STN_F32) {
        uint32_t x, y;
        float p, q;
        memcpy(&x, a, 4);
        memcpy(&y, b, 4);
        memcpy(&p, a, 4);
        memcpy(&q, b, 4);
        (void)snprintf(text, 256, "output %u [%u,%u,%u,%u]: %a (%.9g) and %a (%.9g), %lld ulp", i,
                       n, ch, h, w, (double)p, (double)p, (double)q, (double)q,
                       (long long)llabs(ordered(x) - ordered(y)));
    } else {
        int32_t p = a[0], q = b[0];
        if (t->dtype == STN_I32) {
            memcpy(&p, a, 4);
            memcpy(&q, b, 4);
        }
        (void)snprintf(text, 256, "output %u [%u,%u,%u,%u]: %d and %d", i, n, ch, h, w, p, q);
    }
}

bool optest_equal(const optest_case *c, const optest_result *a, const optest_result *b,
                  char text[256]) {
    for (uint32_t i = 0; i < c->n_out; i++) {
        const stn_tensor *t = &c->out[i];
        const uint64_t rows = real_rows(c, t, (c->batched_out >> i & 1u) != 0);
        const uint64_t size = size_of(t), n = rows * (optest_elems(t) / t->dim[0]);
        for (uint64_t k = 0; k < n && (c->ignored_out >> i & 1u) == 0; k++) {
            const uint8_t *x = (const uint8_t *)a->out[i] + k * size;
            const uint8_t *y = (const uint8_t *)b->out[i] + k * size;
            if (!same(t->dtype, x, y)) {
                say(c, i, k, x, y, text);
                return false;
            }
        }
    }
    if (a->flags[0] != b->flags[0]) {
        (void)snprintf(text, 256, "non-finite flags %u and %u", a->flags[0], b->flags[0]);
        return false;
    }
    return true;
}
