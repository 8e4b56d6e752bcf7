/* stnrun picture: a PNG of test images before (upper row) and after (lower rows) the learned
 * transform. The values "image" and "warped1", "warped2" ... of the last evaluated batch. */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <png.h>

#include "session.h"

#define ZOOM 3u
#define GAP 4u
#define MAX_ROWS 9u

/* One row of pictures: the images of one value, [N, C, H, W]. */
typedef struct strip {
    float *data;
    uint32_t channels, height, width;
} strip;

typedef struct canvas {
    uint8_t *rgb;
    uint32_t width, height;
} canvas;

/* 0: the value has this many channels and is read; 1: there is no such value; else a status. */
static int32_t read_strip(stn_net *net, const char *name, uint32_t channels, strip *s, bool *found,
                          stn_err *err) {
    uint32_t index;
    stn_value_info info;
    *found = false;
    if (stn_net_value_find(net, true, name, &index) != STN_OK ||
        stn_net_value_get(net, true, index, &info) != STN_OK || info.tensor.dim[1] != channels ||
        info.tensor.dtype != STN_F32) {
        return STN_OK;
    }
    info.tensor.layout = STN_NCHW;
    s->channels = channels;
    s->height = info.tensor.dim[2];
    s->width = info.tensor.dim[3];
    s->data = calloc(stn_tensor_elems(&info.tensor) + 1, sizeof *s->data);
    if (s->data == NULL) {
        return stn_fail(err, STN_E_NOMEM, "out of memory for the images");
    }
    *found = true;
    return stn_net_value_read(net, true, index, s->data, err);
}

/* Smallest and largest value of the first `count` images of the first row: black and white. */
static void value_range(const strip *s, uint32_t count, float *low, float *high) {
    uint64_t n = (uint64_t)count * s->channels * s->height * s->width;
    *low = *high = s->data[0];
    for (uint64_t i = 1; i < n; i++) {
        *low = s->data[i] < *low ? s->data[i] : *low;
        *high = s->data[i] > *high ? s->data[i] : *high;
    }
}

static uint8_t level(float v, float low, float high) {
    float x = high > low ? (v - low) / (high - low) * 255.0f : 0;
    return (uint8_t)(x < 0 ? 0 : x > 255 ? 255 : x + 0.5f);
}

/* Image i of a row, enlarged, with its upper left corner at (left, top). */
static void draw(canvas *c, const strip *s, uint32_t i, uint32_t left, uint32_t top, float low,
                 float high) {
    for (uint32_t y = 0; y < s->height * ZOOM; y++) {
        for (uint32_t x = 0; x < s->width * ZOOM; x++) {
            uint8_t *pixel = c->rgb + 3 * ((size_t)(top + y) * c->width + left + x);
            for (uint32_t k = 0; k < 3; k++) {
                uint32_t channel = s->channels == 3 ? k : 0;
                size_t at =
                    (((size_t)i * s->channels + channel) * s->height + y / ZOOM) * s->width +
                    x / ZOOM;
                pixel[k] = level(s->data[at], low, high);
            }
        }
    }
}

static int32_t paint(canvas *c, const strip *rows, uint32_t n_rows, uint32_t count, stn_err *err) {
    uint32_t widest = 0;
    float low, high;
    c->height = GAP;
    for (uint32_t r = 0; r < n_rows; r++) {
        widest = rows[r].width > widest ? rows[r].width : widest;
        c->height += rows[r].height * ZOOM + GAP;
    }
    c->width = GAP + count * (widest * ZOOM + GAP);
    c->rgb = malloc((size_t)c->width * c->height * 3);
    if (c->rgb == NULL) {
        return stn_fail(err, STN_E_NOMEM, "out of memory for a picture of %ux%u", c->width,
                        c->height);
    }
    memset(c->rgb, 128, (size_t)c->width * c->height * 3);
    value_range(&rows[0], count, &low, &high);
    uint32_t top = GAP;
    for (uint32_t r = 0; r < n_rows; r++) {
        for (uint32_t i = 0; i < count; i++) {
            draw(c, &rows[r], i, GAP + i * (widest * ZOOM + GAP), top, low, high);
        }
        top += rows[r].height * ZOOM + GAP;
    }
    return STN_OK;
}

static int32_t write_png(const canvas *c, const char *path, stn_err *err) {
    png_image image;
    memset(&image, 0, sizeof image);
    image.version = PNG_IMAGE_VERSION;
    image.width = c->width;
    image.height = c->height;
    image.format = PNG_FORMAT_RGB;
    if (png_image_write_to_file(&image, path, 0, c->rgb, 0, NULL) == 0) {
        (void)remove(path);
        return stn_fail(err, STN_E_IO, "%s: %s", path, image.message);
    }
    return STN_OK;
}

/* Runs the test set once, so that its last batch is on the device; its number of real images. */
static int32_t last_batch(session *s, uint32_t *count, stn_err *err) {
    stn_eval_result result;
    uint32_t images = stn_run_data(s->run)->count[STN_SPLIT_TEST];
    uint32_t batch = (uint32_t)stn_config_int(s->config, "batch");
    *count = images % batch == 0 ? batch : images % batch;
    return stn_run_eval(s->run, STN_SPLIT_TEST, 1, NULL, NULL, &result, err);
}

static int32_t make_picture(session *s, const char *path, uint32_t wanted, stn_err *err) {
    strip rows[MAX_ROWS] = {{NULL, 0, 0, 0}};
    canvas c = {NULL, 0, 0};
    uint32_t count, n = 0, channels = stn_run_data(s->run)->channels;
    stn_net *net = stn_run_net(s->run);
    bool found;
    STN_TRY(last_batch(s, &count, err));
    count = wanted < count ? wanted : count;
    int32_t status = read_strip(net, "image", channels, &rows[n], &found, err);
    n += found;
    for (uint32_t i = 1; status == STN_OK && found && n < MAX_ROWS; i++) {
        char name[32];
        (void)snprintf(name, sizeof name, "warped%u", i);
        status = read_strip(net, name, channels, &rows[n], &found, err);
        n += found;
    }
    if (status == STN_OK && n < 2) {
        status = stn_fail(err, STN_E_UNSUPPORTED,
                          "network %s does not transform images: there is nothing to draw",
                          stn_config_get(s->config, "network"));
    }
    if (status == STN_OK) {
        status = paint(&c, rows, n, count, err);
    }
    if (status == STN_OK) {
        status = write_png(&c, path, err);
    }
    if (status == STN_OK) {
        printf("%s: %u test images (upper row) and what the network sees of them\n", path, count);
    }
    free(c.rgb);
    for (uint32_t i = 0; i < n; i++) {
        free(rows[i].data);
    }
    return status;
}

int cmd_picture(args *a) {
    const char *path = args_value(a, "out");
    struct stat info;
    uint64_t count;
    if (a->n_positional > 0 || path == NULL) {
        return usage_error(a, "--out FILE.png is needed");
    }
    if (!args_number(a, "count", 1, 64, 12, &count)) {
        return EXIT_USAGE;
    }
    if (stat(path, &info) == 0 && !args_has(a, "force")) {
        fprintf(stderr, "stnrun: %s exists; give --force to replace it\n", path);
        return EXIT_FAIL;
    }
    session s = {0};
    stn_err err = {0};
    char file[4096];
    const stn_run_options options = {.keep_values = true};
    int status = session_open_checkpoint(a, &s, &options, file, sizeof file);
    if (status == EXIT_OK && make_picture(&s, path, (uint32_t)count, &err) != STN_OK) {
        status = fail(&err);
    }
    session_close(&s);
    return status;
}
