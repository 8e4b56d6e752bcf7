/* The plugin loader against sound and broken plugins (tests/badplugins): status, reason, that no
 * code of a refused plugin runs, and that nothing leaks when memory runs out.
 */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stn/stn.h>

#include "base/file.h"
#include "base/mem.h"
#include "plugin/note.h"

#define BAD(name) STN_TEST_BINARY_DIR "/lib/badplugins/" name ".so"

static char scratch[] = "/tmp/stn-test-loader-XXXXXX";

/* Plugins and data of the user who runs the tests must not be seen. */
static void set_up(void) {
    cr_assert(mkdtemp(scratch) != NULL);
    setenv("XDG_DATA_HOME", scratch, 1);
    unsetenv("STN_PLUGIN_PATH");
    unsetenv("STN_DATA_DIR");
}

static void tear_down(void) {
    char command[256];
    snprintf(command, sizeof command, "rm -r %s", scratch);
    cr_assert(system(command) == 0);
}

TestSuite(loader, .init = set_up, .fini = tear_down);

typedef struct lines {
    char text[8192];
} lines;

static void collect(void *user, int32_t level, const char *line) {
    lines *l = user;
    (void)level;
    size_t n = strlen(l->text);
    snprintf(l->text + n, sizeof l->text - n, "%s\n", line);
}

static uint32_t count_of(const char *text, const char *part) {
    uint32_t n = 0;
    for (const char *at = strstr(text, part); at != NULL; at = strstr(at + 1, part)) {
        n++;
    }
    return n;
}

static stn_ctx *open_with(const char *file, lines *log) {
    const char *const files[] = {file, NULL};
    stn_open_options options = {
        .plugin_files = files, .log = log == NULL ? NULL : collect, .log_user = log};
    stn_ctx *ctx = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_open(&options, &ctx, &err), STN_OK, "%s", err.text);
    return ctx;
}

static void expect_one_line(const char *text) {
    cr_expect(text[0] != '\0' && strchr(text, '\n') == NULL, "'%s'", text);
}

/* ---- refusals ---- */

typedef struct broken {
    const char *file, *name, *part; /* part of the reason */
    uint32_t kind;
    bool by_note; /* refused without loading */
} broken;

static const broken broken_plugins[] = {
    {"note_magic", "note_magic", "magic number in its note", STN_KIND_BACKEND, true},
    {"newer_major", "newer_major", "plugin ABI 9, this stn has 1", STN_KIND_BACKEND, true},
    {"wrong_kind", "wrong_kind", "unknown kind of plugin 9", 9, true},
    {"feature", "feature", "sanitizer", STN_KIND_BACKEND, true},
    {"no_note", "", "no stn note", 0, true},
    {"long_name", "", "longer than 31 bytes", 0, true},
    {"bad_name", "Bad name", "bad name", STN_KIND_BACKEND, true},
    {"entry_magic", "entry_magic", "magic number in stn_plugin_entry", STN_KIND_BACKEND, false},
    {"short_descriptor", "short_descriptor", "descriptor has 16 bytes", STN_KIND_BACKEND, false},
    {"short_table", "short_table", "required entry sync", STN_KIND_BACKEND, false},
    {"tiny_table", "tiny_table", "table says it has 4 bytes", STN_KIND_BACKEND, false},
    {"null_table", "null_table", "lacks the table", STN_KIND_BACKEND, false},
    {"null_entry", "null_entry", "required entry op_run", STN_KIND_BACKEND, false},
    {"other_kind", "other_kind", "differs from its note", STN_KIND_BACKEND, false},
    {"other_name", "other_name", "differs from its note", STN_KIND_BACKEND, false},
    {"no_entry", "no_entry", "exports no stn_plugin_entry", STN_KIND_BACKEND, false},
    {"unresolved", "unresolved", "stn_function_that_nobody_has", STN_KIND_BACKEND, false},
    {"init_fails", "init_fails", "flux compensator", STN_KIND_BACKEND, false},
    {"init_silent", "init_silent", "no usable device", STN_KIND_BACKEND, false},
    {"no_build", "no_build", "required entry build", STN_KIND_MODEL, false},
};

