/* A steady-state training step allocates nothing, touches no file, waits for nothing and compiles
 * nothing, on both backends; results come back once for all queued steps.
 *
 * CPU: no call at all in the whole process. OpenCL: no call of the program or of a plugin, because
 * the OpenCL runtimes themselves allocate when something is enqueued; what is asked of the runtime
 * is counted at its interface instead. */
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <string.h>

#include <stn/stn.h>

#include "count_calls.h"
#include "count_opencl.h"
#include "stress.h"
#include "tiny_model.h"

enum { BATCH = 16, SIDE = 28, COLLECTS = 3 };
enum { GPU_LAUNCHES = 40 }; /* of a step of sl1, at most */

typedef struct work {
    stn_ctx *ctx;
    stn_dev *dev;
    stn_net *net;
    uint8_t images[BATCH * SIDE * SIDE];
    int32_t labels[BATCH];
    uint64_t step, mem_limit;
} work;

static void open_net(work *w, const char *network, uint32_t optimizer) {
    stn_net_spec spec = tiny_spec();
    spec.model = "mnist_stn";
    spec.batch = BATCH;
    spec.optimizer = optimizer;
    spec.loc_rate = 1.0;
    spec.mem_limit = w->mem_limit;
    spec.request.channels = 1;
    spec.request.height = spec.request.width = SIDE;
    spec.request.heads = 1;
    spec.request.classes = 10;
    spec.request.width_factor = 0.2;
    spec.request.network = network;
    spec.request.variant = "rotate";
    spec.request.options.struct_size = sizeof(stn_options);
    REQUIRE_OK(stn_net_open(w->ctx, w->dev, &spec, &w->net, err));
    REQUIRE_OK(stn_net_init(w->net, 3, err));
    for (uint32_t i = 0; i < sizeof w->images; i++) {
        w->images[i] = (uint8_t)(i * i >> 3);
    }
    for (uint32_t i = 0; i < BATCH; i++) {
        w->labels[i] = (int32_t)(i % 10);
    }
    w->step = 0;
}

/* As a run does: fills the queue, then collects; a short batch every third step. */
static uint64_t train(work *w, uint32_t collects) {
    stn_step_result results[64];
    uint32_t depth = stn_net_queue_depth(w->net), n = 0;
    REQUIRE(depth <= 64);
    for (uint32_t c = 0; c < collects; c++) {
        for (uint32_t i = 0; i < depth; i++, w->step++) {
            stn_net_step_args args = {w->images, w->labels, w->step % 3 == 2 ? BATCH - 3 : BATCH,
                                      0.01,      w->step,   11};
            REQUIRE_OK(stn_net_train_step(w->net, &args, err));
        }
        REQUIRE_OK(stn_net_collect(w->net, results, &n, NULL, err));
        REQUIRE(n == depth);
    }
    return (uint64_t)collects * depth;
}

static void open_device(work *w, const char *backend, const char *option, const char *value) {
    const stn_options options = {sizeof options, 1, &option, &value};
    REQUIRE_OK(stn_dev_open(w->ctx, backend, NULL, &options, &w->dev, err));
}

static void close_device(work *w) {
    stn_net_close(w->net);
    stn_dev_close(w->dev);
    w->net = NULL;
    w->dev = NULL;
}

static void check_cpu(work *w, const char *kernels, const char *network, uint32_t optimizer) {
    open_device(w, "cpu", "cpu-kernels", kernels);
    count_calls_start();
    open_net(w, network, optimizer);
    REQUIRE(count_calls_stop().own > 0); /* the counter works */
    (void)train(w, 1);
    count_calls_start();
    (void)train(w, COLLECTS);
    call_counts calls = count_calls_stop();
    (void)printf("cpu %s %s: %llu calls\n", kernels, network, (unsigned long long)calls.all);
    REQUIRE(calls.all == 0);
    close_device(w);
}

