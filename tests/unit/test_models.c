/* Model plugins against the PyTorch reference: parameter counts of every network of the study,
 * parameter names and shapes, the width rule, marks, warp sizes and dropout.
 *
 * The plugins are driven through a small builder of this file, which only tracks shapes and
 * parameters, so that nothing of the engine takes part.
 */
#include <criterion/criterion.h>

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <stn/model.h>

#define MAX_VALUES 512
#define MAX_PARAMS 256
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

typedef struct param {
    char name[64];
    uint32_t rank, dim[4];
    bool trained;
} param;

struct stn_graph {
    uint32_t channels, height, width;
    uint32_t dim[MAX_VALUES][4];
    uint32_t n_values, n_params, dropouts, image_warps, composes, losses;
    param params[MAX_PARAMS];
    uint32_t last_warp[2];
    uint32_t padding, classes;
    char marked[256];
};

static stn_val value(stn_graph *g, uint32_t c, uint32_t h, uint32_t w) {
    cr_assert_lt(g->n_values, MAX_VALUES);
    cr_assert(c > 0 && h > 0 && w > 0 && h < 100000 && w < 100000, "an empty map");
    uint32_t d[4] = {1, c, h, w};
    memcpy(g->dim[g->n_values], d, sizeof d);
    return (stn_val)g->n_values++;
}

/* Adds a parameter, or checks that its shape agrees where the name is shared. */
static void add_param(stn_graph *g, const char *path, const char *leaf, uint32_t rank,
                      const uint32_t *dim, bool trained) {
    char name[64];
    cr_assert_lt((size_t)snprintf(name, sizeof name, "%s.%s", path, leaf), sizeof name);
    for (uint32_t i = 0; i < g->n_params; i++) {
        if (strcmp(g->params[i].name, name) == 0) {
            cr_assert_eq(memcmp(g->params[i].dim, dim, rank * sizeof *dim), 0, "%s", name);
            return;
        }
    }
    cr_assert_lt(g->n_params, MAX_PARAMS);
    param *p = &g->params[g->n_params++];
    memcpy(p->name, name, sizeof name);
    memcpy(p->dim, dim, rank * sizeof *dim);
    p->rank = rank;
    p->trained = trained;
}

