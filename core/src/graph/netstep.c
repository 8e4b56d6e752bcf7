/* Steps of a net: queueing, per-step scalars, results.
 *
 * A step copies its images and labels into a queue slot, then only enqueues: writes, nodes. Nothing
 * in it allocates, reads back or waits. Collecting reads the flags, loss statistics and predictions
 * of all queued steps at once, and computes losses on the host in double.
 */
#include <math.h>
#include <string.h>

#include <stn/num.h>

#include "base/det_math.h"
#include "base/mem.h"
#include "graph/net.h"

/* ---- scalars ------------------------------------------------------------------------------ */

static double adam_rate(const stn_net *net, double rate) {
    double c1 = 1.0 - net->powers[0], c2 = 1.0 - net->powers[1];
    return c1 > 0.0 ? rate * sqrt(c2) / c1 : 0.0;
}

static double slot_value(const stn_net *net, uint32_t kind, uint32_t arg, uint32_t count,
                         double lr) {
    double n = (double)count * arg, rate = arg == 1 ? lr * net->loc_rate : lr;
    switch (kind) {
    case STN__SLOT_INV_COUNT:
        return 1.0 / (double)count;
    case STN__SLOT_BN_INV_N:
        return 1.0 / n;
    case STN__SLOT_BN_INV_N1:
        return n > 1.0 ? 1.0 / (n - 1.0) : 0.0;
    case STN__SLOT_RATE:
        return net->optimizer == STN_OPT_SGD ? rate : adam_rate(net, rate);
    case STN__SLOT_EPS:
        return net->eps * sqrt(1.0 - net->powers[1]);
    default: /* STN__SLOT_DECAY */
        return rate * net->weight_decay;
    }
}

void stn__net_scalars(stn_net *net, uint32_t count, double lr) {
    if (net->optimizer == STN_OPT_SGD && net->scalar_count == count && net->scalar_lr == lr) {
        return;
    }
    for (uint32_t i = 0; i < net->slots.n; i++) {
        uint32_t kind = net->slots.slot[i].kind;
        float value = (float)slot_value(net, kind, net->slots.slot[i].arg, count, lr);
        net->scalar[i] = kind == STN__SLOT_DECAY ? stn_snap_x(value) : value;
    }
    net->scalar_count = count;
    net->scalar_lr = lr;
}

uint64_t stn__net_bn_values(const stn_net *net, uint32_t count) {
    uint64_t least = 0;
    for (uint32_t i = 0; i < net->slots.n; i++) {
        if (net->slots.slot[i].kind == STN__SLOT_BN_INV_N) {
            uint64_t n = (uint64_t)count * net->slots.slot[i].arg;
            least = least == 0 || n < least ? n : least;
        }
    }
    return least;
}

/* ---- queueing ----------------------------------------------------------------------------- */

static int32_t check_step(const stn_net *net, const stn_net_step_args *a, bool eval, stn_err *err) {
    if (a->images == NULL || a->labels == NULL || a->count == 0 || a->count > net->batch) {
        return stn_fail(err, STN_E_USAGE, "step %llu: %u images, want 1 to %u",
                        (unsigned long long)a->step, a->count, net->batch);
    }
    if (net->n_queued == STN__QUEUE) {
        return stn_fail(err, STN_E_USAGE, "step %llu: %u steps are queued, collect them first",
                        (unsigned long long)a->step, STN__QUEUE);
    }
    for (uint64_t i = 0; i < (uint64_t)a->count * net->heads; i++) {
        if (a->labels[i] < 0 || (uint32_t)a->labels[i] >= net->classes) {
            return stn_fail(err, STN_E_USAGE, "step %llu: image %llu has label %d of %u classes",
                            (unsigned long long)a->step, (unsigned long long)(i / net->heads),
                            a->labels[i], net->classes);
        }
    }
    if (eval) {
        return STN_OK;
    }
    if (!isfinite(a->lr)) {
        return stn_fail(err, STN_E_USAGE, "step %llu: learning rate is not a number",
                        (unsigned long long)a->step);
    }
    if (stn__net_bn_values(net, a->count) == 1) {
        return stn_fail(err, STN_E_USAGE,
                        "step %llu: batch norm over one value, want at least two images",
                        (unsigned long long)a->step);
    }
    return STN_OK;
}

uint64_t stn__net_row_bytes(const stn_graph *g, stn_val v, uint32_t rows) {
    return stn_tensor_bytes(&g->value[v].tensor) / g->batch * rows;
}

