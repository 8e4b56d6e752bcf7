/* From a complete graph to kernels and memory: see plan.h. */
#include "graph/plan.h"

#include <string.h>

#include "base/clock.h"
#include "base/mem.h"

/* ---- layouts ------------------------------------------------------------------------------ */

/* Element-wise operators count rows by the first operand; a value without a batch, such as the
 * gradient of a shared parameter, is one row for them (op.def). */
static bool one_row(const stn_graph *g, const stn__node *node) {
    bool elementwise =
        node->op == STN_OP_SUM || node->op == STN_OP_SCALE || node->op == STN_OP_COPY;
    return elementwise && !g->value[node->in[0]].batched;
}

static stn_tensor operand_tensor(const stn_graph *g, stn_val v, bool row) {
    stn_tensor t = g->value[v].tensor;
    if (row) {
        t = (stn_tensor){t.dtype, STN_NCHW, 2, {1, (uint32_t)stn_tensor_elems(&t), 1, 1}};
    }
    return t;
}

static void describe(const stn__plan *plan, const stn__node *node, stn_op_desc *desc,
                     stn_tensor in[STN_MAX_IN], stn_tensor out[STN_MAX_OUT]) {
    bool row = one_row(&plan->graph, node);
    for (uint32_t i = 0; i < node->n_in; i++) {
        in[i] = operand_tensor(&plan->graph, node->in[i], row);
    }
    for (uint32_t o = 0; o < node->n_out; o++) {
        out[o] = operand_tensor(&plan->graph, node->out[o], row);
    }
    *desc = (stn_op_desc){sizeof *desc, node->op, node->n_in, node->n_out, &node->params, in, out};
}

/* Returns operands of a refused node to NCHW; false if they all were. */
static bool back_to_nchw(stn_graph *g, const stn__node *node) {
    bool changed = false;
    for (uint32_t i = 0; i < node->n_in + node->n_out; i++) {
        stn_val v = i < node->n_in ? node->in[i] : node->out[i - node->n_in];
        changed = changed || g->value[v].tensor.layout != STN_NCHW;
        g->value[v].tensor.layout = STN_NCHW;
    }
    return changed;
}

static int32_t refused(const stn_graph *g, const stn__node *node, const stn_device_info *info,
                       stn_err *err) {
    char shapes[2][64];
    const stn_tensor *in = &g->value[node->in[0]].tensor;
    const stn_tensor *out = &g->value[node->out[0]].tensor;
    return stn_fail(err, STN_E_UNSUPPORTED,
                    "%s: device %.60s does not support operator %s, %s -> %s", node->name,
                    info->name, stn__op_name(node->op), stn__shape_text(in, shapes[0]),
                    stn__shape_text(out, shapes[1]));
}

/* One round over the nodes; *changed tells whether a layout was taken back. */
static int32_t query_all(stn__plan *plan, const stn_device_info *info, bool *changed,
                         stn_err *err) {
    stn_graph *g = &plan->graph;
    plan->workspace = 0;
    plan->inexact = false;
    *changed = false;
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
        stn_op_desc desc;
        stn_support support = {.struct_size = sizeof support};
        stn_err own = {0};
        describe(plan, &g->node[k], &desc, in, out);
        int32_t status = plan->backend->op_query(plan->device, &desc, &support, &own);
        if (status != STN_OK && status != STN_E_UNSUPPORTED) {
            return stn_fail(err, status, "%s: operator %s: %.160s", g->node[k].name,
                            stn__op_name(desc.op), own.text);
        }
        if (status != STN_OK || support.level == 0) {
            if (!back_to_nchw(g, &g->node[k])) {
                return refused(g, &g->node[k], info, err);
            }
            *changed = true;
        }
        plan->inexact = plan->inexact || (support.level != 0 && support.exact == 0);
        plan->workspace = support.workspace > plan->workspace ? support.workspace : plan->workspace;
    }
    return STN_OK;
}

/* Feature maps start in the layout the device prefers; what a node refuses goes back to NCHW, which
 * every device must take. Ends because layouts only ever go back. */
static int32_t choose_layouts(stn__plan *plan, const stn_device_info *info, stn_err *err) {
    stn_graph *g = &plan->graph;
    for (uint32_t i = 0; i < g->n_values; i++) {
        stn__value *v = &g->value[i];
        const stn_tensor *t = &v->tensor;
        bool map = v->kind == STN__ACTIVATION && v->batched && t->rank == 4 && t->dim[1] >= 8 &&
                   (uint64_t)t->dim[2] * t->dim[3] > 1;
        v->tensor.layout = map ? info->layout : STN_NCHW;
    }
    bool changed = true;
    while (changed) {
        STN_TRY(query_all(plan, info, &changed, err));
    }
    return STN_OK;
}

/* ---- lifetimes ---------------------------------------------------------------------------- */

