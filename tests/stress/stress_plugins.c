/* Plugins loaded from several threads: all of one context, all of a context of each thread's own,
 * while others list, look for names that do not exist, and close. */
#include <pthread.h>
#include <string.h>

#include <stn/stn.h>

#include "stress.h"

enum { THREADS = 4, ROUNDS = 30 };

static void count_line(void *user, int32_t level, const char *line) {
    (void)level;
    REQUIRE(strchr(line, '\n') == NULL);
    (void)__atomic_add_fetch((uint32_t *)user, 1, __ATOMIC_RELAXED);
}

static void load_all(stn_ctx *ctx) {
    const stn_backend *backend = NULL;
    const stn_dataset *dataset = NULL;
    const stn_model *model = NULL;
    stn_err missing = {0};
    REQUIRE_OK(stn_dataset_load(ctx, "example", &dataset, err));
    REQUIRE_OK(stn_backend_load(ctx, "cpu", &backend, err));
    REQUIRE_OK(stn_model_load(ctx, "example_stn", &model, err));
    REQUIRE(backend != NULL && dataset != NULL && model != NULL);
    REQUIRE(stn_backend_load(ctx, "cpuu", &backend, &missing) == STN_E_NODEVICE);
    REQUIRE(strstr(missing.text, "cpu") != NULL);
    for (uint32_t i = 0; i < stn_plugin_count(ctx); i++) {
        stn_plugin_info info;
        REQUIRE(stn_plugin_get(ctx, i, &info) == STN_OK);
    }
}

static void list_devices(stn_ctx *ctx) {
    stn_device_entry entry[4];
    uint32_t n = 0;
    REQUIRE_OK(stn_device_list(ctx, "cpu", entry, 4, &n, err));
    REQUIRE(n == 1);
}

static stn_ctx *open_context(uint32_t *lines) {
    const stn_open_options options = {
        .plugin_path = STN_TEST_PLUGIN_DIR, .log = count_line, .log_user = lines};
    stn_ctx *ctx = NULL;
    REQUIRE_OK(stn_open(&options, &ctx, err));
    return ctx;
}

static void *visit(void *user) {
    stn_ctx *shared = user;
    uint32_t lines = 0;
    load_all(shared);
    list_devices(shared);
    stn_ctx *own = open_context(&lines);
    load_all(own);
    stn_close(own);
    return NULL;
}

int main(void) {
    uint32_t lines = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        pthread_t thread[THREADS];
        stn_ctx *ctx = open_context(&lines);
        for (uint32_t i = 0; i < THREADS; i++) {
            REQUIRE(pthread_create(&thread[i], NULL, visit, ctx) == 0);
        }
        for (uint32_t i = 0; i < THREADS; i++) {
            REQUIRE(pthread_join(thread[i], NULL) == 0);
        }
        stn_close(ctx);
    }
    REQUIRE(lines > 0);
    return 0;
}