static void check_opencl(work *w, const char *class, const char *network, uint32_t optimizer) {
    count_opencl_fn counts = NULL;
    open_device(w, "opencl", "device-class", class);
    open_net(w, network, optimizer);
    (void)train(w, 1);
    void *library = dlopen(COUNT_OPENCL, RTLD_NOW | RTLD_NOLOAD);
    void *symbol = library == NULL ? NULL : dlsym(library, "count_opencl");
    REQUIRE(symbol != NULL);
    memcpy(&counts, &symbol, sizeof counts);
    opencl_counts before = *counts();
    REQUIRE(before.create > 0 && before.build > 0 && before.wait > 0 && before.read > 0);
    count_calls_start();
    uint64_t steps = train(w, COLLECTS);
    call_counts calls = count_calls_stop();
    opencl_counts after = *counts();
    uint64_t launches = after.launch - before.launch;
    (void)printf("opencl %s %s: %llu calls, %.1f launches a step\n", class, network,
                 (unsigned long long)calls.own, (double)launches / (double)steps);
    REQUIRE(calls.own == 0);
    REQUIRE(after.create == before.create);
    REQUIRE(after.build == before.build);
    REQUIRE(after.wait - before.wait == COLLECTS);
    REQUIRE(after.read - before.read == COLLECTS);
    if (w->mem_limit == 0) {
        REQUIRE(after.write - before.write == 2 * steps); /* images and labels */
        REQUIRE(launches == steps * stn_net_launches(w->net, false));
        REQUIRE(strcmp(class, "gpu") != 0 || stn_net_launches(w->net, false) <= GPU_LAUNCHES);
    }
    close_device(w);
    (void)dlclose(library);
}

/* The next nets of the device get less than sl1 needs for a whole batch. */
static void limit_memory(work *w, const char *backend, const char *option, const char *value) {
    stn_net_memory memory;
    w->mem_limit = 0;
    open_device(w, backend, option, value);
    open_net(w, "sl1", STN_OPT_SGD);
    stn_net_memory_get(w->net, &memory);
    close_device(w);
    w->mem_limit = memory.total - 1;
}

/* The same in micro-batches. */
static void check_split(work *w) {
    limit_memory(w, "cpu", "cpu-kernels", "auto");
    check_cpu(w, "auto", "sl1", STN_OPT_SGD);
    limit_memory(w, "opencl", "device-class", "gpu");
    check_opencl(w, "gpu", "sl1", STN_OPT_SGD);
    w->mem_limit = 0;
}

/* Calls of a whole run of so many steps, opening and closing left out. */
static uint64_t run_calls(stn_ctx *ctx, stn_dev *dev, uint64_t steps) {
    static const char settings[] = "dataset = example\nmodel = example_stn\nnetwork = stn\n"
                                   "batch = 20\nsteps = 100\nlr = 0.05\n";
    stn_config *config = NULL;
    stn_run *run = NULL;
    REQUIRE_OK(stn_config_new(ctx, &config, err));
    REQUIRE_OK(stn_config_text(config, settings, sizeof settings - 1, STN_FROM_FLAG, "test", err));
    REQUIRE_OK(stn_config_check(config, err));
    REQUIRE_OK(stn_run_open(ctx, config, dev, NULL, &run, err));
    REQUIRE_OK(stn_run_train(run, 8, NULL, NULL, err)); /* starts the loader's thread */
    count_calls_start();
    REQUIRE_OK(stn_run_train(run, 8 + steps, NULL, NULL, err));
    uint64_t calls = count_calls_stop().all;
    stn_run_close(run);
    stn_config_free(config);
    return calls;
}

/* A run with its data: longer training makes no more calls. */
static void check_run(work *w) {
    open_device(w, "cpu", "threads", "2");
    uint64_t few = run_calls(w->ctx, w->dev, 8), many = run_calls(w->ctx, w->dev, 64);
    (void)printf("run: %llu calls in 8 steps, %llu in 64\n", (unsigned long long)few,
                 (unsigned long long)many);
    REQUIRE(few == many);
    stn_dev_close(w->dev);
    w->dev = NULL;
}

int main(void) {
    static work w;
    stn_open_options open = {.plugin_path = STN_TEST_PLUGIN_DIR};
    REQUIRE(setenv("STN_OPENCL_LIBRARY", COUNT_OPENCL, 1) == 0);
    REQUIRE_OK(stn_open(&open, &w.ctx, err));
    check_cpu(&w, "auto", "sl1", STN_OPT_SGD);
    check_cpu(&w, "auto", "c1", STN_OPT_ADAM);
    check_cpu(&w, "ref", "sl1", STN_OPT_SGD);
    check_run(&w);
    check_opencl(&w, "cpu-vector", "sl1", STN_OPT_SGD);
    check_opencl(&w, "cpu-vector", "c1", STN_OPT_ADAM);
    check_opencl(&w, "gpu", "sl1", STN_OPT_SGD);
    check_split(&w);
    stn_close(w.ctx);
    return 0;
}
