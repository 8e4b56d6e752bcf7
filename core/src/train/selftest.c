/* The device self-test (contract C7): every operator on small operands, the sums at the sizes that
 * have shown compiler faults, the fusing of multiply-adds and the order of additions. The outputs'
 * hashes are constants made with the scalar reference.
 *
 * Each probe runs in row-major layout and, where the device takes it, with blocked feature maps.
 */
#include "train/selftest.h"

#include <string.h>

#include "base/hash.h"
#include "base/mem.h"
#include "graph/net.h"
#include "train/run.h"

typedef struct trial {
    stn_dev *dev;
    const stn__probe *probe;
    uint32_t layout;
    uint32_t n_out;
    stn_tensor in[STN__PROBE_IN], out[STN_MAX_OUT];
    void *in_data[STN__PROBE_IN], *out_data[STN_MAX_OUT];
} trial;

/* ---- operands ------------------------------------------------------------------------------- */

static uint64_t elems(const stn_tensor *t) {
    return (uint64_t)t->dim[0] * t->dim[1] * t->dim[2] * t->dim[3];
}

/* splitmix64 of a position */
static uint64_t draw(uint64_t position) {
    uint64_t z = position * UINT64_C(0x9E3779B97F4A7C15) + UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

/* Multiple of 2^-23 in [-1, 1): exact, all mantissa bits in use. */
static float unit(uint64_t word) {
    return (float)((int32_t)(word >> 40) - (1 << 23)) * 0x1p-23f;
}

/* Ones but +2^30 and -2^30 at two places of the group: what lies between them is absorbed, so the
 * sum tells where in the order they meet. */
static float order_value(uint64_t group, uint64_t place, uint64_t size) {
    uint64_t first = group * 37 % size, second = (group * 101 + 1) % size;
    second = second == first ? (second + 1) % size : second;
    return place == first ? 0x1p30f : place == second ? -0x1p30f : 1.0f;
}

static float order_at(const stn_tensor *t, uint64_t k, bool channels) {
    uint64_t row = elems(t) / t->dim[0], plane = row / t->dim[1];
    if (!channels) {
        return order_value(k / row, k % row, row);
    }
    uint64_t place = k / row * plane + k % plane;
    return order_value(k % row / plane, place, t->dim[0] * plane);
}

/* Two products after (1, c): c + a*a is 2^-24 fused and 0 if the product is rounded first. */
static float fused_at(uint32_t input, uint64_t k) {
    static const float pair[2][2] = {{1.0f, 0x1.001p0f}, {-0x1.002p0f, 0x1.001p0f}};
    return pair[input & 1u][k & 1u];
}

static float float_at(const trial *r, uint32_t i, uint64_t k) {
    uint64_t word = draw((uint64_t)r->probe->op << 32 | (uint64_t)i << 24 | k);
    float u = unit(word);
    switch (r->probe->in[i].fill) {
    case STN__FILL_G:
        return u * 0x1p-7f;
    case STN__FILL_POS:
        return 1.25f + u;
    case STN__FILL_THETA:
        return (k % 6 == 0 || k % 6 == 4 ? 1.0f : 0.0f) + u * 0.5f;
    case STN__FILL_GRID:
        return u * 1.25f;
    case STN__FILL_BYTE:
        return (float)(word >> 56);
    case STN__FILL_HALF:
        return 0.5f;
    case STN__FILL_FUSED:
        return fused_at(i, k);
    case STN__FILL_ROWS:
    case STN__FILL_CHANS:
        return order_at(&r->in[i], k, r->probe->in[i].fill == STN__FILL_CHANS);
    default:
        return u * 2.0f;
    }
}

/* Place of element k (NCHW order) in the stored tensor. */
static uint64_t stored_at(const stn_tensor *t, uint64_t k) {
    uint64_t plane = (uint64_t)t->dim[2] * t->dim[3];
    return stn_tensor_at(t, k / plane / t->dim[1], k / plane % t->dim[1], k % plane);
}

static void fill_input(const trial *r, uint32_t i) {
    const stn_tensor *t = &r->in[i];
    memset(r->in_data[i], 0, stn_tensor_bytes(t));
    for (uint64_t k = 0; k < elems(t); k++) {
        uint64_t at = stored_at(t, k), low = draw(k + 77);
        uint32_t limit = r->probe->in[i].fill == STN__FILL_BYTE ? 256u : r->probe->limit;
        if (t->dtype == STN_F32) {
            ((float *)r->in_data[i])[at] = float_at(r, i, k);
        } else if (t->dtype == STN_U8) {
            ((uint8_t *)r->in_data[i])[at] = (uint8_t)((low >> 33) % limit);
        } else {
            ((int32_t *)r->in_data[i])[at] = (int32_t)((low >> 33) % limit);
        }
    }
}

/* ---- one probe ------------------------------------------------------------------------------ */

static void release(trial *r) {
    for (uint32_t i = 0; i < STN__PROBE_IN; i++) {
        stn__free(r->in_data[i]);
    }
    for (uint32_t i = 0; i < STN_MAX_OUT; i++) {
        stn__free(r->out_data[i]);
    }
}

/* Describes and fills the operands. */
static int32_t set_up(trial *r, stn_err *err) {
    const stn__probe *p = r->probe;
    for (uint32_t i = 0; i < p->n_in; i++) {
        r->in[i] = p->in[i].tensor;
    }
    r->out[0] = p->wanted;
    r->n_out = stn_op_find(p->op)->n_out;
    STN_TRY(stn_op_infer(p->op, &p->params, r->in, p->n_in, r->out, err));
    bool room = true;
    for (uint32_t i = 0; i < p->n_in; i++) {
        r->in[i].layout = p->in[i].map ? r->layout : STN_NCHW;
        r->in_data[i] = stn__alloc(stn_tensor_bytes(&r->in[i]));
        room = room && r->in_data[i] != NULL;
    }
    for (uint32_t i = 0; i < r->n_out; i++) {
        r->out[i].layout = p->out_maps >> i & 1u ? r->layout : STN_NCHW;
        r->out_data[i] = stn__alloc(stn_tensor_bytes(&r->out[i]));
        room = room && r->out_data[i] != NULL;
    }
    if (!room) {
        return stn__nomem(err, "self-test", 0);
    }
    for (uint32_t i = 0; i < p->n_in; i++) {
        fill_input(r, i);
    }
    return STN_OK;
}

static int32_t execute(trial *r, stn_err *err) {
    const stn__probe *p = r->probe;
    float scalar[STN__PROBE_SLOTS] = {0.01f, 1e-8f, 1e-5f, 0.0f, 0.0f};
    scalar[STN__PROBE_INV_N] = (float)(1.0 / p->values);
    scalar[STN__PROBE_INV_N1] = p->values > 1 ? (float)(1.0 / (p->values - 1.0)) : 0.0f;
    stn_step step = {.struct_size = sizeof step,
                     .count = p->count,
                     .step = 7,
                     .seed = UINT64_C(0x9876543210),
                     .n_scalars = STN__PROBE_SLOTS,
                     .scalar = scalar};
    stn_op_desc desc = {sizeof desc, p->op, p->n_in, r->n_out, &p->params, r->in, r->out};
    return stn_op_exec(r->dev, &desc, (const void *const *)r->in_data, r->out_data, &step, err);
}

/* SHA-256 over the outputs' elements in NCHW order, each as a little-endian word. */
static int32_t digest(const trial *r, char hex[STN__SHA256_HEX], stn_err *err) {
    stn__sha256 hash;
    STN_TRY(stn__sha256_init(&hash, err));
    for (uint32_t i = 0; i < r->n_out; i++) {
        for (uint64_t k = 0; k < elems(&r->out[i]); k++) {
            uint64_t at = stored_at(&r->out[i], k);
            uint32_t word = 0;
            if (r->out[i].dtype == STN_U8) {
                word = ((const uint8_t *)r->out_data[i])[at];
            } else {
                memcpy(&word, (const uint8_t *)r->out_data[i] + 4 * at, sizeof word);
            }
            stn__sha256_u32(&hash, word);
        }
    }
    return stn__sha256_final(&hash, hex, err);
}

static int32_t probe_hash(stn_dev *dev, const stn__probe *probe, uint32_t layout,
                          char hex[STN__SHA256_HEX], stn_err *err) {
    trial r = {.dev = dev, .probe = probe, .layout = layout};
    int32_t status = set_up(&r, err);
    status = status != STN_OK ? status : execute(&r, err);
    status = status != STN_OK ? status : digest(&r, hex, err);
    release(&r);
    return status;
}

static bool has_maps(const stn__probe *p) {
    bool maps = p->out_maps != 0;
    for (uint32_t i = 0; i < p->n_in; i++) {
        maps = maps || p->in[i].map != 0;
    }
    return maps;
}

/* ---- all probes ----------------------------------------------------------------------------- */

typedef struct outcome {
    stn_selftest_fn report;
    void *user;
    const stn__probe *bad; /* first that differs */
    stn_err failure;       /* first that could not run */
} outcome;

/* Compares one probe in one layout; hex is filled if it ran. */
static void try_probe(outcome *o, stn_dev *dev, const stn__probe *p, uint32_t layout,
                      char hex[STN__SHA256_HEX]) {
    stn_err err = {0};
    int32_t status = probe_hash(dev, p, layout, hex, &err);
    if (status == STN_E_UNSUPPORTED && layout != STN_NCHW) {
        return;
    }
    bool same = status == STN_OK && strncmp(hex, p->expect, strlen(p->expect)) == 0;
    char detail[300];
    if (status != STN_OK) {
        hex[0] = '\0';
        (void)snprintf(detail, sizeof detail, "%s", err.text);
        o->failure = o->failure.code == STN_OK ? err : o->failure;
    } else {
        (void)snprintf(detail, sizeof detail, "%s, %.16s", layout == STN_NC16 ? "blocked" : "rows",
                       hex);
    }
    if (!same && o->bad == NULL) {
        o->bad = p;
    }
    if (o->report != NULL) {
        o->report(o->user, p->name, same, detail);
    }
}

/* ---- the part that a run needs -------------------------------------------------------------- */

/* Fused multiply-adds and the order of sums, on which every operator rests. */
static bool is_arithmetic(const stn__probe *p) {
    uint32_t fill = p->in[0].fill;
    return p->op != STN_OP_BN &&
           (fill == STN__FILL_FUSED || fill == STN__FILL_ROWS || fill == STN__FILL_CHANS);
}

static bool in_layout(const stn_graph *g, stn_val v, uint32_t layout) {
    return v != STN_NO_VALUE && g->value[v].tensor.layout == layout;
}

/* The sampler has code of its own for every filter and padding. */
static bool same_sampler(const stn__node *node, const stn__probe *p) {
    const stn_warp_params *a = &node->params.warp, *b = &p->params.warp;
    bool sampler = p->op >= STN_OP_SAMPLE && p->op <= STN_OP_WARP_GRAD_THETA;
    return !sampler || (a->filter == b->filter && a->padding == b->padding);
}

/* The node is of the probe's operator, and its feature maps, if any, have this layout; between
 * layouts it goes with the blocked ones. */
static bool like_probe(const stn_graph *g, const stn__node *node, const stn__probe *p,
                       uint32_t layout) {
    if (node->op != p->op || !same_sampler(node, p)) {
        return false;
    }
    bool blocked = false;
    for (uint32_t i = 0; i < node->n_in && i < p->n_in; i++) {
        blocked = blocked || (p->in[i].map && in_layout(g, node->in[i], STN_NC16));
    }
    for (uint32_t i = 0; i < node->n_out; i++) {
        blocked = blocked || ((p->out_maps >> i & 1u) && in_layout(g, node->out[i], STN_NC16));
    }
    return blocked == (layout == STN_NC16);
}

static bool run_needs(const stn_run *run, const stn__probe *p, uint32_t layout) {
    bool adds = run->net->micro.parts > 1; /* the sums of micro-batches */
    bool needed = (is_arithmetic(p) && layout == STN_NCHW) || (adds && p->op == STN_OP_SUM);
    for (uint32_t which = 0; which < 2; which++) {
        const stn_graph *g = &run->net->plan[which].graph;
        for (uint32_t i = 0; i < g->n_nodes && !needed; i++) {
            needed = like_probe(g, &g->node[i], p, layout);
        }
    }
    return needed;
}

/* ---- all of it ------------------------------------------------------------------------------ */

static int32_t verdict(const outcome *o, bool total, stn_err *err) {
    if (o->failure.code != STN_OK && o->failure.code != STN_E_NONFINITE) {
        return stn_fail(err, o->failure.code, "self-test of operator %s: %.180s", o->bad->name,
                        o->failure.text);
    }
    if (o->bad != NULL || !total) {
        return stn_fail(err, STN_E_MISMATCH,
                        "self-test: operator %s does not give the bits of contract %s on this "
                        "device; use another device or driver",
                        o->bad == NULL ? "hash" : o->bad->name, STN_CONTRACT);
    }
    return STN_OK;
}

/* Reports on the whole test; *same: its constant agrees, if it has one. */
static int32_t end_total(const outcome *o, stn__sha256 *total, bool complete, bool *same,
                         stn_err *err) {
    char hex[STN__SHA256_HEX];
    STN_TRY(stn__sha256_final(total, hex, err));
    *same = !complete || strcmp(hex, stn__probes_hash) == 0;
    if (o->report != NULL) {
        o->report(o->user, "all", *same && o->bad == NULL, hex);
    }
    return STN_OK;
}

/* Runs the probes that a run needs (NULL: all), each in every layout it has. */
static int32_t run_probes(stn_dev *dev, const stn_run *run, outcome *o, stn_err *err) {
    stn__sha256 total;
    bool same = false;
    STN_TRY(stn__sha256_init(&total, err));
    for (uint32_t i = 0; i < stn__n_probes; i++) {
        const stn__probe *p = &stn__probes[i];
        char hex[STN__SHA256_HEX] = "", blocked[STN__SHA256_HEX] = "";
        if (run == NULL || run_needs(run, p, STN_NCHW)) {
            try_probe(o, dev, p, STN_NCHW, hex);
            stn__sha256_update(&total, hex, strlen(hex));
        }
        if (has_maps(p) && (run == NULL || run_needs(run, p, STN_NC16))) {
            try_probe(o, dev, p, STN_NC16, blocked);
        }
    }
    STN_TRY(end_total(o, &total, run == NULL, &same, err));
    return verdict(o, same, err);
}

int32_t stn_dev_selftest(stn_dev *dev, stn_selftest_fn report, void *user, stn_err *err) {
    outcome o = {.report = report, .user = user};
    return run_probes(dev, NULL, &o, err);
}

int32_t stn_run_selftest(stn_run *run, stn_selftest_fn report, void *user, stn_err *err) {
    outcome o = {.report = report, .user = user};
    return run_probes(run->dev, run, &o, err);
}
