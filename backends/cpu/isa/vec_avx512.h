/* vec.h on AVX-512 (F, BW, DQ, VL): one register. */
#ifndef CPU_ISA_VEC_AVX512_H
#define CPU_ISA_VEC_AVX512_H

#include <immintrin.h>

/* Register tile of isa/tile.h: pixels x vectors. */
#define TILE_P 8
#define TILE_V 2

typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

VEC vf v_zero(void) {
    return _mm512_setzero_ps();
}
VEC vf v_set1(float x) {
    return _mm512_set1_ps(x);
}
VEC vf v_load(const float *p) {
    return _mm512_loadu_ps(p);
}
VEC void v_store(float *p, vf x) {
    _mm512_storeu_ps(p, x);
}
/* Past the caches, to an aligned place; v_stream_end before another thread may read it. */
#define V_STREAM_ALIGN 64u
VEC void v_stream(float *p, vf x) {
    _mm512_stream_ps(p, x);
}
VEC void v_stream_end(void) {
    _mm_sfence();
}
/* The first n <= 16 lanes; the others are +0 or not written. */
VEC vf v_load_n(const float *p, uint32_t n) {
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1u), p);
}
VEC void v_store_n(float *p, vf x, uint32_t n) {
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1u), x);
}
VEC vf v_fma(vf a, vf b, vf c) {
    return _mm512_fmadd_ps(a, b, c);
}
/* x[0] * b + c, the broadcast being a memory operand: it needs no register. volatile: chains stay
 * interleaved as they are written. */
VEC vf v_fma_at(const float *x, vf b, vf c) {
#if defined(__SANITIZE_ADDRESS__) /* which does not see what assembly reads */
    return v_fma(v_set1(*x), b, c);
#else
    __asm__ volatile("vfmadd231ps %2%{1to16%}, %1, %0" : "+v"(c) : "v"(b), "m"(*x));
    return c;
#endif
}
VEC vf v_add(vf a, vf b) {
    return _mm512_add_ps(a, b);
}
VEC vf v_sub(vf a, vf b) {
    return _mm512_sub_ps(a, b);
}
VEC vf v_mul(vf a, vf b) {
    return _mm512_mul_ps(a, b);
}
/* a > b ? a : b, as for v_gt. */
VEC vf v_max(vf a, vf b) {
    return _mm512_max_ps(a, b);
}
/* The smaller magnitude; a number if one is. */
VEC vf v_least(vf a, vf b) {
    return _mm512_range_ps(a, b, 2 | 2 << 2);
}
/* x where x > 0, slope * x elsewhere. */
VEC vf v_act(vf x, vf slope) {
    return _mm512_mask_mul_ps(x, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NGT_UQ), slope, x);
}
VEC vf v_abs(vf a) {
    return _mm512_abs_ps(a);
}
VEC vf v_neg(vf a) {
    return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f));
}
VEC vf v_floor(vf a) {
    return _mm512_roundscale_ps(a, 9);
}
VEC vf v_rint(vf a) {
    return _mm512_roundscale_ps(a, 8);
}
VEC vm v_gt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
VEC vm v_lt(vf a, vf b) {
    return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ);
}
VEC vm v_nonzero(vf a) {
    return _mm512_cmp_ps_mask(a, _mm512_setzero_ps(), _CMP_NEQ_UQ);
}
VEC vf v_select(vm m, vf yes, vf no) {
    return _mm512_mask_mov_ps(no, m, yes);
}
VEC vf v_keep(vm m, vf x) {
    return _mm512_maskz_mov_ps(m, x);
}
VEC vf v_keep_unless(vm m, vf x) {
    return _mm512_maskz_mov_ps((__mmask16)~m, x);
}
/* v_snap of values from +0 on, by operations on integers: they leave the units of multiply-adds
 * alone. */
