/* Dataset plugin mnist: files plain and compressed, every deviation refused with one line, content
 * hash, and the draws of the distortions.
 *
 * Compressed files are written here as gzip with stored blocks, so that the test needs no zlib.
 */
#define _XOPEN_SOURCE 700
#include <criterion/criterion.h>

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stn/dataset.h>

#include "base/hash.h"
#include "base/mem.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define PIXELS 784u
#define N_TRAIN 30u
#define N_TEST 20u

static const char *const names[4] = {"train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                     "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"};

/* ---- files ---------------------------------------------------------------------------------- */

typedef struct bytes {
    uint8_t data[40000];
    uint64_t n;
} bytes;

static void put32(bytes *b, uint32_t v) {
    for (int i = 3; i >= 0; i--) {
        b->data[b->n++] = (uint8_t)(v >> (8 * i));
    }
}

static uint8_t pixel_of(uint32_t file, uint32_t i) {
    return (uint8_t)((i * 31 + i / 784 * 17 + file) % 256);
}

/* The correct content of file `k` of the four. */
static bytes content(uint32_t k) {
    bytes b = {.n = 0};
    uint32_t count = k < 2 ? N_TRAIN : N_TEST;
    put32(&b, k % 2 == 0 ? 0x803 : 0x801);
    put32(&b, count);
    if (k % 2 == 0) {
        put32(&b, 28);
        put32(&b, 28);
    }
    for (uint32_t i = 0; i < count * (k % 2 == 0 ? PIXELS : 1u); i++) {
        b.data[b.n++] = k % 2 == 0 ? pixel_of(k, i) : (uint8_t)(i * 7 % 10);
    }
    return b;
}

static bytes gzip(const bytes *plain) {
    bytes z = {.data = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3}, .n = 10};
    uint32_t crc = 0xffffffffu, n = (uint32_t)plain->n;
    const uint8_t head[5] = {1, (uint8_t)n, (uint8_t)(n >> 8), (uint8_t)~n, (uint8_t)(~n >> 8)};
    memcpy(z.data + z.n, head, sizeof head);
    memcpy(z.data + z.n + 5, plain->data, n);
    z.n += 5 + n;
    for (uint32_t i = 0; i < n; i++) {
        crc ^= plain->data[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
        }
    }
    for (int i = 0; i < 4; i++) {
        z.data[z.n + (uint64_t)i] = (uint8_t)(~crc >> (8 * i));
        z.data[z.n + 4 + (uint64_t)i] = (uint8_t)(n >> (8 * i));
    }
    z.n += 8;
    return z;
}

static char dir[64];

static void write_file(const char *name, const char *suffix, const bytes *b) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
    FILE *f = fopen(path, "wb");
    cr_assert(f != NULL && fwrite(b->data, 1, b->n, f) == b->n && fclose(f) == 0);
}

static void remove_file(const char *name, const char *suffix) {
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s%s", dir, name, suffix);
    (void)remove(path);
}

/* ---- the plugin ----------------------------------------------------------------------------- */

static void *host_alloc(uint64_t n, uint64_t align) {
    (void)align;
    return stn__alloc(n);
}
static void host_log(int32_t level, const char *text) {
    (void)level;
    (void)text;
}

static const stn_host host = {.struct_size = sizeof host,
                              .alloc = host_alloc,
                              .free = stn__free,
                              .log = host_log,
                              .sin = sin,
                              .cos = cos,
                              .exp2 = exp2,
                              .log_e = log};
static const stn_dataset *dataset;

