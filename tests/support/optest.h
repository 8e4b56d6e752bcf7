/* Operator tests shared by all backends: one table of cases, data, runs with canaries, comparison.
 *
 * Loads a backend plugin directly with a small host of its own, so that nothing of the core is
 * needed. The same case on two devices:
 *
 *     optest_result a, b;
 *     cr_assert_eq(optest_run(&ref, c, &a, &err), STN_OK, "%s: %s", c->name, err.text);
 *     cr_assert_eq(optest_run(&dev, c, &b, &err), STN_OK, "%s: %s", c->name, err.text);
 *     cr_assert(optest_equal(c, &a, &b, text), "%s: %s", c->name, text);
 *     optest_free(&a), optest_free(&b);
 */
#ifndef OPTEST_H
#define OPTEST_H

#include <stdbool.h>

#include <stn/backend.h>

/* What an input holds: decides range and class of its data. */
enum {
    OPTEST_X,       /* class X */
    OPTEST_G,       /* class G, never -0 */
    OPTEST_THETA,   /* rows of six near the identity; adversarial: far, huge, infinite, NaN */
    OPTEST_GRID,    /* coordinates; adversarial as theta */
    OPTEST_INDEX,   /* u8 below `limit` */
    OPTEST_LABEL,   /* i32 below `limit` */
    OPTEST_PIXEL,   /* 0..255, u8 or f32 */
    OPTEST_POS,     /* positive, class X (variances) */
    OPTEST_SCENE,   /* class X: in each image something before one value per channel */
    OPTEST_EXTREME, /* a bias: values whose squares overflow */
    OPTEST_TINY,    /* a bias: values that class X would snap, and a few others */
    OPTEST_MOMENT2, /* second moment of Adam, >= 0 */
};

enum { OPTEST_NORMAL = 1, OPTEST_ADVERSARIAL = 2, OPTEST_INTEGER = 4 };

/* Layouts of feature maps: inputs and outputs. */
enum {
    OPTEST_NCHW = 1,
    OPTEST_NC16 = 2,
    OPTEST_NC16_TO_NCHW = 4,
    OPTEST_NCHW_TO_NC16 = 8,
};

enum { OPTEST_LR, OPTEST_EPS, OPTEST_LW, OPTEST_INV_N, OPTEST_INV_N1, OPTEST_SLOTS };

typedef struct optest_case {
    char name[128];
    uint32_t op, n_in, n_out;
    stn_op_params params;
    stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
    uint32_t role[STN_MAX_IN];        /* OPTEST_X ... */
    uint32_t limit;                   /* of indices and labels */
    uint32_t batched_in, batched_out; /* bit i: operand i has the batch in dim[0] */
    int32_t alias[STN_MAX_OUT];       /* input an output is written over, -1: none */
    uint32_t ignored_out;             /* bit i: output i has no meaning here */
    uint32_t count;                   /* real rows */
    uint32_t first, partial;          /* of the step: a micro-batch */
    uint32_t data, layout;            /* one of the enums above */
    bool tiny;                        /* few small channels: for slow simulators */
    float scalar[OPTEST_SLOTS];
} optest_case;

/* Which cases: op 0 = every operator; data and layout are masks, 0 = all. */
typedef struct optest_filter {
    uint32_t op, data, layout;
    bool tiny;
} optest_filter;

/* The next case that passes the filter; start with NULL, NULL ends. Cases that differ in data only
 * follow each other. The table is built once and lives on. */
const optest_case *optest_next(const optest_case *after, const optest_filter *filter);

/* ---- devices -------------------------------------------------------------------------------- */

/* Loads a plugin file of kind backend and calls its init. Never unloaded. */
int32_t optest_load(const char *path, const stn_backend **backend, stn_err *err);

typedef struct optest_dev {
    const stn_backend *backend;
    stn_device *device;
    stn_stream *stream;
    /* false: operands lie in one buffer, where guards show what was written past them; true: each
     * in a buffer of its own, so that the address sanitizer and Oclgrind report who as much as
     * reads past it. optest_open: as the sanitizer is there, or STN_TEST_APART=1. */
    bool apart;
} optest_dev;

/* options: name, value, ..., NULL; may be NULL. */
int32_t optest_open(const stn_backend *backend, uint32_t index, const char *const *options,
                    optest_dev *dev, stn_err *err);
void optest_close(optest_dev *dev);
/* Path of a backend plugin of this build: "cpu", "opencl". */
const char *optest_plugin_path(const char *name, char *path, uint32_t cap);

/* ---- runs ----------------------------------------------------------------------------------- */

/* Outputs as row-major NCHW, rows of the nominal batch; those past count are zero. */
typedef struct optest_result {
    void *out[STN_MAX_OUT];
    uint32_t flags[2]; /* of the run: word 0, and the word of its node */
} optest_result;

/* Runs a case with poisoned outputs and with canaries around every operand. E_MISMATCH if the
 * kernel writes outside, changes an input or a row past count, or leaves padding channels of NC16
 * other than +0; E_UNSUPPORTED if the device answers no. */
int32_t optest_run(optest_dev *dev, const optest_case *c, optest_result *result, stn_err *err);
/* The same with data of the caller: in[i] is NCHW row-major, NULL keeps the generated data. */
int32_t optest_run_data(optest_dev *dev, const optest_case *c, const void *const *in,
                        optest_result *result, stn_err *err);

/* Operands of a case, for many runs of it one after another; begins as {0}, `bytes` is to be freed.
 */
typedef struct optest_operands {
    optest_case of;
    uint8_t *bytes;
} optest_operands;
/* As optest_run, generating the operands only if the last run with `kept` was of another case. */
int32_t optest_run_again(optest_dev *dev, const optest_case *c, optest_operands *kept,
                         optest_result *result, stn_err *err);
void optest_free(optest_result *result);

/* Bitwise comparison of rows < count (two NaN are equal); text gets the first difference. */
bool optest_equal(const optest_case *c, const optest_result *a, const optest_result *b,
                  char text[256]);

/* Generated data of input i, NCHW row-major, in memory of the caller (4 bytes an element, or 1). */
void optest_fill(const optest_case *c, uint32_t i, void *data);
/* Elements without padding channels. */
uint64_t optest_elems(const stn_tensor *t);

#endif
