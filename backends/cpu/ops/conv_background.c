/* Finds the background of images and makes its sums: see conv_forward.h. */
#include "conv_forward.h"

#define WORD 64u      /* pixels of a word of `dirty` */
#define MOST_SPAN 63u /* pixels of a row under one tile */

/* Pixels of a row under a tile of that width. */
static uint32_t span_of(const forward *f, uint32_t width) {
    return f->g.kw + width - 1;
}

/* Tiles that see half of an image or more hardly ever see its background alone. */
static bool worth_looking(const forward *f) {
    const conv_geom *g = &f->g;
    const uint32_t span = span_of(f, CONV_TILE_MOST);
    return span <= MOST_SPAN && 2 * (g->kh + 1) * span <= g->h * g->w;
}

void ISA(background_plan)(forward *f, uint32_t threads, carver *c) {
    background *b = &f->bg;
    b->used = f->tiled && worth_looking(f);
    if (!b->used) {
        return;
    }
    b->states = f->g.c == 1 ? f->g.kh + 1 : 2;
    b->tiles = f->tiles;
    b->key_floats = blocks_of(f->g.c) * LANES;
    b->sums_floats = (uint64_t)f->groups * b->states * GROUP;
    b->lead_count = (uint64_t)f->images * f->unit_rows * b->tiles;
    b->dirty_count = ceil_div(f->source_cols, WORD) + 1;
    b->known = carve(c, threads * sizeof *b->known);
    b->key = carve(c, threads * b->key_floats * sizeof *b->key);
    b->sums = carve(c, threads * b->sums_floats * sizeof *b->sums);
    b->lead = carve(c, threads * b->lead_count * sizeof *b->lead);
    b->dirty = carve(c, threads * b->dirty_count * sizeof *b->dirty);
}

void ISA(background_start)(const forward *f) {
    const background *b = &f->bg;
    const uint32_t threads = cpu_pool_threads(f->call->pool);
    if (!b->used) {
        return;
    }
    /* A tile without background starts from the sums of state 0. */
    memset(b->sums, 0, threads * b->sums_floats * sizeof *b->sums);
    memset(b->key, 0, threads * b->key_floats * sizeof *b->key);
    memset(b->known, 0, threads * sizeof *b->known);
    memset(b->dirty, 0, threads * b->dirty_count * sizeof *b->dirty);
}

/* The first pixel of an image is taken for its background. */
static void set_key(const forward *f, uint32_t thread, const float *x) {
    const background *b = &f->bg;
    float *key = b->key + thread * b->key_floats;
    for (uint32_t c = 0; c < f->g.c; c++) {
        const float *value = x + map_channel(&f->x, c);
        if (b->known[thread] == 0 || memcmp(key + c, value, sizeof *key) != 0) {
            key[c] = *value;
            b->known[thread] = 2;
        }
    }
}

/* The contract's chain over windows of background, 16 output channels. */
static void make_sums(const forward *f, uint32_t thread, uint32_t group, uint32_t v) {
    const background *b = &f->bg;
    const float *key = b->key + thread * b->key_floats;
    const float *w = f->packed + (uint64_t)group * f->depth * GROUP + v * LANES;
    float *to = b->sums + thread * b->sums_floats + (uint64_t)group * b->states * GROUP + v * LANES;
    const uint32_t taps = f->g.kh * f->g.kw;
    vf total = v_zero();
    for (uint32_t t = 0; t < f->depth; t += f->chunk) {
        const uint32_t terms = min_u32(f->chunk, f->depth - t);
        vf acc = v_zero();
        for (uint32_t i = 0; i < terms; i++, w += GROUP) {
            acc = v_fma(v_set1(key[(t + i) / taps]), v_load(w), acc);
            if (f->g.c == 1 && (i + 1) % f->g.kw == 0) {
                v_store(to + (uint64_t)(i + 1) / f->g.kw * GROUP, acc);
            }
        }
        total = t == 0 ? acc : v_add(total, acc);
    }
    v_store(to + (uint64_t)(b->states - 1) * GROUP, total);
}

