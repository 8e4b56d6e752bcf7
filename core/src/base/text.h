/* Strings of the core: a growable buffer, strict parsers and paths.
 *
 * Everything here is independent of the process's locale: numbers are written and read with '.'.
 * Functions are thread-safe on different objects.
 */
#ifndef STN_BASE_TEXT_H
#define STN_BASE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include <stn/error.h>

/* A growing string; {0} is a valid empty one. Out of memory is sticky: later additions do nothing,
 * and stn__text_check or stn__text_take reports it at the end. */
typedef struct stn__text {
    char *data; /* NULL or zero-terminated */
    uint64_t size, cap;
    bool failed;
} stn__text;

/* NULL adds nothing. */
void stn__text_add(stn__text *text, const char *string);
void stn__text_bytes(stn__text *text, const void *bytes, uint64_t size);
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void stn__text_addf(stn__text *text, const char *format, ...);
/* The shortest of %.15g, %.16g, %.17g that reads back as the same double; nan, inf, -inf. */
void stn__text_real(stn__text *text, double value);
/* Keeps the memory and forgets a failure. */
void stn__text_clear(stn__text *text);
void stn__text_free(stn__text *text);
/* "" when empty or failed; valid until the next change. */
const char *stn__text_get(const stn__text *text);
/* Hands the string to the caller (stn__free) and leaves an empty text; NULL if it had failed. */
char *stn__text_take(stn__text *text);
/* STN_E_NOMEM naming `what` if it had failed. */
int32_t stn__text_check(const stn__text *text, const char *what, stn_err *err);

/* Copies; NULL if there is no memory or the argument is NULL. */
char *stn__strdup(const char *string);
char *stn__strndup(const char *string, uint64_t size);
/* NULL equals NULL only. */
bool stn__str_eq(const char *a, const char *b);
bool stn__str_starts(const char *string, const char *prefix);
bool stn__str_ends(const char *string, const char *suffix);
/* ASCII, whatever the locale. */
bool stn__str_contains_nocase(const char *string, const char *part);
bool stn__is_blank(char c); /* space, \t, \n, \r, \v, \f */

/* dir/name without doubling the slash; a name that begins with '/' stands alone; an empty dir is
 * left out. To be freed; NULL if there is no memory. */
char *stn__path_join(const char *dir, const char *name);
/* The part after the last slash, inside `path`. */
const char *stn__path_base(const char *path);

/* Strict: the whole string must be the number, without blanks. false leaves *out untouched.
 * Integers: decimal, optional '-' (also '+'), in range. Real: decimal with optional fraction and
 * exponent, finite; too small becomes 0 or subnormal. Bool: true false yes no on off 1 0. */
bool stn__parse_i64(const char *string, int64_t *out);
bool stn__parse_u64(const char *string, uint64_t *out);
/* Bytes: a whole number, with K, M, G or T for powers of 1024. */
bool stn__parse_size(const char *string, uint64_t *out);
bool stn__parse_real(const char *string, double *out);
bool stn__parse_bool(const char *string, bool *out);

#endif
