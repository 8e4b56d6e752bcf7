/* stnrun train: one run from a recipe to its end (or to an interruption), with or without a run
 * directory. Without --out nothing is written. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

typedef struct training {
    session s;
    progress_view view;
    stn_eval_result eval;
    bool evaluated;
    char hash[STN_HASH_HEX];
} training;

static int print_config(const stn_config *config) {
    if (out.json || out.jsonl) {
        json_t *items = json_object();
        for (uint32_t i = 0; i < stn_config_count(config); i++) {
            stn_config_item item;
            if (stn_config_item_at(config, i, &item) == STN_OK) {
                json_object_set_new(items, item.key,
                                    json_pack("{s:s?, s:s, s:b}", "value", item.value, "from",
                                              item.where, "identity", (int)item.identity));
            }
        }
        return print_json(json_pack("{s:s, s:o}", "schema", "stnrun-config/1", "config", items));
    }
    for (uint32_t i = 0; i < stn_config_count(config); i++) {
        stn_config_item item;
        if (stn_config_item_at(config, i, &item) == STN_OK) {
            printf("%-24s = %-20s # %s\n", item.key, item.value == NULL ? "" : item.value,
                   item.where);
        }
    }
    return EXIT_OK;
}

static void print_record(const stn_progress *p) {
    (void)print_json(json_pack("{s:s, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:f}", "record", "train",
                               "step", (json_int_t)p->step, "total", (json_int_t)p->total, "epoch",
                               p->epoch, "loss", p->loss, "error_percent", p->error_percent, "lr",
                               p->lr, "images_per_s", p->images_per_s, "seconds", p->seconds));
}

static int on_progress(void *user, const stn_progress *p) {
    training *t = user;
    if (out.jsonl) {
        print_record(p);
    }
    progress_show(&t->view, p);
    if (signal_take_usr1()) {
        progress_clear(&t->view);
        fprintf(stderr, "step %" PRIu64 " of %" PRIu64 ", loss %.6f, %.0f images/s\n", p->step,
                p->total, p->loss, p->images_per_s);
    }
    return signal_stop() != 0 || signal_pending_hup();
}

static int on_eval_progress(void *user, const stn_progress *p) {
    training *t = user;
    progress_show(&t->view, p);
    return signal_stop() != 0;
}

/* Trains to `until`; SIGHUP saves and goes on. */
static int32_t train_on(training *t, uint64_t until, stn_err *err) {
    for (;;) {
        int32_t status = stn_run_train(t->s.run, until, on_progress, t, err);
        if (status != STN_E_INTERRUPTED || signal_stop() != 0 || !signal_take_hup()) {
            return status;
        }
        note("saved at step %" PRIu64 ", going on", stn_run_step(t->s.run));
    }
}

static int print_result(const training *t) {
    uint64_t step = stn_run_step(t->s.run);
    if (out.json || out.jsonl) {
        json_t *result = json_pack(
            "{s:s, s:s, s:I, s:I, s:s, s:s, s:b, s:o}", "schema", "stnrun-train/1", "record",
            "result", "step", (json_int_t)step, "length", (json_int_t)stn_run_length(t->s.run),
            "state_hash", t->hash, "contract", STN_CONTRACT, "reproducible",
            (int)stn_run_reproducible(t->s.run), "device", device_json(stn_dev_info(t->s.dev)));
        if (t->evaluated) {
            json_object_set_new(result, "test_error_percent", json_real(t->eval.error_percent));
            json_object_set_new(result, "test_loss", json_real(t->eval.loss));
        }
        return print_json(result);
    }
    printf("steps %" PRIu64 " of %" PRIu64 "\nstate hash %s\n", step, stn_run_length(t->s.run),
           t->hash);
    if (t->evaluated) {
        printf("test error %.3f %% (%" PRIu64 " of %" PRIu64 " images, %u passes)\n",
               t->eval.error_percent, t->eval.wrong, t->eval.images, t->eval.passes);
    }
    fputs(session_mark(&t->s), stdout);
    return EXIT_OK;
}

static int32_t evaluate(training *t, stn_err *err) {
    int64_t passes = stn_config_int(t->s.config, "eval-passes");
    if (passes <= 0 || stn_run_step(t->s.run) < stn_run_length(t->s.run)) {
        return STN_OK;
    }
    t->view = (progress_view){.what = "test"};
    int32_t status = stn_run_eval(t->s.run, STN_SPLIT_TEST, (uint32_t)passes, on_eval_progress, t,
                                  &t->eval, err);
    t->evaluated = status == STN_OK;
    progress_clear(&t->view);
    return status;
}

/* The exit status for an interrupted run: 128 + the signal that stopped it. */
static int interrupted(const training *t, const char *dir) {
    note("interrupted after step %" PRIu64 "%s%s%s", stn_run_step(t->s.run),
         dir == NULL ? "; nothing was saved (no --out)" : "; saved in ", dir == NULL ? "" : dir,
         dir == NULL ? "" : ", go on with --resume");
    return 128 + signal_stop();
}

static int run_training(const args *a, training *t, const char *dir) {
    stn_err err = {0};
    uint64_t until;
    if (!args_number(a, "until", 1, UINT64_MAX / 2, 0, &until)) {
        return EXIT_USAGE;
    }
    if (dir != NULL && stn_run_directory(t->s.run, dir, args_has(a, "resume"), &err) != STN_OK) {
        return fail(&err);
    }
    if (dir != NULL && args_has(a, "resume")) {
        note("resuming at step %" PRIu64, stn_run_step(t->s.run));
    }
    signals_setup();
    t->view = (progress_view){.what = "train", .start = stn_run_step(t->s.run)};
    int32_t status = train_on(t, until, &err);
    progress_clear(&t->view);
    if (status == STN_OK) {
        status = evaluate(t, &err);
    }
    if (status == STN_E_INTERRUPTED && signal_stop() != 0) {
        return interrupted(t, dir);
    }
    if (status == STN_OK) {
        status = stn_run_state_hash(t->s.run, t->hash, &err);
    }
    return status == STN_OK ? print_result(t) : fail(&err);
}

/* The recipe to start from: with --resume the run directory's own, unless one is given. */
static int open_train_config(const args *a, session *s, const char *dir) {
    char recipe[4096];
    const char *start = NULL;
    if (args_has(a, "resume")) {
        if (dir == NULL) {
            return usage_error(a, "--resume needs --out DIR, the run directory to go on with");
        }
        if (args_value(a, "recipe") == NULL) {
            if (snprintf(recipe, sizeof recipe, "%s/recipe", dir) >= (int)sizeof recipe) {
                return usage_error(a, "--out: the name is too long");
            }
            start = recipe;
        }
    }
    return open_config(a, s->ctx, start, NULL, &s->config);
}

int cmd_train(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    training t = {0};
    const char *dir = args_value(a, "out");
    int status = open_context(a, &t.s.ctx);
    if (status == EXIT_OK) {
        status = open_train_config(a, &t.s, dir);
    }
    if (status == EXIT_OK && args_has(a, "print-config")) {
        status = print_config(t.s.config);
    } else if (status == EXIT_OK) {
        dir = dir != NULL ? dir : stn_config_get(t.s.config, "out");
        status = session_open_run(a, &t.s, NULL);
        if (status == EXIT_OK) {
            status = run_training(a, &t, dir);
        }
    }
    session_close(&t.s);
    return status;
}
