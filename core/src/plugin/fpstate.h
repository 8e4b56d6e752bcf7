/* The floating-point control state of the calling thread (rounding, flush-to-zero, traps).
 *
 * Loading a library can change it: one linked with -ffast-math switches the thread to
 * flush-to-zero in a constructor. The loader saves before and restores after foreign code.
 */
#ifndef STN_PLUGIN_FPSTATE_H
#define STN_PLUGIN_FPSTATE_H

#include <fenv.h>
#include <stdint.h>

typedef struct stn__fpstate {
    fenv_t env;
    uint64_t control; /* MXCSR or FPCR, which not every fenv covers */
} stn__fpstate;

void stn__fpstate_save(stn__fpstate *state);
void stn__fpstate_restore(const stn__fpstate *state);

#endif
