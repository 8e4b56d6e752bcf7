/* Opening and closing nets: checks, graphs, plans, device memory. */
#include "graph/net.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

/* ---- checks ------------------------------------------------------------------------------- */

static bool rate_ok(double x) {
    return isfinite(x) && x >= 0.0;
}

static int32_t check_sizes(const stn_net_spec *s, stn_err *err) {
    const stn_model_request *r = &s->request;
    if (s->batch == 0 || s->batch > 65536) {
        return stn_fail(err, STN_E_USAGE, "batch %u: want 1 to 65536 images", s->batch);
    }
    if (s->shards == 0 || s->shards > 1024 || (s->shards & (s->shards - 1)) != 0) {
        return stn_fail(err, STN_E_USAGE, "shards %u: want a power of two up to 1024", s->shards);
    }
    if (s->input_dtype != STN_U8 && s->input_dtype != STN_F32) {
        return stn_fail(err, STN_E_USAGE, "input type %u: want u8 or f32", s->input_dtype);
    }
    if (r->channels == 0 || r->channels > STN_MAX_CHANNELS || r->height == 0 || r->width == 0 ||
        r->height > 4096 || r->width > 4096) {
        return stn_fail(err, STN_E_USAGE, "image %ux%ux%u: want 1 to %u channels, sides to 4096",
                        r->channels, r->height, r->width, STN_MAX_CHANNELS);
    }
    if (r->heads == 0 || r->heads > 64 || r->classes < 2 || r->classes > 65536) {
        return stn_fail(err, STN_E_USAGE, "%u heads of %u classes: want 1 to 64 heads, 2 classes",
                        r->heads, r->classes);
    }
    return STN_OK;
}

static int32_t check_optimizer(const stn_net_spec *s, stn_err *err) {
    if (s->optimizer > STN_OPT_ADAMW) {
        return stn_fail(err, STN_E_USAGE, "optimizer %u is unknown", s->optimizer);
    }
    if (!rate_ok(s->weight_decay) || !rate_ok(s->loc_rate)) {
        return stn_fail(err, STN_E_USAGE, "weight decay %g, rate factor %g: want 0 or more",
                        s->weight_decay, s->loc_rate);
    }
    if (s->optimizer == STN_OPT_SGD) {
        if (!(s->momentum >= 0.0 && s->momentum < 1.0)) {
            return stn_fail(err, STN_E_USAGE, "momentum %g: want 0 <= momentum < 1", s->momentum);
        }
        return STN_OK;
    }
    if (!(s->beta1 >= 0.0 && s->beta1 < 1.0 && s->beta2 >= 0.0 && s->beta2 < 1.0)) {
        return stn_fail(err, STN_E_USAGE, "beta1 %g, beta2 %g: want 0 <= beta < 1", s->beta1,
                        s->beta2);
    }
    /* The smallest eps' = eps*sqrt(1 - beta2^t) is that of t = 1. */
    if (!(isfinite(s->eps) && s->eps * sqrt(1.0 - s->beta2) >= 0x1p-100)) {
        return stn_fail(err, STN_E_USAGE, "eps %g is too small for beta2 %g", s->eps, s->beta2);
    }
    return STN_OK;
}

/* ---- device memory ------------------------------------------------------------------------ */

static int32_t allocate(stn_net *net, uint64_t bytes, const char *what, stn_buf **buf,
                        stn_err *err) {
    stn_err own = {0};
    int32_t status = net->dry ? STN_OK : net->backend->buf_alloc(net->device, bytes, buf, &own);
    if (status != STN_OK) {
        *buf = NULL;
        return stn_fail(err, status,
                        "out of memory on %.60s: %.80s needs %llu bytes; use a smaller batch",
                        stn_dev_info(net->dev)->info.name, what, (unsigned long long)bytes);
    }
    net->memory.total += bytes;
    return STN_OK;
}

static int32_t fill(stn_net *net, stn_ref at, uint32_t word, uint64_t bytes, stn_err *err) {
    return net->dry ? STN_OK : net->backend->fill(net->stream, at, word, bytes, err);
}

