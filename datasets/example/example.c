/* A dataset plugin to start from: ten kinds of shapes, 28x28 or larger, drawn on demand.
 *
 *   stnrun train --dataset example --model example_stn --network stn --batch 64 --steps 300 \
 *       --lr 0.02 --momentum 0.9 --loc-rate 0.1
 *
 * What a dataset does: it describes itself (info), copies images and labels (get), and says how a
 * sample is to be transformed (augment, optional). It never shuffles, resamples or normalises; the
 * core does. All functions may be called from several threads at once and must depend on their
 * arguments only, so nothing here changes after open.
 *
 * This one needs no files, so it names no directories (subdirs, system_dirs); see datasets/mnist
 * for one that reads and checks files.
 */
#include <stdlib.h>
#include <string.h>

#include <stn/dataset.h>

#define SIDE 28u /* of an image, unless an option says more */
#define MAX_SIDE 224u
#define CLASSES 10u

static const uint32_t counts[2] = {2000, 500}; /* training and test samples */

/* The opened dataset: what the options ask for. The type is the plugin's own business. */
struct stn_data {
    uint32_t shift, side;
    char hash[65];
};

/* Services of the program: memory, messages, elementary functions. Set once by init. */
static const stn_host *host;

/* ---- the images ----------------------------------------------------------------------------- */

/* 1 if the point (x, y), in half pixels from the centre, belongs to a shape of radius r. */
static int inside(uint32_t class_number, int x, int y, int r) {
    int ax = abs(x), ay = abs(y), most = ax > ay ? ax : ay, least = ax > ay ? ay : ax;
    switch (class_number) {
    case 0: /* disc */
        return x * x + y * y <= r * r;
    case 1: /* ring */
        return x * x + y * y <= r * r && 4 * (x * x + y * y) >= r * r;
    case 2: /* square */
        return most <= r;
    case 3: /* frame */
        return most <= r && 3 * most >= 2 * r;
    case 4: /* diamond */
        return ax + ay <= r;
    case 5: /* plus */
        return most <= r && 4 * least <= r;
    case 6: /* cross */
        return most <= r && 3 * (most - least) <= r;
    case 7: /* lying bar */
        return ax <= r && 3 * ay <= r;
    case 8: /* standing bar */
        return ay <= r && 3 * ax <= r;
    default: /* triangle */
        return y >= -r && y <= r && 2 * ax <= y + r;
    }
}

/* Sample number `sample` of a split: its class, and a size and brightness of its own. Random words
 * come from a counter, never from a generator with state. */
static void draw_sample(uint32_t side, uint32_t split, uint32_t sample, uint8_t *image,
                        int32_t *label) {
    uint32_t class_number = sample % CLASSES;
    uint32_t word = stn_philox(0, 0, 0, split, sample, 0);
    int radius = (8 + (int)(word % 9)) * (int)side / (int)SIDE;
    uint8_t bright = (uint8_t)(128 + (word >> 8) % 128);
    for (uint32_t i = 0; i < side * side; i++) {
        int x = 2 * (int)(i % side) - (int)(side - 1), y = 2 * (int)(i / side) - (int)(side - 1);
        image[i] = inside(class_number, x, y, radius) ? bright : 0;
    }
    *label = (int32_t)class_number;
}

/* The hash tells the program whether two runs saw the same data: 64 hex digits that change with the
 * content. Data sets made of files use SHA-256; 64 bits (FNV-1a) do for an example. */
static void hash_content(uint32_t side, char hash[65]) {
    uint64_t h = UINT64_C(0xcbf29ce484222325);
    for (uint32_t split = 0; split < 2; split++) {
        for (uint32_t sample = 0; sample < counts[split]; sample++) {
            uint8_t image[MAX_SIDE * MAX_SIDE];
            int32_t label;
            draw_sample(side, split, sample, image, &label);
            for (uint32_t i = 0; i < side * side; i++) {
                h = (h ^ image[i]) * UINT64_C(0x100000001b3);
            }
        }
    }
    (void)snprintf(hash, 65, "%048d%016llx", 0, (unsigned long long)h);
}

