/* --math fast: convolutions and linear layers as matrix products of CLBlast.
 *
 * A convolution works on chunks of images, so that their patches fit in a bounded workspace:
 *     patches [C*KH*KW][n*P], maps [O][n*P], P = OH*OW, n images, rows `ld` apart
 *     y  = W patches          gpatches = W^T gmaps          gW = gmaps patches^T, summed over
 * chunks Operands are row-major; kernels of fast.cl bring in bias, class and check of the results.
 */
#include "conv.h"

#define PATCH_FLOATS (UINT64_C(1) << 22) /* wanted size of the patches of a chunk */

static bool row_major(const stn_kernel *k) {
    bool yes = true;
    for (uint32_t i = 0; i < k->n_in; i++) {
        yes = yes && k->in[i].layout == STN_NCHW;
    }
    return yes && k->out[0].layout == STN_NCHW;
}

/* Bias, snap and check in place over `rows` of o values, or of each row of the batch. */
static void emit_finish(stn_kernel *k, ocl_arg b, ocl_arg y, uint32_t rows, uint32_t o,
                        bool per_row, float limit) {
    uint64_t n = (uint64_t)rows * o;
    ocl_range range = ocl_items(per_row ? o : n, per_row);
    OCL_EMIT(k, "fast.cl", "", "finish", &range, b, y, A_U(o), A_U(b.kind != OCL_ARG_NONE),
             A_F(limit), per_row ? A_ROWS(o) : A_U((uint32_t)n), A_FLAGS);
}

bool ocl_fast_linear(stn_kernel *k) {
    ocl_view a = ocl_view_of(&k->in[0], A_IN(0));
    bool forward = k->op == STN_OP_LINEAR;
    const stn_tensor *weights = k->op == STN_OP_LINEAR_GRAD_W ? &k->out[0] : &k->in[1];
    uint32_t o = weights->dim[0], features = weights->dim[1];
    if (!row_major(k)) {
        return false;
    }
    k->inexact = true;
    k->chunk.images = k->rows;
    if (forward) { /* y[n,o] = x[n,f] w[o,f]^T */
        ocl_range size = {{1, o, features}, 1u, {1, 1, 1}};
        ocl_gemm gemm = {.b_transposed = true, .ld = {features, features, o}};
        ocl_emit_gemm(k, &size, &gemm, a.ref, A_IN(1), A_OUT(0));
        emit_finish(k, k->n_in > 2 ? A_IN(2) : A_NONE, A_OUT(0), k->rows, o, true, STN_LIM_X);
    } else if (k->op == STN_OP_LINEAR_GRAD_X) { /* gx[n,f] = gy[n,o] w[o,f] */
        ocl_range size = {{1, features, o}, 1u, {1, 1, 1}};
        ocl_gemm gemm = {.ld = {o, features, features}};
        ocl_emit_gemm(k, &size, &gemm, a.ref, A_IN(1), A_OUT(0));
        emit_finish(k, A_NONE, A_OUT(0), k->rows, features, true, STN_LIM_G);
    } else { /* gw[o,f] = gy[n,o]^T x[n,f] */
        ocl_range size = {{o, features, 1}, 4u, {1, 1, 1}};
        ocl_gemm gemm = {.a_transposed = true, .ld = {o, features, features}};
        ocl_emit_gemm(k, &size, &gemm, a.ref, A_IN(1), A_OUT(0));
        emit_finish(k, A_NONE, A_OUT(0), o, features, false, STN_LIM_G);
    }
    return true;
}

/* A convolution at work: sizes of its matrices. */
typedef struct fast_conv {
    ocl_geometry g;
    uint32_t patch, pixels, ld; /* C*KH*KW, P, columns of a full chunk */
} fast_conv;

/* Chooses the chunk; false where a matrix would have too many elements for 32-bit indices. */
static bool choose_chunk(stn_kernel *k, fast_conv *f) {
    const ocl_geometry *g = &f->g;
    uint64_t patch = (uint64_t)g->c * g->kh * g->kw, pixels = (uint64_t)g->oh * g->ow;
    uint64_t high = patch > g->o ? patch : g->o, most = UINT64_C(1) << 31;
    if (pixels == 0 || high >= most / pixels) {
        return false;
    }
    uint64_t images = PATCH_FLOATS / (patch * pixels);
    images = images < 1 ? 1 : images > k->rows ? k->rows : images;
    while (high * pixels * images >= most) {
        images = (images + 1) / 2;
    }
    f->patch = (uint32_t)patch;
    f->pixels = (uint32_t)pixels;
    f->ld = (uint32_t)(pixels * images);
    k->chunk.images = (uint32_t)images;
    k->chunk.in = k->op == STN_OP_CONV_GRAD_W ? 3u : 1u;
    k->chunk.out = k->op == STN_OP_CONV_GRAD_W ? 0u : 1u;
    return true;
}

