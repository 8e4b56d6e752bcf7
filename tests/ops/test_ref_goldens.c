/* The scalar reference against float64 results of another framework (op_*.safetensors).
 *
 * Agreement of a tensor is max|ours - golden| / max|golden|; the tolerance is ten times the spread
 * recorded in the file, at least 2e-6. Selecting operators must be exact after rounding to float.
 * The directory comes from STN_GOLDENS, else ../shared/reference/goldens beside the source tree.
 */
#include <criterion/criterion.h>

#include <stdlib.h>
#include <string.h>

#include "goldens.h"

#define SHARDS 16u

static void add_in(optest_case *c, stn_tensor t) {
    case_in(c, t, OPTEST_X, true);
    /* Operands with fewer rows than the batch, such as weights, are whole. */
    c->batched_in = 0;
}

static void add_out(optest_case *c, stn_tensor t) {
    case_out(c, t, false);
}

/* ---- families ------------------------------------------------------------------------------- */

static void bias_gradient(const char *c, stn_tensor gy, const float *g) {
    optest_case b = case_new(STN_OP_BIAS_GRAD, sizeof(stn_reduce_params), gy.dim[0]);
    float *out[1];
    b.params.reduce.shards = SHARDS;
    add_in(&b, gy);
    add_out(&b, case_vector(gy.dim[1]));
    golden_run(&b, (const void *[]){g}, out);
    golden_compare(c, "grad_bias", out[0], gy.dim[1], false);
}

/* CONV or LINEAR, set up in f, with all gradients. */
static void check_product(const char *c, optest_case f, uint32_t grad_x, uint32_t grad_w) {
    stn_tensor x = golden_shape(c, "input"), w = golden_shape(c, "weight"),
               y = golden_shape(c, "output");
    float *xv = golden_values(c, "input"), *wv = golden_values(c, "weight"),
          *bv = golden_values(c, "bias");
    float *g = golden_values(c, "grad_output"), *out[1];
    optest_case gx = f, gw = f;
    gx.op = grad_x;
    gw.op = grad_w;
    add_in(&f, x);
    add_in(&f, w);
    add_in(&f, case_vector(w.dim[0]));
    add_out(&f, y);
    golden_run(&f, (const void *[]){xv, wv, bv}, out);
    golden_compare(c, "output", out[0], optest_elems(&y), false);
    add_in(&gx, y);
    add_in(&gx, w);
    add_out(&gx, x);
    golden_run(&gx, (const void *[]){g, wv}, out);
    golden_compare(c, "grad_input", out[0], optest_elems(&x), false);
    add_in(&gw, y);
    add_in(&gw, x);
    add_out(&gw, w);
    golden_run(&gw, (const void *[]){g, xv}, out);
    golden_compare(c, "grad_weight", out[0], optest_elems(&w), false);
    bias_gradient(c, y, g);
}

static void check_conv(const char *c) {
    uint32_t stride = (uint32_t)golden_number(c, "attr", 0),
             pad = (uint32_t)golden_number(c, "attr", 1);
    optest_case f = case_new(STN_OP_CONV, sizeof(stn_conv_params), golden_shape(c, "input").dim[0]);
    f.params.conv = (stn_conv_params){sizeof(stn_conv_params), stride, stride, pad, pad, SHARDS};
    check_product(c, f, STN_OP_CONV_GRAD_X, STN_OP_CONV_GRAD_W);
}

static void check_linear(const char *c) {
    optest_case f =
        case_new(STN_OP_LINEAR, sizeof(stn_linear_params), golden_shape(c, "input").dim[0]);
    f.params.linear.shards = SHARDS;
    check_product(c, f, STN_OP_LINEAR_GRAD_X, STN_OP_LINEAR_GRAD_W);
}

static void check_dense(const char *c) {
    if (strncmp(c, "linear", 6) == 0) {
        check_linear(c);
        return;
    }
    stn_tensor x = golden_shape(c, "input");
    float *xv = golden_values(c, "input"), *g = golden_values(c, "grad_output"), *out[1];
    optest_case f = case_new(STN_OP_ACT, sizeof(stn_act_params), x.dim[0]);
    f.params.act.slope = (float)golden_number(c, "hyper", 0);
    optest_case b = f;
    b.op = STN_OP_ACT_GRAD;
    add_in(&f, x);
    add_out(&f, x);
    golden_run(&f, (const void *[]){xv}, out);
    golden_compare(c, "output", out[0], optest_elems(&x), true);
    add_in(&b, x);
    add_in(&b, x);
    add_out(&b, x);
    golden_run(&b, (const void *[]){g, out[0]}, out);
    golden_compare(c, "grad_input", out[0], optest_elems(&x), f.params.act.slope == 0.0f);
}

