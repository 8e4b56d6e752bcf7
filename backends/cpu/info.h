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
/* Outputs that no cache will hold are better stored past the caches. Intel's processors read a line
 * before they write to it otherwise (plankton's first layer 1.45 times as fast past the caches); of
 * AMD's Zen 4 ordinary stores are the faster ones (1.2 times). */
bool cpu_stores_past_caches(void);

#endif