/* Packs, zero between their members, and the places of gradients in them. */
static int32_t allocate_packs(stn_net *net, stn_err *err) {
    stn__plan *plan = &net->plan[0];
    const stn_graph *g = &plan->graph;
    uint64_t *const counter[] = {&net->memory.activations, &net->memory.params,
                                 &net->memory.optimizer};
    net->pack = stn__calloc(g->n_values, sizeof *net->pack);
    if (net->pack == NULL) {
        return stn__nomem(err, "list of packs", g->n_values * sizeof *net->pack);
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        const stn__value *v = &g->value[i];
        if (v->kind == STN__PACK) {
            uint64_t bytes = stn_tensor_bytes(&v->tensor);
            STN_TRY(allocate(net, bytes, v->name, &net->pack[i], err));
            *counter[v->index < 2 ? v->index : 2] += bytes;
            plan->ref[i] = (stn_ref){net->pack[i], 0};
            STN_TRY(fill(net, plan->ref[i], 0, bytes, err));
        }
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        if (g->value[i].pack != STN_NO_VALUE) {
            plan->ref[i] = (stn_ref){net->pack[g->value[i].pack], g->value[i].pack_at};
        }
    }
    return STN_OK;
}

static int32_t allocate_item(stn_net *net, stn__item *item, stn_err *err) {
    uint64_t bytes = stn_tensor_bytes(&item->tensor);
    STN_TRY(allocate(net, bytes, item->name, &item->buf, err));
    item->ref = (stn_ref){item->buf, 0};
    if (item->role == STN__ROLE_OPTIMIZER) {
        net->memory.optimizer += bytes;
    } else {
        net->memory.params += bytes;
    }
    return STN_OK;
}

static int32_t allocate_state(stn_net *net, stn_err *err) {
    for (uint32_t i = 0; i < net->store.n; i++) {
        stn__item *item = &net->store.item[i];
        stn_val v = item->value[0];
        if (v != STN_NO_VALUE && net->plan[0].graph.value[v].pack != STN_NO_VALUE) {
            item->ref = net->plan[0].ref[v];
        } else {
            STN_TRY(allocate_item(net, item, err));
        }
        for (uint32_t which = 0; which < 2; which++) {
            if (item->value[which] != STN_NO_VALUE) {
                net->plan[which].ref[item->value[which]] = item->ref;
            }
        }
    }
    return STN_OK;
}

static int32_t allocate_constants(stn_net *net, uint32_t which, stn_err *err) {
    stn_graph *g = &net->plan[which].graph;
    net->constant[which] = stn__calloc(g->n_constants, sizeof(stn_buf *));
    if (net->constant[which] == NULL) {
        return stn__nomem(err, "list of constants", g->n_constants * sizeof(stn_buf *));
    }
    for (uint32_t i = 0; i < g->n_values; i++) {
        const stn__value *v = &g->value[i];
        if (v->kind != STN__CONST) {
            continue;
        }
        stn_buf **buf = &net->constant[which][v->index];
        uint64_t bytes = stn_tensor_bytes(&v->tensor);
        STN_TRY(allocate(net, bytes, v->name, buf, err));
        net->memory.activations += bytes;
        net->plan[which].ref[i].buf = *buf;
        if (!net->dry) {
            STN_TRY(net->backend->write(net->stream, net->plan[which].ref[i],
                                        g->constant[v->index].data, bytes, err));
        }
    }
    return STN_OK;
}

/* The arena: each buffer as large as the larger of both plans needs, or one set for each. */
static int32_t allocate_arena(stn_net *net, stn_err *err) {
    for (uint32_t set = 0; set < (net->keep ? 2u : 1u); set++) {
        const stn__arena *a = &net->plan[set].arena, *b = &net->plan[net->keep ? set : 1].arena;
        for (uint32_t i = 0; i < (a->n > b->n ? a->n : b->n); i++) {
            uint64_t bytes = a->bytes[i] > b->bytes[i] ? a->bytes[i] : b->bytes[i];
            char what[40];
            (void)snprintf(what, sizeof what, "activations, part %u", i + 1);
            STN_TRY(allocate(net, bytes, what, &net->arena[set][i], err));
            net->memory.activations += bytes;
            if (net->keep) {
                stn_ref all = {net->arena[set][i], 0};
                STN_TRY(fill(net, all, STN__POISON, bytes, err));
            }
        }
    }
    return STN_OK;
}

