/* The table of operator cases: how cases are made from shapes. The shapes are in optest_shapes.c.
 */
#include "optest_cases.h"

#include <stdlib.h>
#include <string.h>

static struct {
    optest_case *cases;
    uint32_t n, cap;
} table;

static const char *op_name(uint32_t op) {
    switch (op) {
#define STN_OP(number, NAME, name, min_in, max_in, n_out, params, text)                            \
    case number:                                                                                   \
        return name;
#include <stn/op.def>
#undef STN_OP
    default:
        return "?";
    }
}

static const char *const layout_names[] = {"nchw", "nc16", "nc16>nchw", "nchw>nc16"};
static const char *const data_names[] = {"normal", "adversarial", "integer"};

/* Adds one finished case; running out of memory ends the table early, which the tests notice as
 * missing cases (they ask for a minimum). */
static void append(const optest_case *c) {
    if (table.n == table.cap) {
        uint32_t cap = table.cap == 0 ? 1024 : 2 * table.cap;
        optest_case *grown = realloc(table.cases, cap * sizeof *grown);
        if (grown == NULL) {
            return;
        }
        table.cases = grown;
        table.cap = cap;
    }
    table.cases[table.n++] = *c;
}

static void set_layouts(optest_case *c, uint32_t map_in, uint32_t map_out) {
    bool in16 = (c->layout & (OPTEST_NC16 | OPTEST_NC16_TO_NCHW)) != 0;
    bool out16 = (c->layout & (OPTEST_NC16 | OPTEST_NCHW_TO_NC16)) != 0;
    for (uint32_t i = 0; i < c->n_in; i++) {
        c->in[i].layout = in16 && (map_in >> i & 1u) != 0 ? STN_NC16 : STN_NCHW;
    }
    for (uint32_t i = 0; i < c->n_out; i++) {
        c->out[i].layout = out16 && (map_out >> i & 1u) != 0 ? STN_NC16 : STN_NCHW;
    }
}

/* Operators whose results differ in a micro-batch: the gradients of parameters, and dropout. */
static bool micro_batch_matters(uint32_t op) {
    return op == STN_OP_CONV_GRAD_W || op == STN_OP_LINEAR_GRAD_W || op == STN_OP_BIAS_GRAD ||
           op == STN_OP_CONV_BLOCK_GRAD_W || op == STN_OP_LINEAR_BLOCK_GRAD ||
           op == STN_OP_DROPOUT || op == STN_OP_DROPOUT_GRAD;
}

/* The case as part of a larger batch, on the data where snapping matters. */
static void add_micro_batch(const optest_case *whole) {
    optest_case c = *whole;
    if (micro_batch_matters(c.op) && c.data == OPTEST_ADVERSARIAL) {
        c.first = 5;
        c.partial = 1;
        (void)snprintf(c.name + strlen(c.name), sizeof c.name - strlen(c.name), "_part");
        append(&c);
    }
}

static void add(const optest_case *base, const char *shape, uint32_t l, uint32_t d, uint32_t map_in,
                uint32_t map_out) {
    optest_case c = *base;
    c.layout = 1u << l;
    c.data = 1u << d;
    set_layouts(&c, map_in, map_out);
    (void)snprintf(c.name, sizeof c.name, "%s %s %s %s", op_name(c.op), shape, layout_names[l],
                   data_names[d]);
    append(&c);
    add_micro_batch(&c);
}

void case_add(const optest_case *base, const char *shape, uint32_t map_in, uint32_t map_out) {
    for (uint32_t l = 0; l < 4; l++) {
        bool mixed = map_in != 0 && map_out != 0 && base->alias[0] < 0;
        bool possible = l == 0 || (l == 1 && (map_in | map_out) != 0) || mixed;
        for (uint32_t d = 0; d < 3 && possible; d++) {
            if (d == 0 || l <= 1) {
                add(base, shape, l, d, map_in, map_out);
            }
        }
    }
}

void case_add_blocked(const optest_case *base, const char *shape, uint32_t map_in,
                      uint32_t map_out) {
    for (uint32_t d = 0; d < 3; d++) {
        add(base, shape, 1, d, map_in, map_out);
    }
}

optest_case case_new(uint32_t op, uint32_t params_size, uint32_t count) {
    optest_case c = {.op = op, .count = count};
    c.params.struct_size = params_size;
    for (uint32_t i = 0; i < STN_MAX_OUT; i++) {
        c.alias[i] = -1;
    }
    c.scalar[OPTEST_LR] = 0.01f;
    c.scalar[OPTEST_EPS] = 1e-8f;
    c.scalar[OPTEST_LW] = 1e-5f;
    return c;
}

stn_tensor case_tensor(uint32_t n, uint32_t c, uint32_t h, uint32_t w) {
    return (stn_tensor){STN_F32, STN_NCHW, 4, {n, c, h, w}};
}

stn_tensor case_matrix(uint32_t n, uint32_t k) {
    return (stn_tensor){STN_F32, STN_NCHW, 2, {n, k, 1, 1}};
}

stn_tensor case_vector(uint32_t n) {
    return (stn_tensor){STN_F32, STN_NCHW, 1, {n, 1, 1, 1}};
}

void case_in(optest_case *c, stn_tensor t, uint32_t role, bool batched) {
    c->in[c->n_in] = t;
    c->role[c->n_in] = role;
    c->batched_in |= (uint32_t)batched << c->n_in;
    c->n_in++;
}

void case_out(optest_case *c, stn_tensor t, bool batched) {
    c->out[c->n_out] = t;
    c->batched_out |= (uint32_t)batched << c->n_out;
    c->n_out++;
}

const optest_case *optest_next(const optest_case *after, const optest_filter *filter) {
    if (table.n == 0) {
        cases_conv();
        cases_dense();
        cases_warp();
        cases_rest();
    }
    for (uint32_t i = after == NULL ? 0 : (uint32_t)(after - table.cases) + 1; i < table.n; i++) {
        const optest_case *c = &table.cases[i];
        bool op = filter->op == 0 || filter->op == c->op;
        bool data = filter->data == 0 || (filter->data & c->data) != 0;
        bool layout = filter->layout == 0 || (filter->layout & c->layout) != 0;
        if (op && data && layout && (c->tiny || !filter->tiny)) {
            return c;
        }
    }
    return NULL;
}
