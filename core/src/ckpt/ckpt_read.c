/* Reads and verifies checkpoints (docs/checkpoint.md).
 *
 * Input: untrusted bytes. Output: a checkpoint of which every byte has been checked. Sizes are
 * compared with the file and with fixed limits before memory is asked for.
 */
#include <math.h>
#include <string.h>
#include <zstd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/mem.h"
#include "ckpt/bytes.h"
#include "ckpt/format.h"
#include "ckpt/state.h"

/* A zstd block of 128 KiB takes at least 4 bytes (a repeated byte). */
#define MAX_RATIO 32768u
#define MAX_FILE (8 * STN__CKPT_MAX_FLOATS)

struct stn_ckpt {
    stn_ckpt_info info;
    char *text[STN__SECTIONS]; /* contract, data, note, recipe */
    char *model, *network, *names;
    stn_ckpt_tensor *tensors;
    uint8_t *values;
};

typedef struct section {
    const uint8_t *stored;
    uint64_t size, raw;
} section;

typedef struct decoder {
    const uint8_t *bytes;
    uint64_t size;
    const char *where;
    section sections[STN__SECTIONS];
    ZSTD_DCtx *zstd;
    stn_err *err;
} decoder;

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static int32_t
damaged(const decoder *d, const char *format, ...) {
    char what[160];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return stn_fail(d->err, STN_E_FORMAT, "%s: %s", d->where, what);
}

static int32_t read_header(const decoder *d) {
    if (d->size < 8 || memcmp(d->bytes, STN__CKPT_MAGIC, 8) != 0) {
        return damaged(d, "not a checkpoint of stn");
    }
    if (d->size < STN__CKPT_HEADER) {
        return damaged(d, "checkpoint is cut inside its header");
    }
    uint32_t format = stn__get_u32(d->bytes + 8);
    if (format > STN__CKPT_FORMAT) {
        return damaged(d,
                       "checkpoint format %u is newer than %u, the newest known here; use a "
                       "newer stn",
                       format, STN__CKPT_FORMAT);
    }
    if (format != STN__CKPT_FORMAT || stn__get_u32(d->bytes + 16) != STN__SECTIONS) {
        return damaged(d, "checkpoint header is damaged");
    }
    uint64_t size = stn__get_u64(d->bytes + 24);
    if (size != d->size || d->size < STN__CKPT_HEADER + (uint64_t)STN__SECTIONS * STN__CKPT_ENTRY) {
        return damaged(d, "checkpoint has %llu bytes where its header says %llu",
                       (unsigned long long)d->size, (unsigned long long)size);
    }
    char hex[STN__SHA256_HEX];
    uint8_t hash[32];
    STN_TRY(stn__ckpt_header_hash(d->bytes, hex, d->err));
    stn__unhex(hex, hash);
    if (memcmp(hash, d->bytes + STN__CKPT_HASHED, 32) != 0) {
        return damaged(d, "checkpoint header is damaged");
    }
    if (stn__get_u32(d->bytes + 12) != 0 || stn__get_u32(d->bytes + 20) != 0) {
        return damaged(d, "checkpoint uses reserved bits; use a newer stn");
    }
    return STN_OK;
}

static int32_t read_entry(decoder *d, uint32_t index, uint64_t *offset) {
    const uint8_t *entry = d->bytes + STN__CKPT_HEADER + index * STN__CKPT_ENTRY;
    const stn__section_kind *kind = &stn__section_kinds[index];
    section *s = &d->sections[index];
    s->size = stn__get_u64(entry + 24);
    s->raw = stn__get_u64(entry + 32);
    if (memcmp(entry, kind->name, STN__CKPT_NAME) != 0) {
        return damaged(d, "section %u of the checkpoint is not %s", index, kind->name);
    }
    if (stn__get_u64(entry + 16) != *offset || s->size > d->size - *offset) {
        return damaged(d, "section %s lies outside its place", kind->name);
    }
    if (s->raw < kind->min || s->raw > kind->max || s->raw / MAX_RATIO > s->size ||
        s->raw > SIZE_MAX - 1) {
        return damaged(d, "section %s claims %llu bytes", kind->name, (unsigned long long)s->raw);
    }
    s->stored = d->bytes + *offset;
    *offset += s->size;
    char hex[STN__SHA256_HEX];
    uint8_t hash[32];
    STN_TRY(stn__sha256_of(s->stored, s->size, hex, d->err));
    stn__unhex(hex, hash);
    if (memcmp(hash, entry + 40, 32) != 0) {
        return damaged(d, "section %s is damaged", kind->name);
    }
    return STN_OK;
}

