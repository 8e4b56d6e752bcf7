/* The walker over network tables, see stn_nets.h.
 *
 * Invariants: every value and parameter is declared in an order fixed by the name of the network;
 * shapes are never computed here but asked from the builder; after a builder error (sticky) all
 * values are STN_NO_VALUE and the walk runs on harmlessly.
 */
#include "stn_nets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_STEPS 8u /* transformer applications of one network */

enum { MODE_CNN, MODE_C, MODE_SL, MODE_DL };

typedef struct plan {
    uint32_t mode, n_steps;
    uint32_t depth[MAX_STEPS]; /* depth of each transformer application, in order */
    bool several;              /* more than one localization net: they carry their depth */
    const nets_layer *loc;
} plan;

typedef struct walk {
    const stn_builder *b;
    stn_graph *g;
    const nets_family *family;
    const stn_model_request *request;
    plan plan;
    stn_warp_params warp;
    bool st_bn, dropout;
    stn_val identity;
    uint32_t step; /* transformer applications so far */
} walk;

/* ---- options ------------------------------------------------------------------------------- */

static const char *option(const stn_model_request *r, const char *name, const char *def) {
    for (uint32_t i = 0; i < r->options.count; i++) {
        if (strcmp(r->options.name[i], name) == 0) {
            return r->options.value[i];
        }
    }
    return def;
}

static bool is_true(const char *value) {
    return strcmp(value, "true") == 0 || strcmp(value, "1") == 0 || strcmp(value, "yes") == 0 ||
           strcmp(value, "on") == 0;
}

static int32_t read_options(walk *w, stn_err *err) {
    static const char *const padding[] = {"zeros", "border", "reflection", "background"};
    static const uint32_t number[] = {STN_PAD_ZEROS, STN_PAD_BORDER, STN_PAD_REFLECTION,
                                      STN_PAD_BACKGROUND};
    const char *pad = option(w->request, "padding", w->family->padding);
    w->warp.struct_size = (uint32_t)sizeof w->warp;
    w->warp.corners = STN_CORNERS_ALIGNED;
    w->warp.filter = STN_FILTER_BILINEAR;
    for (uint32_t i = 0; i < 4; i++) {
        if (strcmp(pad, padding[i]) == 0) {
            w->warp.padding = number[i];
        }
    }
    if (w->warp.padding == 0) {
        return stn_fail(err, STN_E_USAGE,
                        "model option padding = '%s': use zeros, border, reflection or background",
                        pad);
    }
    for (uint32_t c = 0; c < STN_MAX_BACKGROUND; c++) {
        w->warp.background[c] = strtof(option(w->request, "background", "0"), NULL);
    }
    w->st_bn = is_true(option(w->request, "st_bn", "false"));
    w->dropout = is_true(option(w->request, "dropout", "true"));
    return STN_OK;
}

/* ---- the name of a network ------------------------------------------------------------------ */

static int32_t unknown(const stn_model_request *r, stn_err *err) {
    return stn_fail(err, STN_E_USAGE, "unknown network '%s': `stnrun models` lists them",
                    r->network);
}

/* The localization net: the entry of that very name; without a suffix, else the common one. */
static const nets_layer *find_loc(const nets_family *family, const char *network) {
    const nets_layer *common = NULL;
    for (uint32_t i = 0; i < family->n_locs; i++) {
        if (strcmp(family->locs[i].network, network) == 0) {
            return family->locs[i].layers;
        }
        if (family->locs[i].network[0] == '\0' && strchr(network, '_') == NULL) {
            common = family->locs[i].layers;
        }
    }
    return common;
}

/* Digits of the depths, then x<N>; fills plan->depth. Returns the rest of the name or NULL. */
static const char *parse_depths(const char *s, plan *p, uint32_t max_depth) {
    uint32_t n = 0;
    if (strncmp(s, "10", 2) == 0) {
        p->depth[n++] = 10;
        s += 2;
    }
    for (; n < MAX_STEPS && *s >= '0' && *s <= '9'; s++) {
        p->depth[n++] = (uint32_t)(*s - '0');
    }
    for (uint32_t i = 0; i < n; i++) {
        if (p->depth[i] > max_depth || (i > 0 && p->depth[i] < p->depth[i - 1])) {
            return NULL;
        }
        p->several = p->several || p->depth[i] != p->depth[0];
    }
    uint32_t times = 1;
    if (s[0] == 'x' && s[1] >= '1' && s[1] <= '9') {
        times = (uint32_t)(s[1] - '0');
        s += 2;
    }
    if (n == 0 || n * times > MAX_STEPS || (times > 1 && p->several)) {
        return NULL;
    }
    for (uint32_t i = n; i < n * times; i++) {
        p->depth[i] = p->depth[i - n];
    }
    p->n_steps = n * times;
    return s;
}

