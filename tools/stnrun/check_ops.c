/* Golden operator files: each case is mapped to operators run through stn_op_exec. Shapes come from
 * the golden tensors; the file's name says which family its cases belong to. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

/* x w b -> output; gradients of all three. Serves op_conv2d. */
static int32_t conv_case(check *c, const char *name, stn_err *err) {
    uint32_t x[4], w[4], y[4], stride, pad;
    const float *px, *pw, *pb, *pg;
    STN_TRY(case_dims(c, name, "input", x, err));
    STN_TRY(case_dims(c, name, "weight", w, err));
    STN_TRY(case_dims(c, name, "output", y, err));
    STN_TRY(case_attr(c, name, 0, &stride, err));
    STN_TRY(case_attr(c, name, 1, &pad, err));
    STN_TRY(case_floats(c, name, "input", &px, err));
    STN_TRY(case_floats(c, name, "weight", &pw, err));
    STN_TRY(case_floats(c, name, "bias", &pb, err));
    STN_TRY(case_floats(c, name, "grad_output", &pg, err));
    stn_conv_params p = {sizeof p, stride, stride, pad, pad, SHARDS};
    stn_reduce_params sum = {sizeof sum, SHARDS};
    operand tx = check_input(check_shape(STN_F32, x[0], x[1], x[2], x[3]), px);
    operand tw = check_input(check_shape(STN_F32, w[0], w[1], w[2], w[3]), pw);
    operand tb = check_input(check_shape(STN_F32, w[0], 0, 0, 0), pb);
    operand tg = check_input(check_shape(STN_F32, y[0], y[1], y[2], y[3]), pg);
    operand r = {.tensor = tg.tensor};
    STN_TRY(check_run(c, STN_OP_CONV, &p, (operand[]){tx, tw, tb}, 3, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "output", &r, false, err));
    r.tensor = tx.tensor;
    STN_TRY(check_run(c, STN_OP_CONV_GRAD_X, &p, (operand[]){tg, tw}, 2, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "grad_input", &r, false, err));
    r.tensor = tw.tensor;
    STN_TRY(check_run(c, STN_OP_CONV_GRAD_W, &p, (operand[]){tg, tx}, 2, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "grad_weight", &r, false, err));
    r.tensor = tb.tensor;
    STN_TRY(check_run(c, STN_OP_BIAS_GRAD, &sum, &tg, 1, &r, 1, NULL, err));
    return case_compare(c, name, "grad_bias", &r, false, err);
}

static int32_t linear_case(check *c, const char *name, stn_err *err) {
    uint32_t x[4], w[4];
    const float *px, *pw, *pb, *pg;
    STN_TRY(case_dims(c, name, "input", x, err));
    STN_TRY(case_dims(c, name, "weight", w, err));
    STN_TRY(case_floats(c, name, "input", &px, err));
    STN_TRY(case_floats(c, name, "weight", &pw, err));
    STN_TRY(case_floats(c, name, "bias", &pb, err));
    STN_TRY(case_floats(c, name, "grad_output", &pg, err));
    stn_linear_params p = {sizeof p, SHARDS};
    stn_reduce_params sum = {sizeof sum, SHARDS};
    operand tx = check_input(check_shape(STN_F32, x[0], x[1], 1, 1), px);
    operand tw = check_input(check_shape(STN_F32, w[0], w[1], 0, 0), pw);
    operand tb = check_input(check_shape(STN_F32, w[0], 0, 0, 0), pb);
    operand tg = check_input(check_shape(STN_F32, x[0], w[0], 0, 0), pg);
    operand r = {.tensor = tg.tensor};
    STN_TRY(check_run(c, STN_OP_LINEAR, &p, (operand[]){tx, tw, tb}, 3, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "output", &r, false, err));
    r.tensor = tx.tensor;
    STN_TRY(check_run(c, STN_OP_LINEAR_GRAD_X, &p, (operand[]){tg, tw}, 2, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "grad_input", &r, false, err));
    r.tensor = tw.tensor;
    STN_TRY(check_run(c, STN_OP_LINEAR_GRAD_W, &p, (operand[]){tg, tx}, 2, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "grad_weight", &r, false, err));
    r.tensor = tb.tensor;
    tg.tensor = check_shape(STN_F32, x[0], w[0], 1, 1);
    STN_TRY(check_run(c, STN_OP_BIAS_GRAD, &sum, &tg, 1, &r, 1, NULL, err));
    return case_compare(c, name, "grad_bias", &r, false, err);
}

