/* Inside of the CPU backend: prepared kernels, kernel sets and the thread pool.
 *
 * A kernel set ("ref", "sse2", "portable", "avx2", "avx512") offers an implementation for an
 * operator, or declines. Sets are asked best first, those the CPU lacks are never asked, and "ref"
 * takes everything, so a set may start with one kernel. All sets give the same bits.
 */
#ifndef CPU_H
#define CPU_H

#include <stdbool.h>

#include <stn/backend.h>
#include <stn/num.h>

typedef struct cpu_pool cpu_pool;

/* Starts threads-1 workers (threads >= 1). The caller of cpu_pool_run is the remaining one. */
int32_t cpu_pool_new(uint32_t threads, cpu_pool **pool, stn_err *err);
void cpu_pool_free(cpu_pool *pool);
uint32_t cpu_pool_threads(const cpu_pool *pool);
/* Runs fn(user, task, thread) for task = 0 .. tasks-1 and waits; tasks are handed out dynamically,
 * thread < threads names the worker. Not reentrant. */
void cpu_pool_run(cpu_pool *pool, uint32_t tasks,
                  void (*fn)(void *user, uint32_t task, uint32_t thread), void *user);

typedef struct cpu_call cpu_call;
typedef void (*cpu_fn)(const cpu_call *call);

/* What a set offers for one operator. `workspace` bytes are handed to every call. */
typedef struct cpu_impl {
    cpu_fn run;
    uint64_t workspace;
    const char *set; /* name of the kernel set */
} cpu_impl;

struct stn_kernel {
    uint32_t op, n_in, n_out;
    stn_op_params params;
    stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
    cpu_impl impl;
    uint64_t ns; /* duration of the last run */
};

struct cpu_call {
    const stn_kernel *kernel;
    const void *in[STN_MAX_IN];
    void *out[STN_MAX_OUT];
    void *workspace; /* 64-byte aligned */
    const stn_step *step;
    uint32_t *flags; /* NULL: no check wanted */
    uint32_t node;
    cpu_pool *pool;
};

/* Marks a non-finite value of this call (contract C6). Any thread. */
void cpu_flag(const cpu_call *call);
/* True while an earlier kernel has set the flag: optimizers and running statistics then do nothing.
 */
bool cpu_flagged(const cpu_call *call);

/* Rows that are real: step->count for batched operands. */
static inline uint32_t cpu_rows(const cpu_call *call) {
    return call->step->count;
}

/* What the gradient of a parameter is snapped by: not at all where it is part of a sum. */
static inline float cpu_grad_limit(const cpu_call *call) {
    return call->step->partial != 0 ? 0.0f : STN_LIM_G;
}

/* Limit of the class that a sum or scaled value belongs to (stn_scale_params). */
static inline float cpu_class_limit(const stn_kernel *kernel) {
    uint32_t class = kernel->params.scale.gradient;
    return class == STN_CLASS_NONE ? 0.0f : class == STN_CLASS_G ? STN_LIM_G : STN_LIM_X;
}

/* Measuring loops of a kernel set (peak.c). */
typedef struct cpu_probe {
    uint32_t flops;                             /* of one round */
    float (*fma)(uint64_t rounds, float start); /* on registers; the result depends on all of it */
    void (*triad)(float *a, const float *b, const float *c, uint64_t n); /* n % 16 = 0 */
    /* Stores, past the caches or through them; n % 16 = 0. NULL in the reference set. */
    void (*store)(float *a, uint64_t n, bool past);
} cpu_probe;
extern const cpu_probe cpu_ref_probe, cpu_sse2_probe, cpu_portable_probe, cpu_avx2_probe,
    cpu_avx512_probe;
/* Best of several runs of the loops on all threads of the pool. */
int32_t cpu_peaks(cpu_pool *pool, const cpu_probe *probe, const stn_host *host, stn_peaks *peaks,
                  stn_err *err);

/* tests/faulty only: one wrong rounding in the result of the operator STN_PLANT_FAULT. */
void cpu_plant_fault(const cpu_call *call);

/* Kernel sets: true and *impl filled if the set implements this kernel (op, params, in, out are
 * set, impl is not) for pools of `threads` threads. */
bool cpu_ref_select(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl);
bool cpu_portable_select(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl);
bool cpu_sse2_select(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl);
bool cpu_avx2_select(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl);
bool cpu_avx512_select(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl);

#endif
