/* Times every operator of a training step of the rotated-MNIST networks cnn and sl1, and the
 * sampler of c1, at batch 256: minimum of 15 runs, 1 and 2 threads.
 *
 *     bench_cpu [kernel set]        (default: auto)
 *
 * GFLOP/s counts the dense operator, so gradients that skip zeros may exceed the machine's peak.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define BATCH 256u
#define RUNS 15u

/* One operator, how often a step of each network runs it, and its dense floating-point work. */
typedef struct bench {
    const char *name;
    stn_op_desc desc;
    stn_op_params params;
    stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
    uint32_t cnn, sl1;
    double flop;
} bench;

static bench table[64];
static uint32_t n_table;

static stn_tensor map(uint32_t layout, uint32_t c, uint32_t h, uint32_t w) {
    return (stn_tensor){STN_F32, layout, 4, {BATCH, c, h, w}};
}
static stn_tensor features(uint32_t c) {
    return (stn_tensor){STN_F32, STN_NCHW, 2, {BATCH, c, 1, 1}};
}
static stn_tensor weights(uint32_t o, uint32_t c, uint32_t kh, uint32_t kw) {
    return (stn_tensor){STN_F32, STN_NCHW, 4, {o, c, kh, kw}};
}
static stn_tensor typed(stn_tensor t, uint32_t dtype) {
    t.dtype = dtype;
    return t;
}

static bench *add(const char *name, uint32_t op, uint32_t cnn, uint32_t sl1, double flop) {
    bench *b = &table[n_table++];
    *b = (bench){.name = name, .cnn = cnn, .sl1 = sl1, .flop = flop};
    b->desc.struct_size = sizeof b->desc;
    b->desc.op = op;
    b->params.struct_size = sizeof b->params;
    return b;
}
static void input(bench *b, stn_tensor t) {
    b->in[b->desc.n_in++] = t;
}
static void output(bench *b, stn_tensor t) {
    b->out[b->desc.n_out++] = t;
}

/* ---- the steps ------------------------------------------------------------------------------ */

/* A block: x -> conv k x k without padding -> 2x2 pool -> relu. */
typedef struct block {
    stn_tensor x, w, y;
    double flop;
} block;

static block block_of(uint32_t layout, uint32_t c, uint32_t size, uint32_t o, uint32_t k) {
    const uint32_t conv = size - k + 1, pooled = conv / 2;
    return (block){map(layout, c, size, size), weights(o, c, k, k),
                   map(STN_NC16, o, pooled, pooled), 2.0 * BATCH * o * c * k * k * conv * conv};
}

static bench *add_block(const char *name, uint32_t op, const block *b, uint32_t cnn, uint32_t sl1) {
    bench *t = add(name, op, cnn, sl1, b->flop);
    t->params.block = (stn_conv_block_params){
        .struct_size = sizeof(stn_conv_block_params),
        .act = 1,
        .conv = {sizeof(stn_conv_params), 1, 1, 0, 0, 16},
        .pool = {sizeof(stn_pool_params), 2, 2, 2, 2, 0.25f},
    };
    if (op == STN_OP_CONV_BLOCK) {
        input(t, b->x);
        input(t, b->w);
        input(t, weights(b->w.dim[0], 1, 1, 1));
        output(t, b->y);
        output(t, typed(b->y, STN_U8));
        return t;
    }
    input(t, b->y);
    input(t, b->y);
    input(t, typed(b->y, STN_U8));
    input(t, op == STN_OP_CONV_BLOCK_GRAD_X ? b->w : b->x);
    output(t, op == STN_OP_CONV_BLOCK_GRAD_X ? b->x : b->w);
    if (op == STN_OP_CONV_BLOCK_GRAD_W) {
        output(t, weights(b->w.dim[0], 1, 1, 1));
    }
    return t;
}

static void add_linear(const char *const names[3], stn_tensor x, uint32_t o, uint32_t cnn,
                       uint32_t sl1) {
    const uint32_t k = x.dim[1] * x.dim[2] * x.dim[3];
    const stn_tensor w = {STN_F32, STN_NCHW, 2, {o, k, 1, 1}};
    const stn_tensor x_or[3][2] = {{x, w}, {features(o), w}, {features(o), x}};
    const stn_tensor out[3] = {features(o), x, w};
    for (uint32_t i = 0; i < 3; i++) {
        bench *b = add(names[i], STN_OP_LINEAR + i, cnn, sl1, 2.0 * BATCH * k * o);
        b->params.linear = (stn_linear_params){sizeof(stn_linear_params), 16};
        input(b, x_or[i][0]);
        input(b, x_or[i][1]);
        output(b, out[i]);
    }
}

