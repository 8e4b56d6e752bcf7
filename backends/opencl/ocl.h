/* Inside of the OpenCL backend: entry points, devices, programs, launches.
 *
 * A prepared operator (stn_kernel) is a short list of launches. A launch names a program (a kernel
 * file plus build options), a kernel in it, a global range and its arguments as data: op files
 * (ops/op_*.c) only fill these in, run.c binds buffers and step values and enqueues. No op file
 * calls OpenCL.
 */
#ifndef OCL_H
#define OCL_H

#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>

#include <pthread.h>
#include <stdbool.h>

#include <stn/backend.h>
#include <stn/num.h>

/* --- entry points (dl.c) ---------------------------------------------------------------------- */
#define OCL_ENTRY_POINTS(X)                                                                        \
    X(clGetPlatformIDs)                                                                            \
    X(clGetPlatformInfo)                                                                           \
    X(clGetDeviceIDs)                                                                              \
    X(clGetDeviceInfo)                                                                             \
    X(clCreateContext)                                                                             \
    X(clReleaseContext)                                                                            \
    X(clCreateCommandQueue)                                                                        \
    X(clReleaseCommandQueue)                                                                       \
    X(clCreateBuffer)                                                                              \
    X(clReleaseMemObject)                                                                          \
    X(clCreateProgramWithSource)                                                                   \
    X(clCreateProgramWithBinary)                                                                   \
    X(clBuildProgram)                                                                              \
    X(clGetProgramInfo)                                                                            \
    X(clGetProgramBuildInfo)                                                                       \
    X(clReleaseProgram)                                                                            \
    X(clCreateKernel)                                                                              \
    X(clSetKernelArg)                                                                              \
    X(clGetKernelWorkGroupInfo)                                                                    \
    X(clReleaseKernel)                                                                             \
    X(clEnqueueNDRangeKernel)                                                                      \
    X(clEnqueueWriteBuffer)                                                                        \
    X(clEnqueueReadBuffer)                                                                         \
    X(clEnqueueCopyBuffer)                                                                         \
    X(clEnqueueFillBuffer)                                                                         \
    X(clEnqueueMapBuffer)                                                                          \
    X(clEnqueueUnmapMemObject)                                                                     \
    X(clGetEventProfilingInfo)                                                                     \
    X(clWaitForEvents)                                                                             \
    X(clReleaseEvent)                                                                              \
    X(clFlush)                                                                                     \
    X(clFinish)

typedef struct ocl_api {
#define OCL_MEMBER(name) __typeof__(&name) name;
    OCL_ENTRY_POINTS(OCL_MEMBER)
#undef OCL_MEMBER
} ocl_api;

/* The functions of libOpenCL, valid after ocl_load returned true. */
extern ocl_api cl;
/* Opens libOpenCL once. false: there is none, *why says what is missing. Any thread. */
bool ocl_load(const char **why);

/* --- errors (error.c) ------------------------------------------------------------------------- */
const char *ocl_error_name(cl_int code);
/* Fails with `code`, the CL error by name and number, and err->native set. */
int32_t ocl_fail(stn_err *err, int32_t code, cl_int native, const char *what);

extern const stn_host *ocl_host;
void ocl_log(int32_t level, const char *format, ...);

/* --- devices (device.c) ----------------------------------------------------------------------- */
enum { OCL_AUTO = 0, OCL_CPU_VECTOR = 1, OCL_GPU = 2 };

typedef struct ocl_program ocl_program;
typedef struct ocl_pinned ocl_pinned;

struct stn_device {
    uint32_t index;
    cl_platform_id platform;
    cl_device_id id;
    cl_context context;
    uint32_t device_class; /* OCL_CPU_VECTOR or OCL_GPU */
    bool fast_math, profile;
    bool wide;       /* its vectors are of 16 floats */
    bool nv_options; /* its compiler takes NVIDIA's options */
    bool clblast;    /* holds CLBlast open */
    uint64_t max_group, max_alloc, local_memory;
    uint64_t group_cap;  /* no larger work-groups, from the options; 0: no cap */
    uint64_t min_work;   /* multiply-adds from which a kernel of its own is compiled for a shape */
    cl_mem dummy;        /* stands for missing operands */
    char cache_dir[512]; /* empty: no binary cache */
    stn_device_info info;
    pthread_mutex_t lock; /* guards programs and pinned */
    ocl_program *programs;
    ocl_pinned *pinned;
};

