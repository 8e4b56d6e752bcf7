/* The loader's thread under stress: seeks, waits, errors and closing at odd moments, several
 * loaders on one dataset. Every batch is compared with the same one made alone. */
#include <string.h>

#include "data/batch.h"
#include "stress.h"

#define SIDE 12u
#define BATCH 8u
#define LOADERS 3

static int32_t fake_get(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                        uint8_t *images, int32_t *labels, stn_err *err) {
    (void)data;
    for (uint32_t i = 0; i < n; i++) {
        if (split == STN_SPLIT_TEST && sample[i] == 40) {
            return stn_fail(err, STN_E_IO, "sample 40");
        }
        for (uint32_t k = 0; k < SIDE * SIDE; k++) {
            images[i * SIDE * SIDE + k] = (uint8_t)(sample[i] * 7 + k);
        }
        labels[i] = 0;
    }
    return STN_OK;
}

static int32_t fake_augment(stn_data *data, const stn_draw_key *key, stn_augment *out,
                            stn_err *err) {
    (void)data;
    (void)err;
    *out = (stn_augment){.mode = 1, .theta = {1, 0, 0, 0, 1, 0}};
    for (uint32_t i = 0; i < 6; i++) {
        out->theta[i] += (float)(stn_draw_unit(key, 0, i) - 0.5);
    }
    return STN_OK;
}

static const stn_dataset dataset = {.get = fake_get, .augment = fake_augment};
static const stn_data_info info = {.channels = 1,
                                   .src_h = SIDE,
                                   .src_w = SIDE,
                                   .out_h = SIDE,
                                   .out_w = SIDE,
                                   .heads = 1,
                                   .classes = 1,
                                   .augments = 1,
                                   .count = {77, 45}};

static stn__loader *open_loader(uint32_t split) {
    stn_err err;
    stn__loader *loader = NULL;
    const stn__loader_spec spec = {.dataset = &dataset,
                                   .info = &info,
                                   .split = split,
                                   .batch = BATCH,
                                   .seed = 5,
                                   .shuffle = split == STN_SPLIT_TRAIN};
    REQUIRE(stn__loader_open(&spec, &loader, &err) == STN_OK);
    return loader;
}

static uint32_t state = 9;
static uint32_t draw(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* Takes a few batches from `step` on and compares them with the table. */
static void visit(stn__loader *loader, uint32_t split, uint64_t step,
                  float (*table)[BATCH * SIDE * SIDE]) {
    stn_err err;
    stn__batch b;
    REQUIRE(stn__loader_seek(loader, step, &err) == STN_OK);
    for (uint32_t i = draw(5); i > 0; i--, step++) {
        int32_t status = stn__loader_next(loader, &b, &err);
        if (split == STN_SPLIT_TEST &&
            step % 6 == 5) { /* 45 images, sample 40 in the sixth batch */
            REQUIRE(status == STN_E_IO);
            return;
        }
        REQUIRE(status == STN_OK && b.step == step);
        REQUIRE(memcmp(b.images, table[step], sizeof table[step]) == 0);
    }
}

int main(void) {
    static float table[2][30][BATCH * SIDE * SIDE];
    stn_err err;
    stn__batch b;
    for (uint32_t split = 0; split < 2; split++) {
        stn__loader *loader = open_loader(split);
        for (uint64_t step = 0; step < 30; step++) {
            REQUIRE(stn__loader_seek(loader, step, &err) == STN_OK);
            if (stn__loader_next(loader, &b, &err) == STN_OK) {
                memcpy(table[split][step], b.images, sizeof table[0][0]);
            }
        }
        stn__loader_close(loader);
    }
    stn__loader *loaders[LOADERS] = {NULL};
    uint32_t split[LOADERS] = {0};
    for (int round = 0; round < 1500; round++) {
        uint32_t k = draw(LOADERS);
        if (loaders[k] == NULL) {
            split[k] = draw(2);
            loaders[k] = open_loader(split[k]);
        }
        visit(loaders[k], split[k], draw(25), table[split[k]]);
        if (draw(8) == 0) {
            stn__loader_close(loaders[k]);
            loaders[k] = NULL;
        }
    }
    for (int k = 0; k < LOADERS; k++) {
        stn__loader_close(loaders[k]);
    }
    return 0;
}
