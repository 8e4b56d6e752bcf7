/* The builder that models declare their networks with (model.h), and the build itself.
 *
 * A layer with a path names its value after it ("cls.conv1", the second application "cls.conv1#2");
 * what follows without a path is named after the layer it follows ("cls.conv1.maxpool"). All shapes
 * come from stn_op_infer.
 */
#include <math.h>
#include <string.h>

#include <stn/num.h>

#include "base/mem.h"
#include "graph/graph.h"

#define PATH_LIMIT 64u

static bool known(stn_graph *g, stn_val v, const char *what) {
    if (g->failed) {
        return false;
    }
    if (v < 0 || (uint32_t)v >= g->n_values) {
        (void)stn__graph_fail(g, STN_E_USAGE, "%s: operand is not a value of this graph", what);
        return false;
    }
    return true;
}

static bool path_ok(stn_graph *g, const char *path) {
    if (path == NULL || path[0] == '\0' || strlen(path) > PATH_LIMIT || strchr(path, '#') != NULL) {
        (void)stn__graph_fail(g, STN_E_USAGE,
                              "layer path \"%.70s\": want 1 to %u characters without #",
                              path == NULL ? "" : path, PATH_LIMIT);
        return false;
    }
    return true;
}

static stn_tensor f32(uint32_t rank, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    stn_tensor t = {STN_F32, STN_NCHW, rank, {a, b, c, d}};
    return t;
}

/* What the name of a forward operator's second output ends with. */
static const char *second_output(uint32_t op) {
    return op == STN_OP_MAXPOOL ? ".index" : op == STN_OP_BN ? ".stats" : ".pred";
}

/* Adds a node and its outputs; `name` is the first output's, others append a suffix. The base of
 * the outputs is the first output's final name for a layer, the base of in[0] otherwise. */
static stn_val emit(stn_graph *g, uint32_t op, const stn_op_params *params, const stn_val *in,
                    uint32_t n_in, const char *name, bool layer) {
    stn_tensor tin[STN_MAX_IN], tout[STN_MAX_OUT];
    for (uint32_t i = 0; i < n_in; i++) {
        if (!known(g, in[i], name)) {
            return STN_NO_VALUE;
        }
        tin[i] = g->value[in[i]].tensor;
    }
    stn_err err;
    memset(tout, 0, sizeof tout);
    int32_t status = stn_op_infer(op, params, tin, n_in, tout, &err);
    if (status != STN_OK) {
        return stn__graph_fail(g, status, "layer %s: %.180s", name, err.text);
    }
    bool batched = g->value[in[0]].batched;
    stn_val first = STN_NO_VALUE;
    uint32_t n_out = stn_op_find(op)->n_out;
    if (stn__graph_node(g, op, params, in, n_in, name) == NULL) {
        return STN_NO_VALUE;
    }
    for (uint32_t o = 0; o < n_out; o++) {
        char text[STN__NAME];
        bool statistics = op == STN_OP_BN && o == 1;
        (void)snprintf(text, sizeof text, "%.110s%s", o == 0 ? name : g->value[first].name,
                       o == 0 ? "" : second_output(op));
        stn_val v = stn__graph_output(g, &tout[o], batched && !statistics, text);
        if (v == STN_NO_VALUE) {
            return STN_NO_VALUE;
        }
        first = o == 0 ? v : first;
        char base[STN__PATH];
        (void)snprintf(base, sizeof base, "%.79s",
                       layer ? g->value[first].name : g->value[in[0]].base);
        memcpy(g->value[v].base, base, sizeof base);
    }
    memcpy(g->node[g->n_nodes - 1].name, g->value[first].name, STN__NAME);
    return first;
}

/* As emit, for an operator without a path: named after the layer that made in[0]. */
static stn_val emit_after(stn_graph *g, uint32_t op, const stn_op_params *params, const stn_val *in,
                          uint32_t n_in) {
    if (!known(g, in[0], stn__op_name(op))) {
        return STN_NO_VALUE;
    }
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "%s.%s", g->value[in[0]].base, stn__op_name(op));
    return emit(g, op, params, in, n_in, name, false);
}

