/* Memory of the core: every allocation goes through here, is counted and can be made to fail.
 *
 * Sizes are 64-bit and checked; a size that does not fit the platform's size_t is a failed
 * allocation. Asking for 0 bytes gives a unique pointer that must be freed. All functions are
 * thread-safe. Blocks are released with stn__free only.
 */
#ifndef STN_BASE_MEM_H
#define STN_BASE_MEM_H

#include <stdbool.h>
#include <stdint.h>

#include <stn/error.h>

/* At least 16-byte aligned, contents unspecified; NULL if there is no memory. */
void *stn__alloc(uint64_t bytes);
/* n * size zero bytes; NULL if the product overflows or there is no memory. */
void *stn__calloc(uint64_t n, uint64_t size);
/* As realloc: on failure NULL, and the old block stays as it was. Not for aligned blocks. */
void *stn__realloc(void *ptr, uint64_t bytes);
/* Room for n elements of `size` bytes in a growing array: *cap doubles as needed. On failure false,
 * and the array stays as it was. */
bool stn__grow(void **array, uint64_t *cap, uint64_t n, uint64_t size);
/* align: a power of two; 0 means 16. Aligned blocks of 2 MiB and more ask for huge pages. */
void *stn__alloc_aligned(uint64_t bytes, uint64_t align);
void stn__free(void *ptr);

/* *out = a * b or a + b; false, with *out untouched, if it does not fit. */
bool stn__mul(uint64_t a, uint64_t b, uint64_t *out);
bool stn__add(uint64_t a, uint64_t b, uint64_t *out);

/* Returns STN_E_NOMEM with "out of memory: WHAT needs N bytes". */
int32_t stn__nomem(stn_err *err, const char *what, uint64_t bytes);

/* Allocations asked for since the process began, and blocks not yet freed. */
uint64_t stn__alloc_count(void);
uint64_t stn__alloc_live(void);
/* Tests: the next k allocations succeed, all later ones fail until this is called again; k < 0
 * switches the failures off. */
void stn__alloc_fail_after(int64_t k);

#endif
