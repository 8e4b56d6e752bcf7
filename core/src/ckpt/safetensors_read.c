/* Reads safetensors files: a length, a JSON header, the bytes of the tensors.
 *
 * Input: untrusted bytes. Output: tensors sorted by name, each aligned to 16 bytes and in the
 * host's byte order. The entries must tile the data exactly: no overlap, gap, duplicate or entry
 * that leaves the file.
 */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/text.h"
#include "ckpt/bytes.h"
#include "ckpt/safetensors.h"

#define MAX_FILE (UINT64_C(1) << 40)

typedef struct entry {
    stn_tensor_entry tensor;
    char *name;
    uint64_t begin, end; /* in the data part */
    uint32_t bytes;      /* per element */
} entry;

struct stn_tensors {
    entry *entries; /* sorted by name */
    uint32_t n;
    char **metadata; /* key, value, ... */
    uint32_t n_metadata;
    uint8_t *data;
};

typedef struct reader {
    const char *where;
    const uint8_t *data; /* after the header */
    uint64_t size;
    stn_err *err;
} reader;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static int32_t
bad(const reader *r, const char *format, ...) {
    char what[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    for (char *p = what; *p != '\0'; p++) { /* names and JSON of the file are quoted */
        *p = (unsigned char)*p < ' ' || *p == 127 ? '?' : *p;
    }
    return stn_fail(r->err, STN_E_FORMAT, "%s: safetensors: %s", r->where, what);
}

static bool read_u64(const json_t *json, uint64_t *out) {
    if (!json_is_integer(json) || json_integer_value(json) < 0) {
        return false;
    }
    *out = (uint64_t)json_integer_value(json);
    return true;
}

static int32_t read_shape(const reader *r, const json_t *shape, entry *e) {
    stn_tensor_entry *t = &e->tensor;
    if (!json_is_array(shape) || json_array_size(shape) > STN__ST_MAX_RANK) {
        return bad(r, "tensor %.64s: shape is not a list of at most %u sizes", t->name,
                   STN__ST_MAX_RANK);
    }
    t->rank = (uint32_t)json_array_size(shape);
    for (uint32_t d = 0; d < t->rank; d++) {
        if (!read_u64(json_array_get(shape, d), &t->dim[d])) {
            return bad(r, "tensor %.64s: shape holds something that is no size", t->name);
        }
    }
    if (!stn__st_elems(t->dim, t->rank, e->bytes, &t->elems)) {
        return bad(r, "tensor %.64s: shape is too large", t->name);
    }
    return STN_OK;
}

static int32_t read_offsets(const reader *r, const json_t *offsets, entry *e) {
    const char *name = e->tensor.name;
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
        !read_u64(json_array_get(offsets, 0), &e->begin) ||
        !read_u64(json_array_get(offsets, 1), &e->end)) {
        return bad(r, "tensor %.64s: data_offsets are not two sizes", name);
    }
    if (e->begin > e->end || e->end > r->size) {
        return bad(r, "tensor %.64s: bytes %llu to %llu lie outside of the %llu in the file", name,
                   (unsigned long long)e->begin, (unsigned long long)e->end,
                   (unsigned long long)r->size);
    }
    if (e->end - e->begin != e->tensor.elems * e->bytes) {
        return bad(r, "tensor %.64s: %llu bytes stored, its shape needs %llu", name,
                   (unsigned long long)(e->end - e->begin),
                   (unsigned long long)(e->tensor.elems * e->bytes));
    }
    return STN_OK;
}

static int32_t read_entry(const reader *r, const char *name, const json_t *json, entry *e) {
    e->name = stn__strdup(name);
    if (e->name == NULL) {
        return stn__nomem(r->err, "tensor name", strlen(name) + 1);
    }
    e->tensor.name = e->name;
    if (!json_is_object(json) || json_object_size(json) != 3) {
        return bad(r, "tensor %.64s: needs exactly dtype, shape and data_offsets", name);
    }
    const json_t *dtype = json_object_get(json, "dtype");
    const stn__st_type *type =
        json_is_string(dtype) ? stn__st_type_named(json_string_value(dtype)) : NULL;
    if (type == NULL) {
        return bad(r, "tensor %.64s: unknown dtype %.16s", name,
                   json_is_string(dtype) ? json_string_value(dtype) : "(none)");
    }
    e->tensor.dtype = type->dtype;
    e->bytes = type->bytes;
    STN_TRY(read_shape(r, json_object_get(json, "shape"), e));
    return read_offsets(r, json_object_get(json, "data_offsets"), e);
}

