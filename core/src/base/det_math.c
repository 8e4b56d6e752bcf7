/* log, sin, cos, exp2 and atan2: argument reduction and Taylor polynomials long enough that their
 * truncation lies below 2^-57 of the result.
 *
 * Constants are correctly rounded; a pair NAME_HI, NAME_LO adds up to about 106 bits. fma() is
 * exact by the C standard's Annex F, so software and hardware versions agree.
 */
#include "base/det_math.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static uint64_t bits_of(double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static double from_bits(uint64_t u) {
    double x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* 2^n for -1022 <= n <= 1023 */
static double power_of_two(int n) {
    return from_bits((uint64_t)(n + 1023) << 52);
}

/* c[0] + z c[1] + z^2 c[2] + ... */
static double horner(const double *c, size_t n, double z) {
    double p = c[n - 1];
    for (size_t i = n - 1; i-- > 0;) {
        p = fma(p, z, c[i]);
    }
    return p;
}

/* x = 2^k (1 + f), sqrt(1/2) <= 1 + f < sqrt(2); s = f / (2 + f), z = s^2:
 * log(1 + f) = 2 s (1 + z/3 + z^2/5 + ...) = f - s (f - R), R = z (2/3 + 2/5 z + ...). */
double stn__log_e(double x) {
    static const double c[] = {0x1.5555555555555p-1, 0x1.999999999999ap-2, 0x1.2492492492492p-2,
                               0x1.c71c71c71c71cp-3, 0x1.745d1745d1746p-3, 0x1.3b13b13b13b14p-3,
                               0x1.1111111111111p-3, 0x1.e1e1e1e1e1e1ep-4, 0x1.af286bca1af28p-4,
                               0x1.8618618618618p-4, 0x1.642c8590b2164p-4, 0x1.47ae147ae147bp-4};
    /* 32 bits, so that k times it is exact, and the rest */
    const double ln2_hi = 0x1.62e42fee00000p-1, ln2_lo = 0x1.a39ef35793c76p-33;
    if (!(x > 0.0) || isinf(x)) {
        return x == 0.0 ? -HUGE_VAL : x > 0.0 ? x : from_bits(UINT64_C(0x7ff8000000000000));
    }
    int k = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        k = -54;
    }
    uint64_t u = bits_of(x);
    k += (int)(u >> 52) - 1023;
    double m = from_bits((u & UINT64_C(0x000fffffffffffff)) | UINT64_C(0x3ff0000000000000));
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        k++;
    }
    double f = m - 1.0;
    double s = f / (2.0 + f);
    double z = s * s;
    double r = z * horner(c, COUNT(c), z);
    double tail = fma(s, f - r, -((double)k * ln2_lo));
    return fma((double)k, ln2_hi, f - tail);
}

/* x = n + r, |r| <= 1/2: 2^r = 1 + r (ln 2 + r ln^2 2 / 2! + ...) */
double stn__exp2(double x) {
    static const double c[] = {0x1.62e42fefa39efp-1,  0x1.ebfbdff82c58fp-3,  0x1.c6b08d704a0c0p-5,
                               0x1.3b2ab6fba4e77p-7,  0x1.5d87fe78a6731p-10, 0x1.430912f86c787p-13,
                               0x1.ffcbfc588b0c7p-17, 0x1.62c0223a5c824p-20, 0x1.b5253d395e7c4p-24,
                               0x1.e4cf5158b8ecap-28, 0x1.e8cac7351bb25p-32, 0x1.c3bd650fc2986p-36,
                               0x1.816193166d0f9p-40, 0x1.314964d5878a9p-44, 0x1.c36e843b04022p-49};
    if (!(x > -1100.0)) {
        return x <= -1100.0 ? 0.0 : x;
    }
    if (x > 1100.0) {
        return HUGE_VAL;
    }
    double n = floor(x + 0.5);
    double y = fma(x - n, horner(c, COUNT(c), x - n), 1.0);
    /* Two factors, so that each is a normal number and only the last product rounds. */
    int half = (int)n / 2;
    return y * power_of_two(half) * power_of_two((int)n - half);
}

/* x = n pi/2 + hi + lo with |hi| <= pi/4 and a little; returns n mod 4, or -1 out of range. */
static int reduce(double x, double *hi, double *lo) {
    const double p1 = 0x1.921fb54442d18p+0, p2 = 0x1.1a62633145c07p-54,
                 p3 = -0x1.f1976b7ed8fbcp-110;
    if (!(fabs(x) <= 0x1p30)) {
        return -1;
    }
    double n = floor(fma(x, 0x1.45f306dc9c883p-1, 0.5));
    double a = fma(-n, p1, x); /* exact: a multiple of ulp(min(x, p1)) below 1 */
    /* a - n p2 in two parts (Knuth), as the difference may cancel; then n p3. */
    double b = n * p2, b_lost = fma(n, p2, -b);
    double d = a - b, shift = d - a;
    double d_lost = (a - (d - shift)) - (b + shift);
    *hi = d;
    *lo = fma(-n, p3, d_lost - b_lost);
    return (int)((int64_t)n & 3);
}

/* hi - hi^3/3! + ... + lo cos(hi) */
static double sin_kernel(double hi, double lo) {
    static const double c[] = {
        -0x1.5555555555555p-3,  0x1.1111111111111p-7,   -0x1.a01a01a01a01ap-13,
        0x1.71de3a556c734p-19,  -0x1.ae64567f544e4p-26, 0x1.6124613a86d09p-33,
        -0x1.ae7f3e733b81fp-41, 0x1.952c77030ad4ap-49,  -0x1.2f49b46814157p-57};
    double z = hi * hi;
    double tail = fma(lo, fma(z, -0.5, 1.0), z * hi * horner(c, COUNT(c), z));
    return hi + tail;
}

