/* Pixels of drawn transforms, see augment.h. The sampling loop is one inline function, compiled
 * once for every processor and once for x86 with fused multiply-add in hardware; fma is exact in
 * both, so the bits agree. */
#include "data/augment.h"

#include <string.h>

#include "base/mem.h"

#define MAX_CROP 1024u /* side of a resized crop */

#if defined(__GNUC__)
#define ALWAYS_INLINE static inline __attribute__((always_inline))
#else
#define ALWAYS_INLINE static inline
#endif

/* ---- sampling ------------------------------------------------------------------------------- */

/* Pixel coordinate, rounded to a multiple of 2^-20, of grid coordinate x on an axis of n pixels;
 * NaN and everything far outside end up in the zeros around the image. */
ALWAYS_INLINE float to_pixel(float x, float half, float last) {
    float q = stn_fma(x, half, half);
    q = q >= -2.0f ? q : -2.0f;
    q = q <= last ? q : last;
    return stn_rint(q * 0x1p20f) * 0x1p-20f;
}

ALWAYS_INLINE void sample_body(const stn__sampling *job, float *restrict out) {
    const float *t = job->theta;
    float half_x = ((float)job->w - 1.0f) * 0.5f, half_y = ((float)job->h - 1.0f) * 0.5f;
    float last_x = (float)job->w + 1.0f, last_y = (float)job->h + 1.0f;
    int32_t stride = (int32_t)(job->w + STN__PAD_BOTH);
    const float *restrict origin = job->src + (stride + 1) * (int32_t)STN__PAD_BEFORE;
    const float *restrict xt = job->xt;
    for (uint32_t oy = 0; oy < job->out_h; oy++) {
        float row_x = stn_fma(t[1], job->yt[oy], t[2]);
        float row_y = stn_fma(t[4], job->yt[oy], t[5]);
        for (uint32_t ox = 0; ox < job->out_w; ox++) {
            float px = to_pixel(stn_snap_x(stn_fma(t[0], xt[ox], row_x)), half_x, last_x);
            float py = to_pixel(stn_snap_x(stn_fma(t[3], xt[ox], row_y)), half_y, last_y);
            float ix = stn_floor(px), iy = stn_floor(py);
            float fx = px - ix, fy = py - iy;
            int32_t at = (int32_t)iy * stride + (int32_t)ix;
            float a = origin[at], b = origin[at + 1];
            float c = origin[at + stride], d = origin[at + stride + 1];
            float top = stn_fma(fx, b - a, a), low = stn_fma(fx, d - c, c);
            out[ox] = stn_snap_x(stn_fma(fy, low - top, top));
        }
        out += job->out_w;
    }
}

static void sample_plain(const stn__sampling *job, float *out) {
    sample_body(job, out);
}

#if defined(__GNUC__) && defined(__x86_64__)
__attribute__((target("avx2,fma"))) static void sample_fma(const stn__sampling *job, float *out) {
    sample_body(job, out);
}

static bool has_fma(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#else
#define sample_fma sample_plain
static bool has_fma(void) {
    return false;
}
#endif

void stn__sample_plane(const stn__sampling *job, bool plain, float *out) {
    if (!plain && has_fma()) {
        sample_fma(job, out);
    } else {
        sample_plain(job, out);
    }
}

void stn__grid_axis(float *t, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        t[i] = n == 1 ? 0.0f : (float)((2.0 * i - n + 1.0) / (n - 1.0));
    }
}

/* ---- clutter -------------------------------------------------------------------------------- */

/* Where output pixel u of an axis resized from n to m pixels reads: pixels i and j, fraction f. */
typedef struct tap {
    uint32_t i, j;
    float f;
} tap;

static tap resize_tap(uint32_t u, uint32_t n, uint32_t m) {
    float x = stn_snap_x((float)((2.0 * u + 1.0 - m) / m));
    float last = (float)(n - 1);
    float q = stn_fma(x, (float)n * 0.5f, last * 0.5f);
    q = q >= 0.0f ? q : 0.0f;
    q = q <= last ? q : last;
    float p = stn_rint(q * 0x1p20f) * 0x1p-20f;
    p = p <= last ? p : last;
    float i = stn_floor(p);
    tap t = {.i = (uint32_t)i, .f = p - i};
    t.j = t.i + 1 < n ? t.i + 1 : n - 1;
    return t;
}

