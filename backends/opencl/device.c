/* Devices: all devices of all platforms, found once, with facts and stable ids. */
#include "ocl.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_PLATFORMS 32u
#define MAX_DEVICES 64u
#define MIN_WORK 1000000u
#define CL_DEVICE_UUID_KHR_ 0x106A
#define CL_DEVICE_PCI_BUS_INFO_KHR_ 0x410F

typedef struct found_device {
    cl_platform_id platform;
    cl_device_id id;
    stn_device_info info;
} found_device;

static found_device found[MAX_DEVICES];
static uint32_t n_found;
static pthread_once_t found_once = PTHREAD_ONCE_INIT;

static void device_string(cl_device_id id, cl_device_info what, char *out, size_t size) {
    char text[1024] = "";
    size_t length = 0;
    if (cl.clGetDeviceInfo(id, what, sizeof text - 1, text, &length) != CL_SUCCESS) {
        text[0] = '\0';
    }
    const char *start = text;
    while (isspace((unsigned char)*start)) {
        start++;
    }
    (void)snprintf(out, size, "%.*s", (int)size - 1, start);
    for (size_t n = strlen(out); n > 0 && isspace((unsigned char)out[n - 1]); n--) {
        out[n - 1] = '\0';
    }
}

static uint64_t device_number(cl_device_id id, cl_device_info what, size_t size) {
    unsigned char raw[8] = {0};
    if (cl.clGetDeviceInfo(id, what, size, raw, NULL) != CL_SUCCESS) {
        return 0;
    }
    uint32_t word = 0;
    uint64_t value = 0;
    memcpy(&word, raw, sizeof word);
    memcpy(&value, raw, sizeof value);
    return size == 4 ? word : value;
}

/* Appends text to an id: lower case, runs of anything unusual as one '-'. */
static void append_id(char *id, size_t size, const char *text) {
    size_t n = strlen(id);
    for (; *text != '\0' && n + 1 < size; text++) {
        char c = (char)tolower((unsigned char)*text);
        bool plain = isalnum((unsigned char)c) || c == '.' || c == ':' || c == '#';
        if (!plain && (n == 0 || id[n - 1] == '-' || id[n - 1] == ':')) {
            continue;
        }
        id[n++] = plain ? c : '-';
    }
    while (n > 0 && id[n - 1] == '-') {
        n--;
    }
    id[n] = '\0';
}

static bool offers(cl_device_id device, const char *extension) {
    char all[1 << 13] = "";
    return cl.clGetDeviceInfo(device, CL_DEVICE_EXTENSIONS, sizeof all - 1, all, NULL) ==
               CL_SUCCESS &&
           strstr(all, extension) != NULL;
}

/* ":pci" or ":uuid", where the device answers; the strings of two equal cards differ only here. */
static void append_unique(char *id, size_t size, cl_device_id device) {
    char text[40] = "";
    cl_uint pci[4] = {0};
    unsigned char uuid[16] = {0};
    if (offers(device, "cl_khr_pci_bus_info") &&
        cl.clGetDeviceInfo(device, CL_DEVICE_PCI_BUS_INFO_KHR_, sizeof pci, pci, NULL) ==
            CL_SUCCESS) {
        (void)snprintf(text, sizeof text, ":%04x:%02x:%02x.%x", pci[0], pci[1], pci[2], pci[3]);
    } else if (offers(device, "cl_khr_device_uuid") &&
               cl.clGetDeviceInfo(device, CL_DEVICE_UUID_KHR_, sizeof uuid, uuid, NULL) ==
                   CL_SUCCESS) {
        text[0] = ':';
        for (size_t i = 0; i < sizeof uuid; i++) {
            (void)snprintf(text + 1 + 2 * i, 3, "%02x", uuid[i]);
        }
    }
    append_id(id, size, text);
}