static stn_val b_input(stn_graph *g) {
    cr_assert_eq(g->n_values, 0, "the image is value 0");
    return value(g, g->channels, g->height, g->width);
}
static void b_shape(stn_graph *g, stn_val v, uint32_t dim[STN_MAX_RANK]) {
    memcpy(dim, g->dim[v], sizeof g->dim[v]);
}
static stn_val b_constant(stn_graph *g, const char *path, const float *data, uint32_t n) {
    const float identity[6] = {1, 0, 0, 0, 1, 0};
    cr_assert(n == 6 && memcmp(data, identity, sizeof identity) == 0, "%s", path);
    return value(g, n, 1, 1);
}
static stn_val b_conv(stn_graph *g, const char *path, stn_val x, const stn_conv_spec *s) {
    const uint32_t *d = g->dim[x], w[4] = {s->out, d[1], s->kh, s->kw};
    cr_assert(s->struct_size == sizeof *s && s->bias == 1);
    cr_assert(d[2] + 2 * s->pad_h >= s->kh && d[3] + 2 * s->pad_w >= s->kw, "%s too small", path);
    add_param(g, path, "weight", 4, w, true);
    add_param(g, path, "bias", 1, w, true);
    return value(g, s->out, (d[2] + 2 * s->pad_h - s->kh) / s->stride_h + 1,
                 (d[3] + 2 * s->pad_w - s->kw) / s->stride_w + 1);
}
static stn_val b_linear(stn_graph *g, const char *path, stn_val x, uint32_t out, uint32_t bias,
                        uint32_t init) {
    const uint32_t *d = g->dim[x], w[2] = {out, d[1] * d[2] * d[3]};
    bool theta = strstr(path, ".theta") != NULL;
    cr_assert_eq(init, theta ? STN_INIT_ZERO : STN_INIT_FAN_IN, "%s", path);
    cr_assert_eq(bias, 1);
    add_param(g, path, "weight", 2, w, true);
    add_param(g, path, "bias", 1, w, true);
    return value(g, out, 1, 1);
}
static stn_val b_batch_norm(stn_graph *g, const char *path, stn_val x, uint32_t affine, float eps,
                            float momentum) {
    const uint32_t *d = g->dim[x];
    cr_assert(affine == 0 && eps == 1e-5f && momentum == 0.1f);
    add_param(g, path, "running_mean", 1, &d[1], false);
    add_param(g, path, "running_var", 1, &d[1], false);
    return value(g, d[1], d[2], d[3]);
}
static stn_val b_pool(stn_graph *g, stn_val x, uint32_t window, uint32_t stride) {
    const uint32_t *d = g->dim[x];
    return value(g, d[1], (d[2] - window) / stride + 1, (d[3] - window) / stride + 1);
}
static stn_val b_act(stn_graph *g, stn_val x, float slope) {
    const uint32_t *d = g->dim[x];
    cr_assert(slope == 0.0f || slope == (float)(1.0 / 3.0));
    return value(g, d[1], d[2], d[3]);
}
static stn_val b_dropout(stn_graph *g, stn_val x, double p) {
    const uint32_t *d = g->dim[x];
    cr_assert_eq(p, 0.5);
    g->dropouts++;
    return value(g, d[1], d[2], d[3]);
}
static stn_val b_halve(stn_graph *g, stn_val x) {
    return b_pool(g, x, 2, 2);
}
static stn_val b_add(stn_graph *g, stn_val a, stn_val b) {
    cr_assert(g->dim[a][1] == 6 && g->dim[b][1] == 6);
    return value(g, 6, 1, 1);
}
static stn_val b_warp(stn_graph *g, stn_val x, stn_val theta, const stn_warp_params *s) {
    cr_assert(s->struct_size == sizeof *s && g->dim[theta][1] == 6);
    cr_assert(s->corners == STN_CORNERS_ALIGNED && s->filter == STN_FILTER_BILINEAR);
    g->image_warps += x == 0;
    g->padding = s->padding;
    g->last_warp[0] = g->dim[x][2];
    g->last_warp[1] = s->out_h;
    return value(g, g->dim[x][1], s->out_h, s->out_w);
}
static stn_val b_compose(stn_graph *g, stn_val a, stn_val b) {
    cr_assert(a >= 0 && a < b, "the newer transform stands on the right");
    g->composes++;
    return value(g, 6, 1, 1);
}
static void b_mark(stn_graph *g, const char *name, stn_val v) {
    cr_assert_geq(v, 0);
    (void)snprintf(g->marked + strlen(g->marked), sizeof g->marked - strlen(g->marked), "%s ",
                   name);
}
static void b_loss(stn_graph *g, stn_val logits, uint32_t heads, uint32_t classes) {
    cr_assert_eq(g->dim[logits][1], heads * classes);
    g->losses++;
}

static const stn_builder builder = {.struct_size = sizeof builder,
                                    .input = b_input,
                                    .shape = b_shape,
                                    .constant = b_constant,
                                    .conv = b_conv,
                                    .linear = b_linear,
                                    .batch_norm = b_batch_norm,
                                    .maxpool = b_pool,
                                    .avgpool = b_pool,
                                    .act = b_act,
                                    .dropout = b_dropout,
                                    .halve = b_halve,
                                    .add = b_add,
                                    .warp = b_warp,
                                    .compose = b_compose,
                                    .mark = b_mark,
                                    .loss = b_loss};

static const stn_plugin *load(const char *name) {
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/stn_%s.so", STN_TEST_PLUGIN_DIR, name);
    void *so = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    cr_assert_not_null(so, "%s", dlerror());
    const stn_plugin *p = dlsym(so, "stn_plugin_entry");
    cr_assert(p != NULL && p->kind == STN_KIND_MODEL && strcmp(p->name, name) == 0);
    return p;
}