static int32_t read_table(decoder *d) {
    uint64_t offset = STN__CKPT_HEADER + (uint64_t)STN__SECTIONS * STN__CKPT_ENTRY;
    for (uint32_t i = 0; i < STN__SECTIONS; i++) {
        STN_TRY(read_entry(d, i, &offset));
    }
    if (offset != d->size) {
        return damaged(d, "%llu bytes follow the last section",
                       (unsigned long long)(d->size - offset));
    }
    return STN_OK;
}

/* Decompresses a section into `out`, which has room for its raw size. */
static int32_t expand(const decoder *d, uint32_t index, void *out) {
    const section *s = &d->sections[index];
    if (ZSTD_getFrameContentSize(s->stored, (size_t)s->size) != s->raw ||
        ZSTD_findFrameCompressedSize(s->stored, (size_t)s->size) != s->size ||
        ZSTD_decompressDCtx(d->zstd, out, (size_t)s->raw, s->stored, (size_t)s->size) != s->raw) {
        return damaged(d, "section %s does not decompress to its %llu bytes",
                       stn__section_kinds[index].name, (unsigned long long)s->raw);
    }
    return STN_OK;
}

/* As expand, into a new block with a zero byte behind it. */
static int32_t expand_new(const decoder *d, uint32_t index, uint8_t **out) {
    uint64_t raw = d->sections[index].raw;
    *out = stn__alloc(raw + 1);
    if (*out == NULL) {
        return stn__nomem(d->err, stn__section_kinds[index].name, raw + 1);
    }
    (*out)[raw] = 0;
    return expand(d, index, *out);
}

static int32_t read_text(const decoder *d, stn_ckpt *c, uint32_t index, uint64_t skip,
                         const char **text) {
    uint8_t *bytes = NULL;
    int32_t status = expand_new(d, index, &bytes);
    c->text[index] = (char *)bytes;
    STN_TRY(status);
    *text = c->text[index] + skip;
    if (strlen(*text) + skip != d->sections[index].raw) {
        return damaged(d, "section %s holds a zero byte", stn__section_kinds[index].name);
    }
    return STN_OK;
}

static int32_t read_info(const decoder *d, stn_ckpt *c) {
    uint8_t number[16];
    stn_ckpt_info *info = &c->info;
    info->format = STN__CKPT_FORMAT;
    STN_TRY(read_text(d, c, STN__SEC_CONTRACT, 0, &info->contract));
    STN_TRY(read_text(d, c, STN__SEC_DATA, 0, &info->data_hash));
    STN_TRY(read_text(d, c, STN__SEC_RECIPE, 0, &info->recipe));
    STN_TRY(read_text(d, c, STN__SEC_NOTE, 4, &info->note));
    uint32_t flags = stn__get_u32((const uint8_t *)c->text[STN__SEC_NOTE]);
    if ((flags & ~STN__NOTE_NOT_REPRODUCIBLE) != 0) {
        return damaged(d, "checkpoint note uses reserved bits; use a newer stn");
    }
    info->not_reproducible = flags != 0;
    STN_TRY(expand(d, STN__SEC_STEP, number));
    info->step = stn__get_u64(number);
    STN_TRY(expand(d, STN__SEC_SEED, number));
    info->seed = stn__get_u64(number);
    STN_TRY(expand(d, STN__SEC_ADAM, number));
    for (int i = 0; i < 2; i++) {
        info->adam_powers[i] = stn__get_f64(number + 8 * i);
        if (!isfinite(info->adam_powers[i])) {
            return damaged(d, "power %d of the optimizer is not finite", i + 1);
        }
    }
    return STN_OK;
}

