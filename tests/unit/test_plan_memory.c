/* Memory of whole plans: an independent walk over the nodes shows that no operand has been
 * overwritten when it is read, for every layout and with and without fusion. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "graph/net.h"
#include "tiny_model.h"

/* A range of memory and the value that was last written there. */
typedef struct owner {
    stn_buf *buf;
    uint64_t from, to;
    stn_val value;
} owner;

typedef struct walk {
    const stn__plan *plan;
    owner *owner;
    uint32_t n;
} walk;

static owner range(const walk *w, stn_val v) {
    const stn_ref *ref = &w->plan->ref[v];
    uint64_t bytes = stn_tensor_bytes(&w->plan->graph.value[v].tensor);
    return (owner){ref->buf, ref->offset, ref->offset + bytes, v};
}

static bool overlap(const owner *a, const owner *b) {
    return a->buf == b->buf && a->from < b->to && b->from < a->to;
}

static bool owned(const walk *w, stn_val v) {
    for (uint32_t i = 0; i < w->n; i++) {
        if (w->owner[i].value == v) {
            return true;
        }
    }
    return false;
}

/* A pack is there if all its members are. */
static bool there(const walk *w, stn_val v) {
    const stn_graph *g = &w->plan->graph;
    bool all = g->value[v].kind == STN__PACK || owned(w, v);
    for (uint32_t i = 0; i < g->n_values; i++) {
        all = all && (g->value[i].pack != v || owned(w, (stn_val)i));
    }
    return all;
}

static void take(walk *w, stn_val v) {
    owner mine = range(w, v);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        if (!overlap(&w->owner[i], &mine)) {
            w->owner[kept++] = w->owner[i];
        }
    }
    w->n = kept;
    w->owner[w->n++] = mine;
}

static bool in_place_op(uint32_t op) {
    return op == STN_OP_ACT || op == STN_OP_ACT_GRAD || op == STN_OP_DROPOUT ||
           op == STN_OP_DROPOUT_GRAD || op == STN_OP_SCALE || op == STN_OP_SUM;
}

/* Outputs may touch inputs only where backend.h allows it, and then exactly. */
static void check_node(const walk *w, const stn__node *node) {
    const stn_graph *g = &w->plan->graph;
    for (uint32_t o = 0; o < node->n_out; o++) {
        owner out = range(w, node->out[o]);
        for (uint32_t i = 0; i < node->n_in; i++) {
            owner in = range(w, node->in[i]);
            uint32_t kind = g->value[node->out[o]].kind;
            bool same = node->in[i] == node->out[o] && (kind == STN__STATE || kind == STN__PACK);
            bool allowed = o == 0 && i == 0 && in_place_op(node->op) && in.from == out.from;
            cr_assert(!overlap(&out, &in) || same || allowed, "%s: output %u on input %u",
                      node->name, o, i);
        }
        for (uint32_t p = 0; p < o; p++) {
            owner other = range(w, node->out[p]);
            cr_assert_not(overlap(&out, &other), "%s: outputs %u and %u", node->name, o, p);
        }
    }
}

/* Returns how many outputs took the place of their input. */
static uint32_t check_plan(const stn__plan *plan) {
    const stn_graph *g = &plan->graph;
    walk w = {plan, calloc(2 * g->n_values, sizeof(owner)), 0};
    uint32_t reused = 0;
    for (uint32_t i = 0; i < g->n_values; i++) {
        uint32_t kind = g->value[i].kind;
        if (kind != STN__ACTIVATION && kind != STN__PACK && plan->ref[i].buf != NULL) {
            take(&w, (stn_val)i);
        }
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        const stn__node *node = &g->node[k];
        for (uint32_t i = 0; i < node->n_in; i++) {
            cr_assert(there(&w, node->in[i]), "%s: input %s was overwritten", node->name,
                      g->value[node->in[i]].name);
        }
        check_node(&w, node);
        owner in = range(&w, node->in[0]), out = range(&w, node->out[0]);
        reused += node->in[0] != node->out[0] && overlap(&in, &out) ? 1 : 0;
        for (uint32_t o = 0; o < node->n_out; o++) {
            take(&w, node->out[o]);
        }
    }
    cr_assert(owned(&w, g->stats) && owned(&w, g->pred));
    for (uint32_t i = 0; g->eval && i < g->n_marks; i++) {
        cr_assert(owned(&w, g->mark[i].value), "mark %s", g->mark[i].name);
    }
    free(w.owner);
    cr_assert(stn__arena_check(plan->block, plan->n_blocks, &plan->arena));
    return reused;
}