static int32_t allocate_outcome(stn_net *net, stn_err *err) {
    const stn_graph *g = &net->plan[0].graph;
    stn__outcome *o = &net->outcome;
    for (uint32_t which = 0; which < 2; which++) {
        o->flags[which] = o->slots;
        o->flags_bytes[which] = 4u * (1u + (uint64_t)net->plan[which].graph.n_nodes);
        o->slots += stn__round_up(o->flags_bytes[which]);
    }
    o->pred = stn__round_up(stn_tensor_bytes(&g->value[g->stats].tensor));
    o->part_bytes = o->pred + stn__round_up(stn_tensor_bytes(&g->value[g->pred].tensor));
    o->slot_bytes = net->micro.parts * o->part_bytes;
    uint64_t bytes = o->slots + STN__QUEUE * o->slot_bytes;
    STN_TRY(allocate(net, bytes, "results of queued steps", &o->buf, err));
    net->memory.activations += bytes;
    if (net->dry) {
        return STN_OK;
    }
    o->copy = stn__calloc(1, bytes);
    if (o->copy == NULL) {
        return stn__nomem(err, "results of queued steps", bytes);
    }
    stn__net_slot(net, 0, 0, 0);
    stn__net_slot(net, 1, 0, 0);
    return fill(net, (stn_ref){o->buf, 0}, 0, bytes, err);
}

/* What only micro-batches need: sums of gradients on each level, marked values. */
static int32_t allocate_micro(stn_net *net, stn_err *err) {
    stn__plan *plan = &net->plan[0];
    uint64_t bytes = plan->graph.partial_bytes, marks = stn__micro_marks(net);
    for (uint32_t l = 0; l < net->micro.levels; l++) {
        STN_TRY(allocate(net, bytes, "sums of gradients", &net->micro.sum[l], err));
        STN_TRY(fill(net, (stn_ref){net->micro.sum[l], 0}, 0, bytes, err));
        net->memory.activations += bytes;
    }
    for (uint32_t i = 0; i < plan->graph.n_values; i++) {
        if (plan->graph.value[i].kind == STN__PARTIAL) {
            plan->ref[i] = (stn_ref){net->micro.sum[0], plan->graph.value[i].pack_at};
        }
    }
    if (net->micro.parts > 1 && marks > 0) {
        STN_TRY(allocate(net, marks, "marked values", &net->micro.marks, err));
        net->memory.activations += marks;
    }
    return STN_OK;
}

/* Scratch of all operators, the adding of sums included. */
static int32_t allocate_workspace(stn_net *net, stn_err *err) {
    uint64_t most = 0;
    if (net->micro.parts > 1) {
        STN_TRY(stn__micro_query(net, &most, err));
    }
    for (uint32_t which = 0; which < 2; which++) {
        most = net->plan[which].workspace > most ? net->plan[which].workspace : most;
    }
    net->memory.workspace = most;
    return most > 0 ? allocate(net, most, "workspace", &net->workspace, err) : STN_OK;
}

static int32_t allocate_all(stn_net *net, stn_err *err) {
    const stn_graph *g = &net->plan[0].graph;
    uint64_t pixels = stn_tensor_bytes(&g->value[g->pixels].tensor);
    uint64_t labels = stn_tensor_bytes(&g->value[g->labels].tensor);
    STN_TRY(allocate_packs(net, err));
    STN_TRY(allocate_state(net, err));
    STN_TRY(allocate(net, pixels, "input images", &net->pixels, err));
    STN_TRY(allocate(net, labels, "labels", &net->labels, err));
    net->memory.activations += pixels + labels;
    STN_TRY(allocate_arena(net, err));
    STN_TRY(allocate_workspace(net, err));
    STN_TRY(allocate_outcome(net, err));
    STN_TRY(allocate_micro(net, err));
    for (uint32_t which = 0; which < 2; which++) {
        stn__plan *plan = &net->plan[which];
        STN_TRY(allocate_constants(net, which, err));
        plan->ref[plan->graph.pixels].buf = net->pixels;
        plan->ref[plan->graph.labels].buf = net->labels;
        stn__plan_bind(plan, net->arena[net->keep ? which : 0]);
    }
    return STN_OK;
}

