/* Sixteen float lanes: the vector type that every fast kernel is written over.
 *
 * One source is compiled per instruction set with -DCPU_ISA=<name> -DCPU_ISA_<NAME>; this header
 * picks the implementation: one AVX-512 register, two AVX2 registers, or plain C. All give the same
 * bits: each operation is one correctly rounded IEEE operation per lane.
 *
 * vf 16 floats; vi 16 int32; vm 16 truth values. Loads and stores need no alignment.
 */
#ifndef CPU_ISA_VEC_H
#define CPU_ISA_VEC_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define LANES 16u

#define VEC static inline __attribute__((always_inline))

/* Placed before a loop whose bounds are constants after inlining. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 32")
#endif

/* Names of one instruction set: ISA(conv) is avx2_conv and so on. */
#define ISA_JOIN2(a, b) a##_##b
#define ISA_JOIN(a, b) ISA_JOIN2(a, b)
#define ISA(name) ISA_JOIN(CPU_ISA, name)

#if defined(CPU_ISA_AVX512)
#include "vec_avx512.h"
#elif defined(CPU_ISA_AVX2)
#include "vec_avx2.h"
#else
#include "vec_portable.h"
#endif

/* One register of a vector, where a kernel keeps more sums than all registers of its vectors would
 * leave room for: REG_LANES lanes, V_REGS a vector; v_of makes a vector of them. */
#if !defined(V_REGS)
typedef vf vr;
#define V_REGS 1u
VEC vr vr_zero(void) {
    return v_zero();
}
VEC vr vr_set1(float x) {
    return v_set1(x);
}
VEC vr vr_load(const float *p) {
    return v_load(p);
}
VEC void vr_store(float *p, vr x) {
    v_store(p, x);
}
VEC vr vr_fma(vr x, vr y, vr z) {
    return v_fma(x, y, z);
}
VEC vf v_of(const vr *reg) {
    return *reg;
}
#endif
#define REG_LANES (LANES / V_REGS)

#if !defined(CPU_ISA_AVX512)
/* The smaller magnitude of a, which is one, and b; a if b is none. */
VEC vf v_least(vf a, vf b) {
    const vf c = v_abs(b);
    return v_select(v_lt(c, a), c, a);
}
/* x where x > 0, slope * x elsewhere. */
VEC vf v_act(vf x, vf slope) {
    return v_select(v_gt(x, v_zero()), x, v_mul(slope, x));
}

/* The place of a window that was chosen, below 256: vp_set where m is true. */
typedef vi vp;
VEC vp vp_zero(void) {
    return vi_set1(0);
}
VEC vp vp_set1(uint32_t place) {
    return vi_set1((int32_t)place);
}
VEC vp vp_select(vm m, vp yes, vp no) {
    return vi_select(m, yes, no);
}
VEC vp vp_set(vp old, vm m, uint32_t place) {
    return vi_select(m, vi_set1((int32_t)place), old);
}
VEC void vp_store(uint8_t *p, vp x) {
    vi_store_u8(p, x);
}
#endif

/* x, or +0 where |x| < limit (contract C2). NaN stays. */
VEC vf v_snap(vf x, vf limit) {
    return v_keep_unless(v_lt(v_abs(x), limit), x);
}

/* Running maximum of the magnitudes' bits: v_overflowed tells whether a non-finite value was among
 * them, by an integer test (contract C6). */
VEC vi v_seen(vi seen, vf x) {
    return vi_max(seen, vf_bits(v_abs(x)));
}
VEC bool v_overflowed(vi seen) {
    return vi_any_ge(seen, 0x7f800000);
}
/* The same as v_seen in a vector that begins as +0, for its cheapest operation: in the end
 * v_seen(seen, taint) has it. */
VEC vf v_taint(vf taint, vf x) {
#if defined(CPU_ISA_AVX512) || defined(CPU_ISA_AVX2)
    return v_fma(x, v_zero(), taint);
#else
    return vi_as_float(v_seen(vf_bits(taint), x));
#endif
}

