/* See bench.h. */
#define _POSIX_C_SOURCE 200809L
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "plugin/registry.h"

#define MOST_PAIRS 1001u
#define FEWEST_PAIRS 5u

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int32_t place(bench_op *op, const stn_tensor *t, bool output, uint32_t index,
                     bench_fill fill, void *user, stn_err *err) {
    const stn_backend *v = op->dev->backend;
    stn_ref *ref = output ? &op->out[index] : &op->in[index];
    const uint64_t bytes = stn_tensor_bytes(t);
    void *data = malloc(bytes);
    if (data == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory");
    }
    fill(user, t, output, index, data);
    int32_t status = v->buf_alloc(op->dev->device, bytes, &ref->buf, err);
    status = status != STN_OK ? status : v->write(op->dev->stream, *ref, data, bytes, err);
    free(data);
    return status;
}

int32_t bench_open(bench_op *op, optest_dev *dev, const stn_op_desc *desc, uint32_t count,
                   bench_fill fill, void *user, stn_err *err) {
    const stn_backend *v = dev->backend;
    stn_support support = {.struct_size = sizeof support};
    *op = (bench_op){.dev = dev, .n_in = desc->n_in, .n_out = desc->n_out, .count = count};
    STN_TRY(v->op_query(dev->device, desc, &support, err));
    STN_TRY(v->op_prepare(dev->device, desc, &op->kernel, err));
    for (uint32_t i = 0; i < desc->n_in; i++) {
        STN_TRY(place(op, &desc->in[i], false, i, fill, user, err));
    }
    for (uint32_t i = 0; i < desc->n_out; i++) {
        STN_TRY(place(op, &desc->out[i], true, i, fill, user, err));
    }
    return v->buf_alloc(dev->device, support.workspace + 1, &op->work.buf, err);
}

int32_t bench_run(void *op, double *seconds, stn_err *err) {
    bench_op *b = op;
    const float scalars[4] = {1.0f / (float)b->count, 0, 0, 0};
    const stn_step step = {.struct_size = sizeof step,
                           .count = b->count,
                           .seed = 1,
                           .n_scalars = 4,
                           .scalar = scalars};
    const stn_run_args args = {sizeof args, 0, b->in, b->out, b->work, {NULL, 0}, &step};
    const double start = now();
    STN_TRY(b->dev->backend->op_run(b->dev->stream, b->kernel, &args, err));
    *seconds = now() - start;
    return STN_OK;
}

void bench_close(bench_op *op) {
    const stn_backend *v = op->dev->backend;
    for (uint32_t i = 0; i < op->n_in; i++) {
        v->buf_free(op->in[i].buf);
    }
    for (uint32_t i = 0; i < op->n_out; i++) {
        v->buf_free(op->out[i].buf);
    }
    v->buf_free(op->work.buf);
    v->op_free(op->kernel);
}

/* ---- peak ----------------------------------------------------------------------------------- */

struct bench_peak {
    cpu_pool *pool;
    const cpu_probe *probe;
    uint64_t rounds; /* of every thread */
    volatile float nothing;
};

/* The loops of a kernel set; NULL: they are not among those of this program. */
static const cpu_probe *probe_of(const char *set) {
    static const struct {
        const char *set;
        const cpu_probe *probe;
    } probes[] = {
        {"portable", &cpu_portable_probe},
#if defined(CPU_HAVE_SSE2)
        {"sse2", &cpu_sse2_probe},
#endif
#if defined(CPU_HAVE_AVX2)
        {"avx2", &cpu_avx2_probe},
#endif
#if defined(CPU_HAVE_AVX512)
        {"avx512", &cpu_avx512_probe},
#endif
    };
    for (size_t i = 0; i < sizeof probes / sizeof *probes; i++) {
        if (strcmp(set, probes[i].set) == 0) {
            return probes[i].probe;
        }
    }
    return NULL;
}