static void expect_refused(const broken *b) {
    char path[512];
    snprintf(path, sizeof path, BAD("%s"), b->file);
    stn_ctx *ctx = open_with(path, NULL);
    stn_plugin_info info;
    cr_assert_eq(stn_plugin_get(ctx, 0, &info), STN_OK);
    cr_expect_str_eq(info.path, path);
    cr_expect_str_eq(info.name, b->name);
    cr_expect_eq(info.refused, b->by_note, "%s", b->file);
    if (b->kind == STN_KIND_BACKEND || b->kind == STN_KIND_MODEL) {
        const stn_plugin *plugin = NULL;
        stn_err err = {0};
        cr_expect_eq(stn_plugin_load(ctx, b->kind, b->name, &plugin, &err), STN_E_PLUGIN, "%s: %s",
                     b->file, err.text);
        cr_expect_eq(err.code, STN_E_PLUGIN);
        cr_expect_null(plugin);
        cr_expect(strstr(err.text, path) != NULL, "%s", err.text);
        expect_one_line(err.text);
        cr_expect_eq(stn_plugin_load(ctx, b->kind, b->name, &plugin, NULL), STN_E_PLUGIN);
    }
    cr_assert_eq(stn_plugin_get(ctx, 0, &info), STN_OK);
    cr_expect(info.refused && !info.loaded, "%s", b->file);
    cr_expect(strstr(info.reason, b->part) != NULL, "%s: %s", b->file, info.reason);
    expect_one_line(info.reason);
    stn_close(ctx);
}

Test(loader, refuses_each_broken_plugin_with_its_reason) {
    for (size_t i = 0; i < sizeof broken_plugins / sizeof broken_plugins[0]; i++) {
        expect_refused(&broken_plugins[i]);
    }
}

/* Runs dlopen itself in a child: 0 if `check` holds there afterwards. */
static int in_child(const char *path, bool (*check)(void)) {
    pid_t child = fork();
    if (child == 0) {
        bool loaded = dlopen(path, RTLD_NOW | RTLD_LOCAL) != NULL;
        _exit(loaded && check() ? 0 : 1);
    }
    int status = -1;
    waitpid(child, &status, 0);
    return status;
}

static bool mark_exists(void) {
    return access(getenv("STN_TEST_MARK"), F_OK) == 0;
}

Test(loader, runs_no_code_of_a_plugin_refused_by_its_note) {
    char mark[128];
    snprintf(mark, sizeof mark, "%s/mark", scratch);
    setenv("STN_TEST_MARK", mark, 1);
    stn_ctx *ctx = open_with(BAD("newer_major"), NULL);
    const stn_backend *backend = NULL;
    cr_expect_eq(stn_backend_load(ctx, "newer_major", &backend, NULL), STN_E_PLUGIN);
    cr_expect(!mark_exists());
    stn_close(ctx);
    /* Listing alone must not run code either, of a sound plugin. */
    ctx = open_with(BAD("mark"), NULL);
    cr_expect(!mark_exists());
    stn_close(ctx);
    /* The constructor does work: plain dlopen runs it. */
    cr_expect_eq(in_child(BAD("newer_major"), mark_exists), 0);
}

static volatile float tiny = 0x1p-140f;

static bool flushes(void) {
    return tiny * 0.5f == 0.0f;
}

Test(loader, restores_the_floating_point_state) {
    cr_assert(!flushes());
    stn_ctx *ctx = open_with(BAD("flush"), NULL);
    const stn_backend *backend = NULL;
    cr_assert_eq(stn_backend_load(ctx, "flush", &backend, NULL), STN_OK);
    cr_expect(!flushes());
    stn_close(ctx);
}