/* 1 - hi^2/2 + hi^4/4! - ... - lo sin(hi) */
static double cos_kernel(double hi, double lo) {
    static const double c[] = {0x1.5555555555555p-5,  -0x1.6c16c16c16c17p-10,
                               0x1.a01a01a01a01ap-16, -0x1.27e4fb7789f5cp-22,
                               0x1.1eed8eff8d898p-29, -0x1.93974a8c07c9dp-37,
                               0x1.ae7f3e733b81fp-45, -0x1.6827863b97d97p-53};
    double z = hi * hi;
    double head = fma(-0.5, z, 1.0);
    double lost = fma(-0.5, z, 1.0 - head) - 0.5 * fma(hi, hi, -z); /* what rounding took away */
    return head + fma(-hi, lo, fma(z * z, horner(c, COUNT(c), z), lost));
}

double stn__sin(double x) {
    double hi, lo;
    switch (reduce(x, &hi, &lo)) {
    case 0:
        return x == 0.0 ? x : sin_kernel(hi, lo);
    case 1:
        return cos_kernel(hi, lo);
    case 2:
        return -sin_kernel(hi, lo);
    case 3:
        return -cos_kernel(hi, lo);
    default:
        return from_bits(UINT64_C(0x7ff8000000000000));
    }
}

double stn__cos(double x) {
    double hi, lo;
    switch (reduce(x, &hi, &lo)) {
    case 0:
        return cos_kernel(hi, lo);
    case 1:
        return -sin_kernel(hi, lo);
    case 2:
        return -cos_kernel(hi, lo);
    case 3:
        return sin_kernel(hi, lo);
    default:
        return from_bits(UINT64_C(0x7ff8000000000000));
    }
}

/* atan(n/d) for 0 <= n <= d as hi + lo: atan(i/8) + atan(u), u = (n - d i/8) / (d + n i/8),
 * |u| <= 1/16 */
static void atan_kernel(double n, double d, double *hi, double *lo) {
    static const double c[] = {-0x1.5555555555555p-2, 0x1.999999999999ap-3,  -0x1.2492492492492p-3,
                               0x1.c71c71c71c71cp-4,  -0x1.745d1745d1746p-4, 0x1.3b13b13b13b14p-4,
                               -0x1.1111111111111p-4};
    static const double table[9][2] = {{0.0, 0.0},
                                       {0x1.fd5ba9aac2f6ep-4, -0x1.cd37686760c17p-59},
                                       {0x1.f5b75f92c80ddp-3, 0x1.8ab6e3cf7afbdp-57},
                                       {0x1.6f61941e4def1p-2, -0x1.c63aae6f6e918p-56},
                                       {0x1.dac670561bb4fp-2, 0x1.a2b7f222f65e2p-56},
                                       {0x1.1e00babdefeb4p-1, -0x1.928df287a668fp-58},
                                       {0x1.4978fa3269ee1p-1, 0x1.2419a87f2a458p-56},
                                       {0x1.700a7c5784634p-1, -0x1.8c34d25aadef6p-56},
                                       {0x1.921fb54442d18p-1, 0x1.1a62633145c07p-55}};
    double i = floor(fma(n / d, 8.0, 0.5));
    double a = 0.125 * i;
    double top = fma(-a, d, n); /* exact: at most d/16 in multiples of ulp(d)/16 */
    double bottom = fma(a, n, d);
    double u = top / bottom;
    /* What the roundings of the divisor and of the quotient took away, first order. */
    double bottom_lost = fma(a, n, d - bottom);
    double u_lost = fma(-u, bottom_lost, fma(-u, bottom, top)) / bottom;
    double z = u * u;
    double tail = fma(z * u, horner(c, COUNT(c), z), u_lost + table[(int)i][1]);
    if (i > 0.0) {
        *hi = table[(int)i][0];
        *lo = tail + u;
    } else {
        *hi = u;
        *lo = tail;
    }
}

double stn__atan2(double y, double x) {
    const double pi_hi = 0x1.921fb54442d18p+1, pi_lo = 0x1.1a62633145c07p-53;
    double ax = fabs(x), ay = fabs(y), hi, lo;
    bool steep = ay > ax, left = bits_of(x) >> 63 != 0;
    double n = steep ? ax : ay, d = steep ? ay : ax;
    if (!(d < HUGE_VAL) || !(n < HUGE_VAL)) {
        return from_bits(UINT64_C(0x7ff8000000000000));
    }
    if (d == 0.0) {
        hi = 0.0;
        lo = 0.0;
    } else {
        double scale = d > 0x1p1000 ? 0x1p-100 : d < 0x1p-800 ? 0x1p200 : 1.0;
        atan_kernel(n * scale, d * scale, &hi, &lo);
    }
    /* hi + lo in [0, pi/4]; a - (hi + lo) is rounded once, a - hi being close to exact */
    double angle = hi + lo;
    if (steep) {
        double a = 0.5 * pi_hi - hi;
        lo = (0.5 * pi_hi - a) - hi + (0.5 * pi_lo - lo);
        hi = a;
        angle = hi + lo;
    }
    if (left) {
        double a = pi_hi - hi;
        angle = a + ((pi_hi - a) - hi + (pi_lo - lo));
    }
    return bits_of(y) >> 63 != 0 ? -angle : angle;
}
