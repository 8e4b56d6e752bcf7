/* The gradient that reaches a convolution: activation and pool undone, and its non-zeros listed.
 *
 * All maps are NC16. "gz" of an image is the gradient of the convolution's own output,
 * [blocks of 16 channels][OH*OW][16].
 */
#ifndef CPU_OPS_GRADIENT_H
#define CPU_OPS_GRADIENT_H

#include "conv.h"
#include "sparse.h"

#define GRAD_MAX_SHARDS 1024u

/* gy of the block's output (or of the convolution itself), the stored y and the pool's index. */
typedef struct grad_source {
    const conv_geom *g;
    const float *gy, *y;
    const uint8_t *index;
} grad_source;

grad_source ISA(grad_source)(const conv_geom *g, const cpu_call *call);

/* One block of one image of a source. */
typedef struct grad_block {
    const float *gy, *y;
    const uint8_t *index;
} grad_block;

static inline grad_block grad_block_of(const grad_source *s, uint32_t n, uint32_t block) {
    const conv_geom *g = s->g;
    const uint64_t at = ((uint64_t)n * blocks_of(g->o) + block) * g->poh * g->pow * LANES;
    grad_block b = {.gy = s->gy + at};
    /* Without an activation y is not read; any valid address will do. */
    b.y = s->y == NULL ? b.gy : s->y + at;
    b.index = s->index == NULL ? NULL : s->index + at;
    return b;
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

/* gz of a block: b->gy where nothing is to be undone, otherwise computed into scratch[OH*OW*16]. */
const float *ISA(grad_dense)(const conv_geom *g, const grad_block *b, float *scratch);

/* How many gradients of the first image are not zero. scratch: [OH*OW*16]. */
uint64_t ISA(grad_count)(const grad_source *s, float *scratch);

/* True if the layouts of gy, y and index are those that this file reads. */
bool ISA(grad_readable)(const stn_kernel *k, const conv_geom *g);

/* True if every pixel lies in at most one window of a pool. */
bool ISA(grad_disjoint)(const conv_geom *g);

/* Largest number of non-zeros of one channel of one image. */
uint32_t ISA(grad_most)(const conv_geom *g);

/* Where lists go. The item of pixel (oh, ow) of channel j of a block gets the offset
 * oh * row_step + ow * col_step + shift[j]. Items are appended in pixel order to list + j * most,
 * where most >= count[j] + grad_most; count[j] grows. starts (may be NULL) gets count[j] before
 * each of the OH rows and after the last one, [16][OH + 1]. */
typedef struct grad_lists {
    item *list;
    uint64_t most;
    uint32_t *count;
    int32_t row_step, col_step;
    int32_t shift[LANES];
    uint32_t *starts;
} grad_lists;

/* Lists the non-zeros of one block of image n. scratch: [OH*OW*16]. plane (may be NULL) gets the
 * 16 sums over the pixels, PLANE16. */
void ISA(grad_list)(const grad_source *s, uint32_t n, uint32_t block, const grad_lists *lists,
                    float *scratch, float *plane);

/* PLANE16 over the pixels, per channel lane. */
void ISA(grad_plane)(const float *gz, uint32_t pixels, float *sum);

/* Balanced tree over `shards` arrays of 16 floats, `stride` floats apart (contract SHARDS). */
vf ISA(shard_tree)(const float *part, uint64_t stride, uint32_t shards);

/* Images of shard s among the real rows: *first .. *end - 1. */
static inline void shard_range(uint32_t batch, uint32_t shards, uint32_t rows, uint32_t s,
                               uint32_t *first, uint32_t *end) {
    const uint64_t length = ceil_div(batch, shards);
    *first = (uint32_t)(s * length < rows ? s * length : rows);
    *end = (uint32_t)((s + 1) * length < rows ? (s + 1) * length : rows);
}

/* Sum over the batch of the per-image sums plane[n][width], width >= channels: plain adds over the
 * images of a shard, the tree over the shards. */
typedef struct bias_sum {
    const cpu_call *call;
    const float *plane;
    float *out;
    uint64_t width;
    uint32_t channels, batch, rows, shards;
} bias_sum;
/* Of a block of 16 channels. */
vf ISA(batch_sum)(const bias_sum *b, uint32_t block);
/* The bias gradient: the sum, snapped. Tasks are blocks. */
void ISA(bias_task)(void *user, uint32_t block, uint32_t thread);

#endif
