/* vec.h on AVX2 with FMA: two registers. */
#ifndef CPU_ISA_VEC_AVX2_H
#define CPU_ISA_VEC_AVX2_H

#include <immintrin.h>

#define TILE_P 6
#define TILE_V 1

typedef struct vf {
    __m256 a, b;
} vf;
typedef struct vi {
    __m256i a, b;
} vi;
typedef struct vm {
    __m256 a, b;
} vm;

typedef __m256 vr;
#define V_REGS 2u

#define VEC_BOTH(type, expr_a, expr_b)                                                             \
    (type) {                                                                                       \
        (expr_a), (expr_b)                                                                         \
    }
#define VEC_UNARY(name, fn)                                                                        \
    VEC vf name(vf x) {                                                                            \
        return VEC_BOTH(vf, fn(x.a), fn(x.b));                                                     \
    }
#define VEC_BINARY(name, fn)                                                                       \
    VEC vf name(vf x, vf y) {                                                                      \
        return VEC_BOTH(vf, fn(x.a, y.a), fn(x.b, y.b));                                           \
    }
#define VEC_INTEGER(name, fn)                                                                      \
    VEC vi name(vi x, vi y) {                                                                      \
        return VEC_BOTH(vi, fn(x.a, y.a), fn(x.b, y.b));                                           \
    }

