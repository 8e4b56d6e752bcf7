/* Allocator, checked arithmetic, hashing, status names and shuffling. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <stn/num.h>
#include <stn/stn.h>

#include "base/hash.h"
#include "base/mem.h"
#include "base/rng.h"

Test(mem, counts_and_frees) {
    uint64_t live = stn__alloc_live(), asked = stn__alloc_count();
    void *a = stn__alloc(100), *b = stn__calloc(3, 7), *c = stn__alloc_aligned(1000, 4096);
    void *d = stn__alloc(0), *e = stn__alloc_aligned(5, 0);
    cr_assert(a != NULL && b != NULL && c != NULL && d != NULL && e != NULL);
    cr_expect_eq((uintptr_t)c % 4096, 0);
    cr_expect_eq((uintptr_t)e % 16, 0);
    cr_expect_eq(stn__alloc_live(), live + 5);
    cr_expect_eq(stn__alloc_count(), asked + 5);
    static const char zeros[21];
    cr_expect_eq(memcmp(b, zeros, sizeof zeros), 0);
    memset(a, 7, 100);
    char *grown = stn__realloc(a, 100000);
    cr_assert(grown != NULL && grown[99] == 7);
    stn__free(grown);
    stn__free(b);
    stn__free(c);
    stn__free(d);
    stn__free(e);
    stn__free(NULL);
    cr_expect_eq(stn__alloc_live(), live);
}

Test(mem, refuses_sizes_that_overflow) {
    cr_expect_null(stn__calloc(UINT64_C(1) << 33, UINT64_C(1) << 33));
    cr_expect_null(stn__alloc(UINT64_MAX));
    cr_expect_null(stn__alloc_aligned(UINT64_MAX - 4095, 4096));
    char *block = stn__alloc(8);
    cr_expect_null(stn__realloc(block, UINT64_MAX));
    block[7] = 1; /* still there */
    stn__free(block);
    uint64_t out = 5;
    cr_expect(!stn__mul(UINT64_MAX, 2, &out) && out == 5);
    cr_expect(!stn__mul(UINT64_C(1) << 32, UINT64_C(1) << 32, &out));
    cr_expect(stn__mul(UINT64_MAX, 1, &out) && out == UINT64_MAX);
    cr_expect(stn__mul(0, UINT64_MAX, &out) && out == 0);
    cr_expect(stn__mul(UINT64_MAX, 0, &out) && out == 0);
    cr_expect(!stn__add(UINT64_MAX, 1, &out));
    cr_expect(stn__add(UINT64_MAX - 1, 1, &out) && out == UINT64_MAX);
    void *array = NULL;
    uint64_t cap = 0;
    cr_expect(!stn__grow(&array, &cap, UINT64_MAX / 4, 8) && array == NULL && cap == 0);
}

Test(mem, fails_after_the_given_number) {
    stn__alloc_fail_after(2);
    void *a = stn__alloc(1), *b = stn__alloc_aligned(1, 64), *c = stn__alloc(1);
    void *d = stn__calloc(1, 1), *e = stn__realloc(a, 2), *f = stn__alloc_aligned(1, 64);
    stn__alloc_fail_after(-1);
    cr_expect(a != NULL && b != NULL && c == NULL && d == NULL && e == NULL && f == NULL);
    void *g = stn__alloc(1);
    cr_expect(g != NULL);
    stn__free(a);
    stn__free(b);
    stn__free(g);
}

Test(mem, large_blocks_begin_at_a_huge_page) {
    const uint64_t huge = UINT64_C(2) << 20, sizes[] = {huge, huge + 1, 3 * huge - 1};
    for (int i = 0; i < 3; i++) {
        char *block = stn__alloc_aligned(sizes[i], 64);
        cr_assert(block != NULL && (uintptr_t)block % huge == 0);
        memset(block, 1, sizes[i]);
        stn__free(block);
    }
    void *more = stn__alloc_aligned(huge, 2 * huge);
    cr_expect(more != NULL && (uintptr_t)more % (2 * huge) == 0);
    stn__free(more);
    cr_expect_null(stn__alloc_aligned((uint64_t)PTRDIFF_MAX - 63, 64));
    cr_expect_null(stn__alloc_aligned(UINT64_MAX, 64));
    stn__alloc_fail_after(0);
    cr_expect_null(stn__alloc_aligned(huge, 64));
    stn__alloc_fail_after(-1);
}

static void *allocate_many(void *failures) {
    for (int i = 0; i < 10000; i++) {
        void *block = stn__alloc(16);
        *(uint64_t *)failures += block == NULL;
        stn__free(block);
    }
    return NULL;
}

