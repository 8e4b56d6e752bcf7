/* Fusion: conv, [max-pool], [activation] become one CONV_BLOCK, linear, [activation] one
 * LINEAR_BLOCK, the loss and the gradient of the logits one XENT_BOTH, where the device offers it.
 *
 * Runs before autodiff, so that the gradients are composites too. The bits are the same either way
 * (contract), so it is a matter of speed and memory only. What lies inside a block is not
 * observable: marked values and values with several consumers stop a chain.
 */
#include <string.h>

#include "graph/graph.h"

typedef struct chain {
    uint32_t conv;
    int32_t pool, act; /* nodes, or -1 */
    stn_op_params params;
} chain;

/* The only consumer of v if it is an operator `op` that reads v once, else -1. */
static int32_t only_consumer(const stn_graph *g, stn_val v, uint32_t op) {
    int32_t found = -1;
    if (g->value[v].marked) {
        return -1;
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        for (uint32_t i = 0; i < g->node[k].n_in; i++) {
            if (g->node[k].in[i] == v) {
                if (found >= 0) {
                    return -1;
                }
                found = (int32_t)k;
            }
        }
    }
    return found >= 0 && g->node[found].op == op ? found : -1;
}

static bool find_chain(const stn_graph *g, uint32_t k, chain *c) {
    const stn__node *conv = &g->node[k];
    c->conv = k;
    c->pool = only_consumer(g, conv->out[0], STN_OP_MAXPOOL);
    stn_val pooled = c->pool < 0 ? conv->out[0] : g->node[c->pool].out[0];
    c->act = only_consumer(g, pooled, STN_OP_ACT);
    if (c->pool < 0 && c->act < 0) {
        return false;
    }
    memset(&c->params, 0, sizeof c->params);
    c->params.block.struct_size = sizeof c->params.block;
    c->params.block.conv = conv->params.conv;
    c->params.block.pool.struct_size = sizeof c->params.block.pool;
    if (c->pool >= 0) {
        c->params.block.pool = g->node[c->pool].params.pool;
    }
    if (c->act >= 0) {
        c->params.block.act = 1;
        c->params.block.slope = g->node[c->act].params.act.slope;
    }
    return true;
}

static bool accepts(const stn_backend *backend, stn_device *device, uint32_t op,
                    const stn_op_params *params, const stn_tensor *in, uint32_t n_in,
                    const stn_tensor *out, uint32_t n_out) {
    stn_op_desc desc = {sizeof desc, op, n_in, n_out, params, in, out};
    stn_support support = {.struct_size = sizeof support};
    return backend->op_query(device, &desc, &support, NULL) == STN_OK && support.level != 0;
}

/* Asks for the block and, in a training graph, for the gradients it will need. */
static bool offered(const stn_graph *g, const chain *c, const stn_backend *backend,
                    stn_device *device, stn_tensor block[2]) {
    const stn__node *conv = &g->node[c->conv];
    stn_tensor in[4], w = g->value[conv->in[1]].tensor, x = g->value[conv->in[0]].tensor;
    for (uint32_t i = 0; i < conv->n_in; i++) {
        in[i] = g->value[conv->in[i]].tensor;
    }
    if (stn_op_infer(STN_OP_CONV_BLOCK, &c->params, in, conv->n_in, block, NULL) != STN_OK ||
        !accepts(backend, device, STN_OP_CONV_BLOCK, &c->params, in, conv->n_in, block, 2)) {
        return false;
    }
    if (g->eval) {
        return true;
    }
    stn_tensor grads[2] = {w, {STN_F32, STN_NCHW, 1, {w.dim[0], 1, 1, 1}}};
    in[0] = block[0];
    in[1] = block[0];
    in[2] = block[1];
    in[3] = x;
    if (!accepts(backend, device, STN_OP_CONV_BLOCK_GRAD_W, &c->params, in, 4, grads, 2)) {
        return false;
    }
    in[3] = w;
    return accepts(backend, device, STN_OP_CONV_BLOCK_GRAD_X, &c->params, in, 4, &x, 1);
}