VEC vf v_zero(void) {
    return VEC_BOTH(vf, _mm256_setzero_ps(), _mm256_setzero_ps());
}
VEC vf v_set1(float x) {
    return VEC_BOTH(vf, _mm256_set1_ps(x), _mm256_set1_ps(x));
}
VEC vf v_load(const float *p) {
    return VEC_BOTH(vf, _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8));
}
VEC void v_store(float *p, vf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
#define V_STREAM_ALIGN 32u
VEC void v_stream(float *p, vf x) {
    _mm256_stream_ps(p, x.a);
    _mm256_stream_ps(p + 8, x.b);
}
VEC void v_stream_end(void) {
    _mm_sfence();
}
VEC vf v_load_n(const float *p, uint32_t n) {
    float lane[16] = {0};
    memcpy(lane, p, n * sizeof *p);
    return v_load(lane);
}
VEC void v_store_n(float *p, vf x, uint32_t n) {
    float lane[16];
    v_store(lane, x);
    memcpy(p, lane, n * sizeof *p);
}
VEC vf v_fma(vf x, vf y, vf z) {
    return VEC_BOTH(vf, _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b));
}
VEC vr vr_zero(void) {
    return _mm256_setzero_ps();
}
VEC vr vr_set1(float x) {
    return _mm256_set1_ps(x);
}
VEC vr vr_load(const float *p) {
    return _mm256_loadu_ps(p);
}
VEC void vr_store(float *p, vr x) {
    _mm256_storeu_ps(p, x);
}
VEC vr vr_fma(vr x, vr y, vr z) {
    return _mm256_fmadd_ps(x, y, z);
}
VEC vf v_of(const vr *reg) {
    return VEC_BOTH(vf, reg[0], reg[1]);
}
VEC_BINARY(v_add, _mm256_add_ps)
VEC_BINARY(v_sub, _mm256_sub_ps)
VEC_BINARY(v_mul, _mm256_mul_ps)
VEC_BINARY(v_max, _mm256_max_ps) /* x > y ? x : y, as for v_gt */
VEC_UNARY(v_floor, _mm256_floor_ps)
VEC vf v_abs(vf x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return VEC_BOTH(vf, _mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b));
}
VEC vf v_neg(vf x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return VEC_BOTH(vf, _mm256_xor_ps(sign, x.a), _mm256_xor_ps(sign, x.b));
}
VEC vf v_rint(vf x) {
    return VEC_BOTH(vf, _mm256_round_ps(x.a, 8), _mm256_round_ps(x.b, 8));
}
VEC vm v_gt(vf x, vf y) {
    return VEC_BOTH(vm, _mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ));
}
VEC vm v_lt(vf x, vf y) {
    return VEC_BOTH(vm, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ));
}
VEC vm v_nonzero(vf x) {
    const __m256 zero = _mm256_setzero_ps();
    return VEC_BOTH(vm, _mm256_cmp_ps(x.a, zero, _CMP_NEQ_UQ),
                    _mm256_cmp_ps(x.b, zero, _CMP_NEQ_UQ));
}
VEC vf v_select(vm m, vf yes, vf no) {
    return VEC_BOTH(vf, _mm256_blendv_ps(no.a, yes.a, m.a), _mm256_blendv_ps(no.b, yes.b, m.b));
}
VEC vf v_keep(vm m, vf x) {
    return VEC_BOTH(vf, _mm256_and_ps(m.a, x.a), _mm256_and_ps(m.b, x.b));
}
VEC vf v_keep_unless(vm m, vf x) {
    return VEC_BOTH(vf, _mm256_andnot_ps(m.a, x.a), _mm256_andnot_ps(m.b, x.b));
}
VEC vm vm_and(vm x, vm y) {
    return VEC_BOTH(vm, _mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b));
}
VEC vm vm_first(uint32_t n) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    const __m256i low = _mm256_set1_epi32((int32_t)n), high = _mm256_set1_epi32((int32_t)n - 8);
    return VEC_BOTH(vm, _mm256_castsi256_ps(_mm256_cmpgt_epi32(low, lane)),
                    _mm256_castsi256_ps(_mm256_cmpgt_epi32(high, lane)));
}
VEC uint32_t vm_bits(vm m) {
    return (uint32_t)_mm256_movemask_ps(m.a) | (uint32_t)_mm256_movemask_ps(m.b) << 8;
}
VEC vi vi_set1(int32_t x) {
    return VEC_BOTH(vi, _mm256_set1_epi32(x), _mm256_set1_epi32(x));
}
VEC vi vi_load(const int32_t *p) {
    return VEC_BOTH(vi, _mm256_loadu_si256((const __m256i *)(const void *)p),
                    _mm256_loadu_si256((const __m256i *)(const void *)(p + 8)));
}
VEC void vi_store(int32_t *p, vi x) {
    _mm256_storeu_si256((__m256i *)(void *)p, x.a);
    _mm256_storeu_si256((__m256i *)(void *)(p + 8), x.b);
}
VEC vi vi_load_u8(const uint8_t *p) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)p);
    return VEC_BOTH(vi, _mm256_cvtepu8_epi32(bytes),
                    _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)));
}
VEC void vi_store_u8(uint8_t *p, vi x) {
    /* Packing goes half by half: lanes 0-3 8-11 4-7 12-15. */
    const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8);
    _mm_storeu_si128((__m128i *)(void *)p, _mm_packus_epi16(_mm256_castsi256_si128(words),
                                                            _mm256_extracti128_si256(words, 1)));
}
VEC_INTEGER(vi_add, _mm256_add_epi32)
VEC_INTEGER(vi_mul, _mm256_mullo_epi32)
VEC_INTEGER(vi_max, _mm256_max_epi32)
VEC_INTEGER(vi_sub, _mm256_sub_epi32)
VEC_INTEGER(vi_and, _mm256_and_si256)
VEC_INTEGER(vi_or, _mm256_or_si256)
VEC_INTEGER(vi_xor, _mm256_xor_si256)
VEC __m256i vec_mul_wide(__m256i x, __m256i y, __m256i *high) {
    const __m256i even = _mm256_mul_epu32(x, y);
    const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), y);
    *high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
    return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
}
VEC vi vi_mul_wide(vi x, uint32_t y, vi *high) {
    const __m256i m = _mm256_set1_epi32((int32_t)y);
    return VEC_BOTH(vi, vec_mul_wide(x.a, m, &high->a), vec_mul_wide(x.b, m, &high->b));
}
VEC vi vi_half(vi x) {
    return VEC_BOTH(vi, _mm256_srli_epi32(x.a, 1), _mm256_srli_epi32(x.b, 1));
}
VEC vf vi_as_float(vi x) {
    return VEC_BOTH(vf, _mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b));
}
VEC vi vi_select(vm m, vi yes, vi no) {
    return VEC_BOTH(vi, _mm256_blendv_epi8(no.a, yes.a, _mm256_castps_si256(m.a)),
                    _mm256_blendv_epi8(no.b, yes.b, _mm256_castps_si256(m.b)));
}
VEC vm vi_eq(vi x, vi y) {
    return VEC_BOTH(vm, _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.a, y.a)),
                    _mm256_castsi256_ps(_mm256_cmpeq_epi32(x.b, y.b)));
}
VEC vm vi_below(vi x, vi y) {
    const __m256i minus = _mm256_set1_epi32(-1);
    return VEC_BOTH(vm,
                    _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(x.a, minus),
                                                         _mm256_cmpgt_epi32(y.a, x.a))),
                    _mm256_castsi256_ps(_mm256_and_si256(_mm256_cmpgt_epi32(x.b, minus),
                                                         _mm256_cmpgt_epi32(y.b, x.b))));
}
VEC vm vi_less(vi x, vi y) {
    const __m256i top = _mm256_set1_epi32(INT32_MIN);
    return VEC_BOTH(vm,
                    _mm256_castsi256_ps(
                        _mm256_cmpgt_epi32(_mm256_xor_si256(y.a, top), _mm256_xor_si256(x.a, top))),
                    _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_xor_si256(y.b, top),
                                                           _mm256_xor_si256(x.b, top))));
}
VEC bool vi_any_ge(vi x, int32_t limit) {
    const __m256i below = _mm256_set1_epi32(limit - 1);
    return _mm256_movemask_epi8(_mm256_or_si256(_mm256_cmpgt_epi32(x.a, below),
                                                _mm256_cmpgt_epi32(x.b, below))) != 0;
}
VEC vi vf_bits(vf x) {
    return VEC_BOTH(vi, _mm256_castps_si256(x.a), _mm256_castps_si256(x.b));
}
VEC vf vi_float(vi x) {
    return VEC_BOTH(vf, _mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b));
}
VEC vi vf_int(vf x) {
    return VEC_BOTH(vi, _mm256_cvttps_epi32(x.a), _mm256_cvttps_epi32(x.b));
}
VEC vf v_gather(const float *base, vi index) {
    return VEC_BOTH(vf, _mm256_i32gather_ps(base, index.a, 4),
                    _mm256_i32gather_ps(base, index.b, 4));
}

VEC void v_turn_eight(__m256 r[8]) {
    __m256 t[8], s[8];
    UNROLL
    for (uint32_t i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i += 4) {
        s[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
        s[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
        s[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
        s[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
    }
}

/* Rows become columns: each quarter of 8 x 8 is turned, two of them change places. */
VEC void v_transpose(vf r[16]) {
    __m256 quarter[4][8];
    UNROLL
    for (uint32_t q = 0; q < 4; q++) {
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            const vf row = r[q / 2 * 8 + i];
            quarter[q][i] = q % 2 == 0 ? row.a : row.b;
        }
        v_turn_eight(quarter[q]);
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        r[i] = VEC_BOTH(vf, quarter[0][i], quarter[2][i]);
        r[i + 8] = VEC_BOTH(vf, quarter[1][i], quarter[3][i]);
    }
}

#endif
