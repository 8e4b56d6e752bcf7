/* Shared by every kernel file (num.h stands before it).
 *
 * Operands come as pointer and offset in elements. `one` is 1.0f as a kernel argument: a sum whose
 * result feeds another sum is fma(x, one, t), which no compiler may re-associate (contract C1).
 * Layout arguments: 0 NCHW, 1 NC16 ([N][ceil(C/16)][P][16], P = H*W).
 */
#pragma OPENCL FP_CONTRACT OFF

#define RD(x) __global const float *x, ulong x##_off
#define RD8(x) __global const uchar *x, ulong x##_off
#define RDI(x) __global const int *x, ulong x##_off
#define WR(x) __global float *x, ulong x##_off
#define WR8(x) __global uchar *x, ulong x##_off
#define WRI(x) __global int *x, ulong x##_off
#define GO(x) x = x + x##_off
#define FLAGS __global uint *flags, ulong flags_off, uint node, uint step1, float one

#define ADD(x, t) fma((x), one, (t))
#define SUB(t, x) fma(-(x), one, (t))

/* x > 0 on the bits: immune to options that assume away NaN and the sign of zero. */
#define POS(x) (as_uint(x) - 1u < 0x7f800000u)
#define ISNAN(x) ((as_uint(x) & 0x7fffffffu) > 0x7f800000u)

/* C6: remembers the first step and node that stored a non-finite value. */
static inline void raise_flag(__global uint *flags, ulong flags_off, uint node, uint step1) {
    if (step1 != 0u) {
        atomic_cmpxchg((volatile __global uint *)(flags + flags_off), 0u, step1);
        atomic_cmpxchg((volatile __global uint *)(flags + flags_off + 1u + node), 0u, step1);
    }
}
#define CHECK(x)                                                                                   \
    if (stn_nonfinite(x)) {                                                                        \
        raise_flag(flags, flags_off, node, step1);                                                 \
    }

/* Of many values: NOTE each, RAISE once. */
#define NOTE(x) bad |= (uint)stn_nonfinite(x);
#define RAISE                                                                                      \
    if (bad != 0u) {                                                                               \
        raise_flag(flags, flags_off, node, step1);                                                 \
    }

typedef struct {
    uint n, c, p;
} pos_t;

/* Element e of the stored order -> image, channel (may be past C in NC16), pixel. */
static inline pos_t decode(uint lay, uint C, uint P, uint e) {
    pos_t r;
    if (lay != 0u) {
        uint blocks = (C + 15u) / 16u, q = e / 16u;
        r.p = q % P;
        q = q / P;
        r.c = (q % blocks) * 16u + e % 16u;
        r.n = q / blocks;
    } else {
        uint q = e / P;
        r.p = e - q * P;
        r.n = q / C;
        r.c = q - r.n * C;
    }
    return r;
}

/* Start of plane (n, c); its pixels lie STRIDE(lay) apart. */
#define STRIDE(lay) ((lay) != 0u ? 16u : 1u)
static inline uint plane(uint lay, uint C, uint P, uint n, uint c) {
    return lay != 0u ? ((n * ((C + 15u) / 16u) + c / 16u) * P) * 16u + c % 16u : (n * C + c) * P;
}

static inline float act_fwd(float x, float slope) {
    return POS(x) ? x : slope == 0.0f ? 0.0f : stn_snap_x(slope * x);
}
static inline float act_bwd(float g, float y, float slope) {
    return POS(y) ? g : slope == 0.0f ? 0.0f : stn_snap_g(slope * g);
}

/* PLANE16 fold: lane[j] += lane[j+s], s = 8, 4, 2, 1. */
static inline float fold16(float16 v, float one) {
    float8 a = fma(v.hi, (float8)(one), v.lo);
    float4 b = fma(a.hi, (float4)(one), a.lo);
    float2 c = fma(b.hi, (float2)(one), b.lo);
    return fma(c.hi, one, c.lo);
}

#define MAX_TREE 20
/* Balanced binary tree over values pushed in order: push s = 0, 1, ...; after the last of S = 2^k
 * pushes the sum is returned in *v. */
static inline void tree_push(__private float *stack, uint s, __private float *v, float one) {
    uint level = 0u;
    for (; ((s >> level) & 1u) != 0u; level++) {
        *v = fma(*v, one, stack[level]);
    }
    stack[level] = *v;
}

/* {k / d, k % d}, with INVERSE(d); that quotient is at most one too small. */
#define INVERSE(d) (~0u / (d))
static inline uint2 divide(uint k, uint d, uint inverse) {
    uint q = mul_hi(k, inverse), r = k - q * d;
    return r >= d ? (uint2)(q + 1u, r - d) : (uint2)(q, r);
}

/* Map from grid to pixels, for each direction: size, s = scale to pixels, o = offset, per = period
 * of the reflection, inv = 1/per. padding: 1 zeros, 2 border, 3 reflection, 4 background. */
#define MAP                                                                                        \
    uint W, uint H, float sx, float sy, float ox, float oy, float perx, float pery, float invx,    \
        float invy, uint aligned, uint nearest, uint padding