struct stn_buf {
    stn_device *device;
    cl_mem mem;
    uint64_t bytes;
};

struct stn_stream {
    stn_device *device;
    cl_command_queue queue;
    cl_mem tickets; /* two words, zero between launches: vec.cl, FOR_JOBS */
    stn_err error;  /* first error, code 0 while there is none */
};

int32_t ocl_device_count(uint32_t *count, stn_err *err);
int32_t ocl_device_info(uint32_t index, stn_device_info *info, stn_err *err);
int32_t ocl_device_open(uint32_t index, const stn_options *options, stn_device **device,
                        stn_err *err);
void ocl_device_close(stn_device *device);
/* Measures the device's peaks with kernels of its own (peak.c). */
int32_t ocl_peaks(stn_device *device, stn_peaks *peaks, stn_err *err);
int32_t ocl_device_query(stn_device *device, stn_device_info *info, stn_err *err);

/* --- memory and streams (stream.c) ------------------------------------------------------------ */
int32_t ocl_buf_alloc(stn_device *device, uint64_t bytes, stn_buf **buf, stn_err *err);
void ocl_buf_free(stn_buf *buf);
int32_t ocl_host_alloc(stn_device *device, uint64_t bytes, void **memory, stn_err *err);
void ocl_host_free(stn_device *device, void *memory);
int32_t ocl_stream_open(stn_device *device, stn_stream **stream, stn_err *err);
void ocl_stream_close(stn_stream *stream);
int32_t ocl_write(stn_stream *stream, stn_ref dst, const void *src, uint64_t bytes, stn_err *err);
int32_t ocl_read(stn_stream *stream, void *dst, stn_ref src, uint64_t bytes, stn_err *err);
int32_t ocl_copy(stn_stream *stream, stn_ref dst, stn_ref src, uint64_t bytes, stn_err *err);
int32_t ocl_fill(stn_stream *stream, stn_ref dst, uint32_t word, uint64_t bytes, stn_err *err);
int32_t ocl_flush(stn_stream *stream, stn_err *err);
int32_t ocl_sync(stn_stream *stream, stn_err *err);
/* Makes `code` the stream's error unless it has one, fills err and returns it. */
int32_t ocl_stick(stn_stream *stream, int32_t code, cl_int native, const char *what, stn_err *err);

/* --- programs (program.c, cache.c) ------------------------------------------------------------ */
typedef struct ocl_source {
    const char *name, *text;
    uint64_t size;
} ocl_source;
extern const ocl_source ocl_sources[]; /* generated; ends with a NULL name */

struct ocl_program {
    ocl_program *next;
    char file[32], options[320];
    cl_program program; /* NULL until compiled */
    bool shared;        /* another of the list releases it */
    uint32_t unit;      /* number among those compiled together */
};

/* What is compiled, and under which name it is kept. */
typedef struct ocl_text {
    const char *name, *options;
    char *at;
    size_t size;
} ocl_text;

/* The device's program of (file, options), noted for compilation. options: "-DNAME=VALUE ...". */
int32_t ocl_program_get(stn_device *device, const char *file, const char *options,
                        ocl_program **program, stn_err *err);
/* Compiles (or loads from the cache) if that has not been done. */
int32_t ocl_program_build(stn_device *device, ocl_program *program, stn_err *err);
/* Name of a kernel in its program, as clCreateKernel wants it. */
void ocl_kernel_name(const ocl_program *program, const char *name, char *out, size_t size);
void ocl_programs_free(stn_device *device);
int32_t ocl_prepare_end(stn_device *device,
                        void (*progress)(void *user, uint32_t done, uint32_t total), void *user,
                        stn_err *err);