/* relu, leaky_relu: hyper = slope. */
static int32_t act_case(check *c, const char *name, stn_err *err) {
    uint32_t x[4];
    double slope;
    const float *px, *pg;
    STN_TRY(case_dims(c, name, "input", x, err));
    STN_TRY(case_hyper(c, name, 1, &slope, err));
    STN_TRY(case_floats(c, name, "input", &px, err));
    STN_TRY(case_floats(c, name, "grad_output", &pg, err));
    stn_act_params p = {sizeof p, (float)slope};
    operand tx = check_input(check_shape(STN_F32, x[0], x[1], x[2], x[3]), px);
    operand tg = check_input(tx.tensor, pg), r = {.tensor = tx.tensor}, gx = r;
    STN_TRY(check_run(c, STN_OP_ACT, &p, &tx, 1, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "output", &r, slope == 0, err));
    operand ty = check_input(tx.tensor, r.result);
    STN_TRY(check_run(c, STN_OP_ACT_GRAD, &p, (operand[]){tg, ty}, 2, &gx, 1, NULL, err));
    return case_compare(c, name, "grad_input", &gx, slope == 0, err);
}

static int32_t dense_case(check *c, const char *name, stn_err *err) {
    return strncmp(name, "linear", 6) == 0 ? linear_case(c, name, err) : act_case(c, name, err);
}

static int32_t pool_case(check *c, const char *name, stn_err *err) {
    uint32_t x[4], y[4], window, stride;
    const float *px, *pg;
    STN_TRY(case_dims(c, name, "input", x, err));
    STN_TRY(case_dims(c, name, "output", y, err));
    STN_TRY(case_attr(c, name, 0, &window, err));
    STN_TRY(case_attr(c, name, 1, &stride, err));
    STN_TRY(case_floats(c, name, "input", &px, err));
    STN_TRY(case_floats(c, name, "grad_output", &pg, err));
    bool max = strncmp(name, "max", 3) == 0;
    double area = (double)window * window;
    stn_pool_params p = {sizeof p, window, window, stride, stride, (float)(1 / area)};
    operand tx = check_input(check_shape(STN_F32, x[0], x[1], x[2], x[3]), px);
    operand tg = check_input(check_shape(STN_F32, y[0], y[1], y[2], y[3]), pg);
    operand r[2] = {{.tensor = tg.tensor}, {.tensor = check_shape(STN_U8, y[0], y[1], y[2], y[3])}};
    operand gx = {.tensor = tx.tensor};
    STN_TRY(
        check_run(c, max ? STN_OP_MAXPOOL : STN_OP_AVGPOOL, &p, &tx, 1, r, max ? 2 : 1, NULL, err));
    STN_TRY(case_compare(c, name, "output", &r[0], max, err));
    operand index = check_input(r[1].tensor, r[1].result);
    STN_TRY(check_run(c, max ? STN_OP_MAXPOOL_GRAD : STN_OP_AVGPOOL_GRAD, &p,
                      (operand[]){tg, index}, max ? 2 : 1, &gx, 1, NULL, err));
    return case_compare(c, name, "grad_input", &gx, false, err);
}

