/* Prepared operators: building the launch list, creating kernels, binding arguments, enqueueing. */
#include "ocl.h"

#include <string.h>

/* --- building --------------------------------------------------------------------------------- */

uint64_t ocl_ws(stn_kernel *k, uint64_t bytes) {
    uint64_t offset = k->workspace;
    if (bytes > (UINT64_C(1) << 44)) {
        k->failed = stn_fail(&k->err, STN_E_UNSUPPORTED, "opencl: workspace too large");
        return 0;
    }
    k->workspace += (bytes + 255u) / 256u * 256u;
    return offset;
}

uint32_t ocl_table(stn_kernel *k, const void *data, uint64_t count) {
    if (k->query || k->failed) {
        return 0;
    }
    if (k->n_table == OCL_MAX_TABLE) {
        k->failed = stn_fail(&k->err, STN_E_FAIL, "opencl: too many tables in one operator");
        return 0;
    }
    cl_int status = CL_SUCCESS;
    /* The runtime copies; CL_MEM_COPY_HOST_PTR takes a pointer to non-const. */
    void *copy = ocl_host->alloc(count * 4u, 0);
    if (copy == NULL) {
        k->failed = stn_fail(&k->err, STN_E_NOMEM, "opencl: out of host memory for a table");
        return 0;
    }
    memcpy(copy, data, (size_t)count * 4u);
    k->table[k->n_table] =
        cl.clCreateBuffer(k->device->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                          (size_t)count * 4u, copy, &status);
    ocl_host->free(copy);
    if (status != CL_SUCCESS) {
        k->table[k->n_table] = NULL;
        k->failed = ocl_fail(&k->err, STN_E_NOMEM, status, "opencl: allocating a table");
        return 0;
    }
    return k->n_table++;
}

ocl_range ocl_items(uint64_t n, bool per_row) {
    ocl_range r = {{n, 1, 1}, per_row ? 1u : 0u, {64, 1, 1}};
    return r;
}

/* A launch at the end of the list; NULL in a query and after a failure. */
static ocl_launch *append(stn_kernel *k, const char *name, const ocl_range *range,
                          const ocl_arg *args, uint32_t n_args) {
    if (k->query || k->failed) {
        return NULL;
    }
    if (k->n_launch == OCL_MAX_LAUNCH || n_args > OCL_MAX_ARGS) {
        k->failed = stn_fail(&k->err, STN_E_FAIL, "opencl: launch list of %s is full", name);
        return NULL;
    }
    ocl_launch *l = ocl_host->alloc(sizeof *l, 0);
    if (l == NULL) {
        k->failed = stn_fail(&k->err, STN_E_NOMEM, "opencl: out of host memory for a launch");
        return NULL;
    }
    memset(l, 0, sizeof *l);
    k->launch[k->n_launch++] = l;
    (void)snprintf(l->name, sizeof l->name, "%s", name);
    l->range = *range;
    l->dims = range->size[2] > 1 || (range->per_row & 4u)   ? 3
              : range->size[1] > 1 || (range->per_row & 2u) ? 2
                                                            : 1;
    l->n_args = n_args;
    memcpy(l->arg, args, n_args * sizeof *args);
    return l;
}

void ocl_emit_(stn_kernel *k, const char *file, const char *options, const char *name,
               const ocl_range *range, const ocl_arg *args, uint32_t n_args) {
    ocl_launch *l = append(k, name, range, args, n_args);
    if (l != NULL) {
        k->failed = ocl_program_get(k->device, file, options, &l->program, &k->err);
    }
}

void ocl_emit_gemm(stn_kernel *k, const ocl_range *range, const ocl_gemm *gemm, ocl_arg a,
                   ocl_arg b, ocl_arg c) {
    ocl_launch *l = append(k, "CLBlastSgemm", range, (const ocl_arg[]){a, b, c}, 3);
    if (l != NULL) {
        l->gemm = *gemm;
    }
}

/* --- kernels ---------------------------------------------------------------------------------- */

/* More local memory than the device has: the runtime would say so at the first launch only. */
static bool local_memory_fits(const stn_device *device, const ocl_launch *l) {
    cl_ulong bytes = 0;
    if (device->local_memory == 0 ||
        cl.clGetKernelWorkGroupInfo(l->kernel, device->id, CL_KERNEL_LOCAL_MEM_SIZE, sizeof bytes,
                                    &bytes, NULL) != CL_SUCCESS) {
        return true;
    }
    return bytes <= device->local_memory && l->work.local_bytes <= device->local_memory;
}