/* A state item path.suffix of the given shape: found, or declared by the training graph. */
static uint32_t declare(stn_graph *g, uint32_t role, const char *path, const char *suffix,
                        stn_tensor shape, uint32_t init, uint32_t fan_in) {
    if (g->failed) {
        return UINT32_MAX;
    }
    char name[STN__NAME], text[64], other[64];
    (void)snprintf(name, sizeof name, "%s.%s", path, suffix);
    uint32_t at = stn__store_find(g->store, name);
    if (at != UINT32_MAX) {
        const stn__item *item = &g->store->item[at];
        if (item->role != role || memcmp(&item->tensor, &shape, sizeof shape) != 0) {
            (void)stn__graph_fail(g, STN_E_USAGE, "%s: shared as %s, but was declared as %s", name,
                                  stn__shape_text(&shape, text),
                                  stn__shape_text(&item->tensor, other));
        }
        return at;
    }
    if (g->eval) {
        (void)stn__graph_fail(g, STN_E_USAGE, "%s: declared for evaluation but not for training",
                              name);
        return UINT32_MAX;
    }
    uint64_t elems = stn_tensor_elems(&shape);
    if (elems == 0 || elems > UINT32_MAX) { /* elements are numbered by 32-bit words */
        (void)stn__graph_fail(g, STN_E_USAGE, "%s: impossible shape %s", name,
                              stn__shape_text(&shape, text));
        return UINT32_MAX;
    }
    stn__item *item = stn__store_add(g->store, name);
    if (item == NULL) {
        (void)stn__graph_fail(g, STN_E_NOMEM, "out of memory: %s", name);
        return UINT32_MAX;
    }
    item->role = role;
    item->tensor = shape;
    item->init = init;
    item->fan_in = fan_in;
    item->limit = STN_LIM_X;
    if (role == STN__ROLE_PARAM) {
        item->ordinal = g->store->n_params++;
        item->group = strncmp(name, "loc", 3) == 0 ? 1 : 0;
    }
    return g->store->n - 1;
}

static stn_val state(stn_graph *g, uint32_t role, const char *path, const char *suffix,
                     stn_tensor shape, uint32_t init, uint32_t fan_in) {
    uint32_t item = declare(g, role, path, suffix, shape, init, fan_in);
    return g->failed ? STN_NO_VALUE : stn__graph_state(g, item);
}

/* ---- inputs and constants ----------------------------------------------------------------- */

/* Takes a copy of `n` numbers in class X, repeated `rows` times. */
static stn_val add_constant(stn_graph *g, const char *name, const float *data, uint32_t rows,
                            uint32_t n, uint32_t rank) {
    stn_tensor t = rank == 1 ? f32(1, n, 1, 1, 1) : f32(2, rows, n, 1, 1);
    stn_val v = stn__graph_value(g, STN__CONST, &t, false, name);
    if (v == STN_NO_VALUE) {
        return STN_NO_VALUE;
    }
    float *copy = stn__calloc(rows, (uint64_t)n * sizeof *copy);
    if (copy == NULL || !stn__grow((void **)&g->constant, &g->cap_constants,
                                   (uint64_t)g->n_constants + 1, sizeof *g->constant)) {
        stn__free(copy);
        return stn__graph_fail(g, STN_E_NOMEM, "out of memory: constant %s", name);
    }
    for (uint64_t i = 0; i < (uint64_t)rows * n; i++) {
        copy[i] = stn_snap_x(data[i % n]);
    }
    g->value[v].index = g->n_constants;
    g->constant[g->n_constants++].data = copy;
    return v;
}

static stn_val build_input(stn_graph *g) {
    return g->failed ? STN_NO_VALUE : g->image;
}

static void build_shape(stn_graph *g, stn_val v, uint32_t dim[STN_MAX_RANK]) {
    for (uint32_t i = 0; i < STN_MAX_RANK; i++) {
        dim[i] = 1;
    }
    if (known(g, v, "shape")) {
        memcpy(dim, g->value[v].tensor.dim, sizeof g->value[v].tensor.dim);
    }
}

