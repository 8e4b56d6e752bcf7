/* The end of a training step: running statistics, then an optimizer node for each parameter.
 *
 * They stand last because they change state: a non-finite value anywhere before makes them do
 * nothing (contract C6), so the state stays that of the last good step.
 */
#include <string.h>

#include <stn/num.h>

#include "graph/graph.h"

/* An in-place node: its outputs are the state values in[1..]. */
static void in_place(stn_graph *g, uint32_t op, const stn_op_params *params, const stn_val *in,
                     uint32_t n_in, const char *name) {
    stn__node *node = stn__graph_node(g, op, params, in, n_in, name);
    if (node != NULL) {
        node->n_out = n_in - 1;
        memcpy(node->out, in + 1, (n_in - 1) * sizeof *in);
    }
}

static void running_statistics(stn_graph *g) {
    uint32_t n_nodes = g->n_nodes;
    for (uint32_t k = 0; k < n_nodes; k++) {
        stn__node f = g->node[k];
        if (f.op == STN_OP_BN) {
            stn_val in[3] = {f.out[1], stn__graph_state(g, f.item[0]),
                             stn__graph_state(g, f.item[1])};
            in_place(g, STN_OP_BN_UPDATE, &f.params, in, 3, f.name);
        }
    }
}

/* The value of a new optimizer tensor "KIND.PARAM" of the given class, zero at the start. */
static stn_val optimizer_state(stn_graph *g, const char *kind, uint32_t param, float limit) {
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "%s.%.110s", kind, g->store->item[param].name);
    stn__item *item = stn__store_add(g->store, name);
    if (item == NULL) {
        return stn__graph_fail(g, STN_E_NOMEM, "out of memory: %s", name);
    }
    item->role = STN__ROLE_OPTIMIZER;
    item->tensor = g->store->item[param].tensor;
    item->init = STN_INIT_ZERO;
    item->limit = limit;
    return stn__graph_state(g, g->store->n - 1);
}

static void optimize(stn_graph *g, const stn_net_spec *net, uint32_t param, stn_val grad) {
    bool adam = net->optimizer != STN_OPT_SGD, decoupled = net->optimizer == STN_OPT_ADAMW;
    uint32_t group = net->loc_rate == 1.0 ? 0 : g->store->item[param].group; /* lr*1 is lr */
    stn_op_params p;
    memset(&p, 0, sizeof p);
    p.opt.struct_size = sizeof p.opt;
    p.opt.slot_lr = stn__slot(g->slots, STN__SLOT_RATE, group);
    p.opt.wd = (float)net->weight_decay;
    if (adam) {
        p.opt.slot_eps = stn__slot(g->slots, STN__SLOT_EPS, 0);
        p.opt.decoupled = decoupled ? 1 : 0;
        p.opt.omb1 = (float)(1.0 - net->beta1);
        p.opt.omb2 = (float)(1.0 - net->beta2);
        p.opt.slot_lw = decoupled ? stn__slot(g->slots, STN__SLOT_DECAY, group) : 0;
    } else {
        p.opt.mu = (float)net->momentum;
        p.opt.nesterov = net->nesterov;
    }
    stn_val in[4] = {grad, g->store->item[param].value[0], STN_NO_VALUE, STN_NO_VALUE};
    in[2] = optimizer_state(g, adam ? "adam_m" : "velocity", param, STN_LIM_G);
    if (adam && !g->failed) {
        in[3] = optimizer_state(g, "adam_v", param, STN_LIM_V);
    }
    in_place(g, adam ? STN_OP_ADAM : STN_OP_SGD, &p, in, adam ? 4 : 3, g->store->item[param].name);
}

int32_t stn__graph_update(stn_graph *g, const stn_net_spec *net, const stn_val *grads,
                          stn_err *err) {
    running_statistics(g);
    uint32_t n = g->store->n;
    for (uint32_t i = 0; i < n && !g->failed; i++) {
        if (grads[i] != STN_NO_VALUE) {
            optimize(g, net, i, grads[i]);
        }
    }
    if (!g->failed && g->slots->n >= STN__MAX_SLOTS) {
        (void)stn__graph_fail(g, STN_E_UNSUPPORTED, "too many per-step scalars");
    }
    return g->failed ? stn_fail(err, g->err.code, "%s", g->err.text) : STN_OK;
}