static int32_t batchnorm_case(check *c, const char *name, stn_err *err) {
    uint32_t x[4], affine;
    double h[2];
    const float *px, *pg, *pm, *pv, *pgamma = NULL, *pbeta = NULL;
    STN_TRY(case_dims(c, name, "input", x, err));
    STN_TRY(case_attr(c, name, 0, &affine, err));
    STN_TRY(case_hyper(c, name, 2, h, err));
    STN_TRY(case_floats(c, name, "input", &px, err));
    STN_TRY(case_floats(c, name, "grad_output", &pg, err));
    STN_TRY(case_floats(c, name, "running_mean", &pm, err));
    STN_TRY(case_floats(c, name, "running_var", &pv, err));
    if (affine != 0) {
        STN_TRY(case_floats(c, name, "weight", &pgamma, err));
        STN_TRY(case_floats(c, name, "bias", &pbeta, err));
    }
    double n = (double)x[0] * x[2] * x[3];
    const float scalars[N_SLOTS] = {(float)(1 / n), (float)(1 / (n - 1))};
    stn_bn_params p = {sizeof p, SHARDS, (float)h[0], (float)h[1], SLOT_A, SLOT_B};
    stn_tensor channel = check_shape(STN_F32, x[1], 0, 0, 0);
    operand tx = check_input(check_shape(STN_F32, x[0], x[1], x[2], x[3]), px),
            tg = check_input(tx.tensor, pg);
    operand gamma = check_input(channel, pgamma), beta = check_input(channel, pbeta);
    operand rm = check_input(channel, pm), rv = check_input(channel, pv);
    uint32_t extra = affine != 0 ? 2 : 0;
    operand r[2] = {{.tensor = tx.tensor}, {.tensor = check_shape(STN_F32, 3, x[1], 0, 0)}};
    STN_TRY(
        check_run(c, STN_OP_BN, &p, (operand[]){tx, gamma, beta}, 1 + extra, r, 2, scalars, err));
    STN_TRY(case_compare(c, name, "output", &r[0], false, err));
    operand stats = check_input(r[1].tensor, r[1].result);
    operand after[2] = {{.tensor = channel}, {.tensor = channel}};
    STN_TRY(
        check_run(c, STN_OP_BN_UPDATE, &p, (operand[]){stats, rm, rv}, 3, after, 2, scalars, err));
    STN_TRY(case_compare(c, name, "after_mean", &after[0], false, err));
    STN_TRY(case_compare(c, name, "after_var", &after[1], false, err));
    operand eval = {.tensor = tx.tensor};
    STN_TRY(check_run(c, STN_OP_BN_EVAL, &p, (operand[]){tx, rm, rv, gamma, beta}, 3 + extra, &eval,
                      1, scalars, err));
    STN_TRY(case_compare(c, name, "eval_output", &eval, false, err));
    operand g[3] = {{.tensor = tx.tensor}, {.tensor = channel}, {.tensor = channel}};
    STN_TRY(check_run(c, STN_OP_BN_GRAD, &p, (operand[]){tg, tx, stats, gamma}, 3 + extra / 2, g, 3,
                      scalars, err));
    STN_TRY(case_compare(c, name, "grad_input", &g[0], false, err));
    if (affine != 0) {
        STN_TRY(case_compare(c, name, "grad_weight", &g[1], false, err));
        STN_TRY(case_compare(c, name, "grad_bias", &g[2], false, err));
    }
    return STN_OK;
}

/* Sum over heads of the mean over images of log(sum) - (z_label - m). stats: [N, heads*2]. */
static double mean_loss(const float *stats, uint32_t n, uint32_t heads) {
    double total = 0;
    for (uint32_t i = 0; i < n * heads; i++) {
        total += log((double)stats[2 * i + 1]) - (double)stats[2 * i];
    }
    return total / n;
}

