/* vec.h in plain C, four lanes at a time (GCC vector extensions).
 *
 * Where the target has no fused multiply-add, it is computed in double: the product of two floats
 * is exact there, the sum is rounded once, and rounding that to float is right unless the double
 * lies exactly half-way between two floats or below the normal range; those rare lanes go through
 * fmaf.
 */
#ifndef CPU_ISA_VEC_PORTABLE_H
#define CPU_ISA_VEC_PORTABLE_H

#include <math.h>

#define TILE_P 4
#define TILE_V 1

typedef float vec_f4 __attribute__((vector_size(16)));
typedef int32_t vec_i4 __attribute__((vector_size(16)));
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
VEC vf v_load_n(const float *p, uint32_t n) {
    float lane[16] = {0};
    memcpy(lane, p, n * sizeof *p);
    return v_load(lane);
}
VEC void v_store_n(float *p, vf x, uint32_t n) {
    memcpy(p, &x, n * sizeof *p);
}
#if defined(__FP_FAST_FMAF)
VEC vf v_fma(vf x, vf y, vf z) {
    vf r;
    for (uint32_t i = 0; i < 16; i++) {
        r.q[i / 4][i % 4] = fmaf(x.q[i / 4][i % 4], y.q[i / 4][i % 4], z.q[i / 4][i % 4]);
    }
    return r;
}
#else
typedef double vec_d2 __attribute__((vector_size(16)));
typedef float vec_f2 __attribute__((vector_size(8)));
VEC vec_d2 vec_widen(const float *p) {
    return (vec_d2){(double)p[0], (double)p[1]};
}
VEC vf v_fma(vf x, vf y, vf z) {
    float a[16], b[16], c[16], r[16];
    v_store(a, x);
    v_store(b, y);
    v_store(c, z);
    vec_i4 doubt = {0, 0, 0, 0};
    UNROLL
    for (uint32_t i = 0; i < 16; i += 2) {
        vec_d2 s = vec_widen(a + i) * vec_widen(b + i) + vec_widen(c + i);
        /* Lanes 0 and 2: low words of the doubles, lanes 1 and 3: high words. */
        vec_i4 word;
        memcpy(&word, &s, sizeof word);
        /* Half-way: the 29 bits that float lacks are 1 followed by zeros. Small: a biased exponent
         * of 1..896, that is a non-zero double below 2^-126. */
        vec_i4 half = (word & 0x1fffffff) == 0x10000000;
        vec_i4 small = (word & 0x7fffffff) - 1;
        small = (small < (896 << 20)) & (small >= (1 << 20) - 1);
        doubt |= (half & (vec_i4){-1, 0, -1, 0}) | (small & (vec_i4){0, -1, 0, -1});
        r[i] = (float)s[0];
        r[i + 1] = (float)s[1];
    }
    if ((doubt[0] | doubt[1] | doubt[2] | doubt[3]) != 0) {
        for (uint32_t i = 0; i < 16; i++) {
            r[i] = fmaf(a[i], b[i], c[i]);
        }
    }
    return v_load(r);
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
    for (uint32_t i = 0; i < 16; i++) {
        x.q[i / 4][i % 4] = floorf(x.q[i / 4][i % 4]);
    }
    return x;
}
VEC vf v_rint(vf x) {
    for (uint32_t i = 0; i < 16; i++) {
        x.q[i / 4][i % 4] = rintf(x.q[i / 4][i % 4]);
    }
    return x;
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

#endif