static stn_val build_constant(stn_graph *g, const char *path, const float *data, uint32_t n) {
    if (g->failed || !path_ok(g, path)) {
        return STN_NO_VALUE;
    }
    if (data == NULL || n == 0 || n > 65536) {
        return stn__graph_fail(g, STN_E_USAGE, "constant %s: %u numbers", path, n);
    }
    stn_val v = add_constant(g, path, data, 1, n, 2);
    if (v != STN_NO_VALUE) {
        (void)snprintf(g->value[v].base, sizeof g->value[v].base, "%.64s", path);
    }
    return v;
}

/* A one-row constant as a full batch of equal rows, for operators that do not broadcast. */
static stn_val all_rows(stn_graph *g, stn_val v) {
    if (!known(g, v, "theta") || g->value[v].kind != STN__CONST || g->value[v].batched ||
        g->value[v].tensor.rank != 2) {
        return v;
    }
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "%.100s.rows", g->value[v].name);
    stn_val rows = add_constant(g, name, g->constant[g->value[v].index].data, g->batch,
                                g->value[v].tensor.dim[1], 2);
    if (rows != STN_NO_VALUE) {
        g->value[rows].batched = true;
        memcpy(g->value[rows].base, g->value[v].base, sizeof g->value[v].base);
    }
    return rows;
}

/* ---- layers with parameters --------------------------------------------------------------- */

static stn_val build_conv(stn_graph *g, const char *path, stn_val x, const stn_conv_spec *spec) {
    if (!path_ok(g, path) || !known(g, x, path)) {
        return STN_NO_VALUE;
    }
    const stn_tensor *t = &g->value[x].tensor;
    uint64_t fan_in = (uint64_t)t->dim[1] * spec->kh * spec->kw;
    if (t->rank != 4 || fan_in == 0 || fan_in > UINT32_MAX || spec->out == 0) {
        char text[64];
        return stn__graph_fail(g, STN_E_USAGE, "layer %s: %ux%u convolution to %u channels of %s",
                               path, spec->kh, spec->kw, spec->out, stn__shape_text(t, text));
    }
    stn_op_params p = {.conv = {sizeof p.conv, spec->stride_h, spec->stride_w, spec->pad_h,
                                spec->pad_w, g->shards}};
    stn_val in[3] = {x, STN_NO_VALUE, STN_NO_VALUE};
    in[1] =
        state(g, STN__ROLE_PARAM, path, "weight", f32(4, spec->out, t->dim[1], spec->kh, spec->kw),
              STN_INIT_FAN_IN, (uint32_t)fan_in);
    if (spec->bias != 0) {
        in[2] = state(g, STN__ROLE_PARAM, path, "bias", f32(1, spec->out, 1, 1, 1), STN_INIT_FAN_IN,
                      (uint32_t)fan_in);
    }
    return emit(g, STN_OP_CONV, &p, in, spec->bias != 0 ? 3 : 2, path, true);
}

static stn_val build_linear(stn_graph *g, const char *path, stn_val x, uint32_t out, uint32_t bias,
                            uint32_t init) {
    if (!path_ok(g, path) || !known(g, x, path)) {
        return STN_NO_VALUE;
    }
    const stn_tensor *t = &g->value[x].tensor;
    uint64_t fan_in = stn_tensor_elems(t) / t->dim[0];
    if (t->rank < 2 || fan_in > UINT32_MAX || out == 0 || init > STN_INIT_ONE) {
        return stn__graph_fail(g, STN_E_USAGE, "layer %s: linear layer from %llu to %u numbers",
                               path, (unsigned long long)fan_in, out);
    }
    stn_op_params p = {.linear = {sizeof p.linear, g->shards}};
    stn_val in[3] = {x, STN_NO_VALUE, STN_NO_VALUE};
    in[1] = state(g, STN__ROLE_PARAM, path, "weight", f32(2, out, (uint32_t)fan_in, 1, 1), init,
                  (uint32_t)fan_in);
    if (bias != 0) {
        in[2] =
            state(g, STN__ROLE_PARAM, path, "bias", f32(1, out, 1, 1, 1), init, (uint32_t)fan_in);
    }
    return emit(g, STN_OP_LINEAR, &p, in, bias != 0 ? 3 : 2, path, true);
}