/* The conv node becomes the block and takes over the chain's last value; the others go. */
static void replace(stn_graph *g, const chain *c, const stn_tensor block[2]) {
    stn__node *conv = &g->node[c->conv];
    stn_val y = c->act >= 0 ? g->node[c->act].out[0] : g->node[c->pool].out[0];
    stn_val index = c->pool >= 0 ? g->node[c->pool].out[1] : conv->out[0];
    /* Without a pool the unused index takes the place of the conv's own output. */
    g->value[index].tensor = block[1];
    conv->op = STN_OP_CONV_BLOCK;
    conv->params = c->params;
    conv->out[0] = y;
    conv->out[1] = index;
    conv->n_out = 2;
    if (c->pool >= 0) {
        g->node[c->pool].n_out = 0;
    }
    if (c->act >= 0) {
        g->node[c->act].n_out = 0;
    }
}

/* linear with an activation behind it, or with a bias whose gradient can be found along with that
 * of the weights. act: node, or -1. */
static bool find_linear(const stn_graph *g, uint32_t k, int32_t *act, stn_op_params *params) {
    const stn__node *linear = &g->node[k];
    *act = only_consumer(g, linear->out[0], STN_OP_ACT);
    memset(params, 0, sizeof *params);
    params->linear_block = (stn_linear_block_params){
        sizeof params->linear_block, *act >= 0, *act >= 0 ? g->node[*act].params.act.slope : 0.0f,
        linear->params.linear.shards};
    return *act >= 0 || (linear->n_in == 3 && !g->eval);
}

static bool linear_offered(const stn_graph *g, uint32_t k, const stn_op_params *params,
                           const stn_backend *backend, stn_device *device) {
    const stn__node *linear = &g->node[k];
    stn_tensor in[4], y = g->value[linear->out[0]].tensor;
    for (uint32_t i = 0; i < linear->n_in; i++) {
        in[i] = g->value[linear->in[i]].tensor;
    }
    if (!accepts(backend, device, STN_OP_LINEAR_BLOCK, params, in, linear->n_in, &y, 1)) {
        return false;
    }
    stn_tensor grads[3] = {in[1], {STN_F32, STN_NCHW, 1, {y.dim[1], 1, 1, 1}}, in[0]};
    in[3] = in[1];
    in[2] = in[0];
    in[0] = in[1] = y;
    return g->eval || accepts(backend, device, STN_OP_LINEAR_BLOCK_GRAD, params, in, 4, grads, 3);
}

static void fuse_linear(stn_graph *g, uint32_t k, const stn_backend *backend, stn_device *device) {
    stn_op_params params;
    int32_t act = -1;
    if (!find_linear(g, k, &act, &params) || !linear_offered(g, k, &params, backend, device)) {
        return;
    }
    g->node[k].op = STN_OP_LINEAR_BLOCK;
    g->node[k].params = params;
    if (act >= 0) {
        g->node[k].out[0] = g->node[act].out[0];
        g->node[act].n_out = 0;
    }
}

/* In training the loss makes the gradient of the logits too. */
static void fuse_loss(stn_graph *g, uint32_t k, const stn_backend *backend, stn_device *device) {
    const stn__node *loss = &g->node[k];
    stn_tensor in[2] = {g->value[loss->in[0]].tensor, g->value[loss->in[1]].tensor};
    stn_tensor out[3] = {g->value[loss->out[0]].tensor, g->value[loss->out[1]].tensor, in[0]};
    if (g->eval || !accepts(backend, device, STN_OP_XENT_BOTH, &loss->params, in, 2, out, 3)) {
        return;
    }
    stn_val grad = stn__graph_value(g, STN__ACTIVATION, &in[0], true, "");
    if (grad != STN_NO_VALUE) {
        g->node[k].op = STN_OP_XENT_BOTH;
        g->node[k].out[g->node[k].n_out++] = grad;
    }
}

void stn__graph_fuse(stn_graph *g, const stn_backend *backend, stn_device *device) {
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        chain c;
        stn_tensor block[2] = {{0}, {0}};
        if (g->node[k].op == STN_OP_CONV && find_chain(g, k, &c) &&
            offered(g, &c, backend, device, block)) {
            replace(g, &c, block);
        } else if (g->node[k].op == STN_OP_LINEAR) {
            fuse_linear(g, k, backend, device);
        } else if (g->node[k].op == STN_OP_XENT) {
            fuse_loss(g, k, backend, device);
        }
    }
    stn__graph_drop_empty(g);
}
