/* BIAS_GRAD: PLANE16 per image, shards over the batch. Maps in NC16, or features [N,C]. */
#include "gradient.h"

typedef struct plane_sums {
    const cpu_call *call;
    uint32_t blocks, pixels;
    float *plane; /* [N][blocks*16] */
} plane_sums;

static void plane_task(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const plane_sums *p = user;
    const uint64_t block = (uint64_t)p->pixels * LANES;
    const float *gy = (const float *)p->call->in[0] + n * p->blocks * block;
    for (uint32_t b = 0; b < p->blocks; b++) {
        ISA(grad_plane)
        (gy + b * block, p->pixels, p->plane + ((uint64_t)n * p->blocks + b) * LANES);
    }
}

static void run_bias_grad(const cpu_call *call) {
    const stn_tensor *gy = &call->kernel->in[0];
    bias_sum b = {.call = call,
                  .plane = call->in[0],
                  .out = call->out[0],
                  .width = gy->dim[1],
                  .channels = gy->dim[1],
                  .batch = gy->dim[0],
                  .rows = min_u32(cpu_rows(call), gy->dim[0]),
                  .shards = call->kernel->params.reduce.shards};
    if (gy->layout == STN_NC16) {
        plane_sums p = {call, blocks_of(gy->dim[1]), gy->dim[2] * gy->dim[3], call->workspace};
        cpu_pool_run(call->pool, b.rows, plane_task, &p);
        b.plane = p.plane;
        b.width = p.blocks * LANES;
    }
    cpu_pool_run(call->pool, blocks_of(gy->dim[1]), ISA(bias_task), &b);
}

bool ISA(bias_grad)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    (void)threads;
    const stn_tensor *gy = &k->in[0];
    if (gy->layout == STN_NC16) {
        impl->workspace = (uint64_t)gy->dim[0] * blocks_of(gy->dim[1]) * LANES * sizeof(float);
    } else if (gy->dim[2] * gy->dim[3] != 1) {
        return false;
    }
    impl->run = run_bias_grad;
    return k->params.reduce.shards <= GRAD_MAX_SHARDS;
}