static uint64_t capabilities(cl_device_id id) {
    uint64_t config = device_number(id, CL_DEVICE_SINGLE_FP_CONFIG, 8);
    uint64_t bits = STN_CAP_MICRO_BATCHES;
    bits |= config & CL_FP_FMA ? STN_CAP_FMA : 0u;
    bits |= config & CL_FP_CORRECTLY_ROUNDED_DIVIDE_SQRT ? STN_CAP_CORRECT_DIVIDE : 0u;
    bits |= config & CL_FP_DENORM ? STN_CAP_SUBNORMALS : 0u;
    bits |= device_number(id, CL_DEVICE_HOST_UNIFIED_MEMORY, 4) ? STN_CAP_UNIFIED_MEMORY : 0u;
    return bits;
}

static void describe(found_device *d) {
    stn_device_info *info = &d->info;
    info->struct_size = (uint32_t)sizeof *info;
    info->is_cpu = (device_number(d->id, CL_DEVICE_TYPE, 8) & CL_DEVICE_TYPE_CPU) != 0;
    info->layout = info->is_cpu ? STN_NC16 : STN_NCHW;
    info->compute_units = (uint32_t)device_number(d->id, CL_DEVICE_MAX_COMPUTE_UNITS, 4);
    info->memory = device_number(d->id, CL_DEVICE_GLOBAL_MEM_SIZE, 8);
    info->max_alloc = device_number(d->id, CL_DEVICE_MAX_MEM_ALLOC_SIZE, 8);
    info->capabilities = capabilities(d->id);
    device_string(d->id, CL_DEVICE_NAME, info->name, sizeof info->name);
    device_string(d->id, CL_DEVICE_VENDOR, info->vendor, sizeof info->vendor);
    device_string(d->id, CL_DRIVER_VERSION, info->driver, sizeof info->driver);
    char platform[256] = "";
    if (cl.clGetPlatformInfo(d->platform, CL_PLATFORM_NAME, sizeof platform - 1, platform, NULL) ==
        CL_SUCCESS) {
        (void)snprintf(info->platform, sizeof info->platform, "%.63s", platform);
    }
    append_id(info->id, sizeof info->id - 4, info->vendor);
    append_id(info->id, sizeof info->id - 4, ":");
    append_id(info->id, sizeof info->id - 4, info->name);
    /* A CPU's "uuid" is made of CPUID words that differ between cores: not stable. */
    if (!info->is_cpu) {
        append_unique(info->id, sizeof info->id - 4, d->id);
    }
    uint32_t twin = 1;
    for (uint32_t i = 0; i < n_found; i++) {
        size_t n = strlen(info->id);
        const char *other = found[i].info.id;
        twin += strncmp(other, info->id, n) == 0 && (other[n] == '\0' || other[n] == '#');
    }
    if (twin > 1) {
        size_t n = strlen(info->id);
        (void)snprintf(info->id + n, sizeof info->id - n, "#%u", twin % 100u);
    }
}

static void find_in_platform(cl_platform_id platform) {
    cl_device_id ids[MAX_DEVICES];
    cl_uint n = 0;
    cl_int status = cl.clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, MAX_DEVICES, ids, &n);
    if (status != CL_SUCCESS || n == 0) {
        char name[128] = "unnamed";
        (void)cl.clGetPlatformInfo(platform, CL_PLATFORM_NAME, sizeof name - 1, name, NULL);
        ocl_log(STN_LOG_WARN, "opencl: platform %s has no devices: %s", name,
                ocl_error_name(status == CL_SUCCESS ? CL_DEVICE_NOT_FOUND : status));
        return;
    }
    for (cl_uint i = 0; i < n && i < MAX_DEVICES && n_found < MAX_DEVICES; i++) {
        found_device *d = &found[n_found];
        d->platform = platform;
        d->id = ids[i];
        describe(d);
        n_found++;
    }
}

