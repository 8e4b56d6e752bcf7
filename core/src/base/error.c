/* Names, texts and exit statuses of the status codes, and the library's version. */
#include <stddef.h>

#include <stn/stn.h>

typedef struct status_row {
    int32_t number, exit_status;
    const char *name, *text;
} status_row;

static const status_row rows[] = {
#define STN_STATUS_ROW(name, number, exit_status, text) {(number), (exit_status), #name, (text)},
    STN_STATUS_MAP(STN_STATUS_ROW)
#undef STN_STATUS_ROW
};

/* An unknown number (from a newer plugin, say) reads as a plain failure. */
static const status_row *find(int32_t status) {
    static const status_row unknown = {-1, 1, "E_UNKNOWN", "unknown status"};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].number == status) {
            return &rows[i];
        }
    }
    return &unknown;
}

const char *stn_version(void) {
    return STN_VERSION;
}

const char *stn_status_name(int32_t status) {
    return find(status)->name;
}

const char *stn_status_text(int32_t status) {
    return find(status)->text;
}

int32_t stn_status_exit(int32_t status) {
    return find(status)->exit_status;
}
