/* The accumulators of a register tile: TILE_P scalars times `vectors` <= TILE_V vectors. In memory
 * they lie [TILE_P][TILE_V][16].
 */
#ifndef CPU_ISA_ACC_H
#define CPU_ISA_ACC_H

#include "vec.h"

/* From `start`, or from +0 without. */
VEC void acc_start(vf acc[TILE_P][TILE_V], const float *start, const uint32_t vectors) {
    UNROLL
    for (uint32_t p = 0; p < TILE_P; p++) {
        UNROLL
        for (uint32_t v = 0; v < vectors; v++) {
            const uint32_t at = (p * TILE_V + v) * LANES;
            acc[p][v] = start == NULL ? v_zero() : v_load(start + at);
        }
    }
}

/* out = add + acc, or acc without. */
VEC void acc_store(vf acc[TILE_P][TILE_V], const float *add, float *out, const uint32_t vectors) {
    UNROLL
    for (uint32_t p = 0; p < TILE_P; p++) {
        UNROLL
        for (uint32_t v = 0; v < vectors; v++) {
            const uint32_t at = (p * TILE_V + v) * LANES;
            v_store(out + at, add == NULL ? acc[p][v] : v_add(v_load(add + at), acc[p][v]));
        }
    }
}

#endif