/* Operators whose first output may overwrite their first input (backend.h). */
static bool may_overwrite(uint32_t op) {
    switch (op) {
    case STN_OP_ACT:
    case STN_OP_ACT_GRAD:
    case STN_OP_DROPOUT:
    case STN_OP_DROPOUT_GRAD:
    case STN_OP_SCALE:
    case STN_OP_SUM:
        return true;
    default:
        return false;
    }
}

/* Last node that reads or writes each value; UINT32_MAX for what must outlive the step. */
static void find_last(const stn_graph *g, uint32_t *last) {
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        const stn__node *node = &g->node[k];
        for (uint32_t i = 0; i < node->n_in; i++) {
            last[node->in[i]] = k;
        }
        for (uint32_t o = 0; o < node->n_out; o++) {
            last[node->out[o]] = k;
        }
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (g->eval && g->value[i].marked) {
            last[i] = UINT32_MAX;
        }
    }
}

/* True if out[0] of node k can take the memory of in[0], which nothing needs afterwards. */
static bool overwrites(const stn__plan *plan, uint32_t k, const uint32_t *last) {
    const stn_graph *g = &plan->graph;
    const stn__node *node = &g->node[k];
    stn_val x = node->in[0];
    if (plan->keep || !may_overwrite(node->op) || g->value[x].kind != STN__ACTIVATION ||
        last[x] != k ||
        memcmp(&g->value[x].tensor, &g->value[node->out[0]].tensor, sizeof(stn_tensor)) != 0) {
        return false;
    }
    for (uint32_t i = 1; i < node->n_in; i++) {
        if (node->in[i] == x) {
            return false;
        }
    }
    return true;
}

static void find_blocks(stn__plan *plan, const uint32_t *last) {
    const stn_graph *g = &plan->graph;
    for (uint32_t i = 0; i < g->n_values; i++) {
        plan->place[i] = -1;
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        const stn__node *node = &g->node[k];
        bool reuse = overwrites(plan, k, last);
        for (uint32_t o = 0; o < node->n_out; o++) {
            stn_val v = node->out[o];
            if (g->value[v].kind != STN__ACTIVATION || v == g->stats || v == g->pred ||
                g->value[v].pack != STN_NO_VALUE) {
                continue;
            }
            if (o == 0 && reuse) {
                plan->place[v] = plan->place[node->in[0]];
                plan->block[plan->place[v]].last = last[v];
                continue;
            }
            plan->place[v] = (int32_t)plan->n_blocks;
            stn__block *b = &plan->block[plan->n_blocks++];
            b->bytes = stn_tensor_bytes(&g->value[v].tensor);
            b->first = plan->keep ? 0 : k;
            b->last = plan->keep ? UINT32_MAX : last[v];
        }
    }
}

/* Name of a value stored in a block. */
static const char *block_name(const stn__plan *plan, int64_t block) {
    for (uint32_t i = 0; i < plan->graph.n_values; i++) {
        if (plan->place[i] == block) {
            return plan->graph.value[i].name;
        }
    }
    return "";
}

static int32_t place_values(stn__plan *plan, const stn_device_info *info, stn_err *err) {
    uint64_t n = plan->graph.n_values;
    uint32_t *last = stn__calloc(n, sizeof *last), *scratch = stn__calloc(n, sizeof *scratch);
    plan->block = stn__calloc(n, sizeof *plan->block);
    plan->place = stn__calloc(n, sizeof *plan->place);
    int32_t status = STN_OK;
    if (last == NULL || scratch == NULL || plan->block == NULL || plan->place == NULL) {
        status = stn__nomem(err, "lifetimes of values", n * sizeof *plan->block);
    } else {
        find_last(&plan->graph, last);
        find_blocks(plan, last);
        int64_t bad = stn__arena_place(plan->block, plan->n_blocks, info->max_alloc,
                                       plan->keep ? STN__ALIGN : 0, &plan->arena, scratch);
        if (bad >= 0) {
            status = stn_fail(err, STN_E_NOMEM,
                              "%s needs %llu bytes, device %.60s allows %llu in one buffer: use a "
                              "smaller batch",
                              block_name(plan, bad), (unsigned long long)plan->block[bad].bytes,
                              info->name, (unsigned long long)info->max_alloc);
        }
    }
    stn__free(last);
    stn__free(scratch);
    return status;
}

/* ---- making, binding, running ------------------------------------------------------------- */