static void find_devices(void) {
    const char *why = "";
    if (!ocl_load(&why)) {
        ocl_log(STN_LOG_WARN, "opencl: no devices: %s", why);
        return;
    }
    cl_platform_id platforms[MAX_PLATFORMS];
    cl_uint n = 0;
    cl_int status = cl.clGetPlatformIDs(MAX_PLATFORMS, platforms, &n);
    if (status != CL_SUCCESS || n == 0) {
        ocl_log(STN_LOG_WARN,
                "opencl: no devices: no platform (%s); install a driver such as "
                "pocl-opencl-icd",
                ocl_error_name(status == CL_SUCCESS ? -1001 : status));
        return;
    }
    for (cl_uint i = 0; i < n && i < MAX_PLATFORMS; i++) {
        find_in_platform(platforms[i]);
    }
}

int32_t ocl_device_count(uint32_t *count, stn_err *err) {
    (void)err;
    (void)pthread_once(&found_once, find_devices);
    *count = n_found;
    return STN_OK;
}

/* Copies as much as the caller's struct takes. */
static void give_info(const stn_device_info *from, stn_device_info *to) {
    uint32_t size = to->struct_size;
    size_t n = size < sizeof *from ? size : sizeof *from;
    memcpy(to, from, n);
    to->struct_size = size;
}

int32_t ocl_device_info(uint32_t index, stn_device_info *info, stn_err *err) {
    (void)pthread_once(&found_once, find_devices);
    if (index >= n_found) {
        return stn_fail(err, STN_E_NODEVICE, "opencl: device %u of %u does not exist", index,
                        n_found);
    }
    give_info(&found[index].info, info);
    return STN_OK;
}

int32_t ocl_device_query(stn_device *device, stn_device_info *info, stn_err *err) {
    (void)err;
    give_info(&device->info, info);
    return STN_OK;
}

static const char *option(const stn_options *options, const char *name) {
    for (uint32_t i = 0; options != NULL && i < options->count; i++) {
        if (strcmp(options->name[i], name) == 0) {
            return options->value[i];
        }
    }
    return "";
}

/* The option's number, 0 where it is not given. */
static int32_t read_number(const stn_options *options, const char *name, uint64_t most,
                           uint64_t *number, stn_err *err) {
    const char *text = option(options, name);
    char *end = NULL;
    *number = *text == '\0' ? 0 : strtoull(text, &end, 10);
    if (*number > most || *text == '-' || (end != NULL && (*end != '\0' || end == text))) {
        return stn_fail(err, STN_E_USAGE, "opencl: %s is '%.32s', must be 0..%" PRIu64, name, text,
                        most);
    }
    return STN_OK;
}

static int32_t read_options(stn_device *d, const stn_options *options, stn_err *err) {
    const char *kind = option(options, "device-class"), *math = option(options, "math");
    const char *profile = option(options, "profile"), *work = option(options, "min-work");
    if (*kind == '\0' || strcmp(kind, "auto") == 0) {
        d->device_class = d->info.is_cpu ? OCL_CPU_VECTOR : OCL_GPU;
    } else if (strcmp(kind, "cpu-vector") == 0) {
        d->device_class = OCL_CPU_VECTOR;
    } else if (strcmp(kind, "gpu") == 0) {
        d->device_class = OCL_GPU;
    } else {
        return stn_fail(err, STN_E_USAGE,
                        "opencl: device-class is '%.32s', must be auto, cpu-vector or gpu", kind);
    }
    if (*math != '\0' && strcmp(math, "exact") != 0 && strcmp(math, "fast") != 0) {
        return stn_fail(err, STN_E_USAGE, "opencl: math is '%.32s', must be exact or fast", math);
    }
    char *end = NULL;
    uint64_t units = 0;
    d->min_work = *work == '\0' ? MIN_WORK : strtoull(work, &end, 10);
    if (end != NULL && (end == work || *end != '\0' || *work == '-')) {
        return stn_fail(err, STN_E_USAGE, "opencl: min-work is '%.32s', must be a number", work);
    }
    STN_TRY(read_number(options, "max-group", 4096, &d->group_cap, err));
    STN_TRY(read_number(options, "compute-units", 65535, &units, err));
    d->info.compute_units = units != 0 ? (uint32_t)units : d->info.compute_units;
    d->fast_math = strcmp(math, "fast") == 0;
    d->profile = strcmp(profile, "true") == 0 || strcmp(profile, "1") == 0 ||
                 strcmp(profile, "yes") == 0 || strcmp(profile, "on") == 0;
    /* CLBlast knows row-major matrices only. */
    d->info.layout = d->device_class == OCL_CPU_VECTOR && !d->fast_math ? STN_NC16 : STN_NCHW;
    (void)snprintf(d->info.variant, sizeof d->info.variant, "%s%s",
                   d->device_class == OCL_CPU_VECTOR ? "cpu-vector" : "gpu",
                   d->fast_math ? "+clblast" : "");
    ocl_cache_choose(d, option(options, "cache-dir"));
    if (d->fast_math) {
        STN_TRY(ocl_clblast_open(err));
        d->clblast = true;
    }
    return STN_OK;
}