Test(loader, the_flushing_plugin_does_flush) {
    cr_expect_eq(in_child(BAD("flush"), flushes), 0);
}

/* ---- files that are no plugins ---- */

static void expect_unreadable(const char *path) {
    stn_plugin_note note;
    stn_err err = {0};
    cr_expect_neq(stn__note_read(path, &note, &err), STN_OK, "%s", path);
    expect_one_line(err.text);
    cr_expect_eq(note.name[0], '\0');
    stn_ctx *ctx = open_with(path, NULL);
    stn_plugin_info info;
    cr_assert_eq(stn_plugin_get(ctx, 0, &info), STN_OK);
    cr_expect(info.refused);
    expect_one_line(info.reason);
    stn_close(ctx);
}

Test(loader, refuses_files_that_are_no_shared_objects) {
    char path[128];
    snprintf(path, sizeof path, "%s/stn_text.so", scratch);
    cr_assert_eq(stn__file_write(path, "", 0, NULL), STN_OK);
    expect_unreadable(path);
    char text[512];
    memset(text, 'x', sizeof text);
    cr_assert_eq(stn__file_write(path, text, sizeof text, NULL), STN_OK);
    expect_unreadable(path);
    /* The name of the file is all there is to go by. */
    stn_ctx *ctx = open_with(path, NULL);
    stn_err err = {0};
    const stn_model *model = NULL;
    cr_expect_eq(stn_model_load(ctx, "text", &model, &err), STN_E_PLUGIN);
    cr_expect(strstr(err.text, "no ELF file") != NULL, "%s", err.text);
    stn_close(ctx);
    cr_assert_eq(unlink(path), 0);
    expect_unreadable(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    expect_unreadable(path);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(mkfifo(path, 0600), 0);
    expect_unreadable(path);
    expect_unreadable("/proc/self/exe"); /* a program, or a position-independent one without note */
}

Test(loader, refuses_a_plugin_cut_at_any_length) {
    char path[128], *data = NULL;
    uint64_t size = 0;
    stn_plugin_note note;
    cr_assert_eq(stn__file_read(BAD("good"), 1 << 24, &data, &size, NULL), STN_OK);
    snprintf(path, sizeof path, "%s/cut.so", scratch);
    cr_assert_eq(stn__file_append(path, data, size, NULL), STN_OK);
    cr_expect_eq(stn__note_read(path, &note, NULL), STN_OK);
    for (uint64_t n = size; n-- > 0;) {
        n = n < 4096 || n + 256 > size ? n : n - n % 61;
        stn_err err = {0};
        cr_assert_eq(truncate(path, (off_t)n), 0);
        cr_assert_neq(stn__note_read(path, &note, &err), STN_OK, "%lu", (unsigned long)n);
        cr_assert(err.text[0] != '\0');
    }
    stn__free(data);
}

/* Every byte of the headers set to every one of a few values: any answer, but no crash. */
Test(loader, survives_damaged_headers) {
    static const unsigned char values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    char path[128], *data = NULL;
    uint64_t size = 0;
    uint32_t refused = 0;
    cr_assert_eq(stn__file_read(BAD("good"), 1 << 24, &data, &size, NULL), STN_OK);
    snprintf(path, sizeof path, "%s/damaged.so", scratch);
    cr_assert_eq(stn__file_append(path, data, size, NULL), STN_OK);
    FILE *file = fopen(path, "r+b");
    cr_assert(file != NULL);
    for (long at = 0; at < 1024; at++) {
        for (size_t v = 0; v < sizeof values; v++) {
            stn_plugin_note note;
            fseek(file, at, SEEK_SET);
            fputc(values[v], file);
            fflush(file);
            refused += stn__note_read(path, &note, NULL) != STN_OK;
        }
        fseek(file, at, SEEK_SET);
        fputc((unsigned char)data[at], file);
        fflush(file);
    }
    fclose(file);
    stn__free(data);
    cr_expect_gt(refused, 0);
    stn_plugin_note note;
    cr_expect_eq(stn__note_read(path, &note, NULL), STN_OK);
}

/* ---- sound plugins ---- */

Test(loader, runs_an_old_plugin_with_stubs) {
    stn_ctx *ctx = open_with(BAD("old"), NULL);
    const stn_backend *backend = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_backend_load(ctx, "old", &backend, &err), STN_OK, "%s", err.text);
    cr_expect_eq(backend->struct_size, sizeof *backend);
    uint32_t count = 0;
    cr_expect_eq(backend->device_count(&count, &err), STN_OK);
    cr_expect_eq(count, 3);
    cr_expect_eq(backend->prepare_end(NULL, NULL, NULL, &err), STN_E_UNSUPPORTED);
    uint64_t ns = 77;
    uint32_t launches = 1;
    cr_expect_eq(backend->op_time(NULL, NULL, &ns, &err), STN_E_UNSUPPORTED);
    cr_expect_eq(backend->op_launches(NULL, &launches, &err), STN_E_UNSUPPORTED);
    stn_launch launch = {.struct_size = sizeof launch, .flops = 1};
    cr_expect_eq(backend->op_launch_get(NULL, 0, &launch, &err), STN_E_UNSUPPORTED);
    cr_expect(launch.flops == 0 && launch.struct_size == sizeof launch);
    cr_expect_eq(launches, 0);
    cr_expect_eq(ns, 0);
    expect_one_line(err.text);
    void *memory = &ns;
    cr_expect_eq(backend->host_alloc(NULL, 64, &memory, &err), STN_E_UNSUPPORTED);
    cr_expect_null(memory);
    backend->host_free(NULL, NULL);
    stn_peaks peaks = {.struct_size = sizeof peaks, .flops = 1.0, .bytes = 1.0};
    cr_expect_eq(backend->peaks(NULL, &peaks, &err), STN_E_UNSUPPORTED);
    cr_expect(peaks.flops <= 0.0 && peaks.bytes <= 0.0);
    stn_close(ctx);
}

