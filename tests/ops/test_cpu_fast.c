/* Every vector kernel set against the scalar reference: the whole operator table, by memcmp, with
 * 1, 2 and 7 threads. The reference takes longest, so it computes a case once for all sets. A set
 * that this processor lacks is skipped by name. The reference is one of the sets: seven threads
 * give what two do.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>

#include "optest.h"

/* A sanitizer looks at accesses, which are alike for any number of threads. */
#if defined(__SANITIZE_ADDRESS__)
static const char *const threads[] = {"2"};
#else
static const char *const threads[] = {"1", "2", "7"};
#endif
#define N_THREADS (sizeof threads / sizeof threads[0])

/* A kernel set on devices of each number of threads. */
typedef struct kernel_set {
    const char *name;
    uint32_t first; /* of threads[] */
    bool here;
    uint32_t bad;
    optest_dev dev[N_THREADS];
} kernel_set;

static int32_t open_set(const char *set, const char *count, optest_dev *dev, stn_err *err) {
    static const stn_backend *backend;
    const char *options[] = {"threads", count, "cpu-kernels", set, NULL};
    char path[512];
    if (backend == NULL) {
        int32_t status = optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, err);
        cr_assert_eq(status, STN_OK, "%s", err->text);
    }
    return optest_open(backend, 0, options, dev, err);
}

static void open_threads(kernel_set *set) {
    stn_err err = {0};
    set->here = true;
    for (uint32_t t = set->first; set->here && t < N_THREADS; t++) {
        int32_t status = open_set(set->name, threads[t], &set->dev[t], &err);
        if (status == STN_E_NODEVICE) {
            printf("SKIP %s: not supported by this CPU\n", set->name);
            set->here = false;
            return;
        }
        cr_assert_eq(status, STN_OK, "%s", err.text);
    }
}

/* Counts the runs of a case that differ from `want`. */
static void compare(kernel_set *set, const optest_case *c, optest_operands *kept,
                    const optest_result *want) {
    for (uint32_t t = set->first; set->here && t < N_THREADS; t++) {
        optest_result got;
        stn_err err = {0};
        char text[256] = "";
        int32_t status = optest_run_again(&set->dev[t], c, kept, &got, &err);
        if (status != STN_OK || !optest_equal(c, want, &got, text)) {
            fprintf(stderr, "%s, %s threads, %s: %s\n", set->name, threads[t], c->name,
                    status != STN_OK ? err.text : text);
            set->bad++;
        }
        optest_free(&got);
    }
}

Test(cpu_fast, whole_table) {
    kernel_set sets[] = {{.name = "ref", .first = N_THREADS > 1 ? N_THREADS - 1 : N_THREADS},
                         {.name = "sse2"},
                         {.name = "portable"},
                         {.name = "avx2"},
                         {.name = "avx512"}};
    const uint32_t n_sets = sizeof sets / sizeof sets[0];
    optest_dev ref;
    stn_err err = {0};
    cr_assert_eq(open_set("ref", "2", &ref, &err), STN_OK, "%s", err.text);
    for (uint32_t s = 0; s < n_sets; s++) {
        open_threads(&sets[s]);
    }
    optest_filter all = {0};
    optest_operands kept = {0};
    uint32_t cases = 0;
    for (const optest_case *c = NULL; (c = optest_next(c, &all)) != NULL; cases++) {
        optest_result want;
        cr_assert_eq(optest_run_again(&ref, c, &kept, &want, &err), STN_OK, "%s: %s", c->name,
                     err.text);
        for (uint32_t s = 0; s < n_sets; s++) {
            compare(&sets[s], c, &kept, &want);
        }
        optest_free(&want);
    }
    free(kept.bytes);
    cr_assert_gt(cases, 4000, "only %u cases", cases);
    for (uint32_t s = 0; s < n_sets; s++) {
        cr_expect_eq(sets[s].bad, 0, "%s: %u of %u runs differ", sets[s].name, sets[s].bad,
                     cases * ((uint32_t)N_THREADS - sets[s].first));
        for (uint32_t t = sets[s].first; sets[s].here && t < N_THREADS; t++) {
            optest_close(&sets[s].dev[t]);
        }
    }
    optest_close(&ref);
}
