/* What the operator cases of golden files share: shapes, operands, running one operator on host
 * arrays, and reading "<case>.<tensor>". */
#include <stdio.h>

#include "check.h"

/* A tensor of up to four dimensions; 0 ends the list. */
stn_tensor check_shape(uint32_t dtype, uint32_t d0, uint32_t d1, uint32_t d2, uint32_t d3) {
    stn_tensor t = {dtype, STN_NCHW, 0, {1, 1, 1, 1}};
    const uint32_t dim[STN_MAX_RANK] = {d0, d1, d2, d3};
    for (; t.rank < STN_MAX_RANK && dim[t.rank] != 0; t.rank++) {
        t.dim[t.rank] = dim[t.rank];
    }
    return t;
}

static uint64_t tensor_bytes(const stn_tensor *t) {
    return stn_tensor_elems(t) * (t->dtype == STN_U8 ? 1 : 4);
}

/* A golden tensor's shape, padded with ones to rank 4. */
static int32_t shape_of(check *c, const char *name, uint32_t dim[STN_MAX_RANK], stn_err *err) {
    stn_tensor_entry entry;
    STN_TRY(check_tensor(c, name, 0, &entry, err));
    for (uint32_t i = 0; i < STN_MAX_RANK; i++) {
        uint64_t d = i < entry.rank ? entry.dim[i] : 1;
        if (entry.rank > STN_MAX_RANK || d == 0 || d > UINT32_MAX) {
            return stn_fail(err, STN_E_FORMAT, "%s: tensor %s has a shape no operator takes",
                            c->path, name);
        }
        dim[i] = (uint32_t)d;
    }
    return STN_OK;
}

operand check_input(stn_tensor tensor, const void *data) {
    return (operand){tensor, data, NULL};
}

int32_t check_run(check *c, uint32_t op, const void *params, const operand *in, uint32_t n_in,
                  operand *results, uint32_t n_out, const float *scalars, stn_err *err) {
    stn_tensor in_tensor[STN_MAX_IN], out_tensor[STN_MAX_OUT];
    const void *in_data[STN_MAX_IN];
    void *out_data[STN_MAX_OUT];
    for (uint32_t i = 0; i < n_in; i++) {
        in_tensor[i] = in[i].tensor;
        in_data[i] = in[i].data;
    }
    for (uint32_t i = 0; i < n_out; i++) {
        out_tensor[i] = results[i].tensor;
        out_data[i] = results[i].result = check_alloc(c, tensor_bytes(&out_tensor[i]), err);
        if (out_data[i] == NULL) {
            return STN_E_NOMEM;
        }
    }
    stn_op_desc desc = {sizeof desc, op, n_in, n_out, params, in_tensor, out_tensor};
    stn_step step = {.struct_size = sizeof step,
                     .count = in_tensor[0].dim[0],
                     .n_scalars = N_SLOTS,
                     .scalar = scalars};
    return stn_op_exec(c->dev, &desc, in_data, out_data, &step, err);
}

/* "case.tensor" */
const char *check_key(char buf[160], const char *case_name, const char *tensor) {
    (void)snprintf(buf, 160, "%s.%s", case_name, tensor);
    return buf;
}

int32_t case_floats(check *c, const char *case_name, const char *tensor, const float **data,
                    stn_err *err) {
    char name[160];
    return check_floats(c, check_key(name, case_name, tensor), 0, data, err);
}

int32_t case_dims(check *c, const char *case_name, const char *tensor, uint32_t dim[4],
                  stn_err *err) {
    char name[160];
    return shape_of(c, check_key(name, case_name, tensor), dim, err);
}

int32_t case_attr(check *c, const char *case_name, uint32_t i, uint32_t *value, stn_err *err) {
    char name[160];
    stn_tensor_entry entry;
    STN_TRY(check_tensor(c, check_key(name, case_name, "attr"), 0, &entry, err));
    double v = i < entry.elems ? check_value(&entry, i) : -1;
    if (!(v >= 0 && v < 65536)) {
        return stn_fail(err, STN_E_FORMAT, "%s: %s has no usable element %u", c->path, name, i);
    }
    *value = (uint32_t)v;
    return STN_OK;
}

int32_t case_hyper(check *c, const char *case_name, uint32_t n, double *values, stn_err *err) {
    char name[160];
    stn_tensor_entry entry;
    STN_TRY(check_tensor(c, check_key(name, case_name, "hyper"), n, &entry, err));
    for (uint32_t i = 0; i < n; i++) {
        values[i] = check_value(&entry, i);
    }
    return STN_OK;
}

int32_t case_compare(check *c, const char *case_name, const char *tensor, const operand *result,
                     bool exact, stn_err *err) {
    char name[160];
    return check_compare(c, check_key(name, case_name, tensor), NULL, result->result,
                         stn_tensor_elems(&result->tensor), exact, err);
}
