/* Facts about the processor: name, stable id, features, number of usable threads. */
#define _GNU_SOURCE
#include "info.h"

#include <ctype.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Value of the first line "key : value" of /proc/cpuinfo; false if there is none. */
static bool cpuinfo_value(const char *key, char *value, size_t cap) {
    FILE *file = fopen("/proc/cpuinfo", "r");
    if (file == NULL) {
        return false;
    }
    char line[512];
    bool found = false;
    while (!found && fgets(line, sizeof line, file) != NULL) {
        char *colon = strchr(line, ':');
        if (colon != NULL && strncmp(line, key, strlen(key)) == 0) {
            colon += 1 + strspn(colon + 1, " \t");
            colon[strcspn(colon, "\n")] = '\0';
            (void)snprintf(value, cap, "%s", colon);
            found = true;
        }
    }
    fclose(file);
    return found;
}

/* Lower case, runs of anything but letters and digits become one '-', none at the ends. */
static void slug(const char *text, char *out, size_t cap) {
    size_t n = 0;
    for (; *text != '\0' && n + 2 < cap; text++) {
        if (isalnum((unsigned char)*text)) {
            out[n++] = (char)tolower((unsigned char)*text);
        } else if (n > 0 && out[n - 1] != '-') {
            out[n++] = '-';
        }
    }
    while (n > 0 && out[n - 1] == '-') {
        n--;
    }
    out[n] = '\0';
}

static const char *vendor_name(const char *id) {
    return strcmp(id, "GenuineIntel") == 0 ? "Intel" : strcmp(id, "AuthenticAMD") == 0 ? "AMD" : id;
}

uint32_t cpu_online(void) {
    cpu_set_t set;
    long n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                         : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1u : (uint32_t)n;
}

static uint64_t physical_memory(void) {
    long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages < 0 || size < 0 ? 0 : (uint64_t)pages * (uint64_t)size;
}

void cpu_describe(stn_device_info *info) {
    char name[128] = "CPU", vendor_id[64] = "unknown", vendor[32], model[60];
    (void)cpuinfo_value("model name", name, sizeof name);
    (void)cpuinfo_value("vendor_id", vendor_id, sizeof vendor_id);
    info->is_cpu = 1;
    info->compute_units = cpu_online();
    info->memory = physical_memory();
    info->max_alloc = info->memory;
    info->capabilities = STN_CAP_CORRECT_DIVIDE | STN_CAP_SUBNORMALS | STN_CAP_UNIFIED_MEMORY |
                         STN_CAP_MICRO_BATCHES;
    if (cpu_lacks_fma() == NULL) {
        info->capabilities |= STN_CAP_FMA;
    }
    (void)snprintf(info->name, sizeof info->name, "%s", name);
    (void)snprintf(info->vendor, sizeof info->vendor, "%s", vendor_name(vendor_id));
    (void)snprintf(info->driver, sizeof info->driver, "native");
    (void)snprintf(info->platform, sizeof info->platform, "CPU");
    slug(info->vendor, vendor, sizeof vendor);
    slug(name, model, sizeof model);
    (void)snprintf(info->id, sizeof info->id, "%s:%s", vendor, model);
}

/* __builtin_cpu_supports also asks whether the operating system saves the wider registers. */
#if defined(__x86_64__)
const char *cpu_lacks_fma(void) {
    return __builtin_cpu_supports("fma") ? NULL : "fma";
}

const char *cpu_lacks_avx2(void) {
    return !__builtin_cpu_supports("avx2") ? "avx2" : !__builtin_cpu_supports("fma") ? "fma" : NULL;
}

const char *cpu_lacks_avx512(void) {
    return !__builtin_cpu_supports("avx512f")    ? "avx512f"
           : !__builtin_cpu_supports("avx512bw") ? "avx512bw"
           : !__builtin_cpu_supports("avx512dq") ? "avx512dq"
           : !__builtin_cpu_supports("avx512vl") ? "avx512vl"
                                                 : NULL;
}
#else
const char *cpu_lacks_fma(void) {
    return NULL;
}

const char *cpu_lacks_avx2(void) {
    return "avx2";
}

const char *cpu_lacks_avx512(void) {
    return "avx512f";
}
#endif
