/* Growable string, string helpers, paths and the nearest name. */
#define _POSIX_C_SOURCE 200809L
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "base/locale.h"
#include "base/mem.h"

/* Room for `more` bytes and the terminating zero. */
static bool reserve(stn__text *text, uint64_t more) {
    uint64_t need = 0;
    if (text->failed || !stn__add(text->size, more, &need) || !stn__add(need, 1, &need) ||
        !stn__grow((void **)&text->data, &text->cap, need, 1)) {
        text->failed = true;
        return false;
    }
    return true;
}

void stn__text_bytes(stn__text *text, const void *bytes, uint64_t size) {
    if (size == 0 || !reserve(text, size)) {
        return;
    }
    memcpy(text->data + text->size, bytes, (size_t)size);
    text->size += size;
    text->data[text->size] = '\0';
}

void stn__text_add(stn__text *text, const char *string) {
    if (string != NULL) {
        stn__text_bytes(text, string, strlen(string));
    }
}

void stn__text_addf(stn__text *text, const char *format, ...) {
    stn__locale saved;
    if (text->failed || !stn__locale_enter(&saved)) {
        text->failed = true;
        return;
    }
    va_list args;
    va_start(args, format);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (length < 0 || !reserve(text, (uint64_t)length)) {
        text->failed = true;
    } else {
        va_start(args, format);
        (void)vsnprintf(text->data + text->size, (size_t)length + 1, format, args);
        va_end(args);
        text->size += (uint64_t)length;
    }
    stn__locale_leave(&saved);
}

void stn__text_real(stn__text *text, double value) {
    char digits[40];
    stn__locale saved;
    if (text->failed || !stn__locale_enter(&saved)) {
        text->failed = true;
        return;
    }
    for (int precision = 15; precision <= 17; precision++) {
        (void)snprintf(digits, sizeof digits, "%.*g", precision, value);
        if (strtod(digits, NULL) == value) {
            break;
        }
    }
    stn__locale_leave(&saved);
    stn__text_add(text, digits);
}

void stn__text_clear(stn__text *text) {
    text->size = 0;
    text->failed = false;
    if (text->data != NULL) {
        text->data[0] = '\0';
    }
}

void stn__text_free(stn__text *text) {
    stn__free(text->data);
    *text = (stn__text){0};
}

const char *stn__text_get(const stn__text *text) {
    return text->failed || text->data == NULL ? "" : text->data;
}

char *stn__text_take(stn__text *text) {
    bool usable = reserve(text, 0);
    char *string = NULL;
    if (usable) {
        string = text->data;
        string[text->size] = '\0';
        text->data = NULL;
    }
    stn__text_free(text);
    return string;
}

int32_t stn__text_check(const stn__text *text, const char *what, stn_err *err) {
    return text->failed ? stn__nomem(err, what, text->size) : STN_OK;
}

char *stn__strndup(const char *string, uint64_t size) {
    uint64_t bytes = 0;
    if (string == NULL || !stn__add(size, 1, &bytes)) {
        return NULL;
    }
    char *copy = stn__alloc(bytes);
    if (copy != NULL) {
        memcpy(copy, string, (size_t)size);
        copy[size] = '\0';
    }
    return copy;
}

char *stn__strdup(const char *string) {
    return string == NULL ? NULL : stn__strndup(string, strlen(string));
}

bool stn__str_eq(const char *a, const char *b) {
    return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

bool stn__str_starts(const char *string, const char *prefix) {
    return strncmp(string, prefix, strlen(prefix)) == 0;
}

bool stn__str_ends(const char *string, const char *suffix) {
    size_t n = strlen(string), m = strlen(suffix);
    return n >= m && memcmp(string + n - m, suffix, m) == 0;
}

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

bool stn__str_contains_nocase(const char *string, const char *part) {
    for (;; string++) {
        size_t i = 0;
        while (part[i] != '\0' && lower(string[i]) == lower(part[i])) {
            i++;
        }
        if (part[i] == '\0') {
            return true;
        }
        if (*string == '\0') {
            return false;
        }
    }
}

bool stn__is_blank(char c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

char *stn__path_join(const char *dir, const char *name) {
    stn__text path = {0};
    if (name[0] != '/' && dir[0] != '\0') {
        stn__text_add(&path, dir);
        if (!stn__str_ends(dir, "/")) {
            stn__text_add(&path, "/");
        }
    }
    stn__text_add(&path, name);
    return stn__text_take(&path);
}

const char *stn__path_base(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

#define SUGGEST_MAX 63u /* longer names get no suggestion */

/* '-' and '_' and the cases of a letter agree. */
static bool same_letter(char a, char b) {
    char x = lower(a), y = lower(b);
    return x == y || ((x == '-' || x == '_') && (y == '-' || y == '_'));
}

/* Edit distance where two swapped neighbours count once ("bacth"). d[i][j] = distance of the first
 * i and j letters; rows i, i-1 and i-2 are kept. */
static uint32_t distance(const char *a, uint32_t n, const char *b, uint32_t m) {
    uint32_t rows[3][SUGGEST_MAX + 1];
    for (uint32_t i = 0; i <= n; i++) {
        uint32_t *d = rows[i % 3u], *d1 = rows[(i + 2u) % 3u], *d2 = rows[(i + 1u) % 3u];
        for (uint32_t j = 0; j <= m; j++) {
            if (i == 0 || j == 0) {
                d[j] = i + j;
                continue;
            }
            uint32_t best = (d1[j] < d[j - 1] ? d1[j] : d[j - 1]) + 1u;
            uint32_t change = d1[j - 1] + (same_letter(a[i - 1], b[j - 1]) ? 0u : 1u);
            best = change < best ? change : best;
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) &&
                same_letter(a[i - 2], b[j - 1]) && d2[j - 2] + 1u < best) {
                best = d2[j - 2] + 1u;
            }
            d[j] = best;
        }
    }
    return rows[n % 3u][m];
}

const char *stn_suggest(const char *name, const char *const *known, uint32_t n) {
    const char *best = NULL;
    size_t length = name == NULL ? 0 : strlen(name);
    if (length == 0 || length > SUGGEST_MAX) {
        return NULL;
    }
    uint32_t limit = (uint32_t)length / 3u;
    for (uint32_t i = 0; i < n; i++) {
        size_t other = known[i] == NULL ? 0 : strlen(known[i]);
        if (other == 0 || other > SUGGEST_MAX) {
            continue;
        }
        uint32_t d = distance(name, (uint32_t)length, known[i], (uint32_t)other);
        if (d <= limit) {
            best = known[i];
            limit = d == 0 ? 0 : d - 1; /* later ones must be closer */
            if (d == 0) {
                break;
            }
        }
    }
    return best;
}