Test(loader, runs_a_plugin_of_the_future) {
    stn_ctx *ctx = open_with(BAD("long"), NULL);
    const stn_backend *backend = NULL;
    cr_assert_eq(stn_backend_load(ctx, "long", &backend, NULL), STN_OK);
    cr_expect_eq(backend->struct_size, sizeof *backend);
    cr_expect_eq(backend->prepare_end(NULL, NULL, NULL, NULL), STN_OK);
    stn_close(ctx);
}

Test(loader, stubs_of_a_dataset) {
    stn_ctx *ctx = open_with(BAD("toy"), NULL);
    const stn_dataset *dataset = NULL;
    cr_assert_eq(stn_dataset_load(ctx, "toy", &dataset, NULL), STN_OK);
    stn_augment augment;
    memset(&augment, 0xff, sizeof augment);
    augment.struct_size = sizeof augment;
    cr_expect_eq(dataset->augment(NULL, NULL, &augment, NULL), STN_E_UNSUPPORTED);
    cr_expect_eq(augment.n_clutter, 0);
    cr_expect_eq(augment.struct_size, sizeof augment);
    dataset->close(NULL);
    stn_close(ctx);
}

Test(loader, starts_once_for_all_contexts_and_stops_with_the_last) {
    lines log = {{0}};
    const stn_backend *a = NULL, *b = NULL;
    stn_ctx *first = open_with(BAD("good"), &log), *second = open_with(BAD("good"), &log);
    cr_assert_eq(stn_backend_load(first, "good", &a, NULL), STN_OK);
    cr_assert_eq(stn_backend_load(second, "good", &b, NULL), STN_OK);
    cr_assert_eq(stn_backend_load(second, "good", &b, NULL), STN_OK);
    cr_expect_eq(count_of(log.text, "good starts"), 1, "%s", log.text);
    stn_close(first);
    cr_expect_eq(count_of(log.text, "good stops"), 0);
    stn_close(second);
    cr_expect_eq(count_of(log.text, "good stops"), 1, "%s", log.text);
    first = open_with(BAD("good"), &log);
    cr_assert_eq(stn_backend_load(first, "good", &a, NULL), STN_OK);
    cr_expect_eq(count_of(log.text, "good starts"), 2);
    stn_close(first);
}

