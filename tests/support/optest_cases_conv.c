/* Cases of convolution, its composites, and their gradients. */
#include "optest_cases.h"

static const struct conv_shape {
    uint32_t n, c, h, w, o, kh, kw, sh, sw, ph, pw, shards, count;
    bool tiny;
} shapes[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 1, 1, true},       /* all ones */
    {2, 3, 5, 4, 2, 2, 3, 1, 1, 0, 0, 2, 2, true},       /* even and unequal window */
    {3, 2, 7, 5, 5, 3, 3, 1, 1, 1, 1, 16, 3, true},      /* more shards than images */
    {5, 4, 6, 6, 3, 3, 3, 2, 2, 1, 1, 2, 4, true},       /* N no multiple of S, short batch */
    {2, 1, 9, 9, 4, 5, 5, 2, 1, 2, 0, 4, 2, true},       /* unequal strides and paddings */
    {2, 3, 8, 8, 4, 2, 2, 3, 3, 0, 0, 2, 2, true},       /* stride beyond the window: gaps */
    {4, 1, 18, 18, 2, 3, 3, 1, 1, 0, 0, 1, 4, true},     /* weight gradient: G = 1 */
    {6, 2, 14, 14, 2, 3, 3, 1, 1, 0, 0, 1, 5, true},     /* G = 2, chunk cut by count */
    {3, 17, 6, 6, 33, 3, 3, 1, 1, 1, 1, 16, 3, false},   /* channels just past 16 and 32 */
    {2, 19, 7, 5, 21, 3, 3, 2, 2, 2, 2, 16, 2, false},   /* primes, stride, wide padding */
    {3, 40, 5, 5, 16, 3, 3, 1, 1, 1, 1, 2, 3, false},    /* chunk of 32 channels and a rest */
    {2, 70, 3, 3, 35, 3, 3, 1, 1, 1, 1, 2, 2, false},    /* both directions in several chunks */
    {7, 5, 3, 3, 4, 1, 1, 1, 1, 0, 0, 4, 5, false},      /* 1x1 */
    {4, 20, 14, 14, 20, 5, 5, 1, 1, 0, 0, 16, 3, false}, /* narrow networks of the study */
    {3, 6, 9, 7, 10, 7, 7, 1, 1, 0, 0, 16, 3, false},    /* window as wide as the map */
    {2, 1, 28, 28, 64, 9, 9, 1, 1, 0, 0, 16, 2, false},  /* MNIST, first layer */
    {2, 64, 10, 10, 64, 7, 7, 1, 1, 0, 0, 16, 2, false}, /* MNIST, second layer */
    {1, 3, 20, 20, 48, 5, 5, 1, 1, 2, 2, 16, 1, false},  /* SVHN, first layers */
    {1, 48, 10, 10, 64, 5, 5, 1, 1, 2, 2, 16, 1, false},
    /* Edges of tiles of 16, 32, 64 and 128 outputs and of slices of 16 terms. */
    {2, 1, 8, 8, 16, 4, 4, 1, 1, 0, 0, 2, 2, true},     /* 16 terms, 16 rows, 50 columns */
    {1, 17, 8, 4, 33, 1, 1, 1, 1, 0, 0, 1, 1, true},    /* 17 terms, 33 rows, 32 columns */
    {5, 16, 16, 8, 32, 1, 1, 1, 1, 0, 0, 4, 5, false},  /* 32 rows, 640 columns */
    {3, 5, 16, 16, 65, 3, 3, 1, 1, 1, 1, 2, 3, false},  /* 65 rows, 45 terms, 768 columns */
    {9, 33, 5, 13, 64, 2, 1, 1, 1, 0, 0, 4, 7, false},  /* 64 rows; chunk of 256 channels */
    {3, 65, 9, 9, 63, 3, 3, 1, 1, 1, 1, 2, 3, false},   /* 585 terms of 63 and 65 rows */
    {40, 3, 4, 4, 20, 3, 3, 1, 1, 1, 1, 16, 37, false}, /* shards of 3 images in one chunk of 16 */
    /* Images past one tile whose gradient, padded, would be mostly zeros: by size, by stride. */
    {70, 20, 6, 5, 40, 4, 4, 1, 1, 0, 0, 16, 67, false},
    {37, 33, 9, 8, 19, 3, 2, 2, 3, 1, 0, 2, 37, false},
    /* The most padding: every output pixel meets the image, few channels and many. */
    {3, 2, 9, 70, 5, 2, 3, 1, 1, 1, 2, 2, 3, true},
    {2, 20, 6, 7, 18, 3, 2, 1, 1, 2, 1, 2, 2, false},
    /* Image rows of three and four vectors of 16 columns. */
    {3, 2, 19, 37, 20, 5, 4, 2, 2, 2, 1, 2, 3, false},
    {2, 3, 9, 64, 5, 3, 3, 1, 1, 1, 1, 1, 1, false},
    /* Kernels higher than a window of registers, and more columns over a vector than 64. */
    {2, 1, 31, 18, 5, 25, 3, 1, 1, 3, 1, 2, 2, false},
    {1, 2, 4, 150, 3, 2, 60, 1, 1, 1, 9, 1, 1, false},
    /* Several chunks under tiles of every width, bands of images, a last row alone. */
    {1, 33, 14, 37, 20, 3, 3, 1, 1, 0, 0, 1, 1, false},
    {1, 33, 37, 14, 33, 3, 3, 1, 1, 0, 0, 1, 1, false},
    {1, 17, 37, 14, 40, 5, 5, 1, 1, 0, 0, 1, 1, false},
    {1, 3, 5, 38, 20, 3, 3, 1, 1, 0, 0, 1, 1, false}, /* a band of two rows and one of one */
    /* Pairs of rows from two images, and an image's last row without another. */
    {5, 33, 11, 11, 33, 3, 3, 1, 1, 1, 1, 1, 5, false},
    {3, 2, 7, 8, 17, 1, 3, 1, 1, 0, 0, 1, 3, false},
    {6, 1, 9, 11, 16, 9, 9, 1, 1, 0, 0, 1, 5, false}, /* rows of three pixels, one an image */
    {2, 5, 3, 25, 40, 3, 3, 1, 1, 1, 1, 1, 2, false},
    /* Strides over bands of an image: small kernels, pixels that no output meets, wide kernels. */
    {2, 17, 40, 45, 18, 3, 3, 2, 2, 1, 1, 2, 2, false},
    {2, 5, 43, 61, 20, 1, 1, 3, 3, 0, 0, 2, 2, false},
    {1, 6, 45, 30, 35, 4, 2, 5, 3, 0, 1, 1, 1, false},
    {1, 5, 45, 40, 5, 11, 10, 2, 3, 5, 4, 1, 1, false},
    {2, 1, 21, 37, 18, 5, 5, 2, 2, 2, 2, 2, 2, false},   /* one channel: planes, with a stride */
    {4, 1, 128, 130, 64, 1, 1, 1, 1, 0, 0, 1, 3, false}, /* 16 MiB of outputs and more */
};

