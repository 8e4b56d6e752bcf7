/* The "C" locale for the calling thread, so that numbers use '.' whatever the program has set. */
#ifndef STN_BASE_LOCALE_H
#define STN_BASE_LOCALE_H

#include <locale.h>
#include <stdbool.h>

typedef struct stn__locale {
    locale_t before;
} stn__locale;

/* enter and leave come in pairs on one thread; false (out of memory): nothing was entered. */
bool stn__locale_enter(stn__locale *saved);
void stn__locale_leave(const stn__locale *saved);

#endif
