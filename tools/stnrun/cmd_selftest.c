/* stnrun selftest: contract section C7 on one device, part by part. */
#include <stdio.h>
#include <string.h>

#include "stnrun.h"

static void report(void *user, const char *part, bool ok, const char *detail) {
    json_t *list = user;
    if (list != NULL) {
        json_array_append_new(list, json_pack("{s:s, s:b, s:s}", "part", part, "ok", (int)ok,
                                              "detail", detail == NULL ? "" : detail));
    } else if (!ok || out.verbose > 0) {
        printf("%-24s %s%s%s\n", part, ok ? "ok" : "FAILED",
               detail != NULL && detail[0] != 0 ? "  " : "", detail == NULL ? "" : detail);
    }
}

static int test_device(stn_dev *dev) {
    stn_err err = {0};
    char text[512];
    json_t *parts = out.json || out.jsonl ? json_array() : NULL;
    int32_t status = stn_dev_selftest(dev, report, parts, &err);
    if (parts != NULL) {
        int printed =
            print_json(json_pack("{s:s, s:o, s:s, s:b, s:o}", "schema", "stnrun-selftest/1",
                                 "device", device_json(stn_dev_info(dev)), "contract", STN_CONTRACT,
                                 "ok", (int)(status == STN_OK), "parts", parts));
        return status != STN_OK ? fail(&err) : printed;
    }
    if (status != STN_OK) {
        return fail(&err);
    }
    printf("%s: ok, obeys %s\n", device_text(dev, text, sizeof text), STN_CONTRACT);
    return EXIT_OK;
}

int cmd_selftest(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    stn_ctx *ctx = NULL;
    stn_config *config = NULL;
    stn_dev *dev = NULL;
    int status = open_context(a, &ctx);
    if (status == EXIT_OK) {
        status = open_config(a, ctx, NULL, NULL, &config);
    }
    if (status == EXIT_OK && strcmp(stn_config_get(config, "math"), "fast") == 0) {
        status = usage_error(a, "it tests the contract " STN_CONTRACT
                                ", which --math fast does not obey");
    }
    if (status == EXIT_OK) {
        status = open_device(ctx, config, &dev);
    }
    if (status == EXIT_OK) {
        status = test_device(dev);
    }
    stn_dev_close(dev);
    stn_config_free(config);
    stn_close(ctx);
    return status;
}
