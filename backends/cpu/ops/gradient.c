/* Undoing activation and pool, listing non-zeros, and the sums of the bias gradient. */
#include "gradient.h"

#define MAX_LEVELS 11u    /* for GRAD_MAX_SHARDS */
#define STRIP_WINDOWS 32u /* of a row, whose gradients are made at once */

static bool is_block(uint32_t op) {
    return op == STN_OP_CONV_BLOCK_GRAD_X || op == STN_OP_CONV_BLOCK_GRAD_W;
}

grad_source ISA(grad_source)(const conv_geom *g, const cpu_call *call) {
    grad_source s = {.g = g, .gy = call->in[0]};
    if (is_block(call->kernel->op)) {
        s.y = call->in[1];
        s.index = call->in[2];
    }
    return s;
}

bool ISA(grad_readable)(const stn_kernel *k, const conv_geom *g) {
    if (k->in[0].layout != STN_NC16 || g->shards > GRAD_MAX_SHARDS) {
        return false;
    }
    /* A strip must hold more windows than lie over a column. */
    if (g->pow > STRIP_WINDOWS && g->pool_kw / g->pool_sw > STRIP_WINDOWS / 2) {
        return false;
    }
    return !is_block(k->op) || ((!g->act || k->in[1].layout == STN_NC16) &&
                                (!g->pooled || k->in[2].layout == STN_NC16));
}

bool ISA(grad_disjoint)(const conv_geom *g) {
    return g->pooled && g->pool_sh >= g->pool_kh && g->pool_sw >= g->pool_kw;
}

uint32_t ISA(grad_most)(const conv_geom *g) {
    return ISA(grad_disjoint)(g) ? g->poh * g->pow : g->oh * g->ow;
}

/* Windows first .. end - 1 of a row of them that cover columns low .. high - 1. */
typedef struct pool_strip {
    uint32_t low, high, first, end;
} pool_strip;

static pool_strip pool_strip_at(const conv_geom *g, uint32_t low) {
    pool_strip s = {.low = low};
    s.first = low < g->pool_kw ? 0 : ceil_div(low - g->pool_kw + 1, g->pool_sw);
    s.end = s.first + STRIP_WINDOWS;
    /* The next window begins behind the last column; the last strip takes what no window covers. */
    s.high = s.end * g->pool_sw;
    if (s.end >= g->pow) {
        s.end = g->pow;
        s.high = g->ow;
    }
    return s;
}

/* A row of a strip's windows, row `i` of each, and the pixels under it. */
typedef struct pool_row {
    pool_strip s;
    const vf *grad;       /* from window s.first on */
    const uint8_t *index; /* from window 0 on, as gz from column 0 on */
    float *gz;
    uint32_t i;
    bool add, last; /* an earlier row of windows has added; no later one will */
} pool_row;

/* What window q gives to column w, added to the sum of those before it. */
VEC vf undo_window(const pool_row *p, vf sum, uint32_t q, uint32_t w, const uint32_t kw,
                   const uint32_t sw) {
    const vi taken = vi_load_u8(p->index + (uint64_t)q * LANES);
    const vm here = vi_eq(taken, vi_set1((int32_t)(p->i * kw + w - q * sw)));
    return v_add(sum, v_keep(here, p->grad[q - p->s.first]));
}

VEC vf undo_begin(const pool_row *p, uint32_t w) {
    return p->add ? v_load(p->gz + (uint64_t)w * LANES) : v_zero();
}

VEC void undo_end(const pool_row *p, uint32_t w, vf sum) {
    v_store(p->gz + (uint64_t)w * LANES, v_snap(sum, v_set1(p->last ? STN_LIM_G : 0.0f)));
}

/* Columns w .. end - 1 of the strip. */
static void undo_columns(const pool_row *p, uint32_t w, uint32_t end, uint32_t kw, uint32_t sw) {
    for (; w < end; w++) {
        const uint32_t last = min_u32(p->s.end, w / sw + 1);
        vf sum = undo_begin(p, w);
        for (uint32_t q = w < kw ? 0 : ceil_div(w - kw + 1, sw); q < last; q++) {
            sum = undo_window(p, sum, q, w, kw, sw);
        }
        undo_end(p, w, sum);
    }
}

