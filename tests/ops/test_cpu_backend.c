/* The CPU backend's own entries: options, device facts, memory, sticky stream errors. */
#include <criterion/criterion.h>

#include <ctype.h>
#include <string.h>

#include "optest.h"

static const stn_backend *load(void) {
    static const stn_backend *backend;
    char path[512];
    stn_err err = {0};
    if (backend == NULL) {
        cr_assert_eq(optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, &err),
                     STN_OK, "%s", err.text);
    }
    return backend;
}

static int32_t try_open(const char *name, const char *value, stn_err *err) {
    const char *options[] = {name, value, NULL};
    optest_dev dev;
    int32_t status = optest_open(load(), 0, options, &dev, err);
    if (status == STN_OK) {
        optest_close(&dev);
    }
    return status;
}

Test(cpu_backend, options) {
    static const char *const bad_threads[] = {"",   "-1",   "two",
                                              "3x", "1025", "99999999999999999999"};
    stn_err err = {0};
    for (uint32_t i = 0; i < 6; i++) {
        cr_expect_eq(try_open("threads", bad_threads[i], &err), STN_E_USAGE, "\"%s\"",
                     bad_threads[i]);
    }
    cr_expect_eq(try_open("threads", "0", &err), STN_OK, "%s", err.text);
    cr_expect_eq(try_open("threads", "9", &err), STN_OK, "%s", err.text);
    cr_expect_eq(try_open("cpu-kernels", "mmx", &err), STN_E_NODEVICE);
    cr_expect_not_null(strstr(err.text, "mmx"), "%s", err.text);
    cr_expect_eq(try_open("cpu-kernels", "auto", &err), STN_OK, "%s", err.text);
}

Test(cpu_backend, device_facts) {
    const stn_backend *b = load();
    stn_device_info info = {.struct_size = sizeof info};
    stn_err err = {0};
    uint32_t count = 0;
    cr_assert_eq(b->device_count(&count, &err), STN_OK);
    cr_assert_eq(count, 1);
    cr_assert_eq(b->device_info(0, &info, &err), STN_OK);
    cr_expect_eq(info.is_cpu, 1);
    cr_expect_eq(info.layout, STN_NC16);
    cr_expect_gt(info.memory, 0);
    cr_expect_gt(strlen(info.name), 0);
    cr_expect_not_null(strchr(info.id, ':'));
    for (const char *p = info.id; *p != '\0'; p++) {
        cr_expect(!isspace((unsigned char)*p) && !isupper((unsigned char)*p), "%s", info.id);
    }
    cr_expect_eq(b->device_info(1, &info, &err), STN_E_NODEVICE);
    /* A caller with an older, shorter struct keeps what lies behind it. */
    memset(&info, 0xAA, sizeof info);
    info.struct_size = offsetof(stn_device_info, name);
    cr_assert_eq(b->device_info(0, &info, &err), STN_OK);
    cr_expect_eq(info.struct_size, offsetof(stn_device_info, name));
    cr_expect_eq((unsigned char)info.name[0], 0xAA);
}

Test(cpu_backend, reference_prefers_rows) {
    const char *options[] = {"cpu-kernels", "ref", "threads", "3", NULL};
    stn_device_info info = {.struct_size = sizeof info};
    optest_dev dev;
    stn_err err = {0};
    cr_assert_eq(optest_open(load(), 0, options, &dev, &err), STN_OK, "%s", err.text);
    cr_assert_eq(dev.backend->device_query(dev.device, &info, &err), STN_OK);
    cr_expect_eq(info.layout, STN_NCHW);
    cr_expect_str_eq(info.variant, "ref");
    cr_expect_eq(info.compute_units, 3);
    optest_close(&dev);
}

