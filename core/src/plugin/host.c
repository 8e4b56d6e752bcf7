/* The stn_host table, and where the lines of plugins go. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>

#include "base/det_math.h"
#include "base/mem.h"
#include "plugin/registry.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static stn_ctx *open_contexts;

void stn__host_attach(stn_ctx *ctx) {
    (void)pthread_mutex_lock(&lock);
    ctx->next = open_contexts;
    open_contexts = ctx;
    (void)pthread_mutex_unlock(&lock);
}

void stn__host_detach(stn_ctx *ctx) {
    (void)pthread_mutex_lock(&lock);
    for (stn_ctx **link = &open_contexts; *link != NULL; link = &(*link)->next) {
        if (*link == ctx) {
            *link = ctx->next;
            break;
        }
    }
    (void)pthread_mutex_unlock(&lock);
}

static void host_log(int32_t level, const char *text) {
    stn__log log = {0};
    (void)pthread_mutex_lock(&lock);
    if (open_contexts != NULL) {
        log = open_contexts->log;
    }
    (void)pthread_mutex_unlock(&lock);
    stn__log_line(&log, level, "%s", text);
}

const stn_host stn__host = {
    .struct_size = sizeof(stn_host),
    .abi_minor = STN_ABI_MINOR,
    .alloc = stn__alloc_aligned,
    .free = stn__free,
    .log = host_log,
    .sin = stn__sin,
    .cos = stn__cos,
    .exp2 = stn__exp2,
    .log_e = stn__log_e,
};