static uint32_t out_size(uint32_t in, uint32_t window, uint32_t stride, uint32_t pad) {
    return (in + 2 * pad - window) / stride + 1;
}

static stn_tensor map_x(const struct conv_shape *s) {
    return case_tensor(s->n, s->c, s->h, s->w);
}

static stn_tensor map_y(const struct conv_shape *s) {
    return case_tensor(s->n, s->o, out_size(s->h, s->kh, s->sh, s->ph),
                       out_size(s->w, s->kw, s->sw, s->pw));
}

static stn_tensor weights(const struct conv_shape *s) {
    return case_tensor(s->o, s->c, s->kh, s->kw);
}

static stn_conv_params conv_params(const struct conv_shape *s) {
    return (stn_conv_params){sizeof(stn_conv_params), s->sh, s->sw, s->ph, s->pw, s->shards};
}

static optest_case conv_case(const struct conv_shape *s, uint32_t op) {
    optest_case c = case_new(op, sizeof(stn_conv_params), s->count);
    c.params.conv = conv_params(s);
    c.tiny = s->tiny;
    return c;
}

static void forward(const struct conv_shape *s, const char *name, bool bias) {
    optest_case c = conv_case(s, STN_OP_CONV);
    case_in(&c, map_x(s), OPTEST_X, true);
    case_in(&c, weights(s), OPTEST_X, false);
    if (bias) {
        case_in(&c, case_vector(s->o), OPTEST_X, false);
    }
    case_out(&c, map_y(s), true);
    case_add(&c, name, 1, 1);
}

