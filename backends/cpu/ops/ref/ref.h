/* Scalar reference of every operator: the text of core/NUMERICS.md, C5, as C.
 *
 * Written to be read: one output at a time, every sum in the order the contract gives. The only
 * concessions to speed are tasks for the thread pool and skipped padding terms (adding a product
 * that is zero changes nothing, C4). All operands may be in either layout.
 */
#ifndef REF_H
#define REF_H

#include "cpu.h"

#define REF_MAX_SHARDS 1024u

/* One channel of one row of a tensor: element hw is at[hw * step]. */
typedef struct ref_plane {
    const float *at;
    size_t step;
} ref_plane;

typedef struct ref_plane_out {
    float *at;
    size_t step;
} ref_plane_out;

static inline size_t ref_step(const stn_tensor *t) {
    return t->layout == STN_NC16 ? 16u : 1u;
}

static inline float ref_at(ref_plane p, size_t i) {
    return p.at[i * p.step];
}

static inline ref_plane ref_in(const cpu_call *call, uint32_t i, uint32_t n, uint32_t c) {
    const stn_tensor *t = &call->kernel->in[i];
    return (ref_plane){(const float *)call->in[i] + stn_tensor_at(t, n, c, 0), ref_step(t)};
}

static inline ref_plane_out ref_out(const cpu_call *call, uint32_t i, uint32_t n, uint32_t c) {
    const stn_tensor *t = &call->kernel->out[i];
    return (ref_plane_out){(float *)call->out[i] + stn_tensor_at(t, n, c, 0), ref_step(t)};
}

/* Element of a vector [C], or of a row [N, K] seen as [N, K, 1, 1]. */
static inline float ref_element(const cpu_call *call, uint32_t i, uint32_t n, uint32_t c) {
    return ref_at(ref_in(call, i, n, c), 0);
}

/* Stores a result and watches for infinities and NaN (C6). */
static inline void ref_put(const cpu_call *call, ref_plane_out p, size_t i, float value) {
    p.at[i * p.step] = value;
    if (stn_nonfinite(value)) {
        cpu_flag(call);
    }
}

static inline uint32_t ref_plane_size(const stn_tensor *t) {
    return t->dim[2] * t->dim[3];
}

/* Rows to compute of a value with dim[0] = N: those of a short last batch, never more than N (a
 * value that is not batched comes as one row). */
static inline uint32_t ref_rows(const cpu_call *call, const stn_tensor *t) {
    return call->step->count < t->dim[0] ? call->step->count : t->dim[0];
}

/* Runs fn(call, task) for all tasks on the pool. */
void ref_parallel(const cpu_call *call, uint64_t tasks,
                  void (*fn)(const cpu_call *call, uint32_t task));

/* Sets the channels past C of output i to +0 in its first rows (nothing to do in NCHW). */
void ref_clear_padding(const cpu_call *call, uint32_t i, uint32_t rows);

/* ---- C4 ------------------------------------------------------------------------------------- */

/* CHUNK: add terms, count them (one by one, or a channel of a convolution at a time), and read the
 * sum with chunk_total. Terms that are zero by definition (padding) are counted, not added. */
typedef struct ref_chunk {
    uint64_t length, used; /* L; what was counted since the last partial sum */
    float total, part;
    uint32_t full; /* 1 once `total` holds the first partial sum */
} ref_chunk;

static inline ref_chunk ref_chunk_new(uint64_t length) {
    return (ref_chunk){.length = length};
}

/* total = p_0, then total = total + p_s. */
static inline void ref_chunk_close(ref_chunk *sum) {
    sum->total = sum->full ? sum->total + sum->part : sum->part;
    sum->full = 1;
    sum->part = 0.0f;
    sum->used = 0;
}

static inline void ref_chunk_add(ref_chunk *sum, float a, float b) {
    sum->part = fmaf(a, b, sum->part);
}

static inline void ref_chunk_count(ref_chunk *sum) {
    if (++sum->used == sum->length) {
        ref_chunk_close(sum);
    }
}

static inline void ref_chunk_term(ref_chunk *sum, float a, float b) {
    ref_chunk_add(sum, a, b);
    ref_chunk_count(sum);
}

static inline float ref_chunk_total(ref_chunk *sum) {
    if (sum->used > 0) {
        ref_chunk_close(sum);
    }
    return sum->total;
}

/* PLANE16: lanes start at +0; lane i mod 16 takes term i; then fold 8, 4, 2, 1. */
typedef struct ref_lanes {
    float lane[STN_PLANE_LANES];
} ref_lanes;

static inline void ref_lane_add(ref_lanes *sum, uint32_t i, float x) {
    float *lane = &sum->lane[i % STN_PLANE_LANES];
    *lane = *lane + x;
}

static inline void ref_lane_term(ref_lanes *sum, uint32_t i, float a, float b) {
    float *lane = &sum->lane[i % STN_PLANE_LANES];
    *lane = fmaf(a, b, *lane);
}

float ref_lanes_fold(ref_lanes *sum);

/* SHARDS: images of the nominal batch N per shard. */
static inline uint32_t ref_shard_length(uint32_t batch, uint32_t shards) {
    return (batch + shards - 1u) / shards;
}

/* Balanced binary tree ((0,1),(2,3))... over the shard sums, which it overwrites. */
float ref_shard_tree(float *sum, uint32_t shards);

/* ---- families: each entry fills *impl for its operators ---------------------------------------
 */

cpu_fn ref_conv_fn(uint32_t op);
cpu_fn ref_linear_fn(uint32_t op);
cpu_fn ref_pool_fn(uint32_t op);
cpu_fn ref_act_fn(uint32_t op);
cpu_fn ref_bn_fn(uint32_t op);
cpu_fn ref_warp_fn(uint32_t op);
cpu_fn ref_compose_fn(uint32_t op);
cpu_fn ref_loss_fn(uint32_t op);
cpu_fn ref_elementwise_fn(uint32_t op);
cpu_fn ref_optimizer_fn(uint32_t op);
cpu_fn ref_block_fn(uint32_t op);
/* Scratch of the composites, 0 for everything else. */
uint64_t ref_block_workspace(const stn_kernel *kernel);

#endif
