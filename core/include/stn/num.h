/* Scalar arithmetic of the numerics contract (core/NUMERICS.md, C1-C3 and "Random numbers").
 *
 * One source for C11 and OpenCL C 1.2: every function is built from + - x, fma, compare-and-select,
 * bit casts and integer operations, in a fixed order, so that it gives the same bits everywhere.
 * C code must be compiled with -ffp-contract=off.
 */
#ifndef STN_NUM_H
#define STN_NUM_H

#ifdef __OPENCL_VERSION__
#pragma OPENCL FP_CONTRACT OFF
typedef uint stn_u32;
typedef int stn_i32;
#define STN_NUM static inline
#define stn_bits(x) as_uint(x)
#define stn_from_bits(u) as_float(u)
#define stn_fma(a, b, c) fma((a), (b), (c))
#define stn_rint(x) rint(x)
#define stn_floor(x) floor(x)
#define stn_abs(x) fabs(x)
#define stn_mulhi(a, b) mul_hi((a), (b))
#else
#include <math.h>
#include <stdint.h>
#include <string.h>
typedef uint32_t stn_u32;
typedef int32_t stn_i32;
#define STN_NUM static inline
STN_NUM stn_u32 stn_bits(float x) {
    stn_u32 u;
    memcpy(&u, &x, sizeof u);
    return u;
}
STN_NUM float stn_from_bits(stn_u32 u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}
#define stn_fma(a, b, c) fmaf((a), (b), (c))
#define stn_rint(x) rintf(x)
#define stn_floor(x) floorf(x)
#define stn_abs(x) fabsf(x)
#define stn_mulhi(a, b) ((stn_u32)(((uint64_t)(a) * (uint64_t)(b)) >> 32))
#endif

/* C2: the envelope. Class X: activations, weights, statistics, theta, grid. Class G: gradients,
 * momentum. GA: gradients entering Adam. V: Adam's second moment. */
#define STN_LIM_X 0x1p-30f
#define STN_LIM_G 0x1p-50f
#define STN_LIM_GA 0x1p-40f
#define STN_LIM_V 0x1p-100f

/* |x| < limit is decided on the bits: options that assume away NaN would turn NaN into zero, and
 * hide it from the test of C6. */
STN_NUM float stn_snap(float x, float limit) {
    return (stn_bits(x) & 0x7fffffffu) < stn_bits(limit) ? 0.0f : x;
}
STN_NUM float stn_snap_x(float x) {
    return stn_snap(x, STN_LIM_X);
}
STN_NUM float stn_snap_g(float x) {
    return stn_snap(x, STN_LIM_G);
}

/* 1 for infinities and NaN, decided on the bits so that no compiler option can hide them (C6). */
STN_NUM stn_i32 stn_nonfinite(float x) {
    return (stn_bits(x) & 0x7f800000u) == 0x7f800000u;
}

/* 1/b, correctly rounded for |b| in [2^-100, 2^100]. */
STN_NUM float stn_recip(float b) {
    stn_u32 sign = stn_bits(b) & 0x80000000u;
    stn_u32 mag = stn_bits(b) & 0x7fffffffu;
    float a = stn_from_bits(mag);
    float y = stn_from_bits(0x7EF311C3u - mag);
    for (stn_i32 i = 0; i < 4; i++) {
        float e = stn_fma(-a, y, 1.0f);
        y = stn_fma(y, e, y);
    }
    /* All mantissa bits set: Newton's result lies one ulp low. */
    stn_u32 fix = (mag & 0x7fffffu) == 0x7fffffu ? 1u : 0u;
    return stn_from_bits((stn_bits(y) + fix) | sign);
}

/* a/b, correctly rounded for operands and quotient well inside the range. */
STN_NUM float stn_div(float a, float b) {
    float y = stn_recip(b);
    float q = a * y;
    return stn_fma(stn_fma(-b, q, a), y, q);
}

/* Square root of x >= 0, correctly rounded on [2^-100, 2^100]; stn_sqrt(0) = 0. */
STN_NUM float stn_sqrt(float x) {
    float y = stn_from_bits(0x5F375A86u - (stn_bits(x) >> 1));
    for (stn_i32 i = 0; i < 4; i++) {
        float t = x * y;
        float e = stn_fma(-t, y, 1.0f);
        y = stn_fma(0.5f * y, e, y);
    }
    float s = x * y;
    return stn_fma(stn_fma(-s, s, x), 0.5f * y, s);
}

