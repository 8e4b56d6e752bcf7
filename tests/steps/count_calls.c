/* Interposed functions: the dynamic linker finds those of the program first, for every library.
 *
 * malloc's own system calls do not pass through here, but then malloc does. The C library is glibc,
 * whose allocator can be called by its second name. */
#define _GNU_SOURCE
#include "count_calls.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t n, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);
void __libc_free(void *p);

/* ---- who calls ---------------------------------------------------------------------------- */

#define MAX_RANGES 64u

static struct { uintptr_t from, to; } range[MAX_RANGES];
static uint32_t n_ranges;
static atomic_bool counting;
static _Atomic uint64_t all, own;

static int add_object(struct dl_phdr_info *info, size_t size, void *user) {
    const char *file = strrchr(info->dlpi_name, '/');
    (void)size;
    (void)user;
    bool ours =
        info->dlpi_name[0] == '\0' ||
        (file != NULL && (strncmp(file, "/stn_", 5) == 0 || strncmp(file, "/libstn.", 8) == 0));
    for (uint32_t i = 0; ours && i < info->dlpi_phnum && n_ranges < MAX_RANGES; i++) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X) != 0) {
            range[n_ranges].from = info->dlpi_addr + part->p_vaddr;
            range[n_ranges].to = range[n_ranges].from + part->p_memsz;
            n_ranges++;
        }
    }
    return 0;
}

static void seen(const void *caller) {
    if (!atomic_load_explicit(&counting, memory_order_relaxed)) {
        return;
    }
    atomic_fetch_add(&all, 1);
    for (uint32_t i = 0; i < n_ranges; i++) {
        if ((uintptr_t)caller >= range[i].from && (uintptr_t)caller < range[i].to) {
            atomic_fetch_add(&own, 1);
            return;
        }
    }
}
#define SEEN() seen(__builtin_return_address(0))

void count_calls_start(void) {
    n_ranges = 0;
    (void)dl_iterate_phdr(add_object, NULL);
    all = own = 0;
    counting = true;
}

call_counts count_calls_stop(void) {
    counting = false;
    return (call_counts){all, own};
}

/* ---- memory ------------------------------------------------------------------------------- */

void *malloc(size_t size) {
    SEEN();
    return __libc_malloc(size);
}

void *calloc(size_t n, size_t size) {
    SEEN();
    return __libc_calloc(n, size);
}

void *realloc(void *p, size_t size) {
    SEEN();
    return __libc_realloc(p, size);
}

void free(void *p) {
    SEEN();
    __libc_free(p);
}

void *aligned_alloc(size_t align, size_t size) {
    SEEN();
    return __libc_memalign(align, size);
}

int posix_memalign(void **out, size_t align, size_t size) {
    SEEN();
    void *p = __libc_memalign(align, size);
    if (p == NULL) {
        return ENOMEM;
    }
    *out = p;
    return 0;
}

void *mmap(void *at, size_t size, int access, int flags, int file, off_t offset) {
    SEEN();
    return (void *)syscall(SYS_mmap, at, size, access, flags, file, offset);
}

int munmap(void *at, size_t size) {
    SEEN();
    return (int)syscall(SYS_munmap, at, size);
}

int madvise(void *at, size_t size, int advice) {
    SEEN();
    return (int)syscall(SYS_madvise, at, size, advice);
}

/* ---- files -------------------------------------------------------------------------------- */

int open(const char *path, int flags, ...) {
    SEEN();
    va_list args;
    va_start(args, flags);
    int mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(args, int) : 0;
    va_end(args);
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

ssize_t read(int file, void *data, size_t size) {
    SEEN();
    return (ssize_t)syscall(SYS_read, file, data, size);
}

ssize_t write(int file, const void *data, size_t size) {
    SEEN();
    return (ssize_t)syscall(SYS_write, file, data, size);
}

FILE *fopen(const char *path, const char *mode) {
    SEEN();
    FILE *(*next)(const char *, const char *) = NULL;
    void *symbol = dlsym(RTLD_NEXT, "fopen");
    memcpy(&next, &symbol, sizeof next);
    return next == NULL ? NULL : next(path, mode);
}
