/* Files of the core: whole reads with a limit, atomic writes, directories.
 *
 * Error texts name the path, the system's reason and a remedy; err->native is errno. Functions are
 * thread-safe on different objects.
 */
#ifndef STN_BASE_FILE_H
#define STN_BASE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include <stn/error.h>

/* Fails with `status` and "cannot DO PATH: reason; remedy", for an errno value. */
int32_t stn__file_fail(stn_err *err, const char *act, const char *path, int number);

/* Reads a regular file or pipe of at most `limit` bytes (E_FORMAT beyond). *data is followed by a
 * zero byte that *size does not count; free with stn__free. A missing file is E_NOTFOUND. */
int32_t stn__file_read(const char *path, uint64_t limit, char **data, uint64_t *size, stn_err *err);

bool stn__is_file(const char *path);
bool stn__is_dir(const char *path);
/* True for a readable directory with at least one regular file in it. */
bool stn__dir_has_file(const char *path);

/* A file written beside its final place: nothing is seen under `path` before commit, which syncs
 * the data, renames and syncs the directory. On any failure the old file stays as it was and the
 * temporary one is removed. Write errors are sticky and come back from commit. */
typedef struct stn__out {
    int fd;
    char *path, *temp;
    int32_t status;
    int native; /* errno of the first failed write */
} stn__out;

/* On failure there is nothing to abort. */
int32_t stn__out_open(stn__out *out, const char *path, stn_err *err);
void stn__out_write(stn__out *out, const void *data, uint64_t size);
/* Ends the object, whatever the status. */
int32_t stn__out_commit(stn__out *out, stn_err *err);
void stn__out_abort(stn__out *out);
/* All in one. */
int32_t stn__file_write(const char *path, const void *data, uint64_t size, stn_err *err);
/* Appends in one write to a file that is made if missing (logs of metrics; not synced). */
int32_t stn__file_append(const char *path, const void *data, uint64_t size, stn_err *err);

/* Creates a directory and its missing parents; an existing one is fine. */
int32_t stn__dir_create(const char *path, stn_err *err);

/* Names in a directory without "." and "..", sorted bytewise. Free with stn__names_free. */
typedef struct stn__names {
    char **name;
    uint64_t n, cap;
} stn__names;
int32_t stn__dir_list(const char *path, stn__names *names, stn_err *err);
void stn__names_free(stn__names *names);

#endif
