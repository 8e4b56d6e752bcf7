/* Execution of drawn transforms against an oracle written from the contract's text: every pixel is
 * looked up with bounds checks, without padding, tables or vectors. All comparisons are of bits. */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "data/augment.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static uint32_t state = 1;
static uint32_t next_random(void) {
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}
static float uniform(float lo, float hi) {
    return lo + (hi - lo) * (float)next_random() * 0x1p-24f;
}

/* ---- oracle --------------------------------------------------------------------------------- */

static float pixel(const uint8_t *image, int h, int w, int y, int x) {
    return y < 0 || y >= h || x < 0 || x >= w ? 0.0f : image[y * w + x];
}

static float lerp2(float a, float b, float c, float d, float fx, float fy) {
    float t = fmaf(fx, b - a, a), u = fmaf(fx, d - c, c);
    return stn_snap_x(fmaf(fy, u - t, t));
}

static float oracle_pixel(float x, int n) {
    float half = (float)((n - 1) / 2.0), q = fmaf(x, half, half);
    if (!(q >= -2.0f)) {
        q = -2.0f;
    }
    if (q > (float)(n + 1)) {
        q = (float)(n + 1);
    }
    return rintf(q * 1048576.0f) / 1048576.0f;
}

static void oracle_sample(const uint8_t *image, int h, int w, const float *t, int oh, int ow,
                          float *out) {
    for (int i = 0; i < oh * ow; i++) {
        double y = i / ow, x = i % ow;
        float yt = oh == 1 ? 0.0f : (float)((2 * y + 1 - oh) / (oh - 1));
        float xt = ow == 1 ? 0.0f : (float)((2 * x + 1 - ow) / (ow - 1));
        float gx = stn_snap_x(fmaf(t[0], xt, fmaf(t[1], yt, t[2])));
        float gy = stn_snap_x(fmaf(t[3], xt, fmaf(t[4], yt, t[5])));
        float px = oracle_pixel(gx, w), py = oracle_pixel(gy, h);
        int ix = (int)floorf(px), iy = (int)floorf(py);
        out[i] = lerp2(pixel(image, h, w, iy, ix), pixel(image, h, w, iy, ix + 1),
                       pixel(image, h, w, iy + 1, ix), pixel(image, h, w, iy + 1, ix + 1),
                       px - floorf(px), py - floorf(py));
    }
}

/* Half-pixel corners, border: source coordinate of output u when n pixels become m. */
static float oracle_resize(int u, int n, int m) {
    float x = stn_snap_x((float)((2.0 * u + 1 - m) / m));
    float q = fmaf(x, (float)n / 2, (float)(n - 1) / 2);
    q = q < 0 ? 0 : q > (float)(n - 1) ? (float)(n - 1) : q;
    return rintf(q * 1048576.0f) / 1048576.0f;
}

static void oracle_crop(const stn_clutter *c, const uint8_t *image, int w, int oh, int ow,
                        float *out) {
    for (int y = 0; y < (int)c->dst_h; y++) {
        for (int x = 0; x < (int)c->dst_w; x++) {
            int ty = c->dst_y + y, tx = c->dst_x + x;
            if (ty < 0 || ty >= oh || tx < 0 || tx >= ow) {
                continue;
            }
            float py = oracle_resize(y, (int)c->src_h, (int)c->dst_h);
            float px = oracle_resize(x, (int)c->src_w, (int)c->dst_w);
            int iy = (int)py, ix = (int)px;
            int jy = iy + 1 < (int)c->src_h ? iy + 1 : iy;
            int jx = ix + 1 < (int)c->src_w ? ix + 1 : ix;
            const uint8_t *s = image + (int)c->src_y * w + (int)c->src_x;
            float v = lerp2(s[iy * w + ix], s[iy * w + jx], s[jy * w + ix], s[jy * w + jx],
                            px - (float)ix, py - (float)iy);
            float sum = out[ty * ow + tx] + v;
            out[ty * ow + tx] = sum > 255.0f ? 255.0f : sum;
        }
    }
}

/* ---- a dataset whose answers the tests write ------------------------------------------------ */

struct stn_data {
    stn_augment draw;
    uint8_t images[2][2 * 20 * 20]; /* two samples, up to two channels */
};

static struct stn_data fake;

static int32_t fake_get(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                        uint8_t *images, int32_t *labels, stn_err *err) {
    (void)split;
    (void)err;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(images + i * sizeof data->images[0], data->images[sample[i]],
               sizeof data->images[0]);
        labels[i] = 0;
    }
    return STN_OK;
}

static int32_t fake_augment(stn_data *data, const stn_draw_key *key, stn_augment *out,
                            stn_err *err) {
    (void)key;
    (void)err;
    *out = data->draw;
    return STN_OK;
}

static const stn_dataset dataset = {.get = fake_get, .augment = fake_augment};
static const stn_data_info info = {.channels = 2,
                                   .src_h = 20,
                                   .src_w = 20,
                                   .out_h = 31,
                                   .out_w = 37,
                                   .heads = 1,
                                   .classes = 10,
                                   .augments = 1,
                                   .count = {2, 2}};

