/* The core's own log, sin, cos, exp2 and atan2: accuracy against long double, and pinned bits.
 *
 * The pin proves that a platform gives the bits of all others; where it fails, a compiler has
 * changed the arithmetic (contraction, fast-math, a wrong fma).
 */
#include <criterion/criterion.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include <stn/num.h>

#include "base/det_math.h"
#include "base/hash.h"

/* Reproducible arguments: uniform in [0, 1), 53 bits. */
static double unit(uint32_t element) {
    uint64_t hi = stn_philox(1, 2, 2 * element, 0, 0, 0);
    uint64_t lo = stn_philox(1, 2, 2 * element + 1, 0, 0, 0);
    return (double)((hi << 32 | lo) >> 11) * 0x1p-53;
}

/* |got - want| in units of the last place of `want` as a double. */
static double ulps(double got, long double want) {
    int exponent;
    if (want == 0.0L) {
        return got == 0.0 ? 0.0 : HUGE_VAL;
    }
    frexp((double)want, &exponent);
    double unit_place = ldexp(1.0, exponent - 53 < -1074 ? -1074 : exponent - 53);
    return (double)(fabsl((long double)got - want) / unit_place);
}

/* The reference must be more precise than a double to judge the last place; elsewhere libm's own
 * error of up to one place is added. */
#if LDBL_MANT_DIG > DBL_MANT_DIG
#define MAX_ULPS 1.0
#else
#define MAX_ULPS 2.0
#endif

static double worst;

static void judge(double got, long double want, double x) {
    double d = ulps(got, want);
    cr_assert(d < MAX_ULPS, "%a: %a, %g ulp", x, got, d);
    worst = d > worst ? d : worst;
}

enum { SAMPLES = 200000 };

Test(det_math, logarithm) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        double x = ldexp(1.0 + unit(i), (int)(i % 2080) - 1060);
        judge(stn__log_e(x), logl(x), x);
        x = 0.5 + unit(i); /* around 1, where cancellation threatens */
        judge(stn__log_e(x), logl(x), x);
        x = 1.0 + (unit(i) - 0.5) * 0x1p-20;
        judge(stn__log_e(x), logl(x), x);
    }
    cr_expect_gt(worst, 0.5); /* the measure is alive */
    cr_expect_eq(stn__log_e(1.0), 0.0);
    cr_expect_eq(stn__log_e(0.0), -HUGE_VAL);
    cr_expect_eq(stn__log_e(HUGE_VAL), HUGE_VAL);
    cr_expect(isnan(stn__log_e(-1.0)) && isnan(stn__log_e(NAN)) && isnan(stn__log_e(-HUGE_VAL)));
    judge(stn__log_e(0x1p-1074), logl(0x1p-1074L), 0x1p-1074);
    judge(stn__log_e(DBL_MAX), logl(DBL_MAX), DBL_MAX);
}

Test(det_math, power_of_two) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        double x = (unit(i) - 0.5) * 2040.0;
        judge(stn__exp2(x), exp2l(x), x);
        x = (unit(i) - 0.5) * 2.0;
        judge(stn__exp2(x), exp2l(x), x);
    }
    for (int n = -1074; n < 1024; n++) {
        cr_assert_eq(stn__exp2(n), ldexp(1.0, n), "%d", n);
    }
    cr_expect_eq(stn__exp2(1024.0), HUGE_VAL);
    cr_expect_eq(stn__exp2(-1076.0), 0.0);
    cr_expect_eq(stn__exp2(-HUGE_VAL), 0.0);
    cr_expect_eq(stn__exp2(HUGE_VAL), HUGE_VAL);
    cr_expect(isnan(stn__exp2(NAN)));
}

Test(det_math, sine_and_cosine) {
    const double half_pi = 0x1.921fb54442d18p+0;
    for (uint32_t i = 0; i < SAMPLES; i++) {
        static const double ranges[] = {1e-3, 2.0, 7.0, 0x1p21};
        double x = (unit(i) - 0.5) * ranges[i % 4];
        judge(stn__sin(x), sinl(x), x);
        judge(stn__cos(x), cosl(x), x);
    }
    /* Near the zeros, and near the ends of the reduced range. */
    for (int n = -1000; n <= 1000; n++) {
        double x = n * half_pi, y = (n + 0.5) * half_pi;
        judge(stn__sin(x), sinl(x), x);
        judge(stn__cos(x), cosl(x), x);
        judge(stn__sin(y), sinl(y), y);
        judge(stn__cos(y), cosl(y), y);
    }
    cr_expect(stn__sin(0.0) == 0.0 && !signbit(stn__sin(0.0)) && signbit(stn__sin(-0.0)));
    cr_expect_eq(stn__cos(0.0), 1.0);
    cr_expect(isnan(stn__sin(HUGE_VAL)) && isnan(stn__cos(-HUGE_VAL)) && isnan(stn__sin(NAN)));
    cr_expect(isnan(stn__sin(0x1p40)));
}

Test(det_math, arc_tangent) {
    for (uint32_t i = 0; i < SAMPLES; i++) {
        double y = ldexp(unit(2 * i) - 0.5, (int)(i % 41) - 20), x = unit(2 * i + 1) - 0.5;
        judge(stn__atan2(y, x), atan2l(y, x), y / x);
        judge(stn__atan2(unit(i), unit(i + 1)), atan2l(unit(i), unit(i + 1)), unit(i));
    }
    static const double special[] = {0.0, -0.0, 1.0, -1.0, 0x1p-1074, DBL_MAX, -DBL_MAX, 0x1p-1022};
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 8; j++) {
            double got = stn__atan2(special[i], special[j]);
            judge(got, atan2l(special[i], special[j]), special[i]);
            cr_expect_eq(signbit(got) != 0, signbit(special[i]) != 0);
        }
    }
    cr_expect(isnan(stn__atan2(NAN, 1.0)) && isnan(stn__atan2(1.0, NAN)));
    cr_expect(isnan(stn__atan2(HUGE_VAL, 1.0)));
}

static void hash_double(stn__sha256 *hash, double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    stn__sha256_u64(hash, bits);
}

Test(det_math, bits_are_pinned) {
    char hex[STN__SHA256_HEX];
    stn__sha256 hash;
    cr_assert_eq(stn__sha256_init(&hash, NULL), STN_OK);
    for (uint32_t i = 0; i < 100000; i++) {
        double u = unit(i), v = unit(i + 500000);
        hash_double(&hash, stn__log_e(ldexp(1.0 + u, (int)(i % 2000) - 1000)));
        hash_double(&hash, stn__log_e(0.5 + u));
        hash_double(&hash, stn__exp2((u - 0.5) * 2100.0));
        hash_double(&hash, stn__sin((u - 0.5) * 100.0));
        hash_double(&hash, stn__cos((u - 0.5) * 0x1p21));
        hash_double(&hash, stn__sin((double)i * 0x1.921fb54442d18p+0)); /* near the zeros */
        hash_double(&hash, stn__atan2(u - 0.5, v - 0.5));
    }
    cr_assert_eq(stn__sha256_final(&hash, hex, NULL), STN_OK);
    cr_expect_str_eq(hex, "483b36341698584754fb2a8fea7b5a743a786f187009d8653f8ed2ba0484edfd");
}