static int32_t read_metadata(const reader *r, json_t *json, stn_tensors *file) {
    const char *key;
    json_t *value;
    if (!json_is_object(json)) {
        return bad(r, "__metadata__ is not an object");
    }
    uint64_t slots = 2 * (uint64_t)json_object_size(json);
    file->metadata = stn__calloc(slots, sizeof *file->metadata);
    if (file->metadata == NULL) {
        return stn__nomem(r->err, "metadata", slots * sizeof *file->metadata);
    }
    json_object_foreach(json, key, value) {
        if (!json_is_string(value)) {
            return bad(r, "metadata %.64s is not a string", key);
        }
        char **pair = &file->metadata[file->n_metadata];
        file->n_metadata += 2;
        pair[0] = stn__strdup(key);
        pair[1] = stn__strdup(json_string_value(value));
        if (pair[0] == NULL || pair[1] == NULL) {
            return stn__nomem(r->err, "metadata", json_string_length(value));
        }
    }
    return STN_OK;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const entry *)a)->tensor.name, ((const entry *)b)->tensor.name);
}

/* By place; empty tensors come first where they share a place with others. */
static int by_place(const void *a, const void *b) {
    const entry *x = a, *y = b;
    if (x->begin != y->begin) {
        return x->begin < y->begin ? -1 : 1;
    }
    return (x->end > y->end) - (x->end < y->end);
}

static int32_t check_tiling(const reader *r, stn_tensors *file) {
    uint64_t at = 0;
    if (file->n > 1) {
        qsort(file->entries, file->n, sizeof *file->entries, by_place);
    }
    for (uint32_t i = 0; i < file->n; i++) {
        const entry *e = &file->entries[i];
        if (e->begin != at) {
            return bad(r, "tensor %.64s %s at byte %llu", e->tensor.name,
                       e->begin < at ? "overlaps another one" : "leaves a gap before it",
                       (unsigned long long)e->begin);
        }
        at = e->end;
    }
    if (at != r->size) {
        return bad(r, "%llu bytes belong to no tensor", (unsigned long long)(r->size - at));
    }
    return STN_OK;
}

/* Copies one tensor into the host's byte order. */
static void place(const uint8_t *from, uint8_t *to, uint64_t elems, uint32_t bytes) {
    for (uint64_t i = 0; i < elems; i++, from += bytes, to += bytes) {
        if (bytes == 8) {
            uint64_t v = stn__get_u64(from);
            memcpy(to, &v, sizeof v);
        } else if (bytes == 4) {
            uint32_t v = stn__get_u32(from);
            memcpy(to, &v, sizeof v);
        } else if (bytes == 2) {
            uint16_t v = (uint16_t)(from[0] | from[1] << 8);
            memcpy(to, &v, sizeof v);
        } else {
            *to = *from;
        }
    }
}

static int32_t place_all(const reader *r, stn_tensors *file) {
    uint64_t total = 0;
    for (uint32_t i = 0; i < file->n; i++) { /* at most size + 16 n: no overflow */
        total += (file->entries[i].end - file->entries[i].begin + 15) / 16 * 16;
    }
    file->data = stn__alloc(total);
    if (file->data == NULL) {
        return stn__nomem(r->err, "tensors", total);
    }
    uint8_t *to = file->data;
    for (uint32_t i = 0; i < file->n; i++) {
        entry *e = &file->entries[i];
        place(r->data + e->begin, to, e->tensor.elems, e->bytes);
        e->tensor.data = to;
        to += (e->end - e->begin + 15) / 16 * 16;
    }
    return STN_OK;
}

