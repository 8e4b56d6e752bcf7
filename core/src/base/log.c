/* Formatting of log lines. */
#include "base/log.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

void stn__log_line(const stn__log *log, int32_t level, const char *format, ...) {
    if (log == NULL || log->fn == NULL) {
        return;
    }
    char line[1024];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0) {
        return;
    }
    for (char *c = line; *c != '\0'; c++) {
        if (*c == '\n' || *c == '\r') {
            *c = ' ';
        }
    }
    log->fn(log->user, level, line);
}