static const char *planar(const char *name, char text[128]) {
    (void)snprintf(text, 128, "%s_planar", name);
    return text;
}

static void gradients(const struct conv_shape *s, const char *name) {
    char mixed[128];
    optest_case x = conv_case(s, STN_OP_CONV_GRAD_X);
    case_in(&x, map_y(s), OPTEST_G, true);
    case_in(&x, weights(s), OPTEST_X, false);
    case_out(&x, map_x(s), true);
    case_add(&x, name, 1, 1);
    if (s->c <= 4) { /* as behind an image: the gradient alone is blocked */
        case_add_blocked(&x, planar(name, mixed), 1, 0);
    }
    optest_case w = conv_case(s, STN_OP_CONV_GRAD_W);
    case_in(&w, map_y(s), OPTEST_G, true);
    case_in(&w, map_x(s), OPTEST_X, true);
    case_out(&w, weights(s), false);
    case_add(&w, name, 3, 0);
    if (s->c <= 4) {
        case_add_blocked(&w, planar(name, mixed), 1, 0);
    }
    optest_case b = case_new(STN_OP_BIAS_GRAD, sizeof(stn_reduce_params), s->count);
    b.params.reduce.shards = s->shards;
    b.tiny = s->tiny;
    case_in(&b, map_y(s), OPTEST_G, true);
    case_out(&b, case_vector(s->o), false);
    case_add(&b, name, 1, 0);
}

/* ---- blocks --------------------------------------------------------------------------------- */