/* Compares a pixel of an NC16 map, all its channels. */
static bool same_pixel(const forward *f, const float *key, const float *pixel) {
    const uint32_t all = (1u << LANES) - 1u;
    bool same = true;
    for (uint32_t c = 0; same && c < f->g.c; c += LANES, pixel += f->source.plane) {
        same = vm_bits(vi_eq(vf_bits(v_load(pixel)), vf_bits(v_load(key + c)))) == all;
    }
    return same;
}

/* Bit i: pixel q + i of a row, i < n <= LANES, differs from the background. */
static uint32_t mark_pixels(const forward *f, const float *key, const float *row, uint32_t q,
                            uint32_t n) {
    uint32_t bits = 0;
    if (f->source.step == 1) {
        for (uint32_t c = 0; c < f->g.c; c++) {
            const vf pixels = v_load_some(row + c * f->source.plane + q, n);
            bits |= ~vm_bits(vi_eq(vf_bits(pixels), vf_bits(v_set1(key[c]))));
        }
    } else {
        for (uint32_t i = 0; i < n; i++) {
            bits |= (same_pixel(f, key, row + (uint64_t)(q + i) * LANES) ? 0u : 1u) << i;
        }
    }
    return bits & ((1u << n) - 1u);
}

/* Sets the bits of the pixels of one row that differ from the background; returns how many do. */
static uint32_t mark_row(const forward *f, const float *key, const float *row, uint64_t *dirty) {
    const uint32_t cols = f->source_cols;
    uint32_t count = 0;
    for (uint32_t first = 0; first < cols; first += WORD) {
        uint64_t word = 0;
        for (uint32_t q = first; q < min_u32(cols, first + WORD); q += LANES) {
            const uint64_t bits = mark_pixels(f, key, row, q, min_u32(LANES, cols - q));
            word |= bits << (q - first);
        }
        dirty[first / WORD] = word;
        count += (uint32_t)__builtin_popcountll(word);
    }
    return count;
}

/* The bits of a row from pixel q on. */
static uint64_t bits_from(const uint64_t *dirty, uint32_t q) {
    const uint64_t *d = dirty + q / WORD;
    const uint32_t s = q % WORD;
    return s == 0 ? d[0] : d[0] >> s | d[1] << (WORD - s);
}

void ISA(background_find)(const forward *f, uint32_t thread, const float *x, const float *source,
                          uint32_t images, uint32_t rows) {
    const background *b = &f->bg;
    uint64_t *dirty = b->dirty + thread * b->dirty_count;
    const uint32_t narrow = f->conv_cols / f->tiles, wider = f->conv_cols % f->tiles;
    uint32_t most = 0;
    set_key(f, thread, x);
    for (uint32_t i = 0; i < images; i++) {
        uint32_t *lead = b->lead + thread * b->lead_count + (uint64_t)i * f->unit_rows * b->tiles;
        for (uint32_t r = rows; r-- > 0;) {
            const float *row =
                source + i * f->source.image + (uint64_t)r * f->source_cols * f->source.step;
            const uint32_t marked = mark_row(f, b->key + thread * b->key_floats, row, dirty);
            if (f->source_cols - marked < span_of(f, CONV_TILE_LEAST)) {
                memset(lead + (uint64_t)r * b->tiles, 0, b->tiles * sizeof *lead);
                continue;
            }
            for (uint32_t t = 0, q = 0, width; t < b->tiles; t++, q += width) {
                width = narrow + (t < wider);
                const uint64_t mask = (UINT64_C(1) << span_of(f, width)) - 1;
                const uint32_t below = r + 1 < rows ? lead[(r + 1) * b->tiles + t] : 0;
                const uint32_t run = (bits_from(dirty, q) & mask) == 0 ? below + 1 : 0;
                lead[r * b->tiles + t] = run;
                most = max_u32(most, run);
            }
        }
    }
    if (b->known[thread] == 2 && most > 0) {
        for (uint32_t v = 0; v < f->groups * TILE_V; v++) {
            make_sums(f, thread, v / TILE_V, v % TILE_V);
        }
        b->known[thread] = 1;
    }
}
