/* gradient_bits.h: gradients turned from vectors of channels to vectors of columns, or left as they
 * are with their bits turned. */
#include "gradient_bits.h"

#define WINDOW_COLS 64u

void ISA(grad_lines)(const grad_source *s, uint32_t n, uint32_t block, const grad_bits *to,
                     float *scratch) {
    const grad_block b = grad_block_of(s, n, block);
    const float *gz = ISA(grad_dense)(s->g, &b, scratch);
    for (uint32_t i = 0; i < to->rows * blocks_of(to->cols); i++) {
        const uint32_t row = i / blocks_of(to->cols), group = i % blocks_of(to->cols);
        const uint64_t first = (uint64_t)row * to->cols + group * LANES;
        vf grad[LANES];
        for (uint32_t k = 0; k < LANES; k++) {
            const bool real = group * LANES + k < to->cols;
            grad[k] = real ? v_load(gz + (first + k) * LANES) : v_zero();
        }
        v_transpose(grad);
        for (uint32_t j = 0; j < LANES; j++) {
            uint64_t *mask = to->mask + j * to->mask_channel + row;
            const uint64_t bits = vm_bits(v_nonzero(grad[j]));
            v_store(to->g + j * to->channel + first, grad[j]);
            mask[(uint64_t)group * to->rows] = bits;
            for (uint32_t k = 1; k < 4 && k <= group; k++) {
                mask[(uint64_t)(group - k) * to->rows] |= bits << (LANES * k);
            }
        }
    }
}

/* One row of windows, channel by channel: gradients and the pixels they went to; and room for
 * vectors that start at any window. */
typedef struct window_row {
    float grad[LANES][WINDOW_COLS + LANES];
    uint8_t taken[LANES][WINDOW_COLS + LANES];
} window_row;

static void load_windows(const conv_geom *g, const grad_block *b, uint64_t at, window_row *row) {
    const float *gy = b->gy + at, *y = b->y + at;
    const uint8_t *index = b->index + at;
    for (uint32_t first = 0; first < g->pow; first += LANES) {
        const uint32_t real = min_u32(LANES, g->pow - first);
        vf grad[LANES];
        for (uint32_t i = 0; i < LANES; i++) {
            const uint64_t q = (uint64_t)(first + i) * LANES;
            grad[i] = i < real ? v_snap(undo_act(g, gy + q, y + q), v_set1(STN_LIM_G)) : v_zero();
        }
        v_transpose(grad);
        for (uint32_t j = 0; j < LANES; j++) {
            v_store(row->grad[j] + first, grad[j]);
        }
        vi_transpose_u8(row->taken[0] + first, sizeof row->taken[0],
                        index + (uint64_t)first * LANES, real);
    }
}

bool ISA(grad_has_windows)(const conv_geom *g) {
    return g->pooled && g->pool_kh == 2 && g->pool_sh == 2 && g->pool_sw >= g->pool_kw &&
           g->pow <= WINDOW_COLS;
}

