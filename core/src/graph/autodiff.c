/* Gradients: one rule per operator appends ordinary nodes, walking the forward nodes backwards.
 *
 * Contract: the contributions to a value that is used more than once are added by one SUM of the
 * gradient class in descending (declaration id, input slot) of the consumers. Ids are those of the
 * declaration, so fusion changes nothing. Only values that depend on a parameter get gradients.
 */
#include <string.h>

#include "base/mem.h"
#include "graph/graph.h"

/* What one consumer adds to the gradient of a value. */
typedef struct part {
    stn_val value, grad;
    uint32_t decl, slot;
} part;

typedef struct pass {
    stn_graph *g;
    part *part;
    uint64_t cap;
    uint32_t n;
} pass;

static bool wanted(const pass *p, stn_val v) {
    return v != STN_NO_VALUE && p->g->value[v].needs;
}

/* Records that consumer f contributes `grad` through its input `slot`. */
static void contribute(pass *p, const stn__node *f, uint32_t slot, stn_val grad) {
    if (grad == STN_NO_VALUE || !wanted(p, f->in[slot])) {
        return;
    }
    if (!stn__grow((void **)&p->part, &p->cap, (uint64_t)p->n + 1, sizeof *p->part)) {
        (void)stn__graph_fail(p->g, STN_E_NOMEM, "out of memory: gradients of %s", f->name);
        return;
    }
    p->part[p->n++] = (part){f->in[slot], grad, f->decl, slot};
}

/* Adds a gradient operator of forward node f without outputs. */
static bool node(pass *p, const stn__node *f, uint32_t op, const stn_op_params *params,
                 const stn_val *in, uint32_t n_in) {
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "grad of %.110s", f->name);
    return stn__graph_node(p->g, op, params, in, n_in, name) != NULL;
}

/* Adds an output that is the gradient of (part of) input `slot` of f. */
static void output(pass *p, const stn__node *f, uint32_t slot) {
    if (p->g->failed) {
        return;
    }
    stn_tensor t = p->g->value[f->in[slot]].tensor;
    contribute(p, f, slot, stn__graph_output(p->g, &t, p->g->value[f->in[slot]].batched, ""));
}

/* One gradient operator with one output. */
static void grad(pass *p, const stn__node *f, uint32_t slot, uint32_t op,
                 const stn_op_params *params, const stn_val *in, uint32_t n_in) {
    if (slot < f->n_in && wanted(p, f->in[slot]) && node(p, f, op, params, in, n_in)) {
        output(p, f, slot);
    }
}

/* ---- rules: f is the forward node, gy the gradient of its first output -------------------- */

static void conv_rule(pass *p, const stn__node *f, stn_val gy) {
    bool linear = f->op == STN_OP_LINEAR;
    stn_op_params reduce = {
        .reduce = {sizeof reduce.reduce, linear ? f->params.linear.shards : f->params.conv.shards}};
    grad(p, f, 1, linear ? STN_OP_LINEAR_GRAD_W : STN_OP_CONV_GRAD_W, &f->params,
         (stn_val[]){gy, f->in[0]}, 2);
    grad(p, f, 2, STN_OP_BIAS_GRAD, &reduce, &gy, 1);
    grad(p, f, 0, linear ? STN_OP_LINEAR_GRAD_X : STN_OP_CONV_GRAD_X, &f->params,
         (stn_val[]){gy, f->in[1]}, 2);
}

static void conv_block_rule(pass *p, const stn__node *f, stn_val gy) {
    stn_val in[4] = {gy, f->out[0], f->out[1], f->in[0]};
    if (node(p, f, STN_OP_CONV_BLOCK_GRAD_W, &f->params, in, 4)) {
        output(p, f, 1);
        if (f->n_in == 3) {
            output(p, f, 2);
        } else {
            stn_tensor t = p->g->value[f->in[1]].tensor;
            stn_tensor bias = {STN_F32, STN_NCHW, 1, {t.dim[0], 1, 1, 1}};
            (void)stn__graph_output(p->g, &bias, false, "");
        }
    }
    in[3] = f->in[1];
    grad(p, f, 0, STN_OP_CONV_BLOCK_GRAD_X, &f->params, in, 4);
}

/* One operator for all three gradients; where that of the input is not wanted, the parts. */
static void linear_block_rule(pass *p, const stn__node *f, stn_val gy) {
    const stn_linear_block_params *b = &f->params.linear_block;
    stn__node parts = *f;
    if (f->n_in == 3 && wanted(p, f->in[0])) {
        stn_val in[4] = {gy, f->out[0], f->in[0], f->in[1]};
        if (node(p, f, STN_OP_LINEAR_BLOCK_GRAD, &f->params, in, 4)) {
            output(p, f, 1);
            output(p, f, 2);
            output(p, f, 0);
        }
        return;
    }
    if (b->act != 0) {
        stn_op_params act = {.act = {sizeof act.act, b->slope}};
        stn_tensor t = p->g->value[f->out[0]].tensor;
        if (!node(p, f, STN_OP_ACT_GRAD, &act, (stn_val[]){gy, f->out[0]}, 2)) {
            return;
        }
        gy = stn__graph_output(p->g, &t, true, "");
    }
    parts.op = STN_OP_LINEAR;
    parts.params = (stn_op_params){.linear = {sizeof parts.params.linear, b->shards}};
    conv_rule(p, &parts, gy);
}