static void *load_good(void *ctx) {
    const stn_backend *backend = NULL;
    return stn_backend_load(ctx, "good", &backend, NULL) == STN_OK ? (void *)backend : NULL;
}

Test(loader, many_threads_load_one_plugin) {
    lines log = {{0}};
    pthread_t thread[8];
    void *backend[8];
    stn_ctx *ctx = open_with(BAD("good"), &log);
    for (int i = 0; i < 8; i++) {
        cr_assert_eq(pthread_create(&thread[i], NULL, load_good, ctx), 0);
    }
    for (int i = 0; i < 8; i++) {
        pthread_join(thread[i], &backend[i]);
        cr_expect(backend[i] != NULL && backend[i] == backend[0]);
    }
    cr_expect_eq(count_of(log.text, "good starts"), 1);
    stn_close(ctx);
}

static void copy_file(const char *from, const char *to) {
    char *data = NULL;
    uint64_t size = 0;
    cr_assert_eq(stn__file_read(from, 1 << 24, &data, &size, NULL), STN_OK);
    cr_assert_eq(stn__file_write(to, data, size, NULL), STN_OK);
    stn__free(data);
}

Test(loader, searches_in_order_and_the_first_of_a_name_wins) {
    char path[4][160], plugin_path[400];
    static const char *const dirs[] = {"b", "a", "stn", "stn/plugins"};
    for (int i = 0; i < 4; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s", scratch, dirs[i]);
        cr_assert_eq(mkdir(path[i], 0700), 0);
        snprintf(path[i], sizeof path[i], "%s/%s/x.so", scratch, dirs[i]);
        copy_file(BAD("good"), path[i]);
    }
    snprintf(plugin_path, sizeof plugin_path, "%s/b:%s/none::relative:%s/a", scratch, scratch,
             scratch);
    lines log = {{0}};
    stn_open_options options = {.plugin_path = plugin_path, .log = collect, .log_user = &log};
    stn_ctx *ctx = NULL;
    cr_assert_eq(stn_open(&options, &ctx, NULL), STN_OK);
    static const int order[] = {0, 1, 3}; /* b, a, user directory */
    for (uint32_t i = 0; i < 3; i++) {
        stn_plugin_info info;
        cr_assert_eq(stn_plugin_get(ctx, i, &info), STN_OK);
        cr_expect_str_eq(info.path, path[order[i]]);
        cr_expect_eq(info.shadowed, i > 0);
    }
    cr_expect(strstr(log.text, "'relative' is passed over") != NULL, "%s", log.text);
    stn_err err = {0};
    const stn_backend *backend = NULL;
    cr_expect_eq(stn_backend_load(ctx, "gold", &backend, &err), STN_E_NODEVICE);
    cr_expect(strstr(err.text, "did you mean 'good'?") != NULL, "%s", err.text);
    cr_expect(strstr(err.text, scratch) != NULL);
    stn_close(ctx);
    /* The same from the environment. */
    setenv("STN_PLUGIN_PATH", plugin_path, 1);
    cr_assert_eq(stn_open(NULL, &ctx, NULL), STN_OK);
    stn_plugin_info info;
    cr_assert_eq(stn_plugin_get(ctx, 0, &info), STN_OK);
    cr_expect_str_eq(info.path, path[0]);
    stn_close(ctx);
}

