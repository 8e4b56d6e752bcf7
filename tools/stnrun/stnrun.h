/* stnrun: what its commands share. Written with <stn/stn.h> alone; jansson writes JSON.
 *
 * A command is one entry of the table in main.c and one file cmd_NAME.c. Its flags are its own
 * ones, the common ones, and, where `keys` is set, every key of the library's table. Results go to
 * stdout, messages and progress to stderr. A command returns the exit status.
 */
#ifndef STNRUN_H
#define STNRUN_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include <stn/stn.h>

enum { EXIT_OK = 0, EXIT_FAIL = 1, EXIT_USAGE = 2, EXIT_NODEVICE = 3, EXIT_MISMATCH = 4 };

/* ---- arguments (args.c) ---------------------------------------------------------------------- */

/* value: what the flag takes, for the help text ("FILE"); NULL for a switch. */
typedef struct flag {
    const char *name;
    char letter;
    const char *value, *help;
} flag;

typedef struct args args;

typedef struct command {
    const char *name, *summary;
    const char *usage;    /* after "stnrun NAME" */
    const char *examples; /* shown first by --help, one a line */
    const flag *flags;    /* ended by a NULL name; may be NULL */
    bool keys;            /* accepts the library's keys as flags */
    int (*run)(args *a);
} command;

#define MAX_SETTINGS 128u

/* A flag or key as given. Strings point into argv. */
typedef struct setting {
    const char *name, *value;
    const flag *flag; /* NULL: a key of the library */
} setting;

struct args {
    const command *command;
    setting setting[MAX_SETTINGS];
    uint32_t n_settings;
    char **positional;
    uint32_t n_positional;
};

extern const flag common_flags[];

/* Splits argv (without program and command name) by the command's flags. On a mistake prints one
 * line with a suggestion and returns EXIT_USAGE. argv is modified. */
int args_parse(args *a, const command *cmd, int argc, char **argv);
/* The last value given for a flag of the command or a common one; NULL if absent. */
const char *args_value(const args *a, const char *name);
bool args_has(const args *a, const char *name);
/* The whole number given for a flag, `fallback` if absent. False (after a message) if it is not a
 * number within [min, max]. */
bool args_number(const args *a, const char *name, uint64_t min, uint64_t max, uint64_t fallback,
                 uint64_t *number);
void print_help(const command *cmd);
/* Prints "stnrun NAME: text" and where to find help; returns EXIT_USAGE. */
int usage_error(const args *a, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The table of commands (main.c), ended by a NULL name. */
extern const command commands[];

/* ---- output (out.c) -------------------------------------------------------------------------- */

/* How much to say and where; set once from the common flags. */
typedef struct output {
    bool json, jsonl, quiet, color;
    int verbose;
    bool progress_bar; /* stderr shows a bar; otherwise plain lines at intervals */
    bool progress;     /* any progress at all */
} output;
extern output out;

/* Reads the common flags; false after a message if one is wrong. */
bool output_setup(const args *a);
/* The context's log function. */
void log_line(void *user, int32_t level, const char *line);
/* Prints the error on stderr and returns the documented exit status. */
int fail(const stn_err *err);
/* A line on stderr unless --quiet. */
void note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Writes a JSON document (one line for --jsonl) on stdout and releases it. */
int print_json(json_t *document);
/* Flushes stdout; a failed write is an error (a closed pipe has ended the program before). */
int finish_output(int status);
const char *kind_name(uint32_t kind);
/* "1.5 MiB" into buf. */
const char *bytes_text(uint64_t bytes, char buf[32]);

/* Progress display: a bar on a terminal, otherwise a plain line every ten seconds and at the end.
 * `what` is the verb shown ("train", "test"). Use progress_show as stn_progress_fn. */
typedef struct progress_view {
    const char *what;
    uint64_t start;   /* step at which this session began */
    double last_line; /* seconds of the last plain line */
    bool drawn;
} progress_view;
void progress_show(progress_view *view, const stn_progress *progress);
void progress_clear(progress_view *view);

/* ---- signals (out.c) ------------------------------------------------------------------------- */

/* First SIGINT or SIGTERM: recorded; second SIGINT: the process ends at once. SIGHUP and SIGUSR1
 * are recorded. A signal number, or 0. */
void signals_setup(void);
int signal_stop(void);
bool signal_pending_hup(void);
bool signal_take_hup(void);
bool signal_take_usr1(void);

/* ---- common steps (setup.c) ------------------------------------------------------------------ */

/* Opens the context with --plugin and STN_PLUGIN_PATH. */
int open_context(const args *a, stn_ctx **ctx);
/* defaults < files < recipe < environment < flags; checked. `recipe` may be NULL (then --recipe or
 * STN_RECIPE). `extra` is a list of key, value pairs ended by NULL that count as flags. */
int open_config(const args *a, stn_ctx *ctx, const char *recipe, const char *const *extra,
                stn_config **config);
/* The same into an existing config. `text`, if not NULL, takes the place of the recipe, `where`
 * names it in messages. */
int32_t fill_config(const args *a, const char *recipe, const char *text, const char *where,
                    const char *const *extra, stn_config *config, stn_err *err);
/* Opens the device that the config asks for, with the backend's options taken from the config. */
int open_device(stn_ctx *ctx, const stn_config *config, stn_dev **dev);
/* Admits the run's device: self-test passed, --override-selftest (the run is then marked), or
 * --math fast. */
int gate_run(const args *a, const stn_config *config, stn_run *run);
/* "opencl:0 pthread-... (cpu-vector)" */
const char *device_text(const stn_dev *dev, char *buf, size_t cap);
json_t *device_json(const stn_device_entry *entry);
/* The newest checkpoint: FILE itself, or DIR/ckpt-*.stn with the highest step.
 * False (after a message) if there is none. */
bool find_checkpoint(const char *path, char *file, size_t cap);

/* Flags several commands use. */
#define FLAG_CHECKPOINT                                                                            \
    { "checkpoint", 'c', "FILE|DIR", "checkpoint, or run directory (its newest)" }

#define FLAGS_SIDES                                                                                \
    {"backends", 0, "LIST", "one side per backend: cpu,opencl"},                                   \
        {"devices", 0, "LIST", "one side per device of --backend"},                                \
        {"variants", 0, "LIST", "one side per OpenCL kernel class: cpu-vector,gpu"},               \
        {"threads", 0, "LIST", "one side per thread count: 1,2,7"},                                \
        {"cpu-kernels", 0, "LIST", "one side per kernel set: ref,avx2"}, {                         \
        "math", 0, "LIST", "one side per arithmetic: exact,fast"                                   \
    }

int cmd_train(args *a);
int cmd_eval(args *a);
int cmd_compare(args *a);
int cmd_bench(args *a);
int cmd_devices(args *a);
int cmd_plugins(args *a);
int cmd_ops(args *a);
int cmd_models(args *a);
int cmd_datasets(args *a);
int cmd_recipes(args *a);
int cmd_selftest(args *a);
int cmd_check(args *a);
int cmd_ckpt(args *a);
int cmd_picture(args *a);
int cmd_env(args *a);
int cmd_version(args *a);
int cmd_help(args *a);

#endif
