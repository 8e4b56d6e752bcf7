/* Configs: strict values, authority of origins, recipes, plugin options, identity, schedules. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stn/stn.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "train/config.h"
#include "train/schedule.h"

static stn_config *config;
static stn_err err;
static char dir[200];

static void set_up(void) {
    (void)snprintf(dir, sizeof dir, "%s/config-%ld", STN_TEST_BINARY_DIR, (long)getpid());
    (void)mkdir(dir, 0777);
    (void)setenv("XDG_CONFIG_HOME", dir, 1);
    cr_assert_eq(stn_config_new(NULL, &config, &err), STN_OK, "%s", err.text);
}

static void tear_down(void) {
    char command[256];
    stn__alloc_fail_after(-1);
    stn_config_free(config);
    (void)snprintf(command, sizeof command, "rm -r '%s'", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(config, .init = set_up, .fini = tear_down);

static int32_t flag(const char *key, const char *value) {
    err.text[0] = '\0';
    return stn_config_set(config, key, value, STN_FROM_FLAG, NULL, &err);
}

static int32_t recipe_text(const char *text) {
    err.text[0] = '\0';
    return stn_config_text(config, text, strlen(text), STN_FROM_RECIPE, "my.recipe", &err);
}

static void write_file(const char *name, const char *text) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    cr_assert_eq(stn__file_write(path, text, strlen(text), &err), STN_OK, "%s", err.text);
}

#define EXPECT_ERROR(call, code, part)                                                             \
    do {                                                                                           \
        int32_t status_ = (call);                                                                  \
        cr_assert_eq(status_, (code), "%s gave %d: %s", #call, status_, err.text);                 \
        cr_assert(strstr(err.text, (part)) != NULL, "%s", err.text);                               \
        cr_assert(strchr(err.text, '\n') == NULL, "%s", err.text);                                 \
    } while (0)

Test(config, flag_table_is_sound) {
    for (uint32_t i = 0; i < stn_key_count(); i++) {
        const stn_key_info *key = stn_key_get(i);
        cr_assert(key->help[0] != '\0' && stn__key_find(key->name) == key, "%s", key->name);
        cr_assert_eq(key->name[strspn(key->name, "abcdefghijklmnopqrstuvwxyz0123456789-")], '\0');
        const char *value = stn_config_get(config, key->name);
        if (key->def == NULL) {
            cr_assert_null(value);
        } else if (strcmp(key->type, "float") != 0) {
            cr_assert_str_eq(value, key->def);
        }
    }
    cr_assert_null(stn_key_get(stn_key_count()));
    cr_assert_float_eq(stn_config_real(config, "lr"), 0.01, 0);
    cr_assert_eq(stn_config_int(config, "batch"), 256);
    cr_assert_not(stn_config_bool(config, "nesterov"));
    cr_assert_eq(stn_config_int(config, "no such key"), 0);
    cr_assert_eq(stn_config_check(config, &err), STN_OK, "%s", err.text);
}

Test(config, values_are_strict) {
    static const struct {
        const char *key, *value, *text;
    } cases[] = {
        {"lr", "abc", "--lr: 'abc' is not a number"},
        {"lr", "", "--lr: '' is not a number"},
        {"lr", "0.1x", "not a number"},
        {"lr", " 0.1", "not a number"},
        {"lr", "nan", "not a number"},
        {"lr", "inf", "not a number"},
        {"lr", "0,1", "not a number"},
        {"lr", "-1", "--lr: -1 is out of range, allowed is 0..1000"},
        {"batch", "0", "out of range"},
        {"batch", "65537", "out of range"},
        {"batch", "1e3", "not a whole number"},
        {"batch", "99999999999999999999999", "not a whole number"},
        {"steps", "0", "out of range"},
        {"seed", "-1", "out of range"},
        {"shards", "12", "--shards: 12 is not a power of two"},
        {"nesterov", "maybe", "not true or false"},
        {"optimizer", "adamx", "did you mean 'adam'"},
        {"optimizer", "lbfgs", "choose one of sgd,adam,adamw"},
        {"lr-steps", "10,5", "--lr-steps: '10,5' is not a list of numbers"},
        {"lr-steps", "10,,20", "not a list"},
        {"lr-steps", "", "not a list"},
        {"lr-steps", "0", "not a list"},
        {"lr-steps",
         "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,"
         "29,30,31,32,33",
         "not a list"},
        {"out", "a\nb", "--out: the value holds a control character"},
        {"out", "a #b", "begin a comment"},
        {"out", " a", "blank"},
        {"lrr", "1", "--lrr: unknown setting 'lrr', did you mean 'lr'?"},
        {"quantum-flux", "1", "unknown setting 'quantum-flux'"},
        {"dataset.", "1", "unknown setting"},
        {"dataset.A b", "1", "unknown setting"},
        {"sky.color", "1", "unknown setting"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        EXPECT_ERROR(flag(cases[i].key, cases[i].value), STN_E_USAGE, cases[i].text);
    }
    cr_assert_float_eq(stn_config_real(config, "lr"), 0.01, 0, "a refused value must not stay");
}

Test(config, values_are_canonical) {
    static const struct {
        const char *key, *value, *canonical;
    } cases[] = {
        {"lr", "1e-2", "0.01"},
        {"lr", "0.10000000000000001", "0.1"},
        {"lr", "-0", "0"},
        {"weight-decay", "5e-4", "0.0005"},
        {"eps", "0.00000001", "1e-08"},
        {"batch", "+0064", "64"},
        {"seed", "18446744073709551615", "18446744073709551615"},
        {"nesterov", "yes", "true"},
        {"lr-steps", "010,20", "10,20"},
        {"data-dir", "/data/with blank", "/data/with blank"},
        {"device", "", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        cr_assert_eq(flag(cases[i].key, cases[i].value), STN_OK, "%s", err.text);
        cr_assert_str_eq(stn_config_get(config, cases[i].key), cases[i].canonical);
    }
    cr_assert_eq((uint64_t)stn_config_int(config, "seed"), UINT64_MAX);
}

Test(config, sizes) {
    static const struct {
        const char *given, *kept;
        int64_t bytes;
    } good[] = {{"0", "0", 0},          {"512M", "512M", 1 << 29},  {"1024K", "1M", 1 << 20},
                {"1536", "1536", 1536}, {"2048", "2K", 2048},       {"1T", "1T", INT64_C(1) << 40},
                {"0G", "0", 0},         {"1025K", "1025K", 1049600}};
    static const char *const bad[] = {"", "M", "1.5G", "-1", "1Q", "1m", "1 M", "8388608T", "1MM"};
    for (uint32_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert_eq(flag("mem-limit", good[i].given), STN_OK, "%s: %s", good[i].given, err.text);
        cr_assert_str_eq(stn_config_get(config, "mem-limit"), good[i].kept);
        cr_assert_eq(stn_config_int(config, "mem-limit"), good[i].bytes, "%s", good[i].given);
    }
    for (uint32_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        EXPECT_ERROR(flag("mem-limit", bad[i]), STN_E_USAGE, "is not a size such as 512M");
    }
    cr_assert(strstr(stn_config_identity(config), "mem-limit") == NULL);
}

Test(config, numbers_do_not_follow_the_locale) {
    if (setlocale(LC_NUMERIC, "de_DE.UTF-8") == NULL) {
        (void)setlocale(LC_NUMERIC, "C");
    }
    cr_assert_eq(flag("lr", "0.25"), STN_OK, "%s", err.text);
    cr_assert_str_eq(stn_config_get(config, "lr"), "0.25");
}

/* Every pair of origins, in both orders: the stronger wins, and of equals the later. */
Test(config, authority) {
    for (uint32_t first = STN_FROM_SYSTEM; first <= STN_FROM_FLAG; first++) {
        for (uint32_t second = STN_FROM_SYSTEM; second <= STN_FROM_FLAG; second++) {
            stn_config *c;
            char value[32];
            cr_assert_eq(stn_config_new(NULL, &c, &err), STN_OK);
            (void)snprintf(value, sizeof value, "%u", 10 + first);
            cr_assert_eq(stn_config_set(c, "batch", value, first, "first", &err), STN_OK);
            (void)snprintf(value, sizeof value, "%u", 20 + second);
            cr_assert_eq(stn_config_set(c, "batch", value, second, "second", &err), STN_OK);
            uint32_t want = second >= first ? 20 + second : 10 + first;
            cr_assert_eq(stn_config_int(c, "batch"), want, "%u then %u", first, second);
            for (uint32_t i = 0; i < stn_config_count(c); i++) {
                stn_config_item item;
                cr_assert_eq(stn_config_item_at(c, i, &item), STN_OK);
                if (strcmp(item.key, "batch") == 0) {
                    cr_assert_eq(item.origin, second >= first ? second : first);
                    cr_assert_str_eq(item.where, second >= first ? "second" : "first");
                } else {
                    cr_assert_eq(item.origin, STN_FROM_DEFAULT);
                    cr_assert_str_eq(item.where, "default");
                }
            }
            stn_config_free(c);
        }
    }
    /* A weaker origin is checked all the same. */
    cr_assert_eq(flag("batch", "8"), STN_OK);
    EXPECT_ERROR(recipe_text("batch = many"), STN_E_USAGE, "my.recipe:1: batch: 'many'");
}

