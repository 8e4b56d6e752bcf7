/* Facts about the processor this process runs on. */
#ifndef CPU_INFO_H
#define CPU_INFO_H

#include <stdbool.h>

#include <stn/backend.h>

/* Processors this process may use, at least 1. */
uint32_t cpu_online(void);
/* Fills everything but struct_size, layout and variant. */
void cpu_describe(stn_device_info *info);
/* Name of the first feature that is missing for a kernel set, NULL if it can run here. */
const char *cpu_lacks_fma(void);
const char *cpu_lacks_avx2(void);
const char *cpu_lacks_avx512(void);

#endif