static stn_val build_batch_norm(stn_graph *g, const char *path, stn_val x, uint32_t affine,
                                float eps, float momentum) {
    if (!path_ok(g, path) || !known(g, x, path)) {
        return STN_NO_VALUE;
    }
    const stn_tensor *t = &g->value[x].tensor;
    uint32_t plane = t->dim[2] * t->dim[3];
    if (t->rank < 2 || !(eps >= 0x1p-30f && eps < 1.0f && momentum >= 0.0f && momentum <= 1.0f)) {
        return stn__graph_fail(g, STN_E_USAGE, "layer %s: batch norm with eps %g, momentum %g",
                               path, (double)eps, (double)momentum);
    }
    stn_op_params p = {.bn = {sizeof p.bn, g->shards, eps, momentum,
                              stn__slot(g->slots, STN__SLOT_BN_INV_N, plane),
                              stn__slot(g->slots, STN__SLOT_BN_INV_N1, plane)}};
    if (p.bn.slot_inv_n1 == UINT32_MAX) {
        return stn__graph_fail(g, STN_E_UNSUPPORTED, "layer %s: too many sizes of batch norm",
                               path);
    }
    stn_tensor c = f32(1, t->dim[1], 1, 1, 1);
    uint32_t rm = declare(g, STN__ROLE_STATISTIC, path, "running_mean", c, STN_INIT_ZERO, 0);
    uint32_t rv = declare(g, STN__ROLE_STATISTIC, path, "running_var", c, STN_INIT_ONE, 0);
    stn_val in[5] = {x};
    uint32_t n = 1;
    if (g->eval && !g->failed) {
        in[n++] = stn__graph_state(g, rm);
        in[n++] = stn__graph_state(g, rv);
    }
    if (affine != 0) {
        in[n++] = state(g, STN__ROLE_PARAM, path, "weight", c, STN_INIT_ONE, 0);
        in[n++] = state(g, STN__ROLE_PARAM, path, "bias", c, STN_INIT_ZERO, 0);
    }
    stn_val y = emit(g, g->eval ? STN_OP_BN_EVAL : STN_OP_BN, &p, in, n, path, true);
    if (y != STN_NO_VALUE) {
        g->node[g->n_nodes - 1].item[0] = rm;
        g->node[g->n_nodes - 1].item[1] = rv;
    }
    return y;
}

/* ---- layers without parameters ------------------------------------------------------------ */

static stn_val build_maxpool(stn_graph *g, stn_val x, uint32_t window, uint32_t stride) {
    stn_op_params p = {.pool = {sizeof p.pool, window, window, stride, stride, 1.0f}};
    return emit_after(g, STN_OP_MAXPOOL, &p, &x, 1);
}

static stn_val build_avgpool(stn_graph *g, stn_val x, uint32_t window, uint32_t stride) {
    double area = window == 0 ? 1.0 : (double)window * window;
    stn_op_params p = {
        .pool = {sizeof p.pool, window, window, stride, stride, (float)(1.0 / area)}};
    return emit_after(g, STN_OP_AVGPOOL, &p, &x, 1);
}

static stn_val build_act(stn_graph *g, stn_val x, float slope) {
    stn_op_params p = {.act = {sizeof p.act, slope}};
    return emit_after(g, STN_OP_ACT, &p, &x, 1);
}

static stn_val build_dropout(stn_graph *g, stn_val x, double p) {
    if (!known(g, x, "dropout")) {
        return STN_NO_VALUE;
    }
    if (!(p >= 0.0 && p < 1.0)) {
        return stn__graph_fail(g, STN_E_USAGE, "%s: dropout probability %g, want 0 <= p < 1",
                               g->value[x].name, p);
    }
    if (g->eval || p == 0.0) {
        return x;
    }
    stn_op_params q = {.dropout = {sizeof q.dropout, g->n_dropouts++, (uint32_t)floor(p * 0x1p32),
                                   (float)(1.0 / (1.0 - p))}};
    return emit_after(g, STN_OP_DROPOUT, &q, &x, 1);
}

