/* stnrun env: every environment variable that is read; stnrun version. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stnrun.h"

static const char *const other_variables[][2] = {
    {"STN_RECIPE", "recipe of train and compare"},
    {"STN_PLUGIN_PATH", "directories searched for plugins, separated by colons"},
    {"STN_CACHE_DIR", "where compiled kernels are kept (default ~/.cache/stn)"},
    {"STN_OPENCL_LIBRARY", "OpenCL library to open (default libOpenCL.so.1)"},
    {"STN_TORCH_BENCH", "bench step --vs-torch: the reference's bench_torch.py"},
    {"STN_TORCH_PYTHON", "bench step --vs-torch: a Python with PyTorch (default python3)"},
    {"NO_COLOR", "no colour if set and not empty"},
    {"FORCE_COLOR", "colour even if not on a terminal (also CLICOLOR_FORCE)"},
    {"OCL_ICD_VENDORS", "OpenCL loader: which drivers it sees (respected, never changed)"},
    {"POCL_CACHE_DIR", "PoCL: its kernel cache; give each process its own"},
};

static void variable_name(const char *key, char *name, size_t cap) {
    size_t n = (size_t)snprintf(name, cap, "STN_%s", key);
    for (size_t i = 0; i < n && i < cap; i++) {
        name[i] = name[i] == '-' || name[i] == '.' ? '_' : (char)toupper((unsigned char)name[i]);
    }
}

static void show(json_t *list, const char *name, const char *help) {
    const char *value = getenv(name);
    if (list != NULL) {
        json_array_append_new(
            list, json_pack("{s:s, s:s, s:s*}", "name", name, "help", help, "value", value));
    } else {
        printf("%-26s %s%s%s\n", name, help, value == NULL ? "" : "; set to ",
               value == NULL ? "" : value);
    }
}

int cmd_env(args *a) {
    if (a->n_positional > 0) {
        return usage_error(a, "takes no argument, not '%s'", a->positional[0]);
    }
    json_t *list = out.json || out.jsonl ? json_array() : NULL;
    for (uint32_t i = 0; i < stn_key_count(); i++) {
        char name[96];
        variable_name(stn_key_get(i)->name, name, sizeof name);
        show(list, name, stn_key_get(i)->help);
    }
    for (size_t i = 0; i < sizeof other_variables / sizeof other_variables[0]; i++) {
        show(list, other_variables[i][0], other_variables[i][1]);
    }
    if (list == NULL) {
        return EXIT_OK;
    }
    return print_json(json_pack("{s:s, s:o}", "schema", "stnrun-env/1", "variables", list));
}

int cmd_version(args *a) {
    (void)a;
    if (out.json || out.jsonl) {
        return print_json(json_pack("{s:s, s:s, s:s, s:i, s:i}", "schema", "stnrun-version/1",
                                    "version", stn_version(), "contract", STN_CONTRACT, "abi_major",
                                    (int)STN_ABI_MAJOR, "abi_minor", (int)STN_ABI_MINOR));
    }
    printf("stnrun %s\nnumerics contract %s\nplugin ABI %u.%u\ncompiler %s\n", stn_version(),
           STN_CONTRACT, STN_ABI_MAJOR, STN_ABI_MINOR, __VERSION__);
    return EXIT_OK;
}
