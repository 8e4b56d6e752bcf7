/* Writes checkpoints (docs/checkpoint.md).
 *
 * Input: the parts of a state, tensors in any order. Output: the file as one block of bytes, put
 * in place atomically. What a reader would refuse is refused here.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "ckpt/bytes.h"
#include "ckpt/format.h"
#include "ckpt/state.h"

#define ZSTD_LEVEL 3 /* one strategy at every size, and untouched by the SIMD-dependent matcher */

typedef struct buffer {
    uint8_t *bytes;
    uint64_t size;
} buffer;

typedef struct encoder {
    const stn_ckpt_info *info;
    const stn_ckpt_tensor **sorted;
    uint32_t n;
    buffer raw[STN__SECTIONS], stored[STN__SECTIONS];
    ZSTD_CCtx *zstd;
} encoder;

static const char *or_empty(const char *text) {
    return text == NULL ? "" : text;
}

static int32_t check_text(const char *key, const char *text, uint32_t section, stn_err *err) {
    const stn__section_kind *kind = &stn__section_kinds[section];
    uint64_t head = section == STN__SEC_NOTE ? 4 : 0;
    uint64_t size = strlen(or_empty(text)) + head;
    if (size < kind->min || size > kind->max) {
        return stn_fail(
            err, STN_E_USAGE, "checkpoint: %s has %llu bytes, a checkpoint holds %llu to %llu", key,
            (unsigned long long)size, (unsigned long long)kind->min, (unsigned long long)kind->max);
    }
    return STN_OK;
}

static int32_t check_info(const stn_ckpt_info *info, stn_err *err) {
    STN_TRY(check_text("contract", info->contract, STN__SEC_CONTRACT, err));
    STN_TRY(check_text("recipe", info->recipe, STN__SEC_RECIPE, err));
    STN_TRY(check_text("data hash", info->data_hash, STN__SEC_DATA, err));
    STN_TRY(check_text("note", info->note, STN__SEC_NOTE, err));
    for (int i = 0; i < 2; i++) {
        if (!isfinite(info->adam_powers[i])) {
            return stn_fail(err, STN_E_NONFINITE,
                            "checkpoint: power %d of the optimizer is not finite and is not stored",
                            i + 1);
        }
    }
    return STN_OK;
}

static int32_t check_tensor(const stn_ckpt_tensor *tensor, stn_err *err) {
    const char *name = or_empty(tensor->name);
    const char *fault = stn__tensor_name_fault(name, strlen(name));
    if (fault != NULL) {
        return stn_fail(err, STN_E_USAGE, "checkpoint: tensor name \"%.64s\" %s", name, fault);
    }
    uint64_t elems;
    if (tensor->role > 2 || !stn__tensor_elems(tensor->dim, tensor->rank, &elems) ||
        elems != tensor->elems) {
        return stn_fail(err, STN_E_USAGE,
                        "checkpoint: tensor %s has an unknown role or a shape that does not give "
                        "its %llu elements",
                        name, (unsigned long long)tensor->elems);
    }
    for (uint64_t i = 0; i < elems; i++) {
        if (stn_nonfinite(tensor->data[i])) {
            return stn_fail(err, STN_E_NONFINITE,
                            "checkpoint: element %llu of tensor %s is not finite and is not stored",
                            (unsigned long long)i, name);
        }
    }
    return STN_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp((*(const stn_ckpt_tensor *const *)a)->name,
                  (*(const stn_ckpt_tensor *const *)b)->name);
}

static int32_t sort_tensors(encoder *e, const stn_ckpt_tensor *tensors, stn_err *err) {
    if (e->n > STN__CKPT_MAX_TENSORS) {
        return stn_fail(err, STN_E_USAGE, "checkpoint: %u tensors, at most %u can be stored", e->n,
                        STN__CKPT_MAX_TENSORS);
    }
    e->sorted = stn__calloc(e->n, sizeof *e->sorted);
    if (e->sorted == NULL) {
        return stn__nomem(err, "table of tensors", e->n * sizeof *e->sorted);
    }
    for (uint32_t i = 0; i < e->n; i++) {
        STN_TRY(check_tensor(&tensors[i], err));
        e->sorted[i] = &tensors[i];
    }
    qsort(e->sorted, e->n, sizeof *e->sorted, by_name);
    for (uint32_t i = 1; i < e->n; i++) {
        if (strcmp(e->sorted[i - 1]->name, e->sorted[i]->name) == 0) {
            return stn_fail(err, STN_E_USAGE, "checkpoint: tensor %s is given twice",
                            e->sorted[i]->name);
        }
    }
    return STN_OK;
}