/* All columns under windows of 3 x 3 with stride 2: two windows lie over an even column between the
 * edges of the map, one over an odd one. */
static void undo_3x3(const pool_row *p) {
    uint32_t w = p->s.low;
    if (w == 0) {
        undo_columns(p, 0, 2, 3, 2);
        w = 2;
    }
    for (uint32_t q = w / 2; q < p->s.end; q++, w += 2) {
        const vf even = undo_window(p, undo_begin(p, w), q - 1, w, 3, 2);
        undo_end(p, w, undo_window(p, even, q, w, 3, 2));
        undo_end(p, w + 1, undo_window(p, undo_begin(p, w + 1), q, w + 1, 3, 2));
    }
    undo_columns(p, w, p->s.high, 3, 2);
}

/* MAXPOOL_GRAD: each window gives its gradient to the pixel it took; overlapping windows add in
 * row-major order from +0, snapped at the end. Windows are taken row by row: a row of pixels is
 * complete before the next row of windows that does not reach it. */
static void undo_pool(const conv_geom *g, const float *gy, const float *y, const uint8_t *index,
                      float *gz) {
    const uint64_t pitch = (uint64_t)g->ow * LANES;
    uint32_t begun = 0; /* rows of pixels that have sums */
    for (uint32_t r = 0; r < g->poh; r++) {
        const uint64_t at = (uint64_t)r * g->pow * LANES;
        const uint32_t top = r * g->pool_sh;
        for (; begun < top; begun++) {
            memset(gz + begun * pitch, 0, pitch * sizeof *gz);
        }
        for (uint32_t low = 0; low < g->ow;) {
            const pool_strip s = pool_strip_at(g, low);
            vf grad[STRIP_WINDOWS];
            for (uint32_t q = s.first; q < s.end; q++) {
                grad[q - s.first] = undo_act(g, gy + at + q * LANES, y + at + q * LANES);
            }
            pool_row row = {.s = s, .grad = grad, .index = index + at};
            for (row.i = 0; row.i < g->pool_kh; row.i++) {
                row.gz = gz + (top + row.i) * pitch;
                row.add = top + row.i < begun;
                row.last = row.i < g->pool_sh || r + 1 == g->poh;
                if (g->pool_kw == 3 && g->pool_sw == 2) {
                    undo_3x3(&row);
                } else {
                    undo_columns(&row, s.low, s.high, g->pool_kw, g->pool_sw);
                }
            }
            low = s.high;
        }
        begun = max_u32(begun, top + g->pool_kh);
    }
    for (; begun < g->oh; begun++) {
        memset(gz + begun * pitch, 0, pitch * sizeof *gz);
    }
}

const float *ISA(grad_dense)(const conv_geom *g, const grad_block *b, float *scratch) {
    if (g->pooled) {
        undo_pool(g, b->gy, b->y, b->index, scratch);
        return scratch;
    }
    if (!g->act) {
        return b->gy;
    }
    for (uint64_t i = 0; i < (uint64_t)g->poh * g->pow; i++) {
        v_store(scratch + i * LANES, undo_act(g, b->gy + i * LANES, b->y + i * LANES));
    }
    return scratch;
}

uint64_t ISA(grad_count)(const grad_source *s, float *scratch) {
    uint64_t count = 0;
    for (uint32_t b = 0; b < blocks_of(s->g->o); b++) {
        const grad_block block = grad_block_of(s, 0, b);
        const float *gz = ISA(grad_dense)(s->g, &block, scratch);
        for (uint64_t i = 0; i < (uint64_t)s->g->oh * s->g->ow; i++) {
            count += (uint32_t)__builtin_popcount(vm_bits(v_nonzero(v_load(gz + i * LANES))));
        }
    }
    return count;
}

/* The lists' ends while a block is listed. */
typedef struct list_ends {
    item *next[LANES], *start[LANES];
} list_ends;

