/* Times convolution blocks of the CPU backend: forward, input and weight gradient.
 *
 *     bench_conv layers [batch [kernel set [prefix of layers' names [operators, of f, x and w
 *                       [threads]]]]]
 *     bench_conv sweep  [batch [kernel set]]
 *
 * All figures are medians of two things that run in turn, ratios those of the pairs. layers: those
 * of the study's networks, dense work counted. A forward convolution runs in turn with
 * multiply-adds in registers for the same time on as many threads (1 if not given), and with loops
 * that store as many bytes as it does, through the caches and past them: "% written" is the share
 * of its time that the faster of them takes. A gradient runs in turn with that of the same layer
 * without pool and zeros. sweep: unusual shapes against the usual shape next to them that does no
 * less work (stride 1, an odd kernel, whole blocks of channels, a map of a multiple of 8); printed
 * are those that take more than WORST times as long, and the worst of each operator.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

#define SECONDS 0.5 /* of runs for a figure */
#define SWEEP_SECONDS 0.01
#define WORST 3.0

/* zeros: quarters of the gradients that relu and dropout leave zero. */
typedef struct layer {
    const char *name;
    uint32_t c, side, o, k, stride, pad, pool, pool_stride, zeros;
} layer;

static const layer layers[] = {
    {"mnist 1", 1, 28, 64, 9, 1, 0, 2, 2, 2},       {"mnist 2", 64, 10, 64, 7, 1, 0, 2, 2, 2},
    {"svhn 1", 3, 64, 48, 5, 1, 2, 2, 2, 2},        {"svhn 2", 48, 32, 64, 5, 1, 2, 0, 0, 3},
    {"svhn 3", 64, 32, 128, 5, 1, 2, 2, 2, 3},      {"svhn 4", 128, 16, 160, 5, 1, 2, 0, 0, 3},
    {"svhn 5", 160, 16, 192, 5, 1, 2, 2, 2, 3},     {"svhn 6", 192, 8, 192, 5, 1, 2, 0, 0, 3},
    {"svhn 7", 192, 8, 192, 5, 1, 2, 2, 2, 3},      {"svhn 8", 192, 4, 192, 5, 1, 2, 0, 0, 3},
    {"plankton 1", 1, 95, 32, 3, 1, 1, 0, 0, 0},    {"plankton 2", 32, 95, 32, 3, 1, 1, 3, 2, 0},
    {"plankton 3", 32, 47, 64, 3, 1, 1, 0, 0, 0},   {"plankton 4", 64, 47, 64, 3, 1, 1, 3, 2, 0},
    {"plankton 5", 64, 23, 128, 3, 1, 1, 0, 0, 0},  {"plankton 6", 128, 23, 128, 3, 1, 1, 0, 0, 0},
    {"plankton 7", 128, 23, 128, 3, 1, 1, 3, 2, 0}, {"plankton 8", 128, 11, 256, 3, 1, 1, 0, 0, 0},
    {"plankton 9", 256, 11, 256, 3, 1, 1, 0, 0, 0}, {"plankton 10", 256, 11, 256, 3, 1, 1, 3, 2, 0},
};
#define N_LAYERS (sizeof layers / sizeof *layers)

/* One operator on a layer. */
typedef struct bench {
    layer layer;
    bench_op run;
    stn_op_desc desc;
    stn_op_params params;
    stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
    double flop;
} bench;

static stn_tensor map(uint32_t layout, uint32_t n, uint32_t c, uint32_t h, uint32_t w) {
    return (stn_tensor){STN_F32, layout, 4, {n, c, h, w}};
}

static void bench_of(bench *b, const layer *l, uint32_t op, uint32_t batch) {
    const uint32_t side = (l->side + 2 * l->pad - l->k) / l->stride + 1;
    const uint32_t pooled = l->pool > 0 ? (side - l->pool) / l->pool_stride + 1 : side;
    const stn_tensor x = map(l->c > 4 ? STN_NC16 : STN_NCHW, batch, l->c, l->side, l->side);
    const stn_tensor w = map(STN_NCHW, l->o, l->c, l->k, l->k), bias = map(STN_NCHW, l->o, 1, 1, 1);
    const stn_tensor y = map(STN_NC16, batch, l->o, pooled, pooled);
    stn_tensor index = y;
    index.dtype = STN_U8;
    *b = (bench){.layer = *l,
                 .desc = {.struct_size = sizeof b->desc, .op = op, .params = &b->params},
                 .params = {.struct_size = sizeof b->params}};
    b->params.block = (stn_conv_block_params){
        .struct_size = sizeof(stn_conv_block_params),
        .act = 1,
        .slope = l->zeros == 0 ? 0.25f : 0.0f,
        .conv = {sizeof(stn_conv_params), l->stride, l->stride, l->pad, l->pad, 16},
        .pool = {sizeof(stn_pool_params), l->pool, l->pool, l->pool_stride, l->pool_stride, 0.0f},
    };
    b->flop = 2.0 * batch * l->o * l->c * l->k * l->k * side * side;
    b->desc.in = b->in;
    b->desc.out = b->out;
    const bool forward = op == STN_OP_CONV_BLOCK, to_w = op == STN_OP_CONV_BLOCK_GRAD_W;
    b->desc.n_in = forward ? 3 : 4;
    b->desc.n_out = op == STN_OP_CONV_BLOCK_GRAD_X ? 1 : 2;
    const stn_tensor ins[2][4] = {{y, y, index, to_w ? x : w}, {x, w, bias}};
    const stn_tensor outs[2][2] = {{to_w ? w : x, bias}, {y, index}};
    memcpy(b->in, ins[forward], sizeof ins[0]);
    memcpy(b->out, outs[forward], sizeof outs[0]);
}

