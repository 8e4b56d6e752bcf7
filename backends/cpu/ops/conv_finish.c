/* Finishes the sums of a convolution: see conv_finish.h. */
#include "conv_finish.h"

VEC vf finish_conv(finish *s, const float *sum) {
    const vf v = v_add(v_load(sum), s->bias);
    s->taint = v_taint(s->taint, v);
    return v;
}

/* Snap, activation, snap. If the slope is at most 1, the second one does what the first would. */
VEC vf finish_act(const finish *s, vf v) {
    v = s->steep ? v_snap(v, v_set1(STN_LIM_X)) : v;
    v = s->relu ? v_max(v, v_zero()) : v_act(v, s->slope);
    return v_keep(s->real, v_snap(v, v_set1(STN_LIM_X)));
}

/* A window as finish_window takes it, of snapped values. */
static __attribute__((noinline)) vp snapped_window(const finish *s, uint32_t places, uint32_t kw,
                                                   const float *at, uint64_t row) {
    vf best = v_snap(v_add(v_load(at), s->bias), v_set1(STN_LIM_X));
    vp where = vp_zero();
    for (uint32_t i = 1; i < places; i++) {
        const float *sum = at + i / kw * row + i % kw * GROUP;
        const vf v = v_snap(v_add(v_load(sum), s->bias), v_set1(STN_LIM_X));
        where = vp_set(where, v_gt(v, best), i);
        best = v_max(v, best);
    }
    return where;
}

/* The largest value of a window and its place. Snapping changes the order of values only where
 * they are below its limit: all that matters is whether the largest is. */
VEC vf finish_window(finish *s, const uint32_t kh, const uint32_t kw, const float *at, uint64_t row,
                     vp *where) {
    vf best = finish_conv(s, at);
    *where = vp_zero();
    for (uint32_t i = 1; i < kh * kw; i++) {
        const vf v = finish_conv(s, at + i / kw * row + i % kw * GROUP);
        *where = vp_set(*where, v_gt(v, best), i);
        best = v_max(v, best);
    }
    if (vm_bits(vm_and(s->real, v_lt(v_abs(best), v_set1(STN_LIM_X)))) != 0) {
        *where = snapped_window(s, kh * kw, kw, at, row);
    }
    return best;
}

/* One row of values without a pool, past the caches if that pays. */
VEC void finish_plain(finish *s, uint32_t cols, const bool stream, const float *sums, float *y) {
    for (uint32_t q = 0; q < cols; q++) {
        const vf v = finish_act(s, finish_conv(s, sums + (uint64_t)q * GROUP));
        if (stream) {
            v_stream(y + q * LANES, v);
        } else {
            v_store(y + q * LANES, v);
        }
    }
}

/* One row of `cols` windows: sums points to the row's first pixel, row and pixel are strides in
 * floats. */
VEC void finish_row(finish *s, uint32_t cols, const uint32_t kh, const uint32_t kw,
                    const uint32_t sw, const float *sums, uint64_t row, float *y, uint8_t *index) {
    for (uint32_t q = 0; q < cols; q++) {
        vp where;
        const vf best = finish_window(s, kh, kw, sums + (uint64_t)q * sw * GROUP, row, &where);
        v_store(y + q * LANES, finish_act(s, best));
        vp_store(index + q * LANES, where);
    }
}

void ISA(finish_lines)(unit_finish *u, const tile_place *at) {
    const conv_geom *g = &u->f->g;
    for (uint32_t r = 0; r < 2; r++) {
        u->line[r] =
            at->image[r] * u->image + (uint64_t)(at->line[r] / g->pool_sh) * g->pow * LANES;
    }
}

/* A row of windows of 2 x 2, each row of a window first, without a look at each value whether it is
 * finite or about to be snapped: as finished() says. */
VEC bool swift_pairs(const finish *s, uint32_t cols, const bool relu, const float *sums,
                     uint64_t row, float *y, uint8_t *index) {
    vf least = v_set1(INFINITY), taint = v_zero();
    for (uint32_t q = 0; q < cols; q++, sums += 2 * GROUP) {
        const vf a = v_add(v_load(sums), s->bias), b = v_add(v_load(sums + GROUP), s->bias);
        const vf c = v_add(v_load(sums + row), s->bias);
        const vf d = v_add(v_load(sums + row + GROUP), s->bias);
        taint = v_fma(c, d, v_fma(a, b, taint));
        vp where;
        const vf best = window_of_four(a, b, c, d, &where);
        vp_store(index + q * LANES, where);
        const vf out = relu ? v_max(best, v_zero()) : v_act(best, s->slope);
        least = v_least(least, relu ? best : out);
        v_store(y + q * LANES, out);
    }
    return finished(s, taint, least);
}

/* As swift_pairs, windows of 3 x 3. */
VEC bool swift_nines(const finish *s, uint32_t cols, const uint64_t sw, const bool relu,
                     const float *sums, uint64_t row, float *y, uint8_t *index) {
    vf least = v_set1(INFINITY), taint = v_zero();
    for (uint32_t q = 0; q < cols; q++, sums += sw * GROUP) {
        vf best = v_add(v_load(sums), s->bias), other = best;
        vp where = vp_zero();
        UNROLL
        for (uint32_t i = 1; i < 9; i++) {
            const vf v = v_add(v_load(sums + i / 3 * row + i % 3 * GROUP), s->bias);
            taint = i % 2 == 1 || i == 8 ? v_fma(v, other, taint) : taint;
            where = vp_set(where, v_gt(v, best), i);
            best = v_max(v, best);
            other = v;
        }
        vp_store(index + q * LANES, where);
        const vf out = relu ? v_max(best, v_zero()) : v_act(best, s->slope);
        least = v_least(least, relu ? best : out);
        v_store(y + q * LANES, out);
    }
    return finished(s, taint, least);
}