static void check_pool(const char *c) {
    bool max = strncmp(c, "max", 3) == 0;
    stn_tensor x = golden_shape(c, "input"), y = golden_shape(c, "output"), index = y;
    uint32_t window = (uint32_t)golden_number(c, "attr", 0),
             stride = (uint32_t)golden_number(c, "attr", 1);
    float *xv = golden_values(c, "input"), *g = golden_values(c, "grad_output"), *out[2];
    optest_case f =
        case_new(max ? STN_OP_MAXPOOL : STN_OP_AVGPOOL, sizeof(stn_pool_params), x.dim[0]);
    f.params.pool = (stn_pool_params){
        sizeof(stn_pool_params), window, window, stride, stride, (float)(1.0 / (window * window))};
    f.limit = window * window;
    optest_case b = f;
    b.op = max ? STN_OP_MAXPOOL_GRAD : STN_OP_AVGPOOL_GRAD;
    index.dtype = STN_U8;
    add_in(&f, x);
    add_out(&f, y);
    add_in(&b, y);
    add_out(&b, x);
    if (max) {
        add_out(&f, index);
        add_in(&b, index);
        b.role[1] = OPTEST_INDEX;
    }
    golden_run(&f, (const void *[]){xv}, out);
    golden_compare(c, "output", out[0], optest_elems(&y), max);
    golden_run(&b, (const void *[]){g, max ? out[1] : NULL}, out);
    /* Overlapping windows add, so only disjoint ones select. */
    golden_compare(c, "grad_input", out[0], optest_elems(&x), max && window <= stride);
}

/* ---- batch norm ----------------------------------------------------------------------------- */

static optest_case bn_case(const char *c, uint32_t op, const stn_tensor *x) {
    double n = (double)x->dim[0] * x->dim[2] * x->dim[3];
    optest_case b = case_new(op, sizeof(stn_bn_params), x->dim[0]);
    b.params.bn = (stn_bn_params){sizeof(stn_bn_params),
                                  SHARDS,
                                  (float)golden_number(c, "hyper", 0),
                                  (float)golden_number(c, "hyper", 1),
                                  OPTEST_INV_N,
                                  OPTEST_INV_N1};
    b.scalar[OPTEST_INV_N] = (float)(1.0 / n);
    b.scalar[OPTEST_INV_N1] = (float)(1.0 / (n - 1.0));
    return b;
}

static void check_bn(const char *c) {
    bool affine = golden_number(c, "attr", 0) != 0.0;
    stn_tensor x = golden_shape(c, "input"), v = case_vector(x.dim[1]),
               stats = case_matrix(3, x.dim[1]);
    float *xv = golden_values(c, "input"), *g = golden_values(c, "grad_output");
    float *rm = golden_values(c, "running_mean"), *rv = golden_values(c, "running_var");
    float *gamma = affine ? golden_values(c, "weight") : NULL,
          *beta = affine ? golden_values(c, "bias") : NULL;
    float *out[3], *stat;
    optest_case f = bn_case(c, STN_OP_BN, &x), u = bn_case(c, STN_OP_BN_UPDATE, &x);
    optest_case e = bn_case(c, STN_OP_BN_EVAL, &x), b = bn_case(c, STN_OP_BN_GRAD, &x);
    add_in(&f, x);
    add_in(&e, x);
    add_in(&e, v);
    add_in(&e, v);
    add_in(&b, x);
    add_in(&b, x);
    add_in(&b, stats);
    if (affine) {
        add_in(&f, v);
        add_in(&f, v);
        add_in(&e, v);
        add_in(&e, v);
        add_in(&b, v);
    }
    add_out(&f, x);
    add_out(&f, stats);
    golden_run(&f, (const void *[]){xv, gamma, beta}, out);
    golden_compare(c, "output", out[0], optest_elems(&x), false);
    stat = out[1];
    add_out(&e, x);
    golden_run(&e, (const void *[]){xv, rm, rv, gamma, beta}, out);
    golden_compare(c, "eval_output", out[0], optest_elems(&x), false);
    add_in(&u, stats);
    add_in(&u, v);
    add_in(&u, v);
    add_out(&u, v);
    add_out(&u, v);
    golden_run(&u, (const void *[]){stat, rm, rv}, out);
    golden_compare(c, "after_mean", out[0], x.dim[1], false);
    golden_compare(c, "after_var", out[1], x.dim[1], false);
    add_out(&b, x);
    add_out(&b, v);
    add_out(&b, v);
    golden_run(&b, (const void *[]){g, xv, stat, gamma}, out);
    golden_compare(c, "grad_input", out[0], optest_elems(&x), false);
    if (affine) {
        golden_compare(c, "grad_weight", out[1], x.dim[1], false);
        golden_compare(c, "grad_bias", out[2], x.dim[1], false);
    }
}