static int32_t parse_name(walk *w, stn_err *err) {
    static const struct {
        const char *prefix;
        uint32_t mode;
    } modes[] = {{"cnn", MODE_CNN}, {"c", MODE_C}, {"sl", MODE_SL}, {"dl", MODE_DL}};
    const stn_model_request *r = w->request;
    uint32_t i = 0;
    while (i < 4 && strncmp(r->network, modes[i].prefix, strlen(modes[i].prefix)) != 0) {
        i++;
    }
    if (i == 4) {
        return unknown(r, err);
    }
    w->plan.mode = modes[i].mode;
    const char *rest = r->network + strlen(modes[i].prefix);
    if (w->plan.mode != MODE_CNN) {
        rest = parse_depths(rest, &w->plan, w->family->n_blocks);
    }
    if (rest == NULL || (*rest != '\0' && *rest != '_')) {
        return unknown(r, err);
    }
    w->plan.loc = find_loc(w->family, r->network);
    if (w->plan.mode == MODE_CNN) {
        return *rest == '\0' ? STN_OK : unknown(r, err);
    }
    if (w->plan.loc == NULL) {
        return stn_fail(err, STN_E_UNSUPPORTED,
                        "network '%s' is not defined for variant '%s': choose another network",
                        r->network, w->family->variant);
    }
    return STN_OK;
}

/* ---- layers --------------------------------------------------------------------------------- */

/* Width rule of the study: w -> max(4, floor(w * factor + 0.5)); factor 1 changes nothing. */
static uint32_t scaled(const walk *w, uint32_t width) {
    double factor = w->request->width_factor;
    if (factor == 1.0) {
        return width;
    }
    double v = floor(width * factor + 0.5);
    return v < 4.0 ? 4u : v > 65536.0 ? 65536u : (uint32_t)v;
}

/* Convolution with bias, stride 1, and the pool behind it. */
static stn_val conv_pool(const walk *w, const char *path, stn_val x, uint32_t out, uint32_t kernel,
                         uint32_t pad, uint32_t pool) {
    const stn_conv_spec spec = {.struct_size = (uint32_t)sizeof spec,
                                .out = scaled(w, out),
                                .kh = kernel,
                                .kw = kernel,
                                .stride_h = 1,
                                .stride_w = 1,
                                .pad_h = pad,
                                .pad_w = pad,
                                .bias = 1};
    x = w->b->conv(w->g, path, x, &spec);
    return pool != 0 ? w->b->maxpool(w->g, x, pool, 2) : x;
}

static stn_val drop(const walk *w, stn_val x, double p) {
    return p > 0.0 && w->dropout ? w->b->dropout(w->g, x, p) : x;
}

/* Classifier blocks first+1 .. last on x, with parameters <prefix>.conv<k>. */
static stn_val features(const walk *w, const char *prefix, stn_val x, uint32_t first,
                        uint32_t last) {
    char path[64];
    for (uint32_t k = first; k < last; k++) {
        const nets_block *block = &w->family->blocks[k];
        (void)snprintf(path, sizeof path, "%s.conv%u", prefix, k + 1);
        x = conv_pool(w, path, x, block->out, block->kernel, block->pad, block->pool);
        x = w->b->act(w->g, x, w->family->slope);
        x = drop(w, x, block->dropout);
    }
    return x;
}

/* The classifier from the map after block `first` to the logits [N, heads*classes]. */
static stn_val classify(const walk *w, stn_val x, uint32_t first) {
    char path[64];
    x = features(w, "cls", x, first, w->family->n_blocks);
    x = drop(w, x, w->family->drop_in);
    for (uint32_t k = 0; k < w->family->n_fc; k++) {
        (void)snprintf(path, sizeof path, "cls.fc%u", k + 1);
        x = w->b->linear(w->g, path, x, scaled(w, w->family->fc[k]), 1, STN_INIT_FAN_IN);
        x = drop(w, w->b->act(w->g, x, w->family->slope), w->family->drop_fc);
    }
    uint32_t out = w->request->heads * w->request->classes;
    return w->b->linear(w->g, "cls.out", x, out, 1, STN_INIT_FAN_IN);
}