static void load_plugin(void) {
    stn_err err;
    void *so = dlopen(STN_TEST_PLUGIN_DIR "/stn_mnist.so", RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(so, "%s", dlerror());
    const stn_plugin *plugin = dlsym(so, "stn_plugin_entry");
    cr_assert(plugin != NULL && plugin->kind == STN_KIND_DATASET);
    cr_assert_eq(plugin->init(&host, &err), STN_OK);
    dataset = plugin->vtable;
}

static void setup(void) {
    load_plugin();
    (void)snprintf(dir, sizeof dir, "/tmp/stn-test-mnist-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    for (uint32_t k = 0; k < 4; k++) {
        bytes b = content(k);
        write_file(names[k], "", &b);
    }
}

static void teardown(void) {
    for (uint32_t k = 0; k < 4; k++) {
        remove_file(names[k], "");
        remove_file(names[k], ".gz");
    }
    (void)rmdir(dir);
}

static int32_t open_with(const char *option, const char *value, stn_data **data, stn_err *err) {
    const stn_options options = {sizeof options, option != NULL ? 1u : 0u, &option, &value};
    return dataset->open(dir, &options, data, err);
}

static stn_data *open_ok(const char *option, const char *value) {
    stn_err err = {0};
    stn_data *data;
    cr_assert_eq(open_with(option, value, &data, &err), STN_OK, "%s", err.text);
    return data;
}

static stn_data_info info_of(stn_data *data) {
    stn_err err;
    stn_data_info info = {.struct_size = sizeof info};
    cr_assert_eq(dataset->info(data, &info, &err), STN_OK);
    return info;
}

TestSuite(mnist, .init = setup, .fini = teardown);

/* ---- files ---------------------------------------------------------------------------------- */

Test(mnist, plain_and_compressed_give_the_same_data_and_hash) {
    uint64_t live = stn__alloc_live();
    char want[STN__SHA256_HEX];
    stn__sha256 sha;
    stn_err err;
    cr_assert_eq(stn__sha256_init(&sha, &err), STN_OK);
    for (uint32_t k = 0; k < 4; k++) {
        bytes b = content(k);
        stn__sha256_update(&sha, b.data, b.n);
    }
    cr_assert_eq(stn__sha256_final(&sha, want, &err), STN_OK);
    for (int compressed = 0; compressed < 2; compressed++) {
        for (uint32_t k = 0; k < 4 && compressed != 0; k++) {
            bytes b = content(k), z = gzip(&b);
            remove_file(names[k], "");
            write_file(names[k], ".gz", &z);
        }
        stn_data *data = open_ok(NULL, NULL);
        stn_data_info info = info_of(data);
        cr_assert_str_eq(info.hash, want);
        cr_assert(info.count[0] == N_TRAIN && info.count[1] == N_TEST && info.channels == 1);
        cr_assert(info.src_h == 28 && info.out_w == 28 && info.augments == 0);
        cr_assert(info.heads == 1 && info.classes == 10);
        cr_assert_eq(strstr(info.files, ".gz") != NULL, compressed != 0);
        for (uint32_t split = 0; split < 2; split++) {
            const uint32_t sample[3] = {7, 0, 19};
            uint8_t images[3 * PIXELS];
            int32_t labels[3];
            cr_assert_eq(dataset->get(data, split, sample, 3, images, labels, &err), STN_OK);
            for (uint32_t i = 0; i < 3 * PIXELS; i++) {
                cr_assert_eq(images[i],
                             pixel_of(2 * split, sample[i / PIXELS] * PIXELS + i % PIXELS));
            }
            cr_assert(labels[0] == 9 && labels[1] == 0 && labels[2] == 3);
        }
        dataset->close(data);
    }
    cr_assert_eq(stn__alloc_live(), live);
}

Test(mnist, samples_that_do_not_exist_are_refused) {
    stn_err err;
    uint8_t image[PIXELS];
    int32_t label;
    uint32_t sample = N_TEST;
    stn_data *data = open_ok(NULL, NULL);
    cr_assert_eq(dataset->get(data, 1, &sample, 1, image, &label, &err), STN_E_USAGE);
    cr_assert_eq(dataset->get(data, 0, &sample, 1, image, &label, &err), STN_OK);
    cr_assert_eq(dataset->get(data, 2, &sample, 1, image, &label, &err), STN_E_USAGE);
    dataset->close(data);
}

/* What to do to file `file` before opening: set bytes at `at`, change the length, or remove it. */
typedef struct damage {
    const char *what;
    uint32_t file, at, value; /* a 32-bit big-endian value written at `at`, if at < 1000 */
    int64_t longer;           /* bytes added (or cut, negative) */
    const char *says;
} damage;

static const damage damages[] = {
    {"wrong magic of images", 0, 0, 0x801, 0, "magic"},
    {"wrong magic of labels", 3, 0, 0x803, 0, "magic"},
    {"rubbish", 2, 0, 0x68656c6c, 0, "magic"},
    {"no images", 0, 4, 0, 0, "0 items"},
    {"too many images", 0, 4, 0xffffffff, 0, "items"},
    {"many more images than bytes", 0, 4, 4000000, 0, "items"},
    {"one image more", 0, 4, N_TRAIN + 1, 0, "header says"},
    {"one image less", 0, 4, N_TRAIN - 1, 0, "longer"},
    {"one label more", 1, 4, N_TRAIN + 1, 0, "header says"},
    {"zero rows", 2, 8, 0, 0, "0x28"},
    {"zero columns", 2, 12, 0, 0, "28x0"},
    {"wrong columns", 2, 12, 29, 0, "28x29"},
    {"huge rows", 2, 8, 0x80000000, 0, "expected 28x28"},
    {"label ten", 1, 8, 0x00000a00, 0, "label 10 of item 2"},
    {"label 255", 3, 20, 0xff010203, 0, "label 255 of item 12"},
    {"cut by one", 0, 1000, 0, -1, "header says"},
    {"cut to the header", 2, 1000, 0, -(int64_t)(N_TEST *PIXELS), "header says"},
    {"cut inside the header", 2, 1000, 0, -(int64_t)(N_TEST *PIXELS + 1), "too short"},
    {"empty", 1, 1000, 0, -(int64_t)(N_TRAIN + 8), "too short"},
    {"one byte more", 0, 1000, 0, 1, "longer"},
    {"one label byte more", 3, 1000, 0, 1, "longer"},
};

static void expect_refused(int32_t want, const char *what, const char *file, const char *says) {
    stn_err err = {0};
    stn_data *data;
    uint64_t live = stn__alloc_live();
    cr_expect_eq(open_with(NULL, NULL, &data, &err), want, "%s: %d %s", what, err.code, err.text);
    cr_expect_not_null(strstr(err.text, says), "%s: %s", what, err.text);
    cr_expect_not_null(strstr(err.text, file), "%s: %s", what, err.text);
    cr_expect_null(strchr(err.text, '\n'));
    cr_expect_null(data);
    cr_expect_eq(stn__alloc_live(), live, "%s", what);
}

Test(mnist, damaged_files_are_refused_plain_and_compressed) {
    for (size_t i = 0; i < COUNT(damages); i++) {
        const damage *d = &damages[i];
        bytes b = content(d->file);
        if (d->at < 1000) {
            bytes v = {.n = 0};
            put32(&v, d->value);
            memcpy(b.data + d->at, v.data, 4);
        }
        b.n = (uint64_t)((int64_t)b.n + d->longer);
        bytes z = gzip(&b);
        write_file(names[d->file], "", &b);
        expect_refused(STN_E_FORMAT, d->what, names[d->file], d->says);
        remove_file(names[d->file], "");
        write_file(names[d->file], ".gz", &z);
        expect_refused(STN_E_FORMAT, d->what, names[d->file], d->says);
        remove_file(names[d->file], ".gz");
        b = content(d->file);
        write_file(names[d->file], "", &b);
    }
}

/* A compressed file cut at any byte, with any byte changed, or with a byte more. */
Test(mnist, damaged_gzip_is_refused) {
    bytes b = content(1), good = gzip(&b);
    remove_file(names[1], "");
    for (uint64_t n = 0; n < good.n; n++) {
        bytes z = good;
        z.n = n;
        write_file(names[1], ".gz", &z);
        expect_refused(STN_E_FORMAT, "cut", names[1], "");
    }
    for (uint64_t i = 0; i < good.n; i++) {
        /* Time, flags and system of the header mean nothing (flags that announce fields do). */
        if (i >= 4 && i < 10) {
            continue;
        }
        bytes z = good;
        z.data[i] ^= i == 10 ? 0x02 : 0x20; /* the upper bits of byte 10 are padding */
        write_file(names[1], ".gz", &z);
        expect_refused(STN_E_FORMAT, "changed", names[1], "");
    }
    bytes z = good;
    z.data[z.n++] = 0;
    write_file(names[1], ".gz", &z);
    expect_refused(STN_E_FORMAT, "longer", names[1], "longer");
    write_file(names[1], ".gz", &good);
    dataset->close(open_ok(NULL, NULL));
}

Test(mnist, counts_of_images_and_labels_must_agree) {
    bytes b = {.n = 0};
    put32(&b, 0x801);
    put32(&b, N_TEST - 1);
    b.n += N_TEST - 1;
    write_file(names[3], "", &b);
    expect_refused(STN_E_FORMAT, "one label less", names[3], "19 labels");
}

Test(mnist, missing_files_are_named) {
    for (uint32_t k = 0; k < 4; k++) {
        bytes b = content(k);
        remove_file(names[k], "");
        expect_refused(STN_E_NOTFOUND, "missing", names[k], "put the four IDX files");
        write_file(names[k], "", &b);
    }
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, names[0]);
    remove_file(names[0], "");
    cr_assert_eq(mkdtemp(strcat(path, "-XXXXXX")), path);
    char as_name[128];
    (void)snprintf(as_name, sizeof as_name, "%s/%s", dir, names[0]);
    cr_assert_eq(rename(path, as_name), 0);
    expect_refused(STN_E_IO, "a directory", names[0], "file");
    (void)rmdir(as_name);
}

