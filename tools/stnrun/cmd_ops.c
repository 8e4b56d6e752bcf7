/* stnrun ops: the support matrix, measured: every operator on one small shape is offered to the
 * first device of every backend. A backend that was refused has no column; stnrun plugins says why.
 */
#include <stdio.h>
#include <string.h>

#include "stnrun.h"

#define SHARDS 16u
#define MAX_BACKENDS 8u

/* ---- one small shape per operator -------------------------------------------------------------
 */

#define F32(rank, ...)                                                                             \
    {                                                                                              \
        STN_F32, STN_NCHW, (rank), {                                                               \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
#define OF(type, rank, ...)                                                                        \
    {                                                                                              \
        (type), STN_NCHW, (rank), {                                                                \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }
/* Four images of 3 channels 8x8, 5 filters 3x3, pooled 2x2, 10 classes. */
#define IMAGE F32(4, 4, 3, 8, 8)
#define FILTER F32(4, 5, 3, 3, 3)
#define MAP F32(4, 4, 5, 6, 6)
#define POOLED F32(4, 4, 5, 3, 3)
#define INDEX OF(STN_U8, 4, 4, 5, 3, 3)
#define HALF F32(4, 4, 3, 4, 4)
#define HALF_INDEX OF(STN_U8, 4, 4, 3, 4, 4)
#define FLAT F32(4, 4, 3, 8, 8)
#define DENSE F32(2, 10, 192, 1, 1)
#define LOGITS F32(2, 4, 10, 1, 1)
#define TENS F32(1, 10, 1, 1, 1)
#define FIVES F32(1, 5, 1, 1, 1)
#define CHANNELS F32(1, 3, 1, 1, 1)
#define STATS F32(2, 3, 3, 1, 1)
#define THETA F32(2, 4, 6, 1, 1)
#define GRID F32(4, 4, 8, 8, 2)
#define LABEL OF(STN_I32, 2, 4, 1, 1, 1)
#define LOSS F32(2, 4, 2, 1, 1)

static const stn_conv_params conv = {sizeof conv, 1, 1, 0, 0, SHARDS};
static const stn_linear_params linear = {sizeof linear, SHARDS};
static const stn_reduce_params reduce = {sizeof reduce, SHARDS};
static const stn_pool_params pool = {sizeof pool, 2, 2, 2, 2, 0.25f};
static const stn_act_params act = {sizeof act, 0};
static const stn_dropout_params dropout = {sizeof dropout, 0, UINT32_C(1) << 31, 2};
static const stn_bn_params bn = {sizeof bn, SHARDS, 1e-5f, 0.1f, 0, 1};
static const stn_warp_params warp = {.struct_size = sizeof warp,
                                     .corners = STN_CORNERS_ALIGNED,
                                     .filter = STN_FILTER_BILINEAR,
                                     .padding = STN_PAD_BORDER,
                                     .in_h = 8,
                                     .in_w = 8,
                                     .out_h = 8,
                                     .out_w = 8};
static const stn_loss_params loss = {sizeof loss, 1, 10, 0};
static const stn_scale_params scale = {sizeof scale, 0, 1};
static const stn_opt_params opt = {.struct_size = sizeof opt, .slot_eps = 1, .slot_lw = 1};
static const stn_none_params none = {sizeof none};
static const stn_conv_block_params block = {sizeof block,
                                            1,
                                            0,
                                            {sizeof(stn_conv_params), 1, 1, 0, 0, SHARDS},
                                            {sizeof(stn_pool_params), 2, 2, 2, 2, 0.25f}};

static const stn_linear_block_params linear_block = {sizeof linear_block, 1, 0, SHARDS};

static const struct {
    uint32_t op;
    const void *params;
    uint32_t n_in, n_out;
    stn_tensor in[5], out[3];
} samples[] = {
    {STN_OP_CONV, &conv, 3, 1, {IMAGE, FILTER, FIVES}, {MAP}},
    {STN_OP_CONV_GRAD_X, &conv, 2, 1, {MAP, FILTER}, {IMAGE}},
    {STN_OP_CONV_GRAD_W, &conv, 2, 1, {MAP, IMAGE}, {FILTER}},
    {STN_OP_LINEAR, &linear, 3, 1, {FLAT, DENSE, TENS}, {LOGITS}},
    {STN_OP_LINEAR_GRAD_X, &linear, 2, 1, {LOGITS, DENSE}, {FLAT}},
    {STN_OP_LINEAR_GRAD_W, &linear, 2, 1, {LOGITS, FLAT}, {DENSE}},
    {STN_OP_BIAS_GRAD, &reduce, 1, 1, {MAP}, {FIVES}},
    {STN_OP_MAXPOOL, &pool, 1, 2, {IMAGE}, {HALF, HALF_INDEX}},
    {STN_OP_MAXPOOL_GRAD, &pool, 2, 1, {HALF, HALF_INDEX}, {IMAGE}},
    {STN_OP_AVGPOOL, &pool, 1, 1, {IMAGE}, {HALF}},
    {STN_OP_AVGPOOL_GRAD, &pool, 1, 1, {HALF}, {IMAGE}},
    {STN_OP_ACT, &act, 1, 1, {IMAGE}, {IMAGE}},
    {STN_OP_ACT_GRAD, &act, 2, 1, {IMAGE, IMAGE}, {IMAGE}},
    {STN_OP_DROPOUT, &dropout, 1, 1, {IMAGE}, {IMAGE}},
    {STN_OP_DROPOUT_GRAD, &dropout, 1, 1, {IMAGE}, {IMAGE}},
    {STN_OP_BN, &bn, 3, 2, {IMAGE, CHANNELS, CHANNELS}, {IMAGE, STATS}},
    {STN_OP_BN_UPDATE, &bn, 3, 2, {STATS, CHANNELS, CHANNELS}, {CHANNELS, CHANNELS}},
    {STN_OP_BN_EVAL, &bn, 5, 1, {IMAGE, CHANNELS, CHANNELS, CHANNELS, CHANNELS}, {IMAGE}},
    {STN_OP_BN_GRAD, &bn, 4, 3, {IMAGE, IMAGE, STATS, CHANNELS}, {IMAGE, CHANNELS, CHANNELS}},
    {STN_OP_GRID, &warp, 1, 1, {THETA}, {GRID}},
    {STN_OP_GRID_GRAD, &warp, 1, 1, {GRID}, {THETA}},
    {STN_OP_SAMPLE, &warp, 2, 1, {IMAGE, GRID}, {IMAGE}},
    {STN_OP_SAMPLE_GRAD_X, &warp, 2, 1, {IMAGE, GRID}, {IMAGE}},
    {STN_OP_SAMPLE_GRAD_GRID, &warp, 3, 1, {IMAGE, IMAGE, GRID}, {GRID}},
    {STN_OP_WARP, &warp, 2, 1, {IMAGE, THETA}, {IMAGE}},
    {STN_OP_WARP_GRAD_X, &warp, 2, 1, {IMAGE, THETA}, {IMAGE}},
    {STN_OP_WARP_GRAD_THETA, &warp, 3, 1, {IMAGE, IMAGE, THETA}, {THETA}},
    {STN_OP_COMPOSE, &none, 2, 1, {THETA, THETA}, {THETA}},
    {STN_OP_COMPOSE_GRAD, &none, 3, 2, {THETA, THETA, THETA}, {THETA, THETA}},
    {STN_OP_XENT, &loss, 2, 2, {LOGITS, LABEL}, {LOSS, LABEL}},
    {STN_OP_XENT_GRAD, &loss, 2, 1, {LOGITS, LABEL}, {LOGITS}},
    {STN_OP_XENT_BOTH, &loss, 2, 3, {LOGITS, LABEL}, {LOSS, LABEL, LOGITS}},
    {STN_OP_SUM, &scale, 2, 1, {IMAGE, IMAGE}, {IMAGE}},
    {STN_OP_SCALE, &scale, 1, 1, {IMAGE}, {IMAGE}},
    {STN_OP_COPY, &none, 1, 1, {IMAGE}, {IMAGE}},
    {STN_OP_UNPACK, &none, 3, 1, {OF(STN_U8, 4, 4, 3, 8, 8), CHANNELS, CHANNELS}, {IMAGE}},
    {STN_OP_SGD, &opt, 3, 2, {FIVES, FIVES, FIVES}, {FIVES, FIVES}},
    {STN_OP_ADAM, &opt, 4, 3, {FIVES, FIVES, FIVES, FIVES}, {FIVES, FIVES, FIVES}},
    {STN_OP_CONV_BLOCK, &block, 3, 2, {IMAGE, FILTER, FIVES}, {POOLED, INDEX}},
    {STN_OP_CONV_BLOCK_GRAD_X, &block, 4, 1, {POOLED, POOLED, INDEX, FILTER}, {IMAGE}},
    {STN_OP_CONV_BLOCK_GRAD_W, &block, 4, 2, {POOLED, POOLED, INDEX, IMAGE}, {FILTER, FIVES}},
    {STN_OP_LINEAR_BLOCK, &linear_block, 3, 1, {FLAT, DENSE, TENS}, {LOGITS}},
    {STN_OP_LINEAR_BLOCK_GRAD,
     &linear_block,
     4,
     3,
     {LOGITS, LOGITS, FLAT, DENSE},
     {DENSE, TENS, FLAT}},
};
#define N_SAMPLES (sizeof samples / sizeof samples[0])

/* ---- the matrix -------------------------------------------------------------------------------
 */

/* "yes", "fast" (not exact), "no", or "?" for an operator without a sample. */
static const char *support(const stn_dev *dev, uint32_t op) {
    for (size_t i = 0; i < N_SAMPLES; i++) {
        if (samples[i].op != op) {
            continue;
        }
        stn_op_desc desc = {
            sizeof desc,   op, samples[i].n_in, samples[i].n_out, samples[i].params, samples[i].in,
            samples[i].out};
        stn_support answer = {.struct_size = sizeof answer};
        stn_err err = {0};
        int32_t status = stn_dev_backend(dev)->op_query(stn_dev_handle(dev), &desc, &answer, &err);
        return status != STN_OK || answer.level == 0 ? "no" : answer.exact != 0 ? "yes" : "fast";
    }
    return "?";
}

typedef struct column {
    const char *name;
    stn_dev *dev;
} column;

/* The first device of every backend; one that has none is named on stderr. */
static uint32_t open_columns(stn_ctx *ctx, column columns[MAX_BACKENDS]) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < stn_plugin_count(ctx) && n < MAX_BACKENDS; i++) {
        stn_plugin_info info;
        stn_err err = {0};
        if (stn_plugin_get(ctx, i, &info) != STN_OK || info.kind != STN_KIND_BACKEND ||
            info.refused || info.shadowed) {
            continue;
        }
        columns[n].name = info.name;
        if (stn_dev_open(ctx, info.name, "0", NULL, &columns[n].dev, &err) == STN_OK) {
            n++;
        } else {
            note("backend %s: %s", info.name, err.text);
        }
    }
    return n;
}

static json_t *row_json(const stn_op_info *op, const column *columns, uint32_t n) {
    json_t *row =
        json_pack("{s:i, s:s, s:s}", "number", (int)op->number, "name", op->name, "text", op->text);
    for (uint32_t i = 0; i < n; i++) {
        json_object_set_new(row, columns[i].name, json_string(support(columns[i].dev, op->number)));
    }
    return row;
}

static void print_row(const stn_op_info *op, const column *columns, uint32_t n) {
    printf("%-18s", op->name);
    for (uint32_t i = 0; i < n; i++) {
        printf(" %-10s", support(columns[i].dev, op->number));
    }
    printf(" %s\n", out.verbose > 0 || n == 0 ? op->text : "");
}

int cmd_ops(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    stn_ctx *ctx = NULL;
    column columns[MAX_BACKENDS] = {{NULL, NULL}};
    int status = open_context(a, &ctx);
    if (status != EXIT_OK) {
        return status;
    }
    uint32_t n = open_columns(ctx, columns);
    json_t *list = out.json || out.jsonl ? json_array() : NULL;
    if (list == NULL) {
        printf("%-18s", "operator");
        for (uint32_t i = 0; i < n; i++) {
            printf(" %-10s", columns[i].name);
        }
        putchar('\n');
    }
    for (uint32_t i = 0; i < stn_op_count(); i++) {
        const stn_op_info *op = stn_op_get(i);
        if (list != NULL) {
            json_array_append_new(list, row_json(op, columns, n));
        } else {
            print_row(op, columns, n);
        }
    }
    if (list != NULL) {
        status = print_json(json_pack("{s:s, s:o}", "schema", "stnrun-ops/1", "operators", list));
    }
    for (uint32_t i = 0; i < n; i++) {
        stn_dev_close(columns[i].dev);
    }
    stn_close(ctx);
    return status;
}
