/* Shared parts of the scalar reference: selection, tasks, orders of summation. */
#include "ref.h"

typedef struct job {
    const cpu_call *call;
    void (*fn)(const cpu_call *call, uint32_t task);
} job;

static void run_task(void *user, uint32_t task, uint32_t thread) {
    const job *j = user;
    (void)thread;
    j->fn(j->call, task);
}

void ref_parallel(const cpu_call *call, uint64_t tasks,
                  void (*fn)(const cpu_call *call, uint32_t task)) {
    job j = {call, fn};
    cpu_pool_run(call->pool, (uint32_t)tasks, run_task, &j);
}

void ref_clear_padding(const cpu_call *call, uint32_t i, uint32_t rows) {
    const stn_tensor *t = &call->kernel->out[i];
    if (t->layout != STN_NC16) {
        return;
    }
    size_t size = t->dtype == STN_U8 ? 1 : 4;
    uint32_t end = (t->dim[1] + 15u) / 16u * 16u;
    for (uint32_t n = 0; n < rows; n++) {
        for (uint32_t c = t->dim[1]; c < end; c++) {
            for (uint32_t hw = 0; hw < ref_plane_size(t); hw++) {
                memset((uint8_t *)call->out[i] + stn_tensor_at(t, n, c, hw) * size, 0, size);
            }
        }
    }
}

float ref_lanes_fold(ref_lanes *sum) {
    for (uint32_t s = STN_PLANE_LANES / 2; s > 0; s /= 2) {
        for (uint32_t j = 0; j < s; j++) {
            sum->lane[j] = sum->lane[j] + sum->lane[j + s];
        }
    }
    return sum->lane[0];
}

float ref_shard_tree(float *sum, uint32_t shards) {
    for (uint32_t n = shards; n > 1; n /= 2) {
        for (uint32_t i = 0; i < n / 2; i++) {
            sum[i] = sum[2 * i] + sum[2 * i + 1];
        }
    }
    return sum[0];
}

bool cpu_ref_select(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl) {
    static cpu_fn (*const families[])(uint32_t op) = {
        ref_conv_fn,        ref_linear_fn,    ref_pool_fn,    ref_act_fn,
        ref_bn_fn,          ref_warp_fn,      ref_compose_fn, ref_loss_fn,
        ref_elementwise_fn, ref_optimizer_fn, ref_block_fn};
    (void)threads;
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++) {
        cpu_fn run = families[i](kernel->op);
        if (run != NULL) {
            impl->run = run;
            impl->workspace = ref_block_workspace(kernel);
            return true;
        }
    }
    return false;
}