Test(mem, counts_exactly_under_threads) {
    pthread_t thread[4];
    uint64_t failures[4] = {0}, live = stn__alloc_live(), asked = stn__alloc_count();
    stn__alloc_fail_after(25000);
    for (int i = 0; i < 4; i++) {
        cr_assert_eq(pthread_create(&thread[i], NULL, allocate_many, &failures[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(thread[i], NULL);
    }
    stn__alloc_fail_after(-1);
    cr_expect_eq(failures[0] + failures[1] + failures[2] + failures[3], 15000);
    cr_expect_eq(stn__alloc_count(), asked + 40000);
    cr_expect_eq(stn__alloc_live(), live);
}

/* FIPS 180-2, appendix B, and the empty string. */
Test(hash, known_answers) {
    char hex[STN__SHA256_HEX];
    cr_assert_eq(stn__sha256_of("abc", 3, hex, NULL), STN_OK);
    cr_expect_str_eq(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    cr_assert_eq(stn__sha256_of(NULL, 0, hex, NULL), STN_OK);
    cr_expect_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    stn__sha256 hash;
    cr_assert_eq(stn__sha256_init(&hash, NULL), STN_OK);
    for (int i = 0; i < 1000; i++) {
        char block[1000];
        memset(block, 'a', sizeof block);
        stn__sha256_update(&hash, block, sizeof block);
    }
    cr_assert_eq(stn__sha256_final(&hash, hex, NULL), STN_OK);
    cr_expect_str_eq(hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

Test(hash, failure_is_sticky_and_numbers_are_little_endian) {
    stn__sha256 hash;
    char hex[STN__SHA256_HEX] = "x", other[STN__SHA256_HEX];
    stn_err err = {0};
    cr_assert_eq(stn__sha256_init(&hash, NULL), STN_OK);
    stn__sha256_drop(&hash);
    stn__sha256_update(&hash, "abc", 3);
    cr_expect_eq(stn__sha256_final(&hash, hex, &err), STN_E_FAIL);
    cr_expect_str_empty(hex);
    cr_assert_eq(stn__sha256_init(&hash, NULL), STN_OK);
    stn__sha256_u64(&hash, UINT64_C(0x0807060504030201));
    stn__sha256_u32(&hash, 0x0c0b0a09);
    cr_assert_eq(stn__sha256_final(&hash, hex, NULL), STN_OK);
    cr_assert_eq(stn__sha256_of("\1\2\3\4\5\6\7\10\11\12\13\14", 12, other, NULL), STN_OK);
    cr_expect_str_eq(hex, other);
}

Test(error, names_texts_and_exit_statuses) {
    cr_expect_str_eq(stn_status_name(STN_E_FORMAT), "E_FORMAT");
    cr_expect_str_eq(stn_status_text(STN_E_FORMAT), "bad or corrupt input file");
    cr_expect_eq(stn_status_exit(STN_E_FORMAT), 5);
    cr_expect_eq(stn_status_exit(STN_E_NOTFOUND), 2);
    cr_expect_eq(stn_status_exit(STN_OK), 0);
    cr_expect_eq(stn_status_exit(12345), 1);
    cr_expect_str_eq(stn_status_name(-7), "E_UNKNOWN");
    cr_expect_str_eq(stn_version(), STN_VERSION);
}

/* The contract's definition once more, word by word, on indices of 64 bits. */
static void shuffle_by_definition(uint64_t seed, uint32_t epoch, uint32_t *order, uint64_t n) {
    uint32_t element = 0;
    for (uint64_t i = 0; i < n; i++) {
        order[i] = (uint32_t)i;
    }
    for (uint64_t i = n - 1; i >= 1; i--) {
        uint64_t j, low, reject = (UINT64_C(1) << 32) % (i + 1);
        do {
            uint64_t word =
                stn_philox((uint32_t)seed, (uint32_t)(seed >> 32), element++, 2u << 28, epoch, 0);
            j = word * (i + 1) >> 32;
            low = word * (i + 1) & 0xffffffff;
        } while (low < reject);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

Test(rng, shuffle_follows_the_contract) {
    enum { N = 60000 };
    static uint32_t order[N], want[N];
    static unsigned char seen[N];
    const uint64_t seed = UINT64_C(0x123456789abcdef0);
    stn__shuffle(seed, 3, order, N);
    shuffle_by_definition(seed, 3, want, N);
    cr_expect_eq(memcmp(order, want, sizeof want), 0);
    for (uint32_t i = 0; i < N; i++) {
        seen[order[i]]++;
    }
    for (uint32_t i = 0; i < N; i++) {
        cr_assert_eq(seen[i], 1);
    }
    stn__shuffle(seed, 4, order, N);
    cr_expect_neq(memcmp(order, want, sizeof want), 0);
    stn__shuffle(seed + (UINT64_C(1) << 32), 3, order, N);
    cr_expect_neq(memcmp(order, want, sizeof want), 0);
    stn__shuffle(seed, 0, order, 0);
    stn__shuffle(seed, 0, order, 1);
    cr_expect_eq(order[0], 0);
}

/* Pinned: a change here changes every training run. */
Test(rng, shuffle_is_pinned) {
    uint32_t order[10000];
    char hex[STN__SHA256_HEX];
    stn__sha256 hash;
    cr_assert_eq(stn__sha256_init(&hash, NULL), STN_OK);
    for (uint32_t epoch = 0; epoch < 3; epoch++) {
        stn__shuffle(42, epoch, order, 10000);
        for (uint32_t i = 0; i < 10000; i++) {
            stn__sha256_u32(&hash, order[i]);
        }
    }
    cr_assert_eq(stn__sha256_final(&hash, hex, NULL), STN_OK);
    cr_expect_str_eq(hex, "39d9b32981e4db5cdc000ffe3ecadbe2b8bd76d26345819eb82cc489fbc963ac");
}
