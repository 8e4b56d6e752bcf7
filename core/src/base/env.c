/* Environment variables and the directories derived from them. */
#define _POSIX_C_SOURCE 200809L
#include "base/env.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "base/mem.h"
#include "base/text.h"

bool stn__env_untrusted(void) {
#if defined(__linux__)
    if (getauxval(AT_SECURE) != 0) {
        return true;
    }
#endif
    return getuid() != geteuid() || getgid() != getegid();
}

const char *stn__env(const char *name) {
    const char *value = stn__env_untrusted() ? NULL : getenv(name);
    return value == NULL || value[0] == '\0' ? NULL : value;
}

char *stn__user_dir(const char *variable, const char *home_dir, const char *sub) {
    const char *root = stn__env(variable), *home = stn__env("HOME");
    bool own = root != NULL && root[0] == '/';
    if (!own && (home == NULL || home[0] != '/')) {
        return NULL;
    }
    stn__text path = {0};
    stn__text_add(&path, own ? root : home);
    if (!own) {
        stn__text_addf(&path, "/%s", home_dir);
    }
    stn__text_add(&path, "/stn");
    if (sub[0] != '\0') {
        stn__text_addf(&path, "/%s", sub);
    }
    return stn__text_take(&path);
}

char *stn__program_dir(void) {
    char path[4096];
    if (stn__env_untrusted()) {
        return NULL;
    }
    ssize_t size = readlink("/proc/self/exe", path, sizeof path);
    if (size <= 0 || size >= (ssize_t)sizeof path || path[0] != '/') {
        return NULL;
    }
    path[size] = '\0';
    char *slash = strrchr(path, '/');
    return stn__strndup(path, slash == path ? 1 : (uint64_t)(slash - path));
}