/* Binary cache: NULL on any doubt. */
cl_program ocl_cache_load(stn_device *device, const ocl_text *text);
void ocl_cache_store(stn_device *device, const ocl_text *text, cl_program built);
/* Chooses the directory: the option if given, else STN_CACHE_DIR, else ~/.cache/stn; empty where
 * the platform caches by itself. */
void ocl_cache_choose(stn_device *device, const char *option);

/* --- launches (launch.c) ---------------------------------------------------------------------- */
/* Buffers become two kernel arguments, pointer and offset in elements; FLAGS becomes five
 * (pointer, offset, node, step + 1 or 0 if no check is wanted, 1.0f). */
enum {
    OCL_ARG_IN,
    OCL_ARG_OUT,
    OCL_ARG_WS,    /* workspace, u64 = byte offset */
    OCL_ARG_TABLE, /* constant table of the kernel, index */
    OCL_ARG_NONE,  /* missing buffer */
    OCL_ARG_U32,
    OCL_ARG_F32,
    OCL_ARG_ROWS,    /* rows * u, rows = min(count, kernel's rows) */
    OCL_ARG_SLOT,    /* scalar of the step */
    OCL_ARG_FIRST,   /* first * u, first = number of row 0 in the whole batch */
    OCL_ARG_TICKETS, /* of the stream */
    OCL_ARG_LIMIT,   /* f32 that snaps a parameter's gradient: class G, or 0 in a micro-batch */
    OCL_ARG_STEP,    /* four u32: seed lo, hi, step lo, hi */
    OCL_ARG_FLAGS
};

typedef struct ocl_arg {
    uint32_t kind;
    uint32_t size;  /* bytes of an element (buffers) */
    uint32_t shift; /* elements to skip (buffers) */
    union {
        uint32_t u;
        float f;
        uint64_t offset;
    } v;
} ocl_arg;

#define A_IN(i) ((ocl_arg){OCL_ARG_IN, 4, 0, {.u = (i)}})
#define A_IN8(i) ((ocl_arg){OCL_ARG_IN, 1, 0, {.u = (i)}})
#define A_OUT(i) ((ocl_arg){OCL_ARG_OUT, 4, 0, {.u = (i)}})
#define A_OUT8(i) ((ocl_arg){OCL_ARG_OUT, 1, 0, {.u = (i)}})
#define A_WS(o) ((ocl_arg){OCL_ARG_WS, 4, 0, {.offset = (o)}})
#define A_WS8(o) ((ocl_arg){OCL_ARG_WS, 8, 0, {.offset = (o)}})
#define A_TABLE(i) ((ocl_arg){OCL_ARG_TABLE, 4, 0, {.u = (i)}})
#define A_NONE ((ocl_arg){OCL_ARG_NONE, 4, 0, {.u = 0}})
#define A_U(x) ((ocl_arg){OCL_ARG_U32, 4, 0, {.u = (x)}})
#define A_F(x) ((ocl_arg){OCL_ARG_F32, 4, 0, {.f = (x)}})
#define A_ROWS(x) ((ocl_arg){OCL_ARG_ROWS, 4, 0, {.u = (x)}})
#define A_SLOT(x) ((ocl_arg){OCL_ARG_SLOT, 4, 0, {.u = (x)}})
#define A_FIRST(x) ((ocl_arg){OCL_ARG_FIRST, 4, 0, {.u = (x)}})
#define A_TICKETS ((ocl_arg){OCL_ARG_TICKETS, 4, 0, {.u = 0}})
#define A_LIMIT ((ocl_arg){OCL_ARG_LIMIT, 4, 0, {.u = 0}})
#define A_STEP ((ocl_arg){OCL_ARG_STEP, 4, 0, {.u = 0}})
#define A_FLAGS ((ocl_arg){OCL_ARG_FLAGS, 4, 0, {.u = 0}})

#define OCL_MAX_ARGS 48u
#define OCL_MAX_LAUNCH 10u
#define OCL_MAX_TABLE 3u

/* Work items in each dimension: size[d], times count where per_row has bit d, rounded up to a
 * multiple of group[d] (0: one). Kernels check their bounds. With OCL_EXACT in per_row groups must
 * have this very size; where the device cannot have them, the whole operator takes the general
 * kernels. */
