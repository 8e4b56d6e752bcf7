/* IDX files of the MNIST family, plain or gzip, from memory to memory.
 *
 * Format, integers big-endian 32 bit: images 0x803, count, rows, columns, then count*rows*columns
 * bytes row-major; labels 0x801, count, then count bytes. Everything that deviates from it is
 * refused: the file must be exactly as long as its header says.
 */
#ifndef IDX_H
#define IDX_H

#include <stn/plugin.h>

#define IDX_SIDE 28u    /* rows and columns of every image */
#define IDX_CLASSES 10u /* labels are 0 .. 9 */

enum { IDX_IMAGES = 0, IDX_LABELS = 1 };

/* One decoded file. `bytes` is the uncompressed content, header included (allocated with
 * host->alloc, freed by idx_free); `data` points behind the header. */
typedef struct idx_file {
    uint8_t *bytes;
    const uint8_t *data;
    uint64_t size; /* of bytes */
    uint32_t count;
} idx_file;

/* Decodes `size` bytes of a file. `name` is used in messages only. E_FORMAT for any deviation from
 * the format, E_NOMEM; *out is zeroed on failure. Needs no more memory than about 1032 times
 * `size`, whatever the header says. Thread-safe. */
int32_t idx_decode(const stn_host *host, const char *name, uint32_t kind, const uint8_t *file,
                   uint64_t size, idx_file *out, stn_err *err);
void idx_free(const stn_host *host, idx_file *file);

/* The end of a long path, so that the message behind it is not cut. */
const char *idx_short(const char *path);

#endif