void stn__net_slot(stn_net *net, uint32_t which, uint32_t place, uint32_t part) {
    const stn__outcome *o = &net->outcome;
    const stn_graph *g = &net->plan[which].graph;
    uint64_t at = o->slots + place * o->slot_bytes + part * o->part_bytes;
    stn__plan_move(&net->plan[which], g->stats, (stn_ref){o->buf, at});
    stn__plan_move(&net->plan[which], g->pred, (stn_ref){o->buf, at + o->pred});
}

/* Images first .. first + count - 1 of a step through the nodes that every micro-batch runs. */
static int32_t enqueue_part(stn_net *net, const stn__queued *q, const stn_step *step,
                            stn_err *err) {
    uint32_t which = q->eval ? 1 : 0, part = step->first / net->micro.rows;
    const stn__plan *plan = &net->plan[which];
    const stn_graph *g = &plan->graph;
    const stn_backend *b = net->backend;
    const uint8_t *images =
        (const uint8_t *)q->images + stn__net_row_bytes(g, g->pixels, step->first);
    STN_TRY(b->write(net->stream, plan->ref[g->pixels], images,
                     stn__net_row_bytes(g, g->pixels, step->count), err));
    STN_TRY(b->write(net->stream, plan->ref[g->labels], q->labels + step->first * net->heads,
                     stn__net_row_bytes(g, g->labels, step->count), err));
    stn__net_slot(net, which, net->n_queued, part);
    if (step->partial != 0) {
        stn__micro_aim(net, stn__micro_level(part));
    }
    STN_TRY(stn__plan_run(plan, false, net->stream, (stn_ref){net->workspace, 0},
                          (stn_ref){net->outcome.buf, net->outcome.flags[which]}, step,
                          q->eval ? NULL : net->spans, err));
    if (step->partial != 0) {
        return stn__micro_fold(net, stn__micro_level(part) + 1, stn__micro_level(part + 1), step,
                               err);
    }
    return net->micro.parts > 1 ? stn__micro_keep(net, part, err) : STN_OK;
}

static int32_t enqueue(stn_net *net, stn__queued *q, const stn_net_step_args *a, stn_err *err) {
    const stn__micro *m = &net->micro;
    uint32_t which = q->eval ? 1 : 0, parts = (a->count + m->rows - 1) / m->rows;
    stn_step step = {.struct_size = sizeof step,
                     .step = a->step,
                     .seed = a->seed,
                     .n_scalars = net->slots.n,
                     .scalar = net->scalar,
                     .partial = m->parts > 1 && !q->eval};
    for (uint32_t part = 0; part < parts; part++) {
        step.first = part * m->rows;
        step.count = a->count - step.first < m->rows ? a->count - step.first : m->rows;
        STN_TRY(enqueue_part(net, q, &step, err));
    }
    if (step.partial != 0) {
        STN_TRY(stn__micro_fold(net, stn__micro_level(parts), 1, &step, err));
        step.first = step.partial = 0;
        step.count = a->count;
        STN_TRY(stn__plan_run(&net->plan[0], true, net->stream, (stn_ref){net->workspace, 0},
                              (stn_ref){net->outcome.buf, net->outcome.flags[which]}, &step,
                              net->spans, err));
    }
    return net->backend->flush(net->stream, err);
}

static int32_t queue_step(stn_net *net, const stn_net_step_args *a, bool eval, stn_err *err) {
    STN_TRY(check_step(net, a, eval, err));
    stn__queued *q = &net->queue[net->n_queued];
    const stn_graph *g = &net->plan[0].graph;
    memcpy(q->images, a->images, stn__net_row_bytes(g, g->pixels, a->count));
    memcpy(q->labels, a->labels, stn__net_row_bytes(g, g->labels, a->count));
    q->step = a->step;
    q->count = a->count;
    q->eval = eval;
    memcpy(q->powers, net->powers, sizeof q->powers);
    if (!eval && net->optimizer != STN_OPT_SGD) {
        net->powers[0] *= net->beta[0];
        net->powers[1] *= net->beta[1];
    }
    stn__net_scalars(net, a->count, eval ? net->scalar_lr : a->lr);
    int32_t status = enqueue(net, q, a, err);
    if (status != STN_OK) {
        memcpy(net->powers, q->powers, sizeof q->powers);
        return status;
    }
    net->n_queued++;
    return STN_OK;
}