/* Builds one network into *g (zeroed first); option may be NULL. */
static int32_t build(stn_graph *g, const char *plugin, const char *variant, const char *network,
                     double width, const char *option, const char *setting, stn_err *err) {
    bool svhn = strcmp(plugin, "svhn_stn") == 0, plankton = strcmp(plugin, "plankton_stn") == 0;
    uint32_t side = svhn                                ? 64
                    : plankton                          ? 95
                    : strcmp(variant, "scale") == 0     ? 112
                    : strcmp(variant, "translate") == 0 ? 60
                                                        : 28;
    memset(g, 0, sizeof *g);
    g->channels = svhn ? 3 : 1;
    g->height = g->width = side;
    g->classes = svhn ? 11 : plankton ? 121 : 10;
    const stn_model_request request = {
        .struct_size = sizeof request,
        .channels = g->channels,
        .height = side,
        .width = side,
        .heads = svhn ? 5 : 1,
        .classes = g->classes,
        .width_factor = width,
        .network = network,
        .variant = variant,
        .options = {sizeof(stn_options), option != NULL ? 1u : 0u, &option, &setting}};
    const stn_model *model = load(plugin)->vtable;
    return model->build(&builder, g, &request, err);
}

static uint64_t count(const stn_graph *g, const char *prefix) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < g->n_params; i++) {
        uint64_t n = 1;
        for (uint32_t k = 0; k < g->params[i].rank; k++) {
            n *= g->params[i].dim[k];
        }
        bool match = strncmp(g->params[i].name, prefix, strlen(prefix)) == 0;
        sum += match && g->params[i].trained ? n : 0;
    }
    return sum;
}

Test(models, parameter_counts_of_the_study) {
    static const struct {
        const char *plugin, *variant, *network;
        uint64_t classifier, localization;
    } cases[] = {
        {"mnist_stn", "rotate", "cnn", 208586, 0},
        {"mnist_stn", "rotate", "c0", 208586, 27430},
        {"mnist_stn", "rotate", "c0_cnnloc", 208586, 11086},
        {"mnist_stn", "rotate", "c1", 208586, 207142},
        {"mnist_stn", "rotate", "sl1", 208586, 207142},
        {"mnist_stn", "rotate", "dl1", 208586, 212390},
        {"mnist_stn", "scale", "cnn", 544586, 0},
        {"mnist_stn", "scale", "c0", 544586, 59086},
        {"mnist_stn", "scale", "c1", 544586, 82186},
        {"mnist_stn", "scale", "sl1", 544586, 82186},
        {"mnist_stn", "scale", "dl1", 544586, 87434},
        {"mnist_stn", "translate", "cnn", 270026, 0},
        {"mnist_stn", "translate", "c0", 208586, 68286},
        {"mnist_stn", "translate", "c1", 211786, 61786},
        {"mnist_stn", "translate", "sl1", 208586, 61786},
        {"mnist_stn", "translate", "dl1", 208586, 67034},
        {"svhn_stn", "none", "cnn", 32820951, 0},
        {"svhn_stn", "none", "c0", 32820951, 394502},
        {"svhn_stn", "none", "c0_large", 32820951, 1077926},
        {"svhn_stn", "none", "c3", 32820951, 1049862},
        {"svhn_stn", "none", "sl3", 32820951, 1049862},
        {"svhn_stn", "none", "dl3", 32820951, 1335302},
        {"svhn_stn", "none", "c6", 32820951, 394502},
        {"svhn_stn", "none", "sl6", 32820951, 394502},
        {"svhn_stn", "none", "dl6", 32820951, 2882086},
        {"svhn_stn", "none", "c8", 32820951, 99590},
        {"svhn_stn", "none", "sl8", 32820951, 99590},
        {"svhn_stn", "none", "dl8", 32820951, 4430758},
        {"svhn_stn", "none", "c0123", 32820951, 5116952},
        {"svhn_stn", "none", "sl0123", 32820951, 5116952},
        {"svhn_stn", "none", "sl3x2", 32820951, 1049862},
        {"svhn_stn", "none", "sl6x2", 32820951, 394502},
        {"plankton_stn", "none", "cnn", 5511385, 0},
        {"plankton_stn", "none", "c0", 5511385, 582214},
        {"plankton_stn", "none", "c0_large", 5511385, 552550},
        {"plankton_stn", "none", "c2", 5511385, 4528646},
        {"plankton_stn", "none", "sl2", 5511385, 4528646},
        {"plankton_stn", "none", "dl2", 5511385, 4538214},
        {"plankton_stn", "none", "c4", 5511385, 2171398},
        {"plankton_stn", "none", "sl4", 5511385, 2171398},
        {"plankton_stn", "none", "dl4", 5511385, 2236390},
        {"plankton_stn", "none", "c7", 5511385, 995846},
        {"plankton_stn", "none", "sl7", 5511385, 995846},
        {"plankton_stn", "none", "dl7", 5511385, 1429862},
        {"plankton_stn", "none", "c10", 5511385, 414214},
        {"plankton_stn", "none", "sl10", 5511385, 414214},
        {"plankton_stn", "none", "dl10", 5511385, 2323558},
        {"example_stn", "none", "cnn", 5994, 0},
        {"example_stn", "none", "stn", 5994, 6502},
    };
    static stn_graph g;
    stn_err err;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(
            build(&g, cases[i].plugin, cases[i].variant, cases[i].network, 1, NULL, NULL, &err),
            STN_OK, "%s", err.text);
        cr_expect_eq(count(&g, "cls."), cases[i].classifier, "%s %s", cases[i].variant,
                     cases[i].network);
        cr_expect_eq(count(&g, "loc"), cases[i].localization, "%s %s", cases[i].variant,
                     cases[i].network);
        cr_expect_eq(count(&g, ""), cases[i].classifier + cases[i].localization);
        cr_expect_eq(g.losses, 1);
    }
}

