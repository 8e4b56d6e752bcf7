/* stnrun eval: the test (or training) error of a checkpoint, over passes with fresh transforms. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "session.h"

static int on_progress(void *user, const stn_progress *p) {
    progress_show(user, p);
    return signal_stop() != 0;
}

static int print_result(const session *s, const char *file, const char *split,
                        const stn_eval_result *r) {
    uint32_t listed = r->passes < 32 ? r->passes : 32;
    if (out.json || out.jsonl) {
        json_t *passes = json_array();
        for (uint32_t i = 0; i < listed; i++) {
            json_array_append_new(passes, json_real(r->pass_error[i]));
        }
        json_t *result = json_pack(
            "{s:s, s:s, s:s, s:I, s:I, s:I, s:i, s:f, s:f, s:o, s:b, s:o}", "schema",
            "stnrun-eval/1", "checkpoint", file, "split", split, "step",
            (json_int_t)stn_run_step(s->run), "images", (json_int_t)r->images, "wrong",
            (json_int_t)r->wrong, "passes", (int)r->passes, "error_percent", r->error_percent,
            "loss", r->loss, "pass_error_percent", passes, "reproducible",
            (int)stn_run_reproducible(s->run), "device", device_json(stn_dev_info(s->dev)));
        if (r->pose_std >= 0) {
            json_object_set_new(result, "pose_std", json_real(r->pose_std));
            json_object_set_new(result, "pose_unit", json_string(r->pose_unit));
        }
        return print_json(result);
    }
    printf("%s, step %" PRIu64 "\n%s error %.3f %% (%" PRIu64 " of %" PRIu64
           " images), loss %.5f\n",
           file, stn_run_step(s->run), split, r->error_percent, r->wrong, r->images, r->loss);
    for (uint32_t i = 0; i < listed && r->passes > 1; i++) {
        printf("  pass %u: %.3f %%\n", i + 1, r->pass_error[i]);
    }
    if (r->pose_std >= 0) {
        printf("pose spread %.3f %s\n", r->pose_std, r->pose_unit);
    }
    fputs(session_mark(s), stdout);
    return EXIT_OK;
}

static int evaluate(const args *a, session *s, const char *file) {
    const char *split = args_value(a, "split");
    uint32_t part = STN_SPLIT_TEST;
    if (split == NULL) {
        split = "test";
    } else if (strcmp(split, "train") == 0) {
        part = STN_SPLIT_TRAIN;
    } else if (strcmp(split, "test") != 0) {
        return usage_error(a, "--split %s: test or train is needed", split);
    }
    int64_t passes = stn_config_int(s->config, "eval-passes");
    progress_view view = {.what = split};
    stn_eval_result result;
    stn_err err = {0};
    signals_setup();
    int32_t status = stn_run_eval(s->run, part, passes < 1 ? 1 : (uint32_t)passes, on_progress,
                                  &view, &result, &err);
    progress_clear(&view);
    if (status == STN_E_INTERRUPTED && signal_stop() != 0) {
        return 128 + signal_stop();
    }
    return status == STN_OK ? print_result(s, file, split, &result) : fail(&err);
}

int cmd_eval(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'; give --checkpoint", a->positional[0]);
    }
    session s = {0};
    char file[4096];
    int status = session_open_checkpoint(a, &s, NULL, file, sizeof file);
    if (status == EXIT_OK) {
        status = evaluate(a, &s, file);
    }
    session_close(&s);
    return status;
}