Test(config, environment) {
    (void)setenv("STN_LR_STEPS", "5,6", 1);
    (void)setenv("STN_BATCH", "", 1);
    (void)setenv("STN_NO_SUCH_KEY", "1", 1);
    cr_assert_eq(stn_config_env(config, &err), STN_OK, "%s", err.text);
    cr_assert_str_eq(stn_config_get(config, "lr-steps"), "5,6");
    cr_assert_eq(stn_config_int(config, "batch"), 256, "an empty variable counts as not set");
    (void)setenv("STN_LR_STEPS", "6,5", 1);
    EXPECT_ERROR(stn_config_env(config, &err), STN_E_USAGE, "STN_LR_STEPS: '6,5'");
    (void)unsetenv("STN_LR_STEPS");
    (void)unsetenv("STN_BATCH");
}

Test(config, text_grammar) {
    cr_assert_eq(recipe_text("# comment\n\n  batch=32 # why\r\n\tlr\t=\t0.5\t#x\ndata-dir = /a#b\n"
                             "dataset.distortion = rotate"),
                 STN_OK, "%s", err.text);
    cr_assert_eq(stn_config_int(config, "batch"), 32);
    cr_assert_float_eq(stn_config_real(config, "lr"), 0.5, 0);
    cr_assert_str_eq(stn_config_get(config, "data-dir"), "/a#b");
    cr_assert_str_eq(stn_config_get(config, "dataset.distortion"), "rotate");
    cr_assert_eq(recipe_text(""), STN_OK);
    EXPECT_ERROR(recipe_text("\nbatch 32\n"), STN_E_FORMAT, "my.recipe:2: 'batch 32' is not of");
    EXPECT_ERROR(recipe_text("batch = 1\n\x1b[2J = 2"), STN_E_FORMAT,
                 "my.recipe:2: the line holds");
    EXPECT_ERROR(recipe_text("batch = 1\r2"), STN_E_FORMAT, "control character");
    EXPECT_ERROR(recipe_text("= 32"), STN_E_FORMAT, "my.recipe:1:");
    EXPECT_ERROR(recipe_text("batch = 1\nsteps = 5\nbatch = 2"), STN_E_USAGE,
                 "my.recipe:3: batch: already set by my.recipe:1");
    EXPECT_ERROR(recipe_text("batch = 1\n\nbatc = 2"), STN_E_USAGE,
                 "my.recipe:3: unknown setting 'batc', did you mean 'batch'?");
    EXPECT_ERROR(recipe_text("lr = 1\nlr-factor = x"), STN_E_USAGE, "my.recipe:2: lr-factor: 'x'");
    EXPECT_ERROR(recipe_text("recipe = mnist-r-sl1"), STN_E_FORMAT, "include = mnist-r-sl1");
    EXPECT_ERROR(recipe_text("batch = 1\ninclude = mnist-r-sl1"), STN_E_FORMAT, "before all");
    EXPECT_ERROR(recipe_text("include = mnist-r-sl2"), STN_E_NOTFOUND, "did you mean 'mnist-r-");
    EXPECT_ERROR(stn_config_text(config, "a\0b", 3, STN_FROM_RECIPE, "z", &err), STN_E_FORMAT,
                 "z:");
}