/* ---- sampler -------------------------------------------------------------------------------- */

static optest_case warp_case(uint32_t op, const stn_warp_params *p, uint32_t rows) {
    optest_case c = case_new(op, sizeof *p, rows);
    c.params.warp = *p;
    return c;
}

static void check_grid(const char *c, const char *group, stn_warp_params p) {
    stn_tensor grid = golden_shape(c, "output"), theta = case_matrix(grid.dim[0], 6);
    float *out[1];
    p.out_h = grid.dim[1];
    p.out_w = grid.dim[2];
    optest_case f = warp_case(STN_OP_GRID, &p, grid.dim[0]);
    optest_case b = warp_case(STN_OP_GRID_GRAD, &p, grid.dim[0]);
    add_in(&f, theta);
    add_out(&f, grid);
    golden_run(&f, (const void *[]){golden_values(group, "theta")}, out);
    golden_compare(c, "output", out[0], optest_elems(&grid), false);
    add_in(&b, grid);
    add_out(&b, theta);
    golden_run(&b, (const void *[]){golden_values(c, "grad_output")}, out);
    golden_compare(c, "grad_theta", out[0], optest_elems(&theta), false);
}

/* By way of a grid: forward and the gradients to the input and the grid. */
static void check_sample(const char *c, const stn_warp_params *p, const stn_tensor *x,
                         const stn_tensor *y, const float *xv, const float *theta, const float *g) {
    stn_tensor grid = case_tensor(x->dim[0], p->out_h, p->out_w, 2);
    bool exact = p->filter == STN_FILTER_NEAREST;
    stn_tensor_entry e;
    float *out[1], *at;
    optest_case m = warp_case(STN_OP_GRID, p, x->dim[0]), f = m, gx = m, gg = m;
    f.op = STN_OP_SAMPLE;
    gx.op = STN_OP_SAMPLE_GRAD_X;
    gg.op = STN_OP_SAMPLE_GRAD_GRID;
    add_in(&m, case_matrix(x->dim[0], 6));
    add_out(&m, grid);
    golden_run(&m, (const void *[]){theta}, out);
    at = out[0];
    add_in(&f, *x);
    add_in(&f, grid);
    add_out(&f, *y);
    golden_run(&f, (const void *[]){xv, at}, out);
    golden_compare(c, "output", out[0], optest_elems(y), exact);
    add_in(&gx, *y);
    add_in(&gx, grid);
    add_out(&gx, *x);
    golden_run(&gx, (const void *[]){g, at}, out);
    golden_compare(c, "grad_input", out[0], optest_elems(x), false);
    add_in(&gg, *y);
    add_in(&gg, *x);
    add_in(&gg, grid);
    add_out(&gg, grid);
    golden_run(&gg, (const void *[]){g, xv, at}, out);
    if (golden_find(c, "grad_grid", &e)) {
        golden_compare(c, "grad_grid", out[0], optest_elems(&grid), false);
    }
}

/* Grid and sampler in one. */
static void check_warp(const char *c, const stn_warp_params *p, const stn_tensor *x,
                       const stn_tensor *y, const float *xv, const float *theta, const float *g) {
    stn_tensor t = case_matrix(x->dim[0], 6);
    float *out[1];
    optest_case f = warp_case(STN_OP_WARP, p, x->dim[0]), gx = f, gt = f;
    gx.op = STN_OP_WARP_GRAD_X;
    gt.op = STN_OP_WARP_GRAD_THETA;
    add_in(&f, *x);
    add_in(&f, t);
    add_out(&f, *y);
    golden_run(&f, (const void *[]){xv, theta}, out);
    golden_compare(c, "output", out[0], optest_elems(y), p->filter == STN_FILTER_NEAREST);
    add_in(&gx, *y);
    add_in(&gx, t);
    add_out(&gx, *x);
    golden_run(&gx, (const void *[]){g, theta}, out);
    golden_compare(c, "grad_input", out[0], optest_elems(x), false);
    add_in(&gt, *y);
    add_in(&gt, *x);
    add_in(&gt, t);
    add_out(&gt, t);
    golden_run(&gt, (const void *[]){g, xv, theta}, out);
    golden_compare(c, "grad_theta", out[0], optest_elems(&t), false);
}