/* ---- host memory -------------------------------------------------------------------------- */

static int32_t make_queue(stn_net *net, stn_err *err) {
    const stn_graph *g = &net->plan[0].graph;
    uint64_t images = stn__round_up(stn__net_row_bytes(g, g->pixels, net->batch));
    uint64_t step = images + stn__round_up((uint64_t)net->batch * net->heads * sizeof(int32_t));
    void *memory = NULL;
    net->pinned = net->backend->host_alloc(net->device, STN__QUEUE * step, &memory, NULL) == STN_OK;
    net->host = net->pinned ? memory : stn__alloc(STN__QUEUE * step);
    if (net->host == NULL) {
        return stn__nomem(err, "queue of steps", STN__QUEUE * step);
    }
    for (uint32_t i = 0; i < STN__QUEUE; i++) {
        uint8_t *at = (uint8_t *)net->host + i * step;
        net->queue[i].images = at;
        net->queue[i].labels = (int32_t *)(void *)(at + images);
    }
    return STN_OK;
}

static int32_t sort_state(stn_net *net, stn_err *err) {
    net->order = stn__calloc(net->store.n, sizeof *net->order);
    if (net->order == NULL) {
        return stn__nomem(err, "list of state", net->store.n * sizeof *net->order);
    }
    for (uint32_t i = 0; i < net->store.n; i++) {
        uint32_t at = i;
        for (; at > 0 &&
               strcmp(net->store.item[net->order[at - 1]].name, net->store.item[i].name) > 0;
             at--) {
            net->order[at] = net->order[at - 1];
        }
        net->order[at] = i;
    }
    return STN_OK;
}

/* True for an output that an operator leaves without meaning. */
static bool meaningless(const stn__node *node, uint32_t o) {
    return node->op == STN_OP_CONV_BLOCK && o == 1 && node->params.block.pool.kh == 0;
}

/* Inputs and state first, then what the nodes make, in plan order. */
static int32_t list_values(stn_net *net, uint32_t which, stn_err *err) {
    const stn_graph *g = &net->plan[which].graph;
    stn__listed *list = stn__calloc(g->n_values, sizeof *list);
    if (list == NULL) {
        return stn__nomem(err, "list of values", g->n_values * sizeof *list);
    }
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->n_values; i++) {
        uint32_t kind = g->value[i].kind;
        if (kind != STN__ACTIVATION && kind != STN__PACK && kind != STN__PARTIAL &&
            net->plan[which].ref[i].buf != NULL) {
            list[n++] = (stn__listed){(stn_val)i, UINT32_MAX};
        }
    }
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        for (uint32_t o = 0; o < g->node[k].n_out; o++) {
            stn_val v = g->node[k].out[o];
            if (g->value[v].kind == STN__ACTIVATION && !meaningless(&g->node[k], o)) {
                list[n++] = (stn__listed){v, k};
            }
        }
    }
    net->listed[which] = list;
    net->n_listed[which] = n;
    return STN_OK;
}

/* ---- open and close ----------------------------------------------------------------------- */

static int32_t make_plans(stn_net *net, const stn_model *model, const stn_net_spec *spec,
                          stn_err *err) {
    stn_net_spec part = *spec;
    part.batch = net->micro.rows;
    part.shards = spec->shards / net->micro.share;
    for (uint32_t which = 0; which < 2; which++) {
        stn__plan *plan = &net->plan[which];
        stn__graph_spec what = {model,       &part,      which == 1, net->micro.parts > 1,
                                &net->store, &net->slots};
        STN_TRY(stn__graph_build(&plan->graph, &what, err));
        STN_TRY(stn__graph_complete(&plan->graph, &part, net->backend, net->device, err));
        STN_TRY(stn__plan_make(plan, net->backend, net->device, &stn_dev_info(net->dev)->info,
                               spec->keep_values, err));
    }
    return STN_OK;
}

