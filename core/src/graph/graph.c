/* Values, nodes, names and the shared store: see graph.h. */
#include "graph/graph.h"

#include <string.h>

#include "base/mem.h"

/* ---- slots and store ----------------------------------------------------------------------------
 */

uint32_t stn__slot(stn__slots *slots, uint32_t kind, uint32_t arg) {
    for (uint32_t i = 0; i < slots->n; i++) {
        if (slots->slot[i].kind == kind && slots->slot[i].arg == arg) {
            return i;
        }
    }
    if (slots->n == STN__MAX_SLOTS) {
        return UINT32_MAX;
    }
    slots->slot[slots->n].kind = kind;
    slots->slot[slots->n].arg = arg;
    return slots->n++;
}

void stn__store_free(stn__store *store) {
    stn__free(store->item);
    memset(store, 0, sizeof *store);
}

uint32_t stn__store_find(const stn__store *store, const char *name) {
    for (uint32_t i = 0; i < store->n; i++) {
        if (strcmp(store->item[i].name, name) == 0) {
            return i;
        }
    }
    return UINT32_MAX;
}

stn__item *stn__store_add(stn__store *store, const char *name) {
    if (!stn__grow((void **)&store->item, &store->cap, (uint64_t)store->n + 1,
                   sizeof *store->item)) {
        return NULL;
    }
    stn__item *item = &store->item[store->n++];
    memset(item, 0, sizeof *item);
    (void)snprintf(item->name, sizeof item->name, "%s", name);
    item->value[0] = item->value[1] = STN_NO_VALUE;
    return item;
}

/* ---- errors and texts ---------------------------------------------------------------------------
 */

stn_val stn__graph_fail(stn_graph *g, int32_t code, const char *format, ...) {
    if (!g->failed) {
        va_list args;
        va_start(args, format);
        (void)vsnprintf(g->err.text, sizeof g->err.text, format, args);
        va_end(args);
        g->err.code = code;
        g->err.native = 0;
        g->failed = true;
    }
    return STN_NO_VALUE;
}

const char *stn__op_name(uint32_t op) {
    const stn_op_info *info = stn_op_find(op);
    return info != NULL ? info->name : op == STN__OP_GRAD_SCALE ? "scale_grad" : "unknown";
}

const char *stn__shape_text(const stn_tensor *t, char text[64]) {
    int at = snprintf(text, 64, "[");
    for (uint32_t i = 0; i < t->rank && i < STN_MAX_RANK; i++) {
        at += snprintf(text + at, (size_t)(64 - at), i > 0 ? ",%u" : "%u", t->dim[i]);
    }
    (void)snprintf(text + at, (size_t)(64 - at), "]");
    return text;
}

/* ---- values ------------------------------------------------------------------------------- */

stn_val stn__graph_find(const stn_graph *g, const char *name) {
    for (uint32_t i = 0; i < g->n_marks; i++) {
        if (strcmp(g->mark[i].name, name) == 0) {
            return g->mark[i].value;
        }
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (strcmp(g->value[i].name, name) == 0) {
            return (stn_val)i;
        }
    }
    return STN_NO_VALUE;
}

void stn__graph_name(stn_graph *g, stn_val v, const char *name) {
    char text[STN__NAME];
    (void)snprintf(text, sizeof text, "%s", name);
    for (uint32_t k = 2; stn__graph_find(g, text) != STN_NO_VALUE; k++) {
        (void)snprintf(text, sizeof text, "%.110s#%u", name, k);
    }
    memcpy(g->value[v].name, text, sizeof text);
}

stn_val stn__graph_value(stn_graph *g, uint32_t kind, const stn_tensor *tensor, bool batched,
                         const char *name) {
    if (g->failed) {
        return STN_NO_VALUE;
    }
    if (stn_tensor_elems(tensor) == 0) {
        char shape[64];
        return stn__graph_fail(g, STN_E_USAGE, "%s: impossible shape %s", name,
                               stn__shape_text(tensor, shape));
    }
    if (!stn__grow((void **)&g->value, &g->cap_values, (uint64_t)g->n_values + 1,
                   sizeof *g->value)) {
        return stn__graph_fail(g, STN_E_NOMEM, "out of memory: values of the graph");
    }
    stn_val v = (stn_val)g->n_values++;
    stn__value *value = &g->value[v];
    memset(value, 0, sizeof *value);
    value->kind = kind;
    value->tensor = *tensor;
    value->batched = batched;
    value->node = -1;
    value->pack = STN_NO_VALUE;
    if (name[0] != '\0') {
        stn__graph_name(g, v, name);
    }
    return v;
}

stn_val stn__graph_state(stn_graph *g, uint32_t item) {
    if (g->failed) {
        return STN_NO_VALUE;
    }
    stn__item *state = &g->store->item[item];
    stn_val *known = &state->value[g->eval ? 1 : 0];
    if (*known == STN_NO_VALUE) {
        stn_val v = stn__graph_value(g, STN__STATE, &state->tensor, false, state->name);
        if (v == STN_NO_VALUE) {
            return STN_NO_VALUE;
        }
        g->value[v].index = item;
        *known = v;
    }
    return *known;
}

