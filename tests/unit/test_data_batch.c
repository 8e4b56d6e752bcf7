/* Batches: order, short batches, random access, passes, errors and memory, with a small dataset
 * whose pixels, labels and poses say which sample they belong to. */
#include <criterion/criterion.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <stn/op.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/batch.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define SIDE 6u
#define PIXELS (SIDE * SIDE)

struct stn_data {
    _Atomic int32_t bad_sample; /* get fails when it meets this sample, -1: never */
    int32_t bad_label;          /* label of sample 3, if not 0 */
};

static int32_t fake_get(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                        uint8_t *images, int32_t *labels, stn_err *err) {
    for (uint32_t i = 0; i < n; i++) {
        if ((int32_t)sample[i] == data->bad_sample) {
            return stn_fail(err, STN_E_IO, "sample %u is unreadable", sample[i]);
        }
        memset(images + i * PIXELS, (int)(sample[i] + 100 * split), PIXELS);
        labels[2 * i] = (int32_t)sample[i] % 10;
        labels[2 * i + 1] = 9 - (int32_t)sample[i] % 10;
        if (sample[i] == 3 && data->bad_label != 0) {
            labels[2 * i + 1] = data->bad_label;
        }
    }
    return STN_OK;
}

static int32_t fake_augment(stn_data *data, const stn_draw_key *key, stn_augment *out,
                            stn_err *err) {
    (void)data;
    (void)err;
    *out = (stn_augment){.shift_x = (int32_t)stn_draw_below(key, 0, 0, 5) - 2};
    out->pose[0] = key->sample;
    out->pose[1] = key->pass;
    out->pose[2] = key->split;
    out->pose[3] = out->shift_x;
    return STN_OK;
}

static const stn_dataset dataset = {.get = fake_get, .augment = fake_augment};
static struct stn_data fake = {.bad_sample = -1};
static stn_data_info info = {.channels = 1,
                             .src_h = SIDE,
                             .src_w = SIDE,
                             .out_h = SIDE,
                             .out_w = SIDE,
                             .heads = 2,
                             .classes = 10,
                             .augments = 1,
                             .count = {50, 23}};

static stn__loader_spec spec_of(uint32_t split, uint32_t batch, bool shuffle) {
    return (stn__loader_spec){.dataset = &dataset,
                              .data = &fake,
                              .info = &info,
                              .split = split,
                              .batch = batch,
                              .seed = UINT64_C(0x123456789),
                              .shuffle = shuffle};
}

static stn__loader *open_loader(uint32_t split, uint32_t batch, bool shuffle) {
    stn_err err;
    stn__loader *loader;
    const stn__loader_spec spec = spec_of(split, batch, shuffle);
    cr_assert_eq(stn__loader_open(&spec, &loader, &err), STN_OK, "%s", err.text);
    return loader;
}

static stn__batch next(stn__loader *loader) {
    stn_err err;
    stn__batch batch;
    cr_assert_eq(stn__loader_next(loader, &batch, &err), STN_OK, "%s", err.text);
    return batch;
}

Test(batch, epochs_follow_the_shuffle_and_keep_the_short_batch) {
    stn__loader *loader = open_loader(STN_SPLIT_TRAIN, 16, true);
    cr_assert_eq(stn__loader_steps(loader), 4);
    cr_assert_eq(stn__loader_input_dtype(loader), STN_F32);
    for (uint32_t epoch = 0; epoch < 5; epoch++) {
        uint32_t order[50];
        stn__shuffle(UINT64_C(0x123456789), epoch, order, 50);
        for (uint32_t k = 0; k < 4; k++) {
            stn__batch b = next(loader);
            cr_assert(b.step == 4 * epoch + k && b.pass == epoch);
            cr_assert_eq(b.count, k < 3 ? 16 : 2);
            cr_assert_eq(memcmp(b.sample, order + 16 * k, b.count * sizeof *order), 0);
        }
    }
    stn__loader_close(loader);
}

Test(batch, rows_belong_to_their_samples) {
    stn__loader *loader = open_loader(STN_SPLIT_TRAIN, 16, true);
    for (int step = 0; step < 8; step++) {
        stn__batch b = next(loader);
        const float *images = b.images;
        for (uint32_t i = 0; i < b.count; i++) {
            const double *pose = b.poses + 4 * i;
            cr_assert(pose[0] == b.sample[i] && pose[1] == b.pass && pose[2] == STN_SPLIT_TRAIN);
            cr_assert_eq(b.labels[2 * i], (int32_t)b.sample[i] % 10);
            cr_assert_eq(b.labels[2 * i + 1], 9 - (int32_t)b.sample[i] % 10);
            for (int x = 0; x < (int)SIDE; x++) {
                bool inside = x - (int)pose[3] >= 0 && x - (int)pose[3] < (int)SIDE;
                cr_assert_eq(images[i * PIXELS + (uint32_t)x], inside ? (float)b.sample[i] : 0.0f);
            }
        }
        for (uint32_t i = b.count * PIXELS; i < 16 * PIXELS; i++) {
            cr_assert_eq(images[i], 0.0f, "a row past the count");
        }
    }
    stn__loader_close(loader);
}