static int32_t read_header(const reader *r, json_t *header, stn_tensors *file) {
    const char *name;
    json_t *value;
    if (!json_is_object(header)) {
        return bad(r, "the header is not a JSON object");
    }
    uint64_t n = json_object_size(header);
    file->entries = stn__calloc(n, sizeof *file->entries);
    if (file->entries == NULL || n > UINT32_MAX) {
        return stn__nomem(r->err, "table of tensors", n);
    }
    json_object_foreach(header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            STN_TRY(read_metadata(r, value, file));
        } else {
            STN_TRY(read_entry(r, name, value, &file->entries[file->n++]));
        }
    }
    STN_TRY(check_tiling(r, file));
    if (file->n > 1) {
        qsort(file->entries, file->n, sizeof *file->entries, by_name);
    }
    return place_all(r, file);
}

static int32_t parse(const void *bytes, uint64_t size, const char *where, stn_tensors *file,
                     stn_err *err) {
    reader r = {.where = where, .err = err};
    if (size < 8) {
        return bad(&r, "the file is shorter than the 8 bytes of its header's length");
    }
    uint64_t length = stn__get_u64(bytes);
    if (length > size - 8 || length > STN__ST_MAX_HEADER) {
        return bad(&r, "a header of %llu bytes does not fit the file or the limit of %llu",
                   (unsigned long long)length, (unsigned long long)STN__ST_MAX_HEADER);
    }
    const char *text = (const char *)bytes + 8;
    r.data = (const uint8_t *)text + length;
    r.size = size - 8 - length;
    json_error_t error;
    json_t *header = json_loadb(text, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (header == NULL) {
        return bad(&r, "header, byte %d: %.100s", error.position, error.text);
    }
    int32_t status = read_header(&r, header, file);
    json_decref(header);
    return status;
}

int32_t stn_tensors_parse(const void *bytes, uint64_t size, const char *where, stn_tensors **file,
                          stn_err *err) {
    stn_tensors *f = stn__calloc(1, sizeof *f);
    *file = NULL;
    if (f == NULL) {
        return stn__nomem(err, "safetensors file", sizeof *f);
    }
    int32_t status = parse(bytes, size, where, f, err);
    if (status != STN_OK) {
        stn_tensors_close(f);
        return status;
    }
    *file = f;
    return STN_OK;
}

int32_t stn_tensors_open(const char *path, stn_tensors **file, stn_err *err) {
    char *bytes;
    uint64_t size;
    *file = NULL;
    STN_TRY(stn__file_read(path, MAX_FILE, &bytes, &size, err));
    int32_t status = stn_tensors_parse(bytes, size, path, file, err);
    stn__free(bytes);
    return status;
}

void stn_tensors_close(stn_tensors *file) {
    if (file == NULL) {
        return;
    }
    for (uint32_t i = 0; i < file->n; i++) {
        stn__free(file->entries[i].name);
    }
    for (uint32_t i = 0; i < file->n_metadata; i++) {
        stn__free(file->metadata[i]);
    }
    stn__free(file->entries);
    stn__free(file->metadata);
    stn__free(file->data);
    stn__free(file);
}

uint32_t stn_tensors_count(const stn_tensors *file) {
    return file->n;
}

int32_t stn_tensors_get(const stn_tensors *file, uint32_t index, stn_tensor_entry *entry_out) {
    if (index >= file->n) {
        return STN_E_NOTFOUND;
    }
    *entry_out = file->entries[index].tensor;
    return STN_OK;
}

int32_t stn_tensors_find(const stn_tensors *file, const char *name, stn_tensor_entry *entry_out) {
    uint32_t low = 0, high = file->n;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = strcmp(name, file->entries[middle].tensor.name);
        if (order == 0) {
            *entry_out = file->entries[middle].tensor;
            return STN_OK;
        }
        *(order < 0 ? &high : &low) = order < 0 ? middle : middle + 1;
    }
    return STN_E_NOTFOUND;
}

const char *stn_tensors_metadata(const stn_tensors *file, const char *key) {
    for (uint32_t i = 0; i < file->n_metadata; i += 2) {
        if (strcmp(file->metadata[i], key) == 0) {
            return file->metadata[i + 1];
        }
    }
    return NULL;
}
