/* Buffers, pinned host memory and in-order streams. Transfers do not block; the first error of a
 * stream sticks. */
#include "ocl.h"

#include <string.h>

int32_t ocl_buf_alloc(stn_device *device, uint64_t bytes, stn_buf **buf, stn_err *err) {
    *buf = NULL;
    if (bytes == 0 || bytes > device->max_alloc || bytes > SIZE_MAX) {
        return stn_fail(err, STN_E_NOMEM,
                        "opencl: a buffer of %llu bytes is not possible on %s (largest: %llu); "
                        "use a smaller batch",
                        (unsigned long long)bytes, device->info.name,
                        (unsigned long long)device->max_alloc);
    }
    stn_buf *b = ocl_host->alloc(sizeof *b, 0);
    if (b == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: out of host memory for a buffer");
    }
    cl_int status = CL_SUCCESS;
    b->device = device;
    b->bytes = bytes;
    b->mem = cl.clCreateBuffer(device->context, CL_MEM_READ_WRITE, (size_t)bytes, NULL, &status);
    if (status != CL_SUCCESS) {
        ocl_host->free(b);
        (void)stn_fail(err, STN_E_NOMEM,
                       "opencl: allocating %llu bytes on %s (largest buffer %llu): %s (%d)",
                       (unsigned long long)bytes, device->info.name,
                       (unsigned long long)device->max_alloc, ocl_error_name(status), (int)status);
        if (err != NULL) {
            err->native = status;
        }
        return STN_E_NOMEM;
    }
    *buf = b;
    return STN_OK;
}

void ocl_buf_free(stn_buf *buf) {
    if (buf != NULL) {
        (void)cl.clReleaseMemObject(buf->mem);
        ocl_host->free(buf);
    }
}

/* Host memory by which a driver copies without a detour: a buffer that stays mapped. */
struct ocl_pinned {
    ocl_pinned *next;
    cl_mem mem;
    void *memory;
};

/* Maps (or, if it is mapped, unmaps) the memory through a queue that lives as long as this takes.
 */
static cl_int map(stn_device *device, ocl_pinned *p, size_t bytes) {
    cl_int status = CL_SUCCESS;
    cl_command_queue queue = cl.clCreateCommandQueue(device->context, device->id, 0, &status);
    if (status != CL_SUCCESS) {
        return status;
    }
    if (p->memory != NULL) {
        status = cl.clEnqueueUnmapMemObject(queue, p->mem, p->memory, 0, NULL, NULL);
    } else {
        p->memory = cl.clEnqueueMapBuffer(queue, p->mem, CL_TRUE, CL_MAP_READ | CL_MAP_WRITE, 0,
                                          bytes, 0, NULL, NULL, &status);
    }
    (void)cl.clFinish(queue);
    (void)cl.clReleaseCommandQueue(queue);
    return status;
}

int32_t ocl_host_alloc(stn_device *device, uint64_t bytes, void **memory, stn_err *err) {
    *memory = NULL;
    if (device->device_class != OCL_GPU) {
        return stn_fail(err, STN_E_UNSUPPORTED, "opencl: %s copies from any memory alike",
                        device->info.name);
    }
    ocl_pinned *p = bytes <= device->max_alloc ? ocl_host->alloc(sizeof *p, 0) : NULL;
    if (p == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: no %llu bytes of pinned memory",
                        (unsigned long long)bytes);
    }
    cl_int status = CL_SUCCESS;
    memset(p, 0, sizeof *p);
    p->mem = cl.clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_ALLOC_HOST_PTR,
                               (size_t)bytes, NULL, &status);
    if (status == CL_SUCCESS) {
        status = map(device, p, (size_t)bytes);
        if (status != CL_SUCCESS) {
            (void)cl.clReleaseMemObject(p->mem);
        }
    }
    if (status != CL_SUCCESS) {
        ocl_host->free(p);
        return ocl_fail(err, STN_E_NOMEM, status, "opencl: pinned memory");
    }
    (void)pthread_mutex_lock(&device->lock);
    p->next = device->pinned;
    device->pinned = p;
    (void)pthread_mutex_unlock(&device->lock);
    *memory = p->memory;
    return STN_OK;
}

void ocl_host_free(stn_device *device, void *memory) {
    (void)pthread_mutex_lock(&device->lock);
    ocl_pinned **at = &device->pinned;
    while (*at != NULL && (*at)->memory != memory) {
        at = &(*at)->next;
    }
    ocl_pinned *p = memory != NULL ? *at : NULL;
    if (p != NULL) {
        *at = p->next;
    }
    (void)pthread_mutex_unlock(&device->lock);
    if (p != NULL) {
        (void)map(device, p, 0);
        (void)cl.clReleaseMemObject(p->mem);
        ocl_host->free(p);
    }
}

