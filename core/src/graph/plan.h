/* The plan of a graph on a device: layouts, memory places, prepared kernels, runs.
 *
 * Made once when a net opens; running it only enqueues. Values that are outputs of nodes live in
 * the arena, a few buffers in which tensors with disjoint lifetimes share memory; everything else
 * (state, pixels, labels, constants, packs, loss statistics and predictions) is bound by the net.
 */
#ifndef STN_GRAPH_PLAN_H
#define STN_GRAPH_PLAN_H

#include "graph/graph.h"

#define STN__ALIGN 256u         /* of every offset in a buffer, a promise to the backends */
#define STN__MAX_BUFFERS 32u    /* pieces of an arena */
#define STN__POISON 0xffffffffu /* keep_values: fills the arena at first, NaN as a float */

/* ---- placing blocks ---------------------------------------------------------------------------
 */

/* Memory needed from node `first` to node `last`, both included. */
typedef struct stn__block {
    uint64_t bytes;
    uint32_t first, last;
    uint32_t buffer; /* result */
    uint64_t offset; /* result, a multiple of STN__ALIGN */
} stn__block;

typedef struct stn__arena {
    uint32_t n;                       /* buffers in use */
    uint64_t bytes[STN__MAX_BUFFERS]; /* size of each */
} stn__arena;

/* Places the blocks, large ones first, each at the lowest offset of the first buffer where it meets
 * no block alive at the same time; `gap` bytes stay free after each. No buffer exceeds max_buffer
 * (0: no limit). Returns -1, or the index of a block that cannot be placed. scratch: n entries. */
int64_t stn__arena_place(stn__block *block, uint32_t n, uint64_t max_buffer, uint64_t gap,
                         stn__arena *arena, uint32_t *scratch);
/* True if no two blocks alive at the same time overlap and all lie inside the arena. */
bool stn__arena_check(const stn__block *block, uint32_t n, const stn__arena *arena);

static inline uint64_t stn__round_up(uint64_t bytes) {
    return (bytes + STN__ALIGN - 1u) / STN__ALIGN * STN__ALIGN;
}

/* ---- plans ------------------------------------------------------------------------------------
 */

typedef struct stn__plan {
    stn_graph graph;
    const stn_backend *backend; /* borrowed */
    stn_device *device;
    bool keep;          /* every value has its own memory and a canary after it */
    bool inexact;       /* an operator does not obey the contract (--math fast) */
    uint32_t late;      /* first node that runs once for all micro-batches; n_nodes if none does */
    uint64_t workspace; /* bytes of scratch, the largest of all nodes */
    uint32_t n_blocks;
    stn__block *block;
    int32_t *place; /* value -> block, or -1 */
    stn__arena arena;
    stn_ref *ref;     /* value -> memory */
    stn_ref *operand; /* of all nodes: inputs, then outputs */
    uint32_t *first;  /* node -> its first operand */
    stn_kernel **kernel;
} stn__plan;

/* Layouts, lifetimes and places for plan->graph, which must be complete. `info` names the device in
 * errors and gives its limits. plan is zeroed by the caller except for the graph;
 * stn__plan_free whatever the outcome. */
int32_t stn__plan_make(stn__plan *plan, const stn_backend *backend, stn_device *device,
                       const stn_device_info *info, bool keep, stn_err *err);
/* Sets ref[] of placed values; the others must have been set. Then operand[]. */
void stn__plan_bind(stn__plan *plan, stn_buf *const *buffers);
/* Moves a value that no other node reads, an output of node `value.node`. */
void stn__plan_move(stn__plan *plan, stn_val value, stn_ref to);
int32_t stn__plan_prepare(stn__plan *plan, stn_err *err);
/* Enqueues the nodes before plan->late, or those from it on. With spans (else NULL) each is waited
 * for before the next one. */
int32_t stn__plan_run(const stn__plan *plan, bool late, stn_stream *stream, stn_ref workspace,
                      stn_ref flags, const stn_step *step, stn_span *spans, stn_err *err);
/* Work of one node by its record. */
uint64_t stn__plan_flops(const stn__plan *plan, uint32_t node);
/* Bytes of its operands as stored, each counted once. */
uint64_t stn__plan_bytes(const stn__plan *plan, uint32_t node);
void stn__plan_free(stn__plan *plan);

#endif
