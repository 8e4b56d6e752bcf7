/* The canonical state and its hash (docs/checkpoint.md, "State hash").
 *
 * Input: the parts of a checkpoint, tensors in any order. Output: SHA-256 over a byte string that
 * depends on nothing but the state: not on the order given, the host or the compressor.
 */
#include "ckpt/state.h"

#include <string.h>

#include "base/hash.h"
#include "ckpt/bytes.h"

#define FLOATS_AT_ONCE 1024u

static void hash_text(stn__sha256 *hash, const char *text) {
    uint64_t size = text == NULL ? 0 : strlen(text);
    stn__sha256_u32(hash, (uint32_t)size);
    stn__sha256_update(hash, text, size);
}

static void hash_f64(stn__sha256 *hash, double value) {
    uint8_t bytes[8];
    stn__put_f64(bytes, value);
    stn__sha256_update(hash, bytes, sizeof bytes);
}

static void hash_floats(stn__sha256 *hash, const float *data, uint64_t n) {
    uint8_t bytes[4u * FLOATS_AT_ONCE];
    while (n > 0) {
        uint64_t part = n < FLOATS_AT_ONCE ? n : FLOATS_AT_ONCE;
        for (uint64_t i = 0; i < part; i++) {
            stn__put_f32(bytes + 4 * i, data[i]);
        }
        stn__sha256_update(hash, bytes, 4 * part);
        data += part;
        n -= part;
    }
}

static void hash_tensor(stn__sha256 *hash, const stn_ckpt_tensor *tensor) {
    hash_text(hash, tensor->name);
    stn__sha256_u32(hash, tensor->role);
    stn__sha256_u32(hash, tensor->rank);
    for (uint32_t d = 0; d < tensor->rank; d++) {
        stn__sha256_u32(hash, tensor->dim[d]);
    }
    hash_floats(hash, tensor->data, tensor->elems);
}

/* The tensor that follows `last` by name, or the first one if last is NULL. `guess` is where it
 * stands if the tensors are already sorted, which makes the usual case linear; the search needs no
 * memory, so that hashing cannot fail for the lack of it. */
static const stn_ckpt_tensor *next_by_name(const stn_ckpt_tensor *tensors, uint32_t n, bool sorted,
                                           uint32_t guess, const stn_ckpt_tensor *last) {
    if (sorted) {
        return &tensors[guess];
    }
    const stn_ckpt_tensor *best = NULL;
    for (uint32_t i = 0; i < n; i++) {
        if ((last == NULL || strcmp(tensors[i].name, last->name) > 0) &&
            (best == NULL || strcmp(tensors[i].name, best->name) < 0)) {
            best = &tensors[i];
        }
    }
    return best;
}

int32_t stn__state_hash(const stn_ckpt_info *info, const stn_ckpt_tensor *tensors, uint32_t n,
                        char hex[STN_HASH_HEX], stn_err *err) {
    bool sorted = true;
    for (uint32_t i = 1; i < n; i++) {
        sorted = sorted && strcmp(tensors[i - 1].name, tensors[i].name) < 0;
    }
    stn__sha256 hash;
    hex[0] = '\0';
    STN_TRY(stn__sha256_init(&hash, err));
    hash_text(&hash, "stn-state/1");
    hash_text(&hash, info->contract);
    hash_text(&hash, info->recipe);
    stn__sha256_u64(&hash, info->step);
    stn__sha256_u64(&hash, info->seed);
    hash_f64(&hash, info->adam_powers[0]);
    hash_f64(&hash, info->adam_powers[1]);
    hash_text(&hash, info->data_hash);
    stn__sha256_u32(&hash, n);
    const stn_ckpt_tensor *tensor = NULL;
    for (uint32_t i = 0; i < n; i++) {
        tensor = next_by_name(tensors, n, sorted, i, tensor);
        if (tensor == NULL) { /* a name given twice: such a state cannot be stored either */
            break;
        }
        hash_tensor(&hash, tensor);
    }
    return stn__sha256_final(&hash, hex, err);
}

void stn_state_hash(const stn_ckpt_info *info, const stn_ckpt_tensor *tensors, uint32_t n,
                    char hex[STN_HASH_HEX]) {
    (void)stn__state_hash(info, tensors, n, hex, NULL);
}
