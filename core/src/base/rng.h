/* Deterministic shuffling (contract, "Random numbers", kind 2). */
#ifndef STN_BASE_RNG_H
#define STN_BASE_RNG_H

#include <stdint.h>

/* Fills order[0..n) with a permutation of 0..n-1 that depends on seed, epoch and n only.
 * n <= 2^30. */
void stn__shuffle(uint64_t seed, uint32_t epoch, uint32_t *order, uint32_t n);

#endif