/* ---- the entries ---------------------------------------------------------------------------- */

static const stn_option_info options[] = {
    {"shift", "int", "0..10", "5", "shapes are moved by up to this many pixels each way"},
    {"side", "int", "28..224", "28", "height and width of the images"}};

static int32_t example_open(const char *dir, const stn_options *given, stn_data **data,
                            stn_err *err) {
    (void)dir;
    *data = NULL;
    stn_data *d = host->alloc(sizeof *d, 0);
    if (d == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory to open the example data set");
    }
    d->shift = 5;
    d->side = SIDE;
    /* The core has checked names, types and ranges against the list above. */
    for (uint32_t i = 0; given != NULL && i < given->count; i++) {
        if (strcmp(given->name[i], "shift") == 0) {
            d->shift = (uint32_t)strtoul(given->value[i], NULL, 10);
        } else if (strcmp(given->name[i], "side") == 0) {
            d->side = (uint32_t)strtoul(given->value[i], NULL, 10);
        }
    }
    hash_content(d->side, d->hash);
    *data = d;
    return STN_OK;
}

static void example_close(stn_data *data) {
    host->free(data);
}

static int32_t example_info(stn_data *data, stn_data_info *out, stn_err *err) {
    (void)err;
    stn_data_info info = {.struct_size = out->struct_size,
                          .channels = 1,
                          .src_h = data->side,
                          .src_w = data->side,
                          .out_h = data->side,
                          .out_w = data->side,
                          .heads = 1,
                          .classes = CLASSES,
                          .augments = 1,
                          .count = {counts[0], counts[1]},
                          .mean = {0.086f},
                          .std = {0.245f}};
    memcpy(info.hash, data->hash, sizeof info.hash);
    (void)snprintf(info.files, sizeof info.files, "(drawn by the plugin)");
    /* Structs may grow in later versions: the caller says how much of it there is. */
    memcpy(out, &info, out->struct_size < sizeof info ? out->struct_size : sizeof info);
    return STN_OK;
}

static int32_t example_get(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                           uint8_t *images, int32_t *labels, stn_err *err) {
    (void)data;
    for (uint32_t i = 0; i < n; i++) {
        if (split > STN_SPLIT_TEST || sample[i] >= counts[split]) {
            return stn_fail(err, STN_E_USAGE, "the example data set has no sample %u of split %u",
                            sample[i], split);
        }
        draw_sample(data->side, split, sample[i], images + (size_t)i * data->side * data->side,
                    &labels[i]);
    }
    return STN_OK;
}

/* Moves the shape by whole pixels, anew in every epoch: the key holds seed, split, epoch and
 * sample. Draws are numbered; purpose 0 are the shifts. */
static int32_t example_augment(stn_data *data, const stn_draw_key *key, stn_augment *out,
                               stn_err *err) {
    (void)err;
    int32_t shift = (int32_t)data->shift;
    stn_augment a = {.struct_size = out->struct_size};
    a.shift_x = (int32_t)stn_draw_below(key, 0, 0, 2 * data->shift + 1) - shift;
    a.shift_y = (int32_t)stn_draw_below(key, 0, 1, 2 * data->shift + 1) - shift;
    a.pose[2] = a.shift_x;
    a.pose[3] = a.shift_y;
    memcpy(out, &a, out->struct_size < sizeof a ? out->struct_size : sizeof a);
    return STN_OK;
}

static const stn_dataset dataset = {.struct_size = (uint32_t)sizeof(stn_dataset),
                                    .open = example_open,
                                    .close = example_close,
                                    .info = example_info,
                                    .get = example_get,
                                    .augment = example_augment};

static int32_t init(const stn_host *services, stn_err *err) {
    (void)err;
    host = services;
    return STN_OK;
}

/* The one exported symbol, and the ELF note by which the program knows the plugin unloaded. */
STN_PLUGIN(STN_KIND_DATASET, "example", "0.1.0", "MIT", "synthetic shapes, a plugin to start from",
           options, 2, &dataset, init, NULL);