static const struct block_shape {
    struct conv_shape conv;
    uint32_t pool, stride; /* 0: no pool */
    uint32_t act;
    float slope;
} blocks[] = {
    {{2, 1, 7, 7, 3, 2, 2, 1, 1, 0, 0, 2, 2, true}, 2, 2, 1, 0.0f},
    {{3, 2, 6, 7, 4, 3, 3, 1, 1, 1, 1, 2, 2, true}, 2, 2, 1, 0.01f},
    {{2, 3, 6, 6, 5, 3, 3, 1, 1, 0, 0, 16, 2, true}, 0, 0, 1, 0.0f},
    {{2, 2, 8, 8, 2, 3, 3, 1, 1, 1, 1, 1, 2, true}, 2, 2, 0, 0.0f},
    {{2, 2, 9, 9, 3, 3, 3, 1, 1, 0, 0, 2, 2, true}, 3, 2, 1, 0.0f}, /* overlapping windows */
    {{3, 17, 7, 9, 33, 3, 3, 1, 1, 1, 1, 2, 3, false}, 2, 2, 1, 0.0f},
    {{2, 1, 28, 28, 64, 9, 9, 1, 1, 0, 0, 16, 2, false}, 2, 2, 1, 0.0f},
    {{3, 64, 10, 10, 64, 7, 7, 1, 1, 0, 0, 16, 2, false}, 2, 2, 1, 0.0f},
    {{2, 1, 28, 28, 20, 5, 5, 1, 1, 0, 0, 16, 2, false}, 2, 2, 1, 0.0f},
    {{2, 20, 12, 12, 20, 5, 5, 1, 1, 0, 0, 16, 2, false}, 2, 2, 1, 0.0f},
    {{2, 3, 14, 14, 48, 5, 5, 1, 1, 2, 2, 16, 2, false}, 2, 2, 1, 0.0f},
    {{5, 3, 11, 13, 33, 4, 4, 1, 1, 1, 1, 2, 4, false}, 2, 2, 1, 0.1f}, /* 33 rows, 600 columns */
    {{3, 20, 9, 9, 65, 2, 2, 2, 2, 0, 0, 2, 3, false}, 2, 2, 1, 0.0f},  /* stride and pool */
    /* Rows of more than 16, and of more than 64 windows; windows spread over the columns. */
    {{3, 2, 17, 70, 19, 5, 6, 1, 1, 2, 1, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 1, 6, 140, 3, 3, 3, 1, 1, 1, 1, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 3, 9, 41, 4, 3, 3, 1, 2, 0, 2, 2, 2, false}, 2, 2, 1, 0.1f},
    {{2, 1, 7, 60, 3, 2, 20, 1, 1, 0, 0, 2, 2, false}, 2, 2, 0, 0.0f},
    {{2, 2, 32, 19, 3, 13, 4, 1, 1, 2, 0, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 1, 13, 14, 5, 3, 3, 1, 1, 1, 1, 2, 2, false}, 2, 3, 1, 0.0f}, /* gaps between windows */
    /* Rows of 8, 11 and 69 windows; windows of three rows; gaps between windows. */
    {{3, 1, 18, 18, 17, 3, 3, 1, 1, 0, 0, 2, 3, false}, 2, 2, 0, 0.0f},
    {{2, 3, 14, 30, 5, 3, 5, 1, 1, 0, 1, 2, 2, false}, 2, 2, 1, 0.0f},
    {{1, 1, 6, 140, 3, 3, 3, 1, 1, 0, 0, 1, 1, false}, 2, 2, 1, 0.0f},
    {{2, 17, 11, 12, 4, 3, 3, 1, 1, 0, 0, 2, 2, false}, 3, 3, 1, 0.0f},
    {{3, 2, 13, 31, 18, 4, 4, 1, 1, 0, 0, 2, 3, false}, 2, 3, 0, 0.0f},
    /* Gradients without zeros, in bands of an image and in whole images; overlapping windows. */
    {{3, 18, 21, 23, 35, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.3f},
    {{9, 21, 5, 6, 17, 3, 2, 1, 1, 2, 0, 4, 7, false}, 0, 0, 1, 0.3f},
    {{3, 33, 15, 19, 18, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.3f},
    {{3, 4, 21, 19, 18, 5, 3, 2, 1, 1, 0, 2, 3, false}, 2, 2, 1, 0.0f}, /* strides under a pool */
    {{2, 2, 22, 40, 3, 3, 5, 3, 2, 2, 3, 1, 2, false}, 2, 2, 1, 0.1f},
    /* Rows of several tiles: kernels that reach one, two and three of them, and beyond the edges.
     */
    {{2, 18, 9, 37, 20, 3, 4, 1, 1, 1, 2, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 5, 11, 50, 18, 4, 16, 1, 1, 3, 9, 2, 1, false}, 2, 2, 1, 0.1f},
    {{1, 17, 20, 33, 34, 7, 7, 1, 1, 0, 0, 1, 1, false}, 2, 2, 0, 0.0f},
    {{3, 33, 27, 23, 18, 5, 6, 1, 1, 2, 3, 2, 3, false}, 2, 2, 1, 0.0f}, /* and of rows */
    /* Bands of an image, and items that reach from one into the next. */
    {{2, 20, 39, 30, 17, 5, 5, 1, 1, 2, 2, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 18, 41, 44, 35, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.0f},
    {{1, 5, 60, 40, 6, 4, 3, 1, 1, 3, 2, 1, 1, false}, 2, 2, 1, 0.1f},
    {{1, 7, 50, 34, 18, 2, 9, 1, 1, 1, 0, 1, 1, false}, 2, 2, 1, 0.0f},
    /* Rows of more windows than are undone at once: 3 x 3 with stride 2, and overlapping more. */
    {{2, 5, 7, 74, 17, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.1f},
    {{1, 6, 6, 41, 18, 2, 3, 1, 1, 0, 1, 1, 1, false}, 3, 1, 0, 0.0f},
    /* Narrow maps, whose rows are summed in registers: the widest ones, one of padding on all
     * sides, strides, two columns, more items than are copied at once. */
    {{3, 18, 9, 16, 20, 8, 7, 1, 1, 0, 0, 2, 3, false}, 2, 2, 1, 0.0f},
    {{2, 18, 13, 24, 20, 9, 20, 3, 2, 4, 6, 2, 2, false}, 0, 0, 1, 0.0f},
    {{2, 17, 11, 14, 18, 7, 12, 1, 1, 3, 4, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 5, 19, 19, 33, 11, 11, 3, 3, 5, 5, 2, 2, false}, 0, 0, 1, 0.1f},
    {{5, 33, 7, 6, 18, 7, 5, 1, 1, 3, 2, 2, 4, false}, 2, 2, 1, 0.0f},
    {{2, 17, 12, 7, 33, 6, 4, 2, 3, 1, 1, 2, 2, false}, 0, 0, 1, 0.0f},
    {{9, 21, 12, 2, 19, 14, 2, 2, 1, 3, 0, 2, 9, false}, 0, 0, 1, 0.0f},
    {{2, 20, 9, 5, 35, 7, 5, 2, 2, 3, 2, 2, 2, false}, 0, 0, 1, 0.1f},
    /* Rows of padding that have no sums: one band of an image, and two. */
    {{2, 5, 9, 26, 18, 7, 5, 2, 2, 3, 2, 2, 2, false}, 2, 2, 1, 0.0f},
    {{1, 18, 19, 26, 18, 11, 11, 3, 3, 5, 5, 1, 1, false}, 0, 0, 1, 0.1f},
    /* Few channels: pairs of kernel rows with and without a ninth column, single rows, more of them
     * than one pass takes. */
    {{2, 3, 20, 27, 18, 11, 9, 1, 2, 3, 4, 2, 2, false}, 2, 2, 1, 0.0f},
    {{3, 2, 19, 20, 5, 14, 9, 1, 1, 0, 1, 2, 3, false}, 0, 0, 1, 0.1f},
    {{2, 2, 16, 22, 5, 7, 8, 2, 1, 1, 0, 2, 2, false}, 2, 2, 1, 0.0f},
    {{2, 1, 20, 30, 4, 16, 12, 1, 1, 0, 0, 2, 2, false}, 2, 2, 0, 0.0f},
    /* Outputs finished tile by tile, whole blocks of channels and a part of one: relu, a slope,
     * none, and one that makes small values large; pairs of rows from two images, a last row alone.
     */
    {{3, 5, 11, 13, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.0f},
    {{3, 33, 11, 13, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.25f},
    {{2, 5, 11, 23, 17, 3, 3, 1, 1, 1, 1, 2, 2, false}, 0, 0, 1, 4.0f},
    {{3, 33, 12, 12, 48, 3, 3, 1, 1, 1, 1, 2, 3, false}, 2, 2, 1, 0.25f},
    {{2, 17, 40, 36, 32, 5, 5, 1, 1, 2, 2, 2, 2, false}, 2, 2, 1, 0.0f},
    {{3, 2, 9, 10, 20, 3, 3, 1, 1, 0, 0, 2, 3, false}, 2, 2, 1, 2.0f},
    /* Windows of rows of the unit, whole blocks of channels. */
    {{2, 5, 21, 20, 32, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.0f},
    {{2, 33, 13, 14, 32, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.25f},
    {{2, 5, 13, 16, 16, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 3, 0, 0.0f},
    {{2, 5, 10, 14, 16, 3, 3, 1, 1, 1, 1, 2, 2, false}, 2, 2, 1, 0.0f},
    /* One channel by 3 x 3 taps: bands of an image, two groups of channels. */
    {{2, 1, 47, 44, 64, 3, 3, 1, 1, 1, 1, 2, 2, false}, 0, 0, 1, 0.25f},
    {{3, 1, 30, 31, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.0f},
    /* Its rows without padding, with the most of it on the fewest columns, in steps of two;
     * several images in a unit. */
    {{3, 1, 9, 20, 16, 3, 3, 1, 1, 0, 0, 2, 3, false}, 0, 0, 1, 0.25f},
    {{3, 1, 7, 16, 32, 3, 3, 1, 1, 1, 2, 2, 3, false}, 0, 0, 1, 0.1f},
    {{3, 1, 21, 25, 48, 3, 3, 2, 1, 2, 1, 2, 3, false}, 0, 0, 0, 0.0f},
    {{40, 1, 5, 18, 16, 3, 3, 1, 1, 1, 1, 16, 40, false}, 0, 0, 1, 0.0f},
};

/* Forward only, with images that have a background. */
static const struct block_shape scenes[] = {
    {{4, 1, 28, 28, 64, 9, 9, 1, 1, 0, 0, 16, 4, false}, 2, 2, 1, 0.0f},
    {{5, 1, 41, 46, 20, 5, 5, 1, 1, 0, 0, 16, 4, false}, 2, 2, 1, 0.0f}, /* odd: tiles overlap */
    {{4, 1, 30, 33, 33, 3, 3, 2, 1, 1, 1, 16, 4, false}, 0, 0, 0, 0.0f},
    {{4, 3, 26, 26, 20, 4, 4, 1, 1, 0, 0, 16, 4, false}, 0, 0, 1, 0.1f},
    {{4, 20, 26, 26, 40, 5, 5, 1, 1, 0, 0, 16, 4, false}, 2, 2, 1, 0.0f}, /* two chunks */
    {{4, 33, 27, 25, 17, 3, 3, 1, 1, 1, 1, 16, 4, false}, 2, 2, 1, 0.0f},
    {{9, 2, 14, 14, 18, 3, 3, 1, 1, 0, 0, 16, 8, true}, 0, 0, 0, 0.0f}, /* images in one unit */
    /* Bands that share one row, or two, under windows that overlap. */
    {{5, 1, 29, 27, 20, 5, 4, 1, 1, 1, 0, 16, 4, false}, 3, 2, 1, 0.0f},
    {{4, 3, 25, 30, 33, 3, 3, 1, 1, 1, 1, 16, 4, false}, 3, 1, 1, 0.3f},
    {{4, 2, 53, 27, 17, 3, 3, 2, 1, 1, 1, 16, 3, false}, 3, 2, 0, 0.0f},
};

/* Forward only, with biases of every size and with tiny ones. */
static const struct block_shape extremes[] = {
    {{3, 5, 11, 13, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.0f},
    {{3, 33, 6, 13, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.25f},
    {{3, 1, 14, 14, 32, 3, 3, 1, 1, 0, 0, 2, 3, false}, 2, 2, 1, 0.0f},
    {{3, 5, 10, 12, 48, 3, 3, 1, 1, 1, 1, 2, 3, false}, 2, 2, 1, 0.25f},
    {{3, 1, 12, 19, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.0f},
    {{3, 1, 12, 21, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.25f},
    {{2, 5, 13, 14, 32, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.0f},
    {{2, 5, 13, 14, 32, 3, 3, 1, 1, 1, 1, 2, 2, false}, 3, 2, 1, 0.25f},
    /* A part of a block of channels. */
    {{3, 5, 10, 12, 24, 3, 3, 1, 1, 1, 1, 2, 3, false}, 2, 2, 1, 0.0f},
    {{3, 5, 9, 13, 24, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.25f},
    /* One channel by 3 x 3 taps: small images and bands of large ones, rows of three pixels. */
    {{3, 1, 9, 11, 32, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.0f},
    {{3, 1, 9, 10, 48, 3, 3, 1, 1, 1, 1, 2, 3, false}, 0, 0, 1, 0.25f},
    {{2, 1, 60, 45, 32, 3, 3, 2, 1, 0, 0, 2, 2, false}, 0, 0, 0, 0.0f},
    {{3, 1, 8, 5, 16, 3, 3, 1, 1, 0, 0, 2, 3, false}, 0, 0, 1, 0.5f},
};

static stn_tensor block_y(const struct block_shape *s) {
    stn_tensor y = map_y(&s->conv);
    if (s->pool > 0) {
        y.dim[2] = out_size(y.dim[2], s->pool, s->stride, 0);
        y.dim[3] = out_size(y.dim[3], s->pool, s->stride, 0);
    }
    return y;
}

static stn_tensor index_like(stn_tensor y) {
    y.dtype = STN_U8;
    return y;
}

static optest_case block_case(const struct block_shape *s, uint32_t op) {
    optest_case c = case_new(op, sizeof(stn_conv_block_params), s->conv.count);
    c.params.block = (stn_conv_block_params){
        sizeof(stn_conv_block_params), s->act, s->slope, conv_params(&s->conv), {0}};
    c.params.block.pool.struct_size = sizeof(stn_pool_params);
    if (s->pool > 0) {
        c.params.block.pool = (stn_pool_params){
            sizeof(stn_pool_params), s->pool, s->pool, s->stride, s->stride, 0.0f};
    }
    c.limit = s->pool > 0 ? s->pool * s->pool : 1;
    c.tiny = s->conv.tiny;
    return c;
}

static void block_gradient(const struct block_shape *s, const char *name, bool to_w) {
    optest_case c = block_case(s, to_w ? STN_OP_CONV_BLOCK_GRAD_W : STN_OP_CONV_BLOCK_GRAD_X);
    stn_tensor y = block_y(s);
    case_in(&c, y, OPTEST_G, true);
    case_in(&c, y, OPTEST_X, true);
    case_in(&c, index_like(y), OPTEST_INDEX, true);
    case_in(&c, to_w ? map_x(&s->conv) : weights(&s->conv), OPTEST_X, to_w);
    case_out(&c, to_w ? weights(&s->conv) : map_x(&s->conv), !to_w);
    if (to_w) {
        case_out(&c, case_vector(s->conv.o), false);
    }
    case_add(&c, name, to_w ? 15 : 7, to_w ? 0 : 1);
    if (s->conv.c <= 4) {
        char mixed[128];
        case_add_blocked(&c, planar(name, mixed), 7, 0);
    }
}

static void block(const struct block_shape *s, const char *name, uint32_t role, bool bias,
                  uint32_t bias_role) {
    optest_case c = block_case(s, STN_OP_CONV_BLOCK);
    case_in(&c, map_x(&s->conv), role, true);
    case_in(&c, weights(&s->conv), OPTEST_X, false);
    if (bias) {
        case_in(&c, case_vector(s->conv.o), bias_role, false);
    }
    case_out(&c, block_y(s), true);
    case_out(&c, index_like(block_y(s)), true);
    c.ignored_out = s->pool > 0 ? 0 : 2;
    case_add(&c, name, 1, 3);
    if (s->conv.c <= 4) { /* of an image: the output alone is blocked */
        char mixed[128];
        case_add_blocked(&c, planar(name, mixed), 0, 3);
    }
}

static void name_shape(const struct conv_shape *s, const char *more, char name[96]) {
    (void)snprintf(name, 96, "n%u_c%u_%ux%u_o%u_k%ux%u_s%ux%u_p%ux%u_S%u_count%u%s", s->n, s->c,
                   s->h, s->w, s->o, s->kh, s->kw, s->sh, s->sw, s->ph, s->pw, s->shards, s->count,
                   more);
}

void cases_conv(void) {
    char name[96], more[32];
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        name_shape(&shapes[i], "", name);
        forward(&shapes[i], name, true);
        gradients(&shapes[i], name);
        if (i % 3 == 1) {
            name_shape(&shapes[i], "_nobias", name);
            forward(&shapes[i], name, false);
        }
    }
    for (uint32_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++) {
        const struct block_shape *s = &blocks[i];
        const bool tiles = s->conv.c > 4 && s->conv.w > 20;
        (void)snprintf(more, sizeof more, "_pool%us%u%s%s%s", s->pool, s->stride,
                       s->act == 0       ? ""
                       : s->slope > 0.0f ? "_leaky"
                                         : "_relu",
                       i % 4 == 3 ? "_nobias" : "", tiles ? "_tiles" : "");
        name_shape(&s->conv, more, name);
        block(s, name, OPTEST_X, i % 4 != 3, OPTEST_X);
        block_gradient(s, name, false);
        block_gradient(s, name, true);
    }
    for (uint32_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++) {
        name_shape(&scenes[i].conv, "_scene", name);
        block(&scenes[i], name, OPTEST_SCENE, true, OPTEST_X);
    }
    for (uint32_t i = 0; i < sizeof extremes / sizeof extremes[0]; i++) {
        name_shape(&extremes[i].conv, extremes[i].slope > 0.0f ? "_extreme_leaky" : "_extreme",
                   name);
        block(&extremes[i], name, OPTEST_X, true, OPTEST_EXTREME);
        name_shape(&extremes[i].conv, extremes[i].slope > 0.0f ? "_tiny_leaky" : "_tiny", name);
        block(&extremes[i], name, OPTEST_X, true, OPTEST_TINY);
    }
}
