/* Status codes and error text shared by the core, the plugins and the programs.
 *
 * Every function that can fail returns an int32_t status (0 = ok) and fills a caller-owned stn_err
 * with one line: what went wrong, where, and what to do. Library code never prints, exits or
 * aborts.
 */
#ifndef STN_ERROR_H
#define STN_ERROR_H

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>

/* name, number (never reused), exit status of the programs, text */
#define STN_STATUS_MAP(X)                                                                          \
    X(OK, 0, 0, "ok")                                                                              \
    X(E_FAIL, 1, 1, "failure")                                                                     \
    X(E_USAGE, 2, 2, "bad argument or option")                                                     \
    X(E_NODEVICE, 3, 3, "no usable device or backend")                                             \
    X(E_MISMATCH, 4, 4, "numeric mismatch or failed self-test")                                    \
    X(E_FORMAT, 5, 5, "bad or corrupt input file")                                                 \
    X(E_NOMEM, 6, 6, "out of memory")                                                              \
    X(E_PLUGIN, 7, 7, "plugin refused")                                                            \
    X(E_UNSUPPORTED, 8, 1, "not supported")                                                        \
    X(E_IO, 9, 1, "input or output failed")                                                        \
    X(E_NONFINITE, 10, 1, "infinite or not-a-number value in training")                            \
    X(E_INTERRUPTED, 11, 1, "interrupted")                                                         \
    X(E_EXISTS, 12, 1, "already exists")                                                           \
    X(E_NOTFOUND, 13, 2, "not found")

enum {
#define STN_STATUS_ENUM(name, number, exit_status, text) STN_##name = (number),
    STN_STATUS_MAP(STN_STATUS_ENUM)
#undef STN_STATUS_ENUM
};

/* One error. `native` holds errno, a CL error number or another foreign code, 0 if none. */
typedef struct stn_err {
    int32_t code;
    int32_t native;
    char text[240];
} stn_err;

/* Fills *err (may be NULL) and returns `code`, so that `return stn_fail(err, ...)` reads well.
 * Text that does not fit is cut. Any thread. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static inline int32_t
stn_fail(stn_err *err, int32_t code, const char *format, ...) {
    if (err != NULL) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(err->text, sizeof err->text, format, args);
        va_end(args);
        err->code = code;
        err->native = 0;
    }
    return code;
}

/* Forwards a failed status to the caller. */
#define STN_TRY(expr)                                                                              \
    do {                                                                                           \
        int32_t stn_try_status_ = (expr);                                                          \
        if (stn_try_status_ != STN_OK) {                                                           \
            return stn_try_status_;                                                                \
        }                                                                                          \
    } while (0)

#endif
