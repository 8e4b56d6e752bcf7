/* Binary cache of compiled programs, one file each.
 *
 * File: magic, format version, key length, payload length, payload hash (fixed 40-byte header),
 * key text, payload. The key text names device, driver, platform, options, and length and two
 * hashes of the source; a file is used only if its whole key text is equal. Any doubt means
 * compile. Written under a temporary name and renamed, so readers never see half a file.
 */
#include "ocl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define CACHE_MAGIC UINT64_C(0x31434c4f4e5453) /* "STNOLC1" */
#define CACHE_VERSION 1u
#define CACHE_MAX (UINT64_C(256) << 20)

typedef struct cache_header {
    uint64_t magic, version, key_bytes, payload_bytes, payload_hash;
} cache_header;

static uint64_t fnv(uint64_t hash, const void *data, size_t bytes) {
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++) {
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    }
    return hash;
}

#define FNV_START UINT64_C(0xcbf29ce484222325)
#define FNV_OTHER UINT64_C(0x9ae16a3b2f90404f)

static void make_key(const stn_device *device, const ocl_text *t, char *key, size_t size) {
    uint64_t a = fnv(FNV_START, t->at, t->size), b = fnv(FNV_OTHER, t->at, t->size);
    (void)snprintf(key, size, "%s|%s|%s|%s|%s|%s|%s|%llu|%016llx%016llx", device->info.platform,
                   device->info.vendor, device->info.name, device->info.driver, device->info.id,
                   t->name, t->options, (unsigned long long)t->size, (unsigned long long)a,
                   (unsigned long long)b);
}

static bool make_path(const stn_device *device, const char *key, char *path, size_t size) {
    size_t n = strlen(key);
    int used = snprintf(path, size, "%s/%016llx%016llx.clbin", device->cache_dir,
                        (unsigned long long)fnv(FNV_START, key, n),
                        (unsigned long long)fnv(FNV_OTHER, key, n));
    return used > 0 && (size_t)used < size;
}

/* mkdir -p; an existing directory is fine. */
static bool make_directory(const char *path) {
    char part[512];
    (void)snprintf(part, sizeof part, "%s", path);
    for (char *p = part + 1; *p != '\0'; p++) {
        if (*p == '/') {
            *p = '\0';
            if (mkdir(part, 0777) != 0 && errno != EEXIST) {
                return false;
            }
            *p = '/';
        }
    }
    return mkdir(part, 0777) == 0 || errno == EEXIST;
}

void ocl_cache_choose(stn_device *device, const char *option) {
    device->cache_dir[0] = '\0';
    if (strcmp(option, "none") == 0 ||
        (*option == '\0' && strstr(device->info.platform, "Portable Computing Language") != NULL)) {
        return;
    }
    const char *env = getenv("STN_CACHE_DIR"), *home = getenv("HOME");
    int n = 0;
    if (*option != '\0') {
        n = snprintf(device->cache_dir, sizeof device->cache_dir, "%s", option);
    } else if (env != NULL && *env != '\0') {
        n = snprintf(device->cache_dir, sizeof device->cache_dir, "%s", env);
    } else if (home != NULL && *home != '\0') {
        n = snprintf(device->cache_dir, sizeof device->cache_dir, "%s/.cache/stn", home);
    }
    if (n < 0 || (size_t)n >= sizeof device->cache_dir) {
        device->cache_dir[0] = '\0';
    }
}

/* The payload of the file if every check holds, else NULL. Caller frees. */
static unsigned char *read_payload(FILE *file, const char *key, size_t *bytes) {
    cache_header h;
    char stored[1600];
    size_t n = strlen(key);
    if (fread(&h, sizeof h, 1, file) != 1 || h.magic != CACHE_MAGIC || h.version != CACHE_VERSION ||
        h.key_bytes != n || n >= sizeof stored || h.payload_bytes == 0 ||
        h.payload_bytes > CACHE_MAX || fread(stored, 1, n, file) != n ||
        memcmp(stored, key, n) != 0) {
        return NULL;
    }
    unsigned char *payload = ocl_host->alloc(h.payload_bytes, 0);
    if (payload == NULL) {
        return NULL;
    }
    if (fread(payload, 1, (size_t)h.payload_bytes, file) != h.payload_bytes || fgetc(file) != EOF ||
        fnv(FNV_START, payload, (size_t)h.payload_bytes) != h.payload_hash) {
        ocl_host->free(payload);
        return NULL;
    }
    *bytes = (size_t)h.payload_bytes;
    return payload;
}

cl_program ocl_cache_load(stn_device *device, const ocl_text *text) {
    char key[1600], path[640];
    if (device->cache_dir[0] == '\0') {
        return NULL;
    }
    make_key(device, text, key, sizeof key);
    FILE *file = make_path(device, key, path, sizeof path) ? fopen(path, "rb") : NULL;
    if (file == NULL) {
        return NULL;
    }
    size_t bytes = 0;
    unsigned char *payload = read_payload(file, key, &bytes);
    (void)fclose(file);
    if (payload == NULL) {
        ocl_log(STN_LOG_DEBUG, "opencl: cache file %s does not fit, compiling", path);
        return NULL;
    }
    cl_int status = CL_SUCCESS, binary = CL_SUCCESS;
    const unsigned char *binaries[1] = {payload};
    cl_program built = cl.clCreateProgramWithBinary(device->context, 1, &device->id, &bytes,
                                                    binaries, &binary, &status);
    ocl_host->free(payload);
    if (status != CL_SUCCESS || binary != CL_SUCCESS) {
        return NULL;
    }
    if (cl.clBuildProgram(built, 1, &device->id, text->options, NULL, NULL) != CL_SUCCESS) {
        (void)cl.clReleaseProgram(built);
        return NULL;
    }
    return built;
}

static bool write_file(const char *path, const char *key, const unsigned char *payload,
                       size_t bytes) {
    char temporary[700];
    (void)snprintf(temporary, sizeof temporary, "%s.%ld.tmp", path, (long)getpid());
    FILE *file = fopen(temporary, "wb");
    if (file == NULL) {
        return false;
    }
    size_t n = strlen(key);
    cache_header h = {CACHE_MAGIC, CACHE_VERSION, n, bytes, fnv(FNV_START, payload, bytes)};
    bool good = fwrite(&h, sizeof h, 1, file) == 1 && fwrite(key, 1, n, file) == n &&
                fwrite(payload, 1, bytes, file) == bytes;
    good = fclose(file) == 0 && good;
    good = good && rename(temporary, path) == 0;
    if (!good) {
        (void)remove(temporary);
    }
    return good;
}

void ocl_cache_store(stn_device *device, const ocl_text *text, cl_program built) {
    char key[1600], path[640];
    size_t bytes = 0;
    if (device->cache_dir[0] == '\0' || !make_directory(device->cache_dir) ||
        cl.clGetProgramInfo(built, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) !=
            CL_SUCCESS ||
        bytes == 0 || bytes > CACHE_MAX) {
        return;
    }
    unsigned char *payload = ocl_host->alloc(bytes, 0);
    if (payload == NULL) {
        return;
    }
    unsigned char *binaries[1] = {payload};
    make_key(device, text, key, sizeof key);
    if (cl.clGetProgramInfo(built, CL_PROGRAM_BINARIES, sizeof binaries, binaries, NULL) ==
            CL_SUCCESS &&
        make_path(device, key, path, sizeof path) && !write_file(path, key, payload, bytes)) {
        ocl_log(STN_LOG_DEBUG, "opencl: could not write cache file %s", path);
    }
    ocl_host->free(payload);
}