/* Takes back allocate_all. */
static void release_all(stn_net *net) {
    void (*release)(stn_buf *) = net->backend->buf_free;
    for (uint32_t i = 0; i < net->store.n; i++) {
        release(net->store.item[i].buf);
        net->store.item[i].buf = NULL;
    }
    for (uint32_t i = 0; net->pack != NULL && i < net->plan[0].graph.n_values; i++) {
        release(net->pack[i]);
    }
    for (uint32_t which = 0; which < 2; which++) {
        for (uint32_t i = 0; net->constant[which] != NULL && i < net->plan[which].graph.n_constants;
             i++) {
            release(net->constant[which][i]);
        }
        for (uint32_t i = 0; i < STN__MAX_BUFFERS; i++) {
            release(net->arena[which][i]);
        }
        stn__free(net->constant[which]);
        net->constant[which] = NULL;
    }
    for (uint32_t l = 0; l < STN__MAX_LEVELS; l++) {
        release(net->micro.sum[l]);
    }
    release(net->micro.marks);
    release(net->pixels);
    release(net->labels);
    release(net->workspace);
    release(net->outcome.buf);
    stn__free(net->outcome.copy);
    stn__free(net->pack);
    net->pack = NULL;
    net->outcome = (stn__outcome){0};
    net->memory = (stn_net_memory){0};
}

static void free_plans(stn_net *net) {
    for (uint32_t which = 0; which < 2; which++) {
        stn__plan_free(&net->plan[which]);
    }
    stn__store_free(&net->store);
    net->slots = (stn__slots){0};
}

/* Device memory that the plans need. */
static int32_t count_memory(stn_net *net, uint64_t *bytes, stn_err *err) {
    net->dry = true;
    int32_t status = allocate_all(net, err);
    *bytes = net->memory.total;
    release_all(net);
    net->dry = false;
    return status;
}

static double mib(uint64_t bytes) {
    return (double)bytes / 1048576.0;
}

/* Why a batch that needs `bytes` may not be split; STN_OK if it may. */
static int32_t check_split(const stn_net *net, const stn_net_spec *spec, uint64_t bytes,
                           stn_err *err) {
    const stn_graph *g = &net->plan[0].graph;
    uint32_t k = 0;
    while (k < g->n_nodes && g->node[k].op != STN_OP_BN) {
        k++;
    }
    const char *why = NULL;
    if (k < g->n_nodes) {
        why = "training batch norm takes statistics over all of it";
    } else if (spec->keep_values) {
        why = "all its values are to be kept";
    } else if ((stn_dev_info(net->dev)->info.capabilities & STN_CAP_MICRO_BATCHES) == 0) {
        why = "this backend is too old for it";
    }
    return why == NULL
               ? STN_OK
               : stn_fail(err, STN_E_NOMEM,
                          "memory limit %.1f MiB: the batch of %u images needs %.1f MiB on the "
                          "device and cannot be split: %s; allow %lluM or use a smaller batch",
                          mib(spec->mem_limit), spec->batch, mib(bytes), why,
                          (unsigned long long)(bytes >> 20) + 1);
}

/* Plans for the largest micro-batch that keeps to the limit; without one, for the whole batch. */
static int32_t choose_plans(stn_net *net, const stn_model *model, const stn_net_spec *spec,
                            stn_err *err) {
    uint64_t bytes = 0;
    (void)stn__micro_choose(net, spec, 1);
    STN_TRY(make_plans(net, model, spec, err));
    if (spec->mem_limit == 0) {
        return STN_OK;
    }
    STN_TRY(count_memory(net, &bytes, err));
    if (bytes <= spec->mem_limit) {
        return STN_OK;
    }
    STN_TRY(check_split(net, spec, bytes, err));
    for (uint32_t share = 2; share <= spec->shards; share *= 2) {
        if (!stn__micro_choose(net, spec, share)) {
            continue;
        }
        free_plans(net);
        STN_TRY(make_plans(net, model, spec, err));
        STN_TRY(count_memory(net, &bytes, err));
        if (bytes <= spec->mem_limit) {
            return STN_OK;
        }
    }
    return stn_fail(err, STN_E_NOMEM,
                    "memory limit %.1f MiB: even a shard of %u images at a time needs %.1f MiB on "
                    "the device; allow %lluM, or use a smaller batch or more shards",
                    mib(spec->mem_limit), net->micro.rows, mib(bytes),
                    (unsigned long long)(bytes >> 20) + 1);
}

