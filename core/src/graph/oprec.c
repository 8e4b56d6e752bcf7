/* Table of the operators, the checks they share, and the public questions about them. */
#include "graph/oprec.h"

#include <math.h>
#include <string.h>

#define MAX_SHARDS 1024u

static const struct op_facts {
    stn_op_info info;
    uint32_t params_size;
} ops[] = {
#define STN_OP(number, NAME, name, min_in, max_in, n_out, params, text)                            \
    {{number, min_in, max_in, n_out, name, text}, (uint32_t)sizeof(stn_##params##_params)},
#include <stn/op.def>
#undef STN_OP
};
#define N_OPS ((uint32_t)(sizeof ops / sizeof ops[0]))

uint32_t stn_op_count(void) {
    return N_OPS;
}

const stn_op_info *stn_op_get(uint32_t index) {
    return index < N_OPS ? &ops[index].info : NULL;
}

static const struct op_facts *find_facts(uint32_t number) {
    for (uint32_t i = 0; i < N_OPS; i++) {
        if (ops[i].info.number == number) {
            return &ops[i];
        }
    }
    return NULL;
}

const stn_op_info *stn_op_find(uint32_t number) {
    const struct op_facts *facts = find_facts(number);
    return facts == NULL ? NULL : &facts->info;
}

static const stn__op_rec *find_record(uint32_t op) {
    const struct {
        const stn__op_rec *list;
        uint32_t n;
    } family[] = {{stn__oprec_conv, stn__oprec_n_conv},
                  {stn__oprec_pool, stn__oprec_n_pool},
                  {stn__oprec_bn, stn__oprec_n_bn},
                  {stn__oprec_warp, stn__oprec_n_warp},
                  {stn__oprec_rest, stn__oprec_n_rest}};
    for (size_t f = 0; f < sizeof family / sizeof family[0]; f++) {
        for (uint32_t i = 0; i < family[f].n; i++) {
            if (family[f].list[i].op == op) {
                return &family[f].list[i];
            }
        }
    }
    return NULL;
}

/* ---- shared checks -------------------------------------------------------------------------- */

int32_t stn__op_bad(const stn__infer *q, const char *format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return stn_fail(q->err, STN_E_USAGE, "%s: %s", q->name, text);
}

stn_tensor stn__f32(uint32_t rank, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    return (stn_tensor){STN_F32, STN_NCHW, rank, {a, b, c, d}};
}

stn_tensor stn__like(const stn_tensor *t, uint32_t dtype) {
    stn_tensor copy = *t;
    copy.dtype = dtype;
    copy.layout = STN_NCHW;
    return copy;
}

bool stn__same_shape(const stn_tensor *a, const stn_tensor *b) {
    return memcmp(a->dim, b->dim, sizeof a->dim) == 0;
}

int32_t stn__need_dtype(const stn__infer *q, uint32_t i, uint32_t dtype, const char *what) {
    static const char *const names[] = {"f32", "u8", "i32"};
    if (q->in[i].dtype != dtype) {
        return STN__BAD(q, "%s must hold %s, not %s", what, names[dtype], names[q->in[i].dtype]);
    }
    return STN_OK;
}

int32_t stn__need_shape(const stn__infer *q, uint32_t i, const stn_tensor *shape,
                        const char *what) {
    const uint32_t *has = q->in[i].dim, *must = shape->dim;
    if (!stn__same_shape(&q->in[i], shape)) {
        return STN__BAD(q, "%s is %ux%ux%ux%u and must be %ux%ux%ux%u", what, has[0], has[1],
                        has[2], has[3], must[0], must[1], must[2], must[3]);
    }
    return STN_OK;
}

int32_t stn__need_vector(const stn__infer *q, uint32_t i, uint32_t length, const char *what) {
    STN_TRY(stn__need_dtype(q, i, STN_F32, what));
    if (q->in[i].rank != 1 || q->in[i].dim[0] != length) {
        return STN__BAD(q, "%s must be a vector of %u, not %ux%ux%ux%u", what, length,
                        q->in[i].dim[0], q->in[i].dim[1], q->in[i].dim[2], q->in[i].dim[3]);
    }
    return STN_OK;
}

int32_t stn__need_shards(const stn__infer *q, uint32_t shards) {
    if (shards == 0 || shards > MAX_SHARDS || (shards & (shards - 1u)) != 0) {
        return STN__BAD(q, "shards is %u and must be a power of two from 1 to %u", shards,
                        MAX_SHARDS);
    }
    return STN_OK;
}

int32_t stn__need_finite(const stn__infer *q, float value, const char *what) {
    return isfinite(value) ? STN_OK : STN__BAD(q, "%s is not finite", what);
}

void stn__take_wanted(const stn__infer *q, const stn_tensor *smallest) {
    q->out[0] = q->out[0].rank == 0 ? *smallest : stn__like(&q->out[0], STN_F32);
}

int32_t stn__window_size(const stn__infer *q, char axis, uint32_t in, uint32_t window,
                         uint32_t stride, uint32_t pad, uint32_t *out) {
    const char *side = axis == 'h' ? "height" : "width";
    if (window == 0 || stride == 0) {
        return STN__BAD(q, "window and stride must not be 0 (%s: %u and %u)", side, window, stride);
    }
    if (pad >= window) {
        return STN__BAD(q, "padding %u is as large as the window's %s %u", pad, side, window);
    }
    uint64_t padded = (uint64_t)in + 2u * (uint64_t)pad;
    if (padded < window) {
        return STN__BAD(q, "window's %s %u is larger than the map's %u (padding %u included: %llu)",
                        side, window, in, pad, (unsigned long long)padded);
    }
    *out = (uint32_t)((padded - window) / stride + 1u);
    return STN_OK;
}

/* ---- operands ------------------------------------------------------------------------------- */

static int32_t check_params(const stn__infer *q, const struct op_facts *facts) {
    if (q->params == NULL) {
        return STN__BAD(q, "parameters are missing");
    }
    uint32_t size;
    memcpy(&size, q->params, sizeof size);
    if (size < facts->params_size) {
        return STN__BAD(q, "parameter struct has %u bytes and needs %u: struct_size is not set",
                        size, facts->params_size);
    }
    for (uint32_t i = facts->params_size; i < size; i++) {
        if (((const uint8_t *)q->params)[i] != 0) {
            return stn_fail(q->err, STN_E_UNSUPPORTED,
                            "%s: parameters of a newer version of the library", q->name);
        }
    }
    return STN_OK;
}

static int32_t check_tensor(const stn__infer *q, const stn_tensor *t, const char *kind,
                            uint32_t i) {
    if (t->dtype > STN_I32 || t->layout > STN_NC16) {
        return STN__BAD(q, "%s %u has an unknown type or layout (%u, %u)", kind, i, t->dtype,
                        t->layout);
    }
    if (t->rank == 0 || t->rank > STN_MAX_RANK) {
        return STN__BAD(q, "%s %u has %u dimensions; 1 to %u are possible", kind, i, t->rank,
                        STN_MAX_RANK);
    }
    if (t->layout == STN_NC16 && t->rank != 4) {
        return STN__BAD(q, "%s %u has the layout of feature maps but %u dimensions", kind, i,
                        t->rank);
    }
    for (uint32_t k = 0; k < STN_MAX_RANK; k++) {
        if (t->dim[k] == 0) {
            return STN__BAD(q, "dimension %u of %s %u is 0", k, kind, i);
        }
        if (k >= t->rank && t->dim[k] != 1) {
            return STN__BAD(q, "dimension %u of %s %u, past its rank, is not 1", k, kind, i);
        }
    }
    if (stn_tensor_elems(t) == 0) {
        return STN__BAD(q, "%s %u, %ux%ux%ux%u, is too large", kind, i, t->dim[0], t->dim[1],
                        t->dim[2], t->dim[3]);
    }
    return STN_OK;
}

int32_t stn_op_infer(uint32_t op, const void *params, const stn_tensor *in, uint32_t n_in,
                     stn_tensor *out, stn_err *err) {
    const struct op_facts *facts = find_facts(op);
    const stn__op_rec *record = find_record(op);
    if (facts == NULL || record == NULL) {
        return stn_fail(err, STN_E_USAGE, "there is no operator number %u", op);
    }
    stn__infer q = {facts->info.name, params, in, op, n_in, out, err};
    if (n_in < facts->info.min_in || n_in > facts->info.max_in) {
        return STN__BAD(&q, "takes %u to %u inputs, not %u", facts->info.min_in, facts->info.max_in,
                        n_in);
    }
    STN_TRY(check_params(&q, facts));
    for (uint32_t i = 0; i < n_in; i++) {
        STN_TRY(check_tensor(&q, &in[i], "input", i));
    }
    if (out[0].rank > STN_MAX_RANK) {
        return STN__BAD(&q, "the wanted output has %u dimensions", out[0].rank);
    }
    STN_TRY(record->infer(&q));
    for (uint32_t i = 0; i < facts->info.n_out; i++) {
        STN_TRY(check_tensor(&q, &out[i], "output", i));
    }
    return STN_OK;
}

uint64_t stn_op_flops(const stn_op_desc *desc) {
    const stn__op_rec *record = find_record(desc->op);
    if (record == NULL) {
        return 0;
    }
    stn_tensor plain = stn__like(&desc->out[0], desc->out[0].dtype);
    return record->flops == NULL ? stn_tensor_elems(&plain) : record->flops(desc);
}