/* ---- nodes -------------------------------------------------------------------------------- */

stn__node *stn__graph_node(stn_graph *g, uint32_t op, const stn_op_params *params,
                           const stn_val *in, uint32_t n_in, const char *name) {
    if (g->failed) {
        return NULL;
    }
    if (!stn__grow((void **)&g->node, &g->cap_nodes, (uint64_t)g->n_nodes + 1, sizeof *g->node)) {
        (void)stn__graph_fail(g, STN_E_NOMEM, "out of memory: nodes of the graph");
        return NULL;
    }
    stn__node *node = &g->node[g->n_nodes];
    memset(node, 0, sizeof *node);
    node->op = op;
    node->decl = g->n_nodes++;
    node->params = *params;
    node->n_in = n_in;
    memcpy(node->in, in, n_in * sizeof *in);
    (void)snprintf(node->name, sizeof node->name, "%s", name);
    return node;
}

stn_val stn__graph_output(stn_graph *g, const stn_tensor *tensor, bool batched, const char *name) {
    stn_val v = stn__graph_value(g, STN__ACTIVATION, tensor, batched, name);
    if (v != STN_NO_VALUE) {
        stn__node *node = &g->node[g->n_nodes - 1];
        g->value[v].node = (int32_t)g->n_nodes - 1;
        g->value[v].slot = node->n_out;
        node->out[node->n_out++] = v;
    }
    return v;
}

void stn__graph_relink(stn_graph *g) {
    for (uint32_t i = 0; i < g->n_values; i++) {
        g->value[i].node = -1;
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        const stn__node *node = &g->node[k];
        for (uint32_t o = 0; o < node->n_out; o++) {
            stn__value *value = &g->value[node->out[o]];
            if (value->kind == STN__ACTIVATION || value->kind == STN__PARTIAL) {
                value->node = (int32_t)k;
                value->slot = o;
            }
        }
    }
}

void stn__graph_drop_empty(stn_graph *g) {
    uint32_t kept = 0;
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        if (g->node[k].n_out > 0) {
            g->node[kept++] = g->node[k];
        }
    }
    g->n_nodes = kept;
    stn__graph_relink(g);
}

void stn__graph_free(stn_graph *g) {
    for (uint32_t i = 0; i < g->n_constants; i++) {
        stn__free(g->constant[i].data);
    }
    stn__free(g->constant);
    stn__free(g->value);
    stn__free(g->node);
    stn__free(g->mark);
    memset(g, 0, sizeof *g);
}

/* Uses of a scale_grad's output become uses of its input, and the node goes. */
static void drop_aliases(stn_graph *g) {
    uint32_t kept = 0;
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        stn__node node = g->node[k];
        if (node.op != STN__OP_GRAD_SCALE) {
            g->node[kept++] = node;
            continue;
        }
        stn_val from = node.out[0], to = node.in[0];
        for (uint32_t j = k + 1; j < g->n_nodes; j++) {
            for (uint32_t i = 0; i < g->node[j].n_in; i++) {
                if (g->node[j].in[i] == from) {
                    g->node[j].in[i] = to;
                }
            }
        }
        for (uint32_t i = 0; i < g->n_marks; i++) {
            if (g->mark[i].value == from) {
                g->mark[i].value = to;
                g->value[to].marked = true;
            }
        }
        g->logits = g->logits == from ? to : g->logits;
    }
    g->n_nodes = kept;
    stn__graph_relink(g);
}

static int32_t pack(stn_graph *g, stn_err *err) {
    uint64_t bytes = (uint64_t)g->n_nodes * sizeof(uint32_t);
    uint32_t *scratch = stn__alloc(bytes);
    if (scratch == NULL) {
        return stn__nomem(err, "list of nodes", bytes);
    }
    stn__graph_pack(g, scratch);
    stn__free(scratch);
    return g->failed ? stn_fail(err, g->err.code, "%s", g->err.text) : STN_OK;
}

int32_t stn__graph_complete(stn_graph *g, const stn_net_spec *net, const stn_backend *backend,
                            stn_device *device, stn_err *err) {
    bool fuse = backend != NULL && !net->no_fusion;
    if (fuse) {
        stn__graph_fuse(g, backend, device);
    }
    if (g->eval) {
        return STN_OK;
    }
    uint64_t bytes = (uint64_t)g->store->n * sizeof(stn_val);
    stn_val *grads = stn__alloc(bytes);
    if (grads == NULL) {
        return stn__nomem(err, "list of gradients", bytes);
    }
    int32_t status = stn__graph_differentiate(g, grads, err);
    if (status == STN_OK && g->split) {
        status = stn__graph_split(g, grads, err);
    }
    if (status == STN_OK) {
        status = stn__graph_update(g, net, grads, err);
    }
    stn__free(grads);
    if (status == STN_OK) {
        drop_aliases(g);
    }
    return status == STN_OK && fuse && !net->keep_values ? pack(g, err) : status;
}