/* Random values and, of an index, places in a window; some of the gradients are zero. */
static void fill(void *user, const stn_tensor *t, bool output, uint32_t index, void *data) {
    static uint32_t state = 1;
    const bench *b = user;
    const bool gradient = b->desc.op != STN_OP_CONV_BLOCK && !output && index == 0;
    const uint32_t places = b->layer.pool > 0 ? b->layer.pool * b->layer.pool : 1;
    const uint32_t zeros = gradient ? b->layer.zeros : 0;
    for (uint64_t i = 0; i < stn_tensor_elems(t); i++) {
        state = state * 1664525u + 1013904223u;
        if (t->dtype == STN_U8) {
            ((uint8_t *)data)[i] = (uint8_t)((state >> 16) * (uint64_t)places >> 16);
        } else {
            const float v = (float)(state >> 8) * 0x1p-24f - 0.5f;
            ((float *)data)[i] = (state >> 5 & 3u) < zeros ? 0.0f : v;
        }
    }
}

static int32_t open_bench(bench *b, optest_dev *dev, const layer *l, uint32_t op, uint32_t batch,
                          stn_err *err) {
    bench_of(b, l, op, batch);
    return bench_open(&b->run, dev, &b->desc, batch, fill, b, err);
}

/* The same operator on two layers in turn. */
static int32_t compare(optest_dev *dev, const layer *one, const layer *two, uint32_t op,
                       uint32_t batch, double seconds, bench_pair *pair, stn_err *err) {
    bench a, b;
    STN_TRY(open_bench(&a, dev, one, op, batch, err));
    STN_TRY(open_bench(&b, dev, two, op, batch, err));
    STN_TRY(bench_pairs(bench_run, &a.run, bench_run, &b.run, seconds, pair, err));
    bench_close(&a.run);
    bench_close(&b.run);
    return STN_OK;
}

/* A forward operator and what only stores its outputs, in turn, both ways to store. */
static int32_t show_stores(bench *b, const bench_peak *peak, stn_err *err) {
    const uint64_t index = b->layer.pool > 0 ? stn_tensor_bytes(&b->out[1]) : 0;
    const uint64_t bytes = stn_tensor_bytes(&b->out[0]) + index;
    bench_stores stores;
    bench_pair pair[2];
    STN_TRY(bench_stores_open(&stores, peak, bytes, err));
    for (uint32_t past = 0; past < 2; past++) {
        stores.past = past != 0;
        STN_TRY(bench_pairs(bench_run, &b->run, bench_stores_run, &stores, SECONDS / 2, &pair[past],
                            err));
    }
    bench_stores_close(&stores);
    const bench_pair *best = &pair[pair[1].ratio < pair[0].ratio];
    printf(" %7.1f %9.1f", (double)bytes / best->second * 1e-9, 100.0 * best->ratio);
    return STN_OK;
}

/* A forward operator and the peak in turn, both for the same time. */
static int32_t show_forward(optest_dev *dev, bench_peak *peak, const layer *l, uint32_t batch,
                            stn_err *err) {
    bench b;
    bench_pair pair;
    double once;
    STN_TRY(open_bench(&b, dev, l, STN_OP_CONV_BLOCK, batch, err));
    STN_TRY(bench_run(&b.run, &once, err));
    STN_TRY(bench_run(&b.run, &once, err));
    bench_peak_last(peak, once);
    STN_TRY(bench_pairs(bench_run, &b.run, bench_peak_run, peak, SECONDS, &pair, err));
    const double most = bench_peak_flop(peak);
    printf(" %9.1f %9.1f %6.1f", b.flop / pair.first * 1e-9, most / pair.second * 1e-9,
           100.0 * pair.ratio * b.flop / most);
    STN_TRY(show_stores(&b, peak, err));
    bench_close(&b.run);
    return STN_OK;
}

/* A gradient, and how many times faster it is than without pool and zeros. */
static int32_t show_gradient(optest_dev *dev, const layer *l, uint32_t op, uint32_t batch,
                             stn_err *err) {
    layer dense = *l;
    bench b;
    bench_pair pair;
    dense.pool = dense.pool_stride = dense.zeros = 0;
    bench_of(&b, l, op, batch);
    STN_TRY(compare(dev, l, &dense, op, batch, SECONDS, &pair, err));
    printf(" %9.1f", b.flop / pair.first * 1e-9);
    if (l->pool == 0 && l->zeros == 0) {
        printf(" %8s", "");
    } else {
        printf(" %7.2fx", pair.ratio);
    }
    return STN_OK;
}

