/* Option names, types and ranges. */
#include "plugin/options.h"

#include <math.h>
#include <string.h>

#include <stn/stn.h>

#include "base/text.h"

#define MAX_CHOICES 64u

/* A number of a range's end, taken from [begin, end); an empty one is open. */
static bool parse_bound(const char *begin, const char *end, double open, double *bound) {
    char digits[64];
    size_t size = (size_t)(end - begin);
    if (size >= sizeof digits) {
        return false;
    }
    memcpy(digits, begin, size);
    digits[size] = '\0';
    *bound = open;
    return size == 0 || stn__parse_real(digits, bound);
}

static bool in_range(const char *range, double value) {
    double low = 0.0, high = 0.0;
    const char *dots = range == NULL ? NULL : strstr(range, "..");
    if (dots == NULL || !parse_bound(range, dots, -HUGE_VAL, &low) ||
        !parse_bound(dots + 2, dots + strlen(dots), HUGE_VAL, &high)) {
        return true;
    }
    return value >= low && value <= high;
}

static int32_t bad_value(const char *label, const char *value, const char *want, stn_err *err) {
    return stn_fail(err, STN_E_USAGE, "%s: '%.60s' is not %s", label, value, want);
}

static int32_t check_number(const char *label, const char *type, const char *range,
                            const char *value, stn_err *err) {
    double real = 0.0;
    int64_t whole = 0;
    uint64_t large = 0;
    if (stn__str_eq(type, "size")) {
        if (!stn__parse_size(value, &large)) {
            return bad_value(label, value, "a size such as 512M or 2G", err);
        }
        real = (double)large;
    } else if (stn__str_eq(type, "int")) {
        /* Seeds use all 64 bits. */
        if (stn__parse_i64(value, &whole)) {
            real = (double)whole;
        } else if (stn__parse_u64(value, &large)) {
            real = (double)large;
        } else {
            return bad_value(label, value, "a whole number", err);
        }
    } else if (!stn__parse_real(value, &real)) {
        return bad_value(label, value, "a number", err);
    }
    if (!in_range(range, real)) {
        return stn_fail(err, STN_E_USAGE, "%s: %.60s is out of range, allowed is %s", label, value,
                        range);
    }
    return STN_OK;
}

static int32_t check_choice(const char *label, const char *list, const char *value, stn_err *err) {
    char copy[1024];
    const char *choices[MAX_CHOICES];
    uint32_t n = 0;
    (void)snprintf(copy, sizeof copy, "%s", list);
    for (char *c = copy; c != NULL && n < MAX_CHOICES; n++) {
        choices[n] = c;
        c = strchr(c, ',');
        if (c != NULL) {
            *c++ = '\0';
        }
        if (strcmp(choices[n], value) == 0) {
            return STN_OK;
        }
    }
    const char *near = stn_suggest(value, choices, n);
    if (near != NULL) {
        return stn_fail(err, STN_E_USAGE, "%s: '%.60s' is unknown, did you mean '%s'?", label,
                        value, near);
    }
    return stn_fail(err, STN_E_USAGE, "%s: '%.60s' is unknown, choose one of %s", label, value,
                    list);
}

int32_t stn__value_check(const char *label, const char *type, const char *range, const char *value,
                         stn_err *err) {
    bool flag = false;
    if (stn__str_eq(type, "int") || stn__str_eq(type, "float") || stn__str_eq(type, "size")) {
        return check_number(label, type, range, value, err);
    }
    if (stn__str_eq(type, "bool") && !stn__parse_bool(value, &flag)) {
        return bad_value(label, value, "true or false", err);
    }
    if (stn__str_starts(type, "choice:")) {
        return check_choice(label, type + strlen("choice:"), value, err);
    }
    return STN_OK;
}

static int32_t unknown_option(const stn_option_info *list, uint32_t n, const char *owner,
                              const char *name, stn_err *err) {
    const char *near = NULL;
    stn__text all = {0};
    for (uint32_t i = 0; i < n; i++) {
        const char *better = stn_suggest(name, &list[i].name, 1);
        near = near == NULL ? better : near;
        stn__text_addf(&all, "%s%s", i == 0 ? "" : ", ", list[i].name);
    }
    if (near != NULL) {
        stn_fail(err, STN_E_USAGE, "%s has no option '%.60s', did you mean '%s'?", owner, name,
                 near);
    } else if (n > 0) {
        stn_fail(err, STN_E_USAGE, "%s has no option '%.60s'; it has %s", owner, name,
                 stn__text_get(&all));
    } else {
        stn_fail(err, STN_E_USAGE, "%s has no option '%.60s'; it has none", owner, name);
    }
    stn__text_free(&all);
    return STN_E_USAGE;
}

int32_t stn__option_check(const stn_option_info *list, uint32_t n, const char *owner,
                          const char *name, const char *value, stn_err *err) {
    for (uint32_t i = 0; i < n; i++) {
        if (stn__str_eq(list[i].name, name)) {
            char label[128];
            (void)snprintf(label, sizeof label, "option '%s' of %s", name, owner);
            return stn__value_check(label, list[i].type, list[i].range, value, err);
        }
    }
    return unknown_option(list, n, owner, name, err);
}

int32_t stn__options_check(const stn_option_info *list, uint32_t n, const char *owner,
                           const stn_options *options, stn_err *err) {
    for (uint32_t i = 0; options != NULL && i < options->count; i++) {
        STN_TRY(stn__option_check(list, n, owner, options->name[i], options->value[i], err));
    }
    return STN_OK;
}
