/* dlsym on this library finds the functions below first and all others in libOpenCL, with which it
 * is linked. See count_opencl.h. */
#define _GNU_SOURCE
#define CL_TARGET_OPENCL_VERSION 120
#include "count_opencl.h"

#include <CL/cl.h>
#include <dlfcn.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

static opencl_counts counts;

EXPORT const opencl_counts *count_opencl(void);
const opencl_counts *count_opencl(void) {
    return &counts;
}

/* The function of this name in the libraries behind this one. */
static void *behind(const char *name) {
    return dlsym(RTLD_NEXT, name);
}
#define CALL(name, ...)                                                                            \
    __typeof__(&name) next = NULL;                                                                 \
    void *symbol = behind(#name);                                                                  \
    memcpy(&next, &symbol, sizeof next);                                                           \
    return next(__VA_ARGS__)

EXPORT cl_mem clCreateBuffer(cl_context context, cl_mem_flags flags, size_t size, void *data,
                             cl_int *status) {
    counts.create++;
    CALL(clCreateBuffer, context, flags, size, data, status);
}

EXPORT cl_command_queue clCreateCommandQueue(cl_context context, cl_device_id device,
                                             cl_command_queue_properties properties,
                                             cl_int *status) {
    counts.create++;
    CALL(clCreateCommandQueue, context, device, properties, status);
}

EXPORT cl_program clCreateProgramWithSource(cl_context context, cl_uint n, const char **text,
                                            const size_t *size, cl_int *status) {
    counts.create++;
    CALL(clCreateProgramWithSource, context, n, text, size, status);
}

EXPORT cl_program clCreateProgramWithBinary(cl_context context, cl_uint n,
                                            const cl_device_id *devices, const size_t *size,
                                            const unsigned char **binary, cl_int *binary_status,
                                            cl_int *status) {
    counts.create++;
    CALL(clCreateProgramWithBinary, context, n, devices, size, binary, binary_status, status);
}

EXPORT cl_int clBuildProgram(cl_program program, cl_uint n, const cl_device_id *devices,
                             const char *options, void(CL_CALLBACK *notify)(cl_program, void *),
                             void *user) {
    counts.build++;
    CALL(clBuildProgram, program, n, devices, options, notify, user);
}

EXPORT cl_kernel clCreateKernel(cl_program program, const char *name, cl_int *status) {
    counts.create++;
    CALL(clCreateKernel, program, name, status);
}

EXPORT cl_int clEnqueueNDRangeKernel(cl_command_queue queue, cl_kernel kernel, cl_uint dims,
                                     const size_t *offset, const size_t *global,
                                     const size_t *local, cl_uint n, const cl_event *events,
                                     cl_event *event) {
    counts.launch++;
    CALL(clEnqueueNDRangeKernel, queue, kernel, dims, offset, global, local, n, events, event);
}

EXPORT cl_int clEnqueueReadBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                  size_t offset, size_t size, void *data, cl_uint n,
                                  const cl_event *events, cl_event *event) {
    counts.read++;
    counts.wait += blocking ? 1 : 0;
    CALL(clEnqueueReadBuffer, queue, buffer, blocking, offset, size, data, n, events, event);
}

EXPORT cl_int clEnqueueWriteBuffer(cl_command_queue queue, cl_mem buffer, cl_bool blocking,
                                   size_t offset, size_t size, const void *data, cl_uint n,
                                   const cl_event *events, cl_event *event) {
    counts.write++;
    counts.wait += blocking ? 1 : 0;
    CALL(clEnqueueWriteBuffer, queue, buffer, blocking, offset, size, data, n, events, event);
}

EXPORT cl_int clWaitForEvents(cl_uint n, const cl_event *events) {
    counts.wait++;
    CALL(clWaitForEvents, n, events);
}

EXPORT cl_int clFinish(cl_command_queue queue) {
    counts.wait++;
    CALL(clFinish, queue);
}