int32_t stn_net_train_step(stn_net *net, const stn_net_step_args *args, stn_err *err) {
    return queue_step(net, args, false, err);
}

int32_t stn_net_eval_step(stn_net *net, const stn_net_step_args *args, stn_err *err) {
    return queue_step(net, args, true, err);
}

uint32_t stn_net_queue_depth(const stn_net *net) {
    (void)net;
    return STN__QUEUE;
}

/* ---- collecting --------------------------------------------------------------------------- */

/* Loss and errors of the finished step at `place` of the queue; images in order, heads ascending.
 * pred (may be NULL) gets its predictions. */
static void finish(const stn_net *net, uint32_t place, stn_step_result *r, int32_t *pred) {
    const stn__queued *q = &net->queue[place];
    const stn__outcome *o = &net->outcome;
    const uint8_t *slot = o->copy + o->slots + place * o->slot_bytes;
    double sum = 0.0;
    r->step = q->step;
    r->count = q->count;
    r->wrong = 0;
    for (uint32_t i = 0; i < q->count; i++) {
        const uint8_t *part = slot + i / net->micro.rows * o->part_bytes;
        const float *stats = (const float *)(const void *)part;
        const int32_t *found = (const int32_t *)(const void *)(part + o->pred);
        bool wrong = false;
        for (uint32_t h = 0; h < net->heads; h++) {
            uint64_t at = (uint64_t)(i % net->micro.rows) * net->heads + h;
            uint64_t in_batch = (uint64_t)i * net->heads + h;
            sum += stn__log_e((double)stats[2 * at + 1]) - (double)stats[2 * at];
            wrong = wrong || found[at] != q->labels[in_batch];
            if (pred != NULL) {
                pred[in_batch] = found[at];
            }
        }
        r->wrong += wrong ? 1u : 0u;
    }
    r->loss = sum * (1.0 / (double)q->count);
}

static const uint32_t *flag_words(const stn_net *net, uint32_t which) {
    return (const uint32_t *)(const void *)(net->outcome.copy + net->outcome.flags[which]);
}

/* Describes the flagged step; returns its index in the queue. */
static uint32_t blame(const stn_net *net, uint32_t which, stn_err *err) {
    const stn_graph *g = &net->plan[which].graph;
    const uint32_t *word = flag_words(net, which);
    uint32_t bad = 0, node = 0;
    while (bad + 1 < net->n_queued && (net->queue[bad].eval != (which == 1) ||
                                       (uint32_t)(net->queue[bad].step + 1) != word[0])) {
        bad++;
    }
    while (node + 1 < g->n_nodes && word[1 + node] != word[0]) {
        node++;
    }
    (void)stn_fail(err, STN_E_NONFINITE,
                   "%s %llu: operator %s made an infinite or not-a-number value in %s; %s",
                   which == 1 ? "evaluation step" : "step",
                   (unsigned long long)net->queue[bad].step, stn__op_name(g->node[node].op),
                   g->value[g->node[node].out[0]].name,
                   which == 1 ? "the parameters are too large" : "try a lower learning rate");
    return bad;
}

/* Looks for a non-finite value of one plan's steps and clears the flags. *bad: index of the first
 * bad step in the queue, kept if there is none or an earlier one is known. */
static int32_t check_flags(stn_net *net, uint32_t which, uint32_t *bad, stn_err *err) {
    if (flag_words(net, which)[0] == 0) {
        return STN_OK;
    }
    stn_ref flags = {net->outcome.buf, net->outcome.flags[which]};
    stn_err own = {0};
    uint32_t index = blame(net, which, &own);
    if (which == 0) {
        memcpy(net->powers, net->queue[index].powers, sizeof net->powers);
    }
    STN_TRY(net->backend->fill(net->stream, flags, 0, net->outcome.flags_bytes[which], err));
    STN_TRY(net->backend->sync(net->stream, err));
    if (index < *bad) {
        *bad = index;
        if (err != NULL) {
            *err = own;
        }
    }
    return STN_OK;
}

/* Waits for all queued steps and reads what they left. */
static int32_t read_outcome(stn_net *net, stn_err *err) {
    const stn__outcome *o = &net->outcome;
    uint64_t bytes = o->slots + net->n_queued * o->slot_bytes;
    STN_TRY(net->backend->read(net->stream, o->copy, (stn_ref){o->buf, 0}, bytes, err));
    return net->backend->sync(net->stream, err);
}