static void add_warp(const char *const names[3], stn_tensor x, uint32_t sl1) {
    static const uint32_t ops[3] = {STN_OP_WARP, STN_OP_WARP_GRAD_THETA, STN_OP_WARP_GRAD_X};
    for (uint32_t i = 0; i < 3; i++) {
        bench *b = add(names[i], ops[i], 0, i < 2 ? sl1 : 0, 0);
        b->params.warp = (stn_warp_params){.struct_size = sizeof(stn_warp_params),
                                           .corners = STN_CORNERS_ALIGNED,
                                           .filter = STN_FILTER_BILINEAR,
                                           .padding = STN_PAD_BORDER,
                                           .in_h = x.dim[2],
                                           .in_w = x.dim[3],
                                           .out_h = x.dim[2],
                                           .out_w = x.dim[3]};
        input(b, x);
        if (i == 1) {
            input(b, x);
        }
        input(b, features(6));
        output(b, i == 1 ? features(6) : x);
    }
}

static void add_sgd(const char *name, uint32_t elems, uint32_t cnn, uint32_t sl1) {
    bench *b = add(name, STN_OP_SGD, cnn, sl1, 0);
    b->params.opt =
        (stn_opt_params){.struct_size = sizeof(stn_opt_params), .mu = 0.9f, .wd = 5e-4f};
    for (uint32_t i = 0; i < 3; i++) {
        input(b, weights(elems, 1, 1, 1));
    }
    output(b, weights(elems, 1, 1, 1));
    output(b, weights(elems, 1, 1, 1));
}

static void add_loss(void) {
    for (uint32_t i = 0; i < 2; i++) {
        bench *b = add(i == 0 ? "softmax loss" : "softmax gradient", STN_OP_XENT + i, 1, 1, 0);
        b->params.loss = (stn_loss_params){sizeof(stn_loss_params), 1, 10, 0};
        input(b, features(10));
        input(b, typed(features(1), STN_I32));
        output(b, features(i == 0 ? 2 : 10));
        if (i == 0) {
            output(b, typed(features(1), STN_I32));
        }
    }
}

static void fill_table(void) {
    const block one = block_of(STN_NCHW, 1, 28, 64, 9), two = block_of(STN_NC16, 64, 10, 64, 7);
    bench *unpack = add("pixels", STN_OP_UNPACK, 1, 1, 0);
    input(unpack, typed(map(STN_NCHW, 1, 28, 28), STN_U8));
    input(unpack, weights(1, 1, 1, 1));
    input(unpack, weights(1, 1, 1, 1));
    output(unpack, map(STN_NCHW, 1, 28, 28));
    add_block("conv1", STN_OP_CONV_BLOCK, &one, 1, 2);
    add_block("conv2", STN_OP_CONV_BLOCK, &two, 1, 1);
    add_linear((const char *const[]){"out", "out grad x", "out grad w"}, two.y, 10, 1, 1);
    add_loss();
    add_block("conv2 grad x", STN_OP_CONV_BLOCK_GRAD_X, &two, 1, 1);
    add_block("conv2 grad w", STN_OP_CONV_BLOCK_GRAD_W, &two, 1, 1);
    add_block("conv1 grad x", STN_OP_CONV_BLOCK_GRAD_X, &one, 0, 1);
    add_block("conv1 grad w", STN_OP_CONV_BLOCK_GRAD_W, &one, 1, 2);
    add_linear((const char *const[]){"fc1", "fc1 grad x", "fc1 grad w"}, one.y, 32, 0, 1);
    add_linear((const char *const[]){"fc2", "fc2 grad x", "fc2 grad w"}, features(32), 32, 0, 2);
    add_linear((const char *const[]){"theta", "theta grad x", "theta grad w"}, features(32), 6, 0,
               1);
    add_warp((const char *const[]){"warp image", "warp image grad theta", "warp image grad x"},
             map(STN_NCHW, 1, 28, 28), 1);
    add_warp(
        (const char *const[]){"warp 64 maps", "warp 64 maps grad theta", "warp 64 maps grad x"},
        map(STN_NC16, 64, 10, 10), 0);
    add_sgd("optimizer, conv2", 64 * 64 * 49, 1, 1);
    add_sgd("optimizer, fc1", 6400 * 32, 0, 1);
}