/* Every name that `stnrun models` lists can be built. */
Test(models, every_listed_network_builds) {
    static const char *const plugins[] = {"mnist_stn", "svhn_stn", "plankton_stn", "example_stn"};
    static stn_graph g;
    stn_err err;
    for (size_t p = 0; p < COUNT(plugins); p++) {
        const stn_model *model = load(plugins[p])->vtable;
        for (uint32_t i = 0; i < model->n_networks; i++) {
            cr_expect_eq(
                build(&g, plugins[p], "none", model->networks[i].name, 1, NULL, NULL, &err), STN_OK,
                "%s", err.text);
        }
    }
}

/* Totals of the reference at reduced widths: max(4, floor(w * factor + 0.5)). */
Test(models, width_rule) {
    static const struct {
        const char *plugin, *variant, *network;
        double width;
        uint64_t total;
    } cases[] = {
        {"mnist_stn", "rotate", "cnn", 0.4, 36332},
        {"mnist_stn", "rotate", "c0", 0.4, 46985},
        {"mnist_stn", "rotate", "c1", 0.4, 70593},
        {"mnist_stn", "rotate", "dl1", 0.4, 72725},
        {"mnist_stn", "rotate", "sl1", 0.4, 70593},
        {"mnist_stn", "scale", "c1", 0.15, 61682},
        {"mnist_stn", "translate", "c0", 0.3, 26330},
        {"mnist_stn", "translate", "c1", 0.3, 26560},
        {"mnist_stn", "translate", "sl1", 0.3, 25610},
        {"svhn_stn", "none", "c3", 0.03125, 42512},
        {"svhn_stn", "none", "dl3", 0.03125, 43624},
        {"svhn_stn", "none", "sl3x2", 0.03125, 42512},
        {"svhn_stn", "none", "sl0123", 0.03125, 124594},
        {"svhn_stn", "none", "c0_large", 0.03125, 55508},
        {"plankton_stn", "none", "sl2", 0.1, 115062},
        {"plankton_stn", "none", "c7", 0.1, 71484},
    };
    static stn_graph g;
    stn_err err;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(build(&g, cases[i].plugin, cases[i].variant, cases[i].network, cases[i].width,
                           NULL, NULL, &err),
                     STN_OK, "%s", err.text);
        cr_expect_eq(count(&g, ""), cases[i].total, "%s %s", cases[i].variant, cases[i].network);
    }
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const param *)a)->name, ((const param *)b)->name);
}

