/* Growable strings, parsers, paths, suggestions and log lines, in any locale. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <float.h>
#include <locale.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "base/env.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"

Test(text, grows_and_formats) {
    stn__text text = {0};
    cr_expect_str_empty(stn__text_get(&text));
    stn__text_add(&text, "a");
    stn__text_add(&text, NULL);
    stn__text_bytes(&text, NULL, 0);
    stn__text_addf(&text, "%d-%s", 42, "b");
    cr_expect_str_eq(stn__text_get(&text), "a42-b");
    for (int i = 0; i < 10000; i++) {
        stn__text_addf(&text, "%d,", i);
    }
    cr_expect_eq(text.size, 5 + 10 * 2 + 90 * 3 + 900 * 4 + 9000 * 5);
    cr_expect_eq(strlen(stn__text_get(&text)), text.size);
    stn__text_clear(&text);
    cr_expect_str_empty(stn__text_get(&text));
    char *taken = stn__text_take(&text);
    cr_expect_str_empty(taken);
    stn__free(taken);
}

Test(text, failure_is_sticky_at_every_allocation) {
    uint64_t live = stn__alloc_live();
    bool done = false;
    for (int k = 0; !done; k++) {
        stn__text text = {0};
        stn_err err = {0};
        stn__alloc_fail_after(k);
        stn__text_add(&text, "0123456789abcdef");
        stn__text_addf(&text, "%0100d", 7);
        stn__text_real(&text, 0.1);
        stn__text_add(&text, "end");
        int32_t status = stn__text_check(&text, "a test", &err);
        char *string = stn__text_take(&text);
        stn__alloc_fail_after(-1);
        done = status == STN_OK;
        cr_expect(done ? stn__str_ends(string, "70.1end") : string == NULL);
        cr_expect(done || strstr(err.text, "out of memory: a test") == err.text, "%s", err.text);
        stn__free(string);
        cr_assert_eq(stn__alloc_live(), live);
    }
}

static void expect_real(double value, const char *want) {
    stn__text text = {0};
    double back = 0;
    stn__text_real(&text, value);
    cr_expect_str_eq(stn__text_get(&text), want);
    cr_expect(!isfinite(value) || (stn__parse_real(stn__text_get(&text), &back) && back == value));
    stn__text_free(&text);
}

Test(text, shortest_numbers_that_read_back) {
    expect_real(0.1, "0.1");
    expect_real(1.0 / 3.0, "0.3333333333333333");
    expect_real(5e-4, "0.0005");
    expect_real(DBL_MAX, "1.7976931348623157e+308");
    expect_real(0x1p-1074, "4.94065645841247e-324");
    expect_real(-0.0, "-0");
    expect_real(HUGE_VAL, "inf");
    expect_real(-HUGE_VAL, "-inf");
}

/* Makes and sets a locale with a decimal comma; false where its sources are not installed. */
static bool set_comma(const char *dir) {
    char command[256], probe[16];
    snprintf(command, sizeof command, "localedef -i de_DE -f UTF-8 %s/de_DE.UTF-8 2>%s/log", dir,
             dir);
    setenv("LOCPATH", dir, 1);
    if (system(command) != 0 || setlocale(LC_ALL, "de_DE.UTF-8") == NULL) {
        return false;
    }
    snprintf(probe, sizeof probe, "%g", 0.5);
    cr_assert_str_eq(probe, "0,5");
    return true;
}

