/* Time that only goes forward. */
#ifndef STN_BASE_CLOCK_H
#define STN_BASE_CLOCK_H

#include <stdint.h>

/* Nanoseconds of the host's monotonic clock. */
uint64_t stn__now_ns(void);

#endif
