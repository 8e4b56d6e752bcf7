/* Times convolution blocks of the CPU backend on one thread: forward, input and weight gradient.
 *
 *     bench_conv layers [batch [kernel set [prefix of layers' names [operators, of f, x and w]]]]
 *     bench_conv sweep  [batch [kernel set]]
 *
 * layers: those of the study's networks, in GFLOP/s of processor time (minimum of some runs), dense
 * work counted, and the forward's share of the peak of multiply-adds (the greater of those measured
 * before and after it, because a shared machine's clock drifts); of a gradient behind a pool or
 * dropout also how many times faster it is than without them. sweep: unusual shapes against the
 * usual shape next to them that does no less work (stride 1, an odd kernel, whole blocks of
 * channels, a map of a multiple of 8); printed are those that take more than WORST times as long,
 * and the worst of each operator.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "optest.h"

#define SECONDS 0.25 /* of runs for a figure, but at least MIN_RUNS */
#define MIN_RUNS 4u
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
    *b = (bench){.desc = {.struct_size = sizeof b->desc, .op = op, .params = &b->params},
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

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Random values and, of an index, places in a window; zeros: quarters of the values that are zero.
 */
static void fill(const stn_tensor *t, uint32_t places, uint32_t zeros, void *data) {
    static uint32_t state = 1;
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

static int32_t place(optest_dev *dev, const stn_tensor *t, const layer *l, uint32_t zeros,
                     stn_ref *ref, stn_err *err) {
    const uint64_t bytes = stn_tensor_bytes(t);
    void *data = malloc(bytes);
    if (data == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory");
    }
    fill(t, l->pool > 0 ? l->pool * l->pool : 1, zeros, data);
    int32_t status = dev->backend->buf_alloc(dev->device, bytes, &ref->buf, err);
    status = status != STN_OK ? status : dev->backend->write(dev->stream, *ref, data, bytes, err);
    free(data);
    return status;
}

/* Shortest run in seconds. */
static int32_t measure(optest_dev *dev, const layer *l, bench *b, double seconds, double *best,
                       stn_err *err) {
    const stn_backend *v = dev->backend;
    const float scalars[4] = {1.0f, 0, 0, 0};
    const stn_step step = {.struct_size = sizeof step,
                           .count = b->in[0].dim[0],
                           .seed = 1,
                           .n_scalars = 4,
                           .scalar = scalars};
    stn_support support = {.struct_size = sizeof support};
    stn_ref in[STN_MAX_IN] = {{0}}, out[STN_MAX_OUT] = {{0}}, work = {0};
    stn_kernel *kernel;
    STN_TRY(v->op_query(dev->device, &b->desc, &support, err));
    STN_TRY(v->op_prepare(dev->device, &b->desc, &kernel, err));
    for (uint32_t i = 0; i < b->desc.n_in; i++) {
        const bool gradient = b->desc.op != STN_OP_CONV_BLOCK && i == 0;
        STN_TRY(place(dev, &b->in[i], l, gradient ? l->zeros : 0, &in[i], err));
    }
    for (uint32_t i = 0; i < b->desc.n_out; i++) {
        STN_TRY(place(dev, &b->out[i], l, 0, &out[i], err));
    }
    STN_TRY(v->buf_alloc(dev->device, support.workspace + 1, &work.buf, err));
    const stn_run_args args = {sizeof args, 0, in, out, work, {NULL, 0}, &step};
    *best = INFINITY;
    const double begin = now();
    for (uint32_t r = 0; r < MIN_RUNS || now() - begin < seconds; r++) {
        const double start = now();
        STN_TRY(v->op_run(dev->stream, kernel, &args, err));
        *best = fmin(*best, now() - start);
    }
    for (uint32_t i = 0; i < b->desc.n_in; i++) {
        v->buf_free(in[i].buf);
    }
    for (uint32_t i = 0; i < b->desc.n_out; i++) {
        v->buf_free(out[i].buf);
    }
    v->buf_free(work.buf);
    v->op_free(kernel);
    return STN_OK;
}

static int32_t peak_of(optest_dev *dev, double *flops, stn_err *err) {
    stn_peaks peaks = {.struct_size = sizeof peaks};
    STN_TRY(dev->backend->peaks(dev->device, &peaks, err));
    *flops = peaks.flops;
    return STN_OK;
}

/* How many times faster than without pool and zeros a gradient is that takes `best` seconds. */
static int32_t show_ratio(optest_dev *dev, const layer *l, uint32_t op, uint32_t batch, double best,
                          stn_err *err) {
    layer dense = *l;
    dense.pool = dense.pool_stride = dense.zeros = 0;
    bench b;
    double other;
    if (l->pool == 0 && l->zeros == 0) {
        printf(" %8s", "");
        return STN_OK;
    }
    bench_of(&b, &dense, op, batch);
    STN_TRY(measure(dev, &dense, &b, SECONDS, &other, err));
    printf(" %7.2fx", other / best);
    return STN_OK;
}

/* Figures of the operators named by `ops`; *peak: the one measured last. */
static int32_t show_layer(optest_dev *dev, const layer *l, uint32_t batch, const char *ops,
                          double *peak, stn_err *err) {
    printf("%-14s", l->name);
    for (uint32_t op = STN_OP_CONV_BLOCK; op <= STN_OP_CONV_BLOCK_GRAD_W; op++) {
        bench b;
        double best, before = *peak;
        if (strchr(ops, "fxw"[op - STN_OP_CONV_BLOCK]) == NULL) {
            continue;
        }
        bench_of(&b, l, op, batch);
        STN_TRY(measure(dev, l, &b, SECONDS, &best, err));
        printf(" %9.1f", b.flop / best * 1e-9);
        if (op != STN_OP_CONV_BLOCK) {
            STN_TRY(show_ratio(dev, l, op, batch, best, err));
        } else {
            STN_TRY(peak_of(dev, peak, err));
            printf(" %6.1f", 100.0 * b.flop / best / fmax(before, *peak));
        }
        fflush(stdout);
    }
    printf("\n");
    return STN_OK;
}

static int32_t show_layers(optest_dev *dev, uint32_t batch, const char *prefix, const char *ops,
                           stn_err *err) {
    double peak = 0;
    STN_TRY(peak_of(dev, &peak, err));
    printf("GFLOP/s; peak %.1f\n%-14s", peak * 1e-9, "layer");
    for (uint32_t i = 0; i < 3; i++) {
        static const char *const heads[] = {"   forward      %", "    grad x  x dense",
                                            "    grad w  x dense"};
        fputs(strchr(ops, "fxw"[i]) == NULL ? "" : heads[i], stdout);
    }
    printf("\n");
    for (size_t i = 0; i < N_LAYERS; i++) {
        if (strncmp(layers[i].name, prefix, strlen(prefix)) == 0) {
            STN_TRY(show_layer(dev, &layers[i], batch, ops, &peak, err));
        }
    }
    return STN_OK;
}

static int32_t time_of(optest_dev *dev, const layer *l, uint32_t op, uint32_t batch, double *best,
                       stn_err *err) {
    bench b;
    bench_of(&b, l, op, batch);
    return measure(dev, l, &b, SWEEP_SECONDS, best, err);
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
            double time, other;
            STN_TRY(time_of(dev, &l, STN_OP_CONV_BLOCK + op, batch, &time, err));
            STN_TRY(time_of(dev, &usual, STN_OP_CONV_BLOCK + op, batch, &other, err));
            worst[op] = fmax(worst[op], time / other);
            if (time / other > WORST) {
                printf("%-8s %2u channels, side %2u, kernel %2u, stride %u: %5.2f times\n",
                       names[op], l.c, l.side, l.k, l.stride, time / other);
                fflush(stdout);
            }
        }
    }
    printf("worst: forward %.2f, grad x %.2f, grad w %.2f\n", worst[0], worst[1], worst[2]);
    return STN_OK;
}

int main(int argc, char **argv) {
    const char *what = argc > 1 ? argv[1] : "layers", *set = argc > 3 ? argv[3] : "auto";
    const uint32_t batch = argc > 2 ? (uint32_t)atoi(argv[2]) : 16;
    const char *options[] = {"threads", "1", "cpu-kernels", set, NULL};
    const stn_backend *backend;
    char path[512];
    stn_err err = {0};
    optest_dev dev;
    int32_t status = optest_load(optest_plugin_path("cpu", path, sizeof path), &backend, &err);
    status = status != STN_OK ? status : optest_open(backend, 0, options, &dev, &err);
    if (status == STN_OK) {
        status = strcmp(what, "sweep") == 0 ? sweep(&dev, batch, &err)
                                            : show_layers(&dev, batch, argc > 4 ? argv[4] : "",
                                                          argc > 5 ? argv[5] : "fxw", &err);
        optest_close(&dev);
    }
    if (status != STN_OK) {
        fprintf(stderr, "bench_conv: %s\n", err.text);
    }
    return status == STN_OK ? 0 : 1;
}
