/* Whole-file reads, atomic writes and directories over POSIX. */
#define _POSIX_C_SOURCE 200809L
#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/text.h"

static const char *remedy(int number) {
    switch (number) {
    case ENOENT:
    case ENOTDIR:
        return "check the spelling of the path";
    case EACCES:
    case EPERM:
    case EROFS:
        return "check its permissions or choose another place";
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return "free some space or choose another place";
    case EISDIR:
        return "give the path of a file";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return "check the path and the disk";
    }
}

int32_t stn__file_fail(stn_err *err, const char *act, const char *path, int number) {
    char reason[96];
    if (strerror_r(number, reason, sizeof reason) != 0) {
        (void)snprintf(reason, sizeof reason, "error %d", number);
    }
    int32_t code = number == ENOENT ? STN_E_NOTFOUND : number == ENOMEM ? STN_E_NOMEM : STN_E_IO;
    stn_fail(err, code, "cannot %s %s: %s; %s", act, path, reason, remedy(number));
    if (err != NULL) {
        err->native = number;
    }
    return code;
}

static int open_retry(const char *path, int flags, mode_t mode) {
    int fd;
    do {
        fd = open(path, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

/* Reads until the end; files that grow or have no size (pipes, /proc) are read as they come. */
static int32_t read_all(int fd, const char *path, uint64_t limit, stn__text *text, stn_err *err) {
    for (;;) {
        uint64_t room = text->cap - text->size;
        if (room < 2) {
            if (!stn__grow((void **)&text->data, &text->cap, text->size + 65536, 1)) {
                return stn__nomem(err, path, text->cap * 2);
            }
            continue;
        }
        ssize_t got = read(fd, text->data + text->size, (size_t)(room - 1));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return stn__file_fail(err, "read", path, errno);
        }
        if (got == 0) {
            text->data[text->size] = '\0';
            return STN_OK;
        }
        text->size += (uint64_t)got;
        if (text->size > limit) {
            return stn_fail(err, STN_E_FORMAT,
                            "%s is larger than %" PRIu64 " bytes, too large for what it should be; "
                            "check the path",
                            path, limit);
        }
    }
}

int32_t stn__file_read(const char *path, uint64_t limit, char **data, uint64_t *size,
                       stn_err *err) {
    struct stat info;
    stn__text text = {0};
    int fd = open_retry(path, O_RDONLY, 0);
    if (fd < 0) {
        return stn__file_fail(err, "open", path, errno);
    }
    int32_t status = STN_OK;
    if (fstat(fd, &info) != 0) {
        status = stn__file_fail(err, "read", path, errno);
    } else if (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode)) { /* may never end */
        status = stn_fail(err, STN_E_FORMAT, "%s is a device, not a file; check the path", path);
    } else if (S_ISREG(info.st_mode) && (uint64_t)info.st_size <= limit &&
               !stn__grow((void **)&text.data, &text.cap, (uint64_t)info.st_size + 2, 1)) {
        status = stn__nomem(err, path, (uint64_t)info.st_size);
    } else {
        status = read_all(fd, path, limit, &text, err);
    }
    (void)close(fd);
    if (status != STN_OK) {
        stn__text_free(&text);
        return status;
    }
    *data = text.data;
    *size = text.size;
    return STN_OK;
}

bool stn__is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool stn__is_dir(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

static bool write_all(int fd, const char *data, uint64_t size) {
    while (size > 0) {
        ssize_t put = write(fd, data, size < (1u << 30) ? (size_t)size : (1u << 30));
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return false;
        }
        data += put;
        size -= (uint64_t)put;
    }
    return true;
}

/* The directory part, for a path without one ".". To be freed. */
static char *directory_of(const char *path) {
    const char *base = stn__path_base(path);
    if (base == path) {
        return stn__strdup(".");
    }
    return stn__strndup(path, base - path == 1 ? 1 : (uint64_t)(base - path - 1));
}

/* A name beside `path` that no other process or thread uses. */
static char *temp_name(const char *path) {
    static _Atomic uint32_t serial;
    stn__text name = {0};
    const char *base = stn__path_base(path);
    stn__text_bytes(&name, path, (uint64_t)(base - path));
    stn__text_addf(&name, ".%s.%ld-%" PRIu32 ".tmp", base, (long)getpid(),
                   atomic_fetch_add(&serial, 1));
    return stn__text_take(&name);
}

static void out_drop(stn__out *out) {
    stn__free(out->path);
    stn__free(out->temp);
    *out = (stn__out){.fd = -1};
}

int32_t stn__out_open(stn__out *out, const char *path, stn_err *err) {
    struct stat info;
    *out = (stn__out){.fd = -1};
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) { /* a rename would remove the device */
        return stn_fail(err, STN_E_EXISTS,
                        "%s exists and is not a file that can be replaced; choose another name",
                        path);
    }
    out->path = stn__strdup(path);
    out->temp = temp_name(path);
    if (out->path == NULL || out->temp == NULL) {
        out_drop(out);
        return stn__nomem(err, path, strlen(path));
    }
    out->fd = open_retry(out->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
    if (out->fd < 0 && errno == EEXIST) { /* left behind by a killed process of the same number */
        (void)unlink(out->temp);
        out->fd = open_retry(out->temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
    }
    if (out->fd < 0) {
        int number = errno;
        out_drop(out);
        return stn__file_fail(err, "write", path, number);
    }
    return STN_OK;
}

void stn__out_write(stn__out *out, const void *data, uint64_t size) {
    if (out->status == STN_OK && !write_all(out->fd, data, size)) {
        out->native = errno;
        out->status = STN_E_IO;
    }
}

/* Makes a rename in the directory durable. Some file systems cannot sync directories; that is not
 * a failure. */
static bool sync_directory(const char *path) {
    char *dir = directory_of(path);
    if (dir == NULL) {
        errno = ENOMEM;
        return false;
    }
    int fd = open_retry(dir, O_RDONLY | O_DIRECTORY, 0);
    stn__free(dir);
    if (fd < 0) {
        return errno == EACCES; /* a directory may be writable and not readable */
    }
    bool ok = fsync(fd) == 0 || errno == EINVAL || errno == ENOTSUP;
    int number = errno;
    (void)close(fd);
    errno = number;
    return ok;
}

int32_t stn__out_commit(stn__out *out, stn_err *err) {
    int number = out->native;
    if (out->status == STN_OK && fsync(out->fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
        number = errno;
        out->status = STN_E_IO;
    }
    if (close(out->fd) != 0 && out->status == STN_OK) {
        number = errno;
        out->status = STN_E_IO;
    }
    if (out->status == STN_OK && rename(out->temp, out->path) != 0) {
        number = errno;
        out->status = STN_E_IO;
    }
    if (out->status != STN_OK) {
        (void)unlink(out->temp);
    } else if (!sync_directory(out->path)) {
        number = errno;
        out->status = STN_E_IO;
    }
    int32_t status = out->status;
    if (status != STN_OK) {
        status = stn__file_fail(err, "write", out->path, number);
    }
    out_drop(out);
    return status;
}

void stn__out_abort(stn__out *out) {
    if (out->fd >= 0) {
        (void)close(out->fd);
        (void)unlink(out->temp);
    }
    out_drop(out);
}

int32_t stn__file_write(const char *path, const void *data, uint64_t size, stn_err *err) {
    stn__out out;
    STN_TRY(stn__out_open(&out, path, err));
    stn__out_write(&out, data, size);
    return stn__out_commit(&out, err);
}

int32_t stn__file_append(const char *path, const void *data, uint64_t size, stn_err *err) {
    int fd = open_retry(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd < 0) {
        return stn__file_fail(err, "write", path, errno);
    }
    int number = write_all(fd, data, size) ? 0 : errno;
    if (close(fd) != 0 && number == 0) {
        number = errno;
    }
    return number == 0 ? STN_OK : stn__file_fail(err, "write", path, number);
}

static int make_dir(const char *path) {
    if (mkdir(path, 0777) == 0) {
        return 0;
    }
    int number = errno;
    return stn__is_dir(path) ? 0 : number;
}

int32_t stn__dir_create(const char *path, stn_err *err) {
    char *copy = stn__strdup(path);
    if (copy == NULL) {
        return stn__nomem(err, path, strlen(path));
    }
    int number = 0;
    for (char *c = copy + 1; copy[0] != '\0' && *c != '\0' && number == 0; c++) {
        if (*c == '/') {
            *c = '\0';
            number = make_dir(copy);
            *c = '/';
        }
    }
    if (number == 0) {
        number = make_dir(copy);
    }
    stn__free(copy);
    return number == 0 ? STN_OK : stn__file_fail(err, "create directory", path, number);
}

static int by_bytes(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int32_t collect_names(DIR *dir, const char *path, stn__names *names, stn_err *err) {
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (entry == NULL) {
            return errno == 0 ? STN_OK : stn__file_fail(err, "read directory", path, errno);
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        char *name = stn__strdup(entry->d_name);
        if (name == NULL ||
            !stn__grow((void **)&names->name, &names->cap, names->n + 1, sizeof *names->name)) {
            stn__free(name);
            return stn__nomem(err, path, names->n * sizeof *names->name);
        }
        names->name[names->n++] = name;
    }
}

int32_t stn__dir_list(const char *path, stn__names *names, stn_err *err) {
    *names = (stn__names){0};
    DIR *dir = opendir(path);
    if (dir == NULL) {
        return stn__file_fail(err, "read directory", path, errno);
    }
    int32_t status = collect_names(dir, path, names, err);
    (void)closedir(dir);
    if (status != STN_OK) {
        stn__names_free(names);
        return status;
    }
    if (names->n > 1) {
        qsort(names->name, (size_t)names->n, sizeof *names->name, by_bytes);
    }
    return STN_OK;
}

bool stn__dir_has_file(const char *path) {
    DIR *dir = opendir(path);
    bool any = false;
    const struct dirent *entry = NULL;
    while (dir != NULL && !any && (entry = readdir(dir)) != NULL) {
        struct stat info;
        any = fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && S_ISREG(info.st_mode);
    }
    if (dir != NULL) {
        (void)closedir(dir);
    }
    return any;
}

void stn__names_free(stn__names *names) {
    for (uint64_t i = 0; i < names->n; i++) {
        stn__free(names->name[i]);
    }
    stn__free(names->name);
    *names = (stn__names){0};
}
