/* The scalar functions of the contract (num.h) against IEEE arithmetic and libm. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdint.h>

#include <stn/num.h>
#include <stn/plugin.h>

/* All mantissas take seconds, with sanitizers too many: a prime step then. */
#define STEP (STN_FEATURES_BUILT == 0u ? 1u : 31u)
#define MANTISSAS (UINT32_C(1) << 23)

/* The float 1.mantissa * 2^exponent. */
static float number(uint32_t mantissa, int exponent) {
    return stn_from_bits((uint32_t)(exponent + 127) << 23 | mantissa);
}

Test(num, reciprocal_equals_ieee_for_every_mantissa) {
    static const int exponents[] = {-100, 0, 99};
    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        uint32_t wrong = 0;
        for (uint32_t m = 0; m < MANTISSAS; m += STEP) {
            float b = number(m, exponents[e]);
            wrong += stn_recip(b) != 1.0f / b;
        }
        /* Last of a stepped sweep: all mantissa bits set needs the extra rule. */
        float b = number(MANTISSAS - 1, exponents[e]);
        wrong += stn_recip(b) != 1.0f / b;
        wrong += stn_recip(-b) != -1.0f / b;
        cr_expect_eq(wrong, 0, "2^%d: %u", exponents[e], wrong);
    }
}

Test(num, square_root_equals_ieee_for_every_mantissa) {
    static const int exponents[] = {-99, 0, 1};
    for (size_t e = 0; e < sizeof exponents / sizeof exponents[0]; e++) {
        uint32_t wrong = 0;
        for (uint32_t m = 0; m < MANTISSAS; m += STEP) {
            float x = number(m, exponents[e]);
            wrong += stn_sqrt(x) != sqrtf(x);
        }
        cr_expect_eq(wrong, 0, "2^%d: %u", exponents[e], wrong);
    }
    cr_expect_eq(stn_bits(stn_sqrt(0.0f)), 0);
    cr_expect_eq(stn_sqrt(0x1p100f), 0x1p50f);
    cr_expect_eq(stn_rsqrt(4.0f), 0.5f);
}

Test(num, quotient_equals_ieee) {
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < 2000000 / STEP; i++) {
        uint32_t u = stn_philox(7, 0, 3 * i, 0, 0, 0), v = stn_philox(7, 0, 3 * i + 1, 0, 0, 0);
        uint32_t w = stn_philox(7, 0, 3 * i + 2, 0, 0, 0);
        float a = number(u >> 9, (int)(w % 80) - 40), b = number(v >> 9, (int)(w / 80 % 80) - 40);
        b = (u & 1u) != 0 ? -b : b;
        wrong += stn_div(a, b) != a / b;
        /* Neighbours of equal operands and of all-ones divisors are the hard quotients. */
        float c = number(v >> 9, 0), d = number((v >> 9) ^ 1u, 0);
        wrong += stn_div(c, d) != c / d;
        wrong += stn_div(c, number(MANTISSAS - 1, 3)) != c / number(MANTISSAS - 1, 3);
    }
    cr_expect_eq(wrong, 0, "%u", wrong);
    cr_expect_eq(stn_div(0.0f, 3.0f), 0.0f);
}

/* The contract's figure over all floats of [-34, -0] is 0.866 ulp. */
Test(num, exponential_stays_below_its_bound) {
    double worst = 0.0;
    float worst_x = 0.0f;
    uint32_t end = stn_bits(-34.0f);
    for (uint32_t bits = 0x80000000u; bits <= end; bits += 1009u * STEP) {
        float x = stn_from_bits(bits);
        double want = exp((double)x);
        int exponent;
        frexp(want, &exponent);
        double error = fabs((double)stn_exp(x) - want) / ldexp(1.0, exponent - 24);
        if (error > worst) {
            worst = error;
            worst_x = x;
        }
    }
    cr_expect(worst < 0.867, "%a: %g ulp", worst_x, worst);
    cr_expect_gt(worst, 0.5); /* the measure is alive */
    cr_expect_eq(stn_exp(0.0f), 1.0f);
    cr_expect_eq(stn_exp(-0.0f), 1.0f);
    cr_expect_gt(stn_exp(-34.0f), 0.0f);
    cr_expect_eq(stn_bits(stn_exp(nextafterf(-34.0f, -35.0f))), 0);
}