static stn_net *open_net(stn_dev *dev, bool keep, bool no_fusion) {
    stn_net_spec spec = tiny_spec();
    spec.keep_values = keep;
    spec.no_fusion = no_fusion;
    stn_net *net = NULL;
    stn_err err = {0};
    cr_assert_eq(stn__net_open(dev, &tiny_model, &spec, &net, &err), STN_OK, "%s", err.text);
    return net;
}

static void check_kernels(const char *kernels) {
    stn_ctx *ctx = NULL;
    stn_dev *dev = tiny_cpu(&ctx, kernels, "1");
    cr_assert_neq(dev, NULL);
    for (int variant = 0; variant < 4; variant++) {
        stn_net *net = open_net(dev, (variant & 1) != 0, (variant & 2) != 0);
        uint32_t reused = check_plan(&net->plan[0]) + check_plan(&net->plan[1]);
        cr_assert_eq(reused > 0, (variant & 1) == 0);
        stn_net_close(net);
    }
    stn_dev_close(dev);
    stn_close(ctx);
}

Test(plan_memory, nothing_is_overwritten_ref) {
    check_kernels("ref");
}

Test(plan_memory, nothing_is_overwritten_auto) {
    check_kernels("auto");
}

Test(plan_memory, sharing_saves_memory_and_the_report_adds_up) {
    stn_ctx *ctx = NULL;
    stn_dev *dev = tiny_cpu(&ctx, "ref", "1");
    stn_net *shared = open_net(dev, false, false), *kept = open_net(dev, true, false);
    stn_net_memory a, b;
    stn_net_memory_get(shared, &a);
    stn_net_memory_get(kept, &b);
    cr_assert_lt(a.activations, b.activations);
    cr_assert_eq(a.total, a.params + a.optimizer + a.activations + a.workspace);
    /* With values kept nothing is packed: no space between parameters. */
    cr_assert_eq(b.params - 4 * 2 * (8 + 20), 4 * stn_net_param_elems(kept));
    cr_assert_eq(b.optimizer, 4 * stn_net_param_elems(kept));
    cr_assert(a.optimizer >= b.optimizer && a.optimizer < b.optimizer + 11 * STN__ALIGN);
    stn_net_close(shared);
    stn_net_close(kept);
    stn_dev_close(dev);
    stn_close(ctx);
}

Test(plan_memory, writing_past_a_tensor_is_found) {
    stn_ctx *ctx = NULL;
    stn_dev *dev = tiny_cpu(&ctx, "ref", "1");
    stn_net *net = open_net(dev, true, true);
    stn_err err = {0};
    cr_assert_eq(stn__net_canaries(net, &err), STN_OK, "%s", err.text);
    stn_val v = stn__graph_find(&net->plan[0].graph, "loc.fc1");
    uint8_t bytes[STN__ALIGN] = {0};
    stn_ref ref = net->plan[0].ref[v]; /* 6*7*4 = 168 bytes: the 256 reach past the end */
    cr_assert_eq(net->backend->write(net->stream, ref, bytes, sizeof bytes, &err), STN_OK);
    cr_assert_eq(stn__net_canaries(net, &err), STN_E_FAIL);
    cr_assert_neq(strstr(err.text, "loc.fc1"), NULL, "%s", err.text);
    stn_net_close(net);
    stn_dev_close(dev);
    stn_close(ctx);
}
