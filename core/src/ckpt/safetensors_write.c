/* Writes safetensors files.
 *
 * Input: tensors in any order. Output: the same bytes for the same tensors: wider element types
 * first (so that every tensor is aligned to its element), then by name; JSON keys sorted; the
 * header padded with blanks to a multiple of 8.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "ckpt/bytes.h"
#include "ckpt/safetensors.h"

static const stn__st_type *type_of(const stn_tensor_entry *e) {
    return stn__st_type_of(e->dtype);
}

static int by_width_and_name(const void *a, const void *b) {
    const stn_tensor_entry *x = *(const stn_tensor_entry *const *)a;
    const stn_tensor_entry *y = *(const stn_tensor_entry *const *)b;
    uint32_t wx = type_of(x)->bytes, wy = type_of(y)->bytes;
    return wx != wy ? (wx > wy ? -1 : 1) : strcmp(x->name, y->name);
}

static int32_t check(const char *path, const stn_tensor_entry *e, stn_err *err) {
    uint64_t elems;
    if (e->name == NULL || e->name[0] == '\0' || strcmp(e->name, "__metadata__") == 0) {
        return stn_fail(err, STN_E_USAGE, "%s: safetensors: a tensor has no valid name", path);
    }
    if (type_of(e) == NULL || e->rank > STN__ST_MAX_RANK ||
        !stn__st_elems(e->dim, e->rank, type_of(e)->bytes, &elems) || elems != e->elems) {
        return stn_fail(err, STN_E_USAGE,
                        "%s: safetensors: tensor %.64s has a type or shape that cannot be written",
                        path, e->name);
    }
    return STN_OK;
}

/* Takes over `value`; false if there is no memory or the key is not UTF-8. */
static bool put(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0;
}

static json_t *entry_json(const stn_tensor_entry *e, uint64_t begin) {
    json_t *shape = json_array();
    for (uint32_t d = 0; d < e->rank; d++) {
        (void)json_array_append_new(shape, json_integer((json_int_t)e->dim[d]));
    }
    uint64_t end = begin + e->elems * type_of(e)->bytes;
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", type_of(e)->name, "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)end);
}

static int32_t build(const char *path, const stn_tensor_entry *const *sorted, uint32_t n,
                     const char *const *metadata, json_t *header, stn_err *err) {
    uint64_t at = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (json_object_get(header, sorted[i]->name) != NULL) {
            return stn_fail(err, STN_E_USAGE, "%s: safetensors: tensor %.64s is given twice", path,
                            sorted[i]->name);
        }
        if (!put(header, sorted[i]->name, entry_json(sorted[i], at))) {
            return stn_fail(err, STN_E_USAGE,
                            "%s: safetensors: tensor %u has a name that is not UTF-8, or there is "
                            "no memory",
                            path, i);
        }
        at += sorted[i]->elems * type_of(sorted[i])->bytes;
    }
    if (metadata != NULL && metadata[0] != NULL) {
        json_t *pairs = json_object();
        bool good = put(header, "__metadata__", pairs);
        for (uint32_t i = 0; good && metadata[i] != NULL; i += 2) {
            good = put(pairs, metadata[i], json_string(metadata[i + 1]));
        }
        if (!good) {
            return stn_fail(err, STN_E_USAGE,
                            "%s: safetensors: metadata is not UTF-8, or there is no memory", path);
        }
    }
    return STN_OK;
}

static void write_data(stn__out *out, const stn_tensor_entry *e) {
    uint8_t bytes[4096];
    const uint32_t width = type_of(e)->bytes;
    const uint64_t at_once = sizeof bytes / width;
    const uint8_t *from = e->data;
    for (uint64_t done = 0; done < e->elems;) {
        uint64_t part = e->elems - done < at_once ? e->elems - done : at_once;
        for (uint64_t i = 0; i < part; i++, from += width) {
            uint64_t v8 = 0;
            uint32_t v4 = 0;
            if (width == 8) {
                memcpy(&v8, from, sizeof v8);
                stn__put_u64(bytes + 8 * i, v8);
            } else if (width == 4) {
                memcpy(&v4, from, sizeof v4);
                stn__put_u32(bytes + 4 * i, v4);
            } else {
                bytes[i] = *from;
            }
        }
        stn__out_write(out, bytes, part * width);
        done += part;
    }
}

static int32_t write_file(const char *path, const stn_tensor_entry *const *sorted, uint32_t n,
                          const char *text, stn_err *err) {
    static const char blanks[8] = "        ";
    stn__out out;
    uint8_t length[8];
    uint64_t size = strlen(text), padding = (8 - size % 8) % 8;
    STN_TRY(stn__out_open(&out, path, err));
    stn__put_u64(length, size + padding);
    stn__out_write(&out, length, sizeof length);
    stn__out_write(&out, text, size);
    stn__out_write(&out, blanks, padding);
    for (uint32_t i = 0; i < n; i++) {
        write_data(&out, sorted[i]);
    }
    return stn__out_commit(&out, err);
}

int32_t stn_tensors_write(const char *path, const stn_tensor_entry *entries, uint32_t n,
                          const char *const *metadata, stn_err *err) {
    for (uint32_t i = 0; i < n; i++) {
        STN_TRY(check(path, &entries[i], err));
    }
    const stn_tensor_entry **sorted = stn__calloc(n, sizeof *sorted);
    json_t *header = json_object();
    char *text = NULL;
    int32_t status =
        sorted == NULL || header == NULL ? stn__nomem(err, "safetensors header", n) : STN_OK;
    if (status == STN_OK) {
        for (uint32_t i = 0; i < n; i++) {
            sorted[i] = &entries[i];
        }
        if (n > 1) {
            qsort(sorted, n, sizeof *sorted, by_width_and_name);
        }
        status = build(path, sorted, n, metadata, header, err);
    }
    if (status == STN_OK) {
        text = json_dumps(header, JSON_COMPACT | JSON_SORT_KEYS);
        status = text == NULL ? stn__nomem(err, "safetensors header", n)
                              : write_file(path, sorted, n, text, err);
    }
    free(text);
    json_decref(header);
    stn__free(sorted);
    return status;
}