static void maxpool_rule(pass *p, const stn__node *f, stn_val gy) {
    grad(p, f, 0, STN_OP_MAXPOOL_GRAD, &f->params, (stn_val[]){gy, f->out[1]}, 2);
}

static void avgpool_rule(pass *p, const stn__node *f, stn_val gy) {
    grad(p, f, 0, STN_OP_AVGPOOL_GRAD, &f->params, &gy, 1);
}

static void act_rule(pass *p, const stn__node *f, stn_val gy) {
    grad(p, f, 0, STN_OP_ACT_GRAD, &f->params, (stn_val[]){gy, f->out[0]}, 2);
}

static void dropout_rule(pass *p, const stn__node *f, stn_val gy) {
    grad(p, f, 0, STN_OP_DROPOUT_GRAD, &f->params, &gy, 1);
}

/* Also makes the unused gradients of gamma and beta: the operator always has three outputs. */
static void bn_rule(pass *p, const stn__node *f, stn_val gy) {
    stn_val in[4] = {gy, f->in[0], f->out[1], f->n_in == 3 ? f->in[1] : STN_NO_VALUE};
    if (!node(p, f, STN_OP_BN_GRAD, &f->params, in, f->n_in == 3 ? 4 : 3)) {
        return;
    }
    output(p, f, 0);
    for (uint32_t slot = 1; slot <= 2 && !p->g->failed; slot++) {
        if (f->n_in == 3) {
            output(p, f, slot);
        } else {
            uint32_t channels = p->g->value[f->in[0]].tensor.dim[1];
            stn_tensor t = {STN_F32, STN_NCHW, 1, {channels, 1, 1, 1}};
            (void)stn__graph_output(p->g, &t, false, "");
        }
    }
}

static void warp_rule(pass *p, const stn__node *f, stn_val gy) {
    grad(p, f, 1, STN_OP_WARP_GRAD_THETA, &f->params, (stn_val[]){gy, f->in[0], f->in[1]}, 3);
    grad(p, f, 0, STN_OP_WARP_GRAD_X, &f->params, (stn_val[]){gy, f->in[1]}, 2);
}

static void compose_rule(pass *p, const stn__node *f, stn_val gy) {
    if (node(p, f, STN_OP_COMPOSE_GRAD, &f->params, (stn_val[]){gy, f->in[0], f->in[1]}, 3)) {
        output(p, f, 0);
        output(p, f, 1);
    }
}

/* Every term's gradient is the sum's own. */
static void sum_rule(pass *p, const stn__node *f, stn_val gy) {
    for (uint32_t slot = 0; slot < f->n_in; slot++) {
        stn_val term = f->in[slot];
        if (wanted(p, term) && !p->g->value[term].batched) {
            (void)stn__graph_fail(p->g, STN_E_UNSUPPORTED,
                                  "%s: a term added to every row has no gradient", f->name);
        }
        contribute(p, f, slot, gy);
    }
}

static void scale_rule(pass *p, const stn__node *f, stn_val gy) {
    stn_op_params params = {.scale = {sizeof params.scale, 1, f->params.scale.factor}};
    if (f->params.scale.factor == 1.0f) {
        contribute(p, f, 0, gy);
    } else {
        grad(p, f, 0, STN_OP_SCALE, &params, &gy, 1);
    }
}

static const struct {
    uint32_t op;
    void (*rule)(pass *p, const stn__node *f, stn_val gy);
} rules[] = {
    {STN_OP_CONV, conv_rule},
    {STN_OP_LINEAR, conv_rule},
    {STN_OP_CONV_BLOCK, conv_block_rule},
    {STN_OP_LINEAR_BLOCK, linear_block_rule},
    {STN_OP_MAXPOOL, maxpool_rule},
    {STN_OP_AVGPOOL, avgpool_rule},
    {STN_OP_ACT, act_rule},
    {STN_OP_DROPOUT, dropout_rule},
    {STN_OP_BN, bn_rule},
    {STN_OP_WARP, warp_rule},
    {STN_OP_COMPOSE, compose_rule},
    {STN_OP_SUM, sum_rule},
    {STN_OP_SCALE, scale_rule},
    {STN__OP_GRAD_SCALE, scale_rule},
};

/* ---- the walk ----------------------------------------------------------------------------- */

static bool before(const part *a, const part *b) {
    return a->decl != b->decl ? a->decl > b->decl : a->slot > b->slot;
}

/* "grad cls.conv1.weight of cls.conv1#2": a part that has no name of its own yet. */
static void name_part(stn_graph *g, stn_val grad, const char *whole) {
    const stn__value *v = &g->value[grad];
    if (v->name[0] == '\0') {
        char name[2 * STN__NAME];
        /* The node is called "grad of LAYER". */
        (void)snprintf(name, sizeof name, "%s %s", whole, g->node[v->node].name + strlen("grad "));
        stn__graph_name(g, grad, name);
    }
}