static list_ends open_lists(const grad_lists *lists) {
    list_ends e;
    for (uint32_t j = 0; j < LANES; j++) {
        e.start[j] = lists->list + j * lists->most;
        e.next[j] = e.start[j] + lists->count[j];
    }
    return e;
}

static void close_lists(const conv_geom *g, const grad_lists *lists, const list_ends *e) {
    for (uint32_t j = 0; j < LANES; j++) {
        lists->count[j] = (uint32_t)(e->next[j] - e->start[j]);
        if (lists->starts != NULL) {
            lists->starts[j * (g->oh + 1) + g->oh] = lists->count[j];
        }
    }
}

/* Notes where row `row` of channel j starts. */
static void mark_row(const conv_geom *g, const grad_lists *lists, const list_ends *e, uint32_t j,
                     uint32_t row) {
    if (lists->starts != NULL) {
        lists->starts[j * (g->oh + 1) + row] = (uint32_t)(e->next[j] - e->start[j]);
    }
}

/* Non-zeros of `cols` <= 16 pixels of a row; at: offset of the first. */
VEC void list_columns(const float *gz, uint32_t cols, const grad_lists *lists, int32_t at,
                      list_ends *e) {
#if V_PAIRS
    static const int32_t lane[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const vi across = vi_add(vi_mul(vi_load(lane), vi_set1(lists->col_step)), vi_set1(at));
    vf grad[LANES];
    for (uint32_t q = 0; q < LANES; q++) {
        grad[q] = q < cols ? v_load(gz + q * LANES) : v_zero();
    }
    v_transpose(grad);
    for (uint32_t j = 0; j < LANES; j++) {
        const vi places = vi_add(across, vi_set1(lists->shift[j]));
        e->next[j] += v_push_pairs(e->next[j], v_nonzero(grad[j]), grad[j], places);
    }
#else
    for (uint32_t q = 0; q < cols; q++, gz += LANES, at += lists->col_step) {
        for (uint32_t left = vm_bits(v_nonzero(v_load(gz))); left != 0; left &= left - 1) {
            const uint32_t j = (uint32_t)__builtin_ctz(left);
            *e->next[j]++ = (item){gz[j], at + lists->shift[j]};
        }
    }
#endif
}

/* Non-zeros of a dense gz. */
static void list_pixels(const conv_geom *g, const float *gz, const grad_lists *lists) {
    list_ends e = open_lists(lists);
    for (uint32_t r = 0; r < g->oh; r++) {
        for (uint32_t j = 0; j < LANES; j++) {
            mark_row(g, lists, &e, j, r);
        }
        for (uint32_t q = 0; q < g->ow; q += LANES) {
            const uint32_t cols = min_u32(LANES, g->ow - q);
            const int32_t at = (int32_t)r * lists->row_step + (int32_t)q * lists->col_step;
            list_columns(gz, cols, lists, at, &e);
            gz += cols * LANES;
        }
    }
    close_lists(g, lists, &e);
}

/* ---- lists straight from the windows of a pool ---------------------------------------------- */

#define WINDOW_COLS 64u
/* Each row of a window has a band of keys of its own. */
#define BAND (1 << 24)
#define MAX_WINDOW_ROWS 126u

/* One row of windows: gradients, the pixels they went to, and both as items whose offset is a key:
 * row of the window * BAND + BAND / 2 + offset of the column and of the channel beyond that of the
 * first; INT32_MAX without a gradient. */
typedef struct window_row {
    vf grad[WINDOW_COLS];
    vi taken[WINDOW_COLS];
    item across[WINDOW_COLS][LANES];
    item along[LANES][WINDOW_COLS]; /* the same turned: a vector holds eight windows of a channel */
} window_row;

static bool list_keys_fit(const conv_geom *g, const grad_lists *lists) {
    const int64_t width = ((int64_t)g->pow * g->pool_sw + g->pool_kw) * lists->col_step;
    int64_t reach = width < 0 ? -width : width;
    for (uint32_t j = 0; j < LANES; j++) {
        const int64_t apart = (int64_t)lists->shift[j] - lists->shift[0];
        reach = reach > apart ? reach : apart;
        reach = reach > -apart ? reach : -apart;
    }
    return g->pow <= WINDOW_COLS && g->pool_kh <= MAX_WINDOW_ROWS && reach < BAND / 4;
}

static void load_windows(const conv_geom *g, const float *gy, const float *y, const uint8_t *index,
                         const grad_lists *lists, window_row *row) {
    const int32_t step = lists->col_step, next_band = BAND - (int32_t)g->pool_kw * step;
    const vi none = vi_set1(INT32_MAX);
    vi base = vi_sub(vi_load(lists->shift), vi_set1(lists->shift[0] - BAND / 2));
    for (uint32_t q = 0; q < g->pow; q++, gy += LANES, y += LANES, index += LANES) {
        const vf grad = v_snap(undo_act(g, gy, y), v_set1(STN_LIM_G));
        const vi taken = vi_load_u8(index);
        vi key = vi_add(base, vi_mul(taken, vi_set1(step)));
        for (uint32_t dy = 1; dy < g->pool_kh; dy++) {
            const vm above = vi_below(taken, vi_set1((int32_t)(dy * g->pool_kw)));
            key = vi_add(key, vi_select(above, vi_set1(0), vi_set1(next_band)));
        }
        row->grad[q] = grad;
        row->taken[q] = taken;
        v_store_pairs(row->across[q], grad, vi_select(v_nonzero(grad), key, none));
        base = vi_add(base, vi_set1((int32_t)g->pool_sw * step));
    }
#if V_PAIRS
    for (uint32_t q = g->pow; q % 8 != 0; q++) {
        v_store_pairs(row->across[q], v_zero(), none);
    }
    for (uint32_t q = 0; q < g->pow; q += 8) {
        v_turn_pairs(row->across[q], row->along[0] + q, WINDOW_COLS);
    }
#endif
}

/* Appends the items of channel j whose key lies in the band from `low` on; `add` makes an offset of
 * a key. Nothing is written at or behind `end`. */
VEC item *push_band(const conv_geom *g, const window_row *row, uint32_t j, int32_t low, int32_t add,
                    item *to, const item *end) {
#if V_PAIRS
    for (uint32_t q = 0; q < g->pow; q += 8) {
        to += v_push_band(to, end - to >= 8, row->along[j] + q, low, BAND, add);
    }
#else
    const item *from = &row->across[0][j], *last = &row->across[g->pow][j];
    /* Without a branch, so a place too many may be written. */
    for (; from < last && to < end; from += LANES) {
        const uint32_t key = (uint32_t)from->at;
        *to = (item){from->g, (int32_t)(key + (uint32_t)add)};
        to += key - (uint32_t)low < BAND ? 1 : 0;
    }
#endif
    return to;
}

/* PLANE16 without a dense map, one row of windows: a lane's pixels come in order, row by row. */
static void plane_row(const conv_geom *g, const window_row *row, uint32_t r, vf *lane) {
    for (uint32_t dy = 0; dy < g->pool_kh; dy++) {
        const uint32_t first = (r * g->pool_sh + dy) * g->ow;
        for (uint32_t q = 0; q < g->pow; q++) {
            for (uint32_t dx = 0; dx < g->pool_kw; dx++) {
                const vm here = vi_eq(row->taken[q], vi_set1((int32_t)(dy * g->pool_kw + dx)));
                vf *to = &lane[(first + q * g->pool_sw + dx) % STN_PLANE_LANES];
                *to = v_add(*to, v_keep(here, row->grad[q]));
            }
        }
    }
}

/* Row h of the map, row dy of its windows: all channels. */
static void list_band(const conv_geom *g, const grad_lists *lists, list_ends *e,
                      const window_row *row, uint32_t h, uint32_t dy) {
    const int32_t low = (int32_t)dy * BAND;
    const int32_t add = (int32_t)h * lists->row_step + lists->shift[0] - low - BAND / 2;
    for (uint32_t j = 0; j < LANES; j++) {
        mark_row(g, lists, e, j, h);
        if (dy < g->pool_kh) {
            const item *end = lists->list + (j + 1) * lists->most;
            e->next[j] = push_band(g, row, j, low, add, e->next[j], end);
        }
    }
}

static void list_windows(const conv_geom *g, const float *gy, const float *y, const uint8_t *index,
                         const grad_lists *lists, float *plane) {
    window_row row;
    vf lane[STN_PLANE_LANES];
    list_ends e = open_lists(lists);
    for (uint32_t j = 0; j < STN_PLANE_LANES; j++) {
        lane[j] = v_zero();
    }
    for (uint32_t r = 0; r < g->poh; r++) {
        const uint64_t at = (uint64_t)r * g->pow * LANES;
        const uint32_t top = r * g->pool_sh, next = r + 1 < g->poh ? top + g->pool_sh : g->oh;
        load_windows(g, gy + at, y + at, index + at, lists, &row);
        for (uint32_t h = top; h < next; h++) {
            list_band(g, lists, &e, &row, h, h - top);
        }
        if (plane != NULL) {
            plane_row(g, &row, r, lane);
        }
    }
    close_lists(g, lists, &e);
    if (plane != NULL) {
        v_store(plane, v_fold_rows(lane));
    }
}

void ISA(grad_list)(const grad_source *s, uint32_t n, uint32_t block, const grad_lists *lists,
                    float *scratch, float *plane) {
    const conv_geom *g = s->g;
    const grad_block b = grad_block_of(s, n, block);
    if (ISA(grad_disjoint)(g) && list_keys_fit(g, lists)) {
        list_windows(g, b.gy, b.y, b.index, lists, plane);
        return;
    }
    const float *gz = ISA(grad_dense)(g, &b, scratch);
    list_pixels(g, gz, lists);
    if (plane != NULL) {
        ISA(grad_plane)(gz, g->oh * g->ow, plane);
    }
}

void ISA(grad_plane)(const float *gz, uint32_t pixels, float *sum) {
    vf lane[STN_PLANE_LANES];
    for (uint32_t j = 0; j < STN_PLANE_LANES; j++) {
        lane[j] = v_zero();
    }
    for (uint32_t i = 0; i < pixels; i++) {
        vf *to = &lane[i % STN_PLANE_LANES];
        *to = v_add(*to, v_load(gz + (uint64_t)i * LANES));
    }
    v_store(sum, v_fold_rows(lane));
}

vf ISA(shard_tree)(const float *part, uint64_t stride, uint32_t shards) {
    vf level[MAX_LEVELS];
    vf sum = v_zero();
    for (uint32_t s = 0; s < shards; s++) {
        sum = v_load(part + s * stride);
        uint32_t l = 0;
        for (; (s >> l & 1u) != 0; l++) {
            sum = v_add(level[l], sum);
        }
        level[l] = sum;
    }
    return sum;
}

vf ISA(batch_sum)(const bias_sum *b, uint32_t block) {
    const uint32_t lanes = min_u32(LANES, b->channels - block * LANES);
    vf level[MAX_LEVELS], sum = v_zero();
    for (uint32_t s = 0; s < b->shards; s++) {
        uint32_t first, end;
        shard_range(b->batch, b->shards, b->rows, s, &first, &end);
        sum = v_zero();
        for (uint32_t n = first; n < end; n++) {
            sum = v_add(sum, v_load_n(b->plane + n * b->width + block * LANES, lanes));
        }
        uint32_t l = 0;
        for (; (s >> l & 1u) != 0; l++) {
            sum = v_add(level[l], sum);
        }
        level[l] = sum;
    }
    return sum;
}

void ISA(bias_task)(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bias_sum *b = user;
    const uint32_t lanes = min_u32(LANES, b->channels - block * LANES);
    const vf sum = v_snap(ISA(batch_sum)(b, block), v_set1(cpu_grad_limit(b->call)));
    flag_seen(b->call, v_seen(vi_set1(0), v_keep(vm_first(lanes), sum)));
    v_store_n(b->out + block * LANES, sum, lanes);
}
