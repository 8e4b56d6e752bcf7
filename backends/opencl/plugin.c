/* The plugin's entry: options, vtable, init. */
#include "ocl.h"

const stn_host *ocl_host;

static int32_t init(const stn_host *host, stn_err *err) {
    (void)err;
    ocl_host = host;
    return STN_OK;
}

static const stn_option_info options[] = {
    {"device-class", "choice:auto,cpu-vector,gpu", "", "auto",
     "kernel class: auto takes cpu-vector for CPU devices and gpu for others"},
    {"math", "choice:exact,fast", "", "exact",
     "fast uses CLBlast for matrix products and convolutions; results are not reproducible"},
    {"cache-dir", "string", "a directory, or none", "",
     "compiled programs are kept here (default $STN_CACHE_DIR or ~/.cache/stn; never on PoCL, "
     "which has its own)"},
    {"min-work", "int", "0..", "1000000",
     "multiply-adds from which a convolution gets a kernel compiled for its shape"},
    {"max-group", "int", "0..4096", "0",
     "use no work-groups larger than this, to try kernels for weak devices; 0: as the device has"},
    {"compute-units", "int", "0..65535", "0",
     "choose tiles as for a device with so many compute units; 0: as the device has"},
    {"profile", "bool", "", "false", "measure the time of every operator on the device"},
};

static const stn_backend backend = {
    .struct_size = (uint32_t)sizeof(stn_backend),
    .device_count = ocl_device_count,
    .device_info = ocl_device_info,
    .device_open = ocl_device_open,
    .device_close = ocl_device_close,
    .device_query = ocl_device_query,
    .buf_alloc = ocl_buf_alloc,
    .buf_free = ocl_buf_free,
    .stream_open = ocl_stream_open,
    .stream_close = ocl_stream_close,
    .write = ocl_write,
    .read = ocl_read,
    .copy = ocl_copy,
    .fill = ocl_fill,
    .flush = ocl_flush,
    .sync = ocl_sync,
    .op_query = ocl_op_query,
    .op_prepare = ocl_op_prepare,
    .op_run = ocl_op_run,
    .op_free = ocl_op_free,
    .prepare_end = ocl_prepare_end,
    .op_time = ocl_op_time,
    .peaks = ocl_peaks,
    .op_launches = ocl_op_launches,
    .op_launch_get = ocl_op_launch_get,
    .host_alloc = ocl_host_alloc,
    .host_free = ocl_host_free,
};

STN_PLUGIN(STN_KIND_BACKEND, "opencl", "0.1.0", "MIT",
           "OpenCL 1.2 devices: GPUs, and CPUs through PoCL or Intel's runtime", options,
           (uint32_t)(sizeof options / sizeof *options), &backend, init, NULL);
