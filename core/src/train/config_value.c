/* Values of settings: checks and the canonical text of a number. */
#include <string.h>

#include "base/mem.h"
#include "plugin/options.h"
#include "train/config.h"

bool stn__parse_steps(const char *text, uint64_t *steps, uint32_t *n) {
    uint64_t last = 0;
    for (*n = 0; *n < STN__MAX_LR_STEPS; text++) {
        char number[24];
        size_t size = strcspn(text, ",");
        if (size >= sizeof number) {
            return false;
        }
        memcpy(number, text, size);
        number[size] = '\0';
        if (!stn__parse_u64(number, &steps[*n]) || steps[*n] <= last) {
            return false;
        }
        last = steps[(*n)++];
        text += size;
        if (*text == '\0') {
            return true;
        }
    }
    return false;
}

/* What a line of a recipe could not give back. */
static const char *text_fault(const char *value) {
    size_t size = strlen(value);
    for (size_t i = 0; i < size; i++) {
        if ((unsigned char)value[i] < ' ' || value[i] == 127) {
            return "holds a control character";
        }
        if (value[i] == '#' && (i == 0 || value[i - 1] == ' ')) {
            return "holds a '#' that would begin a comment";
        }
    }
    if (size > 0 && (value[0] == ' ' || value[size - 1] == ' ')) {
        return "begins or ends with a blank";
    }
    return NULL;
}

static int32_t canonical_steps(const char *label, const char *range, const char *value,
                               stn__text *text, stn_err *err) {
    uint64_t steps[STN__MAX_LR_STEPS];
    uint32_t n;
    if (!stn__parse_steps(value, steps, &n)) {
        return stn_fail(err, STN_E_USAGE,
                        "%s: '%.60s' is not a list of numbers (%s), such as 10,20", label, value,
                        range);
    }
    for (uint32_t i = 0; i < n; i++) {
        stn__text_addf(text, "%s%llu", i == 0 ? "" : ",", (unsigned long long)steps[i]);
    }
    return STN_OK;
}

/* In the largest unit that divides it. */
static void add_size(stn__text *text, uint64_t bytes) {
    static const char units[] = "KMGT";
    uint32_t unit = 0;
    for (; bytes != 0 && bytes % 1024u == 0 && units[unit] != '\0'; unit++) {
        bytes /= 1024u;
    }
    stn__text_addf(text, "%llu%.1s", (unsigned long long)bytes, unit == 0 ? "" : &units[unit - 1]);
}

static int32_t canonical(const char *label, const char *type, const char *range, const char *value,
                         stn__text *text, stn_err *err) {
    int64_t integer;
    uint64_t large;
    double real;
    bool boolean;
    if (strcmp(type, "list") == 0) {
        return canonical_steps(label, range, value, text, err);
    }
    STN_TRY(stn__value_check(label, type, range, value, err));
    if (strcmp(type, "int") == 0 && stn__parse_i64(value, &integer)) {
        stn__text_addf(text, "%lld", (long long)integer);
    } else if (strcmp(type, "int") == 0 && stn__parse_u64(value, &large)) {
        stn__text_addf(text, "%llu", (unsigned long long)large);
    } else if (strcmp(type, "size") == 0 && stn__parse_size(value, &large)) {
        add_size(text, large);
    } else if (strcmp(type, "float") == 0 && stn__parse_real(value, &real)) {
        stn__text_real(text, real == 0 ? 0 : real); /* no -0 */
    } else if (strcmp(type, "bool") == 0 && stn__parse_bool(value, &boolean)) {
        stn__text_add(text, boolean ? "true" : "false");
    } else {
        const char *fault = text_fault(value);
        if (fault != NULL) {
            return stn_fail(err, STN_E_USAGE, "%s: the value %s", label, fault);
        }
        stn__text_add(text, value);
    }
    return STN_OK;
}

int32_t stn__value_canonical(const char *label, const char *type, const char *range,
                             const char *value, char **out, stn_err *err) {
    stn__text text = {0};
    *out = NULL;
    int32_t status = canonical(label, type, range, value, &text, err);
    if (status == STN_OK) {
        status = stn__text_check(&text, "setting", err);
    }
    if (status == STN_OK) {
        *out = text.data != NULL ? stn__text_take(&text) : stn__strdup("");
        status = *out == NULL ? stn__nomem(err, "setting", 1) : STN_OK;
    }
    stn__text_free(&text);
    return status;
}
