/* Thread pool of the CPU backend: one batch of tasks at a time.
 *
 * Every thread has a range of consecutive tasks, and helps the others when its own is done. Tasks
 * are images or pieces of a block of channels, so a thread meets the same part of a value in one
 * operator after another, in its own cache.
 *
 * The ticket of a range holds (generation << 32 | tasks not handed out yet). A thread takes a task
 * by decrementing it; whoever holds a task keeps the batch open, because the caller waits until
 * `unfinished` is zero, so fn, user and the ranges' ends are stable while they are read. The
 * generation keeps a slow worker from taking a task of a later batch with an old ticket. A worker
 * that oversleeps a batch delays nobody.
 *
 * Waiting is a short spin (kernels follow each other within microseconds) and then a condition
 * variable. A sleeper announces itself before its last look at the generation, and the other side
 * changes the generation before it looks for sleepers, both sequentially consistent, so no wake-up
 * is lost.
 */
#define _GNU_SOURCE
#include "cpu.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

/* About half a millisecond on current x86 (a pause is up to 140 cycles there): the last tasks of a
 * batch end some 0.2 ms apart, and who sleeps meanwhile is late for the next one. */
#define SPINS 10000

typedef struct worker {
    pthread_t id;
    cpu_pool *pool;
    uint32_t number;
} worker;

typedef struct task_range {
    _Atomic uint64_t ticket;
    uint32_t end;
    uint8_t apart[52]; /* no two tickets in one cache line */
} task_range;

struct cpu_pool {
    _Atomic uint32_t generation; /* counts the batches, once their ranges are set */
    _Atomic uint32_t unfinished; /* tasks of this batch not completed yet */
    _Atomic uint32_t sleepers;   /* workers waiting on `wake` */
    _Atomic uint32_t waiting;    /* 1 while the caller waits on `done` */
    _Atomic uint32_t quit;
    void (*fn)(void *user, uint32_t task, uint32_t thread);
    void *user;
    uint32_t threads, spins;
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    task_range *ranges; /* [threads] */
    worker *workers;    /* threads - 1 */
};

static void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ __volatile__("yield");
#endif
}

static uint32_t left_of(uint64_t ticket) {
    return (uint32_t)ticket;
}

static bool take(task_range *range, uint32_t *task) {
    uint64_t ticket = atomic_load(&range->ticket);
    while (left_of(ticket) != 0) {
        if (atomic_compare_exchange_weak(&range->ticket, &ticket, ticket - 1)) {
            *task = range->end - left_of(ticket);
            return true;
        }
    }
    return false;
}

/* Runs tasks until none is left, those of the thread's range first. */
static void work(cpu_pool *pool, uint32_t thread) {
    uint32_t task;
    for (uint32_t i = 0; i < pool->threads; i++) {
        while (take(&pool->ranges[(thread + i) % pool->threads], &task)) {
            pool->fn(pool->user, task, thread);
            if (atomic_fetch_sub(&pool->unfinished, 1) == 1 && atomic_load(&pool->waiting) != 0) {
                pthread_mutex_lock(&pool->lock);
                pthread_cond_signal(&pool->done);
                pthread_mutex_unlock(&pool->lock);
            }
        }
    }
}

static bool idle(cpu_pool *pool, uint32_t seen) {
    return atomic_load(&pool->generation) == seen && atomic_load(&pool->quit) == 0;
}

/* Until there is a batch after the `seen`-th. */
static void wait_for_work(cpu_pool *pool, uint32_t seen) {
    for (uint32_t i = 0; i < pool->spins && idle(pool, seen); i++) {
        relax();
    }
    if (!idle(pool, seen)) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (idle(pool, seen)) {
        pthread_cond_wait(&pool->wake, &pool->lock);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *user) {
    worker *self = user;
    cpu_pool *pool = self->pool;
    uint32_t seen = 0;
    while (atomic_load(&pool->quit) == 0) {
        wait_for_work(pool, seen);
        seen = atomic_load(&pool->generation);
        work(pool, self->number);
    }
    return NULL;
}

static void wait_for_workers(cpu_pool *pool) {
    for (uint32_t i = 0; i < pool->spins && atomic_load(&pool->unfinished) != 0; i++) {
        relax();
    }
    if (atomic_load(&pool->unfinished) == 0) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->waiting, 1);
    while (atomic_load(&pool->unfinished) != 0) {
        pthread_cond_wait(&pool->done, &pool->lock);
    }
    atomic_store(&pool->waiting, 0);
    pthread_mutex_unlock(&pool->lock);
}

