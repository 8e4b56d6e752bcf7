/* Runs on several threads of one context: each trains, evaluates and hashes, on a device of its own
 * or on one that all share. Every run ends with the hash that it has alone. */
#include <pthread.h>
#include <string.h>

#include <stn/stn.h>

#include "stress.h"

enum { THREADS = 3, STEPS = 6 };

static const char settings[] = "dataset = example\nmodel = example_stn\nnetwork = stn\nbatch = 20\n"
                               "steps = 6\nlr = 0.05\nmomentum = 0.9\n";

typedef struct side {
    stn_ctx *ctx;
    stn_dev *dev; /* NULL: opens its own */
    char hash[STN_HASH_HEX];
} side;

static stn_dev *open_device(stn_ctx *ctx) {
    static const char *const name[] = {"threads"}, *const value[] = {"3"};
    const stn_options options = {sizeof options, 1, name, value};
    stn_dev *dev = NULL;
    REQUIRE_OK(stn_dev_open(ctx, "cpu", NULL, &options, &dev, err));
    return dev;
}

static void *train(void *user) {
    side *s = user;
    stn_dev *dev = s->dev != NULL ? s->dev : open_device(s->ctx);
    stn_config *config = NULL;
    stn_run *run = NULL;
    stn_eval_result result;
    REQUIRE_OK(stn_config_new(s->ctx, &config, err));
    REQUIRE_OK(stn_config_text(config, settings, sizeof settings - 1, STN_FROM_FLAG, "test", err));
    REQUIRE_OK(stn_config_check(config, err));
    REQUIRE_OK(stn_run_open(s->ctx, config, dev, NULL, &run, err));
    REQUIRE_OK(stn_run_train(run, STEPS / 2, NULL, NULL, err));
    REQUIRE_OK(stn_run_eval(run, STN_SPLIT_TEST, 1, NULL, NULL, &result, err));
    REQUIRE_OK(stn_run_train(run, STEPS, NULL, NULL, err));
    REQUIRE_OK(stn_run_state_hash(run, s->hash, err));
    stn_run_close(run);
    stn_config_free(config);
    if (s->dev == NULL) {
        stn_dev_close(dev);
    }
    return NULL;
}

static void train_together(stn_ctx *ctx, stn_dev *dev, const char *expected) {
    pthread_t thread[THREADS];
    side sides[THREADS];
    for (uint32_t i = 0; i < THREADS; i++) {
        sides[i] = (side){.ctx = ctx, .dev = dev};
        REQUIRE(pthread_create(&thread[i], NULL, train, &sides[i]) == 0);
    }
    for (uint32_t i = 0; i < THREADS; i++) {
        REQUIRE(pthread_join(thread[i], NULL) == 0);
        REQUIRE(strcmp(sides[i].hash, expected) == 0);
    }
}

int main(void) {
    const stn_open_options options = {.plugin_path = STN_TEST_PLUGIN_DIR};
    side alone = {0};
    REQUIRE_OK(stn_open(&options, &alone.ctx, err));
    (void)train(&alone);
    train_together(alone.ctx, NULL, alone.hash);
    stn_dev *dev = open_device(alone.ctx);
    train_together(alone.ctx, dev, alone.hash);
    stn_dev_close(dev);
    stn_close(alone.ctx);
    return 0;
}