/* out = min(out + value, 255), by select. */
static void add_clamped(float *out, float value) {
    float sum = *out + value;
    *out = sum > 255.0f ? 255.0f : sum;
}

/* First and one past last index of a crop axis (position at, size n) inside [0, limit). */
static void visible(int32_t at, uint32_t n, uint32_t limit, uint32_t *first, uint32_t *end) {
    int64_t lo = at < 0 ? -(int64_t)at : 0, hi = (int64_t)limit - at;
    *first = lo < n ? (uint32_t)lo : n;
    *end = hi <= *first ? *first : hi < n ? (uint32_t)hi : n;
}

/* Adds one crop of plane `src` (rows of src_w bytes) to plane `out` (rows of out_w). */
static void add_crop(const stn_clutter *c, const stn_data_info *info, const uint8_t *src,
                     float *out) {
    tap columns[MAX_CROP];
    bool copy = c->src_w == c->dst_w && c->src_h == c->dst_h;
    uint32_t x0, x1, y0, y1;
    visible(c->dst_x, c->dst_w, info->out_w, &x0, &x1);
    visible(c->dst_y, c->dst_h, info->out_h, &y0, &y1);
    src += (uint64_t)c->src_y * info->src_w + c->src_x;
    for (uint32_t x = x0; x < x1 && !copy; x++) {
        columns[x] = resize_tap(x, c->src_w, c->dst_w);
    }
    for (uint32_t y = y0; y < y1; y++) {
        int64_t row = ((int64_t)c->dst_y + y) * (int64_t)info->out_w + c->dst_x;
        if (copy) {
            for (uint32_t x = x0; x < x1; x++) {
                add_clamped(&out[row + x], src[(uint64_t)y * info->src_w + x]);
            }
            continue;
        }
        tap v = resize_tap(y, c->src_h, c->dst_h);
        const uint8_t *up = src + (uint64_t)v.i * info->src_w;
        const uint8_t *down = src + (uint64_t)v.j * info->src_w;
        for (uint32_t x = x0; x < x1; x++) {
            tap h = columns[x];
            float top = stn_fma(h.f, (float)up[h.j] - (float)up[h.i], (float)up[h.i]);
            float low = stn_fma(h.f, (float)down[h.j] - (float)down[h.i], (float)down[h.i]);
            add_clamped(&out[row + x], stn_snap_x(stn_fma(v.f, low - top, top)));
        }
    }
}

static bool crop_valid(const stn_clutter *c, const stn_data_info *info) {
    return c->split <= STN_SPLIT_TEST && c->sample < info->count[c->split] && c->src_w > 0 &&
           c->src_h > 0 && c->src_w <= info->src_w && c->src_h <= info->src_h &&
           c->src_x <= info->src_w - c->src_w && c->src_y <= info->src_h - c->src_h &&
           c->dst_w > 0 && c->dst_h > 0 && c->dst_w <= MAX_CROP && c->dst_h <= MAX_CROP;
}

static int32_t add_clutter(stn__augmenter *a, const stn_clutter *c, float *out, stn_err *err) {
    const stn_data_info *info = a->info;
    if (!crop_valid(c, info)) {
        return stn_fail(err, STN_E_PLUGIN,
                        "the dataset asks for clutter outside of its images (image %u): "
                        "report this to the plugin's authors",
                        c->sample);
    }
    STN_TRY(a->dataset->get(a->data, c->split, &c->sample, 1, a->other, a->labels, err));
    for (uint32_t ch = 0; ch < info->channels; ch++) {
        add_crop(c, info, a->other + (uint64_t)ch * info->src_h * info->src_w,
                 out + (uint64_t)ch * info->out_h * info->out_w);
    }
    return STN_OK;
}

/* ---- one sample ----------------------------------------------------------------------------- */