static void wake_workers(cpu_pool *pool, uint32_t wanted) {
    uint32_t sleepers = atomic_load(&pool->sleepers);
    if (sleepers == 0) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    if (wanted >= sleepers) {
        pthread_cond_broadcast(&pool->wake);
    } else {
        for (uint32_t i = 0; i < wanted; i++) {
            pthread_cond_signal(&pool->wake);
        }
    }
    pthread_mutex_unlock(&pool->lock);
}

void cpu_pool_run(cpu_pool *pool, uint32_t tasks,
                  void (*fn)(void *user, uint32_t task, uint32_t thread), void *user) {
    if (pool->threads == 1 || tasks <= 1) {
        for (uint32_t i = 0; i < tasks; i++) {
            fn(user, i, 0);
        }
        return;
    }
    pool->fn = fn;
    pool->user = user;
    atomic_store(&pool->unfinished, tasks);
    const uint64_t generation = (uint64_t)atomic_load(&pool->generation) + 1;
    uint32_t first = 0;
    for (uint32_t i = 0; i < pool->threads; i++) {
        task_range *range = &pool->ranges[i];
        range->end = (uint32_t)((uint64_t)tasks * (i + 1) / pool->threads);
        atomic_store(&range->ticket, generation << 32 | (range->end - first));
        first = range->end;
    }
    atomic_store(&pool->generation, (uint32_t)generation);
    wake_workers(pool, tasks - 1);
    work(pool, 0);
    wait_for_workers(pool);
}

uint32_t cpu_pool_threads(const cpu_pool *pool) {
    return pool->threads;
}

void cpu_pool_free(cpu_pool *pool) {
    if (pool == NULL) {
        return;
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->quit, 1);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (uint32_t i = 0; i + 1 < pool->threads; i++) {
        pthread_join(pool->workers[i].id, NULL);
    }
    pthread_cond_destroy(&pool->wake);
    pthread_cond_destroy(&pool->done);
    pthread_mutex_destroy(&pool->lock);
    free(pool->workers);
    free(pool->ranges);
    free(pool);
}

/* Starts the workers; on failure `threads` is left at what runs, so that cpu_pool_free works. */
static int32_t start_workers(cpu_pool *pool, uint32_t threads, stn_err *err) {
    pool->threads = 1;
    for (uint32_t i = 0; i + 1 < threads; i++) {
        worker *w = &pool->workers[i];
        *w = (worker){.pool = pool, .number = i + 1};
        int status = pthread_create(&w->id, NULL, worker_main, w);
        if (status != 0) {
            (void)stn_fail(err, STN_E_FAIL,
                           "cannot start thread %u of %u of the CPU backend; use a smaller "
                           "--threads or raise the process limit",
                           i + 2, threads);
            if (err != NULL) {
                err->native = status;
            }
            return STN_E_FAIL;
        }
        pool->threads++;
    }
    return STN_OK;
}

int32_t cpu_pool_new(uint32_t threads, cpu_pool **out, stn_err *err) {
    *out = NULL;
    cpu_pool *pool = calloc(1, sizeof *pool);
    worker *workers = calloc(threads, sizeof *workers);
    task_range *ranges = calloc(threads, sizeof *ranges);
    if (pool == NULL || workers == NULL || ranges == NULL) {
        free(pool);
        free(workers);
        free(ranges);
        return stn_fail(err, STN_E_NOMEM, "no memory for the CPU backend's %u threads", threads);
    }
    pool->workers = workers;
    pool->ranges = ranges;
    /* Spinning only helps while every thread has a processor of its own. */
    pool->spins = (long)threads <= sysconf(_SC_NPROCESSORS_ONLN) ? SPINS : 0;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    int32_t status = start_workers(pool, threads, err);
    if (status != STN_OK) {
        cpu_pool_free(pool);
        return status;
    }
    *out = pool;
    return STN_OK;
}