Test(mnist, bad_options_are_refused) {
    stn_err err;
    stn_data *data;
    cr_expect_eq(open_with("distortion", "shear", &data, &err), STN_E_USAGE);
    cr_expect_eq(open_with("colour", "red", &data, &err), STN_E_USAGE);
}

Test(mnist, every_failed_allocation_is_reported) {
    uint64_t live = stn__alloc_live();
    for (uint32_t k = 0; k < 4; k += 2) {
        bytes b = content(k), z = gzip(&b);
        remove_file(names[k], "");
        write_file(names[k], ".gz", &z);
    }
    int failures = 0;
    for (int64_t k = 0;; k++) {
        stn_err err = {0};
        stn_data *data;
        stn__alloc_fail_after(k);
        int32_t status = open_with(NULL, NULL, &data, &err);
        stn__alloc_fail_after(-1);
        if (status == STN_OK) {
            dataset->close(data);
            break;
        }
        cr_assert_eq(status, STN_E_NOMEM, "%s", err.text);
        cr_assert_eq(stn__alloc_live(), live);
        failures++;
    }
    cr_assert_gt(failures, 8);
}

/* The original files: counts per digit as published. */
Test(mnist_real, counts_per_digit, .init = load_plugin) {
    static const uint32_t want[2][10] = {
        {5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949},
        {980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}};
    const char *root = getenv("STN_DATA_DIR");
    if (root == NULL || root[0] == '\0') {
        cr_skip_test("STN_DATA_DIR is not set");
    }
    char path[1024];
    stn_err err = {0};
    stn_data *data;
    uint32_t got[2][10] = {{0}};
    (void)snprintf(path, sizeof path, "%s/mnist", root);
    cr_assert_eq(dataset->open(path, NULL, &data, &err), STN_OK, "%s", err.text);
    stn_data_info info = info_of(data);
    cr_assert(info.count[0] == 60000 && info.count[1] == 10000);
    for (uint32_t split = 0; split < 2; split++) {
        for (uint32_t i = 0; i < info.count[split]; i++) {
            uint8_t image[PIXELS];
            int32_t label;
            cr_assert_eq(dataset->get(data, split, &i, 1, image, &label, &err), STN_OK);
            got[split][label]++;
        }
    }
    cr_assert_eq(memcmp(got, want, sizeof want), 0);
    cr_assert_str_eq(info.hash, "b2d8f5bf39174ee5ffeefa97e42d673c35432b411bb5d1f74fbbeddae7f1690a");
    dataset->close(data);
}