/* Record b of all channels from one row of windows. */
static void fill_record(const conv_geom *g, const window_row *from, const grad_bits *to, uint32_t b,
                        uint32_t row) {
    static const int32_t lane[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const uint32_t first = to->first[b];
    const int32_t across = (int32_t)g->pool_sw * to->col_step;
    /* `taken` is greater by the window's width in its lower row. */
    const vi width = vi_set1((int32_t)g->pool_kw), both = vi_add(width, width);
    const vi col_step = vi_set1(to->col_step);
    const vi upper =
        vi_add(vi_mul(vi_load(lane), vi_set1(across)), vi_set1((int32_t)first * across));
    const vi lower = vi_sub(upper, vi_set1((int32_t)g->pool_kw * to->col_step + to->line_step));
    const uint64_t record = (uint64_t)b * to->rows + row, channel = to->channel;
    float *grads = to->g + record * GRAD_RECORD;
    int32_t *places = to->at + record * GRAD_RECORD;
    uint64_t *mask = to->mask + record;
    for (uint32_t j = 0; j < LANES; j++, mask += to->mask_channel) {
        const vf grad = v_load(from->grad[j] + first);
        const vi taken = vi_load_u8(from->taken[j] + first);
        const vm up = vi_below(taken, width);
        const uint64_t some = vm_bits(vm_and(v_nonzero(grad), vi_below(taken, both)));
        const uint64_t high = some & vm_bits(up);
        v_store(grads + j * channel, grad);
        vi_store(places + j * channel,
                 vi_add(vi_select(up, upper, lower), vi_mul(taken, col_step)));
        *mask = high | (some ^ high) << LANES;
    }
}

void ISA(grad_windows)(const grad_source *s, uint32_t n, uint32_t block, const grad_bits *to) {
    const grad_block b = grad_block_of(s, n, block);
    window_row row;
    for (uint32_t r = 0; r < to->rows; r++) {
        load_windows(s->g, &b, (uint64_t)r * to->cols * LANES, &row);
        for (uint32_t i = 0; i < to->records; i++) {
            fill_record(s->g, &row, to, i, r);
        }
    }
}

/* ---- pixels --------------------------------------------------------------------------------- */

/* Pixels come in ascending order; the words before and after are zero already. */
typedef struct pixel_notes {
    uint32_t *bits;
    uint32_t at; /* word that is collected */
    vi word;
    vf lane[STN_PLANE_LANES]; /* PLANE16 of the gradients */
} pixel_notes;

VEC void close_word(pixel_notes *s) {
    vi_store((int32_t *)(void *)(s->bits + (uint64_t)s->at * LANES), s->word);
}

/* Pixel t has the gradient of those channels. */
VEC void note_pixel(pixel_notes *s, uint32_t t, vm here, vf grad) {
    if (t / GRAD_WORD != s->at) {
        close_word(s);
        s->word = vi_set1(0);
        s->at = t / GRAD_WORD;
    }
    const vi bit = vi_set1((int32_t)(1u << t % GRAD_WORD));
    s->word = vi_select(here, vi_or(s->word, bit), s->word);
    vf *lane = &s->lane[t % STN_PLANE_LANES];
    *lane = v_add(*lane, v_keep(here, grad));
}

/* Row dy of a row of windows; t: pixel of the first window's first column. */
VEC void note_windows(pixel_notes *s, const conv_geom *g, const float *flow, const uint8_t *index,
                      uint32_t t, uint32_t dy, const uint32_t kw) {
    for (uint32_t q = 0; q < g->pow; q++, t += g->pool_sw) {
        const vf grad = v_load(flow + q * LANES);
        const vi taken = vi_load_u8(index + q * LANES);
        const vm some = v_nonzero(grad);
        for (uint32_t dx = 0; dx < kw; dx++) {
            const vm here = vi_eq(taken, vi_set1((int32_t)(dy * kw + dx)));
            note_pixel(s, t + dx, vm_and(here, some), grad);
        }
    }
}

static void note_pool(pixel_notes *s, const conv_geom *g, const grad_block *b, float *flow) {
    for (uint32_t r = 0; r < g->poh; r++) {
        const uint64_t at = (uint64_t)r * g->pow * LANES;
        for (uint64_t i = at; i < at + (uint64_t)g->pow * LANES; i += LANES) {
            v_store(flow + i, v_snap(undo_act(g, b->gy + i, b->y + i), v_set1(STN_LIM_G)));
        }
        for (uint32_t dy = 0; dy < g->pool_kh; dy++) {
            const uint32_t t = (r * g->pool_sh + dy) * g->ow;
            if (g->pool_kw == 2) {
                note_windows(s, g, flow + at, b->index + at, t, dy, 2);
            } else {
                note_windows(s, g, flow + at, b->index + at, t, dy, g->pool_kw);
            }
        }
    }
}

void ISA(grad_note)(const grad_source *s, uint32_t n, uint32_t block, float *flow, uint32_t *bits,
                    float *plane) {
    const conv_geom *g = s->g;
    const grad_block b = grad_block_of(s, n, block);
    pixel_notes notes = {.bits = bits, .word = vi_set1(0)};
    for (uint32_t j = 0; j < STN_PLANE_LANES; j++) {
        notes.lane[j] = v_zero();
    }
    memset(bits, 0, (uint64_t)grad_words(g) * LANES * sizeof *bits);
    if (ISA(grad_disjoint)(g)) {
        note_pool(&notes, g, &b, flow);
    } else {
        const float *gz = ISA(grad_dense)(g, &b, flow);
        for (uint32_t t = 0; t < g->oh * g->ow; t++) {
            const vf grad = v_load(gz + (uint64_t)t * LANES);
            v_store(flow + (uint64_t)t * LANES, grad);
            note_pixel(&notes, t, v_nonzero(grad), grad);
        }
    }
    close_word(&notes);
    if (plane != NULL) {
        v_store(plane, v_fold_rows(notes.lane));
    }
}

uint32_t ISA(grad_vector)(const conv_geom *g, uint32_t row, uint32_t col) {
    if (!ISA(grad_disjoint)(g)) {
        return row * g->ow + col;
    }
    return min_u32(row / g->pool_sh, g->poh - 1) * g->pow + min_u32(col / g->pool_sw, g->pow - 1);
}
