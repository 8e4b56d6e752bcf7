/* Forward convolution on CPU devices (kernels/vconv.cl): packs weights and pads the input in
 * workspace, chooses the tile, and launches. Also serves the dense input gradient, which is the
 * same convolution with other weights.
 */
#include "vec.h"

#include <stdio.h>

bool vec_wanted(const stn_kernel *k, const ocl_geometry *g, uint32_t images) {
    uint64_t work = (uint64_t)images * g->o * g->c * g->kh * g->kw * g->oh * g->ow;
    return k->device->device_class == OCL_CPU_VECTOR && work >= k->device->min_work;
}

/* Shape of a tile: `vectors` x 16 channels by 16 / vectors pixels, `width` wide (0: in a row). */
typedef struct tile {
    uint32_t vectors, width;
} tile;

static uint32_t tiles(uint32_t n, uint32_t size) {
    return (n + size - 1u) / size;
}

/* The widest tile with the fewest tiles per image that fits into uh x uw pixels. */
static tile choose_tile(uint32_t channels, uint32_t uh, uint32_t uw, bool pool) {
    tile t = {tiles(channels, 16) % 2u == 0 ? 2u : 1u, 0};
    uint32_t pixels = 16u / t.vectors, best = UINT32_MAX;
    for (uint32_t w = pool && t.vectors == 2 ? 4 : 8; w >= 1; w /= 2) {
        uint32_t h = pixels / w;
        bool pools = h % 2u == 0 && w % 2u == 0 && (w >= 4 || t.vectors == 2);
        if (w > uw || h > uh || (pool && !pools)) {
            continue;
        }
        uint32_t count = tiles(uh, h) * tiles(uw, w);
        if (count < best) {
            best = count;
            t.width = w;
        }
    }
    return t;
}

/* The input without padding: itself, or a padded copy in workspace. */
ocl_view vec_padded(stn_kernel *k, ocl_view x, const vec_pad *p) {
    if (p->top == 0 && p->left == 0 && p->h == x.h && p->w == x.w && p->sh == 1 && p->sw == 1) {
        return x;
    }
    uint32_t step = x.layout == STN_NC16 ? 16u : 1u, planes = ocl_padded(&x) / step;
    ocl_view out = x;
    out.h = p->h;
    out.w = p->w;
    /* Slack: vector loads of the weight gradient may reach past the last row. */
    out.ref = A_WS(ocl_ws(k, (uint64_t)x.n * ocl_row(&out) * 4u + 256u));
    ocl_range range = {{(uint64_t)planes * p->h, 1, 1}, 1u, {16, 1, 1}};
    OCL_EMIT(k, "vpack.cl", "", "pad_rows", &range, x.ref, out.ref, A_ROWS(planes), A_U(step),
             A_U(x.h), A_U(x.w), A_U(p->h), A_U(p->w), A_U(p->top), A_U(p->left), A_U(p->sh),
             A_U(p->sw));
    return out;
}

static ocl_arg packed_bias(stn_kernel *k, ocl_arg b, uint32_t o) {
    uint32_t n = (o + 15u) / 16u * 16u;
    if (b.kind == OCL_ARG_NONE || n == o) {
        return b;
    }
    uint64_t at = ocl_ws(k, (uint64_t)n * 4u);
    ocl_range range = ocl_items(n, false);
    OCL_EMIT(k, "vpack.cl", "", "pack_b", &range, b, A_WS(at), A_U(o), A_U(n));
    return A_WS(at);
}