static void check_sampler(const char *c) {
    char group[128];
    (void)snprintf(group, sizeof group, "%s", c);
    char *dot = strchr(group, '.');
    if (dot == NULL) {
        return; /* the shared inputs of a group */
    }
    *dot = '\0';
    stn_tensor x = golden_shape(group, "input");
    stn_warp_params p = {.struct_size = sizeof p, .in_h = x.dim[2], .in_w = x.dim[3]};
    if (strncmp(c + strlen(group) + 1, "grid", 4) == 0) {
        p.corners = golden_number(c, "attr", 0) != 0.0 ? STN_CORNERS_ALIGNED : STN_CORNERS_HALF;
        check_grid(c, group, p);
        return;
    }
    stn_tensor y = golden_shape(c, "output");
    stn_tensor_entry e;
    p.filter = golden_number(c, "attr", 0) != 0.0 ? STN_FILTER_NEAREST : STN_FILTER_BILINEAR;
    p.padding = STN_PAD_ZEROS + (uint32_t)golden_number(c, "attr", 1);
    p.corners = golden_number(c, "attr", 2) != 0.0 ? STN_CORNERS_ALIGNED : STN_CORNERS_HALF;
    p.out_h = y.dim[2];
    p.out_w = y.dim[3];
    float *g = golden_values(golden_find(c, "grad_output", &e) ? c : group, "grad_output");
    float *xv = golden_values(group, "input"), *theta = golden_values(group, "theta");
    check_sample(c, &p, &x, &y, xv, theta, g);
    check_warp(c, &p, &x, &y, xv, theta, g);
}

/* ---- composition, loss, optimizers ---------------------------------------------------------- */

static void check_compose(const char *c) {
    stn_tensor theta = case_matrix(golden_shape(c, "a").dim[0], 6);
    float *a = golden_values(c, "a"), *b = golden_values(c, "b"), *out[2];
    optest_case f = case_new(STN_OP_COMPOSE, sizeof(stn_none_params), theta.dim[0]), g = f;
    g.op = STN_OP_COMPOSE_GRAD;
    add_in(&f, theta);
    add_in(&f, theta);
    add_out(&f, theta);
    golden_run(&f, (const void *[]){a, b}, out);
    golden_compare(c, "output", out[0], optest_elems(&theta), false);
    add_in(&g, theta);
    add_in(&g, theta);
    add_in(&g, theta);
    add_out(&g, theta);
    add_out(&g, theta);
    golden_run(&g, (const void *[]){golden_values(c, "grad_output"), a, b}, out);
    golden_compare(c, "grad_a", out[0], optest_elems(&theta), false);
    golden_compare(c, "grad_b", out[1], optest_elems(&theta), false);
}

static void check_loss(const char *c) {
    stn_tensor z = golden_shape(c, "logits"), label = golden_shape(c, "label");
    uint32_t rows = z.dim[0], heads = z.dim[1], classes = z.dim[2];
    float *zv = golden_values(c, "logits"), *lv = golden_values(c, "label"), *out[2];
    int32_t *labels = golden_keep(malloc(rows * heads * sizeof *labels));
    for (uint32_t i = 0; i < rows * heads; i++) {
        labels[i] = (int32_t)lv[i];
    }
    optest_case f = case_new(STN_OP_XENT, sizeof(stn_loss_params), rows);
    f.params.loss = (stn_loss_params){sizeof(stn_loss_params), heads, classes, OPTEST_INV_N};
    f.scalar[OPTEST_INV_N] = (float)(1.0 / rows);
    f.limit = classes;
    label = case_matrix(rows, heads);
    label.dtype = STN_I32;
    z = case_matrix(rows, heads * classes);
    optest_case g = f;
    g.op = STN_OP_XENT_GRAD;
    add_in(&f, z);
    add_in(&f, label);
    add_out(&f, case_matrix(rows, 2 * heads));
    add_out(&f, label);
    golden_run(&f, (const void *[]){zv, labels}, out);
    double loss = 0.0;
    for (uint32_t i = 0; i < rows * heads; i++) {
        loss += log((double)out[0][2 * i + 1]) - (double)out[0][2 * i];
    }
    float mean = (float)(loss / rows);
    golden_compare(c, "loss", &mean, 1, false);
    add_in(&g, z);
    add_in(&g, label);
    add_out(&g, z);
    golden_run(&g, (const void *[]){zv, labels}, out);
    golden_compare(c, "grad_logits", out[0], optest_elems(&z), false);
}