/* Workspace for `rows` rows of a chunk's matrix. */
static ocl_arg matrix(stn_kernel *k, const fast_conv *f, uint32_t rows) {
    return A_WS(ocl_ws(k, (uint64_t)rows * f->ld * 4u));
}

#define GEOMETRY(g)                                                                                \
    A_U((g).c), A_U((g).h), A_U((g).w), A_U((g).o), A_U((g).kh), A_U((g).kw), A_U((g).oh),         \
        A_U((g).ow), A_U((g).sh), A_U((g).sw), A_U((g).ph), A_U((g).pw)

static void emit_patches(stn_kernel *k, const fast_conv *f, ocl_arg x, ocl_arg patches) {
    ocl_range range = {{f->pixels, f->patch, 1}, 1u, {64, 1, 1}};
    OCL_EMIT(k, "fast.cl", "", "patches", &range, x, patches, GEOMETRY(f->g), A_U(f->ld),
             A_ROWS(f->pixels));
}

static void emit_channels(stn_kernel *k, const fast_conv *f, ocl_arg y, ocl_arg maps) {
    ocl_range range = {{f->pixels, f->g.o, 1}, 1u, {64, 1, 1}};
    OCL_EMIT(k, "fast.cl", "", "channels", &range, y, maps, A_U(f->g.o), A_U(f->pixels), A_U(f->ld),
             A_ROWS(f->pixels));
}

static void forward(stn_kernel *k, const fast_conv *f) {
    ocl_arg patches = matrix(k, f, f->patch), maps = matrix(k, f, f->g.o);
    ocl_arg b = k->n_in > 2 ? A_IN(2) : A_NONE;
    uint32_t row = f->g.o * f->pixels;
    ocl_range size = {{f->g.o, f->pixels, f->patch}, 2u, {1, 1, 1}}, items = ocl_items(row, true);
    ocl_gemm gemm = {.ld = {f->patch, f->ld, f->ld}};
    emit_patches(k, f, A_IN(0), patches);
    ocl_emit_gemm(k, &size, &gemm, A_IN(1), patches, maps);
    OCL_EMIT(k, "fast.cl", "", "images", &items, maps, b, A_OUT(0), A_U(f->g.o), A_U(f->pixels),
             A_U(f->ld), A_U(b.kind != OCL_ARG_NONE), A_ROWS(row), A_FLAGS);
}

static void grad_x(stn_kernel *k, const fast_conv *f) {
    ocl_arg patches = matrix(k, f, f->patch), maps = matrix(k, f, f->g.o);
    uint32_t row = f->g.c * f->g.h * f->g.w;
    ocl_range size = {{f->patch, f->pixels, f->g.o}, 2u, {1, 1, 1}}, items = ocl_items(row, true);
    ocl_gemm gemm = {.a_transposed = true, .ld = {f->patch, f->ld, f->ld}};
    emit_channels(k, f, A_IN(0), maps);
    ocl_emit_gemm(k, &size, &gemm, A_IN(1), maps, patches);
    OCL_EMIT(k, "fast.cl", "", "unpatch", &items, patches, A_OUT(0), GEOMETRY(f->g), A_U(f->ld),
             A_ROWS(row), A_FLAGS);
}

static void grad_w(stn_kernel *k, const fast_conv *f) {
    ocl_arg patches = matrix(k, f, f->patch), maps = matrix(k, f, f->g.o);
    ocl_range size = {{f->g.o, f->patch, f->pixels}, 4u, {1, 1, 1}};
    ocl_gemm gemm = {.b_transposed = true, .sums = true, .ld = {f->ld, f->ld, f->patch}};
    emit_channels(k, f, A_IN(0), maps);
    emit_patches(k, f, A_IN(1), patches);
    ocl_emit_gemm(k, &size, &gemm, maps, patches, A_OUT(0));
    emit_finish(k, A_NONE, A_OUT(0), f->g.o, f->patch, false, STN_LIM_G);
    if (k->n_launch > 0) {
        k->launch[k->n_launch - 1]->after = true;
    }
}

bool ocl_fast_conv(stn_kernel *k) {
    const stn_conv_params *p = &k->params.conv;
    ocl_view in = ocl_view_of(&k->in[0], A_IN(0)), out = ocl_view_of(&k->out[0], A_OUT(0));
    ocl_view second = ocl_view_of(&k->in[1], A_IN(1));
    fast_conv f = {0};
    f.g = k->op == STN_OP_CONV          ? ocl_geometry_of(&in, &out, &k->in[1], p)
          : k->op == STN_OP_CONV_GRAD_X ? ocl_geometry_of(&out, &in, &k->in[1], p)
                                        : ocl_geometry_of(&second, &in, &k->out[0], p);
    if (!row_major(k) || !choose_chunk(k, &f)) {
        return false;
    }
    k->inexact = true;
    if (k->op == STN_OP_CONV) {
        forward(k, &f);
    } else if (k->op == STN_OP_CONV_GRAD_X) {
        grad_x(k, &f);
    } else {
        grad_w(k, &f);
    }
    return true;
}