static int32_t open_parts(stn_net *net, const stn_model *model, const stn_net_spec *spec,
                          stn_err *err) {
    STN_TRY(net->backend->stream_open(net->device, &net->stream, err));
    STN_TRY(choose_plans(net, model, spec, err));
    STN_TRY(allocate_all(net, err));
    for (uint32_t which = 0; which < 2; which++) {
        STN_TRY(stn__plan_prepare(&net->plan[which], err));
        STN_TRY(list_values(net, which, err));
    }
    if (net->micro.parts > 1) {
        STN_TRY(stn__micro_prepare(net, err));
    }
    if (net->backend->prepare_end != NULL) {
        int32_t status =
            net->backend->prepare_end(net->device, spec->progress, spec->progress_user, err);
        if (status != STN_OK && status != STN_E_UNSUPPORTED) {
            return status;
        }
    }
    STN_TRY(make_queue(net, err));
    STN_TRY(sort_state(net, err));
    net->memory.train_nodes = net->plan[0].graph.n_nodes;
    net->memory.eval_nodes = net->plan[1].graph.n_nodes;
    net->memory.micro_batches = net->micro.parts;
    net->memory.micro_rows = net->micro.rows;
    return stn__net_reset(net, 0, err);
}

int32_t stn__net_open(stn_dev *dev, const stn_model *model, const stn_net_spec *spec, stn_net **out,
                      stn_err *err) {
    *out = NULL;
    STN_TRY(check_sizes(spec, err));
    STN_TRY(check_optimizer(spec, err));
    stn_net *net = stn__calloc(1, sizeof *net);
    if (net == NULL) {
        return stn__nomem(err, "net", sizeof *net);
    }
    net->dev = dev;
    net->backend = stn_dev_backend(dev);
    net->device = stn_dev_handle(dev);
    net->batch = spec->batch;
    net->heads = spec->request.heads;
    net->classes = spec->request.classes;
    net->optimizer = spec->optimizer;
    net->beta[0] = spec->beta1;
    net->beta[1] = spec->beta2;
    net->eps = spec->eps;
    net->weight_decay = spec->weight_decay;
    net->loc_rate = spec->loc_rate;
    net->keep = spec->keep_values;
    int32_t status = open_parts(net, model, spec, err);
    if (status != STN_OK) {
        stn_net_close(net);
        return status;
    }
    *out = net;
    return STN_OK;
}

int32_t stn_net_open(stn_ctx *ctx, stn_dev *dev, const stn_net_spec *spec, stn_net **net,
                     stn_err *err) {
    const stn_model *model;
    *net = NULL;
    STN_TRY(stn_model_load(ctx, spec->model, &model, err));
    return stn__net_open(dev, model, spec, net, err);
}

void stn_net_close(stn_net *net) {
    if (net == NULL) {
        return;
    }
    if (net->stream != NULL) {
        (void)net->backend->sync(net->stream, NULL); /* buffers are freed next; errors are known */
    }
    release_all(net);
    for (uint32_t which = 0; which < 2; which++) {
        stn__free(net->listed[which]);
    }
    free_plans(net);
    if (net->micro.add != NULL) {
        net->backend->op_free(net->micro.add);
    }
    if (net->stream != NULL) {
        net->backend->stream_close(net->stream);
    }
    if (net->pinned) {
        net->backend->host_free(net->device, net->host);
    } else {
        stn__free(net->host);
    }
    stn__free(net->order);
    stn__free(net);
}

bool stn_net_exact(const stn_net *net) {
    return !net->plan[0].inexact && !net->plan[1].inexact;
}

void stn_net_memory_get(const stn_net *net, stn_net_memory *memory) {
    *memory = net->memory;
}
