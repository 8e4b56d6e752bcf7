/* Counting allocator over malloc, with failure injection. */
#define _DEFAULT_SOURCE /* madvise */
#include "base/mem.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define DEFAULT_ALIGN 16u
#define HUGE_PAGE (UINT64_C(2) << 20)

static _Atomic uint64_t asked;
static _Atomic uint64_t live;
static _Atomic int64_t countdown = -1; /* allocations left before failures begin; < 0: never */

static bool injected_failure(void) {
    atomic_fetch_add_explicit(&asked, 1, memory_order_relaxed);
    int64_t left = atomic_load_explicit(&countdown, memory_order_relaxed);
    while (left > 0) {
        if (atomic_compare_exchange_weak(&countdown, &left, left - 1)) {
            return false;
        }
    }
    return left == 0;
}

static void *counted(void *ptr) {
    if (ptr != NULL) {
        atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
    }
    return ptr;
}

/* malloc(0) may return NULL, which would read as a failure. */
static size_t at_least_one(uint64_t bytes) {
    return bytes == 0 ? 1 : (size_t)bytes;
}

void *stn__alloc(uint64_t bytes) {
    if (injected_failure() || bytes > PTRDIFF_MAX) {
        return NULL;
    }
    return counted(malloc(at_least_one(bytes)));
}

void *stn__calloc(uint64_t n, uint64_t size) {
    uint64_t bytes = 0;
    if (injected_failure() || !stn__mul(n, size, &bytes) || bytes > PTRDIFF_MAX) {
        return NULL;
    }
    return counted(calloc(1, at_least_one(bytes)));
}

void *stn__realloc(void *ptr, uint64_t bytes) {
    if (ptr == NULL) {
        return stn__alloc(bytes);
    }
    if (injected_failure() || bytes > PTRDIFF_MAX) {
        return NULL;
    }
    return realloc(ptr, at_least_one(bytes));
}

bool stn__grow(void **array, uint64_t *cap, uint64_t n, uint64_t size) {
    if (n <= *cap) {
        return true;
    }
    uint64_t want = *cap < 8 ? 8 : *cap, bytes = 0;
    while (want < n) {
        if (!stn__mul(want, 2, &want)) {
            return false;
        }
    }
    if (!stn__mul(want, size, &bytes)) {
        return false;
    }
    void *grown = stn__realloc(*array, bytes);
    if (grown == NULL) {
        return false;
    }
    *array = grown;
    *cap = want;
    return true;
}

/* Buffers of tensors begin at a huge page and ask for such: a step walks through tens of MiB, and
 * translations of pages of 4 KiB would not stay in the processor. A system may refuse. */
static void ask_huge_pages(void *ptr, uint64_t bytes) {
#ifdef MADV_HUGEPAGE
    (void)madvise(ptr, (size_t)bytes, MADV_HUGEPAGE);
#else
    (void)ptr, (void)bytes;
#endif
}

void *stn__alloc_aligned(uint64_t bytes, uint64_t align) {
    if (align <= DEFAULT_ALIGN) {
        return stn__alloc(bytes);
    }
    const bool large = bytes >= HUGE_PAGE;
    const uint64_t begin = large && align < HUGE_PAGE ? HUGE_PAGE : align;
    if (injected_failure() || begin > PTRDIFF_MAX || bytes > PTRDIFF_MAX - begin) {
        return NULL;
    }
    void *ptr = NULL;
    if (posix_memalign(&ptr, (size_t)begin, at_least_one(bytes)) != 0) {
        return NULL;
    }
    if (large) {
        ask_huge_pages(ptr, bytes);
    }
    return counted(ptr);
}

void stn__free(void *ptr) {
    if (ptr != NULL) {
        atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
        free(ptr);
    }
}

bool stn__mul(uint64_t a, uint64_t b, uint64_t *out) {
    if (b != 0 && a > UINT64_MAX / b) {
        return false;
    }
    *out = a * b;
    return true;
}

bool stn__add(uint64_t a, uint64_t b, uint64_t *out) {
    if (a > UINT64_MAX - b) {
        return false;
    }
    *out = a + b;
    return true;
}

int32_t stn__nomem(stn_err *err, const char *what, uint64_t bytes) {
    return stn_fail(err, STN_E_NOMEM,
                    "out of memory: %s needs %" PRIu64 " bytes; close other programs or make the "
                    "batch smaller",
                    what, bytes);
}

uint64_t stn__alloc_count(void) {
    return atomic_load_explicit(&asked, memory_order_relaxed);
}

uint64_t stn__alloc_live(void) {
    return atomic_load_explicit(&live, memory_order_relaxed);
}

void stn__alloc_fail_after(int64_t k) {
    atomic_store(&countdown, k < 0 ? -1 : k);
}
