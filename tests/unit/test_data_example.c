/* The example dataset through the core's loader: the same shapes everywhere, all classes, shifts
 * within the option, and batches that follow from the key alone. */
#include <criterion/criterion.h>

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "base/mem.h"
#include "data/batch.h"

static void *host_alloc(uint64_t n, uint64_t align) {
    (void)align;
    return stn__alloc(n);
}
static const stn_host host = {.struct_size = sizeof host, .alloc = host_alloc, .free = stn__free};
static const stn_dataset *dataset;
static stn_data *data;
static stn_data_info info = {.struct_size = sizeof info};

static void open_example(const char *shift) {
    stn_err err;
    const char *name = "shift";
    const stn_options options = {sizeof options, shift != NULL ? 1u : 0u, &name, &shift};
    void *so = dlopen(STN_TEST_PLUGIN_DIR "/stn_example.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(so, "%s", dlerror());
    const stn_plugin *plugin = dlsym(so, "stn_plugin_entry");
    cr_assert(plugin != NULL && plugin->kind == STN_KIND_DATASET);
    cr_assert_eq(plugin->init(&host, &err), STN_OK);
    dataset = plugin->vtable;
    cr_assert_eq(dataset->open("", &options, &data, &err), STN_OK);
    cr_assert_eq(dataset->info(data, &info, &err), STN_OK);
}

Test(example, shapes_are_the_same_everywhere) {
    open_example(NULL);
    cr_assert_str_eq(info.hash, "000000000000000000000000000000000000000000000000b1a5b1a9f4a502a9");
    dataset->close(data);
}

Test(example, batches_hold_all_classes_and_shifted_shapes) {
    open_example("3");
    stn_err err;
    stn__batch b;
    stn__loader *loader;
    const stn__loader_spec spec = {dataset, data, &info, STN_SPLIT_TRAIN, 100, 1, true};
    uint32_t seen[10] = {0}, moved = 0;
    cr_assert_eq(stn__loader_open(&spec, &loader, &err), STN_OK);
    for (uint64_t step = 0; step < stn__loader_steps(loader); step++) {
        cr_assert_eq(stn__loader_next(loader, &b, &err), STN_OK, "%s", err.text);
        const float *pixels = b.images;
        for (uint32_t i = 0; i < b.count; i++) {
            const double *pose = b.poses + 4 * i;
            double mass = 0;
            for (uint32_t k = 0; k < 784; k++) {
                mass += pixels[784 * i + k];
            }
            cr_assert(pose[2] >= -3 && pose[2] <= 3 && pose[3] >= -3 && pose[3] <= 3);
            cr_assert_gt(mass, 128 * 10);
            seen[b.labels[i]]++;
            moved += pose[2] != 0 || pose[3] != 0;
        }
    }
    for (int c = 0; c < 10; c++) {
        cr_assert_eq(seen[c], 200);
    }
    cr_assert_gt(moved, 1800);
    stn__loader_close(loader);
    dataset->close(data);
}

Test(example, needs_no_files) {
    stn_err err;
    stn_ctx *ctx;
    char dir[64] = "untouched";
    const stn_open_options options = {.plugin_path = STN_TEST_PLUGIN_DIR};
    cr_assert_eq(stn_open(&options, &ctx, &err), STN_OK);
    cr_assert_eq(stn_data_find(ctx, "example", NULL, dir, sizeof dir, &err), STN_OK, "%s",
                 err.text);
    cr_assert_str_eq(dir, "");
    stn_close(ctx);
}
