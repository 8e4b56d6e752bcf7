/* A batch in micro-batches of whole shards, for little memory and the same bits (contract C4).
 *
 * The plans are those of a batch of `rows` images in S/M shards, so every operator does what it
 * does in a whole batch. What differs is the gradient of a parameter: in a micro-batch it is the
 * sum over a subtree of the shards, is not snapped (stn_step.partial), and lies in the sums, one
 * buffer with the same places on each level of a stack. After micro-batch i as many pairs on top of
 * the stack are added as i+1 has trailing zeros, which is the balanced tree; the parts that a short
 * batch does not have would add +0 and are left out. At the end one operator for each gradient
 * snaps the root, and what follows (sums over the uses of a parameter, the optimizer) is that of
 * any step.
 */
#include <string.h>

#include "base/mem.h"
#include "graph/net.h"

/* ---- the graph ---------------------------------------------------------------------------- */

/* True if output o is the gradient of a parameter, summed over images: not batched, but made from
 * what is. */
static bool sums_images(const stn_graph *g, const stn__node *node, uint32_t o) {
    const stn__value *out = &g->value[node->out[o]];
    return g->value[node->in[0]].batched && !out->batched && out->kind == STN__ACTIVATION;
}

static bool is_read(const stn_graph *g, stn_val v, const stn_val *grads) {
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        for (uint32_t i = 0; i < g->node[k].n_in; i++) {
            if (g->node[k].in[i] == v) {
                return true;
            }
        }
    }
    for (uint32_t i = 0; i < g->store->n; i++) {
        if (g->store->item[i].role == STN__ROLE_PARAM && grads[i] == v) {
            return true;
        }
    }
    return false;
}

/* Output o of node k becomes a sum of its own; a new node snaps it to what the output was. */
static void part_from(stn_graph *g, uint32_t k, uint32_t o, const stn_val *grads) {
    stn_val whole = g->node[k].out[o];
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "part of %.110s", g->value[whole].name);
    stn_tensor t = g->value[whole].tensor;
    stn_val part = stn__graph_value(g, STN__PARTIAL, &t, false, name);
    if (part == STN_NO_VALUE) {
        return;
    }
    g->value[part].pack_at = g->partial_bytes;
    g->partial_bytes += stn__round_up(stn_tensor_bytes(&t));
    g->node[k].out[o] = part;
    stn_op_params snap = {.scale = {sizeof snap.scale, STN_CLASS_G, 1.0f}};
    (void)snprintf(name, sizeof name, "%s", g->node[k].name); /* the nodes may move */
    stn__node *node =
        is_read(g, whole, grads) ? stn__graph_node(g, STN_OP_SCALE, &snap, &part, 1, name) : NULL;
    if (node != NULL) {
        node->out[0] = whole;
        node->n_out = 1;
    }
}

/* True for what reads a snapped gradient: a node after `first`, or a sum of them. */
static bool reads_snapped(const stn_graph *g, const stn__node *node, uint32_t first) {
    for (uint32_t i = 0; i < node->n_in; i++) {
        int32_t from = g->value[node->in[i]].node;
        if (from >= 0 && (uint32_t)from >= first) {
            return true;
        }
    }
    return false;
}

int32_t stn__graph_split(stn_graph *g, const stn_val *grads, stn_err *err) {
    uint32_t n = g->n_nodes, to = 0;
    for (uint32_t k = 0; k < n && !g->failed; k++) {
        for (uint32_t o = 0; o < g->node[k].n_out; o++) {
            if (sums_images(g, &g->node[k], o)) {
                part_from(g, k, o, grads);
            }
        }
    }
    if (g->failed) {
        return stn_fail(err, g->err.code, "%s", g->err.text);
    }
    uint64_t bytes = (uint64_t)g->n_nodes * sizeof *g->node;
    stn__node *old = stn__alloc(bytes);
    if (old == NULL) {
        return stn__nomem(err, "order of nodes", bytes);
    }
    memcpy(old, g->node, bytes);
    stn__graph_relink(g);
    /* What a micro-batch runs, what snaps, and what adds the snapped. */
    for (uint32_t kind = 0; kind < 3; kind++) {
        for (uint32_t k = 0; k < g->n_nodes; k++) {
            uint32_t own = k >= n ? 1 : reads_snapped(g, &old[k], n) ? 2 : 0;
            if (own == kind) {
                g->node[to++] = old[k];
            }
        }
    }
    stn__free(old);
    stn__graph_relink(g);
    return STN_OK;
}

/* ---- sizes -------------------------------------------------------------------------------- */

static uint32_t bits_of(uint32_t x) {
    uint32_t n = 0;
    for (; x != 0; x &= x - 1) {
        n++;
    }
    return n;
}

bool stn__micro_choose(stn_net *net, const stn_net_spec *spec, uint32_t share) {
    uint32_t shard = (spec->batch + spec->shards - 1) / spec->shards;
    stn__micro *m = &net->micro;
    *m = (stn__micro){.share = share, .parts = 1, .rows = spec->batch};
    if (share == 1) {
        return true;
    }
    m->rows = shard * (spec->shards / share);
    if (m->rows >= spec->batch) {
        return false;
    }
    m->parts = (spec->batch + m->rows - 1) / m->rows;
    for (uint32_t i = 0; i < m->parts; i++) {
        uint32_t depth = bits_of(i) + 1;
        m->levels = depth > m->levels ? depth : m->levels;
    }
    return true;
}