/* theta[N,6] = identity + last linear layer, which starts at zero. */
static stn_val localize(const walk *w, const char *loc, stn_val x) {
    char path[64];
    uint32_t convs = 0, fcs = 0;
    for (const nets_layer *l = w->plan.loc; l->kind != NETS_END; l++) {
        if (l->kind == NETS_HALVE) {
            x = w->b->halve(w->g, x);
            continue;
        }
        if (l->kind == NETS_CONV) {
            (void)snprintf(path, sizeof path, "%s.conv%u", loc, ++convs);
            x = conv_pool(w, path, x, l->out, l->kernel, l->pad, l->pool);
        } else {
            (void)snprintf(path, sizeof path, "%s.fc%u", loc, ++fcs);
            x = w->b->linear(w->g, path, x, scaled(w, l->out), 1, STN_INIT_FAN_IN);
        }
        x = w->b->act(w->g, x, 0.0f);
    }
    (void)snprintf(path, sizeof path, "%s.theta", loc);
    x = w->b->linear(w->g, path, x, 6, 1, STN_INIT_ZERO);
    return w->b->add(w->g, x, w->identity);
}

/* Warps x by theta as the next transformer application. */
static stn_val transform(walk *w, const char *loc, stn_val x, stn_val theta) {
    char name[64];
    uint32_t dim[STN_MAX_RANK] = {0};
    stn_warp_params warp = w->warp;
    w->b->shape(w->g, x, dim);
    warp.out_h = w->family->half != 0 ? dim[2] / 2 : dim[2];
    warp.out_w = w->family->half != 0 ? dim[3] / 2 : dim[3];
    w->step++;
    (void)snprintf(name, sizeof name, "theta%u", w->step);
    w->b->mark(w->g, name, theta);
    x = w->b->warp(w->g, x, theta, &warp);
    (void)snprintf(name, sizeof name, "warped%u", w->step);
    w->b->mark(w->g, name, x);
    if (w->st_bn) {
        (void)snprintf(name, sizeof name, "%s.bn", loc);
        x = w->b->batch_norm(w->g, name, x, 0, 1e-5f, 0.1f);
    }
    return x;
}

/* "loc", or "loc<depth>" where the network has several localization nets. */
static void loc_name(const walk *w, uint32_t depth, char *name, size_t cap) {
    if (w->plan.several) {
        (void)snprintf(name, cap, "loc%u", depth);
    } else {
        (void)snprintf(name, cap, "loc");
    }
}

/* Map a(b(.)), or b where there is no a yet. */
static stn_val composed(const walk *w, stn_val a, stn_val b) {
    return a == STN_NO_VALUE ? b : w->b->compose(w->g, a, b);
}

/* SL and DL: every step warps the original image by the composed map; the next localization sees
 * the features of what came out. */
static stn_val image_steps(walk *w, stn_val image) {
    char loc[16], copy[32];
    stn_val x = image, theta = STN_NO_VALUE;
    for (uint32_t i = 0; i < w->plan.n_steps; i++) {
        loc_name(w, w->plan.depth[i], loc, sizeof loc);
        (void)snprintf(copy, sizeof copy, "%s.copy", loc);
        const char *blocks = w->plan.mode == MODE_DL ? copy : "cls";
        stn_val seen = features(w, blocks, x, 0, w->plan.depth[i]);
        theta = composed(w, theta, localize(w, loc, seen));
        x = transform(w, loc, image, theta);
    }
    return classify(w, x, 0);
}

/* C: the map at each depth is warped in turn; only steps of one depth compose, on its first map. */
static stn_val feature_steps(walk *w, stn_val x) {
    char loc[16];
    uint32_t at = 0;
    stn_val first = x, theta = STN_NO_VALUE;
    for (uint32_t i = 0; i < w->plan.n_steps; i++) {
        uint32_t depth = w->plan.depth[i];
        if (i == 0 || depth != at) {
            x = first = features(w, "cls", x, at, depth);
            at = depth;
            theta = STN_NO_VALUE;
        }
        loc_name(w, depth, loc, sizeof loc);
        theta = composed(w, theta, localize(w, loc, x));
        x = transform(w, loc, first, theta);
    }
    return classify(w, x, at);
}

int32_t nets_build(const stn_builder *b, stn_graph *g, const stn_model_request *request,
                   const nets_family *family, stn_err *err) {
    static const float identity[6] = {1, 0, 0, 0, 1, 0};
    walk w = {.b = b, .g = g, .family = family, .request = request};
    STN_TRY(parse_name(&w, err));
    STN_TRY(read_options(&w, err));
    stn_val x = b->input(g);
    if (w.plan.mode != MODE_CNN) {
        w.identity = b->constant(g, "identity", identity, 6);
    }
    stn_val logits = w.plan.mode == MODE_CNN ? classify(&w, x, 0)
                     : w.plan.mode == MODE_C ? feature_steps(&w, x)
                                             : image_steps(&w, x);
    b->mark(g, "logits", logits);
    b->loss(g, logits, request->heads, request->classes);
    return STN_OK;
}
