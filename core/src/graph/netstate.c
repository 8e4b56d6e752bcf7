/* State and values of a net: reading, writing, initial values. All of it waits for the device. */
#include <math.h>
#include <string.h>

#include <stn/num.h>

#include "base/mem.h"
#include "graph/net.h"

/* ---- state -------------------------------------------------------------------------------- */

uint32_t stn_net_state_count(const stn_net *net) {
    return net->store.n;
}

int32_t stn_net_state_get(const stn_net *net, uint32_t index, stn_state_info *info) {
    if (index >= net->store.n) {
        return STN_E_NOTFOUND;
    }
    const stn__item *item = &net->store.item[net->order[index]];
    info->name = item->name;
    info->role = item->role;
    info->rank = item->tensor.rank;
    memcpy(info->dim, item->tensor.dim, sizeof info->dim);
    info->elems = stn_tensor_elems(&item->tensor);
    return STN_OK;
}

int32_t stn_net_state_find(const stn_net *net, const char *name, uint32_t *index) {
    for (uint32_t i = 0; i < net->store.n; i++) {
        if (strcmp(net->store.item[net->order[i]].name, name) == 0) {
            *index = i;
            return STN_OK;
        }
    }
    return STN_E_NOTFOUND;
}

/* NULL, and a filled error, if there is no such piece of state. */
static const stn__item *find_item(const stn_net *net, uint32_t index, stn_err *err) {
    if (index < net->store.n) {
        return &net->store.item[net->order[index]];
    }
    (void)stn_fail(err, STN_E_NOTFOUND, "state %u of %u", index, net->store.n);
    return NULL;
}

int32_t stn_net_state_read(stn_net *net, uint32_t index, float *data, stn_err *err) {
    const stn__item *item = find_item(net, index, err);
    if (item == NULL) {
        return STN_E_NOTFOUND;
    }
    STN_TRY(net->backend->read(net->stream, data, item->ref, stn_tensor_bytes(&item->tensor), err));
    return net->backend->sync(net->stream, err);
}

/* Values from outside are brought into their class: see the contract, C2. */
int32_t stn_net_state_write(stn_net *net, uint32_t index, const float *data, stn_err *err) {
    const stn__item *item = find_item(net, index, err);
    if (item == NULL) {
        return STN_E_NOTFOUND;
    }
    uint64_t n = stn_tensor_elems(&item->tensor);
    float *copy = stn__calloc(n, sizeof *copy);
    if (copy == NULL) {
        return stn__nomem(err, item->name, n * sizeof *copy);
    }
    for (uint64_t i = 0; i < n; i++) {
        copy[i] = stn_snap(data[i], item->limit);
    }
    int32_t status = net->backend->write(net->stream, item->ref, copy, n * sizeof *copy, err);
    if (status == STN_OK) {
        status = net->backend->sync(net->stream, err);
    }
    stn__free(copy);
    return status;
}

uint64_t stn_net_param_elems(const stn_net *net) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < net->store.n; i++) {
        if (net->store.item[i].role == STN__ROLE_PARAM) {
            n += stn_tensor_elems(&net->store.item[i].tensor);
        }
    }
    return n;
}

/* Contract, random kind 1: w = fma(u, 2*bound, -bound), bound = 1/sqrt(fan_in). */
static void fan_in_values(const stn__item *item, uint64_t seed, float *data, uint64_t n) {
    double bound = 1.0 / sqrt((double)item->fan_in);
    float half = (float)bound, whole = 2.0f * half;
    uint32_t stream = STN_RNG_STREAM(STN_RNG_INIT, item->ordinal);
    for (uint64_t i = 0; i < n; i++) {
        uint32_t word =
            stn_philox((uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)i, stream, 0, 0);
        data[i] = stn_snap_x(fmaf(stn_uniform(word), whole, -half));
    }
}

