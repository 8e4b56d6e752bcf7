/* vec.h in plain C, four lanes at a time (GCC vector extensions); only the fused multiply-add, for
 * which there is no operator, names the processor.
 *
 * On x86 without one (the set "sse2") it is computed in double: the product of two floats is exact
 * there, the sum is rounded once, and rounding that to float is right unless the double lies
 * exactly half-way between two floats or below the normal range; those rare lanes go through fmaf.
 */
#ifndef CPU_ISA_VEC_PORTABLE_H
#define CPU_ISA_VEC_PORTABLE_H

#include <math.h>
#if defined(__FMA__)
#include <immintrin.h>
#elif defined(__SSE2__)
#include <emmintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Four registers a vector: AArch64 has 32 of them, x86 without AVX-512 has 16. */
#if defined(__aarch64__)
#define TILE_P 6
#else
#define TILE_P 3
#endif
#define TILE_V 1

typedef float vec_f4 __attribute__((vector_size(16)));
typedef int32_t vec_i4 __attribute__((vector_size(16)));
typedef uint32_t vec_u4 __attribute__((vector_size(16)));
typedef uint64_t vec_u2 __attribute__((vector_size(16)));
typedef struct vf {
    vec_f4 q[4];
} vf;
typedef struct vi {
    vec_i4 q[4];
} vi;
typedef vi vm; /* 0 or -1 per lane */

#define VEC_EACH(i) UNROLL for (uint32_t i = 0; i < 4; i++)
/* One operation on every quarter: the expression sees i. */
#define VEC_MAP(type, expr)                                                                        \
    type r_;                                                                                       \
    VEC_EACH(i) {                                                                                  \
        r_.q[i] = (expr);                                                                          \
    }                                                                                              \
    return r_

VEC vf v_set1(float x) {
    VEC_MAP(vf, ((vec_f4){x, x, x, x}));
}
VEC vf v_zero(void) {
    return v_set1(0.0f);
}
VEC vf v_load(const float *p) {
    vf r;
    memcpy(&r, p, sizeof r);
    return r;
}
VEC void v_store(float *p, vf x) {
    memcpy(p, &x, sizeof x);
}
#define V_STREAM_ALIGN 1u
VEC void v_stream(float *p, vf x) {
    v_store(p, x);
}
VEC void v_stream_end(void) {
}
VEC vf v_load_n(const float *p, uint32_t n) {
    float lane[16] = {0};
    memcpy(lane, p, n * sizeof *p);
    return v_load(lane);
}
VEC void v_store_n(float *p, vf x, uint32_t n) {
    memcpy(p, &x, n * sizeof *p);
}
#if defined(__FMA__) || defined(__aarch64__)
typedef vec_f4 vr;
#define V_REGS 4u
VEC vr vr_fma(vr x, vr y, vr z) {
#if defined(__FMA__)
    return (vec_f4)_mm_fmadd_ps((__m128)x, (__m128)y, (__m128)z);
#else
    return (vec_f4)vfmaq_f32((float32x4_t)z, (float32x4_t)x, (float32x4_t)y);
#endif
}
VEC vf v_fma(vf x, vf y, vf z) {
    VEC_MAP(vf, vr_fma(x.q[i], y.q[i], z.q[i]));
}
VEC vr vr_zero(void) {
    return (vec_f4){0.0f, 0.0f, 0.0f, 0.0f};
}
VEC vr vr_set1(float x) {
    return (vec_f4){x, x, x, x};
}
VEC vr vr_load(const float *p) {
    vr r;
    memcpy(&r, p, sizeof r);
    return r;
}
VEC void vr_store(float *p, vr x) {
    memcpy(p, &x, sizeof x);
}
VEC vf v_of(const vr *reg) {
    VEC_MAP(vf, reg[i]);
}
#elif defined(__SSE2__)
/* Two products and sums in double, and the doubt of either: word lanes 0 and 2 of `half` (the 29
 * bits that float lacks are 1 followed by zeros), 1 and 3 of `small` (non-zero below 2^-126). */
