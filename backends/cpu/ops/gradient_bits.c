/* gradient_bits.h: gradients turned from vectors of channels to vectors of columns. */
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