static int32_t loss_case(check *c, const char *name, stn_err *err) {
    uint32_t z[4];
    const float *pz;
    char label_name[160];
    stn_tensor_entry label, golden;
    STN_TRY(case_dims(c, name, "logits", z, err));
    STN_TRY(case_floats(c, name, "logits", &pz, err));
    STN_TRY(
        check_tensor(c, check_key(label_name, name, "label"), (uint64_t)z[0] * z[1], &label, err));
    int32_t *labels = check_alloc(c, label.elems * sizeof *labels, err);
    if (labels == NULL) {
        return STN_E_NOMEM;
    }
    for (uint64_t i = 0; i < label.elems; i++) {
        labels[i] = (int32_t)check_value(&label, i);
    }
    const float scalars[N_SLOTS] = {(float)(1.0 / z[0])};
    stn_loss_params p = {sizeof p, z[1], z[2], SLOT_A};
    operand tz = check_input(check_shape(STN_F32, z[0], z[1] * z[2], 0, 0), pz);
    operand tl = check_input(check_shape(STN_I32, z[0], z[1], 0, 0), labels);
    operand r[2] = {{.tensor = check_shape(STN_F32, z[0], z[1] * 2, 0, 0)}, {.tensor = tl.tensor}};
    operand g = {.tensor = tz.tensor};
    STN_TRY(check_run(c, STN_OP_XENT, &p, (operand[]){tz, tl}, 2, r, 2, scalars, err));
    STN_TRY(check_tensor(c, check_key(label_name, name, "loss"), 1, &golden, err));
    double want = check_value(&golden, 0), got = mean_loss(r[0].result, z[0], z[1]);
    double agreement = fabs(got - want) / fabs(want);
    check_report(c, label_name, agreement, false, agreement <= c->tolerance);
    STN_TRY(check_run(c, STN_OP_XENT_GRAD, &p, (operand[]){tz, tl}, 2, &g, 1, scalars, err));
    return case_compare(c, name, "grad_logits", &g, false, err);
}

/* One step of an optimizer golden: Adam's scalars from the step number, SGD's are constant.
 * hyper: lr momentum wd, or lr beta1 beta2 eps wd. */
static void optimizer_scalars(bool adam, const double *h, double powers[2],
                              float scalars[N_SLOTS]) {
    scalars[SLOT_A] = (float)h[0];
    if (adam) {
        powers[0] *= h[1];
        powers[1] *= h[2];
        double c1 = 1 - powers[0], root = sqrt(1 - powers[1]);
        scalars[SLOT_A] = (float)(h[0] * root / c1);
        scalars[SLOT_B] = (float)(h[3] * root);
    }
}

static int32_t optimizer_case(check *c, const char *name, stn_err *err) {
    bool adam = strcmp(name, "adam") == 0;
    uint32_t g[4];
    double h[5] = {0}, powers[2] = {1, 1};
    const float *pg, *start;
    STN_TRY(case_dims(c, name, "grad", g, err));
    STN_TRY(case_hyper(c, name, adam ? 5 : 3, h, err));
    STN_TRY(case_floats(c, name, "grad", &pg, err));
    STN_TRY(case_floats(c, name, "start", &start, err));
    uint32_t n = g[1], n_state = adam ? 3 : 2;
    stn_opt_params p = {.struct_size = sizeof p,
                        .slot_lr = SLOT_A,
                        .slot_eps = SLOT_B,
                        .slot_lw = SLOT_B,
                        .nesterov = strcmp(name, "nesterov") == 0,
                        .mu = adam ? 0 : (float)h[1],
                        .wd = (float)h[adam ? 4 : 2],
                        .omb1 = (float)(1 - h[1]),
                        .omb2 = (float)(1 - h[2])};
    float *after = check_alloc(c, (uint64_t)g[0] * n * sizeof *after, err);
    float *zero = check_alloc(c, n * sizeof *zero, err);
    if (after == NULL || zero == NULL) {
        return STN_E_NOMEM;
    }
    stn_tensor vector = check_shape(STN_F32, n, 0, 0, 0);
    operand state[3] = {check_input(vector, start), check_input(vector, zero),
                        check_input(vector, zero)};
    for (uint32_t t = 0; t < g[0]; t++) {
        float scalars[N_SLOTS] = {0};
        operand r[3] = {{.tensor = vector}, {.tensor = vector}, {.tensor = vector}};
        optimizer_scalars(adam, h, powers, scalars);
        operand in[4] = {check_input(vector, pg + (size_t)t * n), state[0], state[1], state[2]};
        STN_TRY(check_run(c, adam ? STN_OP_ADAM : STN_OP_SGD, &p, in, 1 + n_state, r, n_state,
                          scalars, err));
        memcpy(after + (size_t)t * n, r[0].result, n * sizeof *after);
        for (uint32_t i = 0; i < n_state; i++) {
            state[i].data = state[i].result = r[i].result;
        }
    }
    operand all = {.tensor = check_shape(STN_F32, g[0], n, 0, 0), .result = after};
    STN_TRY(case_compare(c, name, "after", &all, false, err));
    if (adam) {
        STN_TRY(case_compare(c, name, "m", &state[1], false, err));
        return case_compare(c, name, "v", &state[2], false, err);
    }
    char velocity[160];
    return check_has(c, check_key(velocity, name, "velocity"))
               ? case_compare(c, name, "velocity", &state[1], false, err)
               : STN_OK;
}