VEC __m128d vec_fma2(__m128 x, __m128 y, __m128 z, __m128i *half, __m128i *small) {
    const __m128d product = _mm_mul_pd(_mm_cvtps_pd(x), _mm_cvtps_pd(y));
    const __m128d sum = _mm_add_pd(product, _mm_cvtps_pd(z));
    const __m128i word = _mm_castpd_si128(sum);
    const __m128i magnitude = _mm_and_si128(word, _mm_set1_epi32(0x7fffffff));
    const __m128i lost = _mm_and_si128(word, _mm_set1_epi32(0x1fffffff));
    const __m128i tiny = _mm_and_si128(_mm_cmpgt_epi32(magnitude, _mm_setzero_si128()),
                                       _mm_cmplt_epi32(magnitude, _mm_set1_epi32(897 << 20)));
    *half = _mm_or_si128(*half, _mm_cmpeq_epi32(lost, _mm_set1_epi32(0x10000000)));
    *small = _mm_or_si128(*small, tiny);
    return sum;
}
/* Every lane by the library: exact, slow, hardly ever needed. */
static __attribute__((noinline)) void vec_fma_slow(const vf *x, const vf *y, vf *z) {
    for (uint32_t i = 0; i < 16; i++) {
        z->q[i / 4][i % 4] = fmaf(x->q[i / 4][i % 4], y->q[i / 4][i % 4], z->q[i / 4][i % 4]);
    }
}
VEC vf v_fma(vf x, vf y, vf z) {
    __m128i half = _mm_setzero_si128(), small = _mm_setzero_si128();
    vf r;
    VEC_EACH(i) {
        const __m128 a = (__m128)x.q[i], b = (__m128)y.q[i], c = (__m128)z.q[i];
        const __m128d low = vec_fma2(a, b, c, &half, &small);
        const __m128d high =
            vec_fma2(_mm_movehl_ps(a, a), _mm_movehl_ps(b, b), _mm_movehl_ps(c, c), &half, &small);
        r.q[i] = (vec_f4)_mm_movelh_ps(_mm_cvtpd_ps(low), _mm_cvtpd_ps(high));
    }
    half = _mm_and_si128(half, _mm_setr_epi32(-1, 0, -1, 0));
    small = _mm_and_si128(small, _mm_setr_epi32(0, -1, 0, -1));
    if (_mm_movemask_epi8(_mm_or_si128(half, small)) != 0) {
        r = z;
        vec_fma_slow(&x, &y, &r);
    }
    return r;
}
#else
VEC vf v_fma(vf x, vf y, vf z) {
    for (uint32_t i = 0; i < 16; i++) {
        z.q[i / 4][i % 4] = fmaf(x.q[i / 4][i % 4], y.q[i / 4][i % 4], z.q[i / 4][i % 4]);
    }
    return z;
}
#endif
VEC vf v_add(vf x, vf y) {
    VEC_MAP(vf, x.q[i] + y.q[i]);
}
VEC vf v_sub(vf x, vf y) {
    VEC_MAP(vf, x.q[i] - y.q[i]);
}
VEC vf v_mul(vf x, vf y) {
    VEC_MAP(vf, x.q[i] * y.q[i]);
}
VEC vf v_abs(vf x) {
    VEC_MAP(vf, (vec_f4)((vec_i4)x.q[i] & 0x7fffffff));
}
VEC vf v_neg(vf x) {
    VEC_MAP(vf, -x.q[i]);
}
VEC vf v_floor(vf x) {
    float lane[16];
    v_store(lane, x);
    for (uint32_t i = 0; i < 16; i++) {
        lane[i] = floorf(lane[i]);
    }
    return v_load(lane);
}
VEC vf v_rint(vf x) {
    float lane[16];
    v_store(lane, x);
    for (uint32_t i = 0; i < 16; i++) {
        lane[i] = rintf(lane[i]);
    }
    return v_load(lane);
}
VEC vm v_gt(vf x, vf y) {
    VEC_MAP(vm, x.q[i] > y.q[i]);
}
VEC vm v_lt(vf x, vf y) {
    VEC_MAP(vm, x.q[i] < y.q[i]);
}
VEC vm v_nonzero(vf x) {
    VEC_MAP(vm, x.q[i] != 0.0f);
}
VEC vf v_select(vm m, vf yes, vf no) {
    VEC_MAP(vf, (vec_f4)((m.q[i] & (vec_i4)yes.q[i]) | (~m.q[i] & (vec_i4)no.q[i])));
}
/* x > y ? x : y, as for v_gt. */
VEC vf v_max(vf x, vf y) {
    return v_select(v_gt(x, y), x, y);
}
VEC vf v_keep(vm m, vf x) {
    VEC_MAP(vf, (vec_f4)(m.q[i] & (vec_i4)x.q[i]));
}
VEC vf v_keep_unless(vm m, vf x) {
    VEC_MAP(vf, (vec_f4)(~m.q[i] & (vec_i4)x.q[i]));
}
VEC vm vm_and(vm x, vm y) {
    VEC_MAP(vm, x.q[i] & y.q[i]);
}
VEC vi vi_set1(int32_t x) {
    VEC_MAP(vi, ((vec_i4){x, x, x, x}));
}
VEC vm vm_first(uint32_t n) {
    const vec_i4 lane = {0, 1, 2, 3};
    VEC_MAP(vm, lane + (int32_t)(4 * i) < (int32_t)n);
}
VEC uint32_t vm_bits(vm m) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < 16; i++) {
        bits |= (uint32_t)(m.q[i / 4][i % 4] & 1) << i;
    }
    return bits;
}
VEC vi vi_load(const int32_t *p) {
    vi r;
    memcpy(&r, p, sizeof r);
    return r;
}
VEC void vi_store(int32_t *p, vi x) {
    memcpy(p, &x, sizeof x);
}
VEC vi vi_load_u8(const uint8_t *p) {
    VEC_MAP(vi, ((vec_i4){p[4 * i], p[4 * i + 1], p[4 * i + 2], p[4 * i + 3]}));
}
VEC void vi_store_u8(uint8_t *p, vi x) {
    for (uint32_t i = 0; i < 16; i++) {
        p[i] = (uint8_t)x.q[i / 4][i % 4];
    }
}
VEC vi vi_add(vi x, vi y) {
    VEC_MAP(vi, x.q[i] + y.q[i]);
}
VEC vi vi_mul(vi x, vi y) {
    VEC_MAP(vi, x.q[i] * y.q[i]);
}
VEC vi vi_sub(vi x, vi y) {
    VEC_MAP(vi, x.q[i] - y.q[i]);
}
VEC vi vi_and(vi x, vi y) {
    VEC_MAP(vi, x.q[i] & y.q[i]);
}
VEC vi vi_or(vi x, vi y) {
    VEC_MAP(vi, x.q[i] | y.q[i]);
}
VEC vi vi_xor(vi x, vi y) {
    VEC_MAP(vi, x.q[i] ^ y.q[i]);
}
VEC vi vi_mul_wide(vi x, uint32_t y, vi *high) {
    const vec_u2 low = {UINT32_MAX, UINT32_MAX}, factor = {y, y};
    vi r;
    VEC_EACH(i) {
        const vec_u2 even = ((vec_u2)x.q[i] & low) * factor, odd = ((vec_u2)x.q[i] >> 32) * factor;
        high->q[i] = (vec_i4)((even >> 32) | (odd & ~low));
        r.q[i] = (vec_i4)((even & low) | (odd << 32));
    }
    return r;
}
VEC vi vi_half(vi x) {
    VEC_MAP(vi, (x.q[i] >> 1) & 0x7fffffff);
}
VEC vf vi_as_float(vi x) {
    VEC_MAP(vf, (vec_f4)x.q[i]);
}
VEC vi vi_select(vm m, vi yes, vi no) {
    VEC_MAP(vi, (m.q[i] & yes.q[i]) | (~m.q[i] & no.q[i]));
}
VEC vi vi_max(vi x, vi y) {
    VEC_MAP(vi, ((x.q[i] > y.q[i]) & x.q[i]) | (~(x.q[i] > y.q[i]) & y.q[i]));
}
VEC vm vi_eq(vi x, vi y) {
    VEC_MAP(vm, x.q[i] == y.q[i]);
}
VEC vm vi_below(vi x, vi y) {
    VEC_MAP(vm, (x.q[i] >= 0) & (x.q[i] < y.q[i]));
}
VEC vm vi_less(vi x, vi y) {
    VEC_MAP(vm, (vec_u4)x.q[i] < (vec_u4)y.q[i]);
}
VEC bool vi_any_ge(vi x, int32_t limit) {
    vec_i4 any = (x.q[0] >= limit) | (x.q[1] >= limit) | (x.q[2] >= limit) | (x.q[3] >= limit);
    return (any[0] | any[1] | any[2] | any[3]) != 0;
}
VEC vi vf_bits(vf x) {
    VEC_MAP(vi, (vec_i4)x.q[i]);
}
VEC vf vi_float(vi x) {
    VEC_MAP(vf, __builtin_convertvector(x.q[i], vec_f4));
}
VEC vi vf_int(vf x) {
    VEC_MAP(vi, __builtin_convertvector(x.q[i], vec_i4));
}
VEC vf v_gather(const float *base, vi index) {
    float lane[16];
    for (uint32_t i = 0; i < 16; i++) {
        lane[i] = base[index.q[i / 4][i % 4]];
    }
    return v_load(lane);
}

/* Rows become columns, 4 x 4 at a time. */
VEC void v_transpose(vf r[16]) {
    vf t[16];
    for (uint32_t i = 0; i < 4; i++) {
        for (uint32_t j = 0; j < 4; j++) {
            const vec_f4 a = r[4 * i].q[j], b = r[4 * i + 1].q[j];
            const vec_f4 c = r[4 * i + 2].q[j], d = r[4 * i + 3].q[j];
            VEC_EACH(k) {
                t[4 * j + k].q[i] = (vec_f4){a[k], b[k], c[k], d[k]};
            }
        }
    }
    memcpy(r, t, sizeof t);
}

#endif
