/* Linear layers on CPU devices (kernels/vlinear.cl). Sizes are arguments: one program serves all.
 */
#include "vec.h"

typedef struct shape {
    uint32_t layout, c, pixels, o, row, vectors;
} shape;

static bool shape_of(const stn_kernel *k, const ocl_view *x, uint32_t o, shape *s) {
    s->layout = x->layout;
    s->c = x->c;
    s->pixels = x->h * x->w;
    s->o = o;
    s->row = (uint32_t)ocl_row(x);
    s->vectors = (s->row + 15u) / 16u;
    return k->device->device_class == OCL_CPU_VECTOR;
}

/* Maps of NC16 whose blocks of channels are turned: larger ones would not stay in the second cache,
 * smaller ones stay in the first as they are. */
#define TURN_LEAST 32u
#define TURN_MOST 1024u
#define ITEMS 8u /* of an input gradient, for each compute unit */
#define SPAN_PAIRS 8u

/* Items that take jobs by ticket. */
static uint32_t free_items(const stn_kernel *k, uint64_t jobs) {
    uint32_t units = k->device->info.compute_units;
    return units < jobs ? units : (uint32_t)jobs;
}

bool vec_linear(stn_kernel *k, ocl_view x, ocl_arg w, ocl_arg b, ocl_arg y, uint32_t o, bool act,
                float slope) {
    shape s;
    if (!shape_of(k, &x, o, &s)) {
        return false;
    }
    uint32_t inputs = s.c * s.pixels, pairs = (o + 31u) / 32u, packs;
    uint64_t packed = ocl_ws(k, (uint64_t)pairs * inputs * 128u);
    bool turns = s.layout == STN_NC16 && s.pixels >= TURN_LEAST && s.pixels <= TURN_MOST;
    uint32_t turned = turns ? s.pixels * 16u + 16u : 0u;
    uint32_t items = free_items(k, (uint64_t)pairs * ((x.n + 7u) / 8u));
    uint64_t area = ocl_ws(k, (uint64_t)items * turned * 32u);
    packs = pairs * 2u * ((inputs + 15u) / 16u);
    ocl_range all = ocl_items(packs, false), range = {{items, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vpack.cl", "", "pack_rows", &all, w, A_WS(packed), A_U(o), A_U(inputs), A_U(32),
             A_U(packs));
    OCL_EMIT(k, "vlinear.cl", "", "vlinear", &range, x.ref, A_WS(packed), b, y, A_WS(area),
             A_U(s.layout), A_U(s.c), A_U(s.pixels), A_U(o), A_U(s.row),
             A_U(b.kind != OCL_ARG_NONE), A_U(act), A_F(slope), A_U(turned), A_TICKETS, A_ROWS(1),
             A_FLAGS);
    return true;
}

/* Weights for the input gradient, and in the same launch the gradient behind the activation, which
 * *gy becomes. */
static ocl_arg prepare(stn_kernel *k, const shape *s, const vec_flow *f, ocl_arg w, ocl_arg *gy) {
    uint64_t n = (uint64_t)s->vectors * s->o, packed = ocl_ws(k, n * 64u);
    if (s->layout == STN_NC16 && s->pixels >= 16u) {
        n = (uint64_t)(s->c + 15u) / 16u * ((s->pixels + 15u) / 16u) * s->o;
    }
    uint64_t values = f->act ? (uint64_t)f->gy.n * s->o : 0;
    ocl_range all = ocl_items(n + (values + 15u) / 16u, false);
    ocl_arg gz = f->act ? A_WS(ocl_ws(k, values * 4u)) : A_NONE;
    OCL_EMIT(k, "vlinear.cl", "", "pack_inputs", &all, w, A_WS(packed), *gy,
             f->act ? f->y.ref : A_NONE, gz, A_U(s->layout), A_U(s->c), A_U(s->pixels), A_U(s->o),
             A_U((uint32_t)n), A_F(f->slope), f->act ? A_ROWS(s->o) : A_U(0), A_FLAGS);
    *gy = f->act ? gz : *gy;
    return A_WS(packed);
}

static void grad_x(stn_kernel *k, const shape *s, ocl_arg gy, ocl_arg packed, ocl_view gx) {
    uint32_t pairs = (s->vectors + 1u) / 2u, items = ITEMS * k->device->info.compute_units;
    uint32_t parts = ((items < gx.n ? items : gx.n) + pairs - 1u) / pairs;
    ocl_range range = {{pairs, parts, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vlinear.cl", "", "vlinear_grad_x", &range, gy, packed, gx.ref, A_U(s->o),
             A_U(s->row), A_ROWS(1), A_FLAGS);
}

static void grad_w(stn_kernel *k, const shape *s, ocl_arg gy, ocl_view x, ocl_arg gw, ocl_arg gb,
                   uint32_t shards) {
    uint32_t pairs = (s->vectors + 1u) / 2u, most = pairs / k->device->info.compute_units;
    uint32_t span = most == 0 ? 1u : most < SPAN_PAIRS ? most : SPAN_PAIRS;
    uint32_t with_b = gb.kind != OCL_ARG_NONE, jobs = (pairs + span - 1u) / span + with_b;
    uint32_t items = free_items(k, jobs);
    uint64_t area = ocl_ws(k, (uint64_t)items * span * x.n * 128u);
    ocl_range range = {{items, 1, 1}, 0, {1, 1, 1}};
    OCL_EMIT(k, "vlinear.cl", "", "vlinear_grad_w", &range, gy, x.ref, A_WS(area), gw, gb,
             A_U(s->layout), A_U(s->c), A_U(s->pixels), A_U(s->o), A_U(s->row), A_U(span),
             A_U(with_b), A_U(x.n), A_TICKETS, A_ROWS(1), A_U((x.n + shards - 1u) / shards),
             A_U(shards), A_LIMIT, A_FLAGS);
}

bool vec_linear_grad_x(stn_kernel *k, ocl_view gy, ocl_arg w, ocl_view gx) {
    shape s;
    if (!shape_of(k, &gx, gy.c, &s)) {
        return false;
    }
    vec_flow f = {.gy = gy};
    ocl_arg packed = prepare(k, &s, &f, w, &gy.ref);
    grad_x(k, &s, gy.ref, packed, gx);
    return true;
}

bool vec_linear_grad_w(stn_kernel *k, ocl_view gy, ocl_view x, ocl_arg gw, uint32_t shards) {
    shape s;
    if (!shape_of(k, &x, gy.c, &s)) {
        return false;
    }
    grad_w(k, &s, gy.ref, x, gw, A_NONE, shards);
    return true;
}

bool vec_linear_grad(stn_kernel *k, const vec_flow *f, ocl_view x, ocl_arg w, ocl_arg gw,
                     ocl_arg gb, ocl_view gx, uint32_t shards) {
    shape s;
    if (x.layout != gx.layout || !shape_of(k, &x, f->gy.c, &s)) {
        return false;
    }
    ocl_arg gy = f->gy.ref, packed = prepare(k, &s, f, w, &gy);
    grad_w(k, &s, gy, x, gw, gb, shards);
    grad_x(k, &s, gy, packed, gx);
    return true;
}