#define OCL_EXACT 8u
typedef struct ocl_range {
    uint64_t size[3];
    uint32_t per_row;
    uint32_t group[3];
} ocl_range;

/* A matrix product by CLBlast, row-major: c[m,n] = op(a) op(b), or added to c. The launch's range
 * holds m, n, k (those of per_row times the rows of the run), its arguments are a, b, c. */
typedef struct ocl_gemm {
    bool a_transposed, b_transposed;
    bool sums;      /* over the chunks of images: the first one sets c, the others add */
    uint32_t ld[3]; /* leading dimensions of a, b, c as stored */
    float beta;     /* of the run at work */
} ocl_gemm;

/* Work of a launch where its operands do not tell it: see stn_launch. */
typedef struct ocl_tile_work {
    uint64_t flops, loads;
    uint32_t registers, local_bytes;
} ocl_tile_work;

typedef struct ocl_launch {
    ocl_program *program; /* NULL: a matrix product */
    ocl_gemm gemm;
    bool after; /* runs once, after the last chunk of images */
    char name[40];
    ocl_range range;
    uint32_t dims;
    uint32_t n_args;
    ocl_arg arg[OCL_MAX_ARGS];
    cl_kernel kernel; /* NULL until the first run or prepare_end */
    ocl_tile_work work;
} ocl_launch;

typedef stn_op_params ocl_params;

/* `failed` is sticky while an op file builds the list; in a query (query = true) nothing is kept
 * but the workspace size. */
struct stn_kernel {
    stn_device *device;
    uint32_t op, n_in, n_out;
    ocl_params params;
    stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
    uint32_t rows; /* most rows of the batch: dim[0] of the batched operand */
    bool query;
    bool general; /* no kernels with groups of exact size */
    bool inexact; /* set by a --math fast kernel */
    int32_t failed;
    stn_err err;
    uint64_t workspace;
    uint32_t n_launch, n_table;
    ocl_launch *launch[OCL_MAX_LAUNCH];
    cl_mem table[OCL_MAX_TABLE];
    cl_event first, last; /* profiling */
    /* --math fast: the launches are repeated for every `images` rows of the batch (0: one run for
     * all), with the operands of these bits moved to their rows. */
    struct {
        uint32_t images, in, out;
    } chunk;
};

/* Reserves workspace and returns its byte offset (a multiple of 256). */
uint64_t ocl_ws(stn_kernel *k, uint64_t bytes);
/* Uploads a table of 32-bit words that lives as long as the operator; returns its index. */
uint32_t ocl_table(stn_kernel *k, const void *data, uint64_t count);
/* Appends a launch. */
void ocl_emit_(stn_kernel *k, const char *file, const char *options, const char *name,
               const ocl_range *range, const ocl_arg *args, uint32_t n_args);
#define OCL_EMIT(k, file, options, name, range, ...)                                               \
    ocl_emit_(k, file, options, name, range, (const ocl_arg[]){__VA_ARGS__},                       \
              (uint32_t)(sizeof((const ocl_arg[]){__VA_ARGS__}) / sizeof(ocl_arg)))
/* Says what the launch appended last does (model.c). */
void ocl_work(stn_kernel *k, ocl_tile_work work);
/* Appends a matrix product; range: m, n, k. */
void ocl_emit_gemm(stn_kernel *k, const ocl_range *range, const ocl_gemm *gemm, ocl_arg a,
                   ocl_arg b, ocl_arg c);
/* Adds the launch that copies flag word 0 to workspace, and returns that place: what the operator
 * obeys, whatever its own items flag meanwhile. */
ocl_arg ocl_emit_gate(stn_kernel *k);
/* One item for each of n (times count if per_row). */
ocl_range ocl_items(uint64_t n, bool per_row);

/* --- operators (ops/) ------------------------------------------------------------------------- */
/* A tensor operand: where it is and its shape as N, C, P = H*W. */
typedef struct ocl_view {
    ocl_arg ref;
    uint32_t layout, n, c, h, w;
} ocl_view;

