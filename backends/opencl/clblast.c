/* --math fast: matrix products by CLBlast, opened at run time like libOpenCL.
 *
 * Results depend on the device, on CLBlast's version and on its tuning: nothing here obeys the
 * contract. One product runs on one queue; CLBlast may be called from any thread.
 */
#include "ocl.h"

#include <dlfcn.h>
#include <fenv.h>
#include <string.h>

#ifdef STN_CLBLAST_HEADER
#include <clblast_c.h>
typedef __typeof__(&CLBlastSgemm) sgemm_fn;
typedef __typeof__(&CLBlastClearCache) clear_fn;
#else
/* clblast_c.h, version 1: the two functions used, enumerations being int in this ABI. */
enum { CLBlastLayoutRowMajor = 101, CLBlastTransposeNo = 111, CLBlastTransposeYes = 112 };
typedef int (*sgemm_fn)(int layout, int a_transpose, int b_transpose, size_t m, size_t n, size_t k,
                        float alpha, cl_mem a, size_t a_offset, size_t a_ld, cl_mem b,
                        size_t b_offset, size_t b_ld, float beta, cl_mem c, size_t c_offset,
                        size_t c_ld, cl_command_queue *queue, cl_event *event);
typedef int (*clear_fn)(void);
#endif

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static uint32_t users;                                   /* devices that hold CLBlast open */
static sgemm_fn sgemm;
static clear_fn clear_cache;

/* Loading a library may change the floating-point state of this thread (flush to zero). */
static void *open_library(void) {
    fenv_t state;
    bool saved = fegetenv(&state) == 0;
    void *library = dlopen("libclblast.so.1", RTLD_NOW | RTLD_LOCAL);
    if (saved) {
        (void)fesetenv(&state);
    }
    return library;
}

/* Fills the two pointers; the library stays open for good. */
static int32_t load(stn_err *err) {
    void *library = open_library();
    if (library == NULL) {
        const char *text = dlerror();
        return stn_fail(err, STN_E_NODEVICE,
                        "opencl: math=fast needs CLBlast (%.120s); install libclblast1 or use "
                        "--math exact",
                        text != NULL ? text : "not found");
    }
    void *product = dlsym(library, "CLBlastSgemm"), *clear = dlsym(library, "CLBlastClearCache");
    if (product == NULL || clear == NULL) {
        return stn_fail(err, STN_E_NODEVICE,
                        "opencl: libclblast.so.1 lacks CLBlastSgemm or CLBlastClearCache; install "
                        "libclblast1 or use --math exact");
    }
    /* POSIX gives function pointers as void *; copying the bits avoids the cast ISO C lacks. */
    memcpy(&sgemm, &product, sizeof sgemm);
    memcpy(&clear_cache, &clear, sizeof clear_cache);
    return STN_OK;
}

int32_t ocl_clblast_open(stn_err *err) {
    int32_t status = STN_OK;
    (void)pthread_mutex_lock(&lock);
    if (sgemm == NULL) {
        status = load(err);
    }
    users += status == STN_OK;
    (void)pthread_mutex_unlock(&lock);
    return status;
}

void ocl_clblast_close(void) {
    (void)pthread_mutex_lock(&lock);
    users--;
    if (users == 0) {
        (void)clear_cache();
    }
    (void)pthread_mutex_unlock(&lock);
}

cl_int ocl_gemm_run(stn_stream *stream, const stn_kernel *k, const ocl_launch *l,
                    const stn_run_args *args, cl_event *event) {
    const ocl_gemm *g = &l->gemm;
    uint32_t rows = args->step->count < k->rows ? args->step->count : k->rows;
    size_t size[3];
    cl_mem mem[3];
    uint64_t offset[3];
    for (uint32_t i = 0; i < 3; i++) {
        size[i] = (size_t)(l->range.size[i] * ((l->range.per_row >> i) & 1u ? rows : 1u));
        mem[i] = ocl_operand(k, &l->arg[i], args, &offset[i]);
    }
    return (cl_int)sgemm(
        CLBlastLayoutRowMajor, g->a_transposed ? CLBlastTransposeYes : CLBlastTransposeNo,
        g->b_transposed ? CLBlastTransposeYes : CLBlastTransposeNo, size[0], size[1], size[2], 1.0f,
        mem[0], (size_t)offset[0], g->ld[0], mem[1], (size_t)offset[1], g->ld[1], g->beta, mem[2],
        (size_t)offset[2], g->ld[2], &stream->queue, event);
}

/* Operands moved to image `first`. */
static void move_operands(const stn_ref *from, const stn_tensor *t, uint32_t n, uint32_t moved,
                          uint32_t first, stn_ref *to) {
    for (uint32_t i = 0; i < n; i++) {
        to[i] = from[i];
        if ((moved >> i) & 1u) {
            to[i].offset += stn_tensor_bytes(&t[i]) / t[i].dim[0] * first;
        }
    }
}

int32_t ocl_chunks_run(stn_stream *stream, stn_kernel *k, const stn_run_args *args, stn_err *err) {
    uint32_t rows = args->step->count < k->rows ? args->step->count : k->rows;
    for (uint32_t first = 0; first < rows; first += k->chunk.images) {
        uint32_t left = rows - first;
        stn_ref in[STN_MAX_IN], out[STN_MAX_OUT];
        stn_step step = *args->step;
        stn_run_args part = *args;
        step.count = left < k->chunk.images ? left : k->chunk.images;
        part.step = &step;
        part.in = in;
        part.out = out;
        move_operands(args->in, k->in, k->n_in, k->chunk.in, first, in);
        move_operands(args->out, k->out, k->n_out, k->chunk.out, first, out);
        for (uint32_t i = 0; i < k->n_launch; i++) {
            ocl_launch *l = k->launch[i];
            if (l->after && left > k->chunk.images) {
                continue;
            }
            l->gemm.beta = l->gemm.sums && first > 0 ? 1.0f : 0.0f;
            STN_TRY(ocl_launch_run(stream, k, l, &part, first == 0 && i == 0, err));
        }
    }
    return STN_OK;
}
