/* Opening what train, eval, picture and compare work with. */
#include <stdio.h>
#include <string.h>

#include "session.h"

static void compile_progress(void *user, uint32_t done, uint32_t total) {
    (void)user;
    if (out.progress_bar) {
        fprintf(stderr, "\rcompiling kernels %u/%u\033[K%s", done, total,
                done == total ? "\r\033[K" : "");
    }
}

static void note_run(const session *s) {
    char text[512], size[32], parts[64] = "";
    stn_net_memory memory;
    const stn_data_info *data = stn_run_data(s->run);
    stn_net_memory_get(stn_run_net(s->run), &memory);
    note("device %s", device_text(s->dev, text, sizeof text));
    note("data %s, %u training and %u test images, hash %.16s",
         stn_config_get(s->config, "dataset"), data->count[STN_SPLIT_TRAIN],
         data->count[STN_SPLIT_TEST], data->hash);
    for (const char *line = data->files; out.verbose > 0 && *line != 0;) {
        size_t length = strcspn(line, "\n");
        note("  %.*s", (int)length, line);
        line += length + (line[length] == '\n');
    }
    if (memory.micro_batches > 1) {
        (void)snprintf(parts, sizeof parts, ", in %u micro-batches of %u images",
                       memory.micro_batches, memory.micro_rows);
    }
    note("network %s %s, %llu parameters, seed %s, %s on the device%s",
         stn_config_get(s->config, "model"), stn_config_get(s->config, "network"),
         (unsigned long long)stn_net_param_elems(stn_run_net(s->run)),
         stn_config_get(s->config, "seed"), bytes_text(memory.total, size), parts);
}

int session_open_run(const args *a, session *s, const stn_run_options *options) {
    stn_err err = {0};
    stn_run_options chosen = options == NULL ? (stn_run_options){0} : *options;
    int status = open_device(s->ctx, s->config, &s->dev);
    if (status != EXIT_OK) {
        return status;
    }
    chosen.progress = compile_progress;
    if (stn_run_open(s->ctx, s->config, s->dev, &chosen, &s->run, &err) != STN_OK) {
        return fail(&err);
    }
    status = gate_run(a, s->config, s->run);
    if (status == EXIT_OK) {
        note_run(s);
    }
    return status;
}

static int32_t config_of_checkpoint(const args *a, session *s, const char *file, stn_err *err) {
    stn_ckpt *ckpt = NULL;
    stn_ckpt_info info;
    STN_TRY(stn_ckpt_open(file, &ckpt, err));
    stn_ckpt_info_get(ckpt, &info);
    int32_t status = stn_config_new(s->ctx, &s->config, err);
    if (status == STN_OK) {
        status = fill_config(a, NULL, info.recipe, file, NULL, s->config, err);
    }
    stn_ckpt_close(ckpt);
    return status;
}

int session_open_checkpoint(const args *a, session *s, const stn_run_options *options, char *file,
                            size_t cap) {
    stn_err err = {0};
    const char *path = args_value(a, "checkpoint");
    if (path == NULL) {
        return usage_error(a, "--checkpoint FILE or --checkpoint DIR is needed");
    }
    if (!find_checkpoint(path, file, cap)) {
        return EXIT_USAGE;
    }
    int status = open_context(a, &s->ctx);
    if (status != EXIT_OK) {
        return status;
    }
    if (config_of_checkpoint(a, s, file, &err) != STN_OK) {
        return fail(&err);
    }
    status = session_open_run(a, s, options);
    if (status == EXIT_OK && stn_run_load(s->run, file, &err) != STN_OK) {
        status = fail(&err);
    }
    return status;
}

const char *session_mark(const session *s) {
    return stn_run_reproducible(s->run)
               ? ""
               : "NOT REPRODUCIBLE (--math fast or an overridden self-test)\n";
}

void session_close(session *s) {
    stn_run_close(s->run);
    stn_dev_close(s->dev);
    stn_config_free(s->config);
    if (!s->shared_ctx) {
        stn_close(s->ctx);
    }
    *s = (session){0};
}
