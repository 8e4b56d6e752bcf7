/* IDX files, plain and gzip: the first byte of the input chooses images or labels, the rest is the
 * file. The decoder is compiled in, so that the fuzzer sees its branches. */
#include "../../datasets/mnist/idx.c"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t live;

static void *fuzz_alloc(uint64_t bytes, uint64_t align) {
    (void)align;
    live++;
    return malloc(bytes > 0 ? (size_t)bytes : 1);
}

static void fuzz_free(void *ptr) {
    live -= ptr != NULL;
    free(ptr);
}

static void require(bool condition) {
    if (!condition) {
        abort();
    }
}

static void check_decoded(const idx_file *file, uint32_t kind) {
    uint64_t item = kind == IDX_IMAGES ? IDX_SIDE * IDX_SIDE : 1, sum = 0;
    uint64_t header = kind == IDX_IMAGES ? 16 : 8;
    require(file->count > 0 && file->size == header + file->count * item);
    require(file->data == file->bytes + header);
    for (uint64_t i = 0; i < file->count * item; i++) {
        require(kind == IDX_IMAGES || file->data[i] < IDX_CLASSES);
        sum += file->data[i];
    }
    require(sum <= file->count * item * 255);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const stn_host host = {
        .struct_size = (uint32_t)sizeof host, .alloc = fuzz_alloc, .free = fuzz_free};
    if (size == 0) {
        return 0;
    }
    uint32_t kind = data[0] % 2;
    stn_err err = {0};
    idx_file file;
    int32_t status = idx_decode(&host, "input", kind, data + 1, size - 1, &file, &err);
    if (status == STN_OK) {
        check_decoded(&file, kind);
        idx_free(&host, &file);
    } else {
        require(file.bytes == NULL && err.code == status && strncmp(err.text, "input: ", 7) == 0);
        require(strchr(err.text, '\n') == NULL);
    }
    require(live == 0);
    return 0;
}