Test(text, locale_does_not_matter) {
    char dir[] = "/tmp/stn-test-locale-XXXXXX", command[64];
    cr_assert(mkdtemp(dir) != NULL);
    if (!set_comma(dir)) {
        cr_log_info("no locale with a decimal comma: only \"C\" is tested");
    }
    snprintf(command, sizeof command, "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
    stn__text text = {0};
    double value = 0;
    stn__text_addf(&text, "%g %.2f", 0.5, 1.25);
    cr_expect_str_eq(stn__text_get(&text), "0.5 1.25");
    cr_expect(stn__parse_real("0.5", &value) && value == 0.5);
    cr_expect(!stn__parse_real("0,5", &value));
    expect_real(2.5, "2.5");
    stn__text_free(&text);
}

Test(parse, integers) {
    int64_t i = 7;
    uint64_t u = 7;
    cr_expect(stn__parse_i64("-9223372036854775808", &i) && i == INT64_MIN);
    cr_expect(stn__parse_i64("9223372036854775807", &i) && i == INT64_MAX);
    cr_expect(stn__parse_i64("+12", &i) && i == 12);
    cr_expect(stn__parse_i64("-0", &i) && i == 0);
    cr_expect(stn__parse_u64("18446744073709551615", &u) && u == UINT64_MAX);
    cr_expect(stn__parse_u64("007", &u) && u == 7);
    i = 5;
    u = 5;
    static const char *const bad[] = {"",    "-",   "+",   " 1",  "1 ",  "1.0",
                                      "1e3", "0x1", "--1", "+-1", "1\n", "99999999999999999999"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        cr_expect(!stn__parse_i64(bad[k], &i) && i == 5, "%s", bad[k]);
        cr_expect(!stn__parse_u64(bad[k], &u) && u == 5, "%s", bad[k]);
    }
    cr_expect(!stn__parse_i64("9223372036854775808", &i));
    cr_expect(!stn__parse_i64("-9223372036854775809", &i));
    cr_expect(!stn__parse_u64("18446744073709551616", &u));
    cr_expect(!stn__parse_u64("-1", &u));
}

Test(parse, reals_and_bools) {
    double x = 7;
    bool flag = false;
    cr_expect(stn__parse_real("5e-4", &x) && x == 5e-4);
    cr_expect(stn__parse_real("-.5", &x) && x == -0.5);
    cr_expect(stn__parse_real("+3.", &x) && x == 3.0);
    cr_expect(stn__parse_real("1E+2", &x) && x == 100.0);
    cr_expect(stn__parse_real("1e-400", &x) && x == 0.0);
    cr_expect(stn__parse_real("0.1000000000000000055511151231257827", &x) && x == 0.1);
    x = 5;
    static const char *const bad[] = {"",   ".",   "-",   "e5",  "1e",     "1e+", "1.2.3", " 1",
                                      "1 ", "nan", "inf", "0x1", "1e9999", "1f",  "-.e1",  "1,5"};
    for (size_t k = 0; k < sizeof bad / sizeof bad[0]; k++) {
        cr_expect(!stn__parse_real(bad[k], &x) && x == 5, "%s", bad[k]);
    }
    cr_expect(stn__parse_bool("on", &flag) && flag);
    cr_expect(stn__parse_bool("0", &flag) && !flag);
    cr_expect(!stn__parse_bool("True", &flag) && !stn__parse_bool("", &flag));
}

static void expect_path(const char *dir, const char *name, const char *want) {
    char *path = stn__path_join(dir, name);
    cr_expect_str_eq(path, want);
    stn__free(path);
}

Test(text, paths_and_small_helpers) {
    expect_path("/a", "b", "/a/b");
    expect_path("/a/", "b", "/a/b");
    expect_path("", "b", "b");
    expect_path("/a", "/b", "/b");
    expect_path("/", "b", "/b");
    cr_expect_str_eq(stn__path_base("/a/b.c"), "b.c");
    cr_expect_str_eq(stn__path_base("b"), "b");
    cr_expect(stn__str_eq(NULL, NULL) && !stn__str_eq("", NULL) && stn__str_eq("a", "a"));
    cr_expect(stn__str_contains_nocase("NVIDIA GeForce", "geforce"));
    cr_expect(stn__str_contains_nocase("abc", "") && !stn__str_contains_nocase("abc", "abcd"));
    cr_expect(stn__str_ends("x.so", ".so") && !stn__str_ends("so", ".so"));
    cr_expect_null(stn__strdup(NULL));
}

Test(suggest, nearest_name) {
    static const char *const known[] = {"threads", "batch", "save-every", NULL, "lr", "sl1"};
    cr_expect_str_eq(stn_suggest("thread", known, 6), "threads");
    cr_expect_str_eq(stn_suggest("htreads", known, 6), "threads");
    cr_expect_str_eq(stn_suggest("SAVE_EVERY", known, 6), "save-every");
    cr_expect_str_eq(stn_suggest("bacth", known, 6), "batch");
    cr_expect_str_eq(stn_suggest("sl2", known, 6), "sl1");
    cr_expect_null(stn_suggest("xyz", known, 6));
    cr_expect_null(stn_suggest("lx", known, 6)); /* beyond a third of its length */
    cr_expect_null(stn_suggest("", known, 6));
    cr_expect_null(stn_suggest(NULL, known, 6));
    cr_expect_null(stn_suggest("threads", known, 0));
    char giant[200];
    memset(giant, 'a', sizeof giant - 1);
    giant[sizeof giant - 1] = '\0';
    cr_expect_null(stn_suggest(giant, known, 6));
    const char *const giants[] = {giant};
    cr_expect_null(stn_suggest("aaaa", giants, 1));
}

static void keep(void *user, int32_t level, const char *line) {
    cr_expect_eq(level, STN_LOG_WARN);
    snprintf(user, 2000, "%s", line);
}

Test(log, one_line) {
    char line[2000] = "";
    stn__log log = {keep, line};
    stn__log_line(&log, STN_LOG_WARN, "a\n%s\r!", "b");
    cr_expect_str_eq(line, "a b !");
    stn__log_line(&log, STN_LOG_WARN, "%01500d", 1);
    cr_expect_eq(strlen(line), 1023);
    stn__log_line(NULL, STN_LOG_WARN, "nobody");
}

Test(env, directories) {
    setenv("XDG_TEST", "/x", 1);
    setenv("HOME", "/h", 1);
    char *a = stn__user_dir("XDG_TEST", ".t", "data");
    cr_expect_str_eq(a, "/x/stn/data");
    setenv("XDG_TEST", "relative", 1);
    char *b = stn__user_dir("XDG_TEST", ".t/u", "");
    cr_expect_str_eq(b, "/h/.t/u/stn");
    setenv("HOME", "h", 1);
    cr_expect_null(stn__user_dir("XDG_TEST", ".t", ""));
    setenv("XDG_TEST", "", 1);
    cr_expect_null(stn__env("XDG_TEST"));
    char *c = stn__program_dir();
    cr_expect_str_eq(c, STN_TEST_BINARY_DIR "/bin");
    stn__free(a);
    stn__free(b);
    stn__free(c);
}
