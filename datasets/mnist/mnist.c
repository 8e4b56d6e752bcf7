/* Dataset plugin mnist: MNIST, Fashion-MNIST and any directory with four such IDX files.
 *
 * Files train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and
 * t10k-labels-idx1-ubyte, plain or with .gz (plain wins). Everything is checked and held in memory
 * by open; the opened dataset is immutable, so every other entry is thread-safe. The hash is the
 * SHA-256 of the four uncompressed files in the order above. Distortions: distort.h.
 */
#include "distort.h"
#include "idx.h"

#include <errno.h>
#include <string.h>

#include <openssl/evp.h>

#define PIXELS (IDX_SIDE * IDX_SIDE)
#define MAX_FILE (UINT64_C(4) << 30)

struct stn_data {
    idx_file file[2][2]; /* [split][IDX_IMAGES or IDX_LABELS] */
    uint32_t distortion;
    bool clutter;
    char files[1024];
    char hash[65];
};

static const stn_host *host;

static const char *const file_names[2][2] = {{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"},
                                             {"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};

/* ---- reading -------------------------------------------------------------------------------- */

/* Reads a whole open file; *bytes is the caller's to free. */
static int32_t read_stream(FILE *f, const char *path, uint8_t **bytes, uint64_t *size,
                           stn_err *err) {
    long end = fseek(f, 0, SEEK_END) == 0 ? ftell(f) : -1;
    if (end < 0 || (uint64_t)end > MAX_FILE || fseek(f, 0, SEEK_SET) != 0) {
        return stn_fail(err, STN_E_IO, "%s: not a readable file of at most 4 GiB", idx_short(path));
    }
    *size = (uint64_t)end;
    *bytes = host->alloc(*size + 1, 0);
    if (*bytes == NULL) {
        return stn_fail(err, STN_E_NOMEM, "%s: no memory for its %llu bytes", idx_short(path),
                        (unsigned long long)*size);
    }
    if (fread(*bytes, 1, (size_t)*size, f) != *size) {
        return stn_fail(err, STN_E_IO, "%s: reading failed: %s", idx_short(path), strerror(errno));
    }
    return STN_OK;
}

/* Opens NAME or NAME.gz in dir; `path` receives which. */
static FILE *open_either(const char *dir, const char *name, char *path, size_t cap) {
    static const char *const suffix[] = {"", ".gz"};
    FILE *f = NULL;
    for (int i = 0; i < 2 && f == NULL; i++) {
        int n = snprintf(path, cap, "%s/%s%s", dir, name, suffix[i]);
        f = n > 0 && (size_t)n < cap ? fopen(path, "rb") : NULL;
    }
    return f;
}

static int32_t load_file(stn_data *data, const char *dir, uint32_t split, uint32_t kind,
                         stn_err *err) {
    char path[4096];
    const char *name = file_names[split][kind];
    FILE *f = open_either(dir, name, path, sizeof path);
    if (f == NULL && errno != ENOENT && errno != ENOTDIR) {
        return stn_fail(err, STN_E_IO, "%s: cannot open: %s", idx_short(path), strerror(errno));
    }
    if (f == NULL) {
        return stn_fail(err, STN_E_NOTFOUND,
                        "no %s or %s.gz in %s: put the four IDX files of the data set there", name,
                        name, idx_short(dir));
    }
    uint8_t *bytes = NULL;
    uint64_t size = 0;
    int32_t status = read_stream(f, path, &bytes, &size, err);
    (void)fclose(f);
    if (status == STN_OK) {
        status = idx_decode(host, path, kind, bytes, size, &data->file[split][kind], err);
    }
    host->free(bytes);
    size_t used = strlen(data->files);
    (void)snprintf(data->files + used, sizeof data->files - used, "%s%s", used > 0 ? "\n" : "",
                   path);
    return status;
}

static int32_t hash_files(stn_data *data, stn_err *err) {
    uint8_t digest[32];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    bool ok = md != NULL && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;
    for (uint32_t i = 0; i < 4 && ok; i++) {
        const idx_file *file = &data->file[i / 2][i % 2];
        ok = EVP_DigestUpdate(md, file->bytes, (size_t)file->size) == 1;
    }
    ok = ok && EVP_DigestFinal_ex(md, digest, NULL) == 1;
    EVP_MD_CTX_free(md);
    if (!ok) {
        return stn_fail(err, STN_E_FAIL, "hashing the data set failed: check libcrypto");
    }
    for (uint32_t i = 0; i < sizeof digest; i++) {
        (void)snprintf(data->hash + 2 * i, 3, "%02x", digest[i]);
    }
    return STN_OK;
}

static int32_t load_all(stn_data *data, const char *dir, stn_err *err) {
    for (uint32_t split = 0; split < 2; split++) {
        STN_TRY(load_file(data, dir, split, IDX_IMAGES, err));
        STN_TRY(load_file(data, dir, split, IDX_LABELS, err));
        uint32_t images = data->file[split][IDX_IMAGES].count;
        uint32_t labels = data->file[split][IDX_LABELS].count;
        if (images != labels) {
            return stn_fail(err, STN_E_FORMAT,
                            "%s: %s has %u images, but %s has %u labels; fetch both again",
                            idx_short(dir), file_names[split][IDX_IMAGES], images,
                            file_names[split][IDX_LABELS], labels);
        }
    }
    return hash_files(data, err);
}

/* ---- the dataset's entries ------------------------------------------------------------------ */

static const stn_option_info options[] = {
    {"distortion", "choice:none,rotate,scale,translate", "", "none",
     "what is done to every digit, drawn anew in every epoch"},
    {"clutter", "bool", "", "true", "six crops of other digits (scale and translate)"}};

static int32_t set_option(stn_data *data, const char *name, const char *value, stn_err *err) {
    if (strcmp(name, "clutter") == 0) {
        data->clutter = strcmp(value, "true") == 0 || strcmp(value, "1") == 0 ||
                        strcmp(value, "yes") == 0 || strcmp(value, "on") == 0;
        return STN_OK;
    }
    for (uint32_t i = 0; strcmp(name, "distortion") == 0 && i < DISTORT_COUNT; i++) {
        if (strcmp(value, distort_table[i].name) == 0) {
            data->distortion = i;
            return STN_OK;
        }
    }
    return stn_fail(err, STN_E_USAGE, "dataset mnist: bad option %s = %s; see `stnrun datasets`",
                    name, value);
}

static void mnist_close(stn_data *data) {
    if (data != NULL) {
        for (uint32_t i = 0; i < 4; i++) {
            idx_free(host, &data->file[i / 2][i % 2]);
        }
        host->free(data);
    }
}

static int32_t mnist_open(const char *dir, const stn_options *opts, stn_data **out, stn_err *err) {
    *out = NULL;
    stn_data *data = host->alloc(sizeof *data, 0);
    if (data == NULL) {
        return stn_fail(err, STN_E_NOMEM, "no memory to open the data set");
    }
    memset(data, 0, sizeof *data);
    data->distortion = DISTORT_NONE;
    data->clutter = true;
    int32_t status = STN_OK;
    for (uint32_t i = 0; opts != NULL && i < opts->count && status == STN_OK; i++) {
        status = set_option(data, opts->name[i], opts->value[i], err);
    }
    if (status == STN_OK) {
        status = load_all(data, dir, err);
    }
    if (status != STN_OK) {
        mnist_close(data);
        return status;
    }
    *out = data;
    return STN_OK;
}

static int32_t mnist_info(stn_data *data, stn_data_info *out, stn_err *err) {
    const distort_info *d = &distort_table[data->distortion];
    stn_data_info info = {.struct_size = out->struct_size,
                          .channels = 1,
                          .src_h = IDX_SIDE,
                          .src_w = IDX_SIDE,
                          .out_h = d->side,
                          .out_w = d->side,
                          .heads = 1,
                          .classes = IDX_CLASSES,
                          .augments = data->distortion != DISTORT_NONE,
                          .count = {data->file[0][0].count, data->file[1][0].count},
                          .mean = {d->mean},
                          .std = {d->std}};
    (void)err;
    memcpy(info.files, data->files, sizeof info.files);
    memcpy(info.hash, data->hash, sizeof info.hash);
    memcpy(out, &info, out->struct_size < sizeof info ? out->struct_size : sizeof info);
    return STN_OK;
}

static int32_t mnist_get(stn_data *data, uint32_t split, const uint32_t *sample, uint32_t n,
                         uint8_t *images, int32_t *labels, stn_err *err) {
    if (split > STN_SPLIT_TEST) {
        return stn_fail(err, STN_E_USAGE, "dataset mnist has no split %u", split);
    }
    const idx_file *file = data->file[split];
    for (uint32_t i = 0; i < n; i++) {
        if (sample[i] >= file[IDX_IMAGES].count) {
            return stn_fail(err, STN_E_USAGE, "dataset mnist: sample %u of %u does not exist",
                            sample[i], file[IDX_IMAGES].count);
        }
        memcpy(images + (uint64_t)i * PIXELS, file[IDX_IMAGES].data + (uint64_t)sample[i] * PIXELS,
               PIXELS);
        labels[i] = file[IDX_LABELS].data[sample[i]];
    }
    return STN_OK;
}

static int32_t mnist_augment(stn_data *data, const stn_draw_key *key, stn_augment *out,
                             stn_err *err) {
    (void)err;
    stn_augment drawn;
    distort_draw(host, data->distortion, data->clutter, data->file[0][0].count, key, &drawn);
    drawn.struct_size = out->struct_size;
    memcpy(out, &drawn, out->struct_size < sizeof drawn ? out->struct_size : sizeof drawn);
    return STN_OK;
}

static const char *const subdirs[] = {"mnist", "fashion-mnist", NULL};
static const char *const system_dirs[] = {"/usr/share/datasets/fashion-mnist", NULL};

static const stn_dataset dataset = {.struct_size = (uint32_t)sizeof(stn_dataset),
                                    .open = mnist_open,
                                    .close = mnist_close,
                                    .info = mnist_info,
                                    .get = mnist_get,
                                    .augment = mnist_augment,
                                    .subdirs = subdirs,
                                    .system_dirs = system_dirs};

static int32_t init(const stn_host *services, stn_err *err) {
    (void)err;
    host = services;
    return STN_OK;
}

STN_PLUGIN(STN_KIND_DATASET, "mnist", "0.1.0", "MIT", "MNIST and Fashion-MNIST, plain or distorted",
           options, (uint32_t)(sizeof options / sizeof options[0]), &dataset, init, NULL);
