/* Operator records: for every operator the check of its operands, the shapes of its results and its
 * work. One file per family; oprec.c holds the table and the checks that all operators share.
 */
#ifndef STN_GRAPH_OPREC_H
#define STN_GRAPH_OPREC_H

#include <stdbool.h>

#include <stn/stn.h>

/* One question to a record. Inputs have passed the shared checks: number, type known, sizes not
 * zero, 1 past the rank, elements countable. `out` is filled; see stn_op_infer for out[0]. */
typedef struct stn__infer {
    const char *name;
    const void *params;
    const stn_tensor *in;
    uint32_t op, n_in;
    stn_tensor *out;
    stn_err *err;
} stn__infer;

typedef struct stn__op_rec {
    uint32_t op;
    int32_t (*infer)(const stn__infer *q);
    /* Floating-point operations, a multiply-add counted as two; NULL: one per element of out[0]. */
    uint64_t (*flops)(const stn_op_desc *desc);
} stn__op_rec;

extern const stn__op_rec stn__oprec_conv[], stn__oprec_pool[], stn__oprec_bn[], stn__oprec_warp[],
    stn__oprec_rest[];
extern const uint32_t stn__oprec_n_conv, stn__oprec_n_pool, stn__oprec_n_bn, stn__oprec_n_warp,
    stn__oprec_n_rest;

/* Returns E_USAGE with "name: ..." (printf arguments). */
#define STN__BAD(q, ...) stn__op_bad((q), __VA_ARGS__)
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
int32_t
stn__op_bad(const stn__infer *q, const char *format, ...);

/* Results. */
stn_tensor stn__f32(uint32_t rank, uint32_t a, uint32_t b, uint32_t c, uint32_t d);
/* The same shape in NCHW with another type. */
stn_tensor stn__like(const stn_tensor *t, uint32_t dtype);

/* Shared checks; `what` names the operand in the message. */
bool stn__same_shape(const stn_tensor *a, const stn_tensor *b);
int32_t stn__need_dtype(const stn__infer *q, uint32_t i, uint32_t dtype, const char *what);
int32_t stn__need_shape(const stn__infer *q, uint32_t i, const stn_tensor *shape, const char *what);
/* [length] */
int32_t stn__need_vector(const stn__infer *q, uint32_t i, uint32_t length, const char *what);
int32_t stn__need_shards(const stn__infer *q, uint32_t shards);
int32_t stn__need_finite(const stn__infer *q, float value, const char *what);
/* out[0]: the wanted shape if one was given, else `smallest`. */
void stn__take_wanted(const stn__infer *q, const stn_tensor *smallest);

/* Size of a window's result along one axis. */
int32_t stn__window_size(const stn__infer *q, char axis, uint32_t in, uint32_t window,
                         uint32_t stride, uint32_t pad, uint32_t *out);

#endif