/* ---- distortions ---------------------------------------------------------------------------- */

static stn_augment draw_of(stn_data *data, const stn_draw_key *key) {
    stn_err err;
    stn_augment a = {.struct_size = sizeof a};
    cr_assert_eq(dataset->augment(data, key, &a, &err), STN_OK);
    return a;
}

typedef struct range {
    double min, max, sum, square;
} range;

static void extend(range *r, double x, int first) {
    r->min = first || x < r->min ? x : r->min;
    r->max = first || x > r->max ? x : r->max;
    r->sum += x;
    r->square += x * x;
}

#define DRAWS 20000

/* Spread over many draws: ends, mean and standard deviation of a uniform distribution. The mean of
 * DRAWS values strays by 5 of its standard deviations once in two million runs; draws are fixed. */
static void expect_uniform(const range *r, double lo, double hi, double sd) {
    double n = DRAWS, mean = r->sum / n;
    double spread = sqrt(r->square / n - mean * mean);
    cr_expect(r->min >= lo && r->max <= hi, "%g..%g", r->min, r->max);
    cr_expect(r->min <= lo + (hi - lo) * 0.01 && r->max >= hi - (hi - lo) * 0.01);
    cr_expect(fabs(mean - (lo + hi) / 2) < 5 * sd / sqrt(n), "mean %g", mean);
    cr_expect(fabs(spread - sd) < 0.02 * sd, "spread %g", spread);
}

