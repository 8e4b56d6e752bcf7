/* Undoing activation and pool, listing non-zeros, and the sums of the bias gradient. */
#include "gradient.h"

#define MAX_LEVELS 11u /* for GRAD_MAX_SHARDS */

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
    return !is_block(k->op) || ((!g->act || k->in[1].layout == STN_NC16) &&
                                (!g->pooled || k->in[2].layout == STN_NC16));
}

static bool pool_disjoint(const conv_geom *g) {
    return g->pool_sh >= g->pool_kh && g->pool_sw >= g->pool_kw;
}

uint32_t ISA(grad_most)(const conv_geom *g) {
    return g->pooled && pool_disjoint(g) ? g->poh * g->pow : g->oh * g->ow;
}

/* ACT_GRAD of one vector. */
VEC vf undo_act(const conv_geom *g, const float *gy, const float *y) {
    const vf grad = v_load(gy);
    if (!g->act) {
        return grad;
    }
    const vm on = v_gt(v_load(y), v_zero());
    if (g->slope < 0.0f || g->slope > 0.0f) {
        return v_select(on, grad, v_snap(v_mul(v_set1(g->slope), grad), v_set1(STN_LIM_G)));
    }
    return v_keep(on, grad);
}

/* MAXPOOL_GRAD: each window gives its gradient to the pixel it took; overlapping windows add in
 * row-major order from +0, snapped at the end. */
static void undo_pool(const conv_geom *g, const float *gy, const float *y, const uint8_t *index,
                      float *gz) {
    const bool add = !pool_disjoint(g);
    memset(gz, 0, (uint64_t)g->oh * g->ow * LANES * sizeof *gz);
    for (uint32_t r = 0; r < g->poh; r++) {
        for (uint32_t q = 0; q < g->pow; q++) {
            const uint64_t window = ((uint64_t)r * g->pow + q) * LANES;
            vf grad = undo_act(g, gy + window, y + window);
            grad = add ? grad : v_snap(grad, v_set1(STN_LIM_G));
            const vi taken = vi_load_u8(index + window);
            float *corner = gz + ((uint64_t)r * g->pool_sh * g->ow + q * g->pool_sw) * LANES;
            for (uint32_t i = 0; i < g->pool_kh; i++) {
                for (uint32_t j = 0; j < g->pool_kw; j++) {
                    float *to = corner + (i * g->ow + j) * LANES;
                    const vm here = vi_eq(taken, vi_set1((int32_t)(i * g->pool_kw + j)));
                    const vf part = v_keep(here, grad);
                    v_store(to, add ? v_add(v_load(to), part) : part);
                }
            }
        }
    }
    for (uint64_t i = 0; add && i < (uint64_t)g->oh * g->ow; i++) {
        v_store(gz + i * LANES, v_snap(v_load(gz + i * LANES), v_set1(STN_LIM_G)));
    }
}

const float *ISA(grad_block)(const grad_source *s, uint32_t n, uint32_t block, float *scratch) {
    const conv_geom *g = s->g;
    const uint64_t pixels = (uint64_t)g->poh * g->pow;
    const uint64_t at = ((uint64_t)n * blocks_of(g->o) + block) * pixels * LANES;
    /* Without an activation y is not read; any valid address will do. */
    const float *gy = s->gy + at, *y = s->y == NULL ? gy : s->y + at;
    if (g->pooled) {
        undo_pool(g, gy, y, s->index + at, scratch);
        return scratch;
    }
    if (!g->act) {
        return gy;
    }
    for (uint64_t i = 0; i < pixels; i++) {
        v_store(scratch + i * LANES, undo_act(g, gy + i * LANES, y + i * LANES));
    }
    return scratch;
}

void ISA(grad_list)(const conv_geom *g, const float *gz, const grad_lists *lists) {
    item *next[LANES], *start[LANES];
    for (uint32_t j = 0; j < LANES; j++) {
        start[j] = lists->list + j * lists->most;
        next[j] = start[j] + lists->count[j];
    }
    uint32_t pixel = 0;
    for (uint32_t r = 0; r < g->oh; r++) {
        for (uint32_t j = 0; lists->starts != NULL && j < LANES; j++) {
            lists->starts[j * (g->oh + 1) + r] = (uint32_t)(next[j] - start[j]);
        }
        for (uint32_t q = 0; q < g->ow; q++, pixel++) {
            const float *at = gz + (uint64_t)pixel * LANES;
            const int32_t offset = lists->at[pixel];
            for (uint32_t left = vm_bits(v_nonzero(v_load(at))); left != 0; left &= left - 1) {
                const uint32_t j = (uint32_t)__builtin_ctz(left);
                *next[j]++ = (item){at[j], offset + lists->shift[j]};
            }
        }
    }
    for (uint32_t j = 0; j < LANES; j++) {
        lists->count[j] = (uint32_t)(next[j] - start[j]);
        if (lists->starts != NULL) {
            lists->starts[j * (g->oh + 1) + g->oh] = lists->count[j];
        }
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
    for (uint32_t s = STN_PLANE_LANES / 2; s > 0; s /= 2) {
        for (uint32_t j = 0; j < s; j++) {
            lane[j] = v_add(lane[j], lane[j + s]);
        }
    }
    v_store(sum, lane[0]);
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

void ISA(bias_task)(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bias_sum *b = user;
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
    sum = v_snap(sum, v_set1(STN_LIM_G));
    flag_seen(b->call, v_seen(vi_set1(0), v_keep(vm_first(lanes), sum)));
    v_store_n(b->out + block * LANES, sum, lanes);
}