/* Scalars of Adam's step t = 1, 2, ...: powers by repeated multiplication. */
static void adam_scalars(const char *c, uint32_t t, optest_case *o) {
    double b1 = golden_number(c, "hyper", 1), b2 = golden_number(c, "hyper", 2), p1 = 1.0, p2 = 1.0;
    for (uint32_t i = 0; i < t; i++) {
        p1 *= b1;
        p2 *= b2;
    }
    o->params.opt.omb1 = (float)(1.0 - b1);
    o->params.opt.omb2 = (float)(1.0 - b2);
    o->params.opt.wd = (float)golden_number(c, "hyper", 4);
    o->scalar[OPTEST_LR] = (float)(golden_number(c, "hyper", 0) * sqrt(1.0 - p2) / (1.0 - p1));
    o->scalar[OPTEST_EPS] = (float)(golden_number(c, "hyper", 3) * sqrt(1.0 - p2));
}

static void check_optimizer(const char *c) {
    bool adam = strcmp(c, "adam") == 0;
    stn_tensor w = case_vector(golden_shape(c, "start").dim[0]);
    uint32_t n = w.dim[0], states = adam ? 2 : 1;
    optest_case o = case_new(adam ? STN_OP_ADAM : STN_OP_SGD, sizeof(stn_opt_params), 1);
    o.params.opt.slot_lr = OPTEST_LR;
    o.params.opt.slot_eps = OPTEST_EPS;
    o.params.opt.slot_lw = OPTEST_LW;
    for (uint32_t i = 0; i < 2 + states; i++) {
        add_in(&o, w);
    }
    for (uint32_t i = 0; i < 1 + states; i++) {
        add_out(&o, w);
        o.alias[i] = (int32_t)i + 1;
    }
    float *g = golden_values(c, "grad"), *after = golden_keep(malloc(5 * n * sizeof *after)),
          *now[3];
    now[0] = golden_values(c, "start");
    now[1] = golden_keep(calloc(n, sizeof *after));
    now[2] = golden_keep(calloc(n, sizeof *after));
    for (uint32_t t = 0; t < 5; t++) {
        if (adam) {
            adam_scalars(c, t + 1, &o);
        } else {
            o.scalar[OPTEST_LR] = (float)golden_number(c, "hyper", 0);
            o.params.opt.mu = (float)golden_number(c, "hyper", 1);
            o.params.opt.wd = (float)golden_number(c, "hyper", 2);
            o.params.opt.nesterov = strcmp(c, "nesterov") == 0;
        }
        golden_run(&o, (const void *[]){g + t * n, now[0], now[1], now[2]}, now);
        memcpy(after + t * n, now[0], n * sizeof *after);
    }
    golden_compare(c, "after", after, 5 * n, false);
    if (adam) {
        golden_compare(c, "m", now[1], n, false);
        golden_compare(c, "v", now[2], n, false);
    } else if (strcmp(c, "sgd") != 0) {
        golden_compare(c, "velocity", now[1], n, false);
    }
}

static void check_file(const char *name, void (*fn)(const char *c), uint32_t at_least) {
    if (golden_open(name)) {
        golden_cases(fn);
        golden_close(at_least);
    }
}

Test(goldens, conv) {
    check_file("op_conv2d", check_conv, 13 * 4);
}

Test(goldens, dense) {
    check_file("op_dense", check_dense, 5 * 4 + 4);
}

Test(goldens, pool) {
    check_file("op_pool", check_pool, 15 * 2);
}

Test(goldens, batch_norm) {
    check_file("op_batchnorm", check_bn, 6 * 5 + 3 * 2);
}

Test(goldens, sampler) {
    check_file("op_sampler", check_sampler, 300);
}

Test(goldens, compose) {
    check_file("op_compose", check_compose, 3);
}

Test(goldens, loss) {
    check_file("op_loss", check_loss, 6);
}

Test(goldens, optimizers) {
    check_file("op_optimizer", check_optimizer, 4 + 4);
}
