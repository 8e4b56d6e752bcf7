/* The peaks of this processor as its kernel sets use it: fused multiply-adds on registers, and
 * a[i] = fma(s, b[i], c[i]) over arrays beyond the caches, on all threads of the pool.
 *
 * The best of several short runs counts: other load makes runs slower, never faster. */
#define _GNU_SOURCE
#include "cpu.h"

#include <time.h>
#include <unistd.h>

#define REPEATS 100u
#define SWEEPS 8u
#define RUN_NS 1e6 /* long beside the start of the threads, short beside a turn of other load */
#define MIB (UINT64_C(1) << 20)

typedef struct probing {
    const cpu_probe *probe;
    uint64_t rounds;        /* of one task */
    float *a, *b, *c;       /* of `size` floats */
    uint64_t size, share;   /* floats in all, and of one task */
    volatile float nothing; /* keeps the loops from being removed */
} probing;

static double now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

static void fma_task(void *user, uint32_t task, uint32_t thread) {
    probing *p = user;
    (void)thread;
    p->nothing = p->probe->fma(p->rounds, (float)task);
}

static void fill_task(void *user, uint32_t task, uint32_t thread) {
    probing *p = user;
    uint64_t first = task * p->share;
    (void)thread;
    for (uint64_t i = first; i < first + p->share; i++) {
        p->a[i] = 0.0f;
        p->b[i] = 1.0f;
        p->c[i] = 2.0f;
    }
}

static void triad_task(void *user, uint32_t task, uint32_t thread) {
    probing *p = user;
    uint64_t first = task * p->share;
    (void)thread;
    p->probe->triad(p->a + first, p->b + first, p->c + first, p->share);
}

static double run_ns(cpu_pool *pool, probing *p,
                     void (*fn)(void *user, uint32_t task, uint32_t thread)) {
    double start = now_ns();
    cpu_pool_run(pool, cpu_pool_threads(pool), fn, p);
    return now_ns() - start;
}

static double fma_rate(cpu_pool *pool, probing *p) {
    double best;
    for (p->rounds = 1024; (best = run_ns(pool, p, fma_task)) < RUN_NS;) {
        p->rounds *= 2;
    }
    for (uint32_t i = 1; i < REPEATS; i++) {
        double ns = run_ns(pool, p, fma_task);
        best = ns < best ? ns : best;
    }
    return 1e9 * (double)p->probe->flops * (double)p->rounds * cpu_pool_threads(pool) / best;
}

static double triad_rate(cpu_pool *pool, probing *p) {
    double best = run_ns(pool, p, triad_task);
    for (uint32_t i = 1; i < SWEEPS; i++) {
        double ns = run_ns(pool, p, triad_task);
        best = ns < best ? ns : best;
    }
    return 1e9 * 3.0 * sizeof(float) * (double)p->size / best;
}

/* Bytes of each of the three arrays, which together exceed the last cache by half if that takes no
 * more than 256 MiB each. */
static uint64_t array_bytes(void) {
    long cache = -1, pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
#ifdef _SC_LEVEL3_CACHE_SIZE
    cache = sysconf(_SC_LEVEL3_CACHE_SIZE);
#endif
    uint64_t bytes = cache > 0 ? (uint64_t)cache / 2u : 0;
    uint64_t limit = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 16u : 64u * MIB;
    bytes = bytes < 64u * MIB ? 64u * MIB : bytes > 256u * MIB ? 256u * MIB : bytes;
    return bytes < limit ? bytes : limit;
}

int32_t cpu_peaks(cpu_pool *pool, const cpu_probe *probe, const stn_host *host, stn_peaks *peaks,
                  stn_err *err) {
    uint32_t threads = cpu_pool_threads(pool);
    probing p = {.probe = probe};
    p.share = array_bytes() / sizeof(float) / threads / 16u * 16u;
    p.size = p.share * threads;
    p.a = host->alloc(p.size * sizeof(float), 64);
    p.b = host->alloc(p.size * sizeof(float), 64);
    p.c = host->alloc(p.size * sizeof(float), 64);
    int32_t status = STN_OK;
    if (p.a == NULL || p.b == NULL || p.c == NULL) {
        status = stn_fail(err, STN_E_NOMEM, "no memory for three arrays of %llu bytes",
                          (unsigned long long)(p.size * sizeof(float)));
    } else {
        peaks->flops = fma_rate(pool, &p);
        cpu_pool_run(pool, threads, fill_task, &p);
        peaks->bytes = triad_rate(pool, &p);
    }
    host->free(p.a);
    host->free(p.b);
    host->free(p.c);
    return status;
}
