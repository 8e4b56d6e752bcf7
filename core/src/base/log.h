/* Messages of the core: formatted to one line and handed to a function of the caller. */
#ifndef STN_BASE_LOG_H
#define STN_BASE_LOG_H

#include <stdint.h>

/* Where the lines go. fn may be NULL: then nothing is formatted. Called from any thread. */
typedef struct stn__log {
    void (*fn)(void *user, int32_t level, const char *line);
    void *user;
} stn__log;

/* Hands over one line, at most 1023 bytes; line breaks inside become blanks. level: STN_LOG_*.
 * log may be NULL. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void stn__log_line(const stn__log *log, int32_t level, const char *format, ...);

#endif