Test(batch, any_step_alone_equals_the_step_in_sequence) {
    static float images[40][16 * PIXELS];
    stn_err err;
    stn__loader *loader = open_loader(STN_SPLIT_TRAIN, 16, true);
    for (int step = 0; step < 40; step++) {
        memcpy(images[step], next(loader).images, sizeof images[0]);
    }
    uint32_t jump = 1;
    for (int k = 0; k < 300; k++) {
        jump = jump * 1664525u + 1013904223u;
        uint64_t step = (jump >> 8) % 38;
        cr_assert_eq(stn__loader_seek(loader, step, &err), STN_OK);
        for (uint64_t i = 0; i <= (uint64_t)k % 3; i++) {
            stn__batch b = next(loader);
            cr_assert_eq(b.step, step + i);
            cr_assert_eq(memcmp(b.images, images[step + i], sizeof images[0]), 0);
        }
    }
    stn__loader_close(loader);
}

Test(batch, a_batch_stays_until_the_next_call) {
    stn_err err;
    static float before[16 * PIXELS];
    stn__loader *loader = open_loader(STN_SPLIT_TRAIN, 16, true);
    stn__batch b = next(loader);
    memcpy(before, b.images, sizeof before);
    for (uint64_t step = 1; step < 200; step++) {
        cr_assert_eq(stn__loader_seek(loader, step, &err), STN_OK);
    }
    cr_assert_eq(memcmp(b.images, before, sizeof before), 0);
    cr_assert_eq(next(loader).step, 199);
    stn__loader_close(loader);
}

Test(batch, evaluation_passes_are_in_order_and_drawn_anew) {
    stn__loader *loader = open_loader(STN_SPLIT_TEST, 10, false);
    static float first[10 * PIXELS];
    bool differs = false;
    cr_assert_eq(stn__loader_steps(loader), 3);
    for (uint32_t pass = 0; pass < 3; pass++) {
        for (uint32_t k = 0; k < 3; k++) {
            stn__batch b = next(loader);
            cr_assert(b.pass == pass && b.count == (k < 2 ? 10u : 3u));
            for (uint32_t i = 0; i < b.count; i++) {
                cr_assert_eq(b.sample[i], 10 * k + i);
                cr_assert(b.poses[4 * i + 1] == pass && b.poses[4 * i + 2] == STN_SPLIT_TEST);
            }
            if (pass == 0 && k == 0) {
                memcpy(first, b.images, sizeof first);
            } else if (k == 0) {
                differs = differs || memcmp(first, b.images, sizeof first) != 0;
            }
        }
    }
    cr_assert(differs);
    stn__loader_close(loader);
    /* A batch larger than the test split is one short batch. */
    loader = open_loader(STN_SPLIT_TEST, 64, false);
    cr_assert_eq(stn__loader_steps(loader), 1);
    cr_assert_eq(next(loader).count, 23);
    cr_assert_eq(next(loader).pass, 1);
    stn__loader_close(loader);
}

Test(batch, plain_images_come_as_bytes) {
    info.augments = 0;
    stn__loader *loader = open_loader(STN_SPLIT_TEST, 10, false);
    cr_assert_eq(stn__loader_input_dtype(loader), STN_U8);
    for (int k = 0; k < 3; k++) {
        stn__batch b = next(loader);
        for (uint32_t i = 0; i < 10 * PIXELS; i++) {
            uint8_t want = i / PIXELS < b.count ? (uint8_t)(b.sample[i / PIXELS] + 100) : 0;
            cr_assert_eq(((const uint8_t *)b.images)[i], want);
        }
        cr_assert(b.poses[0] == 0 && b.poses[3] == 0);
    }
    stn__loader_close(loader);
}