Test(loader, never_searches_the_working_directory) {
    char path[160];
    snprintf(path, sizeof path, "%s/stn_here.so", scratch);
    copy_file(BAD("good"), path);
    cr_assert_eq(chdir(scratch), 0);
    setenv("XDG_DATA_HOME", ".", 1); /* relative: does not count */
    setenv("HOME", "relative", 1);
    setenv("STN_PLUGIN_PATH", ".::", 1);
    stn_ctx *ctx = NULL;
    cr_assert_eq(stn_open(NULL, &ctx, NULL), STN_OK);
    for (uint32_t i = 0; i < stn_plugin_count(ctx); i++) {
        stn_plugin_info info;
        cr_assert_eq(stn_plugin_get(ctx, i, &info), STN_OK);
        cr_expect(strstr(info.path, "stn_here") == NULL, "%s", info.path);
    }
    stn_close(ctx);
    /* Named by the user it is taken, under its absolute path. */
    ctx = open_with("stn_here.so", NULL);
    stn_plugin_info info;
    cr_assert_eq(stn_plugin_get(ctx, 0, &info), STN_OK);
    cr_expect(info.path[0] == '/' && !info.refused, "%s", info.path);
    const stn_backend *backend = NULL;
    cr_expect_eq(stn_backend_load(ctx, "good", &backend, NULL), STN_OK);
    stn_close(ctx);
}

/* ---- memory running out ---- */

Test(loader, open_survives_every_failed_allocation) {
    const char *const files[] = {BAD("good"), BAD("note_magic"), BAD("toy"), NULL};
    stn_open_options options = {.plugin_files = files, .plugin_path = STN_TEST_PLUGIN_DIR};
    uint64_t before = stn__alloc_live();
    int32_t status = STN_E_FAIL;
    int64_t k = 0;
    for (; status != STN_OK; k++) {
        stn_ctx *ctx = NULL;
        stn_err err = {0};
        stn__alloc_fail_after(k);
        status = stn_open(&options, &ctx, &err);
        stn__alloc_fail_after(-1);
        if (status != STN_OK) {
            cr_assert_eq(status, STN_E_NOMEM, "%ld: %s", (long)k, err.text);
            expect_one_line(err.text);
            cr_assert_null(ctx);
        }
        stn_close(ctx);
        cr_assert_eq(stn__alloc_live(), before, "leak at %ld", (long)k);
    }
    cr_expect_gt(k, 10);
}

Test(loader, device_and_data_survive_every_failed_allocation) {
    char dir[256], file[320], found[512];
    snprintf(dir, sizeof dir, "%s/toy", scratch);
    snprintf(file, sizeof file, "%s/images", dir);
    cr_assert_eq(mkdir(dir, 0700), 0);
    cr_assert_eq(stn__file_write(file, "x", 1, NULL), STN_OK);
    const char *const files[] = {BAD("good"), BAD("toy"), NULL};
    stn_open_options options = {.plugin_files = files};
    bool done = false;
    for (int64_t k = 0; !done; k++) {
        stn_ctx *ctx = NULL;
        stn_dev *dev = NULL;
        cr_assert_eq(stn_open(&options, &ctx, NULL), STN_OK);
        uint64_t before = stn__alloc_live();
        stn__alloc_fail_after(k);
        int32_t device = stn_dev_open(ctx, "good", NULL, NULL, &dev, NULL);
        stn_dev_close(dev);
        int32_t data = stn_data_find(ctx, "toy", scratch, found, sizeof found, NULL);
        stn__alloc_fail_after(-1);
        cr_assert(device == STN_OK || device == STN_E_NOMEM, "%d", device);
        cr_assert(data == STN_OK || data == STN_E_NOMEM, "%d", data);
        done = device == STN_OK && data == STN_OK;
        /* Only the records of the two libraries may stay. */
        cr_assert_leq(stn__alloc_live(), before + 2);
        stn_close(ctx);
    }
    cr_expect_str_eq(found, dir);
}
