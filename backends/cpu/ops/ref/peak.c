/* Measuring loops of the reference set: one number at a time, as its kernels compute. */
#include "ref.h"

#define CHAINS 4u

static float fma_rounds(uint64_t rounds, float start) {
    float x[CHAINS];
    for (uint32_t i = 0; i < CHAINS; i++) {
        x[i] = start + (float)i;
    }
    for (uint64_t r = 0; r < rounds; r++) {
        for (uint32_t i = 0; i < CHAINS; i++) {
            x[i] = stn_fma(x[i], 0.5f, 1.0f);
        }
    }
    return x[0] + x[1] + x[2] + x[3];
}

static void triad(float *a, const float *b, const float *c, uint64_t n) {
    for (uint64_t i = 0; i < n; i++) {
        a[i] = stn_fma(0.5f, b[i], c[i]);
    }
}

const cpu_probe cpu_ref_probe = {2u * CHAINS, fma_rounds, triad, NULL};
