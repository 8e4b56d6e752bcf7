/* The sampler at an affine grid on CPU devices (kernels/vwarp.cl): bilinear, both maps NCHW of few
 * channels or both NC16.
 */
#include "vec.h"

#define MAX_PLANES 4u
#define MAX_ITEMS 64u /* of a launch, each with frames of its own */

static uint32_t padded(uint32_t pixels) {
    return (pixels + 15u) / 16u * 16u;
}

/* Output coordinates of every pixel, along one direction: x if `size` is the width. */
static uint32_t pixel_table(stn_kernel *k, const stn_warp_params *p, bool along_x) {
    uint32_t pixels = p->out_h * p->out_w, n = padded(pixels);
    if (k->query || k->failed) {
        return 0;
    }
    float *t = ocl_host->alloc((uint64_t)n * sizeof *t, 0);
    if (t == NULL) {
        k->failed = stn_fail(&k->err, STN_E_NOMEM, "opencl: out of host memory for a table");
        return 0;
    }
    bool aligned = p->corners == STN_CORNERS_ALIGNED;
    for (uint32_t i = 0; i < n; i++) {
        t[i] = i >= pixels ? 0.0f
               : along_x   ? ocl_warp_coordinate(i % p->out_w, p->out_w, aligned)
                           : ocl_warp_coordinate(i / p->out_w, p->out_h, aligned);
    }
    uint32_t index = ocl_table(k, t, n);
    ocl_host->free(t);
    return index;
}

#define GRID                                                                                       \
    A_IN(theta), A_TABLE(xt), A_TABLE(yt), background, A_U(c), A_U(pixels), A_U(padded(pixels))
#define MAP                                                                                        \
    A_U(p->in_w), A_U(p->in_h), A_F(x->s), A_F(y->s), A_F(x->o), A_F(y->o), A_F(x->per),           \
        A_F(y->per), A_F(x->inv), A_F(y->inv), A_U(p->corners == STN_CORNERS_ALIGNED), A_U(0),     \
        A_U(p->padding)

bool vec_warp(stn_kernel *k, const stn_warp_params *p, const ocl_axis *x, const ocl_axis *y) {
    bool forward = k->op == STN_OP_WARP, to_theta = k->op == STN_OP_WARP_GRAD_THETA;
    bool to_input = k->op == STN_OP_WARP_GRAD_X;
    if (k->device->device_class != OCL_CPU_VECTOR || p->filter != STN_FILTER_BILINEAR ||
        !(forward || to_theta || to_input)) {
        return false;
    }
    const stn_tensor *other = to_theta ? &k->in[1] : &k->out[0];
    uint32_t c = k->in[0].dim[1], pixels = p->out_h * p->out_w, theta = to_theta ? 2 : 1;
    bool blocks = k->in[0].layout == STN_NC16;
    if (other->layout != k->in[0].layout || (!blocks && (to_input || c > MAX_PLANES)) ||
        pixels < 16) {
        return false;
    }
    uint32_t xt = pixel_table(k, p, true), yt = pixel_table(k, p, false);
    ocl_arg background = ocl_warp_background(k, p);
    ocl_range images = {{1, 1, 1}, 1u, {1, 1, 1}};
    if (!blocks) {
        uint64_t frame = (uint64_t)c * (p->in_h + 5u) * (p->in_w + 5u);
        ocl_range items = {{k->rows < MAX_ITEMS ? k->rows : MAX_ITEMS, 1, 1}, 0, {1, 1, 1}};
        ocl_arg frames = A_WS(ocl_ws(k, items.size[0] * frame * 4u));
        if (forward) {
            OCL_EMIT(k, "vwarp.cl", "", "warp_planes", &items, A_IN(0), GRID, frames, A_OUT(0), MAP,
                     A_ROWS(1), A_FLAGS);
        } else {
            OCL_EMIT(k, "vwarp.cl", "", "theta_planes", &items, A_IN(0), A_IN(1), GRID, frames,
                     A_OUT(0), MAP, A_ROWS(1), A_FLAGS);
        }
        return true;
    }
    ocl_arg stage = A_WS(ocl_ws(k, (uint64_t)k->in[0].dim[0] * 8u * padded(pixels) * 4u));
    if (to_theta) {
        OCL_EMIT(k, "vwarp.cl", "", "theta_blocks", &images, A_IN(0), A_IN(1), GRID, stage,
                 A_OUT(0), MAP, A_ROWS(1), A_FLAGS);
        return true;
    }
    OCL_EMIT(k, "vwarp.cl", "", forward ? "warp_blocks" : "grad_blocks", &images, A_IN(0), GRID,
             stage, A_OUT(0), MAP, A_ROWS(1), A_FLAGS);
    return true;
}