/* `cols` windows of one row, whose rows lie `row` floats apart, to places `to` floats from where
 * the unit's outputs begin. False: they are to be done again, or for the first time. */
static bool swift_windows(const finish *s, const conv_geom *g, uint32_t cols, const float *sums,
                          uint64_t row, uint64_t to) {
    const uint32_t size = g->pool_kh == g->pool_kw ? g->pool_kh : 0, sw = g->pool_sw;
    float *y = s->y + to;
    uint8_t *index = s->index + to;
    if (!s->steep && size == 2 && sw == 2) {
        return s->relu ? swift_pairs(s, cols, true, sums, row, y, index)
                       : swift_pairs(s, cols, false, sums, row, y, index);
    }
    if (!s->steep && size == 3) {
        return s->relu ? swift_nines(s, cols, sw, true, sums, row, y, index)
                       : swift_nines(s, cols, sw, false, sums, row, y, index);
    }
    return false;
}

static void finish_windows(finish *all, const conv_geom *g, uint32_t cols, const float *sums,
                           uint64_t row, uint64_t to) {
    if (!swift_windows(all, g, cols, sums, row, to)) {
        finish s = *all;
        if (g->pool_kh == 2 && g->pool_kw == 2 && g->pool_sw == 2) {
            finish_row(&s, cols, 2, 2, 2, sums, row, s.y + to, s.index + to);
        } else {
            finish_row(&s, cols, g->pool_kh, g->pool_kw, g->pool_sw, sums, row, s.y + to,
                       s.index + to);
        }
        all->taint = s.taint;
    }
}

/* One row without a pool, value by value. */
static void finish_values(finish *all, const forward *f, uint32_t cols, const float *sums,
                          uint64_t to) {
    finish s = *all;
    if (f->stream) {
        finish_plain(&s, cols, true, sums, s.y + to);
    } else {
        finish_plain(&s, cols, false, sums, s.y + to);
    }
    all->taint = s.taint;
}

void ISA(finish_tile)(unit_finish *u, const tile_place *at, const float *sums) {
    for (uint32_t v = 0; v < u->vectors; v++, sums += LANES) {
        finish *s = &u->of[v];
        if (u->f->g.pooled) {
            finish_windows(s, &u->f->g, at->width / 2, sums, TILE_PITCH, finish_place(u, at, 0));
        } else {
            for (uint32_t r = 0; r < at->rows; r++) {
                finish_values(s, u->f, at->width, sums + r * TILE_PITCH, finish_place(u, at, r));
            }
        }
    }
}

void ISA(finish_unit)(unit_finish *u, uint32_t images, uint32_t rows, const float *sums) {
    const forward *f = u->f;
    const conv_geom *g = &f->g;
    const uint64_t row = (uint64_t)f->conv_cols * GROUP;
    for (uint32_t v = 0; v < u->vectors; v++) {
        for (uint32_t i = 0; i < images; i++) {
            const float *from = sums + i * f->conv_rows * row + v * LANES;
            for (uint32_t r = 0; r < rows; r++, from += g->pool_sh * row) {
                const uint64_t to = i * u->image + (uint64_t)r * g->pow * LANES;
                if (g->pooled) {
                    finish_windows(&u->of[v], g, g->pow, from, row, to);
                } else {
                    finish_values(&u->of[v], f, g->pow, from, to);
                }
            }
        }
    }
}

unit_finish ISA(finish_start)(const forward *f, uint32_t group, uint32_t image, uint32_t top) {
    const conv_geom *g = &f->g;
    const stn_kernel *k = f->call->kernel;
    const float *bias = k->n_in > 2 ? f->call->in[2] : NULL;
    const float slope = g->act ? g->slope : 1.0f;
    const bool steep = slope > 1.0f || slope < -1.0f;
    const uint64_t plane = (uint64_t)g->poh * g->pow * LANES;
    unit_finish u = {.f = f,
                     .vectors = min_u32(TILE_V, blocks_of(g->o) - group * TILE_V),
                     .image = blocks_of(g->o) * plane,
                     .swift = !steep};
    for (uint32_t v = 0; v < u.vectors; v++) {
        const uint32_t block = group * TILE_V + v, lanes = min_u32(LANES, g->o - block * LANES);
        const uint64_t to = image * u.image + block * plane + (uint64_t)top * g->pow * LANES;
        u.of[v] = (finish){
            .bias = bias == NULL ? v_zero() : v_load_n(bias + block * LANES, lanes),
            .slope = v_set1(slope),
            .real = vm_first(lanes),
            .relu = slope == 0.0f,
            .steep = steep,
            .taint = v_zero(),
            .y = (float *)f->call->out[0] + to,
            .index = g->pooled ? (uint8_t *)f->call->out[1] + to : NULL,
        };
    }
    return u;
}

void ISA(finish_end)(const unit_finish *u) {
    for (uint32_t v = 0; v < u->vectors; v++) {
        const finish *s = &u->of[v];
        flag_seen(u->f->call, v_seen(vi_set1(0), v_keep(s->real, s->taint)));
    }
}