/* Names and shapes of the reference's state dictionaries, sorted. */
Test(models, names_and_shapes) {
    static const struct {
        const char *plugin, *variant, *network, *st_bn, *want;
    } cases[] = {
        {"mnist_stn", "rotate", "c0_cnnloc", "false",
         "cls.conv1.bias:64 cls.conv1.weight:64x1x9x9 cls.conv2.bias:64 "
         "cls.conv2.weight:64x64x7x7 cls.out.bias:10 cls.out.weight:10x256 loc.conv1.bias:20 "
         "loc.conv1.weight:20x1x5x5 loc.conv2.bias:20 loc.conv2.weight:20x20x5x5 "
         "loc.fc1.bias:20 loc.fc1.weight:20x20 loc.theta.bias:6 loc.theta.weight:6x20"},
        {"mnist_stn", "rotate", "dl1", "false",
         "cls.conv1.bias:64 cls.conv1.weight:64x1x9x9 cls.conv2.bias:64 "
         "cls.conv2.weight:64x64x7x7 cls.out.bias:10 cls.out.weight:10x256 "
         "loc.copy.conv1.bias:64 loc.copy.conv1.weight:64x1x9x9 loc.fc1.bias:32 "
         "loc.fc1.weight:32x6400 loc.fc2.bias:32 loc.fc2.weight:32x32 loc.fc3.bias:32 "
         "loc.fc3.weight:32x32 loc.theta.bias:6 loc.theta.weight:6x32"},
        {"mnist_stn", "translate", "c1", "true",
         "cls.conv1.bias:64 cls.conv1.weight:64x1x9x9 cls.conv2.bias:64 "
         "cls.conv2.weight:64x64x7x7 cls.out.bias:10 cls.out.weight:10x576 "
         "loc.bn.running_mean:64 loc.bn.running_var:64 loc.conv1.bias:20 "
         "loc.conv1.weight:20x64x5x5 loc.conv2.bias:20 loc.conv2.weight:20x20x5x5 "
         "loc.fc1.bias:20 loc.fc1.weight:20x980 loc.theta.bias:6 loc.theta.weight:6x20"},
        {"svhn_stn", "none", "c0123", "true",
         "cls.conv1.bias:48 cls.conv1.weight:48x3x5x5 cls.conv2.bias:64 "
         "cls.conv2.weight:64x48x5x5 cls.conv3.bias:128 cls.conv3.weight:128x64x5x5 "
         "cls.conv4.bias:160 cls.conv4.weight:160x128x5x5 cls.conv5.bias:192 "
         "cls.conv5.weight:192x160x5x5 cls.conv6.bias:192 cls.conv6.weight:192x192x5x5 "
         "cls.conv7.bias:192 cls.conv7.weight:192x192x5x5 cls.conv8.bias:192 "
         "cls.conv8.weight:192x192x5x5 cls.fc1.bias:3072 cls.fc1.weight:3072x3072 "
         "cls.fc2.bias:3072 cls.fc2.weight:3072x3072 cls.fc3.bias:3072 "
         "cls.fc3.weight:3072x3072 cls.out.bias:55 cls.out.weight:55x3072 "
         "loc0.bn.running_mean:3 loc0.bn.running_var:3 loc0.fc1.bias:32 "
         "loc0.fc1.weight:32x12288 loc0.fc2.bias:32 loc0.fc2.weight:32x32 loc0.theta.bias:6 "
         "loc0.theta.weight:6x32 loc1.bn.running_mean:48 loc1.bn.running_var:48 "
         "loc1.fc1.bias:32 loc1.fc1.weight:32x49152 loc1.fc2.bias:32 loc1.fc2.weight:32x32 "
         "loc1.theta.bias:6 loc1.theta.weight:6x32 loc2.bn.running_mean:64 "
         "loc2.bn.running_var:64 loc2.fc1.bias:32 loc2.fc1.weight:32x65536 loc2.fc2.bias:32 "
         "loc2.fc2.weight:32x32 loc2.theta.bias:6 loc2.theta.weight:6x32 "
         "loc3.bn.running_mean:128 loc3.bn.running_var:128 loc3.fc1.bias:32 "
         "loc3.fc1.weight:32x32768 loc3.fc2.bias:32 loc3.fc2.weight:32x32 loc3.theta.bias:6 "
         "loc3.theta.weight:6x32"},
        {"plankton_stn", "none", "sl2", "false",
         "cls.conv1.bias:32 cls.conv1.weight:32x1x3x3 cls.conv10.bias:256 "
         "cls.conv10.weight:256x256x3x3 cls.conv2.bias:32 cls.conv2.weight:32x32x3x3 "
         "cls.conv3.bias:64 cls.conv3.weight:64x32x3x3 cls.conv4.bias:64 "
         "cls.conv4.weight:64x64x3x3 cls.conv5.bias:128 cls.conv5.weight:128x64x3x3 "
         "cls.conv6.bias:128 cls.conv6.weight:128x128x3x3 cls.conv7.bias:128 "
         "cls.conv7.weight:128x128x3x3 cls.conv8.bias:256 cls.conv8.weight:256x128x3x3 "
         "cls.conv9.bias:256 cls.conv9.weight:256x256x3x3 cls.fc1.bias:512 "
         "cls.fc1.weight:512x6400 cls.fc2.bias:512 cls.fc2.weight:512x512 cls.out.bias:121 "
         "cls.out.weight:121x512 loc.fc1.bias:64 loc.fc1.weight:64x70688 loc.fc2.bias:64 "
         "loc.fc2.weight:64x64 loc.theta.bias:6 loc.theta.weight:6x64"},
    };
    static stn_graph g;
    static char got[8192];
    stn_err err;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(build(&g, cases[i].plugin, cases[i].variant, cases[i].network, 1, "st_bn",
                           cases[i].st_bn, &err),
                     STN_OK, "%s", err.text);
        qsort(g.params, g.n_params, sizeof g.params[0], by_name);
        size_t at = 0;
        for (uint32_t k = 0; k < g.n_params; k++) {
            const param *p = &g.params[k];
            at += (size_t)snprintf(got + at, sizeof got - at, "%s%s:", k > 0 ? " " : "", p->name);
            for (uint32_t r = 0; r < p->rank; r++) {
                at += (size_t)snprintf(got + at, sizeof got - at, "%s%u", r > 0 ? "x" : "",
                                       p->dim[r]);
            }
        }
        cr_expect_str_eq(got, cases[i].want);
    }
}