static void fill_images(void) {
    for (size_t i = 0; i < sizeof fake.images; i++) {
        ((uint8_t *)fake.images)[i] = (uint8_t)next_random();
    }
}

static int32_t run(float *out, double *pose, stn_err *err) {
    stn__augmenter a;
    const stn_draw_key key = {1, 2, 0, 0, 0};
    cr_assert_eq(stn__augmenter_open(&a, &dataset, &fake, &info, err), STN_OK);
    int32_t status = stn__augmenter_run(&a, &key, fake.images[0], out, pose, err);
    stn__augmenter_close(&a);
    return status;
}

/* ---- tests ---------------------------------------------------------------------------------- */

Test(augment, sampling_equals_the_contract_in_every_version) {
    static const int sizes[][4] = {{28, 28, 28, 28}, {28, 28, 112, 112}, {5, 3, 17, 9},
                                   {1, 7, 4, 1},     {2, 2, 33, 1},      {20, 30, 1, 40}};
    static const float special[] = {NAN, INFINITY, -INFINITY, 3e38f, 1e-40f, 0.0f, -0.0f, 1.0f};
    static uint8_t image[30 * 30];
    static float padded[35 * 35], want[112 * 112], got[2][112 * 112], xt[112], yt[112];
    for (int round = 0; round < 600; round++) {
        const int *s = sizes[(size_t)round % COUNT(sizes)];
        uint32_t stride = (uint32_t)s[1] + STN__PAD_BOTH;
        stn__sampling job = {padded,         xt, yt, (uint32_t)s[0], (uint32_t)s[1], (uint32_t)s[2],
                             (uint32_t)s[3], {0}};
        memset(padded, 0, sizeof padded);
        for (int i = 0; i < s[0] * s[1]; i++) {
            image[i] = (uint8_t)next_random();
            padded[((uint32_t)(i / s[1]) + STN__PAD_BEFORE) * stride + (uint32_t)(i % s[1]) +
                   STN__PAD_BEFORE] = image[i];
        }
        for (int i = 0; i < 6; i++) {
            bool odd = round % 5 == 4 && next_random() % 2 == 0;
            job.theta[i] = odd ? special[next_random() % COUNT(special)] : uniform(-2, 2);
        }
        stn__grid_axis(xt, job.out_w);
        stn__grid_axis(yt, job.out_h);
        oracle_sample(image, s[0], s[1], job.theta, s[2], s[3], want);
        size_t bytes = (size_t)(s[2] * s[3]) * sizeof(float);
        for (int plain = 0; plain < 2; plain++) {
            memset(got[plain], 0xff, sizeof got[plain]);
            stn__sample_plane(&job, plain != 0, got[plain]);
            cr_assert_eq(memcmp(got[plain], want, bytes), 0, "%dx%d to %dx%d, round %d, plain %d",
                         s[0], s[1], s[2], s[3], round, plain);
        }
    }
}

/* One bright pixel seen through weights of 2^-20 each way: the product lies below the envelope. */
Test(augment, tiny_values_are_snapped) {
    const uint32_t at = 5;
    static float padded[33 * 33], got[28 * 28], axis[28];
    const float shift = 0x1p-20f / 13.5f;
    padded[(at + 2) * 33 + at + 2] = 255.0f;
    stn__grid_axis(axis, 28);
    for (int plain = 0; plain < 2; plain++) {
        stn__sampling job = {padded, axis, axis, 28, 28, 28, 28, {1, 0, shift, 0, 1, shift}};
        stn__sample_plane(&job, plain != 0, got);
        float beside = got[(at - 1) * 28 + at], diagonal = got[(at - 1) * 28 + at - 1];
        cr_assert(beside > 0.0f && beside < 255.0f * 0x1p-18f, "%g", beside);
        cr_assert_eq(diagonal, 0.0f, "%g", diagonal);
    }
}

Test(augment, identity_and_quarter_turns_are_exact_on_28) {
    static const float turns[4][6] = {{1, 0, 0, 0, 1, 0},
                                      {0, -1, 0, 1, 0, 0}, /* counter-clockwise */
                                      {-1, 0, 0, 0, -1, 0},
                                      {0, 1, 0, -1, 0, 0}};
    static float padded[33 * 33], got[28 * 28], axis[28];
    for (int i = 0; i < 28 * 28; i++) {
        padded[(i / 28 + 2) * 33 + i % 28 + 2] = (float)(i % 251);
    }
    stn__grid_axis(axis, 28);
    for (int k = 0; k < 4; k++) {
        stn__sampling job = {padded, axis, axis, 28, 28, 28, 28, {0}};
        memcpy(job.theta, turns[k], sizeof job.theta);
        stn__sample_plane(&job, false, got);
        for (int y = 0; y < 28; y++) {
            for (int x = 0; x < 28; x++) {
                /* Where the turned content at (y, x) came from. */
                int from[4] = {y * 28 + x, x * 28 + 27 - y, (27 - y) * 28 + 27 - x,
                               (27 - x) * 28 + y};
                cr_assert_eq(got[y * 28 + x], (float)(from[k] % 251), "turn %d at %d,%d", k, y, x);
            }
        }
    }
}