/* stn_recip, stn_div and stn_sqrt of num.h, operation by operation. */
VEC vf v_recip(vf b) {
    const vi mag = vi_and(vf_bits(b), vi_set1(0x7fffffff));
    const vf a = vi_as_float(mag);
    vf y = vi_as_float(vi_sub(vi_set1(0x7EF311C3), mag));
    for (uint32_t i = 0; i < 4; i++) {
        y = v_fma(y, v_fma(v_neg(a), y, v_set1(1.0f)), y);
    }
    const vm low = vi_eq(vi_and(mag, vi_set1(0x7fffff)), vi_set1(0x7fffff));
    const vi fixed = vi_add(vf_bits(y), vi_select(low, vi_set1(1), vi_set1(0)));
    return vi_as_float(vi_or(fixed, vi_and(vf_bits(b), vi_set1(INT32_MIN))));
}
VEC vf v_divide(vf a, vf b) {
    const vf y = v_recip(b), q = v_mul(a, y);
    return v_fma(v_fma(v_neg(b), q, a), y, q);
}
VEC vf v_root(vf x) {
    const vf half = v_set1(0.5f);
    vf y = vi_as_float(vi_sub(vi_set1(0x5F375A86), vi_half(vf_bits(x))));
    for (uint32_t i = 0; i < 4; i++) {
        const vf t = v_mul(x, y);
        y = v_fma(v_mul(half, y), v_fma(v_neg(t), y, v_set1(1.0f)), y);
    }
    const vf s = v_mul(x, y);
    return v_fma(v_fma(v_neg(s), s, x), v_mul(half, y), s);
}

/* stn_exp of num.h. */
VEC vf v_exp(vf x) {
    const vf n = v_rint(v_mul(x, v_set1(0x1.715476p+0f)));
    const vf r = v_fma(n, v_set1(-0x1.7f7d1cp-20f), v_fma(n, v_set1(-0x1.62e4p-1f), x));
    static const float factor[] = {0x1.6d4cbap-10f, 0x1.11130ep-7f, 0x1.5554e8p-5f, 0x1.555554p-3f,
                                   0x1p-1f,         0x1p+0f,        0x1p+0f};
    vf p = v_set1(0x1.9dfba6p-13f);
    for (uint32_t i = 0; i < 7; i++) {
        p = v_fma(p, r, v_set1(factor[i]));
    }
    const vi power = vf_int(v_keep(v_gt(n, v_set1(-51.0f)), n));
    const vf y = vi_as_float(vi_add(vf_bits(p), vi_mul(power, vi_set1(1 << 23))));
    return v_keep_unless(v_lt(x, v_set1(-34.0f)), y);
}

/* The first n lanes where n may be less than 16, at full speed where it is not. */
VEC vf v_load_some(const float *p, uint32_t n) {
    return n == LANES ? v_load(p) : v_load_n(p, n);
}
VEC void v_store_some(float *p, vf x, uint32_t n) {
    if (n == LANES) {
        v_store(p, x);
    } else {
        v_store_n(p, x, n);
    }
}

#if !defined(CPU_ISA_AVX512)
#define V_PAIRS 0

/* Stores the 16 pairs (g, at) of the lanes one after another. */
VEC void v_store_pairs(void *to, vf g, vi at) {
    float value[LANES];
    int32_t offset[LANES];
    v_store(value, g);
    vi_store(offset, at);
    for (uint32_t j = 0; j < LANES; j++) {
        memcpy((uint8_t *)to + 8 * j, &value[j], 4);
        memcpy((uint8_t *)to + 8 * j + 4, &offset[j], 4);
    }
}

/* Columns of `rows` <= 16 rows of 16 bytes: byte i of to[j * step] is byte j of row i, for i <
 * rows. */
VEC void vi_transpose_u8(uint8_t *to, uint64_t step, const uint8_t *from, uint32_t rows) {
    for (uint32_t j = 0; j < LANES; j++) {
        for (uint32_t i = 0; i < rows; i++) {
            to[j * step + i] = from[i * LANES + j];
        }
    }
}
#endif

/* r[0] = PLANE16 fold of the sixteen vectors, lane by lane. */
VEC vf v_fold_rows(vf r[LANES]) {
    for (uint32_t s = 8; s > 0; s /= 2) {
        for (uint32_t j = 0; j < s; j++) {
            r[j] = v_add(r[j], r[j + s]);
        }
    }
    return r[0];
}

/* Balanced sum of the 16 lanes as PLANE16 folds them: s = 8, 4, 2, 1 (contract C4). */
VEC float v_fold(vf x) {
    float lane[LANES];
    v_store(lane, x);
    for (uint32_t s = 8; s > 0; s /= 2) {
        for (uint32_t j = 0; j < s; j++) {
            lane[j] = lane[j] + lane[j + s];
        }
    }
    return lane[0];
}

#endif
