/* Element types and sizes of the safetensors format. */
#include "ckpt/safetensors.h"

#include <string.h>

#include "base/mem.h"

static const stn__st_type types[] = {
    {"F32", STN_ST_F32, 4},       {"F64", STN_ST_F64, 8},       {"I64", STN_ST_I64, 8},
    {"I32", STN_ST_I32, 4},       {"U8", STN_ST_U8, 1},         {"BOOL", STN_ST_OTHER, 1},
    {"I8", STN_ST_OTHER, 1},      {"I16", STN_ST_OTHER, 2},     {"U16", STN_ST_OTHER, 2},
    {"U32", STN_ST_OTHER, 4},     {"U64", STN_ST_OTHER, 8},     {"F16", STN_ST_OTHER, 2},
    {"BF16", STN_ST_OTHER, 2},    {"F8_E4M3", STN_ST_OTHER, 1}, {"F8_E5M2", STN_ST_OTHER, 1},
    {"F8_E8M0", STN_ST_OTHER, 1}, {"C64", STN_ST_OTHER, 8},
};

#define N_TYPES (sizeof types / sizeof types[0])

const stn__st_type *stn__st_type_named(const char *name) {
    for (size_t i = 0; i < N_TYPES; i++) {
        if (strcmp(types[i].name, name) == 0) {
            return &types[i];
        }
    }
    return NULL;
}

const stn__st_type *stn__st_type_of(uint32_t dtype) {
    for (size_t i = 0; i < N_TYPES; i++) {
        if (types[i].dtype == dtype && dtype != STN_ST_OTHER) {
            return &types[i];
        }
    }
    return NULL;
}

bool stn__st_elems(const uint64_t *dim, uint32_t rank, uint32_t bytes, uint64_t *elems) {
    uint64_t n = 1, total;
    for (uint32_t d = 0; d < rank; d++) {
        if (!stn__mul(n, dim[d], &n)) {
            return false;
        }
    }
    if (!stn__mul(n, bytes, &total) || total > INT64_MAX) {
        return false;
    }
    *elems = n;
    return true;
}
