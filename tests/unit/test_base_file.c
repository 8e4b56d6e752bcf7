/* Whole reads, atomic writes and directories, with full disks and missing rights. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"

static char scratch[] = "/tmp/stn-test-file-XXXXXX";

static void set_up(void) {
    cr_assert(mkdtemp(scratch) != NULL && chdir(scratch) == 0);
}

static void tear_down(void) {
    char command[256];
    cr_assert(chdir("/") == 0);
    snprintf(command, sizeof command, "rm -rf %s", scratch);
    cr_assert(system(command) == 0);
}

TestSuite(file, .init = set_up, .fini = tear_down);

static void expect_content(const char *path, const char *want) {
    char *data = NULL;
    uint64_t size = 0;
    cr_assert_eq(stn__file_read(path, 1 << 20, &data, &size, NULL), STN_OK);
    cr_expect_eq(size, strlen(want));
    cr_expect_str_eq(data, want);
    stn__free(data);
}

static uint64_t entries(const char *dir) {
    stn__names names;
    cr_assert_eq(stn__dir_list(dir, &names, NULL), STN_OK);
    uint64_t n = names.n;
    stn__names_free(&names);
    return n;
}

Test(file, writes_and_reads_back) {
    cr_assert_eq(stn__file_write("f", "hello", 5, NULL), STN_OK);
    expect_content("f", "hello");
    cr_assert_eq(stn__file_write("f", "", 0, NULL), STN_OK);
    expect_content("f", "");
    cr_assert_eq(stn__file_append("f", "ab", 2, NULL), STN_OK);
    cr_assert_eq(stn__file_append("f", "cd", 2, NULL), STN_OK);
    expect_content("f", "abcd");
    cr_expect_eq(entries("."), 1);
    cr_expect(stn__is_file("f") && !stn__is_dir("f") && !stn__is_file("g") && stn__is_dir("."));
    cr_expect(stn__dir_has_file(".") && !stn__dir_has_file("f"));
}

Test(file, reads_pipes_and_proc) {
    char *data = NULL;
    uint64_t size = 0;
    cr_assert_eq(stn__file_read("/proc/self/status", 1 << 20, &data, &size, NULL), STN_OK);
    cr_expect_gt(size, 100);
    stn__free(data);
}

Test(file, read_errors_say_what_and_why) {
    char *data = NULL, text[200];
    uint64_t size = 0;
    stn_err err = {0};
    cr_expect_eq(stn__file_read("none", 10, &data, &size, &err), STN_E_NOTFOUND);
    cr_expect_str_eq(err.text,
                     "cannot open none: No such file or directory; check the spelling of the path");
    cr_expect_eq(err.native, ENOENT);
    cr_expect_eq(stn__file_read(".", 10, &data, &size, &err), STN_E_IO);
    memset(text, 'x', sizeof text);
    cr_assert_eq(stn__file_write("long", text, sizeof text, NULL), STN_OK);
    cr_expect_eq(stn__file_read("long", sizeof text - 1, &data, &size, &err), STN_E_FORMAT);
    cr_expect(strstr(err.text, "long is larger than 199 bytes") == err.text, "%s", err.text);
    cr_expect_eq(stn__file_read("/dev/zero", 100000, &data, &size, &err), STN_E_FORMAT);
    cr_expect_null(data);
    cr_expect_eq(stn__file_read("long", sizeof text, &data, &size, &err), STN_OK);
    stn__free(data);
}

/* A file-size limit stands in for a full disk: write fails after the first kilobytes. */
Test(file, a_full_disk_leaves_the_old_file_and_nothing_else) {
    static char large[100000];
    struct rlimit limit = {4096, 4096};
    stn_err err = {0};
    cr_assert_eq(stn__file_write("f", "old", 3, NULL), STN_OK);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    cr_expect_eq(stn__file_write("f", large, sizeof large, &err), STN_E_IO);
    cr_expect_eq(err.native, EFBIG);
    cr_expect(strstr(err.text, "cannot write f: ") == err.text, "%s", err.text);
    cr_expect(strstr(err.text, "free some space") != NULL, "%s", err.text);
    expect_content("f", "old");
    cr_expect_eq(entries("."), 1);
    cr_expect_eq(stn__file_write("new", large, sizeof large, NULL), STN_E_IO);
    cr_expect_eq(entries("."), 1);
}

Test(file, a_real_full_device) {
    stn_err err = {0};
    cr_expect_eq(stn__file_append("/dev/full", "x", 1, &err), STN_E_IO);
    cr_expect_eq(err.native, ENOSPC);
}

Test(file, nothing_shows_before_commit_and_abort_removes_all) {
    stn__out out;
    cr_assert_eq(stn__out_open(&out, "f", NULL), STN_OK);
    stn__out_write(&out, "abc", 3);
    cr_expect(!stn__is_file("f"));
    cr_expect_eq(entries("."), 1);
    stn__out_abort(&out);
    stn__out_abort(&out); /* harmless */
    cr_expect_eq(entries("."), 0);
    cr_assert_eq(stn__out_open(&out, "f", NULL), STN_OK);
    stn__out_write(&out, "abc", 3);
    stn__out_write(&out, "def", 3);
    cr_assert_eq(stn__out_commit(&out, NULL), STN_OK);
    expect_content("f", "abcdef");
    cr_expect_eq(entries("."), 1);
}