/* Copies the value of "key = value" in the canonical recipe text, "" if there is none. */
static int32_t recipe_value(const char *recipe, const char *key, char **value, stn_err *err) {
    uint64_t n = strlen(key), size = 0;
    const char *line = recipe;
    while (line != NULL && !(strncmp(line, key, n) == 0 && strncmp(line + n, " = ", 3) == 0)) {
        line = strchr(line, '\n');
        line = line == NULL ? NULL : line + 1;
    }
    if (line != NULL) {
        line += n + 3;
        size = strcspn(line, "\n");
    }
    *value = stn__calloc(size + 1, 1);
    if (*value == NULL) {
        return stn__nomem(err, "checkpoint text", size + 1);
    }
    if (size > 0) {
        memcpy(*value, line, size);
    }
    return STN_OK;
}

/* One record of tensor.table; its name goes to *names, which moves on. `last` is the name before.
 */
static int32_t read_tensor(const decoder *d, stn__span *table, stn_ckpt_tensor *tensor,
                           char **names, const char *last) {
    uint32_t size = stn__span_u32(table);
    const char *name = (const char *)stn__span_take(table, size);
    tensor->role = stn__span_u32(table);
    tensor->rank = stn__span_u32(table);
    if (table->bad || stn__tensor_name_fault(name, size) != NULL || tensor->role > 2 ||
        tensor->rank > STN_MAX_RANK) {
        return damaged(d, "section tensor.table holds a record that is not valid");
    }
    memcpy(*names, name, size);
    (*names)[size] = '\0';
    tensor->name = *names;
    *names += size + 1;
    for (uint32_t i = 0; i < STN_MAX_RANK; i++) {
        tensor->dim[i] = i < tensor->rank ? stn__span_u32(table) : 1;
    }
    if (table->bad || !stn__tensor_elems(tensor->dim, tensor->rank, &tensor->elems)) {
        return damaged(d, "tensor %s has no valid shape", tensor->name);
    }
    if (last != NULL && strcmp(last, tensor->name) >= 0) {
        return damaged(d, "tensor %s is out of order or stored twice", tensor->name);
    }
    return STN_OK;
}

/* Every record takes at least 13 bytes of the table, which bounds the memory asked for. */
static int32_t read_records(const decoder *d, stn_ckpt *c, stn__span table, uint64_t *floats) {
    uint32_t n = stn__span_u32(&table);
    uint64_t names_size = table.left;
    if (n > STN__CKPT_MAX_TENSORS || n > table.left / 13) {
        return damaged(d, "section tensor.table claims %u tensors", n);
    }
    c->info.n_tensors = n;
    c->tensors = stn__calloc(n, sizeof *c->tensors);
    c->names = stn__alloc(names_size);
    if (c->tensors == NULL || c->names == NULL) {
        return stn__nomem(d->err, "table of tensors", n * sizeof *c->tensors + names_size);
    }
    char *names = c->names;
    *floats = 0;
    for (uint32_t i = 0; i < n; i++) {
        const char *last = i == 0 ? NULL : c->tensors[i - 1].name;
        STN_TRY(read_tensor(d, &table, &c->tensors[i], &names, last));
        *floats += c->tensors[i].elems; /* each at most 2^36, n at most 2^16: no overflow */
    }
    return table.left == 0 ? STN_OK : damaged(d, "bytes follow the last record of tensor.table");
}

/* Little-endian bytes to floats of the host, in place, and hands them out to the tensors. */
static int32_t place_values(const decoder *d, stn_ckpt *c) {
    uint8_t *p = c->values;
    for (uint32_t i = 0; i < c->info.n_tensors; i++) {
        stn_ckpt_tensor *tensor = &c->tensors[i];
        tensor->data = (const float *)(void *)p;
        for (uint64_t k = 0; k < tensor->elems; k++, p += 4) {
            float value = stn__get_f32(p);
            if (stn_nonfinite(value)) {
                return damaged(d, "element %llu of tensor %s is not finite", (unsigned long long)k,
                               tensor->name);
            }
            memcpy(p, &value, sizeof value);
        }
    }
    return STN_OK;
}

