/* The first value that differs between two sides: both run one step with every value kept, first
 * with every operator on its own (fusion off), then, if that shows nothing, as they run in
 * training. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"

/* Order-preserving integer of a float's bits, so that neighbours differ by one; +0 and -0 too. */
static int64_t ordered(float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits < 0 ? -(int64_t)(bits & INT32_MAX) - 1 : bits;
}

static uint64_t ulp_distance(float a, float b) {
    if (!isfinite(a) || !isfinite(b)) {
        return UINT64_MAX;
    }
    int64_t d = ordered(a) - ordered(b);
    return (uint64_t)(d < 0 ? -d : d);
}

static void locate(const stn_tensor *t, uint64_t e, uint32_t at[4]) {
    for (uint32_t i = STN_MAX_RANK; i-- > 0;) {
        at[i] = (uint32_t)(e % t->dim[i]);
        e /= t->dim[i];
    }
}

static void fill(difference *d, const stn_value_info *info, uint64_t e, const void *x,
                 const void *y) {
    d->found = true;
    d->node = info->node;
    (void)snprintf(d->op, sizeof d->op, "%s", info->op);
    (void)snprintf(d->tensor, sizeof d->tensor, "%s", info->name);
    locate(&info->tensor, e, d->at);
    d->integer = info->tensor.dtype != STN_F32;
    if (info->tensor.dtype == STN_U8) {
        d->value[0] = ((const uint8_t *)x)[e];
        d->value[1] = ((const uint8_t *)y)[e];
    } else if (info->tensor.dtype == STN_I32) {
        d->value[0] = ((const int32_t *)x)[e];
        d->value[1] = ((const int32_t *)y)[e];
    } else {
        float p = ((const float *)x)[e], q = ((const float *)y)[e];
        d->value[0] = (double)p;
        d->value[1] = (double)q;
        d->ulp = ulp_distance(p, q);
    }
}

/* Compares one value of both nets; `count` rows of a batched value are real. */
static int32_t compare_value(stn_net *const nets[2], const uint32_t index[2], uint32_t count,
                             difference *d, stn_err *err) {
    stn_value_info info;
    STN_TRY(stn_net_value_get(nets[0], false, index[0], &info));
    info.tensor.layout = STN_NCHW;
    uint64_t elems = stn_tensor_elems(&info.tensor);
    size_t size = info.tensor.dtype == STN_U8 ? 1 : 4;
    unsigned char *x = calloc(elems + 1, size), *y = calloc(elems + 1, size);
    int32_t status = x == NULL || y == NULL
                         ? stn_fail(err, STN_E_NOMEM, "out of memory to compare %s", info.name)
                         : stn_net_value_read(nets[0], false, index[0], x, err);
    if (status == STN_OK) {
        status = stn_net_value_read(nets[1], false, index[1], y, err);
    }
    if (status == STN_OK && info.batched && count < info.tensor.dim[0]) {
        elems = elems / info.tensor.dim[0] * count;
    }
    for (uint64_t e = 0; status == STN_OK && e < elems && !d->found; e++) {
        if (memcmp(x + e * size, y + e * size, size) != 0) {
            fill(d, &info, e, x, y);
        }
    }
    free(x);
    free(y);
    return status;
}

/* The value to compare at position `i` of net 0: made by a node, and known to net 1. */
static bool comparable(stn_net *const nets[2], uint32_t i, stn_value_info *info,
                       uint32_t index[2]) {
    index[0] = i;
    return stn_net_value_get(nets[0], false, i, info) == STN_OK && info->node != UINT32_MAX &&
           stn_net_value_find(nets[1], false, info->name, &index[1]) == STN_OK;
}

/* Values in the order of the nodes that make them. */
static int32_t compare_values(stn_net *const nets[2], uint32_t count, difference *d, stn_err *err) {
    stn_value_info info;
    uint32_t n = stn_net_value_count(nets[0], false), last = 0, index[2];
    for (uint32_t i = 0; i < n; i++) {
        if (comparable(nets, i, &info, index) && info.node >= last) {
            last = info.node + 1;
        }
    }
    for (uint32_t node = 0; node < last && !d->found; node++) {
        for (uint32_t i = 0; i < n && !d->found; i++) {
            if (comparable(nets, i, &info, index) && info.node == node) {
                STN_TRY(compare_value(nets, index, count, d, err));
            }
        }
    }
    return STN_OK;
}