/* ---- running -------------------------------------------------------------------------------- */

/* Half of the values zero, as after a relu; indices and labels 0..3; theta near the identity. */
static void fill(void *user, const stn_tensor *t, bool output, uint32_t index, void *data) {
    static uint32_t state = 1;
    const bench *b = user;
    const bool warps = b->desc.op >= STN_OP_WARP && b->desc.op <= STN_OP_WARP_GRAD_THETA;
    const bool theta = warps && !output && index + 1 == b->desc.n_in;
    for (uint64_t i = 0; i < stn_tensor_elems(t); i++) {
        state = state * 1664525u + 1013904223u;
        const float v = (float)(state >> 8) * 0x1p-24f;
        if (t->dtype == STN_U8) {
            ((uint8_t *)data)[i] = (uint8_t)(state >> 30);
        } else if (t->dtype == STN_I32) {
            ((int32_t *)data)[i] = (int32_t)(state >> 30);
        } else if (theta) {
            ((float *)data)[i] = (i % 6 == 0 || i % 6 == 4 ? 1.0f : 0.0f) + 0.3f * v;
        } else {
            ((float *)data)[i] = (state & 0x80u) != 0 ? v - 0.5f : 0.0f;
        }
    }
}

/* Shortest of RUNS runs in seconds. */
static int32_t measure(optest_dev *dev, bench *b, double *best, stn_err *err) {
    bench_op op;
    b->desc.params = &b->params;
    b->desc.in = b->in;
    b->desc.out = b->out;
    STN_TRY(bench_open(&op, dev, &b->desc, BATCH, fill, b, err));
    *best = INFINITY;
    for (uint32_t r = 0; r < RUNS; r++) {
        double taken;
        STN_TRY(bench_run(&op, &taken, err));
        *best = fmin(*best, taken);
    }
    bench_close(&op);
    return STN_OK;
}

static int32_t run_table(const char *set, double ms[2][64], stn_err *err) {
    const stn_backend *backend;
    char path[512];
    STN_TRY(optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, err));
    for (uint32_t t = 0; t < 2; t++) {
        const char *options[] = {"threads", t == 0 ? "1" : "2", "cpu-kernels", set, NULL};
        optest_dev dev;
        STN_TRY(optest_open(backend, 0, options, &dev, err));
        for (uint32_t i = 0; i < n_table; i++) {
            double best;
            STN_TRY(measure(&dev, &table[i], &best, err));
            ms[t][i] = best * 1e3;
        }
        optest_close(&dev);
    }
    return STN_OK;
}

int main(int argc, char **argv) {
    static double ms[2][64];
    double cnn[2] = {0}, sl1[2] = {0};
    stn_err err = {0};
    fill_table();
    if (run_table(argc > 1 ? argv[1] : "auto", ms, &err) != STN_OK) {
        fprintf(stderr, "bench_cpu: %s\n", err.text);
        return 1;
    }
    printf("%-26s %9s %9s %9s  %s\n", "operator", "1T ms", "2T ms", "GFLOP/s", "cnn sl1");
    for (uint32_t i = 0; i < n_table; i++) {
        const bench *b = &table[i];
        printf("%-26s %9.3f %9.3f %9.1f  %3u %3u\n", b->name, ms[0][i], ms[1][i],
               b->flop / ms[1][i] * 1e-6, b->cnn, b->sl1);
        for (uint32_t t = 0; t < 2; t++) {
            cnn[t] += b->cnn * ms[t][i];
            sl1[t] += b->sl1 * ms[t][i];
        }
    }
    printf("%-26s %9.3f %9.3f\n%-26s %9.3f %9.3f\n", "sum, step of cnn", cnn[0], cnn[1],
           "sum, step of sl1", sl1[0], sl1[1]);
    return 0;
}