Test(augment, placement_and_clutter_equal_the_oracle) {
    static float want[2][31 * 37], got[2][31 * 37];
    for (int round = 0; round < 400; round++) {
        stn_err err = {0};
        double pose[4] = {0};
        fill_images();
        fake.draw = (stn_augment){.mode = 0,
                                  .shift_x = (int32_t)(next_random() % 80) - 40,
                                  .shift_y = (int32_t)(next_random() % 80) - 40,
                                  .pose = {1, 2, 3, round},
                                  .n_clutter = next_random() % (STN_MAX_CLUTTER + 1)};
        for (uint32_t i = 0; i < fake.draw.n_clutter; i++) {
            stn_clutter *c = &fake.draw.clutter[i];
            *c = (stn_clutter){.split = next_random() % 2,
                               .sample = next_random() % 2,
                               .src_w = 1 + next_random() % 8,
                               .src_h = 1 + next_random() % 8,
                               .dst_x = (int32_t)(next_random() % 60) - 20,
                               .dst_y = (int32_t)(next_random() % 60) - 20,
                               .dst_w = 1 + next_random() % 20,
                               .dst_h = 1 + next_random() % 20};
            if (next_random() % 3 == 0) {
                c->dst_w = c->src_w;
                c->dst_h = c->src_h;
            }
            c->src_x = next_random() % (21 - c->src_w);
            c->src_y = next_random() % (21 - c->src_h);
        }
        for (int ch = 0; ch < 2; ch++) {
            for (int i = 0; i < 31 * 37; i++) {
                want[ch][i] = pixel(fake.images[0] + 400 * ch, 20, 20, i / 37 - fake.draw.shift_y,
                                    i % 37 - fake.draw.shift_x);
            }
            for (uint32_t i = 0; i < fake.draw.n_clutter; i++) {
                const stn_clutter *c = &fake.draw.clutter[i];
                oracle_crop(c, fake.images[c->sample] + 400 * ch, 20, 31, 37, want[ch]);
            }
        }
        cr_assert_eq(run(got[0], pose, &err), STN_OK, "%s", err.text);
        cr_assert_eq(memcmp(got, want, sizeof got), 0, "round %d", round);
        cr_assert(pose[0] == 1 && pose[3] == round);
    }
}

Test(augment, extreme_shifts_leave_an_empty_image) {
    static const int32_t far[] = {INT32_MIN, INT32_MIN + 20, -21, 38, INT32_MAX - 20, INT32_MAX};
    static float got[2 * 31 * 37];
    stn_err err;
    double pose[4];
    fill_images();
    for (size_t i = 0; i < COUNT(far); i++) {
        fake.draw = (stn_augment){.shift_x = far[i], .shift_y = far[COUNT(far) - 1 - i]};
        fake.draw.n_clutter = 1;
        fake.draw.clutter[0] = (stn_clutter){
            .src_w = 5, .src_h = 5, .dst_x = far[i], .dst_y = far[i], .dst_w = 9, .dst_h = 9};
        cr_assert_eq(run(got, pose, &err), STN_OK);
        for (size_t k = 0; k < COUNT(got); k++) {
            cr_assert_eq(got[k], 0.0f);
        }
    }
}

Test(augment, impossible_requests_of_a_plugin_are_refused) {
    const stn_clutter good = {.src_w = 6, .src_h = 6, .dst_w = 6, .dst_h = 6};
    stn_clutter bad[12];
    for (size_t i = 0; i < COUNT(bad); i++) {
        bad[i] = good;
    }
    bad[0].split = 2;
    bad[1].sample = 2;
    bad[2].src_x = 15;
    bad[3].src_y = 15;
    bad[4].src_w = 0;
    bad[5].src_h = 0;
    bad[6].src_w = 21;
    bad[7].src_x = UINT32_MAX;
    bad[8].dst_w = 0;
    bad[9].dst_h = 5000;
    bad[10].src_h = UINT32_MAX;
    bad[11].dst_w = UINT32_MAX;
    static float got[2 * 31 * 37];
    double pose[4];
    for (size_t i = 0; i < COUNT(bad); i++) {
        stn_err err = {0};
        fake.draw = (stn_augment){.n_clutter = 1, .clutter = {bad[i]}};
        cr_expect_eq(run(got, pose, &err), STN_E_PLUGIN, "case %zu", i);
    }
    stn_err err = {0};
    fake.draw = (stn_augment){.n_clutter = 1, .clutter = {good}};
    cr_expect_eq(run(got, pose, &err), STN_OK);
    fake.draw = (stn_augment){.n_clutter = STN_MAX_CLUTTER + 1};
    cr_expect_eq(run(got, pose, &err), STN_E_PLUGIN);
    fake.draw = (stn_augment){.mode = 2};
    cr_expect_eq(run(got, pose, &err), STN_E_PLUGIN);
}
