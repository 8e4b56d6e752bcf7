/* Draws of the distortions, see distort.h. Uniform draws are multiples of 2^-32, so the affine
 * maps below are exact in double; each entry of theta is rounded once to float. */
#include "distort.h"

#define SIDE 28u /* of the original image */
#define CROP 6u  /* side of a clutter crop */
#define CROPS 6u /* crops per image */
#define PURPOSE_POSE 0u
#define PURPOSE_CLUTTER 1u
#define DRAWS_PER_CROP 8u

const distort_info distort_table[DISTORT_COUNT] = {
    [DISTORT_NONE] = {"none", SIDE, 0.1307f, 0.3081f},
    [DISTORT_ROTATE] = {"rotate", SIDE, 0.1307f, 0.3081f},
    [DISTORT_SCALE] = {"scale", 112, 0.0414f, 0.1751f},
    [DISTORT_TRANSLATE] = {"translate", 60, 0.0363f, 0.1870f}};

/* Content turned counter-clockwise by `angle`: output to input is the opposite turn, y down. */
static void draw_rotation(const stn_host *host, const stn_draw_key *key, stn_augment *out) {
    double angle = 180.0 * stn_draw_unit(key, PURPOSE_POSE, 0) - 90.0;
    double radians = angle * (3.14159265358979323846 / 180.0);
    double c = host->cos(radians), s = host->sin(radians);
    const double theta[6] = {c, -s, 0.0, s, c, 0.0};
    for (int i = 0; i < 6; i++) {
        out->theta[i] = (float)theta[i];
    }
    out->mode = 1;
    out->pose[0] = angle;
}

/* Magnified by 2^u about the centre, on the larger canvas. In pixels from the centre, input =
 * output / 2^u; with aligned corners the half ranges are 111/2 and 27/2 pixels. */
static void draw_scale(const stn_host *host, const stn_draw_key *key, stn_augment *out) {
    double u = 3.0 * stn_draw_unit(key, PURPOSE_POSE, 0) - 1.0;
    uint32_t side = distort_table[DISTORT_SCALE].side;
    double ratio = (double)(side - 1) / (double)(SIDE - 1);
    out->theta[0] = out->theta[4] = (float)(host->exp2(-u) * ratio);
    out->mode = 1;
    out->pose[1] = u;
}

static int32_t draw_shift(const stn_draw_key *key, uint32_t k) {
    return (int32_t)floor(32.0 * stn_draw_unit(key, PURPOSE_POSE, k) - 15.5);
}

/* The digit in the middle of the canvas, moved by whole pixels. */
static void draw_translation(const stn_draw_key *key, stn_augment *out) {
    int32_t margin = (int32_t)(distort_table[DISTORT_TRANSLATE].side - SIDE) / 2;
    int32_t dx = draw_shift(key, 0), dy = draw_shift(key, 1);
    out->mode = 0;
    out->shift_x = margin + dx;
    out->shift_y = margin + dy;
    out->pose[2] = dx;
    out->pose[3] = dy;
}

static void draw_clutter(uint32_t distortion, uint32_t n_train, const stn_draw_key *key,
                         stn_augment *out) {
    for (uint32_t k = 0; k < CROPS; k++) {
        uint32_t draw = DRAWS_PER_CROP * k;
        stn_clutter *c = &out->clutter[k];
        c->split = STN_SPLIT_TRAIN;
        c->sample = stn_draw_below(key, PURPOSE_CLUTTER, draw, n_train);
        c->src_x = stn_draw_below(key, PURPOSE_CLUTTER, draw + 1, SIDE - CROP + 1);
        c->src_y = stn_draw_below(key, PURPOSE_CLUTTER, draw + 2, SIDE - CROP + 1);
        c->src_w = c->src_h = CROP;
        if (distortion == DISTORT_TRANSLATE) {
            c->dst_x = (int32_t)stn_draw_below(key, PURPOSE_CLUTTER, draw + 3, 54);
            c->dst_y = (int32_t)stn_draw_below(key, PURPOSE_CLUTTER, draw + 4, 54);
            c->dst_w = c->dst_h = CROP;
        } else {
            int32_t s = 1 + (int32_t)stn_draw_below(key, PURPOSE_CLUTTER, draw + 3, 9);
            c->dst_x = 2 + (int32_t)stn_draw_below(key, PURPOSE_CLUTTER, draw + 4, 108) - s;
            c->dst_y = 2 + (int32_t)stn_draw_below(key, PURPOSE_CLUTTER, draw + 5, 108) - s;
            c->dst_w = c->dst_h = 2 * (uint32_t)s;
        }
    }
    out->n_clutter = CROPS;
}

void distort_draw(const stn_host *host, uint32_t distortion, bool clutter, uint32_t n_train,
                  const stn_draw_key *key, stn_augment *out) {
    *out = (stn_augment){0};
    if (distortion == DISTORT_ROTATE) {
        draw_rotation(host, key, out);
    } else if (distortion == DISTORT_SCALE) {
        draw_scale(host, key, out);
    } else if (distortion == DISTORT_TRANSLATE) {
        draw_translation(key, out);
    }
    if (clutter && (distortion == DISTORT_SCALE || distortion == DISTORT_TRANSLATE)) {
        draw_clutter(distortion, n_train, key, out);
    }
}
