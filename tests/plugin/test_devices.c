/* Choice of devices, options of backends, and the search for data, with the test plugins. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <stn/stn.h>

#include "base/file.h"
#include "plugin/options.h"

#define BAD(name) STN_TEST_BINARY_DIR "/lib/badplugins/" name ".so"

static char scratch[] = "/tmp/stn-test-devices-XXXXXX";
static stn_ctx *ctx;

static void set_up(void) {
    static const char *const files[] = {BAD("good"), BAD("empty"), BAD("toy"), BAD("init_fails"),
                                        NULL};
    stn_open_options options = {.plugin_files = files};
    cr_assert(mkdtemp(scratch) != NULL);
    setenv("XDG_DATA_HOME", scratch, 1);
    unsetenv("STN_DATA_DIR");
    cr_assert_eq(stn_open(&options, &ctx, NULL), STN_OK);
}

static void tear_down(void) {
    char command[256];
    stn_close(ctx);
    snprintf(command, sizeof command, "rm -r %s", scratch);
    cr_assert(system(command) == 0);
}

TestSuite(devices, .init = set_up, .fini = tear_down);

Test(devices, lists_all_of_a_backend) {
    stn_device_entry entry[2];
    uint32_t n = 0;
    cr_assert_eq(stn_device_list(ctx, "good", entry, 2, &n, NULL), STN_OK);
    cr_expect_eq(n, 3);
    cr_expect_str_eq(entry[1].info.id, "acme:alpha:2");
    cr_expect_str_eq(entry[1].backend, "good");
    cr_expect_eq(entry[1].index, 1);
    cr_expect_eq(stn_device_list(ctx, "init_fails", entry, 2, &n, NULL), STN_E_PLUGIN);
    cr_expect_eq(stn_device_list(ctx, "empty", entry, 2, &n, NULL), STN_OK);
    cr_expect_eq(n, 0);
}

static void expect_opens(const char *selector, uint32_t index) {
    stn_dev *dev = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_dev_open(ctx, "good", selector, NULL, &dev, &err), STN_OK, "%s", err.text);
    cr_expect_eq(stn_dev_info(dev)->index, index, "%s", selector);
    cr_expect_str_eq(stn_dev_info(dev)->info.variant, "idle");
    cr_expect(stn_dev_handle(dev) != NULL && stn_dev_backend(dev) != NULL);
    stn_dev_close(dev);
}

static void expect_no_device(const char *backend, const char *selector, const char *part) {
    stn_dev *dev = NULL;
    stn_err err = {0};
    cr_expect_eq(stn_dev_open(ctx, backend, selector, NULL, &dev, &err), STN_E_NODEVICE);
    cr_expect_null(dev);
    cr_expect(strstr(err.text, part) != NULL, "%s", err.text);
}

Test(devices, selects_by_rank_index_id_and_part) {
    expect_opens(NULL, 1); /* the GPU with more memory */
    expect_opens("", 1);
    expect_opens("0", 0);
    expect_opens("good:2", 2);
    expect_opens("acme:alpha:1", 0);
    expect_opens("BETA", 2);
    expect_opens("alpha:2", 1);
}

Test(devices, lists_what_exists_when_nothing_fits) {
    expect_no_device("good", "alpha", "several devices; choose one of: good:0 Alpha GPU");
    expect_no_device("good", "7", "matches nothing; choose one of: good:0");
    expect_no_device("good", "gamma", "good:2 Beta CPU");
    expect_no_device("empty", NULL, "no device found; backends: empty (0 devices)");
    expect_no_device("nonesuch", NULL, "no backend plugin 'nonesuch'");
    stn_dev_close(NULL);
}

static int32_t open_with_option(const char *name, const char *value, stn_err *err) {
    stn_dev *dev = NULL;
    stn_options options = {sizeof options, 1, &name, &value};
    int32_t status = stn_dev_open(ctx, "good", NULL, &options, &dev, err);
    stn_dev_close(dev);
    return status;
}

Test(devices, checks_the_options_of_the_backend) {
    stn_err err = {0};
    cr_expect_eq(open_with_option("threads", "4", &err), STN_OK, "%s", err.text);
    cr_expect_eq(open_with_option("thread", "4", &err), STN_E_USAGE);
    cr_expect_str_eq(err.text, "backend 'good' has no option 'thread', did you mean 'threads'?");
    cr_expect_eq(open_with_option("threads", "0", &err), STN_E_USAGE);
    cr_expect_str_eq(err.text, "option 'threads' of backend 'good': 0 is out of range, allowed is "
                               "1..256");
    cr_expect_eq(open_with_option("speed", "fsat", &err), STN_E_USAGE);
    cr_expect(strstr(err.text, "did you mean 'fast'?") != NULL, "%s", err.text);
}

