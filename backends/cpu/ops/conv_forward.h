/* Plan of a convolution over all its terms: conv_sums.c, conv_background.c and those that use them.
 */
#ifndef CPU_OPS_CONV_FORWARD_H
#define CPU_OPS_CONV_FORWARD_H

#include "conv.h"
#include "conv_tile.h"
#include "isa/tile.h"

#define GROUP (TILE_V * LANES) /* output channels of one pass */

/* Windows that hold nothing but the background of an image, one value per channel: their sums are
 * all alike, and with one input channel so are the sums over the first kernel rows of a window
 * that begins with background. Both are computed once. What is taken for the background decides
 * the speed only, because the sums are made as any other. */
typedef struct background {
    bool used;
    uint32_t states; /* sums that are kept: after 0, 1, ... kernel rows; or none and all */
    uint32_t tiles;  /* in a row */
    uint64_t key_floats, sums_floats, lead_count, dirty_count;
    /* Workspace, per thread. */
    uint32_t *known; /* 1: key and sums are set; 2: key only */
    float *key;      /* [channels] as a pixel of the source has them */
    float *sums;     /* [groups][states][GROUP] */
    uint32_t *lead;  /* [images][rows][tiles]: rows of background from here on, under a tile */
    uint64_t *dirty; /* of one row: bit per pixel that is not background */
} background;

typedef struct forward {
    conv_geom g;
    map_addr x, source;    /* the input, and what a unit reads (the same, or its padded copy) */
    uint32_t images, rows; /* of a unit: whole images, or pooled rows of one image */
    uint32_t bands;        /* units an image is cut into (1 if images are whole) */
    uint32_t run;          /* bands that a task goes through one after another */
    uint32_t carry;        /* rows of the convolution that a band takes over from the one before */
    uint32_t conv_rows, conv_cols, pixels;
    uint32_t source_rows, source_cols;
    uint32_t unit_rows; /* rows of the source that a unit reads of an image */
    uint32_t groups, depth, chunk;
    uint32_t part; /* input channels whose weights stay in the first-level cache */
    bool padded;
    bool tiled;     /* conv_tile.h serves; otherwise isa/tile.h */
    bool direct;    /* every tile can be finished alone */
    bool held;      /* conv_held.h serves, unless a value is not finite */
    uint32_t tiles; /* of conv_tile.h in a row */
    background bg;
    /* Workspace. */
    float *packed;      /* [groups][depth][GROUP] */
    term *terms;        /* [depth] */
    int32_t *line;      /* [C][KH]: offset of a row of taps in the unit's source */
    int32_t *pixel;     /* [pixels]: offset of a pixel's first tap in the unit's source */
    float *sums, *copy; /* per thread */
    float *partial;     /* per thread: sums of a chunk's first parts */
    float *carried;     /* per thread: [groups][carry][conv_cols][GROUP] */
    uint64_t sums_floats, copy_floats, carried_floats;
    bool stream; /* of a call, as the next: outputs go past the caches */
    const cpu_call *call;
} forward;

/* What the next unit will read, asked for tile by tile while this one computes. */
typedef struct ahead {
    const float *next;
    uint32_t pieces;      /* still to come, the present one included */
    uint64_t floats, gap; /* of a piece; from its end to the next one */
    uint64_t left, step;  /* of the present piece; to ask for each time */
} ahead;

/* Asks for as much as is due. */
static inline void ask_ahead(ahead *a) {
    for (uint64_t done = 0; a->pieces > 0 && done < a->step; done += LANES) {
        const uint64_t line = a->left < LANES ? a->left : LANES;
        __builtin_prefetch(a->next, 0, 3);
        a->next += line;
        a->left -= line;
        if (a->left == 0) {
            a->left = a->floats;
            a->pieces--;
            a->next += a->pieces > 0 ? a->gap : 0;
        }
    }
}

/* Pixels of a tile of conv_tile.h: up to two rows, which may belong to two of the unit's images. */
typedef struct tile_place {
    uint32_t image[2], line[2]; /* of each row; lines count rows of the convolution */
    uint32_t rows, col, width;
} tile_place;
#define TILE_PITCH                                                                                 \
    (CONV_TILE_MOST * GROUP) /* floats between rows of a tile that is to be finished */

typedef struct unit_finish unit_finish; /* conv_finish.h */

/* Rows of the convolution under that many rows of the pool. */
static inline uint32_t conv_rows_of(const conv_geom *g, uint32_t pooled_rows) {
    return (pooled_rows - 1) * g->pool_sh + g->pool_kh;
}

/* The plan for images of that layout; find: look for their background, or let conv_held.h serve. */
forward ISA(forward_plan)(const conv_geom *geom, uint32_t layout, bool find, uint32_t threads,
                          carver *c);
/* Before the units of a call; `packed` is the caller's. */
void ISA(forward_tables)(const forward *f);
/* Sums of a group of output channels for the first conv_rows rows of a unit, whose first image
 * begins at `source`: [image][conv_rows][conv_cols][GROUP], or all finished by `u`, if that is not
 * NULL (`direct` plans only). next may be NULL. */
void ISA(forward_sums)(const forward *f, uint32_t thread, uint32_t group, const float *source,
                       uint32_t images, uint32_t conv_rows, float *sums, ahead *next,
                       unit_finish *u);

/* Fills in the plan of `f->bg`; with a workspace its pointers too. */
void ISA(background_plan)(forward *f, uint32_t threads, carver *c);
/* Before the units of a call. */
void ISA(background_start)(const forward *f);
/* Looks for background in the `rows` rows that a unit reads of its images; x: the first image. */
void ISA(background_find)(const forward *f, uint32_t thread, const float *x, const float *source,
                          uint32_t images, uint32_t rows);

/* How many rows of background lie under each tile from row `row` of the unit's image on; NULL if
 * none were looked for. */
static inline const uint32_t *background_row(const forward *f, uint32_t thread, uint32_t image,
                                             uint32_t row) {
    const background *b = &f->bg;
    const uint64_t at = ((uint64_t)image * f->unit_rows + row) * b->tiles;
    return b->used ? b->lead + thread * b->lead_count + at : NULL;
}

/* Sums of a group in state s. */
static inline const float *background_sums(const forward *f, uint32_t thread, uint32_t group,
                                           uint32_t s) {
    const background *b = &f->bg;
    return b->sums + thread * b->sums_floats + ((uint64_t)group * b->states + s) * GROUP;
}

#endif