int32_t stn_net_collect(stn_net *net, stn_step_result *results, uint32_t *n, int32_t *pred,
                        stn_err *err) {
    uint32_t queued = net->n_queued, bad = queued;
    int32_t status = queued > 0 ? read_outcome(net, err) : STN_OK;
    *n = 0;
    for (uint32_t which = 0; which < 2 && queued > 0 && status == STN_OK; which++) {
        status = check_flags(net, which, &bad, err);
    }
    net->n_queued = 0;
    if (status != STN_OK) {
        return status;
    }
    for (uint32_t i = 0; i < bad; i++) {
        finish(net, i, &results[i], pred);
        pred = pred == NULL ? NULL : pred + (uint64_t)results[i].count * net->heads;
    }
    *n = bad;
    if (bad < queued) {
        return STN_E_NONFINITE;
    }
    return net->keep && queued > 0 ? stn__net_canaries(net, err) : STN_OK;
}

int32_t stn_net_adam_powers(stn_net *net, double powers[2], bool set, stn_err *err) {
    if (!set) {
        memcpy(powers, net->powers, sizeof net->powers);
        return STN_OK;
    }
    for (uint32_t i = 0; i < 2; i++) {
        if (!(powers[i] >= 0.0 && powers[i] <= 1.0)) {
            return stn_fail(err, STN_E_USAGE, "Adam powers %g, %g: want 0 to 1", powers[0],
                            powers[1]);
        }
    }
    memcpy(net->powers, powers, sizeof net->powers);
    return STN_OK;
}

void stn_net_watch(stn_net *net, stn_span *spans) {
    net->spans = spans;
}

uint32_t stn_net_node_count(const stn_net *net, bool eval) {
    return net->plan[eval ? 1 : 0].graph.n_nodes;
}

int32_t stn_net_node_get(stn_net *net, bool eval, uint32_t index, stn_node_info *info,
                         stn_err *err) {
    const stn__plan *plan = &net->plan[eval ? 1 : 0];
    if (index >= plan->graph.n_nodes) {
        return stn_fail(err, STN_E_USAGE, "node %u of %u", index, plan->graph.n_nodes);
    }
    const stn__node *node = &plan->graph.node[index];
    *info = (stn_node_info){.name = node->name,
                            .op = stn__op_name(node->op),
                            .flops = stn__plan_flops(plan, index),
                            .bytes = stn__plan_bytes(plan, index)};
    STN_TRY(net->backend->sync(net->stream, err));
    int32_t status = net->backend->op_time(net->stream, plan->kernel[index], &info->ns, err);
    return status == STN_E_UNSUPPORTED ? STN_OK : status;
}

uint32_t stn_net_launches(const stn_net *net, bool eval) {
    const stn__plan *plan = &net->plan[eval ? 1 : 0];
    uint32_t parts = net->micro.parts, sum = 0, n = 0;
    for (uint32_t k = 0; k < plan->graph.n_nodes; k++) {
        bool counted = net->backend->op_launches(plan->kernel[k], &n, NULL) == STN_OK;
        sum += !counted ? 0 : k < plan->late ? n * parts : n;
    }
    if (!eval && parts > 1 && net->backend->op_launches(net->micro.add, &n, NULL) == STN_OK) {
        sum += n * (parts - 1);
    }
    return sum;
}

int32_t stn_net_node_launches(const stn_net *net, bool eval, uint32_t index, uint32_t *n,
                              stn_err *err) {
    const stn__plan *plan = &net->plan[eval ? 1 : 0];
    *n = 0;
    return index < plan->graph.n_nodes
               ? net->backend->op_launches(plan->kernel[index], n, err)
               : stn_fail(err, STN_E_USAGE, "node %u of %u", index, plan->graph.n_nodes);
}

int32_t stn_net_launch_get(stn_net *net, bool eval, uint32_t index, uint32_t launch,
                           stn_launch *info, stn_err *err) {
    const stn__plan *plan = &net->plan[eval ? 1 : 0];
    uint32_t n = 0;
    STN_TRY(stn_net_node_launches(net, eval, index, &n, err));
    *info = (stn_launch){.struct_size = sizeof *info};
    STN_TRY(net->backend->op_launch_get(plan->kernel[index], launch, info, err));
    if (n == 1 && info->flops == 0) {
        info->flops = stn__plan_flops(plan, index);
    }
    return STN_OK;
}
