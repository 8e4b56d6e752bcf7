/* Backend ABI: devices, memory, streams and prepared operators.
 *
 * Life of an operator: op_query says whether a combination of shapes and layouts is supported and
 * never compiles; op_prepare compiles everything; op_run only enqueues. Nothing in op_run
 * allocates, reads files or waits for the device.
 *
 * Threads: device entries may be called from any thread; a stream and the kernels run on it belong
 * to one thread at a time. Entries marked [required] must be set, others may be NULL or missing.
 */
#ifndef STN_BACKEND_H
#define STN_BACKEND_H

#include <stn/op.h>
#include <stn/plugin.h>

typedef struct stn_device stn_device;
typedef struct stn_buf stn_buf;
typedef struct stn_stream stn_stream;
typedef struct stn_kernel stn_kernel;

/* Facts about a device. Strings are cut to fit and always terminated. */
typedef struct stn_device_info {
    uint32_t struct_size;
    uint32_t is_cpu;        /* 1: a CPU (never chosen by accident where a GPU was meant) */
    uint32_t layout;        /* layout the backend prefers for feature maps, STN_NCHW or STN_NC16 */
    uint32_t compute_units; /* threads or OpenCL compute units */
    uint64_t memory, max_alloc; /* bytes; max_alloc bounds one buffer */
    uint64_t capabilities;      /* bits of STN_CAP_* */
    char name[128], vendor[64], driver[64], platform[64];
    char id[96];      /* stable id "vendor:model[:uuid or pci]", lower case, no blanks */
    char variant[32]; /* kernel class in use once opened: "ref", "avx2", "cpu-vector", "gpu" ... */
} stn_device_info;

/* Recorded, never gating. */
#define STN_CAP_FMA 1u
#define STN_CAP_CORRECT_DIVIDE 2u
#define STN_CAP_SUBNORMALS 4u
#define STN_CAP_UNIFIED_MEMORY 8u
/* op_run obeys `first` and `partial` of a step and STN_CLASS_NONE, since minor 2; without this bit
 * a batch is never split. */
#define STN_CAP_MICRO_BATCHES 16u

/* Bytes inside a buffer; offset is a multiple of 256. */
typedef struct stn_ref {
    stn_buf *buf;
    uint64_t offset;
} stn_ref;

typedef struct stn_support {
    uint32_t struct_size;
    uint32_t level; /* 0 no, 1 yes */
    uint32_t exact; /* 1 obeys the contract; 0 only ever with --math fast */
    uint32_t reserved;
    uint64_t workspace; /* bytes of scratch that op_run needs; contents do not outlive the call */
} stn_support;

/* Operands of one run. out[i] may equal in[j] only for in-place operators (op.def) and, for ACT,
 * ACT_GRAD, DROPOUT, DROPOUT_GRAD, SCALE and SUM, out[0] = in[0].
 *
 * `flags` is a buffer of u32 words: word 0 is the first bad step + 1 (0 = none), word 1 + k the
 * same for node k. A kernel that stores a non-finite value in a row < count sets word 0 and its own
 * word if they are still 0 (grids are exempt). SGD, ADAM and BN_UPDATE change nothing while word 0
 * is set. flags.buf == NULL: the caller does not want the check. */
typedef struct stn_run_args {
    uint32_t struct_size;
    uint32_t node; /* k */
    const stn_ref *in, *out;
    stn_ref workspace;
    stn_ref flags;
    const stn_step *step; /* read during the call only */
} stn_run_args;

/* What a device can do at best, as measured on it. */
typedef struct stn_peaks {
    uint32_t struct_size, reserved;
    double flops; /* a second, of independent fused multiply-adds on registers; each counts as 2 */
    double bytes; /* a second, read and written by a[i] = fma(s, b[i], c[i]) beyond the caches */
} stn_peaks;

/* One kernel that a prepared operator hands to the device, as computed from the parameters of its
 * launch for the full batch. */
typedef struct stn_launch {
    uint32_t struct_size;
    uint32_t group[3]; /* work-items of a group */
    uint64_t groups;
    uint64_t flops; /* multiply-adds count as two; 0: this launch is no product of matrices */
    uint64_t read, written; /* bytes of its operands in global memory, each counted once */
    uint64_t loads; /* bytes that its groups load for their tiles, repeats included; 0: no tiles */
    uint32_t registers; /* that an item of a tile holds by design, of 32 bits; 0: not designed */
    uint32_t local_bytes, private_bytes; /* of a group; of an item, spilled or in arrays */
    char name[40];
} stn_launch;