static int32_t new_raw(encoder *e, uint32_t section, uint64_t size, uint8_t **bytes, stn_err *err) {
    const stn__section_kind *kind = &stn__section_kinds[section];
    if (size > kind->max) {
        return stn_fail(err, STN_E_USAGE,
                        "checkpoint: section %s would have %llu bytes of at most %llu", kind->name,
                        (unsigned long long)size, (unsigned long long)kind->max);
    }
    e->raw[section] = (buffer){stn__alloc(size), size};
    *bytes = e->raw[section].bytes;
    return *bytes == NULL ? stn__nomem(err, kind->name, size) : STN_OK;
}

static int32_t put_text(encoder *e, uint32_t section, const char *text, stn_err *err) {
    uint8_t *p;
    uint64_t size = strlen(or_empty(text));
    STN_TRY(new_raw(e, section, size, &p, err));
    memcpy(p, or_empty(text), size);
    return STN_OK;
}

static int32_t put_scalars(encoder *e, stn_err *err) {
    uint8_t *p;
    STN_TRY(new_raw(e, STN__SEC_STEP, 8, &p, err));
    stn__put_u64(p, e->info->step);
    STN_TRY(new_raw(e, STN__SEC_SEED, 8, &p, err));
    stn__put_u64(p, e->info->seed);
    STN_TRY(new_raw(e, STN__SEC_ADAM, 16, &p, err));
    stn__put_f64(p, e->info->adam_powers[0]);
    stn__put_f64(p + 8, e->info->adam_powers[1]);
    const char *note = or_empty(e->info->note);
    STN_TRY(new_raw(e, STN__SEC_NOTE, 4 + strlen(note), &p, err));
    stn__put_u32(p, e->info->not_reproducible ? STN__NOTE_NOT_REPRODUCIBLE : 0);
    memcpy(p + 4, note, strlen(note));
    return STN_OK;
}

static int32_t put_tensors(encoder *e, stn_err *err) {
    uint64_t table = 4, floats = 0;
    for (uint32_t i = 0; i < e->n; i++) {
        table += 12 + strlen(e->sorted[i]->name) + 4 * (uint64_t)e->sorted[i]->rank;
        floats += e->sorted[i]->elems; /* each < 2^36 and n < 2^17: no overflow */
    }
    uint8_t *t, *v;
    STN_TRY(new_raw(e, STN__SEC_TENSORS, table, &t, err));
    STN_TRY(new_raw(e, STN__SEC_VALUES, 4 * floats, &v, err));
    stn__put_u32(t, e->n);
    t += 4;
    for (uint32_t i = 0; i < e->n; i++) {
        const stn_ckpt_tensor *tensor = e->sorted[i];
        uint32_t size = (uint32_t)strlen(tensor->name);
        stn__put_u32(t, size);
        memcpy(t + 4, tensor->name, size);
        t += 4 + size;
        stn__put_u32(t, tensor->role);
        stn__put_u32(t + 4, tensor->rank);
        t += 8;
        for (uint32_t d = 0; d < tensor->rank; d++, t += 4) {
            stn__put_u32(t, tensor->dim[d]);
        }
        for (uint64_t k = 0; k < tensor->elems; k++, v += 4) {
            stn__put_f32(v, tensor->data[k]);
        }
    }
    return STN_OK;
}

static int32_t zstd_setup(encoder *e, stn_err *err) {
    e->zstd = ZSTD_createCCtx();
    if (e->zstd == NULL) {
        return stn_fail(err, STN_E_NOMEM, "out of memory: zstd compressor");
    }
    if (ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_checksumFlag, 1)) ||
        ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_contentSizeFlag, 1))) {
        return stn_fail(err, STN_E_FAIL, "zstd refuses level %d with checksums", ZSTD_LEVEL);
    }
    return STN_OK;
}

static int32_t compress(encoder *e, uint32_t section, stn_err *err) {
    const char *name = stn__section_kinds[section].name;
    const buffer *raw = &e->raw[section];
    size_t bound = ZSTD_compressBound((size_t)raw->size);
    uint8_t *bytes = ZSTD_isError(bound) ? NULL : stn__alloc(bound);
    if (bytes == NULL) {
        return stn__nomem(err, name, bound);
    }
    e->stored[section].bytes = bytes;
    size_t size = ZSTD_compress2(e->zstd, bytes, bound, raw->bytes, (size_t)raw->size);
    if (ZSTD_isError(size)) {
        return stn_fail(err, STN_E_NOMEM, "checkpoint: compressing section %s: %s", name,
                        ZSTD_getErrorName(size));
    }
    e->stored[section].size = size;
    stn__free(e->raw[section].bytes);
    e->raw[section].bytes = NULL;
    return STN_OK;
}