Test(mnist, rotation) {
    stn_data *data = open_ok("distortion", "rotate");
    stn_data_info info = info_of(data);
    cr_assert(info.augments == 1 && info.out_h == 28 && info.out_w == 28);
    cr_assert(info.mean[0] == 0.1307f && info.std[0] == 0.3081f);
    range angle = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        const stn_draw_key key = {5, 6, 0, i % 7, i};
        stn_augment a = draw_of(data, &key);
        double t = a.pose[0] * 3.14159265358979323846 / 180;
        cr_assert(a.mode == 1 && a.n_clutter == 0);
        cr_assert_eq(a.pose[0], 180 * (stn_draw(&key, 0, 0) * 0x1p-32) - 90);
        const double want[6] = {cos(t), -sin(t), 0, sin(t), cos(t), 0};
        for (int k = 0; k < 6; k++) {
            cr_assert_lt(fabs(a.theta[k] - want[k]), 1e-7);
        }
        extend(&angle, a.pose[0], i == 0);
    }
    expect_uniform(&angle, -90, 90, 51.96);
    dataset->close(data);
}

/* Crop k of 6x6 pixels of a training image, from the draws that distort.h names. */
static void expect_crop(const stn_clutter *c, const stn_draw_key *key, uint32_t k) {
    cr_assert(c->split == STN_SPLIT_TRAIN && c->src_w == 6 && c->src_h == 6);
    cr_assert_eq(c->sample, stn_draw_below(key, 1, 8 * k, N_TRAIN));
    cr_assert_eq(c->src_x, stn_draw_below(key, 1, 8 * k + 1, 23));
    cr_assert_eq(c->src_y, stn_draw_below(key, 1, 8 * k + 2, 23));
}

Test(mnist, scaling_with_clutter) {
    stn_data *data = open_ok("distortion", "scale");
    stn_data_info info = info_of(data);
    cr_assert(info.augments == 1 && info.out_h == 112 && info.out_w == 112);
    cr_assert(info.mean[0] == 0.0414f && info.std[0] == 0.1751f);
    range log2_scale = {0}, half = {0}, centre = {0}, lender = {0};
    for (uint32_t i = 0; i < DRAWS; i++) {
        const stn_draw_key key = {5, 6, 1, 0, i};
        stn_augment a = draw_of(data, &key);
        double zoom = exp2(a.pose[1]);
        cr_assert(a.mode == 1 && a.n_clutter == 6 && a.theta[0] == a.theta[4]);
        /* One output pixel is 1/zoom input pixels: theta * (27/2) / (111/2). */
        cr_assert_lt(fabs(a.theta[0] * 27.0 / 111.0 * zoom - 1), 1e-6);
        cr_assert(a.theta[1] == 0 && a.theta[2] == 0 && a.theta[3] == 0 && a.theta[5] == 0);
        extend(&log2_scale, a.pose[1], i == 0);
        for (uint32_t k = 0; k < 6; k++) {
            const stn_clutter *c = &a.clutter[k];
            int32_t s = 1 + (int32_t)stn_draw_below(&key, 1, 8 * k + 3, 9);
            expect_crop(c, &key, k);
            cr_assert(c->dst_w == 2 * (uint32_t)s && c->dst_h == c->dst_w);
            cr_assert_eq(c->dst_x, 2 + (int32_t)stn_draw_below(&key, 1, 8 * k + 4, 108) - s);
            cr_assert_eq(c->dst_y, 2 + (int32_t)stn_draw_below(&key, 1, 8 * k + 5, 108) - s);
        }
        const stn_clutter *c = &a.clutter[i % 6];
        extend(&half, c->dst_w / 2, i == 0);
        extend(&centre, c->dst_x + (double)c->dst_w / 2, i == 0);
        extend(&lender, c->sample, i == 0);
    }
    expect_uniform(&log2_scale, -1, 2, sqrt(9 / 12.0));
    expect_uniform(&half, 1, 9, sqrt(80 / 12.0));
    expect_uniform(&centre, 2, 109, sqrt((108.0 * 108 - 1) / 12));
    expect_uniform(&lender, 0, N_TRAIN - 1, sqrt((900 - 1) / 12.0));
    dataset->close(data);
}

