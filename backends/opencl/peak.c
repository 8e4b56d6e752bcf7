/* The peaks of a device, measured with kernels/peak.cl on the host's clock: fused multiply-adds on
 * registers, and a[i] = fma(s, b[i], c[i]) over arrays beyond the caches.
 *
 * The best of several runs counts: other load makes runs slower, never faster. */
#define _POSIX_C_SOURCE 200809L
#include "ocl.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define REPEATS 50u
#define SWEEPS 8u
#define RUN_NS 2e6 /* long beside a launch */
#define MAX_ROUNDS (1u << 26)
#define MIB (UINT64_C(1) << 20)

typedef struct probing {
    stn_device *device;
    stn_stream *stream;
    stn_buf *array[3];
    cl_kernel fma[2], triad;
    cl_uint width; /* floats of a vector */
    /* Work-items, and of a group. On CPUs a group of the first kernel is one item: more would be
     * run as a loop inside the loop of the kernel, with the sums in memory. */
    size_t fma_items, fma_group, items, group;
} probing;

static double now_ns(void) {
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * (double)t.tv_sec + (double)t.tv_nsec;
}

/* How many sums a device needs, and has registers for, is not known: the better one counts. */
static const uint32_t chains[2] = {6, 12};

static int32_t open_kernels(probing *p, stn_err *err) {
    cl_int status = CL_SUCCESS;
    for (uint32_t i = 0; i < 2 && status == CL_SUCCESS; i++) {
        char options[48];
        ocl_program *program;
        (void)snprintf(options, sizeof options, "-DP_WIDTH=%u -DP_CHAINS=R%u", (unsigned)p->width,
                       (unsigned)chains[i]);
        STN_TRY(ocl_program_get(p->device, "peak.cl", options, &program, err));
        STN_TRY(ocl_program_build(p->device, program, err));
        p->fma[i] = cl.clCreateKernel(program->program, "peak_fma", &status);
        if (status == CL_SUCCESS && i == 0) {
            p->triad = cl.clCreateKernel(program->program, "peak_triad", &status);
        }
    }
    return status == CL_SUCCESS ? STN_OK : ocl_fail(err, STN_E_FAIL, status, "opencl: peak.cl");
}

/* Sizes: enough groups to keep every unit busy; arrays of at most 256 MiB each. */
static int32_t open_probing(probing *p, stn_err *err) {
    const stn_device *d = p->device;
    uint64_t bytes = d->info.memory / 16u < 256u * MIB ? d->info.memory / 16u : 256u * MIB;
    bytes = bytes < d->max_alloc ? bytes : d->max_alloc;
    /* As the kernels of the class do it. */
    p->width = d->device_class == OCL_CPU_VECTOR ? 16 : 4;
    p->group = d->max_group < 256 ? (size_t)d->max_group : 256;
    p->fma_group = d->info.is_cpu ? 1 : p->group;
    p->fma_items = p->fma_group * d->info.compute_units * 32u;
    p->items = (size_t)(bytes / (sizeof(float) * p->width)) / p->group * p->group;
    if (p->items < p->fma_items) {
        return stn_fail(err, STN_E_NOMEM, "opencl: %s has too little memory to be measured",
                        d->info.name);
    }
    for (uint32_t i = 0; i < 3; i++) {
        STN_TRY(ocl_buf_alloc(p->device, p->items * sizeof(float) * p->width, &p->array[i], err));
    }
    STN_TRY(ocl_stream_open(p->device, &p->stream, err));
    for (uint32_t i = 0; i < 3; i++) {
        STN_TRY(ocl_fill(p->stream, (stn_ref){p->array[i], 0}, 0, p->array[i]->bytes, err));
    }
    return open_kernels(p, err);
}

/* Nanoseconds of one launch, waited for. */
static int32_t run_ns(probing *p, cl_kernel kernel, double *ns, stn_err *err) {
    bool fma_kernel = kernel != p->triad;
    size_t items = fma_kernel ? p->fma_items : p->items;
    size_t group = fma_kernel ? p->fma_group : p->group;
    STN_TRY(ocl_sync(p->stream, err));
    double start = now_ns();
    cl_int status =
        cl.clEnqueueNDRangeKernel(p->stream->queue, kernel, 1, NULL, &items, &group, 0, NULL, NULL);
    if (status != CL_SUCCESS) {
        return ocl_stick(p->stream, STN_E_FAIL, status, "opencl: measuring the device", err);
    }
    STN_TRY(ocl_sync(p->stream, err));
    *ns = now_ns() - start;
    return STN_OK;
}

static int32_t best_ns(probing *p, cl_kernel kernel, uint32_t repeats, double *best, stn_err *err) {
    for (uint32_t i = 0; i < repeats; i++) {
        double ns;
        STN_TRY(run_ns(p, kernel, &ns, err));
        *best = i == 0 || ns < *best ? ns : *best;
    }
    return STN_OK;
}

static int32_t fma_rate(probing *p, uint32_t which, double *rate, stn_err *err) {
    cl_kernel kernel = p->fma[which];
    double ns = 0.0;
    cl_uint rounds = 16;
    cl_int status = cl.clSetKernelArg(kernel, 0, sizeof p->array[0]->mem, &p->array[0]->mem);
    while (status == CL_SUCCESS && ns < RUN_NS && rounds < MAX_ROUNDS) {
        rounds *= 2;
        status = cl.clSetKernelArg(kernel, 1, sizeof rounds, &rounds);
        if (status == CL_SUCCESS) {
            STN_TRY(run_ns(p, kernel, &ns, err));
        }
    }
    if (status != CL_SUCCESS) {
        return ocl_fail(err, STN_E_FAIL, status, "opencl: peak_fma");
    }
    STN_TRY(best_ns(p, kernel, REPEATS, &ns, err));
    double found = 1e9 * 2.0 * chains[which] * p->width * (double)p->fma_items * rounds / ns;
    *rate = found > *rate ? found : *rate;
    return STN_OK;
}

static int32_t triad_rate(probing *p, double *rate, stn_err *err) {
    double ns = 0.0;
    for (cl_uint i = 0; i < 3; i++) {
        cl_int status = cl.clSetKernelArg(p->triad, i, sizeof p->array[i]->mem, &p->array[i]->mem);
        if (status != CL_SUCCESS) {
            return ocl_fail(err, STN_E_FAIL, status, "opencl: peak_triad");
        }
    }
    STN_TRY(best_ns(p, p->triad, SWEEPS, &ns, err));
    *rate = 1e9 * 3.0 * sizeof(float) * p->width * (double)p->items / ns;
    return STN_OK;
}

int32_t ocl_peaks(stn_device *device, stn_peaks *peaks, stn_err *err) {
    probing p = {.device = device};
    stn_peaks found = {.struct_size = peaks->struct_size};
    int32_t status = open_probing(&p, err);
    for (uint32_t i = 0; i < 2 && status == STN_OK; i++) {
        status = fma_rate(&p, i, &found.flops, err);
    }
    status = status == STN_OK ? triad_rate(&p, &found.bytes, err) : status;
    memcpy(peaks, &found, peaks->struct_size < sizeof found ? peaks->struct_size : sizeof found);
    ocl_stream_close(p.stream);
    for (uint32_t i = 0; i < 3; i++) {
        ocl_buf_free(p.array[i]);
    }
    for (uint32_t i = 0; i < 2; i++) {
        if (p.fma[i] != NULL) {
            (void)cl.clReleaseKernel(p.fma[i]);
        }
    }
    if (p.triad != NULL) {
        (void)cl.clReleaseKernel(p.triad);
    }
    return status;
}
