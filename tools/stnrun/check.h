/* Golden checks: what cmd_check.c (files, comparison, report) offers to check_ops.c (operators) and
 * check_net.c (networks). */
#ifndef STNRUN_CHECK_H
#define STNRUN_CHECK_H

#include "stnrun.h"

typedef struct check {
    stn_ctx *ctx;
    stn_dev *dev;
    const char *path;
    stn_tensors *file;
    json_t *info;     /* metadata "info" of the file */
    double tolerance; /* 10 * info.error, at least 2e-6 */
    bool summary;     /* print one line a file only */
    bool mute;        /* count, but report nothing */
    uint32_t moved;   /* not 0: parameters were moved by an ulp, in which try (check_net.c) */
    json_t *results;  /* with --json */
    void *scratch[64];
    uint32_t n_scratch;
    uint32_t compared, beyond;
    double worst; /* largest agreement / tolerance */
    char worst_name[160];
} check;

/* Memory that lives until the case ends; NULL after filling *err. Zeroed. */
void *check_alloc(check *c, uint64_t bytes, stn_err *err);
void check_release(check *c);

/* The golden tensor `name`; E_FORMAT if the file lacks it or its element count is not `elems`
 * (0: any). */
int32_t check_tensor(check *c, const char *name, uint64_t elems, stn_tensor_entry *entry,
                     stn_err *err);
bool check_has(const check *c, const char *name);
/* Element i of a golden tensor as a double. */
double check_value(const stn_tensor_entry *entry, uint64_t i);
/* A golden tensor as float (check_alloc'ed). */
int32_t check_floats(check *c, const char *name, uint64_t elems, const float **data, stn_err *err);

/* Compares `ours` with golden tensor `name` and reports; `exact`: equal after rounding the golden
 * value to float. `label` is the name shown, NULL = name. */
int32_t check_compare(check *c, const char *name, const char *label, const float *ours,
                      uint64_t elems, bool exact, stn_err *err);
/* Reports a deviation computed by the caller, already divided by its scale. */
void check_report(check *c, const char *label, double agreement, bool exact, bool ok);

/* Every case of an op_* file; one step of a net_* or full_* file. */
int32_t check_ops(check *c, const char *base, stn_err *err);
int32_t check_net(check *c, stn_err *err);

/* ---- operator cases (check_case.c) ------------------------------------------------------------
 */

#define SHARDS 16u /* S of the contract; the bits depend on it, the agreement hardly */

/* Slots of the scalars an operator may take. */
enum { SLOT_A, SLOT_B, N_SLOTS };

/* One operand: description and host memory. */
typedef struct operand {
    stn_tensor tensor;
    const void *data; /* inputs */
    void *result;     /* outputs: allocated by run_op */
} operand;

/* A tensor of up to four dimensions; 0 ends the list. */
stn_tensor check_shape(uint32_t dtype, uint32_t d0, uint32_t d1, uint32_t d2, uint32_t d3);
operand check_input(stn_tensor tensor, const void *data);
/* Runs one operator; the results' memory lives until the case ends. */
int32_t check_run(check *c, uint32_t op, const void *params, const operand *in, uint32_t n_in,
                  operand *results, uint32_t n_out, const float *scalars, stn_err *err);
/* "case.tensor" */
const char *check_key(char buf[160], const char *case_name, const char *tensor);
/* A tensor of the case as floats; its shape padded with ones; element i of attr; all of hyper. */
int32_t case_floats(check *c, const char *case_name, const char *tensor, const float **data,
                    stn_err *err);
int32_t case_dims(check *c, const char *case_name, const char *tensor, uint32_t dim[4],
                  stn_err *err);
int32_t case_attr(check *c, const char *case_name, uint32_t i, uint32_t *value, stn_err *err);
int32_t case_hyper(check *c, const char *case_name, uint32_t n, double *values, stn_err *err);
int32_t case_compare(check *c, const char *case_name, const char *tensor, const operand *result,
                     bool exact, stn_err *err);

int32_t check_sampler_case(check *c, const char *name, stn_err *err);

#endif
