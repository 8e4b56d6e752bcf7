/* Counts calls that manage memory or touch files, by functions that stand before those of libc. */
#ifndef COUNT_CALLS_H
#define COUNT_CALLS_H

#include <stdint.h>

typedef struct call_counts {
    uint64_t all; /* of any code in the process, any thread */
    uint64_t own; /* of the program, libstn and plugins ("stn_*.so"), not of other libraries */
} call_counts;

/* Counting starts at zero; every plugin that takes part must be loaded. */
void count_calls_start(void);
call_counts count_calls_stop(void);

#endif
