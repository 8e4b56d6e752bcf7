/* Placing blocks with lifetimes in as little memory as a first fit finds. Large blocks first: small
 * ones then fill the holes. Depends on nothing but its arguments, so places never change by chance.
 */
#include "graph/plan.h"

static bool meets(const stn__block *a, const stn__block *b) {
    return a->first <= b->last && b->first <= a->last;
}

/* Lowest offset in `buffer` free for `want` during its life; done[0..n_done) are placed. */
static uint64_t first_fit(const stn__block *block, const uint32_t *done, uint32_t n_done,
                          const stn__block *want, uint32_t buffer, uint64_t gap) {
    uint64_t offset = 0, size = stn__round_up(want->bytes) + gap;
    for (bool moved = true; moved;) {
        moved = false;
        for (uint32_t i = 0; i < n_done; i++) {
            const stn__block *b = &block[done[i]];
            uint64_t end = b->offset + stn__round_up(b->bytes) + gap;
            if (b->buffer == buffer && meets(b, want) && b->offset < offset + size &&
                offset < end) {
                offset = end;
                moved = true;
            }
        }
    }
    return offset;
}

static bool place_one(stn__block *block, const uint32_t *done, uint32_t n_done, uint32_t which,
                      uint64_t max_buffer, uint64_t gap, stn__arena *arena) {
    stn__block *want = &block[which];
    uint64_t size = stn__round_up(want->bytes) + gap;
    for (uint32_t b = 0; b < STN__MAX_BUFFERS; b++) {
        uint64_t offset = first_fit(block, done, n_done, want, b, gap);
        if (max_buffer != 0 && offset + size > max_buffer) {
            continue;
        }
        want->buffer = b;
        want->offset = offset;
        arena->n = b >= arena->n ? b + 1 : arena->n;
        arena->bytes[b] = offset + size > arena->bytes[b] ? offset + size : arena->bytes[b];
        return true;
    }
    return false;
}

int64_t stn__arena_place(stn__block *block, uint32_t n, uint64_t max_buffer, uint64_t gap,
                         stn__arena *arena, uint32_t *scratch) {
    *arena = (stn__arena){0};
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i; /* insertion sort: by size, then by index */
        for (; at > 0 && block[scratch[at - 1]].bytes < block[i].bytes; at--) {
            scratch[at] = scratch[at - 1];
        }
        scratch[at] = i;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (!place_one(block, scratch, i, scratch[i], max_buffer, gap, arena)) {
            return scratch[i];
        }
    }
    return -1;
}

bool stn__arena_check(const stn__block *block, uint32_t n, const stn__arena *arena) {
    for (uint32_t i = 0; i < n; i++) {
        const stn__block *a = &block[i];
        if (a->offset % STN__ALIGN != 0 || a->buffer >= arena->n ||
            a->offset + a->bytes > arena->bytes[a->buffer]) {
            return false;
        }
        for (uint32_t j = 0; j < i; j++) {
            const stn__block *b = &block[j];
            if (a->buffer == b->buffer && meets(a, b) && a->offset < b->offset + b->bytes &&
                b->offset < a->offset + a->bytes) {
                return false;
            }
        }
    }
    return true;
}