STN_NUM float stn_rsqrt(float x) {
    return stn_div(1.0f, stn_sqrt(x));
}

/* e^x for x <= 0, at most 0.87 ulp; below -34 the result is +0. */
STN_NUM float stn_exp(float x) {
    float n = stn_rint(x * 0x1.715476p+0f);
    float r = stn_fma(n, -0x1.62e4p-1f, x);
    r = stn_fma(n, -0x1.7f7d1cp-20f, r);
    float p = 0x1.9dfba6p-13f;
    p = stn_fma(p, r, 0x1.6d4cbap-10f);
    p = stn_fma(p, r, 0x1.11130ep-7f);
    p = stn_fma(p, r, 0x1.5554e8p-5f);
    p = stn_fma(p, r, 0x1.555554p-3f);
    p = stn_fma(p, r, 0x1p-1f);
    p = stn_fma(p, r, 0x1p+0f);
    p = stn_fma(p, r, 0x1p+0f);
    /* The comparison also keeps a NaN away from the conversion, which C leaves undefined for it. */
    float y = stn_from_bits(stn_bits(p) + ((stn_u32)(stn_i32)(n >= -50.0f ? n : 0.0f) << 23));
    return x < -34.0f ? 0.0f : y;
}

/* Kinds of random streams; the stream word of the counter is kind << 28 | id. */
#define STN_RNG_DROPOUT 0u
#define STN_RNG_INIT 1u
#define STN_RNG_SHUFFLE 2u
#define STN_RNG_AUGMENT 3u
#define STN_RNG_STREAM(kind, id) (((stn_u32)(kind) << 28) | (stn_u32)(id))

/* Philox4x32-10 (Salmon et al. 2011): word `element mod 4` of the block with counter
 * (element / 4, stream, lo, hi) and key (key_lo, key_hi). */
STN_NUM stn_u32 stn_philox(stn_u32 key_lo, stn_u32 key_hi, stn_u32 element, stn_u32 stream,
                           stn_u32 lo, stn_u32 hi) {
    stn_u32 c0 = element >> 2, c1 = stream, c2 = lo, c3 = hi;
    for (stn_i32 round = 0; round < 10; round++) {
        stn_u32 h0 = stn_mulhi(0xD2511F53u, c0), l0 = 0xD2511F53u * c0;
        stn_u32 h1 = stn_mulhi(0xCD9E8D57u, c2), l1 = 0xCD9E8D57u * c2;
        c0 = h1 ^ c1 ^ key_lo;
        c1 = l1;
        c2 = h0 ^ c3 ^ key_hi;
        c3 = l0;
        key_lo += 0x9E3779B9u;
        key_hi += 0xBB67AE85u;
    }
    /* Two selects by one bit each: a chain over four values becomes a switch, which Oclgrind 21.10
     * gets wrong. */
    stn_u32 low = (element & 1u) != 0u ? c1 : c0, high = (element & 1u) != 0u ? c3 : c2;
    return (element & 2u) != 0u ? high : low;
}

/* Uniform in [0, 1), a multiple of 2^-24. */
STN_NUM float stn_uniform(stn_u32 word) {
    return (float)(word >> 8) * 0x1p-24f;
}

/* C5, conv forward: input channels per chunk, the largest power of two <= max(1, 512/(KH*KW)). */
STN_NUM stn_u32 stn_conv_chunk(stn_u32 kh, stn_u32 kw) {
    stn_u32 limit = 512u / (kh * kw), cb = 1u;
    while (2u * cb <= limit) {
        cb *= 2u;
    }
    return cb;
}

/* C5, conv weight gradient: images per chunk, the smallest power of two G with G*OH*OW >= 256. */
STN_NUM stn_u32 stn_wgrad_chunk(stn_u32 oh, stn_u32 ow) {
    stn_u32 g = 1u;
    while (g * oh * ow < 256u) {
        g *= 2u;
    }
    return g;
}

#define STN_LINEAR_CHUNK 512u
#define STN_PLANE_LANES 16u

#endif