int32_t stn__net_reset(stn_net *net, uint64_t seed, stn_err *err) {
    uint64_t most = 0;
    for (uint32_t i = 0; i < net->store.n; i++) {
        uint64_t n = stn_tensor_elems(&net->store.item[i].tensor);
        most = n > most ? n : most;
    }
    float *data = stn__calloc(most, sizeof *data);
    if (data == NULL) {
        return stn__nomem(err, "initial values", most * sizeof *data);
    }
    int32_t status = STN_OK;
    for (uint32_t i = 0; i < net->store.n && status == STN_OK; i++) {
        const stn__item *item = &net->store.item[i];
        uint64_t n = stn_tensor_elems(&item->tensor);
        if (item->init == STN_INIT_FAN_IN && item->role == STN__ROLE_PARAM) {
            fan_in_values(item, seed, data, n);
        } else {
            for (uint64_t e = 0; e < n; e++) {
                data[e] = item->init == STN_INIT_ONE ? 1.0f : 0.0f;
            }
        }
        status = net->backend->write(net->stream, item->ref, data, n * sizeof *data, err);
        if (status == STN_OK) {
            status = net->backend->sync(net->stream, err);
        }
    }
    stn__free(data);
    net->powers[0] = net->powers[1] = 1.0;
    net->scalar_count = 0;
    return status;
}

int32_t stn_net_init(stn_net *net, uint64_t seed, stn_err *err) {
    if (net->n_queued > 0) {
        return stn_fail(err, STN_E_USAGE, "%u steps are queued, collect them first", net->n_queued);
    }
    return stn__net_reset(net, seed, err);
}

/* ---- values ------------------------------------------------------------------------------- */

uint32_t stn_net_value_count(const stn_net *net, bool eval) {
    return net->n_listed[eval ? 1 : 0];
}

int32_t stn_net_value_get(const stn_net *net, bool eval, uint32_t index, stn_value_info *info) {
    uint32_t which = eval ? 1 : 0;
    if (index >= net->n_listed[which]) {
        return STN_E_NOTFOUND;
    }
    const stn__listed *listed = &net->listed[which][index];
    const stn_graph *g = &net->plan[which].graph;
    const stn__value *v = &g->value[listed->value];
    info->name = v->name;
    info->op = listed->node == UINT32_MAX ? "" : stn__op_name(g->node[listed->node].op);
    info->node = listed->node;
    info->tensor = v->tensor;
    info->batched = v->batched;
    stn_ref kept;
    if (eval && net->micro.parts > 1 && stn__micro_kept(net, listed->value, 0, &kept)) {
        info->tensor.dim[0] = net->batch;
    }
    return STN_OK;
}

int32_t stn_net_value_find(const stn_net *net, bool eval, const char *name, uint32_t *index) {
    uint32_t which = eval ? 1 : 0;
    stn_val v = stn__graph_find(&net->plan[which].graph, name);
    for (uint32_t i = 0; v != STN_NO_VALUE && i < net->n_listed[which]; i++) {
        if (net->listed[which][i].value == v) {
            *index = i;
            return STN_OK;
        }
    }
    return STN_E_NOTFOUND;
}

/* NC16 to NCHW, elements of `size` bytes. */
static void to_nchw(const stn_tensor *t, const uint8_t *from, uint8_t *to, uint32_t size) {
    stn_tensor plain = *t;
    plain.layout = STN_NCHW;
    uint64_t plane = (uint64_t)t->dim[2] * t->dim[3];
    for (uint64_t n = 0; n < t->dim[0]; n++) {
        for (uint64_t c = 0; c < t->dim[1]; c++) {
            for (uint64_t hw = 0; hw < plane; hw++) {
                memcpy(to + stn_tensor_at(&plain, n, c, hw) * size,
                       from + stn_tensor_at(t, n, c, hw) * size, size);
            }
        }
    }
}

