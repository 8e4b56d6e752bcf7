/* Every case of the operator table on the OpenCL backend, both kernel classes, against the scalar
 * reference, element by element.
 *
 * The OpenCL stack is the one the environment shows (OCL_ICD_VENDORS); a machine without a device
 * fails. STN_TEST_TINY=1 keeps to the tiny cases (slow simulators), STN_TEST_TINY=table does so
 * where the whole table is run, but not in the samples of kernels compiled for a shape or a larger
 * device.
 */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "optest.h"

static optest_dev open_backend(const char *name, const char *const *options) {
    const stn_backend *backend = NULL;
    optest_dev dev;
    stn_err err = {0};
    char path[512];
    cr_assert_eq(optest_load(optest_plugin_path(name, path, sizeof path), &backend, &err), STN_OK,
                 "%s", err.text);
    uint32_t count = 0;
    cr_assert_eq(backend->device_count(&count, &err), STN_OK);
    cr_assert_gt(count, 0, "%s: no device", name);
    cr_assert_eq(optest_open(backend, 0, options, &dev, &err), STN_OK, "%s", err.text);
    return dev;
}

static bool required(const optest_case *c) {
    return c->layout == OPTEST_NCHW;
}

/* Every shape of a vector kernel is a compilation: one shape in `stride` is taken, all images with
 * a background and all rows of several tiles; cases that differ in data only stay together. */
static bool sampled(const optest_case *c, uint32_t stride) {
    uint32_t hash = 2166136261u;
    const char *end = strrchr(c->name, ' ');
    if (strstr(c->name, "_scene") != NULL || strstr(c->name, "_tiles") != NULL) {
        return true;
    }
    for (const char *p = c->name; *p != '\0' && p != end; p++) {
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    }
    return (hash >> 8) % stride == 0;
}

static bool convolves(uint32_t op) {
    return (op >= STN_OP_CONV && op <= STN_OP_LINEAR_GRAD_W) || op >= STN_OP_CONV_BLOCK;
}

/* Runs all cases; an unsupported one may only be in a private layout. vectors: 0 = all cases with
 * the general kernels where the work is small, n = one shape in n of the convolutions, all with
 * kernels compiled for the shape. max_group: the largest work-group allowed, 0 any. units: how many
 * compute units the device is said to have, "0": as it has. */
static void all_cases(const char *device_class, uint32_t vectors, const char *max_group,
                      const char *units) {
    const char *const ref_options[] = {"cpu-kernels", "ref", "threads", "2", NULL};
    const char *const ocl_options[] = {"device-class",
                                       device_class,
                                       "min-work",
                                       vectors != 0 ? "0" : "1000000",
                                       "max-group",
                                       max_group,
                                       "compute-units",
                                       units,
                                       NULL};
    optest_dev ref = open_backend("cpu", ref_options), ocl = open_backend("opencl", ocl_options);
    const char *tiny = getenv("STN_TEST_TINY");
    optest_filter filter = {.tiny =
                                tiny != NULL && (*tiny == '1' || (*tiny == 't' && vectors == 0))};
    uint32_t run = 0, refused = 0, wrong = 0;
    for (const optest_case *c = optest_next(NULL, &filter); c != NULL;
         c = optest_next(c, &filter)) {
        optest_result a, b;
        stn_err err = {0};
        if (vectors != 0 && (!convolves(c->op) || !sampled(c, vectors))) {
            continue;
        }
        char text[256];
        int32_t status = optest_run(&ocl, c, &b, &err);
        if (status == STN_E_UNSUPPORTED && !required(c)) {
            refused++;
            continue;
        }
        run++;
        if (status != STN_OK) {
            fprintf(stderr, "%s: %s\n", c->name, err.text);
            wrong++;
            continue;
        }
        cr_assert_eq(optest_run(&ref, c, &a, &err), STN_OK, "%s: %s", c->name, err.text);
        if (!optest_equal(c, &a, &b, text)) {
            fprintf(stderr, "%s: %s\n", c->name, text);
            wrong++;
        }
        optest_free(&a);
        optest_free(&b);
    }
    fprintf(stderr, "%s: %u cases run, %u not offered, %u wrong\n", device_class, run, refused,
            wrong);
    optest_close(&ref);
    optest_close(&ocl);
    cr_assert_gt(run, 0);
    cr_assert_eq(wrong, 0, "%u of %u cases differ from the reference", wrong, run);
}

Test(opencl, cpu_vector, .timeout = 1800) {
    all_cases("cpu-vector", 0, "0", "0");
}

Test(opencl, gpu, .timeout = 1800) {
    all_cases("gpu", 0, "0", "0");
}

/* A device whose work-groups are too small for the tiles takes the general kernels. */
Test(opencl, gpu_small_groups, .timeout = 1800) {
    all_cases("gpu", 0, "64", "0");
}

/* STN_TEST_ALL=1: every shape (many minutes of compiling). */
static uint32_t one_in(uint32_t shapes) {
    const char *all = getenv("STN_TEST_ALL");
    return all != NULL && *all == '1' ? 1 : shapes;
}

/* Tiles between the smallest and the largest, and kernels compiled for a shape. */
Test(opencl, gpu_more_units, .timeout = 7200) {
    all_cases("gpu", one_in(4), "0", "24");
}

Test(opencl, vector_kernels, .timeout = 7200) {
    all_cases("cpu-vector", one_in(16), "0", "0");
}