typedef struct value_case {
    const char *type, *range, *value;
    bool good;
} value_case;

Test(options, types_and_ranges) {
    static const value_case cases[] = {
        {"int", "1..256", "256", true},
        {"int", "1..256", "257", false},
        {"int", "0..", "-1", false},
        {"int", "..5", "5", true},
        {"int", NULL, "x", false},
        {"int", NULL, "1.5", false},
        {"int", NULL, "", false},
        {"int", "", "18446744073709551615", true},
        {"int", "", "18446744073709551616", false},
        {"float", "0..1", "0.5", true},
        {"float", "0..1", "1.5", false},
        {"float", "0..1", "nan", false},
        {"float", "", "1e-3", true},
        {"float", "", "0x10", false},
        {"float", "any number", "7", true},
        {"bool", "", "yes", true},
        {"bool", "", "maybe", false},
        {"string", "", "anything", true},
        {"choice:a,b", "", "b", true},
        {"choice:a,b", "", "c", false},
        {"choice:a,b", "", "", false},
        {"choice:a,b", "", "a,b", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stn_err err = {0};
        int32_t status =
            stn__value_check("--x", cases[i].type, cases[i].range, cases[i].value, &err);
        cr_expect_eq(status, cases[i].good ? STN_OK : STN_E_USAGE, "%s %s: %s", cases[i].type,
                     cases[i].value, err.text);
        cr_expect(cases[i].good || strncmp(err.text, "--x: ", 5) == 0, "%s", err.text);
    }
}

/* ---- data ---- */

static void make_file(const char *dir, const char *name) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", scratch, dir);
    cr_assert_eq(stn__dir_create(path, NULL), STN_OK);
    snprintf(path, sizeof path, "%s/%s/%s", scratch, dir, name);
    cr_assert_eq(stn__file_write(path, "x", 1, NULL), STN_OK);
}

static void expect_found(const char *data_dir, const char *want) {
    char dir[256] = "", given[256], wanted[256];
    stn_err err = {0};
    snprintf(given, sizeof given, "%s/%s", scratch, data_dir == NULL ? "" : data_dir);
    snprintf(wanted, sizeof wanted, "%s/%s", scratch, want);
    int32_t status =
        stn_data_find(ctx, "toy", data_dir == NULL ? NULL : given, dir, sizeof dir, &err);
    cr_expect_eq(status, STN_OK, "%s", err.text);
    cr_expect_str_eq(dir, wanted);
}

Test(devices, finds_data_in_the_order_of_places) {
    char dir[256], environment[256];
    stn_err err = {0};
    cr_expect_eq(stn_data_find(ctx, "toy", NULL, dir, sizeof dir, &err), STN_E_NOTFOUND);
    cr_expect(strstr(err.text, "/stn/data/toy-new, ") != NULL, "%s", err.text);
    cr_expect(strstr(err.text, "/nonexistent/stn-toy") != NULL, "%s", err.text);
    make_file("stn/data/toy", "f");
    expect_found(NULL, "stn/data/toy");
    make_file("env/toy", "f");
    snprintf(environment, sizeof environment, "%s/env", scratch);
    setenv("STN_DATA_DIR", environment, 1);
    expect_found(NULL, "env/toy");
    make_file("env/toy-new", "f"); /* the dataset's first choice */
    expect_found(NULL, "env/toy-new");
    make_file("own", "f"); /* the dataset's own directory, or one of several datasets */
    expect_found("own", "own");
    make_file("all/toy", "f");
    expect_found("all", "all/toy");
    make_file("wrong/other", "f");
    snprintf(environment, sizeof environment, "%s/wrong", scratch);
    /* A directory that the user names is not replaced by another place. */
    cr_expect_eq(stn_data_find(ctx, "toy", environment, dir, sizeof dir, &err), STN_E_NOTFOUND);
    cr_expect_eq(stn_data_find(ctx, "toy", NULL, dir, 4, &err), STN_E_USAGE);
    cr_expect_eq(stn_data_find(ctx, "toi", NULL, dir, sizeof dir, &err), STN_E_NOTFOUND);
    cr_expect(strstr(err.text, "did you mean 'toy'?") != NULL, "%s", err.text);
}
