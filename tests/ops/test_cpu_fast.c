/* Every vector kernel set against the scalar reference: the whole operator table, by memcmp, with
 * 1, 2 and 7 threads. A set that this processor lacks is skipped by name.
 */
#include <criterion/criterion.h>

#include <stdio.h>

#include "optest.h"

/* A sanitizer looks at accesses, which are alike for any number of threads. */
#if defined(__SANITIZE_ADDRESS__)
static const char *const threads[] = {"2"};
#else
static const char *const threads[] = {"1", "2", "7"};
#endif
#define N_THREADS (sizeof threads / sizeof threads[0])

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

/* One case on the reference and on all thread counts of the set; returns how many differ. */
static uint32_t differing(optest_dev *ref, optest_dev *dev, const char *set, const optest_case *c) {
    optest_result want, got;
    stn_err err = {0};
    char text[256] = "";
    uint32_t bad = 0;
    cr_assert_eq(optest_run(ref, c, &want, &err), STN_OK, "%s: %s", c->name, err.text);
    for (uint32_t t = 0; t < N_THREADS; t++) {
        int32_t status = optest_run(&dev[t], c, &got, &err);
        if (status != STN_OK || !optest_equal(c, &want, &got, text)) {
            fprintf(stderr, "%s, %s threads, %s: %s\n", set, threads[t], c->name,
                    status != STN_OK ? err.text : text);
            bad++;
        }
        optest_free(&got);
    }
    optest_free(&want);
    return bad;
}

static void whole_table(const char *set) {
    optest_dev ref, dev[N_THREADS];
    stn_err err = {0};
    cr_assert_eq(open_set("ref", "2", &ref, &err), STN_OK, "%s", err.text);
    for (uint32_t t = 0; t < N_THREADS; t++) {
        int32_t status = open_set(set, threads[t], &dev[t], &err);
        if (status == STN_E_NODEVICE) {
            printf("SKIP %s: not supported by this CPU\n", set);
            optest_close(&ref);
            cr_skip_test("%s: not supported by this CPU", set);
        }
        cr_assert_eq(status, STN_OK, "%s", err.text);
    }
    optest_filter all = {0};
    uint32_t bad = 0, cases = 0;
    for (const optest_case *c = NULL; (c = optest_next(c, &all)) != NULL; cases++) {
        bad += differing(&ref, dev, set, c);
    }
    cr_assert_gt(cases, 4000, "only %u cases", cases);
    cr_assert_eq(bad, 0, "%s: %u of %u runs differ", set, bad, cases * (uint32_t)N_THREADS);
    optest_close(&ref);
    for (uint32_t t = 0; t < N_THREADS; t++) {
        optest_close(&dev[t]);
    }
}

Test(cpu_fast, sse2) {
    whole_table("sse2");
}

Test(cpu_fast, portable) {
    whole_table("portable");
}

Test(cpu_fast, avx2) {
    whole_table("avx2");
}

Test(cpu_fast, avx512) {
    whole_table("avx512");
}
