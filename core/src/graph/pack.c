/* One optimizer operator for all parameters that are updated alike.
 *
 * A pack is a value whose members lie in it side by side: the parameters of a group, their
 * gradients, and each kind of their optimizer's state, in the same order and with the same offsets.
 * An update works element by element, so one over the packs does what one for each parameter did,
 * to the bit. Members start at multiples of STN__ALIGN; what lies between them is zero and stays
 * zero, because the update of zeros by a zero gradient is zero.
 */
#include <string.h>

#include "graph/graph.h"
#include "graph/plan.h"

/* Elements from which a pack takes no more members, far below the largest buffer of any device. */
#define MAX_ELEMS (UINT64_C(1) << 24)
#define ROW (STN__ALIGN / 4u)

static bool optimizer(uint32_t op) {
    return op == STN_OP_SGD || op == STN_OP_ADAM;
}

/* The gradient (input 0) can be put elsewhere: it is an operator's result that nobody else reads.
 */
static bool movable(const stn_graph *g, const stn__node *node) {
    const stn__value *grad = &g->value[node->in[0]];
    if (grad->kind != STN__ACTIVATION || grad->batched || grad->pack != STN_NO_VALUE) {
        return false;
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        for (uint32_t i = 0; i < g->node[k].n_in; i++) {
            if (g->node[k].in[i] == node->in[0] && &g->node[k] != node) {
                return false;
            }
        }
    }
    return true;
}

static bool alike(const stn__node *a, const stn__node *b) {
    return a->op == b->op && memcmp(&a->params.opt, &b->params.opt, sizeof a->params.opt) == 0;
}

/* Elements that a value takes in a pack. */
static uint64_t room(const stn_graph *g, stn_val v) {
    return stn__round_up(stn_tensor_bytes(&g->value[v].tensor)) / 4u;
}

/* Makes node `first` update all members, node numbers in ascending order; the others go. */
static void join(stn_graph *g, const uint32_t *member, uint32_t n, uint64_t elems) {
    static const char *const names[STN_MAX_IN] = {"grad parameters", "parameters", "state",
                                                  "state"};
    stn_tensor flat = {STN_F32, STN_NCHW, 2, {(uint32_t)(elems / ROW), ROW, 1, 1}};
    uint32_t first = member[0];
    for (uint32_t i = 0; i < g->node[first].n_in; i++) {
        stn_val pack = stn__graph_value(g, STN__PACK, &flat, false, names[i]);
        if (pack == STN_NO_VALUE) {
            return;
        }
        g->value[pack].index = i;
        uint64_t at = 0;
        for (uint32_t m = 0; m < n; m++) {
            stn__value *v = &g->value[g->node[member[m]].in[i]];
            v->pack = pack;
            v->pack_at = at;
            at += stn__round_up(stn_tensor_bytes(&v->tensor));
        }
        g->node[first].in[i] = pack;
        if (i > 0) {
            g->node[first].out[i - 1] = pack;
        }
    }
    (void)snprintf(g->node[first].name, sizeof g->node[first].name, "parameters");
    for (uint32_t m = 1; m < n; m++) {
        g->node[member[m]].n_out = 0;
    }
}

/* Packs node k with the later ones that fit. */
static void pack_from(stn_graph *g, uint32_t k, uint32_t *member) {
    uint64_t elems = room(g, g->node[k].in[0]);
    uint32_t n = 1;
    member[0] = k;
    if (!movable(g, &g->node[k])) {
        return;
    }
    for (uint32_t j = k + 1; j < g->n_nodes; j++) {
        const stn__node *node = &g->node[j];
        if (optimizer(node->op) && node->n_out > 0 && alike(node, &g->node[k]) &&
            movable(g, node) && elems + room(g, node->in[0]) <= MAX_ELEMS) {
            elems += room(g, node->in[0]);
            member[n++] = j;
        }
    }
    if (n > 1) {
        join(g, member, n, elems);
    }
}

void stn__graph_pack(stn_graph *g, uint32_t *scratch) {
    for (uint32_t k = 0; k < g->n_nodes && !g->failed; k++) {
        if (optimizer(g->node[k].op) && g->node[k].n_out > 0 &&
            g->value[g->node[k].in[0]].kind != STN__PACK) {
            pack_from(g, k, scratch);
        }
    }
    stn__graph_drop_empty(g);
}