Test(batch, errors_surface_where_they_arise_and_stay) {
    stn_err err = {0};
    stn__batch b;
    uint64_t live = stn__alloc_live();
    fake.bad_sample = 15;
    stn__loader *loader = open_loader(STN_SPLIT_TEST, 10, false);
    cr_assert_eq(next(loader).step, 0);
    for (int i = 0; i < 3; i++) {
        cr_assert_eq(stn__loader_next(loader, &b, &err), STN_E_IO);
        cr_assert_str_eq(err.text, "sample 15 is unreadable");
    }
    cr_assert_eq(stn__loader_next(loader, &b, NULL), STN_E_IO);
    cr_assert_eq(stn__loader_seek(loader, 2, &err), STN_OK);
    cr_assert_eq(next(loader).step, 2);
    cr_assert_eq(stn__loader_seek(loader, 1, &err), STN_OK);
    cr_assert_eq(stn__loader_next(loader, &b, &err), STN_E_IO);
    /* The cause has gone: the error stays until a seek, even to the same step. */
    fake.bad_sample = -1;
    cr_assert_eq(stn__loader_next(loader, &b, &err), STN_E_IO);
    cr_assert_eq(stn__loader_seek(loader, 1, &err), STN_OK);
    cr_assert_eq(next(loader).step, 1);
    stn__loader_close(loader);
    cr_assert_eq(stn__alloc_live(), live);

    static const int32_t bad[] = {-1, 10, INT32_MIN, INT32_MAX};
    for (size_t i = 0; i < COUNT(bad); i++) {
        fake.bad_label = bad[i];
        loader = open_loader(STN_SPLIT_TEST, 10, false);
        cr_assert_eq(stn__loader_next(loader, &b, &err), STN_E_FORMAT);
        stn__loader_close(loader);
    }
}

Test(batch, closing_at_any_moment) {
    uint64_t live = stn__alloc_live();
    stn__loader_close(NULL);
    for (uint32_t k = 0; k < 200; k++) {
        stn_err err;
        stn__loader *loader = open_loader(STN_SPLIT_TRAIN, 16, true);
        for (uint32_t i = 0; i < k % 7; i++) {
            (void)next(loader);
        }
        if (k % 3 == 0) {
            cr_assert_eq(stn__loader_seek(loader, k, &err), STN_OK);
        }
        stn__loader_close(loader);
    }
    cr_assert_eq(stn__alloc_live(), live);
}

Test(batch, bad_specifications_are_refused) {
    stn_err err = {0};
    stn__loader *loader;
    stn__loader_spec spec = spec_of(STN_SPLIT_TRAIN, 51, true);
    cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_USAGE);
    cr_expect_not_null(strstr(err.text, "51"), "%s", err.text);
    cr_expect_not_null(strstr(err.text, "50"), "%s", err.text);
    spec = spec_of(STN_SPLIT_TRAIN, 0, true);
    cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_USAGE);
    spec = spec_of(2, 10, false);
    cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_USAGE);
    spec = spec_of(STN_SPLIT_TEST, 10, false);
    const stn_data_info good = info;
    uint32_t *const fields[] = {&info.channels, &info.src_h, &info.out_w, &info.heads,
                                &info.classes};
    for (size_t i = 0; i < COUNT(fields); i++) {
        *fields[i] = 0;
        cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_PLUGIN);
        info = good;
    }
    info.channels = STN_MAX_CHANNELS + 1;
    cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_PLUGIN);
    info = good;
    info.augments = 0;
    info.out_h = SIDE + 1;
    cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_PLUGIN);
    info = good;
    info.count[STN_SPLIT_TEST] = 0;
    cr_expect_eq(stn__loader_open(&spec, &loader, &err), STN_E_FORMAT);
    info = good;
    loader = open_loader(STN_SPLIT_TEST, 10, false);
    cr_expect_eq(stn__loader_seek(loader, 3 * (UINT64_C(1) << 32), &err), STN_E_USAGE);
    cr_expect_eq(stn__loader_seek(loader, 3 * (UINT64_C(1) << 32) - 1, &err), STN_OK);
    cr_expect_eq(next(loader).pass, UINT32_MAX);
    stn__batch b;
    cr_expect_eq(stn__loader_next(loader, &b, &err), STN_E_USAGE);
    stn__loader_close(loader);
}

Test(batch, every_failed_allocation_is_reported) {
    uint64_t live = stn__alloc_live();
    const stn__loader_spec spec = spec_of(STN_SPLIT_TRAIN, 16, true);
    int failures = 0;
    for (int64_t k = 0;; k++) {
        stn_err err = {0};
        stn__loader *loader;
        stn__alloc_fail_after(k);
        int32_t status = stn__loader_open(&spec, &loader, &err);
        stn__alloc_fail_after(-1);
        stn__loader_close(loader);
        cr_assert_eq(stn__alloc_live(), live);
        if (status == STN_OK) {
            break;
        }
        cr_assert_eq(status, STN_E_NOMEM);
        cr_assert_null(loader);
        failures++;
    }
    cr_assert_gt(failures, 20);
}
