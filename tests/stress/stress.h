/* Checks of the thread tests: plain programs, because the thread sanitizer cannot start Criterion.
 */
#ifndef STRESS_H
#define STRESS_H

#include <stdio.h>
#include <stdlib.h>

#define REQUIRE(condition)                                                                         \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* A call of the library that must succeed; its message is shown. */
#define REQUIRE_OK(call)                                                                           \
    do {                                                                                           \
        stn_err stress_err = {0}, *err = &stress_err;                                              \
        if ((call) != STN_OK) {                                                                    \
            (void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #call, stress_err.text);  \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

#endif
