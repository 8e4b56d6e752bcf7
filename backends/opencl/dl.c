/* Opens libOpenCL at run time, so that the plugin loads on machines without it. */
#include "ocl.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

ocl_api cl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool loaded;
static char reason[256];

/* POSIX gives function pointers as void *; copying the bits avoids the cast ISO C lacks. */
static bool resolve(void *library, const char *name, void *target, size_t size) {
    void *symbol = dlsym(library, name);
    if (symbol == NULL) {
        (void)snprintf(reason, sizeof reason, "libOpenCL lacks the function %s", name);
        return false;
    }
    memcpy(target, &symbol, size);
    return true;
}

static void open_library(void) {
    const char *const names[] = {getenv("STN_OPENCL_LIBRARY"), "libOpenCL.so.1", "libOpenCL.so"};
    const size_t n = sizeof names / sizeof *names;
    void *library = NULL;
    /* A library that was asked for is not replaced by another. */
    bool chosen = names[0] != NULL && names[0][0] != '\0';
    for (size_t i = chosen ? 0 : 1; i < (chosen ? 1 : n) && library == NULL; i++) {
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    }
    if (library == NULL) {
        const char *text = dlerror();
        (void)snprintf(reason, sizeof reason, "no OpenCL library: %s", text ? text : "not found");
        return;
    }
#define OCL_RESOLVE(name)                                                                          \
    if (!resolve(library, #name, &cl.name, sizeof cl.name)) {                                      \
        return;                                                                                    \
    }
    OCL_ENTRY_POINTS(OCL_RESOLVE)
#undef OCL_RESOLVE
    loaded = true;
}

bool ocl_load(const char **why) {
    (void)pthread_once(&once, open_library);
    *why = reason;
    return loaded;
}
