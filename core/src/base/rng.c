/* Fisher-Yates over Philox words, unbiased by rejection.
 *
 * i = n-1 .. 1: j = mulhi(word, i+1) is uniform on 0..i once words whose low half of
 * word * (i+1) lies below 2^32 mod (i+1) are passed over (Lemire 2019).
 */
#include "base/rng.h"

#include <stn/num.h>

static uint32_t draw_below(uint64_t seed, uint32_t epoch, uint32_t bound, uint32_t *element) {
    uint32_t reject = (0u - bound) % bound; /* 2^32 mod bound */
    for (;;) {
        uint32_t word = stn_philox((uint32_t)seed, (uint32_t)(seed >> 32), (*element)++,
                                   STN_RNG_STREAM(STN_RNG_SHUFFLE, 0), epoch, 0);
        uint64_t product = (uint64_t)word * bound;
        if ((uint32_t)product >= reject) {
            return (uint32_t)(product >> 32);
        }
    }
}

void stn__shuffle(uint64_t seed, uint32_t epoch, uint32_t *order, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        order[i] = i;
    }
    uint32_t element = 0;
    for (uint32_t i = n; i-- > 1;) {
        uint32_t j = draw_below(seed, epoch, i + 1, &element);
        uint32_t swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}
