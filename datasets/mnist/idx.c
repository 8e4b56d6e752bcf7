/* IDX decoding, see idx.h. Invariant: memory is only allocated for a length that the compressed
 * bytes can hold, so a lying header costs nothing. */
#include "idx.h"

#include <stdbool.h>
#include <string.h>

#define ZLIB_CONST
#include <zlib.h>

#define MAX_IMAGES (UINT32_C(1) << 22)
#define MAX_DEFLATE_RATIO 1032u /* deflate cannot shrink further */
#define CHUNK (UINT64_C(1) << 28)

/* A plain or compressed byte sequence. */
typedef struct source {
    bool gzip, ended; /* ended: the compressed stream is complete and its checksum agrees */
    z_stream z;
    const uint8_t *at;
    uint64_t left;
} source;

typedef struct decoder {
    const stn_host *host;
    const char *name; /* for messages, short */
    source src;
    stn_err *err;
} decoder;

const char *idx_short(const char *path) {
    size_t n = strlen(path);
    return n > 110 ? path + (n - 110) : path;
}

static voidpf z_alloc(voidpf host, uInt items, uInt size) {
    return ((const stn_host *)host)->alloc((uint64_t)items * size, 0);
}

static void z_free(voidpf host, voidpf ptr) {
    ((const stn_host *)host)->free(ptr);
}

static int32_t source_open(decoder *d, const uint8_t *file, uint64_t size) {
    source *s = &d->src;
    s->at = file;
    s->left = size;
    s->gzip = size >= 2 && file[0] == 0x1f && file[1] == 0x8b;
    if (!s->gzip) {
        return STN_OK;
    }
    s->z.zalloc = z_alloc;
    s->z.zfree = z_free;
    s->z.opaque = (voidpf)(uintptr_t)d->host;
    if (inflateInit2(&s->z, 15 + 16) != Z_OK) {
        s->gzip = false;
        return stn_fail(d->err, STN_E_NOMEM, "%s: no memory for decompression", d->name);
    }
    return STN_OK;
}

static void source_close(source *s) {
    if (s->gzip) {
        (void)inflateEnd(&s->z);
    }
}

static int32_t corrupt(const decoder *d, const char *what) {
    return stn_fail(d->err, STN_E_FORMAT, "%s: %s; fetch the file again", d->name, what);
}

/* One call of inflate for up to `want` bytes. */
static int32_t inflate_some(decoder *d, uint8_t *out, uint64_t want, uint64_t *got) {
    source *s = &d->src;
    uInt in = (uInt)(s->left < CHUNK ? s->left : CHUNK);
    uInt room = (uInt)(want < CHUNK ? want : CHUNK);
    s->z.next_in = s->at;
    s->z.avail_in = in;
    s->z.next_out = out;
    s->z.avail_out = room;
    int status = inflate(&s->z, Z_NO_FLUSH);
    s->at += in - s->z.avail_in;
    s->left -= in - s->z.avail_in;
    *got = room - s->z.avail_out;
    s->ended = status == Z_STREAM_END;
    if (status == Z_MEM_ERROR) {
        return stn_fail(d->err, STN_E_NOMEM, "%s: no memory for decompression", d->name);
    }
    if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR) {
        return corrupt(d, "corrupt gzip data");
    }
    if (status != Z_STREAM_END && *got == 0 && s->left == 0) {
        return corrupt(d, "gzip data is truncated");
    }
    return STN_OK;
}

/* Reads up to n bytes; fewer only at the end. */
static int32_t source_read(decoder *d, uint8_t *out, uint64_t n, uint64_t *got) {
    source *s = &d->src;
    *got = 0;
    if (!s->gzip) {
        *got = n < s->left ? n : s->left;
        memcpy(out, s->at, (size_t)*got);
        s->at += *got;
        s->left -= *got;
        return STN_OK;
    }
    while (*got < n && !s->ended) {
        uint64_t some = 0;
        STN_TRY(inflate_some(d, out + *got, n - *got, &some));
        *got += some;
    }
    return STN_OK;
}

