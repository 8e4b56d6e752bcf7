/* stnrun compare and bench compare: the sides of a comparison, and the search for the first value
 * that differs. */
#ifndef STNRUN_COMPARE_H
#define STNRUN_COMPARE_H

#include "session.h"

#define MAX_SIDES 16u
#define MAX_SIDE_SETTINGS 20u

/* One side: a label ("opencl"), the setting that makes it and its opened run. */
typedef struct side {
    char label[64];
    const char *set[MAX_SIDE_SETTINGS]; /* key, value, ..., NULL: what makes this side */
    session s;
    char hash[STN_HASH_HEX];
} side;

typedef struct side_list {
    side side[MAX_SIDES];
    uint32_t n;
    char *items; /* the list, cut at its commas */
} side_list;

/* The one flag of FLAGS_SIDES with a list makes the sides; the others are settings of all. Returns
 * an exit status; sides_close is needed whatever it is. */
int sides_choose(const args *a, side_list *s);
int sides_open(const args *a, stn_ctx *ctx, side_list *s);
void sides_close(side_list *s);
/* For a command with one side: the same flags as settings, into `set` of MAX_SIDE_SETTINGS. A list
 * among them is refused as a value. */
void sides_settings(const args *a, const char **set);

/* Opens one side's run on the shared context. */
int side_open(const args *a, stn_ctx *ctx, side *one, const stn_run_options *options);

/* The first difference, found by running one step again from the same checkpoint. */
typedef struct difference {
    bool found;
    uint64_t step; /* number of the step from 1 */
    uint32_t node;
    char op[48], tensor[128];
    uint32_t at[4]; /* n, c, h, w */
    double value[2];
    bool integer; /* the values are integers (u8, i32) */
    uint64_t ulp; /* distance of two floats, ~0 if one is not finite */
} difference;

/* Runs step `step` (from 1) again on the settings of sides[0] and sides[1] from `checkpoint`, the
 * state before it, with every value kept, and compares value by value in plan order. Returns an
 * exit status; found = false if the values agree. */
int find_difference(const args *a, stn_ctx *ctx, side *const sides[2], const char *checkpoint,
                    uint64_t step, difference *d);

#endif
