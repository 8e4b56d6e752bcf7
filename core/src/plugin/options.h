/* Checks of option values against a plugin's option list (and of config values against theirs).
 *
 * Types: "int", "size", "float", "string", "bool", "choice:a,b,c". Ranges that are enforced:
 * "a..b", "a..",
 * "..b" with numbers a, b included; any other text is only shown to the user.
 */
#ifndef STN_PLUGIN_OPTIONS_H
#define STN_PLUGIN_OPTIONS_H

#include <stn/plugin.h>

/* E_USAGE if `value` is not of the type or out of its range. `label` begins the message, for
 * example "--lr" or "option 'threads' of backend 'cpu'". range may be NULL. */
int32_t stn__value_check(const char *label, const char *type, const char *range, const char *value,
                         stn_err *err);
/* One option of `owner` ("backend 'cpu'"): unknown names are E_USAGE with a suggestion. */
int32_t stn__option_check(const stn_option_info *list, uint32_t n, const char *owner,
                          const char *name, const char *value, stn_err *err);
/* All pairs; options may be NULL. */
int32_t stn__options_check(const stn_option_info *list, uint32_t n, const char *owner,
                           const stn_options *options, stn_err *err);

#endif
