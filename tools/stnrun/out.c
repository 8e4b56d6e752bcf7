/* Streams, progress and signals. */
#define _POSIX_C_SOURCE 200809L
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "stnrun.h"

output out;

/* auto, always or never; false if it is none of them. */
static bool three_way(const char *text, bool automatic, bool *on) {
    if (text == NULL || strcmp(text, "auto") == 0) {
        *on = automatic;
    } else if (strcmp(text, "always") == 0) {
        *on = true;
    } else if (strcmp(text, "never") == 0) {
        *on = false;
    } else {
        return false;
    }
    return true;
}

static bool env_set(const char *name) {
    const char *value = getenv(name);
    return value != NULL && value[0] != 0;
}

bool output_setup(const args *a) {
    bool terminal = isatty(STDERR_FILENO) == 1;
    const char *term = getenv("TERM");
    bool dumb = term == NULL || strcmp(term, "dumb") == 0;
    out.json = args_has(a, "json");
    out.jsonl = args_has(a, "jsonl");
    out.quiet = args_has(a, "quiet");
    for (uint32_t i = 0; i < a->n_settings; i++) {
        out.verbose += strcmp(a->setting[i].name, "verbose") == 0;
    }
    if (out.json && out.jsonl) {
        (void)usage_error(a, "--json and --jsonl exclude each other");
        return false;
    }
    if (!three_way(args_value(a, "progress"), terminal && !dumb, &out.progress_bar)) {
        (void)usage_error(a, "--progress %s: auto, always or never is needed",
                          args_value(a, "progress"));
        return false;
    }
    const char *progress = args_value(a, "progress");
    out.progress = !out.quiet && !(progress != NULL && strcmp(progress, "never") == 0);
    out.progress_bar = out.progress_bar && out.progress;
    bool automatic = (terminal && !dumb && !env_set("NO_COLOR")) || env_set("FORCE_COLOR") ||
                     env_set("CLICOLOR_FORCE");
    if (!three_way(args_value(a, "color"), automatic, &out.color)) {
        (void)usage_error(a, "--color %s: auto, always or never is needed", args_value(a, "color"));
        return false;
    }
    return true;
}

void log_line(void *user, int32_t level, const char *line) {
    (void)user;
    static const char *const names[] = {"error: ", "warning: ", "", ""};
    int32_t limit = out.quiet ? STN_LOG_ERROR : STN_LOG_WARN + out.verbose;
    if (level <= limit && level >= 0) {
        fprintf(stderr, "stnrun: %s%s\n", names[level > 3 ? 3 : level], line);
    }
}

int fail(const stn_err *err) {
    const char *red = out.color ? "\033[31m" : "", *plain = out.color ? "\033[0m" : "";
    fprintf(stderr, "%sstnrun: %s%s\n", red,
            err->text[0] != 0 ? err->text : stn_status_text(err->code), plain);
    int status = stn_status_exit(err->code);
    return status == EXIT_OK ? EXIT_FAIL : status;
}

void note(const char *format, ...) {
    if (out.quiet) {
        return;
    }
    va_list list;
    va_start(list, format);
    vfprintf(stderr, format, list);
    fputc('\n', stderr);
    va_end(list);
}

int print_json(json_t *document) {
    size_t layout = out.jsonl ? JSON_COMPACT : JSON_INDENT(2);
    char *text = document == NULL ? NULL : json_dumps(document, layout | JSON_REAL_PRECISION(17));
    json_decref(document);
    if (text == NULL) {
        fprintf(stderr, "stnrun: out of memory for the JSON result\n");
        return 6;
    }
    puts(text);
    free(text);
    if (out.jsonl) {
        (void)fflush(stdout);
    }
    return EXIT_OK;
}

int finish_output(int status) {
    if (fflush(stdout) != 0 || ferror(stdout) != 0) {
        perror("stnrun: writing the result");
        return status == EXIT_OK ? EXIT_FAIL : status;
    }
    return status;
}

