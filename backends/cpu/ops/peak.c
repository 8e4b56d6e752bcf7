/* Measuring loops of one instruction set: what its kernels could reach at best. */
#include "fast.h"

/* As many independent sums as the register tiles of the convolutions keep. */
#define CHAINS (TILE_P * TILE_V)

/* x = x/2 + 1 stays between 2 and its start, so no operand gets subnormal or infinite. All lanes
 * differ: of a vector in several registers a compiler would compute those that are equal once. */
static float fma_rounds(uint64_t rounds, float start) {
    const vf half = v_set1(0.5f), one = v_set1(1.0f);
    float lane[LANES];
    for (uint32_t i = 0; i < LANES; i++) {
        lane[i] = start + (float)i;
    }
    vf x[CHAINS];
    UNROLL for (uint32_t i = 0; i < CHAINS; i++) {
        x[i] = v_add(v_load(lane), v_set1((float)i));
    }
    for (uint64_t r = 0; r < rounds; r++) {
        UNROLL for (uint32_t i = 0; i < CHAINS; i++) {
            x[i] = v_fma(x[i], half, one);
        }
    }
    UNROLL for (uint32_t i = 1; i < CHAINS; i++) {
        x[0] = v_add(x[0], x[i]);
    }
    return v_fold(x[0]);
}

static void triad(float *a, const float *b, const float *c, uint64_t n) {
    const vf s = v_set1(0.5f);
    for (uint64_t i = 0; i < n; i += LANES) {
        v_store(a + i, v_fma(s, v_load(b + i), v_load(c + i)));
    }
}

static void store(float *a, uint64_t n, bool past) {
    const vf one = v_set1(1.0f);
    for (uint64_t i = 0; i < n; i += LANES) {
        if (past) {
            v_stream(a + i, one);
        } else {
            v_store(a + i, one);
        }
    }
    v_stream_end();
}

#define PROBE_NAME2(isa) cpu_##isa##_probe
#define PROBE_NAME1(isa) PROBE_NAME2(isa)
const cpu_probe PROBE_NAME1(CPU_ISA) = {2u * LANES * CHAINS, fma_rounds, triad, store};