/* Table entry of a section that begins at `offset`. */
static int32_t put_entry(const encoder *e, uint32_t section, uint64_t offset, uint8_t *entry,
                         stn_err *err) {
    char hex[STN__SHA256_HEX];
    const buffer *stored = &e->stored[section];
    STN_TRY(stn__sha256_of(stored->bytes, stored->size, hex, err));
    memset(entry, 0, STN__CKPT_NAME);
    memcpy(entry, stn__section_kinds[section].name, strlen(stn__section_kinds[section].name));
    stn__put_u64(entry + 16, offset);
    stn__put_u64(entry + 24, stored->size);
    stn__put_u64(entry + 32, e->raw[section].size);
    stn__unhex(hex, entry + 40);
    return STN_OK;
}

/* Joins header, table and sections; `state` is the state hash. */
static int32_t assemble(const encoder *e, const char *state, uint8_t **bytes, uint64_t *size,
                        stn_err *err) {
    const uint64_t begin = STN__CKPT_HEADER + (uint64_t)STN__SECTIONS * STN__CKPT_ENTRY;
    uint64_t total = begin;
    for (uint32_t s = 0; s < STN__SECTIONS; s++) {
        total += e->stored[s].size;
    }
    uint8_t *file = stn__alloc(total);
    if (file == NULL) {
        return stn__nomem(err, "checkpoint file", total);
    }
    *bytes = file;
    *size = total;
    memcpy(file, STN__CKPT_MAGIC, 8);
    stn__put_u32(file + 8, STN__CKPT_FORMAT);
    stn__put_u32(file + 12, 0);
    stn__put_u32(file + 16, STN__SECTIONS);
    stn__put_u32(file + 20, 0);
    stn__put_u64(file + 24, total);
    stn__unhex(state, file + 32);
    uint64_t offset = begin;
    for (uint32_t s = 0; s < STN__SECTIONS; s++) {
        STN_TRY(put_entry(e, s, offset, file + STN__CKPT_HEADER + s * STN__CKPT_ENTRY, err));
        memcpy(file + offset, e->stored[s].bytes, e->stored[s].size);
        offset += e->stored[s].size;
    }
    char hex[STN__SHA256_HEX];
    STN_TRY(stn__ckpt_header_hash(file, hex, err));
    stn__unhex(hex, file + STN__CKPT_HASHED);
    return STN_OK;
}

static int32_t encode(encoder *e, const stn_ckpt_tensor *tensors, uint8_t **bytes, uint64_t *size,
                      stn_err *err) {
    char state[STN_HASH_HEX];
    STN_TRY(check_info(e->info, err));
    STN_TRY(sort_tensors(e, tensors, err));
    STN_TRY(stn__state_hash(e->info, tensors, e->n, state, err));
    STN_TRY(put_text(e, STN__SEC_CONTRACT, e->info->contract, err));
    STN_TRY(put_text(e, STN__SEC_DATA, e->info->data_hash, err));
    STN_TRY(put_text(e, STN__SEC_RECIPE, e->info->recipe, err));
    STN_TRY(put_scalars(e, err));
    STN_TRY(put_tensors(e, err));
    STN_TRY(zstd_setup(e, err));
    for (uint32_t s = 0; s < STN__SECTIONS; s++) {
        STN_TRY(compress(e, s, err));
    }
    return assemble(e, state, bytes, size, err);
}

int32_t stn__ckpt_encode(const stn_ckpt_info *info, const stn_ckpt_tensor *tensors, uint32_t n,
                         uint8_t **bytes, uint64_t *size, stn_err *err) {
    encoder e = {.info = info, .n = n};
    *bytes = NULL;
    *size = 0;
    int32_t status = encode(&e, tensors, bytes, size, err);
    for (uint32_t s = 0; s < STN__SECTIONS; s++) {
        stn__free(e.raw[s].bytes);
        stn__free(e.stored[s].bytes);
    }
    stn__free(e.sorted);
    (void)ZSTD_freeCCtx(e.zstd);
    if (status != STN_OK) {
        stn__free(*bytes);
        *bytes = NULL;
        *size = 0;
    }
    return status;
}

int32_t stn_ckpt_write(const char *path, const stn_ckpt_info *info, const stn_ckpt_tensor *tensors,
                       uint32_t n, stn_err *err) {
    uint8_t *bytes;
    uint64_t size;
    STN_TRY(stn__ckpt_encode(info, tensors, n, &bytes, &size, err));
    int32_t status = stn__file_write(path, bytes, size, err);
    stn__free(bytes);
    return status;
}