const char *kind_name(uint32_t kind) {
    switch (kind) {
    case STN_KIND_BACKEND:
        return "backend";
    case STN_KIND_DATASET:
        return "dataset";
    case STN_KIND_MODEL:
        return "model";
    default:
        return "unknown";
    }
}

const char *bytes_text(uint64_t bytes, char buf[32]) {
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    double value = (double)bytes;
    int unit = 0;
    while (value >= 1024 && unit < 4) {
        value /= 1024;
        unit++;
    }
    (void)snprintf(buf, 32, "%.*f %s", unit == 0 ? 0 : 1, value, units[unit]);
    return buf;
}

/* "1:02:03", "2:03" */
static const char *time_text(double seconds, char buf[32]) {
    uint64_t s = seconds < 0 || seconds > 1e9 ? 0 : (uint64_t)(seconds + 0.5);
    if (s >= 3600) {
        (void)snprintf(buf, 32, "%" PRIu64 ":%02" PRIu64 ":%02" PRIu64, s / 3600, s / 60 % 60,
                       s % 60);
    } else {
        (void)snprintf(buf, 32, "%" PRIu64 ":%02" PRIu64, s / 60, s % 60);
    }
    return buf;
}

void progress_show(progress_view *view, const stn_progress *p) {
    if (!out.progress) {
        return;
    }
    double done = p->total > 0 ? (double)p->step / (double)p->total : 0;
    uint64_t new_steps = p->step > view->start ? p->step - view->start : 0;
    double left = new_steps > 0 ? p->seconds * (double)(p->total - p->step) / (double)new_steps : 0;
    char eta[32], bar[31], loss[48] = "";
    if (p->loss > 0) { /* passes of an evaluation have none */
        (void)snprintf(loss, sizeof loss, "  loss %.4f", p->loss);
    }
    if (out.progress_bar) {
        for (int i = 0; i < 30; i++) {
            bar[i] = i < (int)(done * 30) ? '#' : '.';
        }
        bar[30] = 0;
        fprintf(stderr, "\r%s [%s]", view->what, bar);
        view->drawn = true;
    } else if (p->step == p->total || p->seconds - view->last_line >= 10 ||
               p->seconds < view->last_line) {
        view->last_line = p->seconds;
        fputs(view->what, stderr);
    } else {
        return;
    }
    fprintf(stderr, " %" PRIu64 "/%" PRIu64 "%s  error %.2f %%  %.0f images/s  ETA %s%s", p->step,
            p->total, loss, p->error_percent, p->images_per_s, time_text(left, eta),
            out.progress_bar ? " \033[K" : "\n");
}

void progress_clear(progress_view *view) {
    if (view->drawn) {
        fputs("\r\033[K", stderr);
        view->drawn = false;
    }
}

static volatile sig_atomic_t stop_signal, hup_signal, usr1_signal;

static void on_signal(int number) {
    if (number == SIGHUP) {
        hup_signal = 1;
    } else if (number == SIGUSR1) {
        usr1_signal = 1;
    } else if (number == SIGINT && stop_signal != 0) {
        _exit(128 + SIGINT);
    } else {
        stop_signal = number;
    }
}

void signals_setup(void) {
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR1};
    struct sigaction action = {.sa_handler = on_signal};
    (void)sigemptyset(&action.sa_mask);
    action.sa_flags = SA_RESTART;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        (void)sigaction(numbers[i], &action, NULL);
    }
}

int signal_stop(void) {
    return (int)stop_signal;
}

bool signal_pending_hup(void) {
    return hup_signal != 0;
}

bool signal_take_hup(void) {
    bool set = hup_signal != 0;
    hup_signal = 0;
    return set;
}

bool signal_take_usr1(void) {
    bool set = usr1_signal != 0;
    usr1_signal = 0;
    return set;
}