/* The gradient of v from all its parts, or STN_NO_VALUE if nothing depends on it. */
static stn_val gather(pass *p, stn_val v) {
    part found[STN_MAX_IN];
    uint32_t n = 0;
    stn_graph *g = p->g;
    for (uint32_t i = 0; i < p->n && !g->failed; i++) {
        if (p->part[i].value != v) {
            continue;
        }
        if (n == STN_MAX_IN) {
            return stn__graph_fail(g, STN_E_UNSUPPORTED, "%s: used more than %u times",
                                   g->value[v].name, STN_MAX_IN);
        }
        uint32_t at = n++;
        for (; at > 0 && before(&p->part[i], &found[at - 1]); at--) {
            found[at] = found[at - 1];
        }
        found[at] = p->part[i];
    }
    if (g->failed || n == 0) {
        return STN_NO_VALUE;
    }
    char name[STN__NAME];
    (void)snprintf(name, sizeof name, "grad %.110s", g->value[v].name);
    if (n == 1) {
        if (g->value[found[0].grad].name[0] == '\0') {
            stn__graph_name(g, found[0].grad, name);
        }
        return found[0].grad;
    }
    stn_val in[STN_MAX_IN];
    for (uint32_t i = 0; i < n; i++) {
        in[i] = found[i].grad;
        name_part(g, in[i], name);
    }
    stn_op_params params = {.scale = {sizeof params.scale, 1, 1.0f}};
    stn_tensor t = g->value[v].tensor;
    if (stn__graph_node(g, STN_OP_SUM, &params, in, n, name) == NULL) {
        return STN_NO_VALUE;
    }
    return stn__graph_output(g, &t, g->value[v].batched, name);
}

static void backward(pass *p, const stn__node *f) {
    stn_graph *g = p->g;
    if (f->op == STN_OP_XENT || f->op == STN_OP_XENT_BOTH) {
        if (!wanted(p, f->in[0])) {
            (void)stn__graph_fail(g, STN_E_USAGE, "the loss depends on no parameter");
            return;
        }
        if (f->op == STN_OP_XENT_BOTH) {
            contribute(p, f, 0, f->out[2]);
        } else {
            grad(p, f, 0, STN_OP_XENT_GRAD, &f->params, f->in, 2);
        }
        return;
    }
    if (f->n_out == 0 || !wanted(p, f->out[0])) {
        return;
    }
    stn_val gy = gather(p, f->out[0]);
    if (gy == STN_NO_VALUE) {
        return;
    }
    for (uint32_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (rules[i].op == f->op) {
            rules[i].rule(p, f, gy);
            return;
        }
    }
    (void)stn__graph_fail(g, STN_E_UNSUPPORTED, "%s: operator %s has no gradient", f->name,
                          stn__op_name(f->op));
}

/* Which values depend on a parameter. */
static void find_needs(stn_graph *g) {
    for (uint32_t i = 0; i < g->n_values; i++) {
        const stn__value *v = &g->value[i];
        g->value[i].needs =
            v->kind == STN__STATE && g->store->item[v->index].role == STN__ROLE_PARAM;
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        const stn__node *f = &g->node[k];
        bool needs = false;
        for (uint32_t i = 0; i < f->n_in; i++) {
            needs = needs || g->value[f->in[i]].needs;
        }
        for (uint32_t o = 0; o < f->n_out; o++) {
            g->value[f->out[o]].needs = needs;
        }
    }
}

/* Values that nobody named: gradients computed on the way, and parts of a sum. */
static void name_rest(stn_graph *g) {
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        for (uint32_t o = 0; o < g->node[k].n_out; o++) {
            if (g->value[g->node[k].out[o]].name[0] == '\0') {
                stn__graph_name(g, g->node[k].out[o], g->node[k].name);
            }
        }
    }
}

int32_t stn__graph_differentiate(stn_graph *g, stn_val *grads, stn_err *err) {
    pass p = {g, NULL, 0, 0};
    uint32_t n_forward = g->n_nodes;
    find_needs(g);
    for (uint32_t k = n_forward; k-- > 0 && !g->failed;) {
        stn__node f = g->node[k]; /* the array may move */
        backward(&p, &f);
    }
    for (uint32_t i = 0; i < g->store->n && !g->failed; i++) {
        const stn__item *item = &g->store->item[i];
        grads[i] = STN_NO_VALUE;
        if (item->role != STN__ROLE_PARAM || item->value[0] == STN_NO_VALUE) {
            continue;
        }
        grads[i] = gather(&p, item->value[0]);
        if (grads[i] == STN_NO_VALUE) {
            (void)stn__graph_fail(g, STN_E_USAGE, "parameter %s does not reach the loss",
                                  item->name);
        }
    }
    stn__free(p.part);
    if (g->failed) {
        return stn_fail(err, g->err.code, "%s", g->err.text);
    }
    name_rest(g);
    return STN_OK;
}