int32_t stn__plan_make(stn__plan *plan, const stn_backend *backend, stn_device *device,
                       const stn_device_info *info, bool keep, stn_err *err) {
    const stn_graph *g = &plan->graph;
    uint32_t operands = 0;
    plan->first = stn__calloc(g->n_nodes, sizeof *plan->first);
    for (uint32_t k = 0; plan->first != NULL && k < g->n_nodes; k++) {
        plan->first[k] = operands;
        operands += g->node[k].n_in + g->node[k].n_out;
    }
    while (plan->late < g->n_nodes && g->value[g->node[plan->late].in[0]].kind != STN__PARTIAL) {
        plan->late++;
    }
    plan->backend = backend;
    plan->device = device;
    plan->keep = keep;
    plan->ref = stn__calloc(g->n_values, sizeof *plan->ref);
    plan->operand = stn__calloc(operands, sizeof *plan->operand);
    plan->kernel = stn__calloc(g->n_nodes, sizeof *plan->kernel);
    if (plan->first == NULL || plan->ref == NULL || plan->operand == NULL || plan->kernel == NULL) {
        return stn__nomem(err, "plan", operands * sizeof *plan->operand);
    }
    STN_TRY(choose_layouts(plan, info, err));
    return place_values(plan, info, err);
}

void stn__plan_bind(stn__plan *plan, stn_buf *const *buffers) {
    const stn_graph *g = &plan->graph;
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (plan->place[i] >= 0) {
            const stn__block *b = &plan->block[plan->place[i]];
            plan->ref[i] = (stn_ref){buffers[b->buffer], b->offset};
        }
    }
    stn_ref *operand = plan->operand;
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        const stn__node *node = &g->node[k];
        for (uint32_t i = 0; i < node->n_in; i++) {
            *operand++ = plan->ref[node->in[i]];
        }
        for (uint32_t o = 0; o < node->n_out; o++) {
            *operand++ = plan->ref[node->out[o]];
        }
    }
}

void stn__plan_move(stn__plan *plan, stn_val value, stn_ref to) {
    const stn__value *v = &plan->graph.value[value];
    const stn__node *node = &plan->graph.node[v->node];
    plan->ref[value] = to;
    plan->operand[plan->first[v->node] + node->n_in + v->slot] = to;
}

int32_t stn__plan_prepare(stn__plan *plan, stn_err *err) {
    for (uint32_t k = 0; k < plan->graph.n_nodes; k++) {
        const stn__node *node = &plan->graph.node[k];
        stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
        stn_op_desc desc;
        stn_err own = {0};
        describe(plan, node, &desc, in, out);
        int32_t status = plan->backend->op_prepare(plan->device, &desc, &plan->kernel[k], &own);
        if (status != STN_OK) {
            return stn_fail(err, status, "%s: operator %s: %.180s", node->name,
                            stn__op_name(node->op), own.text);
        }
    }
    return STN_OK;
}

int32_t stn__plan_run(const stn__plan *plan, bool late, stn_stream *stream, stn_ref workspace,
                      stn_ref flags, const stn_step *step, stn_span *spans, stn_err *err) {
    uint32_t begin = late ? plan->late : 0, end = late ? plan->graph.n_nodes : plan->late;
    const stn_ref *operand = begin < end ? plan->operand + plan->first[begin] : NULL;
    if (spans != NULL) {
        STN_TRY(plan->backend->sync(stream, err));
    }
    for (uint32_t k = begin; k < end; k++) {
        const stn__node *node = &plan->graph.node[k];
        stn_run_args args = {sizeof args, k, operand, operand + node->n_in, workspace, flags, step};
        if (spans != NULL) {
            spans[k].begin = stn__now_ns();
        }
        STN_TRY(plan->backend->op_run(stream, plan->kernel[k], &args, err));
        if (spans != NULL) {
            STN_TRY(plan->backend->sync(stream, err));
            spans[k].end = stn__now_ns();
        }
        operand += node->n_in + node->n_out;
    }
    return STN_OK;
}

uint64_t stn__plan_flops(const stn__plan *plan, uint32_t node) {
    stn_tensor in[STN_MAX_IN], out[STN_MAX_OUT];
    stn_op_desc desc;
    describe(plan, &plan->graph.node[node], &desc, in, out);
    return stn_op_flops(&desc);
}

uint64_t stn__plan_bytes(const stn__plan *plan, uint32_t node) {
    const stn_graph *g = &plan->graph;
    const stn__node *n = &g->node[node];
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < n->n_in; i++) {
        bytes += stn_tensor_bytes(&g->value[n->in[i]].tensor);
    }
    for (uint32_t i = 0; i < n->n_out; i++) {
        bytes += stn_tensor_bytes(&g->value[n->out[i]].tensor);
    }
    return bytes;
}

void stn__plan_free(stn__plan *plan) {
    for (uint32_t k = 0; plan->kernel != NULL && k < plan->graph.n_nodes; k++) {
        if (plan->kernel[k] != NULL) {
            plan->backend->op_free(plan->kernel[k]);
        }
    }
    stn__free(plan->kernel);
    stn__free(plan->operand);
    stn__free(plan->first);
    stn__free(plan->ref);
    stn__free(plan->block);
    stn__free(plan->place);
    stn__graph_free(&plan->graph);
    memset(plan, 0, sizeof *plan);
}