static int32_t read_tensors(const decoder *d, stn_ckpt *c) {
    uint8_t *table = NULL;
    uint64_t floats = 0;
    int32_t status = expand_new(d, STN__SEC_TENSORS, &table);
    if (status == STN_OK) {
        stn__span span = {table, d->sections[STN__SEC_TENSORS].raw, false};
        status = read_records(d, c, span, &floats);
    }
    stn__free(table);
    STN_TRY(status);
    if (d->sections[STN__SEC_VALUES].raw != 4 * floats) {
        return damaged(d, "section tensor.data has %llu bytes, its table asks for %llu",
                       (unsigned long long)d->sections[STN__SEC_VALUES].raw,
                       (unsigned long long)(4 * floats));
    }
    STN_TRY(expand_new(d, STN__SEC_VALUES, &c->values));
    return place_values(d, c);
}

static int32_t check_state(const decoder *d, stn_ckpt *c) {
    uint8_t hash[32];
    STN_TRY(stn__state_hash(&c->info, c->tensors, c->info.n_tensors, c->info.state_hash, d->err));
    stn__unhex(c->info.state_hash, hash);
    return memcmp(hash, d->bytes + 32, 32) == 0
               ? STN_OK
               : damaged(d, "checkpoint does not have the state hash its header gives");
}

static int32_t decode(decoder *d, stn_ckpt *c) {
    STN_TRY(read_header(d));
    STN_TRY(read_table(d));
    d->zstd = ZSTD_createDCtx();
    if (d->zstd == NULL) {
        return stn_fail(d->err, STN_E_NOMEM, "out of memory: zstd decompressor");
    }
    STN_TRY(read_info(d, c));
    STN_TRY(read_tensors(d, c));
    STN_TRY(recipe_value(c->info.recipe, "model", &c->model, d->err));
    STN_TRY(recipe_value(c->info.recipe, "network", &c->network, d->err));
    c->info.model = c->model;
    c->info.network = c->network;
    return check_state(d, c);
}

int32_t stn__ckpt_decode(const uint8_t *bytes, uint64_t size, const char *where, stn_ckpt **ckpt,
                         stn_err *err) {
    decoder d = {.bytes = bytes, .size = size, .where = where, .err = err};
    *ckpt = NULL;
    stn_ckpt *c = stn__calloc(1, sizeof *c);
    if (c == NULL) {
        return stn__nomem(err, "checkpoint", sizeof *c);
    }
    int32_t status = decode(&d, c);
    (void)ZSTD_freeDCtx(d.zstd);
    if (status != STN_OK) {
        stn_ckpt_close(c);
        return status;
    }
    *ckpt = c;
    return STN_OK;
}

int32_t stn_ckpt_open(const char *path, stn_ckpt **ckpt, stn_err *err) {
    char *bytes;
    uint64_t size;
    *ckpt = NULL;
    STN_TRY(stn__file_read(path, MAX_FILE, &bytes, &size, err));
    int32_t status = stn__ckpt_decode((const uint8_t *)bytes, size, path, ckpt, err);
    stn__free(bytes);
    return status;
}

void stn_ckpt_close(stn_ckpt *ckpt) {
    if (ckpt == NULL) {
        return;
    }
    for (uint32_t s = 0; s < STN__SECTIONS; s++) {
        stn__free(ckpt->text[s]);
    }
    stn__free(ckpt->model);
    stn__free(ckpt->network);
    stn__free(ckpt->names);
    stn__free(ckpt->tensors);
    stn__free(ckpt->values);
    stn__free(ckpt);
}

void stn_ckpt_info_get(const stn_ckpt *ckpt, stn_ckpt_info *info) {
    *info = ckpt->info;
}

int32_t stn_ckpt_tensor_get(const stn_ckpt *ckpt, uint32_t index, stn_ckpt_tensor *tensor) {
    if (index >= ckpt->info.n_tensors) {
        return STN_E_NOTFOUND;
    }
    *tensor = ckpt->tensors[index];
    return STN_OK;
}