VEC vf v_snap_positive(vf x, vf limit) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i below = _mm512_sub_epi32(bits, _mm512_castps_si512(limit));
    return _mm512_castsi512_ps(_mm512_andnot_si512(_mm512_srai_epi32(below, 31), bits));
}
VEC vm vm_and(vm a, vm b) {
    return (vm)(a & b);
}
VEC vm vm_first(uint32_t n) {
    return (vm)((1u << n) - 1u);
}
/* Bit i is lane i. */
VEC uint32_t vm_bits(vm m) {
    return m;
}
VEC vi vi_set1(int32_t x) {
    return _mm512_set1_epi32(x);
}
VEC vi vi_load(const int32_t *p) {
    return _mm512_loadu_si512(p);
}
VEC void vi_store(int32_t *p, vi x) {
    _mm512_storeu_si512(p, x);
}
VEC vi vi_load_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)p));
}
VEC void vi_store_u8(uint8_t *p, vi x) {
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(x));
}
/* The place of a window that was chosen, below 256: vp_set where m is true. */
typedef __m128i vp;
VEC vp vp_zero(void) {
    return _mm_setzero_si128();
}
VEC vp vp_set1(uint32_t place) {
    return _mm_set1_epi8((char)place);
}
VEC vp vp_select(vm m, vp yes, vp no) {
    return _mm_mask_mov_epi8(no, m, yes);
}
VEC vp vp_set(vp old, vm m, uint32_t place) {
    return _mm_mask_mov_epi8(old, m, _mm_set1_epi8((char)place));
}
VEC void vp_store(uint8_t *p, vp x) {
    _mm_storeu_si128((__m128i *)(void *)p, x);
}
VEC vi vi_add(vi a, vi b) {
    return _mm512_add_epi32(a, b);
}
VEC vi vi_mul(vi a, vi b) {
    return _mm512_mullo_epi32(a, b);
}
VEC vi vi_max(vi a, vi b) {
    return _mm512_max_epi32(a, b);
}
VEC vi vi_sub(vi a, vi b) {
    return _mm512_sub_epi32(a, b);
}
VEC vi vi_and(vi a, vi b) {
    return _mm512_and_si512(a, b);
}
VEC vi vi_or(vi a, vi b) {
    return _mm512_or_si512(a, b);
}
VEC vi vi_xor(vi a, vi b) {
    return _mm512_xor_si512(a, b);
}
/* The low halves of the unsigned products; *high: the high ones. */
VEC vi vi_mul_wide(vi a, uint32_t b, vi *high) {
    const __m512i m = _mm512_set1_epi32((int32_t)b);
    const __m512i even = _mm512_mul_epu32(a, m);
    const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64(a, 32), m);
    *high = _mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
    return _mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
}
/* Logical shift right by one. */
VEC vi vi_half(vi a) {
    return _mm512_srli_epi32(a, 1);
}
VEC vf vi_as_float(vi a) {
    return _mm512_castsi512_ps(a);
}
VEC vi vi_select(vm m, vi yes, vi no) {
    return _mm512_mask_mov_epi32(no, m, yes);
}
VEC vm vi_eq(vi a, vi b) {
    return _mm512_cmpeq_epi32_mask(a, b);
}
/* 0 <= a < b, b > 0. */
VEC vm vi_below(vi a, vi b) {
    return _mm512_cmplt_epu32_mask(a, b);
}
/* Of unsigned values. */
VEC vm vi_less(vi a, vi b) {
    return _mm512_cmplt_epu32_mask(a, b);
}
VEC bool vi_any_ge(vi a, int32_t limit) {
    return _mm512_cmpge_epi32_mask(a, _mm512_set1_epi32(limit)) != 0;
}
VEC vi vf_bits(vf a) {
    return _mm512_castps_si512(a);
}
VEC vf vi_float(vi a) {
    return _mm512_cvtepi32_ps(a);
}
/* Of integral values inside the range. */
VEC vi vf_int(vf a) {
    return _mm512_cvttps_epi32(a);
}
VEC vf v_gather(const float *base, vi index) {
    return _mm512_i32gather_ps(index, base, 4);
}

/* Pairs (g, at) of 8 bytes: whole vectors of eight can be turned and compressed. */
#define V_PAIRS 1

/* Stores the 16 pairs of the lanes one after another. */
VEC void v_store_pairs(void *to, vf g, vi at) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const __m512i bits = _mm512_castps_si512(g);
    _mm512_storeu_si512(to, _mm512_permutex2var_epi32(bits, low, at));
    _mm512_storeu_si512((uint64_t *)to + 8, _mm512_permutex2var_epi32(bits, high, at));
}

/* Stores the pairs of the lanes in m one after another; returns how many. */
VEC uint32_t v_push_pairs(void *to, vm m, vf g, vi at) {
    const __m512i low = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    const __m512i bits = _mm512_castps_si512(_mm512_maskz_compress_ps(m, g));
    const __m512i places = _mm512_maskz_compress_epi32(m, at);
    const uint32_t count = (uint32_t)__builtin_popcount(m);
    const uint64_t real = (UINT64_C(1) << (2 * count)) - 1;
    _mm512_mask_storeu_epi32(to, (__mmask16)real, _mm512_permutex2var_epi32(bits, low, places));
    if (count > 8) {
        _mm512_mask_storeu_epi32((uint64_t *)to + 8, (__mmask16)(real >> 16),
                                 _mm512_permutex2var_epi32(bits, high, places));
    }
    return count;
}

/* Rows become columns. */
VEC void v_turn_eight(__m512i r[8]) {
    __m512i t[8];
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        t[2 * i] = _mm512_unpacklo_epi64(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi64(r[2 * i], r[2 * i + 1]);
    }
    UNROLL
    for (uint32_t i = 0; i < 2; i++) {
        r[i] = _mm512_shuffle_i64x2(t[i], t[i + 2], 0x88);
        r[i + 2] = _mm512_shuffle_i64x2(t[i], t[i + 2], 0xdd);
        r[i + 4] = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0x88);
        r[i + 6] = _mm512_shuffle_i64x2(t[i + 4], t[i + 6], 0xdd);
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i64x2(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i64x2(r[i], r[i + 4], 0xdd);
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        r[i] = t[i];
    }
}

