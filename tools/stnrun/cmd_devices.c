/* stnrun devices: what can be trained on, from every backend. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "stnrun.h"

static void print_device(const stn_device_entry *entry) {
    const stn_device_info *info = &entry->info;
    char memory[32], alloc[32];
    printf("%s:%u  %s  id %s\n", entry->backend, entry->index, info->name, info->id);
    if (out.verbose == 0) {
        return;
    }
    printf("    vendor %s, platform %s, driver %s\n", info->vendor, info->platform, info->driver);
    printf("    %s, %u compute units, memory %s, largest buffer %s\n",
           info->is_cpu ? "CPU" : "accelerator", info->compute_units,
           bytes_text(info->memory, memory), bytes_text(info->max_alloc, alloc));
    printf("    preferred layout %s; reported:%s%s%s%s\n",
           info->layout == STN_NC16 ? "NC16" : "NCHW",
           info->capabilities & STN_CAP_FMA ? " fma" : "",
           info->capabilities & STN_CAP_CORRECT_DIVIDE ? " correct-divide" : "",
           info->capabilities & STN_CAP_SUBNORMALS ? " subnormals" : "",
           info->capabilities & STN_CAP_UNIFIED_MEMORY ? " unified-memory" : "");
}

static int print_devices(const stn_device_entry *entries, uint32_t n) {
    if (out.json || out.jsonl) {
        json_t *list = json_array();
        for (uint32_t i = 0; i < n; i++) {
            json_array_append_new(list, device_json(&entries[i]));
        }
        return print_json(json_pack("{s:s, s:o}", "schema", "stnrun-devices/1", "devices", list));
    }
    for (uint32_t i = 0; i < n; i++) {
        print_device(&entries[i]);
    }
    return EXIT_OK;
}

int cmd_devices(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    stn_ctx *ctx = NULL;
    int status = open_context(a, &ctx);
    if (status != EXIT_OK) {
        return status;
    }
    stn_err err = {0};
    uint32_t n = 0;
    enum { CAP = 64 };
    stn_device_entry *entries = calloc(CAP, sizeof *entries);
    if (entries == NULL) {
        status = stn_fail(&err, STN_E_NOMEM, "out of memory for the list of devices");
    } else {
        status = stn_device_list(ctx, NULL, entries, CAP, &n, &err);
    }
    if (status != STN_OK) {
        status = fail(&err);
    } else if (n == 0) {
        fputs("stnrun: no device found; see stnrun plugins for backends that were refused\n",
              stderr);
        status = EXIT_NODEVICE;
    } else {
        status = print_devices(entries, n < CAP ? n : CAP);
    }
    free(entries);
    stn_close(ctx);
    return status;
}
