/* Save and restore by fenv and by the control register itself. */
#include "plugin/fpstate.h"

#if defined(__SSE__) || defined(__x86_64__)
#include <xmmintrin.h>

static uint64_t control_get(void) {
    return _mm_getcsr();
}

static void control_set(uint64_t control) {
    _mm_setcsr((unsigned)control);
}

#elif defined(__aarch64__)

static uint64_t control_get(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}

static void control_set(uint64_t control) {
    __asm__ volatile("msr fpcr, %0" : : "r"(control));
}

#else

static uint64_t control_get(void) {
    return 0;
}

static void control_set(uint64_t control) {
    (void)control;
}

#endif

void stn__fpstate_save(stn__fpstate *state) {
    (void)fegetenv(&state->env);
    state->control = control_get();
}

void stn__fpstate_restore(const stn__fpstate *state) {
    (void)fesetenv(&state->env);
    control_set(state->control);
}