Test(cpu_backend, memory_and_sticky_errors) {
    const stn_backend *b = load();
    optest_dev dev;
    stn_buf *buf = NULL;
    stn_err err = {0};
    uint32_t word = 0, words[64];
    cr_assert_eq(optest_open(b, 0, NULL, &dev, &err), STN_OK, "%s", err.text);
    cr_assert_eq(b->buf_alloc(dev.device, UINT64_MAX / 2, &buf, &err), STN_E_NOMEM);
    cr_assert_null(buf);
    cr_assert_eq(b->buf_alloc(dev.device, 512, &buf, &err), STN_OK, "%s", err.text);
    cr_assert_eq(b->fill(dev.stream, (stn_ref){buf, 0}, 0x01020304, 512, &err), STN_OK);
    cr_assert_eq(b->copy(dev.stream, (stn_ref){buf, 256}, (stn_ref){buf, 0}, 256, &err), STN_OK);
    cr_assert_eq(b->read(dev.stream, words, (stn_ref){buf, 256}, 256, &err), STN_OK);
    cr_assert_eq(words[63], 0x01020304);
    cr_assert_eq(b->sync(dev.stream, &err), STN_OK);
    /* Out of range: refused, and so is everything after it. */
    cr_assert_eq(b->write(dev.stream, (stn_ref){buf, 512}, &word, 4, &err), STN_E_FAIL);
    cr_assert_eq(b->read(dev.stream, &word, (stn_ref){buf, 0}, 4, &err), STN_E_FAIL);
    cr_assert_eq(word, 0);
    cr_assert_eq(b->sync(dev.stream, &err), STN_E_FAIL);
    cr_assert_not_null(strstr(err.text, "do not fit"), "%s", err.text);
    b->buf_free(buf);
    b->buf_free(NULL);
    optest_close(&dev);
}

Test(cpu_backend, unknown_operators_and_newer_parameters) {
    struct {
        stn_act_params known;
        uint32_t more;
    } newer = {{sizeof newer, 0.0f}, 1};
    const stn_backend *b = load();
    optest_dev dev;
    stn_err err = {0};
    stn_tensor t = {STN_F32, STN_NCHW, 2, {1, 4, 1, 1}};
    stn_op_desc desc = {sizeof desc, STN_OP_ACT, 1, 1, &newer, &t, &t};
    stn_support support = {.struct_size = sizeof support, .level = 9};
    stn_kernel *kernel;
    cr_assert_eq(optest_open(b, 0, NULL, &dev, &err), STN_OK, "%s", err.text);
    cr_assert_eq(b->op_query(dev.device, &desc, &support, &err), STN_OK);
    cr_expect_eq(support.level, 0);
    newer.more = 0;
    cr_assert_eq(b->op_query(dev.device, &desc, &support, &err), STN_OK);
    cr_expect_eq(support.level, 1);
    cr_expect_eq(support.exact, 1);
    desc.op = 9999;
    cr_assert_eq(b->op_query(dev.device, &desc, &support, &err), STN_OK);
    cr_expect_eq(support.level, 0);
    cr_expect_eq(b->op_prepare(dev.device, &desc, &kernel, &err), STN_E_UNSUPPORTED);
    optest_close(&dev);
}

/* Every set has loops to measure, a caller's shorter struct is respected. */
Test(cpu_backend, peaks) {
    static const char *const sets[] = {"ref", "portable", "auto"};
    stn_err err = {0};
    for (uint32_t i = 0; i < 3; i++) {
        const char *options[] = {"cpu-kernels", sets[i], "threads", "2", NULL};
        optest_dev dev;
        stn_peaks peaks = {.struct_size = sizeof peaks};
        cr_assert_eq(optest_open(load(), 0, options, &dev, &err), STN_OK, "%s", err.text);
        cr_assert_eq(dev.backend->peaks(dev.device, &peaks, &err), STN_OK, "%s", err.text);
        cr_expect_eq(peaks.struct_size, sizeof peaks);
        cr_expect(peaks.flops > 0.0 && peaks.bytes > 0.0, "%s: %g, %g", sets[i], peaks.flops,
                  peaks.bytes);
        peaks = (stn_peaks){.struct_size = offsetof(stn_peaks, bytes), .bytes = -1.0};
        cr_assert_eq(dev.backend->peaks(dev.device, &peaks, &err), STN_OK, "%s", err.text);
        cr_expect(peaks.flops > 0.0 && peaks.bytes < 0.0);
        optest_close(&dev);
    }
}
