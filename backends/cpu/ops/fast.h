/* Shared by the fast kernels: families, workspace plans, threads and small layout helpers.
 *
 * Every file of this folder is compiled once per instruction set (isa/vec.h). A family offers
 * ISA(<family>)(kernel, threads, impl), which answers as cpu_*_select does.
 */
#ifndef CPU_OPS_FAST_H
#define CPU_OPS_FAST_H

#include "cpu.h"
#include "isa/vec.h"

bool ISA(conv_forward)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(pool)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(bn)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(dropout)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(warp)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(elementwise)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(conv_grad_x)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(linear_block)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(conv_grad_plane)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(linear)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(loss)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(bias_grad)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);
bool ISA(conv_grad_w)(const stn_kernel *k, uint32_t threads, cpu_impl *impl);

/* Takes pieces of the workspace, each 64-byte aligned. With base NULL it only counts, so that one
 * plan function serves the size asked for at selection and the pointers of a run. */
/* Floats left between what two threads write: a processor that reads ahead of the end of its own
 * would take lines away from the other. Input gradient of MNIST's second layer, two threads: 5.6 ms
 * without, 3.3 ms with it. */
#define APART 2048u

typedef struct carver {
    char *base;
    uint64_t used;
} carver;

static inline void *carve(carver *c, uint64_t bytes) {
    void *piece = c->base == NULL ? NULL : c->base + c->used;
    c->used = (c->used + bytes + 63u) / 64u * 64u;
    return piece;
}

static inline uint32_t ceil_div(uint32_t a, uint32_t b) {
    return (a + b - 1u) / b;
}
static inline uint32_t min_u32(uint32_t a, uint32_t b) {
    return a < b ? a : b;
}
static inline uint32_t max_u32(uint32_t a, uint32_t b) {
    return a > b ? a : b;
}

/* Blocks of 16 channels of a tensor of rank 4. */
static inline uint32_t blocks_of(uint32_t channels) {
    return ceil_div(channels, LANES);
}

/* Addressing of a float map of either layout: element (n,c,h,w) lies at
 * n*image + (c/group)*plane + c%group + (h*width + w)*step. */
typedef struct map_addr {
    uint32_t group, step; /* NC16: 16, 16; NCHW: 1, 1 */
    uint64_t image, plane;
} map_addr;

static inline map_addr map_of(uint32_t layout, uint32_t c, uint32_t h, uint32_t w) {
    uint64_t pixels = (uint64_t)h * w;
    if (layout == STN_NC16) {
        return (map_addr){LANES, LANES, blocks_of(c) * pixels * LANES, pixels * LANES};
    }
    return (map_addr){1, 1, c * pixels, pixels};
}
static inline uint64_t map_channel(const map_addr *m, uint32_t c) {
    return c / m->group * m->plane + c % m->group;
}

/* Turns `rows` <= 16 rows of `terms` floats, `pitch` apart: term t of all rows becomes the vector
 * at to + t * step. Lanes of rows that do not exist are +0. */
VEC void turn_rows(const float *from, uint64_t pitch, uint32_t rows, uint32_t terms, float *to,
                   ptrdiff_t step) {
    for (uint32_t t = 0; t < terms; t += LANES) {
        const uint32_t n = min_u32(LANES, terms - t);
        vf r[LANES];
        for (uint32_t j = 0; j < LANES; j++) {
            r[j] = j < rows ? v_load_some(from + j * pitch + t, n) : v_zero();
        }
        v_transpose(r);
        for (uint32_t i = 0; i < n; i++) {
            v_store(to + (ptrdiff_t)(t + i) * step, r[i]);
        }
    }
}

/* Raises the flag of the call if a non-finite value was seen. */
static inline void flag_seen(const cpu_call *call, vi seen) {
    if (v_overflowed(seen)) {
        cpu_flag(call);
    }
}

#endif
