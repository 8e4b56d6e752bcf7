/* Any bytes as a checkpoint: no crash, and what is accepted can be written again to the same state.
 *
 * Hashes would stop every mutation at the door, so an input that begins with the magic is also
 * tried with its hashes put right: of the header and the table, and of each stored section. */
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "base/hash.h"
#include "base/mem.h"
#include "ckpt/bytes.h"
#include "ckpt/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Rewrites an accepted checkpoint and compares the hash of the state. */
static void write_again(const stn_ckpt *ckpt) {
    stn_ckpt_info info;
    stn_err err = {0};
    stn_ckpt_info_get(ckpt, &info);
    stn_ckpt_tensor *tensors = calloc(info.n_tensors + 1u, sizeof *tensors);
    uint8_t *bytes;
    uint64_t size;
    if (tensors == NULL) {
        return;
    }
    for (uint32_t i = 0; i < info.n_tensors; i++) {
        if (stn_ckpt_tensor_get(ckpt, i, &tensors[i]) != STN_OK) {
            abort();
        }
    }
    if (stn__ckpt_encode(&info, tensors, info.n_tensors, &bytes, &size, &err) != STN_OK) {
        abort();
    }
    stn_ckpt *again;
    stn_ckpt_info other;
    if (stn__ckpt_decode(bytes, size, "again", &again, &err) != STN_OK) {
        abort();
    }
    stn_ckpt_info_get(again, &other);
    if (strcmp(info.state_hash, other.state_hash) != 0) {
        abort();
    }
    stn_ckpt_close(again);
    stn__free(bytes);
    free(tensors);
}

static void try_bytes(const uint8_t *data, size_t size) {
    stn_ckpt *ckpt;
    stn_err err = {0};
    if (stn__ckpt_decode(data, size, "input", &ckpt, &err) != STN_OK) {
        if (err.text[0] == '\0' || strchr(err.text, '\n') != NULL) {
            abort(); /* every refusal is one line */
        }
        return;
    }
    write_again(ckpt);
    stn_ckpt_close(ckpt);
}

static void fix_hashes(uint8_t *file, size_t size) {
    char hex[STN_HASH_HEX];
    stn__put_u64(file + 24, size);
    for (uint32_t s = 0; s < STN__SECTIONS; s++) {
        uint8_t *entry = file + STN__CKPT_HEADER + s * STN__CKPT_ENTRY;
        uint64_t offset = stn__get_u64(entry + 16), stored = stn__get_u64(entry + 24);
        if (offset <= size && stored <= size - offset &&
            stn__sha256_of(file + offset, stored, hex, NULL) == STN_OK) {
            stn__unhex(hex, entry + 40);
        }
    }
    if (stn__ckpt_header_hash(file, hex, NULL) == STN_OK) {
        stn__unhex(hex, file + STN__CKPT_HASHED);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_bytes(data, size);
    if (size >= STN__CKPT_HEADER + STN__SECTIONS * STN__CKPT_ENTRY &&
        memcmp(data, STN__CKPT_MAGIC, 8) == 0) {
        uint8_t *copy = malloc(size);
        if (copy != NULL) {
            memcpy(copy, data, size);
            fix_hashes(copy, size);
            try_bytes(copy, size);
            free(copy);
        }
    }
    return 0;
}
