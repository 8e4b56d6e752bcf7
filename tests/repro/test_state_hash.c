/* The promise of the project: the same run gives the same state hash on every backend, kernel set
 * and number of threads, and across a checkpoint that moves between backends.
 *
 * Short runs here; `tools/test --long` repeats the comparison over 200 steps. A kernel set that the
 * CPU lacks and a missing data directory are listed skips (tests/skips.txt). */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stn/stn.h>

typedef struct side {
    const char *backend, *kernels, *threads, *device_class;
} side;

static const side sides[] = {
    {"cpu", "ref", "2", NULL},     {"cpu", "portable", "2", NULL},
    {"cpu", "avx2", "1", NULL},    {"cpu", "avx2", "7", NULL},
    {"cpu", "avx512", "1", NULL},  {"cpu", "avx512", "2", NULL},
    {"cpu", "avx512", "7", NULL},  {"opencl", NULL, NULL, "cpu-vector"},
    {"opencl", NULL, NULL, "gpu"},
};

static void print_line(void *user, int32_t level, const char *line) {
    (void)user;
    if (level <= STN_LOG_WARN) {
        fprintf(stderr, "%s\n", line);
    }
}

static stn_ctx *open_context(void) {
    stn_open_options options = {.log = print_line};
    stn_ctx *ctx = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_open(&options, &ctx, &err), STN_OK, "%s", err.text);
    return ctx;
}

/* NULL with a printed skip if the CPU lacks the kernel set. */
static stn_dev *open_device(stn_ctx *ctx, const side *s) {
    const char *name[3], *value[3];
    stn_options options = {sizeof options, 0, name, value};
    if (s->kernels != NULL) {
        name[options.count] = "cpu-kernels";
        value[options.count++] = s->kernels;
    }
    if (s->threads != NULL) {
        name[options.count] = "threads";
        value[options.count++] = s->threads;
    }
    if (s->device_class != NULL) {
        name[options.count] = "device-class";
        value[options.count++] = s->device_class;
    }
    stn_dev *dev = NULL;
    stn_err err = {0};
    int32_t status = stn_dev_open(ctx, s->backend, NULL, &options, &dev, &err);
    if (status == STN_E_NODEVICE && s->kernels != NULL) {
        printf("SKIP %s: not supported by this CPU\n", s->kernels);
        return NULL;
    }
    cr_assert_eq(status, STN_OK, "%s", err.text);
    return dev;
}

static stn_config *make_config(stn_ctx *ctx, const char *text) {
    stn_config *config = NULL;
    stn_err err = {0};
    cr_assert_eq(stn_config_new(ctx, &config, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_config_text(config, text, strlen(text), STN_FROM_FLAG, "test", &err), STN_OK,
                 "%s", err.text);
    cr_assert_eq(stn_config_env(config, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_config_check(config, &err), STN_OK, "%s", err.text);
    return config;
}

/* Trains to step `until` from `from` (a checkpoint or NULL); saves to `to` unless NULL. */
static bool train(const side *s, const char *text, uint64_t until, const char *from, const char *to,
                  char hash[STN_HASH_HEX]) {
    stn_err err = {0};
    stn_ctx *ctx = open_context();
    stn_dev *dev = open_device(ctx, s);
    if (dev == NULL) {
        stn_close(ctx);
        return false;
    }
    stn_config *config = make_config(ctx, text);
    stn_run *run = NULL;
    cr_assert_eq(stn_run_open(ctx, config, dev, NULL, &run, &err), STN_OK, "%s", err.text);
    if (from != NULL) {
        cr_assert_eq(stn_run_load(run, from, &err), STN_OK, "%s", err.text);
    }
    cr_assert_eq(stn_run_train(run, until, NULL, NULL, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_run_step(run), until);
    cr_assert_eq(stn_run_state_hash(run, hash, &err), STN_OK, "%s", err.text);
    if (to != NULL) {
        cr_assert_eq(stn_run_save(run, to, &err), STN_OK, "%s", err.text);
    }
    stn_run_close(run);
    stn_config_free(config);
    stn_dev_close(dev);
    stn_close(ctx);
    return true;
}

static void compare_sides(const char *text, uint64_t steps) {
    char first[STN_HASH_HEX] = "", hash[STN_HASH_HEX];
    for (size_t i = 0; i < sizeof sides / sizeof sides[0]; i++) {
        if (!train(&sides[i], text, steps, NULL, NULL, hash)) {
            continue;
        }
        if (first[0] == '\0') {
            memcpy(first, hash, sizeof first);
        }
        cr_expect_str_eq(hash, first, "%s %s%s threads %s: %s, expected %s", sides[i].backend,
                         sides[i].kernels ? sides[i].kernels : "",
                         sides[i].device_class ? sides[i].device_class : "",
                         sides[i].threads ? sides[i].threads : "-", hash, first);
    }
}

#define EXAMPLE "dataset = example\nmodel = example_stn\nnetwork = stn\n"

Test(state_hash, example_plugins) {
    compare_sides(
        EXAMPLE "batch = 20\nsteps = 5\nlr = 0.05\nmomentum = 0.9\nweight-decay = 0.001\n", 5);
}

Test(state_hash, adam) {
    compare_sides(EXAMPLE "batch = 13\nshards = 4\nsteps = 4\noptimizer = adam\n", 4);
}

static void need_mnist(void) {
    const char *dir = getenv("STN_DATA_DIR");
    if (dir == NULL || dir[0] == '\0') {
        cr_skip_test("no data directory with MNIST");
    }
}

#define MNIST "dataset = mnist\nmodel = mnist_stn\nbatch = 32\nmomentum = 0.9\n"

Test(state_hash, mnist_rotate_sl1) {
    need_mnist();
    compare_sides(MNIST "network = sl1\ndataset.distortion = rotate\nsteps = 5\n", 5);
}

Test(state_hash, mnist_rotate_c1) {
    need_mnist();
    compare_sides(MNIST "network = c1\ndataset.distortion = rotate\nsteps = 3\n", 3);
}

Test(state_hash, mnist_translate_c0) {
    need_mnist();
    compare_sides(MNIST "network = c0\ndataset.distortion = translate\nsteps = 2\n", 2);
}

Test(state_hash, resume_on_the_other_backend) {
    static const side cpu = {"cpu", NULL, "2", NULL}, opencl = {"opencl", NULL, NULL, NULL};
    static const char text[] = EXAMPLE "batch = 20\nsteps = 6\nmomentum = 0.9\n";
    char whole[STN_HASH_HEX], half[STN_HASH_HEX], resumed[STN_HASH_HEX], path[64];
    (void)snprintf(path, sizeof path, "/tmp/stn-test-%ld.stn", (long)getpid());
    (void)train(&cpu, text, 6, NULL, NULL, whole);
    (void)train(&cpu, text, 3, NULL, path, half);
    (void)train(&opencl, text, 6, path, NULL, resumed);
    cr_expect_str_eq(resumed, whole);
    cr_expect_str_neq(half, whole);
    (void)train(&opencl, text, 3, NULL, path, half);
    (void)train(&cpu, text, 6, path, NULL, resumed);
    cr_expect_str_eq(resumed, whole);
    (void)remove(path);
}
