/* A library that stands for libOpenCL (STN_OPENCL_LIBRARY) and counts calls on their way to it. */
#ifndef COUNT_OPENCL_H
#define COUNT_OPENCL_H

#include <stdint.h>

typedef struct opencl_counts {
    uint64_t create; /* buffers, programs, kernels, queues */
    uint64_t build;
    uint64_t wait; /* blocking transfers, clFinish, clWaitForEvents */
    uint64_t read, write, launch;
} opencl_counts;

/* Exported as "count_opencl": the counts so far. */
typedef const opencl_counts *(*count_opencl_fn)(void);

#endif
