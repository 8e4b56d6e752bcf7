/* Elementary functions in double with the same bits on every platform (contract C3), for host
 * work: reported losses, schedules, augmentation parameters.
 *
 * Built only from + - * / fma, bit casts and integer operations, in a fixed order; libm's own
 * versions differ between platforms. At most 1 ulp of error on the ranges given (measured by the
 * tests); outside them still the same value everywhere. NaN gives NaN.
 */
#ifndef STN_BASE_DET_MATH_H
#define STN_BASE_DET_MATH_H

/* Natural logarithm, all x > 0; 0 gives -inf, negative NaN, +inf +inf. */
double stn__log_e(double x);
/* Radians, |x| <= 2^20; larger ones lose accuracy, beyond 2^30 and for infinities NaN. */
double stn__sin(double x);
double stn__cos(double x);
/* 2^x, all x; overflows to +inf, underflows through subnormals to 0. */
double stn__exp2(double x);
/* Angle of the point (x, y) in [-pi, pi], with the signed zeros of C's atan2 for finite operands;
 * an infinite operand gives NaN. */
double stn__atan2(double y, double x);

#endif