/* Reads t, stored at ref, in NCHW. */
static int32_t read_nchw(stn_net *net, const stn_tensor *t, stn_ref ref, const char *name,
                         void *data, stn_err *err) {
    uint64_t bytes = stn_tensor_bytes(t);
    if (t->layout == STN_NCHW) {
        STN_TRY(net->backend->read(net->stream, data, ref, bytes, err));
        return net->backend->sync(net->stream, err);
    }
    uint8_t *stored = stn__alloc(bytes);
    if (stored == NULL) {
        return stn__nomem(err, name, bytes);
    }
    int32_t status = net->backend->read(net->stream, stored, ref, bytes, err);
    if (status == STN_OK) {
        status = net->backend->sync(net->stream, err);
    }
    if (status == STN_OK) {
        to_nchw(t, stored, data, t->dtype == STN_U8 ? 1 : 4);
    }
    stn__free(stored);
    return status;
}

/* A marked value of evaluation, from what was kept of each micro-batch. */
static int32_t read_parts(stn_net *net, stn_val v, uint8_t *data, stn_err *err) {
    const stn_graph *g = &net->plan[1].graph;
    stn_tensor t = g->value[v].tensor, row = t;
    row.layout = STN_NCHW;
    row.dim[0] = 1;
    for (uint32_t part = 0, done = 0; part < net->micro.parts; part++, done += t.dim[0]) {
        stn_ref kept = {0};
        (void)stn__micro_kept(net, v, part, &kept);
        t.dim[0] = net->batch - done < net->micro.rows ? net->batch - done : net->micro.rows;
        STN_TRY(
            read_nchw(net, &t, kept, g->value[v].name, data + done * stn_tensor_bytes(&row), err));
    }
    return STN_OK;
}

int32_t stn_net_value_read(stn_net *net, bool eval, uint32_t index, void *data, stn_err *err) {
    uint32_t which = eval ? 1 : 0;
    if (index >= net->n_listed[which]) {
        return stn_fail(err, STN_E_NOTFOUND, "value %u of %u", index, net->n_listed[which]);
    }
    const stn__plan *plan = &net->plan[which];
    stn_val v = net->listed[which][index].value;
    const stn__value *value = &plan->graph.value[v];
    bool split = net->micro.parts > 1 && value->batched;
    stn_ref kept;
    if (split && eval && stn__micro_kept(net, v, 0, &kept)) {
        return read_parts(net, v, data, err);
    }
    if (split || (plan->place[v] >= 0 && plan->block[plan->place[v]].last != UINT32_MAX)) {
        return stn_fail(err, STN_E_USAGE, "%s: not kept, open the net with keep_values",
                        value->name);
    }
    return read_nchw(net, &value->tensor, plan->ref[v], value->name, data, err);
}

/* Looks behind one value: from its last byte to the end of the gap all must be poison. */
static int32_t check_canary(stn_net *net, const stn__plan *plan, stn_val v, stn_err *err) {
    const stn__block *b = &plan->block[plan->place[v]];
    uint8_t tail[2 * STN__ALIGN];
    uint64_t from = b->bytes / STN__ALIGN * STN__ALIGN;
    uint64_t bytes = stn__round_up(b->bytes) + STN__ALIGN - from;
    stn_ref ref = {plan->ref[v].buf, b->offset + from};
    STN_TRY(net->backend->read(net->stream, tail, ref, bytes, err));
    STN_TRY(net->backend->sync(net->stream, err));
    for (uint64_t i = b->bytes - from; i < bytes; i++) {
        if (tail[i] != (uint8_t)(STN__POISON & 0xffu)) {
            return stn_fail(err, STN_E_FAIL, "%s: an operator wrote past its end",
                            plan->graph.value[v].name);
        }
    }
    return STN_OK;
}

int32_t stn__net_canaries(stn_net *net, stn_err *err) {
    for (uint32_t which = 0; which < 2; which++) {
        const stn__plan *plan = &net->plan[which];
        for (uint32_t i = 0; i < plan->graph.n_values; i++) {
            if (plan->place[i] >= 0) {
                STN_TRY(check_canary(net, plan, (stn_val)i, err));
            }
        }
    }
    return STN_OK;
}
