/* The device self-test passes on the CPU backend in every configuration and names what it ran. */
#include <criterion/criterion.h>

#include <string.h>

#include <stn/stn.h>

#include "base/hash.h"
#include "train/selftest.h"

typedef struct tally {
    uint32_t parts, bad;
    bool all;
} tally;

static void count(void *user, const char *part, bool ok, const char *detail) {
    tally *t = user;
    t->parts++;
    t->bad += !ok;
    t->all = t->all || strcmp(part, "all") == 0;
    if (!ok) {
        fprintf(stderr, "%s: %s\n", part, detail);
    }
}

static void passes(const char *kernels, const char *threads) {
    const char *names[] = {"cpu-kernels", "threads"}, *values[] = {kernels, threads};
    stn_options options = {sizeof options, 2, names, values};
    stn_open_options open = {.plugin_path = STN_TEST_PLUGIN_DIR};
    stn_ctx *ctx;
    stn_dev *dev;
    stn_err err = {0};
    tally t = {0, 0, false};
    cr_assert_eq(stn_open(&open, &ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(ctx, "cpu", NULL, &options, &dev, &err), STN_OK, "%s", err.text);
    cr_expect_eq(stn_dev_selftest(dev, count, &t, &err), STN_OK, "%s: %s", kernels, err.text);
    cr_expect_eq(t.bad, 0);
    cr_expect(t.all);
    cr_expect_geq(t.parts, stn__n_probes, "%u parts", t.parts);
    cr_expect_eq(stn_dev_selftest(dev, NULL, NULL, &err), STN_OK, "%s: %s", kernels, err.text);
    stn_dev_close(dev);
    stn_close(ctx);
}

Test(selftest, reference) {
    passes("ref", "1");
}

Test(selftest, fastest) {
    passes("auto", "1");
    passes("auto", "2");
    passes("auto", "7");
}

/* Every operator has a probe. */
Test(selftest, covers_all_operators) {
    for (uint32_t i = 0; i < stn_op_count(); i++) {
        uint32_t probes = 0;
        for (uint32_t k = 0; k < stn__n_probes; k++) {
            probes += stn__probes[k].op == stn_op_get(i)->number;
        }
        cr_expect_gt(probes, 0, "no probe of %s", stn_op_get(i)->name);
    }
}

/* Fused, 1*c + a*a is 2^-24; with a rounded product it is 0, which has another hash. */
Test(selftest, first_probe_tells_fused_from_unfused) {
    float fused = 0x1p-24f, unfused = 0.0f;
    char hex[STN__SHA256_HEX];
    cr_assert_eq(stn__sha256_of(&fused, 4, hex, NULL), STN_OK);
    cr_assert_eq(strncmp(hex, stn__probes[0].expect, 16), 0);
    cr_assert_eq(stn__sha256_of(&unfused, 4, hex, NULL), STN_OK);
    cr_assert_neq(strncmp(hex, stn__probes[0].expect, 16), 0);
}