/* Shrinks the work-group to what this kernel allows on this device; false if it must not shrink. */
static bool fit_group(const stn_device *device, ocl_launch *l) {
    size_t limit = 0;
    if ((l->range.per_row & OCL_EXACT) != 0 && !local_memory_fits(device, l)) {
        return false;
    }
    if (cl.clGetKernelWorkGroupInfo(l->kernel, device->id, CL_KERNEL_WORK_GROUP_SIZE, sizeof limit,
                                    &limit, NULL) != CL_SUCCESS ||
        limit == 0) {
        limit = 1;
    }
    if (device->max_group != 0 && device->max_group < limit) {
        limit = (size_t)device->max_group;
    }
    if (device->group_cap != 0 && device->group_cap < limit) {
        limit = (size_t)device->group_cap;
    }
    for (uint32_t d = 0; d < 3; d++) {
        l->range.group[d] = l->range.group[d] == 0 ? 1 : l->range.group[d];
    }
    while ((size_t)l->range.group[0] * l->range.group[1] * l->range.group[2] > limit) {
        if ((l->range.per_row & OCL_EXACT) != 0) {
            return false;
        }
        uint32_t d = l->range.group[2] > 1 ? 2 : l->range.group[1] > 1 ? 1 : 0;
        l->range.group[d] /= 2;
    }
    return true;
}

/* Arguments that never change are set once. */
static cl_int set_constants(ocl_launch *l) {
    cl_uint at = 0;
    cl_int status = CL_SUCCESS;
    for (uint32_t i = 0; i < l->n_args && status == CL_SUCCESS; i++) {
        const ocl_arg *a = &l->arg[i];
        switch (a->kind) {
        case OCL_ARG_U32:
        case OCL_ARG_F32:
            status = cl.clSetKernelArg(l->kernel, at++, 4, &a->v);
            break;
        case OCL_ARG_ROWS:
        case OCL_ARG_SLOT:
        case OCL_ARG_FIRST:
        case OCL_ARG_LIMIT:
            at += 1;
            break;
        case OCL_ARG_STEP:
            at += 4;
            break;
        case OCL_ARG_FLAGS:
            at += 5;
            break;
        default:
            at += 2;
            break;
        }
    }
    return status;
}

int32_t ocl_realise(stn_kernel *k, stn_err *err) {
    for (uint32_t i = 0; i < k->n_launch; i++) {
        ocl_launch *l = k->launch[i];
        if (l->kernel != NULL || l->program == NULL) {
            continue;
        }
        cl_int status = CL_SUCCESS;
        char name[sizeof l->name + 16u];
        STN_TRY(ocl_program_build(k->device, l->program, err));
        ocl_kernel_name(l->program, l->name, name, sizeof name);
        l->kernel = cl.clCreateKernel(l->program->program, name, &status);
        if (status != CL_SUCCESS) {
            l->kernel = NULL;
            return ocl_fail(err, STN_E_FAIL, status, l->name);
        }
        if (!fit_group(k->device, l)) {
            STN_TRY(ocl_op_general(k, err));
            return ocl_realise(k, err);
        }
        status = set_constants(l);
        if (status != CL_SUCCESS) {
            return ocl_fail(err, STN_E_FAIL, status, l->name);
        }
    }
    return STN_OK;
}

/* --- running ---------------------------------------------------------------------------------- */

static cl_int set_buffer(cl_kernel kernel, cl_uint *at, cl_mem mem, uint64_t offset) {
    cl_ulong elements = offset;
    cl_int status = cl.clSetKernelArg(kernel, (*at)++, sizeof mem, &mem);
    if (status == CL_SUCCESS) {
        status = cl.clSetKernelArg(kernel, (*at)++, sizeof elements, &elements);
    }
    return status;
}

static cl_int set_u32(cl_kernel kernel, cl_uint *at, uint32_t value) {
    return cl.clSetKernelArg(kernel, (*at)++, 4, &value);
}