Test(config, includes) {
    char path[256];
    write_file("a.recipe", "include = b.recipe\ninclude = mnist-r-sl1\nbatch = 8\n");
    write_file("b.recipe", "batch = 4\nlr = 0.5\nseed = 3\n");
    (void)snprintf(path, sizeof path, "%s/a.recipe", dir);
    cr_assert_eq(stn_config_recipe(config, path, STN_FROM_RECIPE, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_config_int(config, "batch"), 8);
    cr_assert_eq(stn_config_int(config, "seed"), 3);
    cr_assert_float_eq(stn_config_real(config, "lr"), 0.01, 0, "the later include wins");
    cr_assert_str_eq(stn_config_get(config, "network"), "sl1");
    write_file("b.recipe", "include = a.recipe\n");
    EXPECT_ERROR(stn_config_recipe(config, path, STN_FROM_RECIPE, &err), STN_E_FORMAT,
                 "included by itself");
    write_file("b.recipe", "include = ./b.recipe\n");
    EXPECT_ERROR(stn_config_recipe(config, path, STN_FROM_RECIPE, &err), STN_E_FORMAT,
                 "too deeply");
    (void)snprintf(path, sizeof path, "%s/none.recipe", dir);
    EXPECT_ERROR(stn_config_recipe(config, path, STN_FROM_RECIPE, &err), STN_E_NOTFOUND, "none");
    EXPECT_ERROR(stn_config_recipe(config, "mnist-r-sll", STN_FROM_RECIPE, &err), STN_E_NOTFOUND,
                 "did you mean 'mnist-r-sl1'?");
}

Test(config, user_file) {
    cr_assert_eq(stn_config_files(config, &err), STN_OK, "%s", err.text);
    char sub[256];
    (void)snprintf(sub, sizeof sub, "%s/stn", dir);
    cr_assert_eq(mkdir(sub, 0777), 0);
    write_file("stn/stn.conf", "threads = 3\ndata-dir = /d\n");
    cr_assert_eq(stn_config_files(config, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_config_int(config, "threads"), 3);
    write_file("stn/stn.conf", "threads = three\n");
    EXPECT_ERROR(stn_config_files(config, &err), STN_E_USAGE, "stn/stn.conf:1: threads: 'three'");
}

Test(config, settings_against_each_other) {
    cr_assert_eq(flag("schedule", "step"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_USAGE, "--schedule: schedule = step needs");
    cr_assert_eq(flag("lr-steps", "3"), STN_OK);
    cr_assert_eq(stn_config_check(config, &err), STN_OK, "%s", err.text);
    cr_assert_eq(flag("nesterov", "true"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_USAGE, "--nesterov");
}

Test(config, identity_text) {
    static const char want[] = "batch = 256\nloc-rate = 1\nlr = 0.01\nmodel = m\nmodel.x = 1\n"
                               "momentum = 0\nnesterov = false\noptimizer = sgd\n"
                               "schedule = constant\nseed = 0\nshards = 16\nwarmup = 0\n"
                               "weight-decay = 0\nwidth = 1\n";
    cr_assert_eq(recipe_text("model = m\nmodel.x = 1\n"), STN_OK);
    cr_assert_str_eq(stn_config_identity(config), want);
    /* What changes no bit is no part of it; neither are numbers nobody reads. */
    static const char *const free_keys[][2] = {
        {"threads", "3"},     {"device", "1"},  {"steps", "9"},     {"out", "/o"},
        {"data-dir", "/d"},   {"beta1", "0.5"}, {"lr-factor", "0"}, {"lr-steps", "4"},
        {"save-every", "10"}, {"math", "fast"}, {"backend", "b"},   {"backend.y", "2"},
        {"eval-every", "10"}, {"lr", "0.0100"}, {"recipe", "r"},    {"cpu-kernels", "ref"},
    };
    for (size_t i = 0; i < sizeof free_keys / sizeof free_keys[0]; i++) {
        cr_assert_eq(flag(free_keys[i][0], free_keys[i][1]), STN_OK, "%s", err.text);
    }
    cr_assert_str_eq(stn_config_identity(config), want);
    static const char *const bound_keys[][2] = {
        {"lr", "0.02"},       {"momentum", "0.5"}, {"nesterov", "true"}, {"weight-decay", "1"},
        {"schedule", "step"}, {"lr-steps", "5"},   {"lr-factor", "0.5"}, {"schedule", "cosine"},
        {"steps", "10"},      {"warmup", "1"},     {"batch", "8"},       {"shards", "8"},
        {"seed", "1"},        {"loc-rate", "0"},   {"width", "0.5"},     {"optimizer", "adam"},
        {"beta1", "0.1"},     {"beta2", "0.1"},    {"eps", "1e-6"},      {"optimizer", "adamw"},
        {"dataset", "d"},     {"dataset.z", "1"},  {"model", "n"},       {"model.x", "2"},
        {"network", "c0"},
    };
    for (size_t i = 0; i < sizeof bound_keys / sizeof bound_keys[0]; i++) {
        char *before = stn__strdup(stn_config_identity(config));
        cr_assert_eq(flag(bound_keys[i][0], bound_keys[i][1]), STN_OK, "%s", err.text);
        cr_assert_str_neq(stn_config_identity(config), before, "%s", bound_keys[i][0]);
        stn__free(before);
    }
    /* It is a recipe: read back, it gives itself. */
    stn_config *again;
    const char *text = stn_config_identity(config);
    cr_assert_eq(stn_config_new(NULL, &again, &err), STN_OK);
    cr_assert_eq(stn_config_text(again, text, strlen(text), STN_FROM_RECIPE, "x", &err), STN_OK,
                 "%s", err.text);
    cr_assert_str_eq(stn_config_identity(again), text);
    stn_config_free(again);
}

Test(config, as_a_recipe) {
    stn__text text = {0}, again = {0};
    static const char *const set[][2] = {
        {"steps", "77"},    {"save-every", "5"}, {"threads", "3"},
        {"backend.x", "1"}, {"dataset", "d"},    {"dataset.y", "z"},
        {"out", "/o"},      {"lr-steps", "1,2"}, {"device", "0"}};
    for (size_t i = 0; i < sizeof set / sizeof set[0]; i++) {
        cr_assert_eq(flag(set[i][0], set[i][1]), STN_OK, "%s", err.text);
    }
    stn__config_as_recipe(config, &text);
    stn_config *c;
    cr_assert_eq(stn_config_new(NULL, &c, &err), STN_OK);
    cr_assert_eq(stn_config_text(c, stn__text_get(&text), text.size, STN_FROM_RECIPE, "x", &err),
                 STN_OK, "%s", err.text);
    stn__config_as_recipe(c, &again);
    cr_assert_str_eq(stn__text_get(&text), stn__text_get(&again));
    cr_assert_str_eq(stn_config_identity(c), stn_config_identity(config));
    cr_assert_eq(stn_config_int(c, "steps"), 77);
    cr_assert_str_eq(stn_config_get(c, "lr-steps"), "1,2");
    cr_assert_eq(stn_config_int(c, "threads"), 0, "threads belong to the machine");
    cr_assert_null(stn_config_get(c, "backend.x"));
    cr_assert_null(stn_config_get(c, "out"));
    stn_config_free(c);
    stn__text_free(&text);
    stn__text_free(&again);
}

Test(config, a_run_needs_three_names) {
    EXPECT_ERROR(stn__config_complete(config, &err), STN_E_USAGE,
                 "no dataset is set: give --recipe");
    cr_assert_eq(recipe_text("dataset = d\nmodel = m\n"), STN_OK);
    EXPECT_ERROR(stn__config_complete(config, &err), STN_E_USAGE, "no network");
    cr_assert_eq(flag("network", "n"), STN_OK);
    cr_assert_eq(stn__config_complete(config, &err), STN_OK);
}

Test(config, schedules) {
    cr_assert_eq(flag("lr", "0.5"), STN_OK);
    cr_assert_float_eq(stn__schedule_lr(config, 1000), 0.5, 0);
    cr_assert_eq(flag("schedule", "step"), STN_OK);
    cr_assert_eq(flag("lr-steps", "10,20"), STN_OK);
    cr_assert_float_eq(stn__schedule_lr(config, 9), 0.5, 0);
    cr_assert_float_eq(stn__schedule_lr(config, 10), 0.5 * 0.1, 0);
    cr_assert_float_eq(stn__schedule_lr(config, 20), 0.5 * 0.1 * 0.1, 0);
    cr_assert_float_eq(stn__schedule_lr(config, UINT64_MAX), 0.5 * 0.1 * 0.1, 0);
    cr_assert_eq(flag("schedule", "cosine"), STN_OK);
    cr_assert_eq(flag("steps", "100"), STN_OK);
    cr_assert_float_eq(stn__schedule_lr(config, 0), 0.5, 0);
    cr_assert_float_eq(stn__schedule_lr(config, 100), 0, 0);
    cr_assert_float_eq(stn__schedule_lr(config, 150), 0, 0, "no second wave");
    for (uint64_t t = 1; t < 100; t++) {
        cr_assert_lt(stn__schedule_lr(config, t), stn__schedule_lr(config, t - 1));
    }
    cr_assert_eq(flag("schedule", "constant"), STN_OK);
    cr_assert_eq(flag("warmup", "4"), STN_OK);
    for (uint64_t t = 0; t < 6; t++) {
        cr_assert_float_eq(stn__schedule_lr(config, t), t < 4 ? 0.5 * ((double)(t + 1) / 4) : 0.5,
                           0);
    }
}

Test(config, out_of_memory_anywhere) {
    static const char text[] = "include = mnist-r-sl1\nbatch = 8\nmodel.padding = zeros\n";
    stn_config_free(config);
    config = NULL;
    const uint64_t live = stn__alloc_live();
    int32_t status = STN_E_NOMEM;
    for (int64_t k = 0; status != STN_OK; k++) {
        cr_assert_lt(k, 10000);
        stn__alloc_fail_after(k);
        stn_config *c = NULL;
        status = stn_config_new(NULL, &c, &err);
        if (status == STN_OK) {
            status = stn_config_text(c, text, sizeof text - 1, STN_FROM_RECIPE, "t", &err);
        }
        if (status == STN_OK) {
            status = stn_config_env(c, &err);
        }
        if (status == STN_OK) {
            status = stn_config_files(c, &err);
        }
        if (status == STN_OK) {
            status = stn_config_check(c, &err);
        }
        if (status == STN_OK && stn_config_identity(c) == NULL) {
            status = STN_E_NOMEM;
        }
        stn__alloc_fail_after(-1);
        cr_assert(status == STN_OK || status == STN_E_NOMEM, "k=%lld: %d %s", (long long)k, status,
                  err.text);
        stn_config_free(c);
        cr_assert_eq(stn__alloc_live(), live);
    }
}

/* ---- with plugins ---- */

static stn_ctx *ctx;

static void open_ctx(void) {
    const stn_open_options options = {.plugin_path = STN_TEST_PLUGIN_DIR};
    set_up();
    stn_config_free(config);
    cr_assert_eq(stn_open(&options, &ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_config_new(ctx, &config, &err), STN_OK, "%s", err.text);
}

static void close_ctx(void) {
    tear_down();
    stn_close(ctx);
}

TestSuite(config_plugins, .init = open_ctx, .fini = close_ctx);

Test(config_plugins, every_recipe_is_complete) {
    uint32_t n = stn_recipe_count(ctx), mnist = 0;
    for (uint32_t i = 0; i < n; i++) {
        const char *name = stn_recipe_name(ctx, i);
        stn_config *c;
        cr_assert_eq(stn_config_new(ctx, &c, &err), STN_OK);
        cr_assert_eq(stn_config_recipe(c, name, STN_FROM_RECIPE, &err), STN_OK, "%s", err.text);
        cr_assert_eq(stn_config_check(c, &err), STN_OK, "%s: %s", name, err.text);
        cr_assert(stn_config_get(c, "dataset") && stn_config_get(c, "network"), "%s", name);
        mnist += strncmp(name, "mnist-", 6) == 0;
        if (strncmp(name, "mnist-", 6) == 0) {
            const char *network = stn_config_get(c, "network");
            const char *distortion = stn_config_get(c, "dataset.distortion");
            cr_assert_eq(distortion[0], name[6], "%s", name);
            cr_assert_eq(strncmp(name + 8, network, strlen(network)), 0, "%s", name);
            bool is_short = stn__str_ends(name, "-short");
            cr_assert_eq(stn_config_int(c, "steps"), is_short ? 2000 : 150000, "%s", name);
            cr_assert_float_eq(stn_config_real(c, "momentum"), is_short ? 0.9 : 0, 0);
        }
        stn_config_free(c);
    }
    cr_assert_eq(mnist, 30);
    cr_assert_null(stn_recipe_name(ctx, n));
}

Test(config_plugins, options_are_checked_and_completed) {
    cr_assert_eq(stn_config_recipe(config, "mnist-r-sl1", STN_FROM_RECIPE, &err), STN_OK);
    (void)setenv("STN_DATASET_CLUTTER", "off", 1);
    cr_assert_eq(stn_config_env(config, &err), STN_OK);
    cr_assert_eq(stn_config_check(config, &err), STN_OK, "%s", err.text);
    (void)unsetenv("STN_DATASET_CLUTTER");
    cr_assert_str_eq(stn_config_get(config, "dataset.clutter"), "false");
    const char *identity = stn_config_identity(config);
    cr_assert(strstr(identity, "dataset.clutter = false\n") != NULL, "%s", identity);
    cr_assert(strstr(identity, "dataset.distortion = rotate\n") != NULL, "%s", identity);
    cr_assert(strstr(identity, "model.padding = border\n") != NULL, "%s", identity);
    cr_assert(strstr(identity, "model.st_bn = ") != NULL, "defaults belong to it: %s", identity);
    cr_assert_eq(stn_config_check(config, &err), STN_OK, "a second check: %s", err.text);
}

Test(config_plugins, bad_options) {
    cr_assert_eq(stn_config_recipe(config, "mnist-r-sl1", STN_FROM_RECIPE, &err), STN_OK);
    cr_assert_eq(flag("dataset.distortion", "rotat"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_USAGE,
                 "--dataset.distortion: 'rotat' is unknown, did you mean 'rotate'?");
    cr_assert_eq(flag("dataset.distortion", "scale"), STN_OK);
    cr_assert_eq(flag("model.paddin", "zeros"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_USAGE,
                 "--model.paddin: model mnist_stn has no option 'paddin', did you mean 'padding'?");
}

Test(config_plugins, unknown_names) {
    cr_assert_eq(flag("dataset", "mnis"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_NOTFOUND, "'mnist'");
    cr_assert_eq(flag("dataset", "mnist"), STN_OK);
    cr_assert_eq(flag("model", "mnist_stn"), STN_OK);
    cr_assert_eq(flag("network", "sl2"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_USAGE,
                 "--network: model mnist_stn has no network 'sl2'");
}

Test(config_plugins, options_of_nothing) {
    cr_assert_eq(recipe_text("dataset.distortion = rotate"), STN_OK);
    EXPECT_ERROR(stn_config_check(config, &err), STN_E_USAGE,
                 "my.recipe:1: dataset.distortion is set, but no dataset");
}

Test(config_plugins, out_of_memory_in_the_check) {
    cr_assert_eq(stn_config_recipe(config, "mnist-r-sl1", STN_FROM_RECIPE, &err), STN_OK);
    cr_assert_eq(stn_config_check(config, &err), STN_OK, "%s", err.text);
    int32_t status = STN_E_NOMEM;
    for (int64_t k = 0; status != STN_OK; k++) {
        cr_assert_lt(k, 10000);
        stn__alloc_fail_after(k);
        status = stn_config_check(config, &err);
        stn__alloc_fail_after(-1);
        cr_assert(status == STN_OK || status == STN_E_NOMEM, "%d %s", status, err.text);
    }
    cr_assert_str_eq(stn_config_get(config, "model.st_bn"), "false");
}
