/* Any bytes as a safetensors file: no crash, and what is accepted can be read to its last byte and
 * tiles the data. */
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const uint32_t width[] = {4, 8, 8, 4, 1, 1};
    stn_tensors *file;
    stn_err err = {0};
    if (stn_tensors_parse(data, size, "input", &file, &err) != STN_OK) {
        if (err.text[0] == '\0' || strchr(err.text, '\n') != NULL) {
            abort(); /* every refusal is one line */
        }
        return 0;
    }
    uint64_t total = 0;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < stn_tensors_count(file); i++) {
        stn_tensor_entry entry, found;
        if (stn_tensors_get(file, i, &entry) != STN_OK ||
            stn_tensors_find(file, entry.name, &found) != STN_OK || found.data != entry.data) {
            abort();
        }
        uint64_t bytes = entry.elems * width[entry.dtype];
        for (uint64_t k = 0; k < bytes; k++) {
            sum += ((const uint8_t *)entry.data)[k];
        }
        total += bytes;
    }
    if (total > size) {
        abort();
    }
    (void)stn_tensors_metadata(file, "format");
    stn_tensors_close(file);
    return (int)(sum & 0u);
}
