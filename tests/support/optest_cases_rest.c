/* Cases of the loss, element-wise operators and optimizers. */
#include "optest_cases.h"

static const struct loss_shape {
    uint32_t n, heads, classes, count;
    bool tiny;
} losses[] = {
    {1, 1, 1, 1, true},   {3, 1, 2, 3, true},    {7, 2, 5, 5, true},     {16, 1, 10, 16, false},
    {6, 5, 11, 5, false}, {5, 1, 121, 5, false}, {70, 1, 17, 67, false}, {256, 1, 10, 256, false},
};

/* labels: they are below this number. */
static void loss(const struct loss_shape *s, uint32_t role, uint32_t labels, const char *more) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_h%u_k%u_count%u%s", s->n, s->heads, s->classes, s->count,
                   more);
    stn_tensor z = case_matrix(s->n, s->heads * s->classes);
    stn_tensor label = case_matrix(s->n, s->heads);
    label.dtype = STN_I32;
    optest_case f = case_new(STN_OP_XENT, sizeof(stn_loss_params), s->count);
    f.params.loss = (stn_loss_params){sizeof(stn_loss_params), s->heads, s->classes, OPTEST_INV_N};
    f.scalar[OPTEST_INV_N] = (float)(1.0 / s->count);
    f.limit = labels;
    f.tiny = s->tiny;
    optest_case g = f;
    g.op = STN_OP_XENT_GRAD;
    case_in(&f, z, role, true);
    case_in(&f, label, OPTEST_LABEL, true);
    case_out(&f, case_matrix(s->n, 2 * s->heads), true);
    case_out(&f, label, true);
    case_add(&f, name, 0, 0);
    optest_case both = f;
    both.op = STN_OP_XENT_BOTH;
    case_out(&both, z, true);
    case_add(&both, name, 0, 0);
    case_in(&g, z, role, true);
    case_in(&g, label, OPTEST_LABEL, true);
    case_out(&g, z, true);
    case_add(&g, name, 0, 0);
}

static const struct map_shape {
    uint32_t n, c, h, w, count;
    bool tiny;
} maps[] = {
    {1, 1, 1, 1, 1, true},   {3, 3, 4, 5, 2, true},     {1, 7, 13, 1, 4, true}, /* unbatched */
    {3, 17, 5, 3, 3, false}, {2, 64, 10, 10, 2, false}, {1, 200704, 1, 1, 9, false},
};

static void sum(const struct map_shape *s, uint32_t inputs, uint32_t class, bool one_row) {
    static const char *const classes[] = {"", "_gradient", "_partial"};
    bool gradient = class != STN_CLASS_X;
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_%u_inputs%s%s_count%u", s->n, s->c, s->h, s->w,
                   inputs, classes[class], one_row ? "_one_row" : "", s->count);
    optest_case c = case_new(STN_OP_SUM, sizeof(stn_scale_params), s->count);
    c.params.scale.gradient = class;
    c.tiny = s->tiny;
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w);
    for (uint32_t i = 0; i < inputs; i++) {
        bool single = one_row && i == 1;
        stn_tensor t = x;
        t.dim[0] = single ? 1 : x.dim[0];
        case_in(&c, t, gradient ? OPTEST_G : OPTEST_X, !single);
    }
    case_out(&c, x, true);
    case_add(&c, name, 0xff, 1);
    if (!one_row) {
        c.alias[0] = 0;
        (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_%u_inputs%s_count%u_inplace", s->n, s->c,
                       s->h, s->w, inputs, classes[class], s->count);
        case_add(&c, name, 0xff, 1);
    }
}

static void scale_and_copy(const struct map_shape *s, bool gradient, uint32_t dtype) {
    char name[96];
    static const char *const types[] = {"f32", "u8", "i32"};
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_%s_count%u", s->n, s->c, s->h, s->w,
                   gradient ? "gradient" : "value", s->count);
    optest_case f = case_new(STN_OP_SCALE, sizeof(stn_scale_params), s->count);
    f.params.scale.gradient = gradient;
    f.params.scale.factor = gradient ? 0.1f : -3.0f;
    f.tiny = s->tiny;
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w);
    case_in(&f, x, gradient ? OPTEST_G : OPTEST_X, true);
    case_out(&f, x, true);
    case_add(&f, name, 1, 1);
    optest_case c = case_new(STN_OP_COPY, sizeof(stn_none_params), s->count);
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_%s_count%u", s->n, s->c, s->h, s->w,
                   types[dtype], s->count);
    x.dtype = dtype;
    c.limit = 100;
    c.tiny = s->tiny;
    uint32_t role = dtype == STN_F32 ? OPTEST_X : dtype == STN_U8 ? OPTEST_INDEX : OPTEST_LABEL;
    case_in(&c, x, role, true);
    case_out(&c, x, true);
    case_add(&c, name, 1, 1);
}