static cl_int set_flags(stn_device *device, cl_kernel kernel, cl_uint *at,
                        const stn_run_args *args) {
    bool wanted = args->flags.buf != NULL;
    float one = 1.0f;
    cl_int status = set_buffer(kernel, at, wanted ? args->flags.buf->mem : device->dummy,
                               wanted ? args->flags.offset / 4u : 0);
    if (status == CL_SUCCESS) {
        status = set_u32(kernel, at, wanted ? args->node : 0);
    }
    if (status == CL_SUCCESS) {
        status = set_u32(kernel, at, wanted ? (uint32_t)args->step->step + 1u : 0);
    }
    return status == CL_SUCCESS ? cl.clSetKernelArg(kernel, (*at)++, 4, &one) : status;
}

static cl_int set_step(cl_kernel kernel, cl_uint *at, const stn_step *step) {
    const uint32_t word[4] = {(uint32_t)step->seed, (uint32_t)(step->seed >> 32),
                              (uint32_t)step->step, (uint32_t)(step->step >> 32)};
    cl_int status = CL_SUCCESS;
    for (uint32_t i = 0; i < 4 && status == CL_SUCCESS; i++) {
        status = set_u32(kernel, at, word[i]);
    }
    return status;
}

static uint32_t rows_of(const stn_kernel *k, const stn_step *step) {
    return step->count < k->rows ? step->count : k->rows;
}

cl_mem ocl_operand(const stn_kernel *k, const ocl_arg *a, const stn_run_args *args,
                   uint64_t *offset) {
    const stn_ref *ref = NULL;
    switch (a->kind) {
    case OCL_ARG_IN:
    case OCL_ARG_OUT:
        ref = a->kind == OCL_ARG_IN ? &args->in[a->v.u] : &args->out[a->v.u];
        *offset = ref->offset / a->size + a->shift;
        return ref->buf->mem;
    case OCL_ARG_WS:
        *offset = (args->workspace.offset + a->v.offset) / a->size;
        return args->workspace.buf->mem;
    default:
        *offset = 0;
        return a->kind == OCL_ARG_TABLE ? k->table[a->v.u] : k->device->dummy;
    }
}

static cl_int set_arg(const stn_stream *stream, const stn_kernel *k, cl_kernel kernel,
                      const ocl_arg *a, const stn_run_args *args, cl_uint *at) {
    uint64_t offset = 0;
    cl_mem mem = NULL;
    float limit = 0.0f;
    switch (a->kind) {
    case OCL_ARG_IN:
    case OCL_ARG_OUT:
    case OCL_ARG_WS:
    case OCL_ARG_TABLE:
    case OCL_ARG_NONE:
        mem = ocl_operand(k, a, args, &offset);
        return set_buffer(kernel, at, mem, offset);
    case OCL_ARG_TICKETS:
        return set_buffer(kernel, at, stream->tickets, 0);
    case OCL_ARG_ROWS:
        return set_u32(kernel, at, rows_of(k, args->step) * a->v.u);
    case OCL_ARG_SLOT:
        return a->v.u < args->step->n_scalars
                   ? cl.clSetKernelArg(kernel, (*at)++, 4, &args->step->scalar[a->v.u])
                   : CL_INVALID_ARG_VALUE;
    case OCL_ARG_FIRST:
        return set_u32(kernel, at, args->step->first * a->v.u);
    case OCL_ARG_LIMIT:
        limit = args->step->partial != 0 ? 0.0f : STN_LIM_G;
        return cl.clSetKernelArg(kernel, (*at)++, 4, &limit);
    case OCL_ARG_STEP:
        return set_step(kernel, at, args->step);
    case OCL_ARG_FLAGS:
        return set_flags(stream->device, kernel, at, args);
    default:
        (*at)++;
        return CL_SUCCESS;
    }
}

static cl_int enqueue(stn_stream *stream, ocl_launch *l, uint32_t rows, cl_event *event) {
    size_t global[3], local[3];
    for (uint32_t d = 0; d < 3; d++) {
        uint64_t n = l->range.size[d] * ((l->range.per_row >> d) & 1u ? rows : 1u);
        local[d] = l->range.group[d];
        global[d] = (size_t)((n + local[d] - 1u) / local[d] * local[d]);
    }
    return cl.clEnqueueNDRangeKernel(stream->queue, l->kernel, l->dims, NULL, global, local, 0,
                                     NULL, event);
}