static int32_t open_context(stn_device *d, stn_err *err) {
    cl_int status = CL_SUCCESS;
    d->context = cl.clCreateContext(NULL, 1, &d->id, NULL, NULL, &status);
    if (status != CL_SUCCESS) {
        d->context = NULL;
        return ocl_fail(err, STN_E_NODEVICE, status, "opencl: creating a context");
    }
    d->dummy = cl.clCreateBuffer(d->context, CL_MEM_READ_WRITE, 256, NULL, &status);
    if (status != CL_SUCCESS) {
        d->dummy = NULL;
        return ocl_fail(err, STN_E_NOMEM, status, "opencl: allocating 256 bytes");
    }
    return STN_OK;
}

int32_t ocl_device_open(uint32_t index, const stn_options *options, stn_device **device,
                        stn_err *err) {
    (void)pthread_once(&found_once, find_devices);
    *device = NULL;
    if (index >= n_found) {
        return stn_fail(err, STN_E_NODEVICE, "opencl: device %u of %u does not exist", index,
                        n_found);
    }
    stn_device *d = ocl_host->alloc(sizeof *d, 0);
    if (d == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: out of memory opening a device");
    }
    memset(d, 0, sizeof *d);
    d->index = index;
    d->platform = found[index].platform;
    d->id = found[index].id;
    d->info = found[index].info;
    d->max_group = device_number(d->id, CL_DEVICE_MAX_WORK_GROUP_SIZE, sizeof(size_t));
    d->max_alloc = d->info.max_alloc;
    d->local_memory = device_number(d->id, CL_DEVICE_LOCAL_MEM_SIZE, 8);
    d->wide = device_number(d->id, CL_DEVICE_NATIVE_VECTOR_WIDTH_FLOAT, sizeof(cl_uint)) >= 16;
    d->nv_options = offers(d->id, "cl_nv_compiler_options");
    (void)pthread_mutex_init(&d->lock, NULL);
    int32_t status = read_options(d, options, err);
    if (status == STN_OK) {
        status = open_context(d, err);
    }
    if (status != STN_OK) {
        ocl_device_close(d);
        return status;
    }
    *device = d;
    return STN_OK;
}

void ocl_device_close(stn_device *device) {
    if (device == NULL) {
        return;
    }
    ocl_programs_free(device);
    if (device->clblast) {
        ocl_clblast_close();
    }
    if (device->dummy != NULL) {
        (void)cl.clReleaseMemObject(device->dummy);
    }
    if (device->context != NULL) {
        (void)cl.clReleaseContext(device->context);
    }
    (void)pthread_mutex_destroy(&device->lock);
    ocl_host->free(device);
}