static uint32_t big_endian(const uint8_t *p) {
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

/* Checks the header; gives the length of the whole content. */
static int32_t check_header(const decoder *d, uint32_t kind, const uint8_t *header, uint64_t size,
                            uint32_t *count, uint64_t *total) {
    uint32_t magic = big_endian(header), want = kind == IDX_IMAGES ? 0x803u : 0x801u;
    if (magic != want) {
        return stn_fail(d->err, STN_E_FORMAT,
                        "%s: magic number 0x%08x instead of 0x%08x; this is not an IDX %s file",
                        d->name, magic, want, kind == IDX_IMAGES ? "image" : "label");
    }
    *count = big_endian(header + 4);
    uint32_t rows = kind == IDX_IMAGES ? big_endian(header + 8) : IDX_SIDE;
    uint32_t cols = kind == IDX_IMAGES ? big_endian(header + 12) : IDX_SIDE;
    if (*count == 0 || *count > MAX_IMAGES) {
        return stn_fail(d->err, STN_E_FORMAT, "%s: header says %u items, expected 1..%u", d->name,
                        *count, MAX_IMAGES);
    }
    if (rows != IDX_SIDE || cols != IDX_SIDE) {
        return stn_fail(d->err, STN_E_FORMAT, "%s: images of %ux%u pixels, expected 28x28", d->name,
                        rows, cols);
    }
    *total = kind == IDX_IMAGES ? 16u + (uint64_t)*count * IDX_SIDE * IDX_SIDE : 8u + *count;
    if (*total / MAX_DEFLATE_RATIO > size) {
        return stn_fail(d->err, STN_E_FORMAT,
                        "%s: header says %u items, far more than the file holds; fetch it again",
                        d->name, *count);
    }
    return STN_OK;
}

/* Nothing may follow: neither uncompressed nor compressed bytes. */
static int32_t check_end(decoder *d, uint64_t total) {
    uint8_t extra;
    uint64_t got = 0;
    STN_TRY(source_read(d, &extra, 1, &got));
    if (got != 0 || d->src.left != 0) {
        return stn_fail(d->err, STN_E_FORMAT,
                        "%s: longer than its header says (%llu bytes); fetch the file again",
                        d->name, (unsigned long long)total);
    }
    return STN_OK;
}

static int32_t check_labels(const decoder *d, const idx_file *file) {
    for (uint32_t i = 0; i < file->count; i++) {
        if (file->data[i] >= IDX_CLASSES) {
            return stn_fail(d->err, STN_E_FORMAT, "%s: label %u of item %u is not in 0..9", d->name,
                            file->data[i], i);
        }
    }
    return STN_OK;
}

static int32_t decode(decoder *d, uint32_t kind, uint64_t size, idx_file *out) {
    uint8_t header[16];
    uint32_t header_size = kind == IDX_IMAGES ? 16 : 8;
    uint64_t got = 0;
    STN_TRY(source_read(d, header, header_size, &got));
    if (got < header_size) {
        return corrupt(d, "too short for an IDX header");
    }
    STN_TRY(check_header(d, kind, header, size, &out->count, &out->size));
    out->bytes = d->host->alloc(out->size, 0);
    if (out->bytes == NULL) {
        return stn_fail(d->err, STN_E_NOMEM, "%s: no memory for %llu bytes", d->name,
                        (unsigned long long)out->size);
    }
    memcpy(out->bytes, header, header_size);
    out->data = out->bytes + header_size;
    STN_TRY(source_read(d, out->bytes + header_size, out->size - header_size, &got));
    if (got < out->size - header_size) {
        return stn_fail(d->err, STN_E_FORMAT,
                        "%s: %llu bytes, but its header says %llu; fetch the file again", d->name,
                        (unsigned long long)(got + header_size), (unsigned long long)out->size);
    }
    STN_TRY(check_end(d, out->size));
    return kind == IDX_LABELS ? check_labels(d, out) : STN_OK;
}

int32_t idx_decode(const stn_host *host, const char *name, uint32_t kind, const uint8_t *file,
                   uint64_t size, idx_file *out, stn_err *err) {
    decoder d = {.host = host, .name = idx_short(name), .err = err};
    memset(out, 0, sizeof *out);
    int32_t status = source_open(&d, file, size);
    if (status == STN_OK) {
        status = decode(&d, kind, size, out);
    }
    source_close(&d.src);
    if (status != STN_OK) {
        idx_free(host, out);
    }
    return status;
}

void idx_free(const stn_host *host, idx_file *file) {
    host->free(file->bytes);
    memset(file, 0, sizeof *file);
}