static void unpack(const struct map_shape *s, uint32_t dtype) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_%s_count%u", s->n, s->c, s->h, s->w,
                   dtype == STN_U8 ? "u8" : "f32", s->count);
    optest_case c = case_new(STN_OP_UNPACK, sizeof(stn_none_params), s->count);
    stn_tensor v = case_tensor(s->n, s->c, s->h, s->w), x = v;
    v.dtype = dtype;
    c.tiny = s->tiny;
    case_in(&c, v, OPTEST_PIXEL, true);
    case_in(&c, case_vector(s->c), OPTEST_X, false);
    case_in(&c, case_vector(s->c), OPTEST_X, false);
    case_out(&c, x, true);
    case_add(&c, name, 0, 1);
}

static optest_case opt_case(uint32_t op, stn_tensor w, float wd) {
    optest_case c = case_new(op, sizeof(stn_opt_params), 3);
    c.params.opt = (stn_opt_params){.struct_size = sizeof(stn_opt_params),
                                    .slot_lr = OPTEST_LR,
                                    .slot_eps = OPTEST_EPS,
                                    .slot_lw = OPTEST_LW,
                                    .wd = wd,
                                    .omb1 = (float)(1.0 - 0.9),
                                    .omb2 = (float)(1.0 - 0.999)};
    c.tiny = optest_elems(&w) <= 128;
    case_in(&c, w, OPTEST_G, false);
    case_in(&c, w, OPTEST_X, false);
    return c;
}

static void sgd(stn_tensor w, float mu, float wd, bool nesterov) {
    char name[96];
    (void)snprintf(name, sizeof name, "%ux%ux%ux%u_mu%g_wd%g%s", w.dim[0], w.dim[1], w.dim[2],
                   w.dim[3], (double)mu, (double)wd, nesterov ? "_nesterov" : "");
    optest_case c = opt_case(STN_OP_SGD, w, wd);
    c.params.opt.mu = mu;
    c.params.opt.nesterov = nesterov;
    case_in(&c, w, OPTEST_G, false);
    for (int32_t i = 0; i < 2; i++) {
        case_out(&c, w, false);
        c.alias[i] = i + 1;
    }
    case_add(&c, name, 0, 0);
}

static void adam(stn_tensor w, float wd, bool decoupled) {
    char name[96];
    (void)snprintf(name, sizeof name, "%ux%ux%ux%u_wd%g%s", w.dim[0], w.dim[1], w.dim[2], w.dim[3],
                   (double)wd, decoupled ? "_decoupled" : "");
    optest_case c = opt_case(STN_OP_ADAM, w, wd);
    c.params.opt.decoupled = decoupled;
    case_in(&c, w, OPTEST_G, false);
    case_in(&c, w, OPTEST_MOMENT2, false);
    for (int32_t i = 0; i < 3; i++) {
        case_out(&c, w, false);
        c.alias[i] = i + 1;
    }
    case_add(&c, name, 0, 0);
}

static void optimizers(stn_tensor w) {
    sgd(w, 0.0f, 0.0f, false);
    sgd(w, 0.9f, 5e-4f, false);
    sgd(w, 0.9f, 5e-4f, true);
    adam(w, 1e-3f, false);
    adam(w, 1e-3f, true);
}

void cases_rest(void) {
    for (uint32_t i = 0; i < sizeof losses / sizeof losses[0]; i++) {
        loss(&losses[i], OPTEST_X, losses[i].classes, "");
    }
    /* Logits of every size, infinite ones and none. */
    loss(&losses[6], OPTEST_EXTREME, losses[6].classes, "_extreme");
    loss(&losses[6], OPTEST_GRID, losses[6].classes, "_wild");
    /* The core refuses labels that are no class; an operator must still stay within its row. */
    loss(&losses[2], OPTEST_X, 2 * losses[2].classes, "_no_class");
    loss(&losses[6], OPTEST_X, 2 * losses[6].classes, "_no_class");
    for (uint32_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        sum(&maps[i], 2 + i % 3, i % 2 == 0, false);
        sum(&maps[i], 2, i % 2 != 0, maps[i].n > 1);
        sum(&maps[i], 2, STN_CLASS_NONE, false);
        scale_and_copy(&maps[i], i % 2 == 0, i % 3);
        unpack(&maps[i], i % 2 == 0 ? STN_U8 : STN_F32);
    }
    sum(&maps[1], 8, false, false);
    unpack(&maps[3], STN_U8);
    optimizers(case_vector(1));
    optimizers(case_tensor(5, 3, 2, 2));
    optimizers(case_matrix(10, 257));
    optimizers(case_tensor(64, 1, 9, 9));
}
