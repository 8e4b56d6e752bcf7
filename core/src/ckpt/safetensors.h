/* Facts about the safetensors format shared by its reader and its writer. */
#ifndef STN_CKPT_SAFETENSORS_H
#define STN_CKPT_SAFETENSORS_H

#include <stn/stn.h>

/* A header beyond this size is refused by every reader of the format. */
#define STN__ST_MAX_HEADER UINT64_C(100000000)
#define STN__ST_MAX_RANK 8u

typedef struct stn__st_type {
    const char *name; /* as in the header: "F32" */
    uint32_t dtype;   /* STN_ST_* */
    uint32_t bytes;   /* per element */
} stn__st_type;

/* By name, or by dtype (not STN_ST_OTHER); NULL if unknown. */
const stn__st_type *stn__st_type_named(const char *name);
const stn__st_type *stn__st_type_of(uint32_t dtype);
/* Product of the dimensions; false if it or `bytes` times it does not fit 63 bits. */
bool stn__st_elems(const uint64_t *dim, uint32_t rank, uint32_t bytes, uint64_t *elems);

#endif