static ocl_arg packed_weights(stn_kernel *k, ocl_arg w, const ocl_geometry *g, uint32_t lanes,
                              bool transposed) {
    uint32_t taps = g->kh * g->kw;
    uint64_t n = (uint64_t)tiles(g->o, lanes) * lanes * g->c * taps;
    uint64_t at = ocl_ws(k, n * 4u);
    if (!transposed) {
        uint32_t items = tiles(g->o, lanes) * (lanes / 16u) * tiles(g->c * taps, 16u);
        ocl_range all = ocl_items(items, false);
        OCL_EMIT(k, "vpack.cl", "", "pack_rows", &all, w, A_WS(at), A_U(g->o), A_U(g->c * taps),
                 A_U(lanes), A_U(items));
        return A_WS(at);
    }
    uint32_t blocks = tiles(g->o, lanes) * g->c;
    ocl_range range = ocl_items(blocks, false);
    OCL_EMIT(k, "vpack.cl", "", "pack_w", &range, w, A_WS(at), A_U(g->o), A_U(g->c), A_U(taps),
             A_U(lanes), A_U(blocks));
    return A_WS(at);
}

/* Rows of tiles of an item that looks for background. */
#define STRIPS 8u

/* Where a pixel of the background of an image is in its padded plane x, plus one; 0: tiles do not
 * look for background (see vconv.cl). Windows of few terms would gain nothing by it. */
static uint32_t background(const vec_conv_job *job, const tile *t, const ocl_view *x) {
    const ocl_geometry *g = &job->g;
    if (t->width == 0 || job->gradient || (t->width - 1u) * g->sw + g->kw > 16u ||
        (16u / t->vectors / t->width - 1u) * g->sh + g->kh > 32u) {
        return 0;
    }
    bool looks = x->layout == STN_NC16 ? g->kh * g->kw >= 9u : g->c == 1 && x->w >= 16u;
    return looks ? job->pad.top * x->w + job->pad.left + 1u : 0u;
}

bool vec_conv(stn_kernel *k, const vec_conv_job *job) {
    const ocl_geometry *g = &job->g;
    bool pool = job->index != NULL;
    uint32_t uh = pool ? job->y.h * 2u : g->oh, uw = pool ? job->y.w * 2u : g->ow;
    if (!vec_wanted(k, g, job->x.n) || job->y.layout != STN_NC16 || g->kw > 32) {
        return false;
    }
    tile t = choose_tile(g->o, uh, uw, pool);
    uint32_t pixels = 16u / t.vectors, lanes = 16u * t.vectors;
    if (pool && t.width == 0) {
        return false;
    }
    ocl_view x = vec_padded(k, job->x, &job->pad);
    uint32_t shared = background(job, &t, &x);
    uint32_t rows = t.width == 0 ? 1u : tiles(uh, pixels / t.width);
    uint32_t strips = shared != 0 ? STRIPS : 1u;
    ocl_arg w = packed_weights(k, job->w, g, lanes, job->transposed);
    ocl_arg b = packed_bias(k, job->b, g->o);
    char options[320];
    (void)snprintf(
        options, sizeof options,
        "-DV_C=%u -DV_H=%u -DV_W=%u -DV_O=%u -DV_KH=%u -DV_KW=%u -DV_OH=%u -DV_OW=%u "
        "-DV_SH=%u -DV_SW=%u -DV_CB=%u -DV_XS=%u -DV_NV=%u -DV_TW=%u -DV_POOL=%d "
        "-DV_PH=%u -DV_PW=%u -DV_UH=%u -DV_UW=%u -DV_ACT=%d -DV_BG=%u -DV_STRIPS=%u -DV_LIMIT=%s",
        g->c, x.h, x.w, g->o, g->kh, g->kw, g->oh, g->ow, g->sh, g->sw,
        stn_conv_chunk(g->kh, g->kw), x.layout == STN_NC16 ? 16u : 1u, t.vectors, t.width, pool,
        job->y.h, job->y.w, uh, uw, job->act, shared, strips,
        job->gradient ? "STN_LIM_G" : "STN_LIM_X");
    ocl_range range = {{tiles(rows, strips), 1, tiles(g->o, lanes)}, 2u, {1, 1, 1}};
    OCL_EMIT(k, "vconv.cl", options, "vconv", &range, x.ref, w, b, job->y.ref,
             pool ? job->index->ref : A_NONE, A_U(job->b.kind != OCL_ARG_NONE), A_F(job->slope),
             A_ROWS(1), A_FLAGS);
    return true;
}