typedef struct stn_backend {
    uint32_t struct_size;
    uint32_t reserved;

    /* Devices [required]. Counting finds what exists now; zero devices is not an error. The index
     * is stable while the process lives. options: the plugin's own option list. */
    int32_t (*device_count)(uint32_t *count, stn_err *err);
    int32_t (*device_info)(uint32_t index, stn_device_info *info, stn_err *err);
    int32_t (*device_open)(uint32_t index, const stn_options *options, stn_device **device,
                           stn_err *err);
    void (*device_close)(stn_device *device); /* accepts NULL */
    /* Facts of an opened device: as device_info, with `variant` filled. */
    int32_t (*device_query)(stn_device *device, stn_device_info *info, stn_err *err);

    /* Memory [required]. New buffers hold unspecified bytes. E_NOMEM when there is none. */
    int32_t (*buf_alloc)(stn_device *device, uint64_t bytes, stn_buf **buf, stn_err *err);
    void (*buf_free)(stn_buf *buf); /* accepts NULL; waits for nothing: sync streams first */

    /* Streams [required]: in order, asynchronous. `src` of write and `dst` of read must stay valid
     * until sync. The first error is sticky and comes back from every later call and from sync. */
    int32_t (*stream_open)(stn_device *device, stn_stream **stream, stn_err *err);
    void (*stream_close)(stn_stream *stream);
    int32_t (*write)(stn_stream *stream, stn_ref dst, const void *src, uint64_t bytes,
                     stn_err *err);
    int32_t (*read)(stn_stream *stream, void *dst, stn_ref src, uint64_t bytes, stn_err *err);
    int32_t (*copy)(stn_stream *stream, stn_ref dst, stn_ref src, uint64_t bytes, stn_err *err);
    int32_t (*fill)(stn_stream *stream, stn_ref dst, uint32_t word, uint64_t bytes, stn_err *err);
    /* Hands queued work to the device without waiting. */
    int32_t (*flush)(stn_stream *stream, stn_err *err);
    int32_t (*sync)(stn_stream *stream, stn_err *err);

    /* Operators [required]. op_prepare is called with shapes op_query said yes to. */
    int32_t (*op_query)(stn_device *device, const stn_op_desc *desc, stn_support *support,
                        stn_err *err);
    int32_t (*op_prepare)(stn_device *device, const stn_op_desc *desc, stn_kernel **kernel,
                          stn_err *err);
    int32_t (*op_run)(stn_stream *stream, stn_kernel *kernel, const stn_run_args *args,
                      stn_err *err);
    void (*op_free)(stn_kernel *kernel);

    /* Optional: called once after all op_prepare of a plan, to compile what was collected;
     * `progress` (may be NULL) is told how many of how many programs are done. */
    int32_t (*prepare_end)(stn_device *device,
                           void (*progress)(void *user, uint32_t done, uint32_t total), void *user,
                           stn_err *err);
    /* Optional: nanoseconds of the last op_run of a kernel, measured on the device (profiling). */
    int32_t (*op_time)(stn_stream *stream, stn_kernel *kernel, uint64_t *ns, stn_err *err);
    /* Optional: measures the peaks with the threads, units and instructions that operators use, in
     * about a second. For benchmarks; no operator may run on the device meanwhile. */
    int32_t (*peaks)(stn_device *device, stn_peaks *peaks, stn_err *err);
    /* Optional: how many kernels one op_run hands to the device. */
    int32_t (*op_launches)(const stn_kernel *kernel, uint32_t *n, stn_err *err);
    /* Optional, since minor 2: describes one of these kernels without running it. */
    int32_t (*op_launch_get)(stn_kernel *kernel, uint32_t index, stn_launch *launch, stn_err *err);
    /* Optional, since minor 3: host memory of unspecified bytes for the host's end of write and
     * read where the device copies it faster than other memory (pinned). E_UNSUPPORTED where it
     * does not matter, E_NOMEM where there is none: any memory serves. host_free accepts NULL,
     * before device_close and after sync. */
    int32_t (*host_alloc)(stn_device *device, uint64_t bytes, void **memory, stn_err *err);
    void (*host_free)(stn_device *device, void *memory);
} stn_backend;

#endif
