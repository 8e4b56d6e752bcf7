/* Any bytes as a recipe: no crash, and the identity of what is accepted is a recipe that gives the
 * same identity. Includes of files are refused by name here, so that no input reads the disk. */
#define _GNU_SOURCE /* memmem */
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "train/schedule.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool mentions_file(const uint8_t *data, size_t size) {
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '/' || data[i] == '.') {
            return true;
        }
    }
    return false;
}

static void check_identity(stn_config *config) {
    stn_config *again;
    stn_err err = {0};
    const char *text = stn_config_identity(config);
    if (text == NULL || stn_config_new(NULL, &again, &err) != STN_OK) {
        abort();
    }
    if (stn_config_text(again, text, strlen(text), STN_FROM_RECIPE, "identity", &err) != STN_OK ||
        strcmp(stn_config_identity(again), text) != 0) {
        abort();
    }
    stn_config_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    stn_config *config;
    stn_err err = {0};
    if (size >= 8 && memmem(data, size, "include", 7) != NULL && mentions_file(data, size)) {
        return 0;
    }
    if (stn_config_new(NULL, &config, &err) != STN_OK) {
        abort();
    }
    if (stn_config_text(config, (const char *)data, size, STN_FROM_RECIPE, "input", &err) !=
        STN_OK) {
        if (err.text[0] == '\0' || strchr(err.text, '\n') != NULL) {
            abort(); /* every refusal is one line */
        }
    } else if (stn_config_check(config, &err) == STN_OK) {
        check_identity(config);
        (void)stn__schedule_lr(config, size);
    }
    stn_config_free(config);
    return 0;
}
