/* The argument parser: flags of a command, common flags and keys of the library, in any order.
 * `--name value`, `--name=value`, `-x value`; `--` ends flags. No abbreviations, no guessing: an
 * unknown flag is an error with a suggestion. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stnrun.h"

const flag common_flags[] = {
    {"help", 'h', NULL, "this text"},
    {"quiet", 'q', NULL, "no notes on stderr"},
    {"verbose", 'v', NULL, "more notes on stderr"},
    {"json", 0, NULL, "result as one JSON document on stdout"},
    {"jsonl", 0, NULL, "one JSON record a line, while it runs"},
    {"progress", 0, "auto|always|never", "progress bar on stderr (auto: if it is a terminal)"},
    {"color", 0, "auto|always|never", "colour (auto: on a terminal, unless NO_COLOR is set)"},
    {"plugin", 0, "FILE", "also look at this plugin file (may be repeated)"},
    {NULL, 0, NULL, NULL},
};

int usage_error(const args *a, const char *format, ...) {
    va_list list;
    va_start(list, format);
    fprintf(stderr, "stnrun %s: ", a->command->name);
    vfprintf(stderr, format, list);
    fprintf(stderr, "; see stnrun %s --help\n", a->command->name);
    va_end(list);
    return EXIT_USAGE;
}

static const flag *find_flag(const flag *flags, const char *name, size_t length) {
    for (; flags != NULL && flags->name != NULL; flags++) {
        if (strlen(flags->name) == length && strncmp(flags->name, name, length) == 0) {
            return flags;
        }
    }
    return NULL;
}

static const flag *find_letter(const flag *flags, char letter) {
    for (; flags != NULL && flags->name != NULL; flags++) {
        if (flags->letter == letter && letter != 0) {
            return flags;
        }
    }
    return NULL;
}

static const stn_key_info *find_key(const char *name, size_t length) {
    for (uint32_t i = 0; i < stn_key_count(); i++) {
        const stn_key_info *key = stn_key_get(i);
        if (strlen(key->name) == length && strncmp(key->name, name, length) == 0) {
            return key;
        }
    }
    return NULL;
}

/* "dataset.distortion": checked against the plugin's options by the library. */
static bool is_plugin_key(const char *name) {
    return strncmp(name, "dataset.", 8) == 0 || strncmp(name, "model.", 6) == 0 ||
           strncmp(name, "backend.", 8) == 0;
}

static int unknown_flag(const args *a, const char *name) {
    const char *known[256];
    uint32_t n = 0;
    const flag *lists[2] = {a->command->flags, common_flags};
    for (int l = 0; l < 2; l++) {
        for (const flag *f = lists[l]; f != NULL && f->name != NULL && n < 256; f++) {
            known[n++] = f->name;
        }
    }
    for (uint32_t i = 0; a->command->keys && i < stn_key_count() && n < 256; i++) {
        known[n++] = stn_key_get(i)->name;
    }
    const char *guess = stn_suggest(name, known, n);
    if (guess != NULL) {
        return usage_error(a, "unknown flag --%s, did you mean --%s", name, guess);
    }
    return usage_error(a, "unknown flag --%s", name);
}

static int add(args *a, const char *name, const char *value, const flag *f) {
    if (a->n_settings == MAX_SETTINGS) {
        return usage_error(a, "more than %u flags", MAX_SETTINGS);
    }
    a->setting[a->n_settings++] = (setting){name, value, f};
    return EXIT_OK;
}

/* One "--name", "--name=value" or "--name value"; *next is advanced past a separate value. */
static int parse_long(args *a, char *text, int argc, char **argv, int *next) {
    char *equals = strchr(text, '=');
    size_t length = equals == NULL ? strlen(text) : (size_t)(equals - text);
    const flag *f = find_flag(a->command->flags, text, length);
    if (f == NULL) {
        f = find_flag(common_flags, text, length);
    }
    if (equals != NULL) {
        *equals = 0;
    }
    if (f != NULL && f->value != NULL && f->value[0] == 0) { /* with a value it is a setting */
        if (equals == NULL && (*next >= argc || argv[*next][0] == '-')) {
            return add(a, text, "true", f);
        }
        f = NULL;
    }
    bool takes_value = f != NULL && f->value != NULL;
    const stn_key_info *key = NULL;
    if (f == NULL) {
        key = a->command->keys ? find_key(text, length) : NULL;
        if (key == NULL && !(a->command->keys && is_plugin_key(text))) {
            return unknown_flag(a, text);
        }
        takes_value = key == NULL || strcmp(key->type, "bool") != 0;
    }
    if (f != NULL && !takes_value && equals != NULL) {
        return usage_error(a, "--%s takes no value", text);
    }
    if (equals != NULL) {
        return add(a, text, equals + 1, f);
    }
    if (!takes_value) {
        return add(a, text, "true", f);
    }
    if (*next >= argc) {
        return usage_error(a, "--%s needs a value", text);
    }
    return add(a, text, argv[(*next)++], f);
}