Test(mnist, translation_with_clutter) {
    stn_data *data = open_ok("distortion", "translate");
    stn_data_info info = info_of(data);
    cr_assert(info.augments == 1 && info.out_h == 60 && info.out_w == 60);
    cr_assert(info.mean[0] == 0.0363f && info.std[0] == 0.1870f);
    range dx = {0}, dy = {0}, corner = {0}, crop = {0};
    uint32_t ends = 0, twos = 0;
    for (uint32_t i = 0; i < DRAWS; i++) {
        const stn_draw_key key = {7, 0, 0, 3, i};
        stn_augment a = draw_of(data, &key);
        cr_assert(a.mode == 0 && a.n_clutter == 6);
        cr_assert(a.shift_x == 16 + a.pose[2] && a.shift_y == 16 + a.pose[3]);
        cr_assert(a.pose[2] == rint(a.pose[2]) && a.pose[3] == rint(a.pose[3]));
        extend(&dx, a.pose[2], i == 0);
        extend(&dy, a.pose[3], i == 0);
        ends += fabs(a.pose[2]) == 16 || fabs(a.pose[3]) == 16;
        twos += fabs(a.pose[2]) == 2 || fabs(a.pose[3]) == 2;
        const stn_clutter *c = &a.clutter[i % 6];
        expect_crop(c, &key, i % 6);
        cr_assert(c->dst_w == 6 && c->dst_h == 6);
        cr_assert_eq(c->dst_x, (int32_t)stn_draw_below(&key, 1, 8 * (i % 6) + 3, 54));
        cr_assert_eq(c->dst_y, (int32_t)stn_draw_below(&key, 1, 8 * (i % 6) + 4, 54));
        extend(&corner, c->dst_y, i == 0);
        extend(&crop, c->src_x, i == 0);
    }
    /* Rounded U(-16, 16): variance 32^2/12 + 1/12 - a term of the half-weight ends, 9.25 px. */
    expect_uniform(&dx, -16, 16, 9.25);
    expect_uniform(&dy, -16, 16, 9.25);
    expect_uniform(&corner, 0, 53, sqrt((54.0 * 54 - 1) / 12));
    expect_uniform(&crop, 0, 22, sqrt((23.0 * 23 - 1) / 12));
    cr_expect(ends * 5 > twos * 2 && ends * 5 < twos * 3, "%u ends, %u twos", ends, twos);
    dataset->close(data);
}

Test(mnist, draws_depend_on_every_part_of_the_key_and_clutter_can_be_off) {
    stn_data *data = open_ok("distortion", "translate");
    const stn_draw_key keys[6] = {{1, 2, 0, 3, 4}, {9, 2, 0, 3, 4}, {1, 9, 0, 3, 4},
                                  {1, 2, 1, 3, 4}, {1, 2, 0, 9, 4}, {1, 2, 0, 3, 9}};
    stn_augment a[6];
    for (int i = 0; i < 6; i++) {
        a[i] = draw_of(data, &keys[i]);
        stn_augment again = draw_of(data, &keys[i]);
        cr_assert_eq(memcmp(&a[i], &again, sizeof again), 0);
        for (int k = 0; k < i; k++) {
            cr_assert_neq(memcmp(&a[i], &a[k], sizeof a[0]), 0, "keys %d and %d", i, k);
        }
    }
    dataset->close(data);
    const char *option[2] = {"clutter", "distortion"}, *value[2] = {"false", "translate"};
    const stn_options options = {sizeof options, 2, option, value};
    stn_err err;
    cr_assert_eq(dataset->open(dir, &options, &data, &err), STN_OK);
    stn_augment plain = draw_of(data, &keys[0]);
    cr_assert(plain.n_clutter == 0 && plain.shift_x == a[0].shift_x);
    dataset->close(data);
}
