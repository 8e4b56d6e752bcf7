/* One "C" locale object for the life of the process. */
#define _POSIX_C_SOURCE 200809L
#include "base/locale.h"

#include <pthread.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static locale_t c_locale;

static void make(void) {
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

bool stn__locale_enter(stn__locale *saved) {
    if (pthread_once(&once, make) != 0 || c_locale == (locale_t)0) {
        return false;
    }
    saved->before = uselocale(c_locale);
    return true;
}

void stn__locale_leave(const stn__locale *saved) {
    (void)uselocale(saved->before);
}
