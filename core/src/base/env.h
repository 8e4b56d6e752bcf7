/* What the environment may tell the core: variables and the user's directories.
 *
 * A program that runs with another user's rights (set-uid, set-gid, capabilities) ignores all of
 * it. The environment must not be changed by other threads meanwhile (POSIX getenv).
 */
#ifndef STN_BASE_ENV_H
#define STN_BASE_ENV_H

#include <stdbool.h>

/* True if the environment must not be trusted. */
bool stn__env_untrusted(void);
/* The value, or NULL if unset, empty or not to be trusted. */
const char *stn__env(const char *name);
/* $VARIABLE/stn/SUB if VARIABLE is absolute, else $HOME/HOME_DIR/stn/SUB; sub may be "". To be
 * freed. NULL if neither is known or there is no memory. Example: ("XDG_DATA_HOME", ".local/share",
 * "plugins"). */
char *stn__user_dir(const char *variable, const char *home_dir, const char *sub);
/* The directory of the running program, to be freed; NULL if unknown or not to be trusted. */
char *stn__program_dir(void);

#endif
