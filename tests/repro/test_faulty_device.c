/* A device with one wrong rounding in one operator (tests/faulty) fails its self-test, which names
 * the operator, and that of every run that uses it. */
#include <criterion/criterion.h>
#include <string.h>

#include <stn/stn.h>

static stn_dev *open_faulty(stn_ctx **ctx) {
    const char *files[] = {STN_TEST_BINARY_DIR "/lib/faulty/stn_cpu_faulty.so", NULL};
    stn_open_options options = {.plugin_files = files};
    stn_dev *dev = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_open(&options, ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(*ctx, "cpu_faulty", NULL, NULL, &dev, &err), STN_OK, "%s", err.text);
    return dev;
}

Test(faulty_device, is_refused_and_the_operator_named) {
    stn_ctx *ctx = NULL;
    stn_err err = {0};
    stn_dev *dev = open_faulty(&ctx);
    cr_expect_eq(stn_dev_selftest(dev, NULL, NULL, &err), STN_E_MISMATCH);
    cr_expect(strstr(err.text, "warp") != NULL, "%s", err.text);
    stn_dev_close(dev);
    stn_close(ctx);
}

typedef struct parts {
    bool fused, order, conv, warp;
} parts;

static void note_part(void *user, const char *part, bool ok, const char *detail) {
    parts *p = user;
    (void)ok, (void)detail;
    p->fused = p->fused || strcmp(part, "linear (fused multiply-add)") == 0;
    p->order = p->order || strcmp(part, "bias_grad (order, 17 sums)") == 0;
    p->conv = p->conv || strncmp(part, "conv", 4) == 0;
    p->warp = p->warp || strncmp(part, "warp", 4) == 0;
}

/* The self-test of a run of this network, whether it finds the fault, and what it ran. */
static int32_t run_selftest(const char *network, parts *p, stn_err *err) {
    char text[128];
    stn_ctx *ctx = NULL;
    stn_config *config = NULL;
    stn_run *run = NULL;
    stn_dev *dev = open_faulty(&ctx);
    (void)snprintf(text, sizeof text,
                   "dataset = example\nmodel = example_stn\nnetwork = %s\nbatch = 20\n", network);
    cr_assert_eq(stn_config_new(ctx, &config, err), STN_OK, "%s", err->text);
    cr_assert_eq(stn_config_text(config, text, strlen(text), STN_FROM_FLAG, "test", err), STN_OK,
                 "%s", err->text);
    cr_assert_eq(stn_run_open(ctx, config, dev, NULL, &run, err), STN_OK, "%s", err->text);
    int32_t status = stn_run_selftest(run, note_part, p, err);
    cr_expect(stn_run_reproducible(run));
    stn_run_override(run);
    cr_expect(!stn_run_reproducible(run));
    stn_run_close(run);
    stn_config_free(config);
    stn_dev_close(dev);
    stn_close(ctx);
    return status;
}

/* A run is tested in the operators that it uses, no others, and in what all of them rest on. */
Test(faulty_device, is_refused_by_runs_that_use_the_operator) {
    parts with = {0}, without = {0};
    stn_err err = {0};
    cr_expect_eq(run_selftest("stn", &with, &err), STN_E_MISMATCH);
    cr_expect(strstr(err.text, "warp") != NULL, "%s", err.text);
    cr_expect(with.fused && with.order && with.conv && with.warp);
    cr_expect_eq(run_selftest("cnn", &without, &err), STN_OK, "%s", err.text);
    cr_expect(without.fused && without.order && without.conv && !without.warp);
}