/* ---- adding ------------------------------------------------------------------------------- */

/* The operator that adds the sums of two levels, and what its description points to. */
typedef struct adding {
    stn_tensor sum, in[2];
    stn_op_params params;
    stn_op_desc desc;
} adding;

static void describe(const stn_net *net, adding *a) {
    uint64_t elems = net->plan[0].graph.partial_bytes / 4u;
    a->sum = (stn_tensor){STN_F32, STN_NCHW, 2, {1, (uint32_t)elems, 1, 1}};
    a->in[0] = a->in[1] = a->sum;
    a->params = (stn_op_params){.scale = {sizeof a->params.scale, STN_CLASS_NONE, 1.0f}};
    a->desc = (stn_op_desc){sizeof a->desc, STN_OP_SUM, 2, 1, &a->params, a->in, &a->sum};
}

int32_t stn__micro_query(stn_net *net, uint64_t *workspace, stn_err *err) {
    adding a;
    describe(net, &a);
    stn_support support = {.struct_size = sizeof support};
    STN_TRY(net->backend->op_query(net->device, &a.desc, &support, err));
    *workspace = support.workspace;
    return support.level != 0
               ? STN_OK
               : stn_fail(err, STN_E_UNSUPPORTED, "device %.60s cannot add %llu bytes of gradients",
                          stn_dev_info(net->dev)->info.name,
                          (unsigned long long)stn_tensor_bytes(&a.sum));
}

int32_t stn__micro_prepare(stn_net *net, stn_err *err) {
    adding a;
    describe(net, &a);
    return net->backend->op_prepare(net->device, &a.desc, &net->micro.add, err);
}

void stn__micro_aim(stn_net *net, uint32_t level) {
    stn__plan *plan = &net->plan[0];
    for (uint32_t i = 0; i < plan->graph.n_values; i++) {
        const stn__value *v = &plan->graph.value[i];
        if (v->kind == STN__PARTIAL) {
            stn_ref to = {net->micro.sum[level], v->pack_at};
            plan->operand[plan->first[v->node] + plan->graph.node[v->node].n_in + v->slot] = to;
        }
    }
}

uint32_t stn__micro_level(uint32_t part) {
    return bits_of(part);
}

/* Infinities and NaN need no check here: they stay, and the operator that snaps finds them. */
int32_t stn__micro_fold(stn_net *net, uint32_t depth, uint32_t to, const stn_step *step,
                        stn_err *err) {
    const stn__micro *m = &net->micro;
    for (; depth > to; depth--) {
        stn_ref in[2] = {{m->sum[depth - 2], 0}, {m->sum[depth - 1], 0}};
        stn_run_args args = {sizeof args, 0, in, in, {net->workspace, 0}, {NULL, 0}, step};
        STN_TRY(net->backend->op_run(net->stream, m->add, &args, err));
    }
    return STN_OK;
}

/* ---- marked values of evaluation ---------------------------------------------------------- */

/* Bytes of a marked value that evaluation makes; 0 for others. */
static uint64_t mark_bytes(const stn_net *net, stn_val v) {
    const stn__plan *plan = &net->plan[1];
    bool made = plan->place[v] >= 0 && plan->graph.value[v].batched;
    return made ? stn__round_up(stn_tensor_bytes(&plan->graph.value[v].tensor)) : 0;
}

uint64_t stn__micro_marks(const stn_net *net) {
    const stn_graph *g = &net->plan[1].graph;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < g->n_marks; i++) {
        bytes += net->micro.parts * mark_bytes(net, g->mark[i].value);
    }
    return bytes;
}

int32_t stn__micro_keep(stn_net *net, uint32_t part, stn_err *err) {
    const stn__plan *plan = &net->plan[1];
    uint64_t at = 0;
    for (uint32_t i = 0; i < plan->graph.n_marks; i++) {
        stn_val v = plan->graph.mark[i].value;
        uint64_t bytes = mark_bytes(net, v);
        stn_ref to = {net->micro.marks, at + part * bytes};
        if (bytes != 0) {
            STN_TRY(net->backend->copy(net->stream, to, plan->ref[v],
                                       stn_tensor_bytes(&plan->graph.value[v].tensor), err));
        }
        at += net->micro.parts * bytes;
    }
    return STN_OK;
}

bool stn__micro_kept(const stn_net *net, stn_val v, uint32_t part, stn_ref *ref) {
    const stn_graph *g = &net->plan[1].graph;
    uint64_t at = 0;
    for (uint32_t i = 0; i < g->n_marks; i++) {
        uint64_t bytes = mark_bytes(net, g->mark[i].value);
        if (g->mark[i].value == v && bytes != 0) {
            *ref = (stn_ref){net->micro.marks, at + part * bytes};
            return true;
        }
        at += net->micro.parts * bytes;
    }
    return false;
}