static void place(const stn_data_info *info, const stn_augment *draw, const uint8_t *src,
                  float *out) {
    uint32_t x0, x1, y0, y1;
    visible(draw->shift_x, info->src_w, info->out_w, &x0, &x1);
    visible(draw->shift_y, info->src_h, info->out_h, &y0, &y1);
    memset(out, 0, (size_t)info->out_h * info->out_w * sizeof *out);
    for (uint32_t y = y0; y < y1; y++) {
        int64_t row = ((int64_t)draw->shift_y + y) * (int64_t)info->out_w + draw->shift_x;
        for (uint32_t x = x0; x < x1; x++) {
            out[row + x] = src[(uint64_t)y * info->src_w + x];
        }
    }
}

static void warp(stn__augmenter *a, const stn_augment *draw, const uint8_t *src, float *out) {
    const stn_data_info *info = a->info;
    stn__sampling job = {.src = a->padded,
                         .xt = a->xt,
                         .yt = a->yt,
                         .h = info->src_h,
                         .w = info->src_w,
                         .out_h = info->out_h,
                         .out_w = info->out_w};
    memcpy(job.theta, draw->theta, sizeof job.theta);
    for (uint32_t y = 0; y < info->src_h; y++) {
        float *row = a->padded + (y + STN__PAD_BEFORE) * (uint64_t)(info->src_w + STN__PAD_BOTH) +
                     STN__PAD_BEFORE;
        for (uint32_t x = 0; x < info->src_w; x++) {
            row[x] = src[(uint64_t)y * info->src_w + x];
        }
    }
    stn__sample_plane(&job, false, out);
}

int32_t stn__augmenter_run(stn__augmenter *a, const stn_draw_key *key, const uint8_t *image,
                           float *out, double pose[4], stn_err *err) {
    const stn_data_info *info = a->info;
    stn_augment draw = {.struct_size = (uint32_t)sizeof draw};
    STN_TRY(a->dataset->augment(a->data, key, &draw, err));
    if (draw.mode > 1 || draw.n_clutter > STN_MAX_CLUTTER) {
        return stn_fail(err, STN_E_PLUGIN,
                        "the dataset asks for mode %u with %u crops: report this to the "
                        "plugin's authors",
                        draw.mode, draw.n_clutter);
    }
    for (uint32_t ch = 0; ch < info->channels; ch++) {
        const uint8_t *src = image + (uint64_t)ch * info->src_h * info->src_w;
        float *plane = out + (uint64_t)ch * info->out_h * info->out_w;
        if (draw.mode == 0) {
            place(info, &draw, src, plane);
        } else {
            warp(a, &draw, src, plane);
        }
    }
    for (uint32_t i = 0; i < draw.n_clutter; i++) {
        STN_TRY(add_clutter(a, &draw.clutter[i], out, err));
    }
    memcpy(pose, draw.pose, sizeof draw.pose);
    return STN_OK;
}

int32_t stn__augmenter_open(stn__augmenter *a, const stn_dataset *dataset, stn_data *data,
                            const stn_data_info *info, stn_err *err) {
    uint64_t h = info->src_h, w = info->src_w;
    uint64_t padded = (h + STN__PAD_BOTH) * (w + STN__PAD_BOTH);
    memset(a, 0, sizeof *a);
    a->dataset = dataset;
    a->data = data;
    a->info = info;
    a->xt = stn__calloc(info->out_w, sizeof *a->xt);
    a->yt = stn__calloc(info->out_h, sizeof *a->yt);
    a->padded = stn__calloc(padded, sizeof *a->padded);
    a->other = stn__calloc(h * w, info->channels);
    a->labels = stn__calloc(info->heads, sizeof *a->labels);
    if (a->xt == NULL || a->yt == NULL || a->padded == NULL || a->other == NULL ||
        a->labels == NULL) {
        stn__augmenter_close(a);
        return stn__nomem(err, "augmentation", padded * sizeof *a->padded);
    }
    stn__grid_axis(a->xt, info->out_w);
    stn__grid_axis(a->yt, info->out_h);
    return STN_OK;
}

void stn__augmenter_close(stn__augmenter *a) {
    stn__free(a->xt);
    stn__free(a->yt);
    stn__free(a->padded);
    stn__free(a->other);
    stn__free(a->labels);
    memset(a, 0, sizeof *a);
}