Test(models, marks_warps_and_composition) {
    static const struct {
        const char *plugin, *variant, *network, *marks;
        uint32_t composes, image_warps, from, to, padding;
    } cases[] = {
        {"mnist_stn", "rotate", "cnn", "logits ", 0, 0, 0, 0, 0},
        {"mnist_stn", "rotate", "sl1", "theta1 warped1 logits ", 0, 1, 28, 28, STN_PAD_BORDER},
        {"mnist_stn", "none", "c1", "theta1 warped1 logits ", 0, 0, 10, 10, STN_PAD_BORDER},
        {"mnist_stn", "translate", "dl1", "theta1 warped1 logits ", 0, 1, 60, 30, STN_PAD_BORDER},
        {"mnist_stn", "translate", "c1", "theta1 warped1 logits ", 0, 0, 26, 13, STN_PAD_BORDER},
        {"svhn_stn", "none", "sl3x2", "theta1 warped1 theta2 warped2 logits ", 1, 2, 64, 64,
         STN_PAD_ZEROS},
        {"svhn_stn", "none", "sl0123",
         "theta1 warped1 theta2 warped2 theta3 warped3 theta4 warped4 logits ", 3, 4, 64, 64,
         STN_PAD_ZEROS},
        {"svhn_stn", "none", "c0123",
         "theta1 warped1 theta2 warped2 theta3 warped3 theta4 warped4 logits ", 0, 1, 16, 16,
         STN_PAD_ZEROS},
        {"plankton_stn", "none", "c10", "theta1 warped1 logits ", 0, 0, 5, 5, STN_PAD_BORDER},
        {"example_stn", "none", "stn", "theta1 warped1 logits ", 0, 1, 28, 28, STN_PAD_BORDER},
    };
    static stn_graph g;
    stn_err err;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(
            build(&g, cases[i].plugin, cases[i].variant, cases[i].network, 1, NULL, NULL, &err),
            STN_OK, "%s", err.text);
        cr_expect_str_eq(g.marked, cases[i].marks);
        cr_expect_eq(g.composes, cases[i].composes, "%s", cases[i].network);
        cr_expect_eq(g.image_warps, cases[i].image_warps, "%s", cases[i].network);
        cr_expect(g.last_warp[0] == cases[i].from && g.last_warp[1] == cases[i].to, "%s",
                  cases[i].network);
        cr_expect_eq(g.padding, cases[i].padding);
    }
}

