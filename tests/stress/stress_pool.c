/* The CPU backend's pool: every task of every batch runs exactly once, and its writes are seen by
 * the caller, with more threads than processors, batches of all sizes, and pauses in which the
 * workers fall asleep. */
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <time.h>

#include "cpu.h"
#include "stress.h"

enum { TASKS = 64 };

typedef struct job {
    uint32_t threads;
    uint32_t runs[TASKS];   /* how often a task ran */
    uint32_t by_thread[16]; /* plain counters: one thread number never runs twice at a time */
} job;

static void task(void *user, uint32_t number, uint32_t thread) {
    job *j = user;
    REQUIRE(number < TASKS && thread < j->threads);
    j->runs[number]++;
    j->by_thread[thread]++;
}

static void check_batch(cpu_pool *pool, uint32_t tasks) {
    job j = {.threads = cpu_pool_threads(pool)};
    uint32_t total = 0;
    cpu_pool_run(pool, tasks, task, &j);
    for (uint32_t i = 0; i < TASKS; i++) {
        REQUIRE(j.runs[i] == (i < tasks ? 1u : 0u));
    }
    for (uint32_t i = 0; i < 16; i++) {
        total += j.by_thread[i];
    }
    REQUIRE(total == tasks);
}

int main(void) {
    static const uint32_t sizes[] = {1, 2, 7, 16};
    const struct timespec pause = {.tv_nsec = 2000000};
    uint32_t state = 1;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        for (uint32_t again = 0; again < 3; again++) {
            cpu_pool *pool = NULL;
            REQUIRE_OK(cpu_pool_new(sizes[s], &pool, err));
            for (uint32_t batch = 0; batch < 1000; batch++) {
                state = state * 1664525u + 1013904223u;
                check_batch(pool, (state >> 8) % (TASKS + 1));
                if ((state >> 20) % 64 == 0) {
                    (void)nanosleep(&pause, NULL);
                }
            }
            cpu_pool_free(pool); /* also of a pool that has never run, below */
        }
        cpu_pool *unused = NULL;
        REQUIRE_OK(cpu_pool_new(sizes[s], &unused, err));
        cpu_pool_free(unused);
    }
    return 0;
}