/* Keeps the first and last event of the run for op_time. */
static void keep_events(stn_kernel *k, cl_event event, bool first) {
    if (first) {
        if (k->first != NULL) {
            (void)cl.clReleaseEvent(k->first);
        }
        if (k->last != NULL) {
            (void)cl.clReleaseEvent(k->last);
            k->last = NULL;
        }
        k->first = event;
        return;
    }
    if (k->last != NULL) {
        (void)cl.clReleaseEvent(k->last);
    }
    k->last = event;
}

int32_t ocl_launch_run(stn_stream *stream, stn_kernel *kernel, ocl_launch *l,
                       const stn_run_args *args, bool first, stn_err *err) {
    stn_device *device = stream->device;
    cl_event event = NULL, *wanted = device->profile ? &event : NULL;
    cl_int status = CL_SUCCESS;
    if (l->program == NULL) {
        status = ocl_gemm_run(stream, kernel, l, args, wanted);
    } else {
        cl_uint at = 0;
        for (uint32_t j = 0; j < l->n_args && status == CL_SUCCESS; j++) {
            status = set_arg(stream, kernel, l->kernel, &l->arg[j], args, &at);
        }
        if (status == CL_SUCCESS) {
            status = enqueue(stream, l, rows_of(kernel, args->step), wanted);
        }
    }
    if (status != CL_SUCCESS) {
        return ocl_stick(stream, STN_E_FAIL, status, l->name, err);
    }
    if (device->profile) {
        keep_events(kernel, event, first);
    }
    return STN_OK;
}

int32_t ocl_op_run(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args, stn_err *err) {
    if (stream->error.code != STN_OK) {
        return ocl_stick(stream, STN_OK, CL_SUCCESS, "", err);
    }
    stn_err local;
    if (ocl_realise(kernel, &local) != STN_OK) {
        stream->error = local;
        return ocl_stick(stream, STN_OK, CL_SUCCESS, "", err);
    }
    if (kernel->chunk.images != 0) {
        return ocl_chunks_run(stream, kernel, args, err);
    }
    for (uint32_t i = 0; i < kernel->n_launch; i++) {
        STN_TRY(ocl_launch_run(stream, kernel, kernel->launch[i], args, i == 0, err));
    }
    return STN_OK;
}

int32_t ocl_op_launches(const stn_kernel *kernel, uint32_t *n, stn_err *err) {
    (void)err;
    *n = kernel->n_launch;
    return STN_OK;
}

int32_t ocl_op_time(stn_stream *stream, stn_kernel *kernel, uint64_t *ns, stn_err *err) {
    *ns = 0;
    if (!stream->device->profile || kernel->first == NULL) {
        return stn_fail(err, STN_E_UNSUPPORTED,
                        "opencl: no times are kept; open the device with profile=true");
    }
    cl_event last = kernel->last != NULL ? kernel->last : kernel->first;
    cl_ulong start = 0, end = 0;
    cl_int status = cl.clWaitForEvents(1, &last);
    if (status == CL_SUCCESS) {
        status = cl.clGetEventProfilingInfo(kernel->first, CL_PROFILING_COMMAND_START, sizeof start,
                                            &start, NULL);
    }
    if (status == CL_SUCCESS) {
        status = cl.clGetEventProfilingInfo(last, CL_PROFILING_COMMAND_END, sizeof end, &end, NULL);
    }
    if (status != CL_SUCCESS) {
        return ocl_fail(err, STN_E_FAIL, status, "opencl: reading a kernel's time");
    }
    *ns = end > start ? end - start : 0;
    return STN_OK;
}

void ocl_launches_free(stn_kernel *kernel) {
    for (uint32_t i = 0; i < kernel->n_launch; i++) {
        if (kernel->launch[i]->kernel != NULL) {
            (void)cl.clReleaseKernel(kernel->launch[i]->kernel);
        }
        ocl_host->free(kernel->launch[i]);
    }
    for (uint32_t i = 0; i < kernel->n_table; i++) {
        (void)cl.clReleaseMemObject(kernel->table[i]);
    }
    kernel->n_launch = 0;
    kernel->n_table = 0;
}

void ocl_op_free(stn_kernel *kernel) {
    if (kernel == NULL) {
        return;
    }
    ocl_launches_free(kernel);
    if (kernel->first != NULL) {
        (void)cl.clReleaseEvent(kernel->first);
    }
    if (kernel->last != NULL) {
        (void)cl.clReleaseEvent(kernel->last);
    }
    ocl_host->free(kernel);
}