/* One dropout per use of a block that has one: sl3 passes its shared blocks twice. */
Test(models, dropout) {
    static const struct {
        const char *plugin, *network, *dropout;
        uint32_t want;
    } cases[] = {
        {"svhn_stn", "cnn", "true", 10},   {"svhn_stn", "sl3", "true", 12},
        {"svhn_stn", "dl3", "true", 12},   {"svhn_stn", "sl3", "false", 0},
        {"plankton_stn", "c7", "true", 3}, {"mnist_stn", "sl1", "true", 0},
    };
    static stn_graph g;
    stn_err err;
    for (size_t i = 0; i < COUNT(cases); i++) {
        cr_assert_eq(build(&g, cases[i].plugin, "none", cases[i].network, 1, "dropout",
                           cases[i].dropout, &err),
                     STN_OK, "%s", err.text);
        cr_expect_eq(g.dropouts, cases[i].want, "%s", cases[i].network);
    }
}

Test(models, bad_requests_are_refused) {
    static const struct {
        const char *plugin, *variant, *network, *option, *setting;
        int32_t want;
    } cases[] = {
        {"mnist_stn", "rotate", "", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "c", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "c3", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "sl10", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "cnnx", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "sl1x", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "sl1x0", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "c1x9", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "c01x2", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "rotate", "c000000000000000", NULL, NULL, STN_E_USAGE},
        {"mnist_stn", "scale", "c0_cnnloc", NULL, NULL, STN_E_UNSUPPORTED},
        {"mnist_stn", "sideways", "c0", NULL, NULL, STN_E_USAGE},
        {"svhn_stn", "none", "sl31", NULL, NULL, STN_E_USAGE},
        {"svhn_stn", "none", "c3", "padding", "wrap", STN_E_USAGE},
        {"example_stn", "none", "sl1", NULL, NULL, STN_E_USAGE},
    };
    static stn_graph g;
    for (size_t i = 0; i < COUNT(cases); i++) {
        stn_err err = {0};
        cr_expect_eq(build(&g, cases[i].plugin, cases[i].variant, cases[i].network, 1,
                           cases[i].option, cases[i].setting, &err),
                     cases[i].want, "'%s' gave %d", cases[i].network, err.code);
        cr_expect(strlen(err.text) > 10 && strchr(err.text, '\n') == NULL);
    }
}