static int32_t compose_case(check *c, const char *name, stn_err *err) {
    uint32_t d[4];
    const float *pa, *pb, *pg;
    STN_TRY(case_dims(c, name, "a", d, err));
    STN_TRY(case_floats(c, name, "a", &pa, err));
    STN_TRY(case_floats(c, name, "b", &pb, err));
    STN_TRY(case_floats(c, name, "grad_output", &pg, err));
    stn_none_params p = {sizeof p};
    stn_tensor theta = check_shape(STN_F32, d[0], 6, 0, 0);
    operand a = check_input(theta, pa), b = check_input(theta, pb), g = check_input(theta, pg);
    operand r = {.tensor = theta}, gr[2] = {{.tensor = theta}, {.tensor = theta}};
    STN_TRY(check_run(c, STN_OP_COMPOSE, &p, (operand[]){a, b}, 2, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "output", &r, false, err));
    STN_TRY(check_run(c, STN_OP_COMPOSE_GRAD, &p, (operand[]){g, a, b}, 3, gr, 2, NULL, err));
    STN_TRY(case_compare(c, name, "grad_a", &gr[0], false, err));
    return case_compare(c, name, "grad_b", &gr[1], false, err);
}

/* Names before the last dot, each once: the entries are sorted or not, so a case counts where its
 * first tensor stands. */
static bool first_of_case(const check *c, uint32_t index, char name[160]) {
    stn_tensor_entry entry, other;
    if (stn_tensors_get(c->file, index, &entry) != STN_OK) {
        return false;
    }
    const char *dot = strrchr(entry.name, '.');
    size_t length = dot == NULL ? 0 : (size_t)(dot - entry.name);
    if (length == 0 || length >= 160) {
        return false;
    }
    memcpy(name, entry.name, length);
    name[length] = 0;
    for (uint32_t i = 0; i < index; i++) {
        if (stn_tensors_get(c->file, i, &other) == STN_OK && strrchr(other.name, '.') != NULL &&
            (size_t)(strrchr(other.name, '.') - other.name) == length &&
            memcmp(other.name, name, length) == 0) {
            return false;
        }
    }
    return true;
}

int32_t check_ops(check *c, const char *base, stn_err *err) {
    static const struct {
        const char *prefix;
        int32_t (*run)(check *c, const char *name, stn_err *err);
    } families[] = {{"op_conv2d", conv_case},     {"op_dense", dense_case},
                    {"op_pool", pool_case},       {"op_batchnorm", batchnorm_case},
                    {"op_loss", loss_case},       {"op_optimizer", optimizer_case},
                    {"op_compose", compose_case}, {"op_sampler", check_sampler_case}};
    for (size_t f = 0; f < sizeof families / sizeof families[0]; f++) {
        if (strncmp(base, families[f].prefix, strlen(families[f].prefix)) != 0) {
            continue;
        }
        char name[160];
        for (uint32_t i = 0; i < stn_tensors_count(c->file); i++) {
            if (first_of_case(c, i, name)) {
                STN_TRY(families[f].run(c, name, err));
                check_release(c);
            }
        }
        return STN_OK;
    }
    return stn_fail(err, STN_E_USAGE,
                    "%s: no such family of operators; known: op_conv2d, op_dense, op_pool, "
                    "op_batchnorm, op_loss, op_optimizer, op_compose, op_sampler",
                    c->path);
}
