/* The checkpoint container: its sections and the rules for tensors, used on both sides. */
#include "ckpt/format.h"

#include "base/hash.h"

#define MIB (UINT64_C(1) << 20)

const stn__section_kind stn__section_kinds[STN__SECTIONS] = {
    [STN__SEC_ADAM] = {"adam", 16, 16},
    [STN__SEC_CONTRACT] = {"contract", 1, 64},
    [STN__SEC_DATA] = {"data", 0, 64},
    [STN__SEC_NOTE] = {"note", 4, MIB},
    [STN__SEC_RECIPE] = {"recipe", 0, MIB},
    [STN__SEC_SEED] = {"seed", 8, 8},
    [STN__SEC_STEP] = {"step", 8, 8},
    [STN__SEC_VALUES] = {"tensor.data", 0, 4 * STN__CKPT_MAX_FLOATS},
    [STN__SEC_TENSORS] = {"tensor.table", 4, 32 * MIB},
};

const char *stn__tensor_name_fault(const char *name, uint64_t size) {
    if (size == 0) {
        return "is empty";
    }
    if (size > STN__CKPT_MAX_NAME) {
        return "is longer than 255 bytes";
    }
    for (uint64_t i = 0; i < size; i++) {
        if (name[i] <= ' ' || name[i] > '~') {
            return "holds a blank or a character outside printable ASCII";
        }
    }
    return NULL;
}

bool stn__tensor_elems(const uint32_t *dim, uint32_t rank, uint64_t *elems) {
    uint64_t n = 1;
    if (rank > STN_MAX_RANK) {
        return false;
    }
    for (uint32_t d = 0; d < rank; d++) {
        if (dim[d] == 0 || n > STN__CKPT_MAX_FLOATS / dim[d]) {
            return false;
        }
        n *= dim[d];
    }
    *elems = n;
    return true;
}

static uint8_t digit(char c) {
    return (uint8_t)(c <= '9' ? c - '0' : c - 'a' + 10);
}

void stn__unhex(const char *hex, uint8_t bytes[32]) {
    for (int i = 0; i < 32; i++) {
        bytes[i] = (uint8_t)(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
    }
}

int32_t stn__ckpt_header_hash(const uint8_t *file, char hex[STN_HASH_HEX], stn_err *err) {
    stn__sha256 hash;
    STN_TRY(stn__sha256_init(&hash, err));
    stn__sha256_update(&hash, file, STN__CKPT_HASHED);
    stn__sha256_update(&hash, file + STN__CKPT_HEADER, (uint64_t)STN__SECTIONS * STN__CKPT_ENTRY);
    return stn__sha256_final(&hash, hex, err);
}
