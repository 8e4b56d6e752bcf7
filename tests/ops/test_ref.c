/* The reference against itself: guards hold, threads do not matter, layouts do not matter. */
#include <criterion/criterion.h>

#include "optest.h"

static const stn_backend *backend;

static optest_dev open_ref(const char *threads) {
    const char *options[] = {"threads", threads, "cpu-kernels", "ref", NULL};
    char path[512];
    stn_err err = {0};
    optest_dev dev;
    if (backend == NULL) {
        cr_assert_eq(optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, &err),
                     STN_OK, "%s", err.text);
    }
    cr_assert_eq(optest_open(backend, 0, options, &dev, &err), STN_OK, "%s", err.text);
    return dev;
}

Test(ref, guards_and_threads) {
    optest_dev one = open_ref("1"), two = open_ref("2"), seven = open_ref("7");
    optest_filter all = {0};
    uint32_t n = 0;
    for (const optest_case *c = NULL; (c = optest_next(c, &all)) != NULL; n++) {
        optest_result a, b, d;
        stn_err err = {0};
        char text[256] = "";
        cr_assert_eq(optest_run(&one, c, &a, &err), STN_OK, "%s: %s", c->name, err.text);
        cr_assert_eq(optest_run(&two, c, &b, &err), STN_OK, "%s: %s", c->name, err.text);
        cr_assert_eq(optest_run(&seven, c, &d, &err), STN_OK, "%s: %s", c->name, err.text);
        cr_assert(optest_equal(c, &a, &b, text), "%s, 2 threads: %s", c->name, text);
        cr_assert(optest_equal(c, &a, &d, text), "%s, 7 threads: %s", c->name, text);
        optest_free(&a);
        optest_free(&b);
        optest_free(&d);
    }
    cr_assert_gt(n, 4000, "only %u cases", n);
    optest_close(&one);
    optest_close(&two);
    optest_close(&seven);
}
