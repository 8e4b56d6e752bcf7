/* Strict number parsers: the grammar is checked by hand, the value is then exact. */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/locale.h"
#include "base/text.h"

static bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

/* One or more decimal digits up to the end of the string. */
static bool parse_magnitude(const char *digits, uint64_t *out) {
    uint64_t value = 0;
    if (*digits == '\0') {
        return false;
    }
    for (; *digits != '\0'; digits++) {
        uint64_t digit = (uint64_t)(*digits - '0');
        if (!is_digit(*digits) || value > (UINT64_MAX - digit) / 10u) {
            return false;
        }
        value = value * 10u + digit;
    }
    *out = value;
    return true;
}

bool stn__parse_u64(const char *string, uint64_t *out) {
    return parse_magnitude(string[0] == '+' ? string + 1 : string, out);
}

bool stn__parse_size(const char *string, uint64_t *out) {
    static const char units[] = "KMGT";
    char digits[24];
    size_t size = strlen(string);
    const char *unit = size == 0 ? NULL : strchr(units, string[size - 1]);
    uint32_t shift = unit == NULL ? 0 : 10u * (uint32_t)(unit - units + 1);
    size -= unit != NULL ? 1 : 0;
    if (size == 0 || size >= sizeof digits) {
        return false;
    }
    memcpy(digits, string, size);
    digits[size] = '\0';
    if (!parse_magnitude(digits, out) || *out > (uint64_t)INT64_MAX >> shift) {
        return false;
    }
    *out <<= shift;
    return true;
}

bool stn__parse_i64(const char *string, int64_t *out) {
    bool negative = string[0] == '-';
    uint64_t magnitude = 0;
    uint64_t limit = (uint64_t)INT64_MAX + (negative ? 1u : 0u);
    if (!parse_magnitude(negative || string[0] == '+' ? string + 1 : string, &magnitude) ||
        magnitude > limit) {
        return false;
    }
    if (negative) {
        *out = magnitude == limit ? INT64_MIN : -(int64_t)magnitude;
    } else {
        *out = (int64_t)magnitude;
    }
    return true;
}

static const char *skip_digits(const char *s) {
    while (is_digit(*s)) {
        s++;
    }
    return s;
}

/* [+-] digits [. digits] [e [+-] digits], with a digit before or after the point. */
static bool is_real(const char *s) {
    s += *s == '+' || *s == '-';
    const char *end = skip_digits(s);
    bool any = end != s;
    if (*end == '.') {
        s = end + 1;
        end = skip_digits(s);
        any = any || end != s;
    }
    if (any && (*end == 'e' || *end == 'E')) {
        s = end + 1;
        s += *s == '+' || *s == '-';
        end = skip_digits(s);
        any = end != s;
    }
    return any && *end == '\0';
}

bool stn__parse_real(const char *string, double *out) {
    stn__locale saved;
    if (!is_real(string) || !stn__locale_enter(&saved)) {
        return false;
    }
    double value = strtod(string, NULL);
    stn__locale_leave(&saved);
    if (isinf(value)) {
        return false;
    }
    *out = value;
    return true;
}

bool stn__parse_bool(const char *string, bool *out) {
    static const char *const names[2][4] = {{"false", "no", "off", "0"},
                                            {"true", "yes", "on", "1"}};
    for (int value = 0; value < 2; value++) {
        for (int i = 0; i < 4; i++) {
            if (stn__str_eq(string, names[value][i])) {
                *out = value == 1;
                return true;
            }
        }
    }
    return false;
}