Test(file, write_errors) {
    stn_err err = {0};
    cr_expect_eq(stn__file_write("none/f", "x", 1, &err), STN_E_NOTFOUND);
    cr_expect(strstr(err.text, "cannot write none/f: ") == err.text, "%s", err.text);
    cr_assert_eq(mkdir("d", 0700), 0);
    cr_assert_eq(stn__file_write("d/x", "x", 1, NULL), STN_OK);
    cr_expect_eq(entries("."), 1);
}

/* A rename would put a file in the place of a device. */
Test(file, replaces_nothing_but_files) {
    stn_err err = {0};
    cr_assert_eq(mkfifo("pipe", 0600), 0);
    cr_expect_eq(stn__file_write("pipe", "x", 1, &err), STN_E_EXISTS);
    cr_expect(strstr(err.text, "pipe exists and is not a file") != NULL, "%s", err.text);
    cr_assert_eq(mkdir("d", 0700), 0);
    cr_expect_eq(stn__file_write("d", "x", 1, &err), STN_E_EXISTS);
    cr_expect(!stn__is_file("pipe"));
    cr_expect_eq(entries("."), 2);
}

/* Some never end. */
Test(file, refuses_to_read_devices) {
    stn_err err = {0};
    char *data;
    uint64_t size;
    cr_expect_eq(stn__file_read("/dev/zero", UINT64_MAX, &data, &size, &err), STN_E_FORMAT);
    cr_expect_str_eq(err.text, "/dev/zero is a device, not a file; check the path");
}

Test(file, creates_directories_with_parents) {
    char path[400];
    stn_err err = {0};
    cr_expect_eq(stn__dir_create("a/b//c/", NULL), STN_OK);
    cr_expect(stn__is_dir("a/b/c"));
    cr_expect_eq(stn__dir_create("a/b/c", NULL), STN_OK);
    snprintf(path, sizeof path, "%s/q/r", scratch);
    cr_expect_eq(stn__dir_create(path, NULL), STN_OK);
    cr_expect(stn__is_dir("q/r"));
    cr_assert_eq(stn__file_write("plain", "x", 1, NULL), STN_OK);
    cr_expect_eq(stn__dir_create("plain/sub", &err), STN_E_IO);
    cr_expect_eq(stn__dir_create("plain", &err), STN_E_IO);
    cr_expect(strstr(err.text, "cannot create directory plain: ") == err.text, "%s", err.text);
    cr_expect_neq(stn__dir_create("", &err), STN_OK);
}

Test(file, lists_sorted) {
    static const char *const names[] = {"b", "a10", "a2", "B", ".hidden"};
    static const char *const sorted[] = {".hidden", "B", "a10", "a2", "b"};
    for (size_t i = 0; i < 5; i++) {
        cr_assert_eq(stn__file_write(names[i], "", 0, NULL), STN_OK);
    }
    stn__names list;
    cr_assert_eq(stn__dir_list(".", &list, NULL), STN_OK);
    cr_assert_eq(list.n, 5);
    for (size_t i = 0; i < 5; i++) {
        cr_expect_str_eq(list.name[i], sorted[i]);
    }
    stn__names_free(&list);
    stn_err err = {0};
    cr_expect_eq(stn__dir_list("none", &list, &err), STN_E_NOTFOUND);
    cr_expect_eq(list.n, 0);
}

static void *write_often(void *content) {
    for (int i = 0; i < 50; i++) {
        if (stn__file_write("shared", content, 1000, NULL) != STN_OK) {
            return content;
        }
    }
    return NULL;
}

Test(file, threads_never_see_half_a_file) {
    static char content[4][1000];
    pthread_t thread[4];
    void *failed = NULL;
    for (int i = 0; i < 4; i++) {
        memset(content[i], 'a' + i, sizeof content[i]);
        cr_assert_eq(pthread_create(&thread[i], NULL, write_often, content[i]), 0);
    }
    for (int i = 0; i < 200; i++) {
        char *data = NULL;
        uint64_t size = 0;
        if (stn__file_read("shared", 2000, &data, &size, NULL) == STN_OK) {
            cr_assert_eq(size, 1000);
            cr_assert_eq(memcmp(data, content[data[0] - 'a'], 1000), 0);
            stn__free(data);
        }
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], &failed);
        cr_expect_null(failed);
    }
    cr_expect_eq(entries("."), 1);
}

Test(file, survives_every_failed_allocation) {
    uint64_t live = stn__alloc_live();
    bool done = false;
    for (int k = 0; !done; k++) {
        char *data = NULL;
        uint64_t size = 0;
        stn__names names = {0};
        stn__alloc_fail_after(k);
        int32_t made = stn__dir_create("x/y", NULL);
        int32_t put = stn__file_write("f", "abc", 3, NULL);
        int32_t got = stn__file_read("f", 100, &data, &size, NULL);
        int32_t listed = stn__dir_list(".", &names, NULL);
        stn__alloc_fail_after(-1);
        cr_expect(made == STN_OK || made == STN_E_NOMEM);
        cr_expect(put == STN_OK || put == STN_E_NOMEM, "%d", put);
        cr_expect(got == STN_OK || got == STN_E_NOMEM || got == STN_E_NOTFOUND);
        cr_expect(listed == STN_OK || listed == STN_E_NOMEM);
        done = made == STN_OK && put == STN_OK && got == STN_OK && listed == STN_OK;
        stn__free(data);
        stn__names_free(&names);
        cr_assert_eq(stn__alloc_live(), live);
    }
    cr_expect_eq(entries("."), 2);
}
