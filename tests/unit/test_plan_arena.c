/* Placing blocks in an arena: random lifetimes never overlap, pieces respect the device's limit,
 * and the checker that says so can fail. */
#include <criterion/criterion.h>
#include <string.h>

#include <stn/num.h>

#include "graph/plan.h"

enum { MOST = 200 };

static uint32_t draw(uint32_t trial, uint32_t k, uint32_t n) {
    return stn_mulhi(stn_philox(5, 6, k, 0, trial, 0), n);
}

/* n blocks with lifetimes inside 0..99, some of them for ever. Returns the largest size. */
static uint64_t random_blocks(uint32_t trial, stn__block *block, uint32_t n) {
    uint64_t largest = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t first = draw(trial, 4 * i, 100);
        uint32_t length = draw(trial, 4 * i + 1, trial % 3 == 0 ? 100 : 10);
        bool always = draw(trial, 4 * i + 2, 20) == 0;
        block[i] = (stn__block){1 + draw(trial, 4 * i + 3, 5000), first,
                                always ? UINT32_MAX : first + length, 9, 9};
        largest = block[i].bytes > largest ? block[i].bytes : largest;
    }
    return largest;
}

/* The most bytes alive at one time: no arena can be smaller. */
static uint64_t peak(const stn__block *block, uint32_t n) {
    uint64_t most = 0;
    for (uint32_t t = 0; t < 200; t++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            sum += block[i].first <= t && t <= block[i].last ? block[i].bytes : 0;
        }
        most = sum > most ? sum : most;
    }
    return most;
}

Test(plan_arena, random_lifetimes_never_overlap) {
    stn__block block[MOST];
    uint32_t scratch[MOST];
    stn__arena arena;
    for (uint32_t trial = 0; trial < 200; trial++) {
        uint32_t n = 1 + draw(trial, 10000, MOST);
        (void)random_blocks(trial, block, n);
        cr_assert_eq(stn__arena_place(block, n, 0, 0, &arena, scratch), -1);
        cr_assert(stn__arena_check(block, n, &arena), "trial %u", trial);
        cr_assert_eq(arena.n, 1);
        cr_assert_geq(arena.bytes[0], peak(block, n));
    }
}

Test(plan_arena, limit_splits_the_arena) {
    stn__block block[MOST];
    uint32_t scratch[MOST];
    stn__arena arena;
    uint32_t split = 0;
    for (uint32_t trial = 0; trial < 50; trial++) {
        uint64_t limit = stn__round_up(random_blocks(trial, block, 60)) * 3;
        cr_assert_eq(stn__arena_place(block, 60, limit, 0, &arena, scratch), -1);
        cr_assert(stn__arena_check(block, 60, &arena), "trial %u", trial);
        for (uint32_t b = 0; b < arena.n; b++) {
            cr_assert_leq(arena.bytes[b], limit);
        }
        split += arena.n > 1 ? 1 : 0;
    }
    cr_assert_gt(split, 0);
}

Test(plan_arena, too_large_a_block_is_named) {
    stn__block block[3] = {{100, 0, 1, 0, 0}, {5000, 0, 1, 0, 0}, {100, 0, 1, 0, 0}};
    uint32_t scratch[3];
    stn__arena arena;
    cr_assert_eq(stn__arena_place(block, 3, 4096, 0, &arena, scratch), 1);
}

Test(plan_arena, gap_keeps_neighbours_apart) {
    stn__block block[2] = {{256, 0, 5, 0, 0}, {256, 3, 9, 0, 0}};
    uint32_t scratch[2];
    stn__arena arena;
    cr_assert_eq(stn__arena_place(block, 2, 0, 256, &arena, scratch), -1);
    cr_assert_eq(block[0].offset, 0);
    cr_assert_eq(block[1].offset, 512);
    cr_assert_eq(arena.bytes[0], 1024);
}

Test(plan_arena, disjoint_lifetimes_share) {
    stn__block block[3] = {{1000, 0, 1, 0, 0}, {900, 2, 3, 0, 0}, {800, 4, UINT32_MAX, 0, 0}};
    uint32_t scratch[3];
    stn__arena arena;
    cr_assert_eq(stn__arena_place(block, 3, 0, 0, &arena, scratch), -1);
    cr_assert_eq(arena.bytes[0], 1024);
}

Test(plan_arena, checker_finds_overlap) {
    stn__arena arena = {1, {4096}};
    stn__block block[2] = {{600, 0, 2, 0, 0}, {600, 2, 3, 0, 512}};
    cr_assert_not(stn__arena_check(block, 2, &arena));
    block[1].first = 3;
    cr_assert(stn__arena_check(block, 2, &arena));
    block[1].offset = 100;
    cr_assert_not(stn__arena_check(block, 2, &arena), "offsets are multiples of %u", STN__ALIGN);
    block[1].offset = 3840;
    cr_assert_not(stn__arena_check(block, 2, &arena), "ends outside");
}
