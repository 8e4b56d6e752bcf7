/* Measuring loops: what kernels of this device could reach at best, in vectors of P_WIDTH floats.
 * P_CHAINS is R6 or R12: the number of independent sums. */
typedef CAT(float, P_WIDTH) real;

#define BEGIN(i) real x##i = start + (real)(float)i;
#define TURN(i) x##i = fma(x##i, half_, one_);
#define END(i) sum = fma(x##i, one_, sum);

/* x = x/2 + 1 stays between 0 and its start: no subnormals, no infinities. */
__kernel void peak_fma(__global real *out, uint rounds) {
    const real half_ = (real)(0.5f), one_ = (real)(1.0f);
    real start = (real)((float)(get_global_id(0) & 15u)), sum = (real)(0.0f);
    P_CHAINS(BEGIN)
    for (uint r = 0u; r < rounds; r++) {
        P_CHAINS(TURN)
    }
    P_CHAINS(END)
    out[get_global_id(0)] = sum;
}

__kernel void peak_triad(__global real *a, __global const real *b, __global const real *c) {
    size_t i = get_global_id(0);
    a[i] = fma((real)(0.5f), b[i], c[i]);
}