/* "-v", "-c FILE", "-qv". */
static int parse_short(args *a, const char *text, int argc, char **argv, int *next) {
    for (; *text != 0; text++) {
        const flag *f = find_letter(a->command->flags, *text);
        if (f == NULL) {
            f = find_letter(common_flags, *text);
        }
        if (f == NULL) {
            return usage_error(a, "unknown flag -%c", *text);
        }
        const char *value = "true";
        if (f->value != NULL) {
            if (text[1] != 0) {
                return usage_error(a, "-%c takes a value: give it as -%c %s", *text, *text,
                                   f->value);
            }
            if (*next >= argc) {
                return usage_error(a, "-%c needs a value", *text);
            }
            value = argv[(*next)++];
        }
        int status = add(a, f->name, value, f);
        if (status != EXIT_OK) {
            return status;
        }
    }
    return EXIT_OK;
}

int args_parse(args *a, const command *cmd, int argc, char **argv) {
    *a = (args){.command = cmd, .positional = argv};
    bool flags_end = false;
    for (int i = 0; i < argc;) {
        char *text = argv[i++];
        int status = EXIT_OK;
        if (!flags_end && strcmp(text, "--") == 0) {
            flags_end = true;
        } else if (!flags_end && strncmp(text, "--", 2) == 0) {
            status = parse_long(a, text + 2, argc, argv, &i);
        } else if (!flags_end && text[0] == '-' && text[1] != 0) {
            status = parse_short(a, text + 1, argc, argv, &i);
        } else {
            argv[a->n_positional++] = text;
        }
        if (status != EXIT_OK) {
            return status;
        }
    }
    return EXIT_OK;
}

const char *args_value(const args *a, const char *name) {
    for (uint32_t i = a->n_settings; i-- > 0;) {
        if (a->setting[i].flag != NULL && strcmp(a->setting[i].name, name) == 0) {
            return a->setting[i].value;
        }
    }
    return NULL;
}

bool args_has(const args *a, const char *name) {
    return args_value(a, name) != NULL;
}

bool args_number(const args *a, const char *name, uint64_t min, uint64_t max, uint64_t fallback,
                 uint64_t *number) {
    const char *text = args_value(a, name);
    *number = fallback;
    if (text == NULL) {
        return true;
    }
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || *end != 0 || text[0] == '-' || value < min || value > max) {
        (void)usage_error(a, "--%s %s: a whole number from %" PRIu64 " to %" PRIu64 " is needed",
                          name, text, min, max);
        return false;
    }
    *number = value;
    return true;
}

#define HELP_COLUMN 30

/* "  --name VALUE    help"; a long left side takes a line of its own. */
static void print_entry(char letter, const char *name, const char *value, const char *help) {
    char left[160], head[8] = "    ";
    if (letter != 0) {
        (void)snprintf(head, sizeof head, "-%c, ", letter);
    }
    int width = snprintf(left, sizeof left, "%s--%s %s", head, name, value == NULL ? "" : value);
    if (width > HELP_COLUMN) {
        printf("  %s\n  %-*s %s", left, HELP_COLUMN, "", help);
    } else {
        printf("  %-*s %s", HELP_COLUMN, left, help);
    }
}

static void print_flags(const char *title, const flag *flags) {
    if (flags == NULL || flags->name == NULL) {
        return;
    }
    printf("\n%s:\n", title);
    for (; flags->name != NULL; flags++) {
        print_entry(flags->letter, flags->name, flags->value, flags->help);
        putchar('\n');
    }
}

/* A key of the library, with its choices as "a|b|c", its range and its default. */
static void print_key(const stn_key_info *key) {
    char value[128];
    bool choice = strncmp(key->type, "choice:", 7) == 0;
    (void)snprintf(value, sizeof value, "%s", choice ? key->type + 7 : key->type);
    for (char *p = value; choice && *p != 0; p++) {
        *p = *p == ',' ? '|' : *p;
    }
    print_entry(0, key->name, strcmp(value, "bool") == 0 ? "" : value, key->help);
    if (key->range != NULL && key->range[0] != 0) {
        printf(", %s", key->range);
    }
    if (key->def != NULL && key->def[0] != 0) {
        printf(" (%s)", key->def);
    }
    putchar('\n');
}

void print_help(const command *cmd) {
    printf("stnrun %s: %s\n\nexamples:\n", cmd->name, cmd->summary);
    for (const char *line = cmd->examples; *line != 0;) {
        size_t length = strcspn(line, "\n");
        printf("  %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
    printf("\nusage: stnrun %s %s\n", cmd->name, cmd->usage);
    print_flags("flags", cmd->flags);
    if (cmd->keys) {
        printf("\nsettings (also in recipes and as environment variables, see stnrun env):\n");
        for (uint32_t i = 0; i < stn_key_count(); i++) {
            const stn_key_info *key = stn_key_get(i);
            if (find_flag(cmd->flags, key->name, strlen(key->name)) == NULL) {
                print_key(key);
            }
        }
        printf("      --dataset.NAME, --model.NAME, --backend.NAME: options of plugins (stnrun "
               "plugins -v)\n");
    }
    print_flags("common flags", common_flags);
    printf("\nexit status: 0 ok, 1 failure, 2 usage, 3 no device, 4 numbers differ, 5 bad file,\n"
           "6 out of memory, 7 plugin refused, 128+n ended by signal n\n");
}