/* Run under the sanitizers, this also shows that no conversion is undefined. */
Test(num, odd_operands_have_defined_results) {
    static const float odd[] = {NAN, -NAN, INFINITY, -INFINITY, 0x1p-149f, -0x1p-149f, 0.0f, -0.0f};
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
        volatile float sink = stn_recip(odd[i]);
        sink = stn_sqrt(odd[i]);
        sink = stn_div(odd[i], odd[(i + 1) % 8]);
        sink = stn_rsqrt(odd[i]);
        (void)sink;
    }
    cr_expect(stn_nonfinite(stn_exp(NAN)) && stn_nonfinite(stn_exp(-NAN)));
    cr_expect_eq(stn_bits(stn_exp(-INFINITY)), 0);
    cr_expect_eq(stn_bits(stn_exp(-0x1p127f)), 0);
    cr_expect_eq(stn_exp(-0x1p-149f), 1.0f);
    cr_expect(stn_nonfinite(INFINITY) && stn_nonfinite(-INFINITY) && stn_nonfinite(NAN));
    cr_expect(!stn_nonfinite(0x1.fffffep127f) && !stn_nonfinite(0x1p-149f));
}

Test(num, snaps_to_positive_zero) {
    cr_expect_eq(stn_bits(stn_snap_x(-0x1.fffffep-31f)), 0);
    cr_expect_eq(stn_snap_x(0x1p-30f), 0x1p-30f);
    cr_expect_eq(stn_snap_x(-0x1p-30f), -0x1p-30f);
    cr_expect_eq(stn_bits(stn_snap_g(-0.0f)), 0);
    cr_expect_eq(stn_snap_g(0x1p-50f), 0x1p-50f);
    cr_expect_eq(stn_bits(stn_snap_g(0x1.fffffep-51f)), 0);
    cr_expect(isnan(stn_snap_x(NAN)));
}

/* Random123's published vectors for philox4x32-10 whose first counter word an element can reach. */
Test(num, philox_known_answers) {
    static const uint32_t zero[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    static const uint32_t pi[4] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
    for (uint32_t w = 0; w < 4; w++) {
        cr_expect_eq(stn_philox(0, 0, w, 0, 0, 0), zero[w]);
        cr_expect_eq(stn_philox(0xa4093822, 0x299f31d0, 4u * 0x243f6a88u + w, 0x85a308d3,
                                0x13198a2e, 0x03707344),
                     pi[w]);
    }
    cr_expect_eq(stn_uniform(0xffffffffu), 1.0f - 0x1p-24f);
    cr_expect_eq(stn_uniform(0xffu), 0.0f);
    cr_expect_eq(STN_RNG_STREAM(STN_RNG_AUGMENT, 5), 0x30000005u);
}

Test(num, chunk_lengths) {
    cr_expect_eq(stn_conv_chunk(9, 9), 4);
    cr_expect_eq(stn_conv_chunk(7, 7), 8);
    cr_expect_eq(stn_conv_chunk(5, 5), 16);
    cr_expect_eq(stn_conv_chunk(3, 3), 32);
    cr_expect_eq(stn_conv_chunk(1, 1), 512);
    cr_expect_eq(stn_conv_chunk(100, 100), 1);
    cr_expect_eq(stn_wgrad_chunk(16, 16), 1);
    cr_expect_eq(stn_wgrad_chunk(1, 1), 256);
    cr_expect_eq(stn_wgrad_chunk(15, 17), 2);
}