static int32_t show_layers(optest_dev *dev, uint32_t threads, uint32_t batch, const char *prefix,
                           const char *ops, stn_err *err) {
    static const char *const heads[] = {"   forward      peak      %    GB/s % written",
                                        "    grad x  x dense", "    grad w  x dense"};
    bench_peak *peak;
    STN_TRY(bench_peak_open(dev, threads, &peak, err));
    printf("%-14s", "GFLOP/s");
    for (uint32_t i = 0; i < 3; i++) {
        fputs(strchr(ops, "fxw"[i]) == NULL ? "" : heads[i], stdout);
    }
    printf("\n");
    for (size_t i = 0; i < N_LAYERS; i++) {
        const layer *l = &layers[i];
        if (strncmp(l->name, prefix, strlen(prefix)) != 0) {
            continue;
        }
        printf("%-14s", l->name);
        if (strchr(ops, 'f') != NULL) {
            STN_TRY(show_forward(dev, peak, l, batch, err));
        }
        if (strchr(ops, 'x') != NULL) {
            STN_TRY(show_gradient(dev, l, STN_OP_CONV_BLOCK_GRAD_X, batch, err));
        }
        if (strchr(ops, 'w') != NULL) {
            STN_TRY(show_gradient(dev, l, STN_OP_CONV_BLOCK_GRAD_W, batch, err));
        }
        printf("\n");
        fflush(stdout);
    }
    bench_peak_close(peak);
    return STN_OK;
}

static uint32_t round_up(uint32_t x, uint32_t to) {
    return (x + to - 1) / to * to;
}

/* The usual shape with at least as many output pixels, taps and channels. */
static layer usual_of(const layer *l) {
    const uint32_t side = (l->side + 2 * l->pad - l->k) / l->stride + 1;
    const uint32_t k = l->k < 3 ? 3 : l->k | 1u;
    return (layer){.c = l->c == 1 ? 1 : round_up(l->c, 16),
                   .side = round_up(side, 8),
                   .o = l->o,
                   .k = k,
                   .stride = 1,
                   .pad = k / 2,
                   .pool = l->pool,
                   .pool_stride = l->pool_stride,
                   .zeros = l->zeros};
}

static int32_t sweep(optest_dev *dev, uint32_t batch, stn_err *err) {
    static const uint32_t kernels[] = {1, 2, 3, 4, 6, 8, 11}, channels[] = {1, 2, 3, 5, 8, 17, 33},
                          sides[] = {5, 8, 11, 19, 33, 64};
    static const char *const names[] = {"forward", "grad x", "grad w"};
    double worst[3] = {0};
    for (uint32_t i = 0; i < 7 * 7 * 6 * 3; i++) {
        const uint32_t k = kernels[i % 7];
        const layer l = {.c = channels[i / 7 % 7],
                         .side = sides[i / 49 % 6],
                         .o = 32,
                         .k = k,
                         .stride = i / 294 + 1,
                         .pad = k / 2,
                         .zeros = 2};
        const layer usual = usual_of(&l);
        for (uint32_t op = 0; op < 3; op++) {
            bench_pair pair;
            STN_TRY(
                compare(dev, &usual, &l, STN_OP_CONV_BLOCK + op, batch, SWEEP_SECONDS, &pair, err));
            worst[op] = fmax(worst[op], pair.ratio);
            if (pair.ratio > WORST) {
                printf("%-8s %2u channels, side %2u, kernel %2u, stride %u: %5.2f times\n",
                       names[op], l.c, l.side, l.k, l.stride, pair.ratio);
                fflush(stdout);
            }
        }
    }
    printf("worst: forward %.2f, grad x %.2f, grad w %.2f\n", worst[0], worst[1], worst[2]);
    return STN_OK;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "layers", *set = argc > 3 ? argv[3] : "auto";
    const char *prefix = argc > 4 ? argv[4] : "", *ops = argc > 5 ? argv[5] : "fxw";
    const char *threads = argc > 6 ? argv[6] : "1";
    const uint32_t batch = argc > 2 ? (uint32_t)atoi(argv[2]) : 16;
    const char *options[] = {"threads", threads, "cpu-kernels", set, NULL};
    const stn_backend *backend;
    char path[512];
    stn_err err = {0};
    optest_dev dev;
    int32_t status = optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, &err);
    status = status != STN_OK ? status : optest_open(backend, 0, options, &dev, &err);
    if (status == STN_OK) {
        status = strcmp(what, "sweep") == 0
                     ? sweep(&dev, batch, &err)
                     : show_layers(&dev, (uint32_t)atoi(threads), batch, prefix, ops, &err);
        optest_close(&dev);
    }
    if (status != STN_OK) {
        fprintf(stderr, "bench_conv: %s\n", err.text);
    }
    return status == STN_OK ? 0 : 1;
}