int32_t bench_peak_open(optest_dev *dev, uint32_t threads, bench_peak **peak, stn_err *err) {
    stn_device_info info = {.struct_size = sizeof info};
    STN_TRY(dev->backend->device_query(dev->device, &info, err));
    bench_peak *p = *peak = calloc(1, sizeof *p);
    if (p == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory");
    }
    p->probe = probe_of(info.variant);
    if (p->probe == NULL) {
        return stn_fail(err, STN_E_UNSUPPORTED, "no peak of the kernel set %s", info.variant);
    }
    return cpu_pool_new(threads, &p->pool, err);
}

void bench_peak_close(bench_peak *peak) {
    cpu_pool_free(peak->pool);
    free(peak);
}

static void peak_task(void *user, uint32_t task, uint32_t thread) {
    bench_peak *p = user;
    (void)thread;
    p->nothing = p->probe->fma(p->rounds, (float)task);
}

int32_t bench_peak_run(void *peak, double *seconds, stn_err *err) {
    bench_peak *p = peak;
    (void)err;
    const double start = now();
    cpu_pool_run(p->pool, cpu_pool_threads(p->pool), peak_task, p);
    *seconds = now() - start;
    return STN_OK;
}

void bench_peak_last(bench_peak *peak, double seconds) {
    double taken = 0;
    peak->rounds = 1024;
    while (bench_peak_run(peak, &taken, NULL), taken < seconds / 2) {
        peak->rounds *= 2;
    }
    peak->rounds = (uint64_t)((double)peak->rounds * seconds / taken) + 1;
}

double bench_peak_flop(const bench_peak *peak) {
    return (double)peak->probe->flops * (double)peak->rounds * cpu_pool_threads(peak->pool);
}

/* ---- stores --------------------------------------------------------------------------------- */

int32_t bench_stores_open(bench_stores *stores, const bench_peak *peak, uint64_t bytes,
                          stn_err *err) {
    const uint64_t line = 16, threads = cpu_pool_threads(peak->pool);
    const uint64_t lines = (bytes / sizeof(float) + line * threads - 1) / (line * threads);
    *stores = (bench_stores){.peak = peak, .floats = lines * line};
    stores->at = stn__host.alloc(threads * stores->floats * sizeof(float), 64);
    return stores->at == NULL ? stn_fail(err, STN_E_NOMEM, "no memory") : STN_OK;
}

void bench_stores_close(bench_stores *stores) {
    stn__host.free(stores->at);
}

static void store_task(void *user, uint32_t task, uint32_t thread) {
    const bench_stores *s = user;
    (void)thread;
    s->peak->probe->store(s->at + task * s->floats, s->floats, s->past);
}

int32_t bench_stores_run(void *stores, double *seconds, stn_err *err) {
    bench_stores *s = stores;
    (void)err;
    const double start = now();
    cpu_pool_run(s->peak->pool, cpu_pool_threads(s->peak->pool), store_task, s);
    *seconds = now() - start;
    return STN_OK;
}

/* ---- pairs ---------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, uint32_t n) {
    qsort(values, n, sizeof *values, by_value);
    return values[n / 2];
}

int32_t bench_pairs(bench_fn first, void *a, bench_fn second, void *b, double seconds,
                    bench_pair *result, stn_err *err) {
    double one[MOST_PAIRS], two[MOST_PAIRS], ratio[MOST_PAIRS], unused;
    uint32_t n = 0;
    STN_TRY(first(a, &unused, err));
    STN_TRY(second(b, &unused, err));
    const double end = now() + seconds;
    for (; n < FEWEST_PAIRS || (n < MOST_PAIRS && now() < end); n++) {
        STN_TRY(first(a, &one[n], err));
        STN_TRY(second(b, &two[n], err));
        ratio[n] = two[n] / one[n];
    }
    *result = (bench_pair){median(one, n), median(two, n), median(ratio, n)};
    return STN_OK;
}