int32_t ocl_stream_open(stn_device *device, stn_stream **stream, stn_err *err) {
    *stream = NULL;
    stn_stream *s = ocl_host->alloc(sizeof *s, 0);
    if (s == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: out of host memory for a stream");
    }
    memset(s, 0, sizeof *s);
    cl_int status = CL_SUCCESS;
    s->device = device;
    s->queue = cl.clCreateCommandQueue(device->context, device->id,
                                       device->profile ? CL_QUEUE_PROFILING_ENABLE : 0, &status);
    if (status != CL_SUCCESS) {
        ocl_host->free(s);
        return ocl_fail(err, STN_E_FAIL, status, "opencl: creating a command queue");
    }
    cl_uint zero[2] = {0, 0};
    s->tickets = cl.clCreateBuffer(device->context, CL_MEM_READ_WRITE | CL_MEM_COPY_HOST_PTR,
                                   sizeof zero, zero, &status);
    if (status != CL_SUCCESS) {
        (void)cl.clReleaseCommandQueue(s->queue);
        ocl_host->free(s);
        return ocl_fail(err, STN_E_NOMEM, status, "opencl: allocating a stream's tickets");
    }
    *stream = s;
    return STN_OK;
}

void ocl_stream_close(stn_stream *stream) {
    if (stream != NULL) {
        (void)cl.clFinish(stream->queue);
        (void)cl.clReleaseCommandQueue(stream->queue);
        (void)cl.clReleaseMemObject(stream->tickets);
        ocl_host->free(stream);
    }
}

static int32_t sticky(const stn_stream *stream, stn_err *err) {
    if (stream->error.code != STN_OK && err != NULL) {
        *err = stream->error;
    }
    return stream->error.code;
}

int32_t ocl_stick(stn_stream *stream, int32_t code, cl_int native, const char *what, stn_err *err) {
    if (stream->error.code == STN_OK) {
        (void)ocl_fail(&stream->error, code, native, what);
    }
    return sticky(stream, err);
}

/* Refuses ranges outside the buffer: drivers differ in what they do with them. */
static int32_t check_range(stn_stream *stream, stn_ref ref, uint64_t bytes, stn_err *err) {
    STN_TRY(sticky(stream, err));
    if (ref.buf == NULL || ref.offset > ref.buf->bytes || bytes > ref.buf->bytes - ref.offset) {
        return ocl_stick(stream, STN_E_USAGE, CL_INVALID_VALUE,
                         "opencl: transfer outside its buffer", err);
    }
    return STN_OK;
}

static int32_t result(stn_stream *stream, cl_int status, const char *what, stn_err *err) {
    return status == CL_SUCCESS ? STN_OK : ocl_stick(stream, STN_E_FAIL, status, what, err);
}

int32_t ocl_write(stn_stream *stream, stn_ref dst, const void *src, uint64_t bytes, stn_err *err) {
    STN_TRY(check_range(stream, dst, bytes, err));
    if (bytes == 0) {
        return STN_OK;
    }
    return result(stream,
                  cl.clEnqueueWriteBuffer(stream->queue, dst.buf->mem, CL_FALSE, (size_t)dst.offset,
                                          (size_t)bytes, src, 0, NULL, NULL),
                  "opencl: writing to the device", err);
}

int32_t ocl_read(stn_stream *stream, void *dst, stn_ref src, uint64_t bytes, stn_err *err) {
    STN_TRY(check_range(stream, src, bytes, err));
    if (bytes == 0) {
        return STN_OK;
    }
    return result(stream,
                  cl.clEnqueueReadBuffer(stream->queue, src.buf->mem, CL_FALSE, (size_t)src.offset,
                                         (size_t)bytes, dst, 0, NULL, NULL),
                  "opencl: reading from the device", err);
}

int32_t ocl_copy(stn_stream *stream, stn_ref dst, stn_ref src, uint64_t bytes, stn_err *err) {
    STN_TRY(check_range(stream, dst, bytes, err));
    STN_TRY(check_range(stream, src, bytes, err));
    if (bytes == 0 || (src.buf == dst.buf && src.offset == dst.offset)) {
        return STN_OK;
    }
    return result(stream,
                  cl.clEnqueueCopyBuffer(stream->queue, src.buf->mem, dst.buf->mem,
                                         (size_t)src.offset, (size_t)dst.offset, (size_t)bytes, 0,
                                         NULL, NULL),
                  "opencl: copying on the device", err);
}

int32_t ocl_fill(stn_stream *stream, stn_ref dst, uint32_t word, uint64_t bytes, stn_err *err) {
    STN_TRY(check_range(stream, dst, bytes, err));
    uint64_t whole = bytes / 4u * 4u;
    cl_int status = CL_SUCCESS;
    if (whole > 0) {
        status = cl.clEnqueueFillBuffer(stream->queue, dst.buf->mem, &word, sizeof word,
                                        (size_t)dst.offset, (size_t)whole, 0, NULL, NULL);
    }
    unsigned char byte[4];
    memcpy(byte, &word, sizeof word);
    for (uint64_t i = whole; i < bytes && status == CL_SUCCESS; i++) {
        status = cl.clEnqueueFillBuffer(stream->queue, dst.buf->mem, &byte[i - whole], 1,
                                        (size_t)(dst.offset + i), 1, 0, NULL, NULL);
    }
    return result(stream, status, "opencl: filling on the device", err);
}

int32_t ocl_flush(stn_stream *stream, stn_err *err) {
    STN_TRY(sticky(stream, err));
    return result(stream, cl.clFlush(stream->queue), "opencl: handing over work", err);
}

int32_t ocl_sync(stn_stream *stream, stn_err *err) {
    cl_int status = cl.clFinish(stream->queue);
    STN_TRY(sticky(stream, err));
    return result(stream, status, "opencl: waiting for the device", err);
}
