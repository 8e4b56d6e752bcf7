/* Batch normalisation: sums (reduce.cl), then one pass over the values. */
#include "vec.h"

/* The pass over the values: one item per value (bn.cl), or per plane of blocks (vbn.cl). */
typedef struct pass {
    bool blocks;
    uint32_t items; /* of an image */
    ocl_range range;
} pass;

static pass pass_of(const stn_kernel *k, const ocl_view *a, const ocl_view *b,
                    const ocl_view *out) {
    bool blocks = vec_blocks(k, a, out) && vec_blocks(k, b, out);
    uint32_t items = (uint32_t)(blocks ? ocl_padded(out) / 16u : ocl_row(out));
    ocl_range range = ocl_items(items, true);
    if (blocks) {
        range.group[0] = 1;
    }
    return (pass){blocks, items, range};
}

#define FILE_OF(p) ((p).blocks ? "vbn.cl" : "bn.cl")
#define NAME_OF(p, name) ((p).blocks ? name "_blocks" : name)

static bool training(stn_kernel *k, const stn_bn_params *p) {
    ocl_view x = ocl_view_of(&k->in[0], A_IN(0)), y = ocl_view_of(&k->out[0], A_OUT(0));
    uint64_t part = ocl_ws(k, (uint64_t)x.n * x.c * 4u);
    pass all = pass_of(k, &x, &x, &y);
    ocl_range channels = ocl_items(x.c, false);
    uint32_t affine = k->n_in == 3 ? 3u : k->n_in == 2 ? 1u : 0u;
    ocl_emit_channel_sum(k, 0, x, x, A_NONE, p->slot_inv_n, part, A_OUT(1), p->shards,
                         A_F(STN_LIM_X));
    ocl_arg q = A_OUT(1);
    q.shift = x.c; /* the second row of stats */
    ocl_emit_channel_sum(k, 1, x, x, A_OUT(1), p->slot_inv_n, part, q, p->shards, A_F(STN_LIM_X));
    OCL_EMIT(k, "bn.cl", "", "bn_rstd", &channels, A_OUT(1), A_U(x.c), A_SLOT(p->slot_inv_n),
             A_F(p->eps), A_FLAGS);
    OCL_EMIT(k, FILE_OF(all), "", NAME_OF(all, "bn_apply"), &all.range, x.ref, A_OUT(1),
             affine ? A_IN(1) : A_NONE, affine & 2u ? A_IN(2) : A_NONE, y.ref, A_U(x.layout),
             A_U(y.layout), A_U(x.c), A_U(x.h * x.w), A_U(affine), A_SLOT(p->slot_inv_n),
             A_ROWS(all.items), A_FLAGS);
    return true;
}

static bool gradient(stn_kernel *k, const stn_bn_params *p) {
    ocl_view gy = ocl_view_of(&k->in[0], A_IN(0)), x = ocl_view_of(&k->in[1], A_IN(1));
    ocl_view gx = ocl_view_of(&k->out[0], A_OUT(0));
    uint64_t part = ocl_ws(k, (uint64_t)x.n * x.c * 4u);
    pass all = pass_of(k, &gy, &x, &gx);
    uint32_t affine = k->n_in == 4 ? 1u : 0u;
    ocl_emit_channel_sum(k, 0, gy, gy, A_NONE, p->slot_inv_n, part, A_OUT(2), p->shards,
                         A_F(STN_LIM_G));
    ocl_emit_channel_sum(k, 2, gy, x, A_IN(2), p->slot_inv_n, part, A_OUT(1), p->shards,
                         A_F(STN_LIM_G));
    OCL_EMIT(k, FILE_OF(all), "", NAME_OF(all, "bn_grad"), &all.range, gy.ref, x.ref, A_IN(2),
             affine ? A_IN(3) : A_NONE, A_OUT(2), A_OUT(1), gx.ref, A_U(gy.layout), A_U(x.layout),
             A_U(gx.layout), A_U(x.c), A_U(x.h * x.w), A_U(affine), A_SLOT(p->slot_inv_n),
             A_ROWS(all.items), A_FLAGS);
    return true;
}

static bool evaluation(stn_kernel *k, const stn_bn_params *p) {
    ocl_view x = ocl_view_of(&k->in[0], A_IN(0)), y = ocl_view_of(&k->out[0], A_OUT(0));
    pass all = pass_of(k, &x, &x, &y);
    uint32_t affine = k->n_in == 5 ? 3u : k->n_in == 4 ? 1u : 0u;
    OCL_EMIT(k, FILE_OF(all), "", NAME_OF(all, "bn_eval"), &all.range, x.ref, A_IN(1), A_IN(2),
             affine ? A_IN(3) : A_NONE, affine & 2u ? A_IN(4) : A_NONE, y.ref, A_U(x.layout),
             A_U(y.layout), A_U(x.c), A_U(x.h * x.w), A_U(affine), A_F(p->eps), A_ROWS(all.items),
             A_FLAGS);
    return true;
}

bool ocl_op_bn(stn_kernel *k) {
    const stn_bn_params *p = &k->params.bn;
    ocl_range channels;
    ocl_arg g;
    switch (k->op) {
    case STN_OP_BN:
        return ocl_shards_fit(p->shards) && training(k, p);
    case STN_OP_BN_GRAD:
        return ocl_shards_fit(p->shards) && gradient(k, p);
    case STN_OP_BN_EVAL:
        return evaluation(k, p);
    default:
        channels = ocl_items(k->in[1].dim[0], false);
        g = ocl_emit_gate(k);
        OCL_EMIT(k, "bn.cl", "", "bn_update", &channels, A_IN(0), A_OUT(0), A_OUT(1), g,
                 A_U(k->in[1].dim[0]), A_F(p->momentum), A_SLOT(p->slot_inv_n),
                 A_SLOT(p->slot_inv_n1), A_FLAGS);
        return true;
    }
}