ocl_view ocl_view_of(const stn_tensor *t, ocl_arg ref);
static inline uint32_t ocl_padded(const ocl_view *v) { /* stored channels */
    return v->layout == STN_NC16 ? (v->c + 15u) / 16u * 16u : v->c;
}
static inline uint64_t ocl_row(const ocl_view *v) { /* stored elements of one image */
    return (uint64_t)ocl_padded(v) * v->h * v->w;
}

/* Each fills k with launches (or only the workspace in a query); false: not supported. */
typedef bool (*ocl_op_fn)(stn_kernel *k);
bool ocl_op_conv(stn_kernel *k);
bool ocl_op_linear(stn_kernel *k);
bool ocl_op_linear_block(stn_kernel *k);
bool ocl_op_bias_grad(stn_kernel *k);
bool ocl_op_pool(stn_kernel *k);
bool ocl_op_elementwise(stn_kernel *k);
bool ocl_op_bn(stn_kernel *k);
bool ocl_op_warp(stn_kernel *k);
bool ocl_op_compose(stn_kernel *k);
bool ocl_op_loss(stn_kernel *k);
bool ocl_op_opt(stn_kernel *k);
bool ocl_op_block(stn_kernel *k);

/* Parts shared by several operators. */
void ocl_emit_bias_grad(stn_kernel *k, ocl_view gy, ocl_arg gb, uint32_t shards);
/* Parameters' gradients: balanced trees over `shards` rows of n + n2 floats. */
void ocl_emit_tree(stn_kernel *k, uint64_t part, ocl_arg out, uint32_t n, ocl_arg out2, uint32_t n2,
                   uint32_t shards);

int32_t ocl_op_query(stn_device *device, const stn_op_desc *desc, stn_support *support,
                     stn_err *err);
int32_t ocl_op_prepare(stn_device *device, const stn_op_desc *desc, stn_kernel **kernel,
                       stn_err *err);
int32_t ocl_op_run(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args, stn_err *err);
void ocl_op_free(stn_kernel *kernel);
/* Binds and enqueues one launch; first: the first of this run (profiling). */
int32_t ocl_launch_run(stn_stream *stream, stn_kernel *kernel, ocl_launch *launch,
                       const stn_run_args *args, bool first, stn_err *err);
/* The memory of a buffer argument, and its offset in elements. */
cl_mem ocl_operand(const stn_kernel *kernel, const ocl_arg *arg, const stn_run_args *args,
                   uint64_t *offset);
int32_t ocl_op_launch_get(stn_kernel *kernel, uint32_t index, stn_launch *launch, stn_err *err);
int32_t ocl_op_launches(const stn_kernel *kernel, uint32_t *n, stn_err *err);
int32_t ocl_op_time(stn_stream *stream, stn_kernel *kernel, uint64_t *ns, stn_err *err);
/* Creates the cl_kernels of a launch list, compiling what is not compiled. */
int32_t ocl_realise(stn_kernel *kernel, stn_err *err);
/* Releases launches and tables, for ocl_op_general and ocl_op_free. */
void ocl_launches_free(stn_kernel *kernel);
/* Builds the launch list anew from general kernels. */
int32_t ocl_op_general(stn_kernel *kernel, stn_err *err);

/* --- --math fast (clblast.c, ops/fast.c) ------------------------------------------------------ */
/* Opens CLBlast for one more device; E_NODEVICE where it is not installed. */
int32_t ocl_clblast_open(stn_err *err);
/* The device is closed: the last one drops what CLBlast keeps compiled. */
void ocl_clblast_close(void);
/* Enqueues the matrix product of a launch. Compiles what this device has not seen yet and
 * allocates temporary memory: CLBlast offers no other way. */
cl_int ocl_gemm_run(stn_stream *stream, const stn_kernel *kernel, const ocl_launch *launch,
                    const stn_run_args *args, cl_event *event);
/* Enqueues the launches for each chunk of images. */
int32_t ocl_chunks_run(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args,
                       stn_err *err);
/* Convolution and linear layers, forward and gradients; row-major operands only. */
bool ocl_fast_conv(stn_kernel *k);
bool ocl_fast_linear(stn_kernel *k);

#endif
