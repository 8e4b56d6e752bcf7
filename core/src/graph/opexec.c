/* One operator on host arrays: allocate, upload, run, download. For checks and self-tests.
 *
 * All operands lie in one device buffer at multiples of 256. Outputs are zeroed first, so rows past
 * step->count come back as zeros. Optimizers and running statistics work in place: their outputs
 * share the memory of the inputs that follow the first.
 */
#include <stn/stn.h>

#include "base/mem.h"
#include "graph/oprec.h"

#define ALIGN UINT64_C(256)

typedef struct exec {
    const stn_backend *b;
    stn_device *device;
    const stn_op_desc *desc;
    const char *name;
    stn_kernel *kernel;
    stn_stream *stream;
    stn_buf *buf;
    uint64_t in[STN_MAX_IN], out[STN_MAX_OUT], workspace, flags, size;
} exec;

static bool in_place(uint32_t op) {
    return op == STN_OP_BN_UPDATE || op == STN_OP_SGD || op == STN_OP_ADAM;
}

static bool place(exec *e, uint64_t bytes, uint64_t *at) {
    uint64_t end;
    *at = e->size;
    if (!stn__add(e->size, bytes, &end) || !stn__add(end, ALIGN - 1, &end)) {
        return false;
    }
    e->size = end / ALIGN * ALIGN;
    return true;
}

static int32_t lay_out(exec *e, uint64_t workspace, stn_err *err) {
    const stn_op_desc *d = e->desc;
    bool fits = true;
    for (uint32_t i = 0; i < d->n_in; i++) {
        fits = fits && place(e, stn_tensor_bytes(&d->in[i]), &e->in[i]);
    }
    for (uint32_t i = 0; i < d->n_out; i++) {
        if (in_place(d->op)) {
            e->out[i] = e->in[i + 1];
        } else {
            fits = fits && place(e, stn_tensor_bytes(&d->out[i]), &e->out[i]);
        }
    }
    fits = fits && place(e, workspace, &e->workspace) && place(e, 2 * sizeof(uint32_t), &e->flags);
    return fits ? STN_OK : stn_fail(err, STN_E_NOMEM, "%s: operands are too large", e->name);
}

static int32_t check_shapes(const exec *e, stn_err *err) {
    const stn_op_desc *d = e->desc;
    stn_tensor out[STN_MAX_OUT] = {d->out[0]};
    STN_TRY(stn_op_infer(d->op, d->params, d->in, d->n_in, out, err));
    for (uint32_t i = 0; i < d->n_out; i++) {
        if (out[i].dtype != d->out[i].dtype || !stn__same_shape(&out[i], &d->out[i])) {
            return stn_fail(err, STN_E_USAGE, "%s: output %u has another type or shape than given",
                            e->name, i);
        }
    }
    return STN_OK;
}

/* Compiles what was prepared; backends that need no such step have no entry. */
static int32_t finish_preparing(exec *e, stn_err *err) {
    int32_t status = e->b->prepare_end(e->device, NULL, NULL, err);
    return status == STN_E_UNSUPPORTED ? STN_OK : status;
}

/* Checks the shapes and asks the device; fills kernel, buffer and stream. */
static int32_t prepare(exec *e, stn_err *err) {
    const stn_op_desc *d = e->desc;
    stn_support support = {.struct_size = sizeof support};
    STN_TRY(check_shapes(e, err));
    STN_TRY(e->b->op_query(e->device, d, &support, err));
    if (support.level == 0) {
        return stn_fail(err, STN_E_UNSUPPORTED,
                        "%s: the device does not support this combination of shapes", e->name);
    }
    STN_TRY(lay_out(e, support.workspace, err));
    STN_TRY(e->b->op_prepare(e->device, d, &e->kernel, err));
    STN_TRY(finish_preparing(e, err));
    STN_TRY(e->b->buf_alloc(e->device, e->size, &e->buf, err));
    return e->b->stream_open(e->device, &e->stream, err);
}

static stn_ref at(const exec *e, uint64_t offset) {
    return (stn_ref){e->buf, offset};
}

static int32_t upload(exec *e, const void *const *in, stn_err *err) {
    STN_TRY(e->b->fill(e->stream, at(e, 0), 0, e->size, err));
    for (uint32_t i = 0; i < e->desc->n_in; i++) {
        uint64_t bytes = stn_tensor_bytes(&e->desc->in[i]);
        STN_TRY(e->b->write(e->stream, at(e, e->in[i]), in[i], bytes, err));
    }
    return STN_OK;
}

static int32_t run(exec *e, const stn_step *step, stn_err *err) {
    stn_ref in[STN_MAX_IN], out[STN_MAX_OUT];
    for (uint32_t i = 0; i < e->desc->n_in; i++) {
        in[i] = at(e, e->in[i]);
    }
    for (uint32_t i = 0; i < e->desc->n_out; i++) {
        out[i] = at(e, e->out[i]);
    }
    stn_run_args args = {sizeof args, 0, in, out, at(e, e->workspace), at(e, e->flags), step};
    return e->b->op_run(e->stream, e->kernel, &args, err);
}

static int32_t download(exec *e, void *const *out, stn_err *err) {
    uint32_t flags[2] = {0, 0};
    for (uint32_t i = 0; i < e->desc->n_out; i++) {
        uint64_t bytes = stn_tensor_bytes(&e->desc->out[i]);
        STN_TRY(e->b->read(e->stream, out[i], at(e, e->out[i]), bytes, err));
    }
    STN_TRY(e->b->read(e->stream, flags, at(e, e->flags), sizeof flags, err));
    STN_TRY(e->b->sync(e->stream, err));
    if (flags[0] != 0) {
        return stn_fail(err, STN_E_NONFINITE, "%s gave an infinite or not-a-number value", e->name);
    }
    return STN_OK;
}

int32_t stn_op_exec(stn_dev *dev, const stn_op_desc *desc, const void *const *in, void *const *out,
                    const stn_step *step, stn_err *err) {
    const stn_op_info *info = stn_op_find(desc->op);
    if (info == NULL || desc->n_out != info->n_out) {
        return stn_fail(err, STN_E_USAGE, "operator %u with %u outputs does not exist", desc->op,
                        desc->n_out);
    }
    exec e = {
        .b = stn_dev_backend(dev), .device = stn_dev_handle(dev), .desc = desc, .name = info->name};
    int32_t status = prepare(&e, err);
    status = status != STN_OK ? status : upload(&e, in, err);
    status = status != STN_OK ? status : run(&e, step, err);
    status = status != STN_OK ? status : download(&e, out, err);
    if (e.stream != NULL) {
        e.b->stream_close(e.stream);
    }
    e.b->buf_free(e.buf);
    if (e.kernel != NULL) {
        e.b->op_free(e.kernel);
    }
    return status;
}
