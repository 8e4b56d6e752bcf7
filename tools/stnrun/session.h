/* An opened context, config, device and run, in one piece: train, eval, picture and compare open
 * and close them in the same order. */
#ifndef STNRUN_SESSION_H
#define STNRUN_SESSION_H

#include "stnrun.h"

typedef struct session {
    stn_ctx *ctx; /* owned unless the session was opened on another one's */
    bool shared_ctx;
    stn_config *config;
    stn_dev *dev;
    stn_run *run;
} session;

/* Opens the run of a checked config: device, self-test, net. `options` may be NULL. Prints what was
 * chosen. On failure prints why and returns the exit status; session_close is still needed. */
int session_open_run(const args *a, session *s, const stn_run_options *options);
/* Context, config from the checkpoint's own settings (flags still win where the run's identity is
 * not touched), run, state. `file` receives the checkpoint's path. */
int session_open_checkpoint(const args *a, session *s, const stn_run_options *options, char *file,
                            size_t cap);
/* "", or the line that marks output of a run that is not reproducible; the run must be open. */
const char *session_mark(const session *s);
void session_close(session *s);

#endif