/* Pairs from[8][16] become to[16][8], rows `pitch` pairs apart. */
VEC void v_turn_pairs(const void *from, void *to, uint32_t pitch) {
    UNROLL
    for (uint32_t half = 0; half < 16; half += 8) {
        __m512i r[8];
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            r[i] = _mm512_loadu_si512((const uint64_t *)from + i * 16 + half);
        }
        v_turn_eight(r);
        UNROLL
        for (uint32_t i = 0; i < 8; i++) {
            _mm512_storeu_si512((uint64_t *)to + (half + i) * pitch, r[i]);
        }
    }
}

/* Stores those of eight pairs with low <= at < low + band one after another, `add` added to their
 * at; returns how many. With `room` all eight places may be written. */
VEC uint32_t v_push_band(void *to, bool room, const void *from, int32_t low, int32_t band,
                         int32_t add) {
    const __m512i pair = _mm512_loadu_si512(from);
    const __m512i above = _mm512_sub_epi64(pair, _mm512_set1_epi64((int64_t)low << 32));
    const __mmask8 m = _mm512_cmplt_epu64_mask(above, _mm512_set1_epi64((int64_t)band << 32));
    const __m512i moved =
        _mm512_add_epi64(pair, _mm512_set1_epi64((int64_t)add * (INT64_C(1) << 32)));
    const __m512i kept = _mm512_maskz_compress_epi64(m, moved);
    const uint32_t count = (uint32_t)__builtin_popcount(m);
    if (room) {
        _mm512_storeu_si512(to, kept);
    } else {
        _mm512_mask_storeu_epi64(to, (__mmask8)((1u << count) - 1u), kept);
    }
    return count;
}

/* Rows become columns. */
VEC void v_transpose(vf r[16]) {
    vf t[16];
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        const __m512d a = _mm512_castps_pd(t[4 * i]), b = _mm512_castps_pd(t[4 * i + 1]);
        const __m512d c = _mm512_castps_pd(t[4 * i + 2]), d = _mm512_castps_pd(t[4 * i + 3]);
        r[4 * i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
        r[4 * i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
        r[4 * i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
        r[4 * i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
    }
    UNROLL
    for (uint32_t i = 0; i < 8; i++) {
        r[i] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
    }
}

/* Columns of `rows` <= 16 rows of 16 bytes: byte i of to[j * step] is byte j of row i, for i <
 * rows. */
VEC void vi_transpose_u8(uint8_t *to, uint64_t step, const uint8_t *from, uint32_t rows) {
    /* Bytes 0 4 8 12, 1 5 9 13 and so on: of a row into its four words, and of four rows' words. */
    const __m512i four =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    const __m512i words = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i r[4], t[4];
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        const uint32_t real = rows > 4 * i ? rows - 4 * i : 0;
        const __mmask64 m = real >= 4 ? ~UINT64_C(0) : (UINT64_C(1) << (16 * real)) - 1;
        r[i] = _mm512_maskz_loadu_epi8(m, from + 64 * i);
        r[i] = _mm512_shuffle_epi8(r[i], four);
        r[i] = _mm512_shuffle_epi8(_mm512_permutexvar_epi32(words, r[i]), four);
    }
    t[0] = _mm512_unpacklo_epi32(r[0], r[1]);
    t[1] = _mm512_unpackhi_epi32(r[0], r[1]);
    t[2] = _mm512_unpacklo_epi32(r[2], r[3]);
    t[3] = _mm512_unpackhi_epi32(r[2], r[3]);
    r[0] = _mm512_unpacklo_epi64(t[0], t[2]);
    r[1] = _mm512_unpackhi_epi64(t[0], t[2]);
    r[2] = _mm512_unpacklo_epi64(t[1], t[3]);
    r[3] = _mm512_unpackhi_epi64(t[1], t[3]);
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        __m128i *at = (__m128i *)(void *)(to + 4 * i * step);
        _mm_storeu_si128(at, _mm512_castsi512_si128(r[i]));
        at = (__m128i *)(void *)(to + (4 * i + 1) * step);
        _mm_storeu_si128(at, _mm512_extracti32x4_epi32(r[i], 1));
        at = (__m128i *)(void *)(to + (4 * i + 2) * step);
        _mm_storeu_si128(at, _mm512_extracti32x4_epi32(r[i], 2));
        at = (__m128i *)(void *)(to + (4 * i + 3) * step);
        _mm_storeu_si128(at, _mm512_extracti32x4_epi32(r[i], 3));
    }
}

#endif