static stn_val build_halve(stn_graph *g, stn_val x) {
    return build_avgpool(g, x, 2, 2);
}

static stn_val build_add(stn_graph *g, stn_val a, stn_val b) {
    stn_op_params p = {.scale = {sizeof p.scale, 0, 1.0f}};
    stn_val in[2] = {a, b};
    return emit_after(g, STN_OP_SUM, &p, in, 2);
}

static stn_val build_scale(stn_graph *g, stn_val x, float factor) {
    stn_op_params p = {.scale = {sizeof p.scale, 0, factor}};
    return emit_after(g, STN_OP_SCALE, &p, &x, 1);
}

static stn_val build_scale_grad(stn_graph *g, stn_val x, float factor) {
    if (!known(g, x, "scale_grad")) {
        return STN_NO_VALUE;
    }
    if (!isfinite(factor)) {
        return stn__graph_fail(g, STN_E_USAGE, "%s: gradient factor %g", g->value[x].name,
                               (double)factor);
    }
    if (g->eval) {
        return x;
    }
    stn_op_params p = {.scale = {sizeof p.scale, 1, factor}};
    stn_tensor t = g->value[x].tensor;
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "%s.scale_grad", g->value[x].base);
    if (stn__graph_node(g, STN__OP_GRAD_SCALE, &p, &x, 1, name) == NULL) {
        return STN_NO_VALUE;
    }
    stn_val y = stn__graph_output(g, &t, g->value[x].batched, name);
    if (y != STN_NO_VALUE) {
        memcpy(g->value[y].base, g->value[x].base, sizeof g->value[x].base);
    }
    return y;
}

static stn_val build_warp(stn_graph *g, stn_val x, stn_val theta, const stn_warp_params *spec) {
    if (!known(g, x, "warp") || !known(g, theta, "warp")) {
        return STN_NO_VALUE;
    }
    stn_op_params p;
    memset(&p, 0, sizeof p);
    uint32_t size = spec->struct_size;
    memcpy(&p, spec, size < sizeof p.warp ? size : sizeof p.warp);
    p.warp.struct_size = sizeof p.warp;
    p.warp.in_h = g->value[x].tensor.dim[2];
    p.warp.in_w = g->value[x].tensor.dim[3];
    stn_val in[2] = {x, all_rows(g, theta)};
    return emit_after(g, STN_OP_WARP, &p, in, 2);
}

static stn_val build_compose(stn_graph *g, stn_val a, stn_val b) {
    stn_op_params p = {.none = {sizeof p.none}};
    stn_val in[2] = {all_rows(g, a), all_rows(g, b)};
    return emit_after(g, STN_OP_COMPOSE, &p, in, 2);
}

/* ---- marks, loss, errors ------------------------------------------------------------------ */

static void build_mark(stn_graph *g, const char *name, stn_val v) {
    if (!path_ok(g, name) || !known(g, v, name)) {
        return;
    }
    for (uint32_t i = 0; i < g->n_marks; i++) {
        if (strcmp(g->mark[i].name, name) == 0) {
            if (g->mark[i].value != v) {
                (void)stn__graph_fail(g, STN_E_USAGE, "mark %s: names two values", name);
            }
            return;
        }
    }
    if (!stn__grow((void **)&g->mark, &g->cap_marks, (uint64_t)g->n_marks + 1, sizeof *g->mark)) {
        (void)stn__graph_fail(g, STN_E_NOMEM, "out of memory: mark %s", name);
        return;
    }
    if (!g->value[v].marked && g->value[v].kind == STN__ACTIVATION) {
        stn__graph_name(g, v, name);
    }
    g->value[v].marked = true;
    stn__mark *mark = &g->mark[g->n_marks++];
    (void)snprintf(mark->name, sizeof mark->name, "%s", name);
    mark->value = v;
}

