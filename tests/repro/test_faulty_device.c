/* A device with one wrong rounding in one operator (tests/faulty) fails its self-test, which names
 * the operator. */
#include <criterion/criterion.h>
#include <string.h>

#include <stn/stn.h>

Test(faulty_device, is_refused_and_the_operator_named) {
    const char *files[] = {STN_TEST_BINARY_DIR "/lib/faulty/stn_cpu_faulty.so", NULL};
    stn_open_options options = {.plugin_files = files};
    stn_ctx *ctx = NULL;
    stn_dev *dev = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_open(&options, &ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(ctx, "cpu_faulty", NULL, NULL, &dev, &err), STN_OK, "%s", err.text);
    cr_expect_eq(stn_dev_selftest(dev, NULL, NULL, &err), STN_E_MISMATCH);
    cr_expect(strstr(err.text, "warp") != NULL, "%s", err.text);
    stn_dev_close(dev);
    stn_close(ctx);
}