/* Which operator writes a piece of state. */
static const char *state_operator(const stn_config *config, uint32_t role) {
    const char *optimizer = stn_config_get(config, "optimizer");
    return role == 1                            ? "batch_norm_update"
           : strncmp(optimizer, "adam", 4) == 0 ? "adam"
                                                : optimizer;
}

static int32_t compare_states(stn_net *const nets[2], const stn_config *config, difference *d,
                              stn_err *err) {
    for (uint32_t i = 0; i < stn_net_state_count(nets[0]) && !d->found; i++) {
        stn_state_info state;
        STN_TRY(stn_net_state_get(nets[0], i, &state));
        stn_value_info info = {
            .name = state.name, .op = state_operator(config, state.role), .node = UINT32_MAX};
        info.tensor = (stn_tensor){STN_F32, STN_NCHW, state.rank, {1, 1, 1, 1}};
        memcpy(info.tensor.dim, state.dim, state.rank * sizeof state.dim[0]);
        float *x = calloc(state.elems + 1, sizeof *x), *y = calloc(state.elems + 1, sizeof *y);
        int32_t status = x == NULL || y == NULL
                             ? stn_fail(err, STN_E_NOMEM, "out of memory to compare %s", state.name)
                             : stn_net_state_read(nets[0], i, x, err);
        if (status == STN_OK) {
            status = stn_net_state_read(nets[1], i, y, err);
        }
        for (uint64_t e = 0; status == STN_OK && e < state.elems && !d->found; e++) {
            if (memcmp(&x[e], &y[e], sizeof x[e]) != 0) {
                fill(d, &info, e, x, y);
            }
        }
        free(x);
        free(y);
        STN_TRY(status);
    }
    return STN_OK;
}

/* Number of images in the batch of a step. */
static int32_t batch_count(const session *s, uint64_t step, uint32_t *count, stn_err *err) {
    const stn_data_info *data = stn_run_data(s->run);
    uint64_t pixels = (uint64_t)data->channels * data->out_h * data->out_w;
    uint64_t rows = (uint64_t)stn_config_int(s->config, "batch");
    float *images = calloc(rows * pixels, sizeof *images);
    int32_t *labels = calloc(rows * data->heads, sizeof *labels);
    int32_t status = images == NULL || labels == NULL
                         ? stn_fail(err, STN_E_NOMEM, "out of memory for one batch")
                         : stn_run_batch(s->run, step, images, labels, count, err);
    free(images);
    free(labels);
    return status;
}

static int32_t step_and_compare(side probe[2], const char *checkpoint, uint64_t step, difference *d,
                                stn_err *err) {
    stn_net *nets[2];
    uint32_t count = 0;
    for (int i = 0; i < 2; i++) {
        stn_run *run = probe[i].s.run;
        nets[i] = stn_run_net(run);
        STN_TRY(stn_run_load(run, checkpoint, err));
        STN_TRY(stn_run_train(run, step, NULL, NULL, err));
    }
    STN_TRY(compare_states(nets, probe[0].s.config, d, err));
    bool states_differ = d->found;
    difference state = *d;
    d->found = false;
    STN_TRY(batch_count(&probe[0].s, step - 1, &count, err));
    STN_TRY(compare_values(nets, count, d, err));
    if (!d->found && states_differ) {
        *d = state;
    }
    return STN_OK;
}

int find_difference(const args *a, stn_ctx *ctx, side *const sides[2], const char *checkpoint,
                    uint64_t step, difference *d) {
    int status = EXIT_OK;
    *d = (difference){.step = step};
    for (int fused = 0; fused < 2 && status == EXIT_OK && !d->found; fused++) {
        stn_run_options options = {.keep_values = true, .no_fusion = fused == 0};
        side probe[2] = {*sides[0], *sides[1]};
        stn_err err = {0};
        probe[0].s = probe[1].s = (session){0};
        bool quiet = out.quiet;
        out.quiet = true; /* the devices have been named before */
        status = side_open(a, ctx, &probe[0], &options);
        if (status == EXIT_OK) {
            status = side_open(a, ctx, &probe[1], &options);
        }
        out.quiet = quiet;
        if (status == EXIT_OK && step_and_compare(probe, checkpoint, step, d, &err) != STN_OK) {
            status = fail(&err);
        }
        session_close(&probe[0].s);
        session_close(&probe[1].s);
    }
    return status;
}
