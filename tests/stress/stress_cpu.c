/* The CPU backend's thread pool and kernels with more threads than processors, compared with one
 * thread. Several devices are used from several threads at once.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "optest.h"

#define REQUIRE(condition, ...)                                                                    \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "line %d: ", __LINE__);                                          \
            (void)fprintf(stderr, __VA_ARGS__);                                                    \
            (void)fputc('\n', stderr);                                                             \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static const stn_backend *backend;

static optest_dev open_cpu(const char *kernels, const char *threads) {
    const char *options[] = {"threads", threads, "cpu-kernels", kernels, NULL};
    optest_dev dev;
    stn_err err = {0};
    REQUIRE(optest_open(backend, 0, options, &dev, &err) == STN_OK, "%s", err.text);
    return dev;
}

/* All tiny cases on one device against one thread of the reference. */
static void *run_all(void *user) {
    const char *const *setting = user;
    optest_dev one = open_cpu("ref", "1"), many = open_cpu(setting[0], setting[1]);
    optest_filter filter = {.tiny = true};
    uint32_t n = 0;
    for (const optest_case *c = NULL; (c = optest_next(c, &filter)) != NULL; n++) {
        optest_result a, b;
        stn_err err = {0};
        char text[256] = "";
        REQUIRE(optest_run(&one, c, &a, &err) == STN_OK, "%s: %s", c->name, err.text);
        REQUIRE(optest_run(&many, c, &b, &err) == STN_OK, "%s: %s", c->name, err.text);
        REQUIRE(optest_equal(c, &a, &b, text), "%s, %s, %s threads: %s", c->name, setting[0],
                setting[1], text);
        optest_free(&a);
        optest_free(&b);
    }
    REQUIRE(n > 1000, "only %u cases", n);
    optest_close(&one);
    optest_close(&many);
    return NULL;
}

int main(void) {
    static const char *const settings[][2] = {{"ref", "7"}, {"auto", "2"}, {"auto", "7"}};
    pthread_t thread[3];
    optest_filter all = {0};
    stn_err err = {0};
    char path[512];
    REQUIRE(optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, &err) == STN_OK,
            "%s", err.text);
    (void)optest_next(NULL, &all); /* builds the table before the threads share it */
    for (uint32_t i = 0; i < 3; i++) {
        void *setting = (void *)(uintptr_t)settings[i];
        REQUIRE(pthread_create(&thread[i], NULL, run_all, setting) == 0, "no thread");
    }
    for (uint32_t i = 0; i < 3; i++) {
        REQUIRE(pthread_join(thread[i], NULL) == 0, "no join");
    }
    return 0;
}