static void build_loss(stn_graph *g, stn_val logits, uint32_t heads, uint32_t classes) {
    if (!known(g, logits, "loss")) {
        return;
    }
    if (g->stats != STN_NO_VALUE) {
        (void)stn__graph_fail(g, STN_E_USAGE, "loss: declared twice");
        return;
    }
    if (heads != g->heads || classes != g->classes) {
        (void)stn__graph_fail(g, STN_E_USAGE,
                              "loss: model has %u heads of %u classes, the dataset %u of %u", heads,
                              classes, g->heads, g->classes);
        return;
    }
    build_mark(g, "logits", logits);
    stn_op_params p = {
        .loss = {sizeof p.loss, heads, classes, stn__slot(g->slots, STN__SLOT_INV_COUNT, 0)}};
    stn_val in[2] = {logits, g->labels};
    stn_val stats = emit(g, STN_OP_XENT, &p, in, 2, "loss", true);
    if (stats != STN_NO_VALUE) {
        g->logits = logits;
        g->stats = stats;
        g->pred = g->node[g->n_nodes - 1].out[1];
    }
}

static void build_fail(stn_graph *g, const char *text) {
    (void)stn__graph_fail(g, STN_E_USAGE, "%s", text);
}

const stn_builder stn__builder = {
    .struct_size = sizeof(stn_builder),
    .input = build_input,
    .shape = build_shape,
    .constant = build_constant,
    .conv = build_conv,
    .linear = build_linear,
    .batch_norm = build_batch_norm,
    .maxpool = build_maxpool,
    .avgpool = build_avgpool,
    .act = build_act,
    .dropout = build_dropout,
    .halve = build_halve,
    .add = build_add,
    .scale = build_scale,
    .scale_grad = build_scale_grad,
    .warp = build_warp,
    .compose = build_compose,
    .mark = build_mark,
    .loss = build_loss,
    .fail = build_fail,
};

/* ---- build -------------------------------------------------------------------------------- */

/* Pixels, labels and the normalised image. */
static void begin(stn_graph *g, const stn_net_spec *net) {
    const stn_model_request *r = &net->request;
    stn_tensor pixels = {
        net->input_dtype, STN_NCHW, 4, {net->batch, r->channels, r->height, r->width}};
    stn_tensor labels = {STN_I32, STN_NCHW, 2, {net->batch, r->heads, 1, 1}};
    g->pixels = stn__graph_value(g, STN__PIXELS, &pixels, true, "pixels");
    g->labels = stn__graph_value(g, STN__LABELS, &labels, true, "labels");
    stn_val in[3] = {g->pixels, add_constant(g, "normalise.mul", net->mul, 1, r->channels, 1),
                     add_constant(g, "normalise.add", net->add, 1, r->channels, 1)};
    stn_op_params p = {.none = {sizeof p.none}};
    g->image = emit(g, STN_OP_UNPACK, &p, in, 3, "image", true);
}

int32_t stn__graph_build(stn_graph *g, const stn__graph_spec *spec, stn_err *err) {
    const stn_net_spec *net = spec->net;
    g->eval = spec->eval;
    g->split = spec->split;
    g->batch = net->batch;
    g->shards = net->shards;
    g->heads = net->request.heads;
    g->classes = net->request.classes;
    g->store = spec->store;
    g->slots = spec->slots;
    g->image = g->logits = g->stats = g->pred = STN_NO_VALUE;
    (void)stn__slot(g->slots, STN__SLOT_INV_COUNT, 0); /* slot 0 by definition */
    begin(g, net);
    if (!g->failed) {
        stn_err own = {0};
        int32_t status = spec->model->build(&stn__builder, g, &net->request, &own);
        if (status != STN_OK) {
            (void)stn__graph_fail(g, status, "%s", own.text);
        }
    }
    if (!g->failed && g->stats == STN_NO_VALUE) {
        (void)stn__graph_fail(g, STN_E_USAGE, "the model declares no loss");
    }
    if (g->failed) {
        const char *name = net->request.network != NULL ? net->request.network : "";
        return stn_fail(err, g->err.code, "network %s: %.200s", name, g->err.text);
    }
    return STN_OK;
}
