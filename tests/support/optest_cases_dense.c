/* Cases of linear layers, pooling, activations, dropout and batch norm. */
#include "optest_cases.h"

static const struct linear_shape {
    uint32_t n, c, h, w, o, shards, count;
    bool tiny;
} linears[] = {
    {1, 1, 1, 1, 1, 1, 1, true},
    {3, 7, 1, 1, 3, 16, 3, true},
    {17, 5, 2, 3, 4, 4, 13, true},
    {5, 33, 1, 1, 17, 2, 5, false},
    {4, 1030, 1, 1, 65, 16, 4, false}, /* three chunks */
    {2, 3, 1, 1, 520, 16, 2, false},   /* two chunks in the input gradient */
    {3, 64, 2, 2, 10, 16, 3, false},   /* MNIST, after the second pool */
    {6, 32, 1, 1, 6, 16, 5, false},    /* localisation head */
    {33, 19, 3, 3, 31, 16, 31, false},
    {65, 16, 1, 1, 64, 16, 65, false},    /* tiles of 64, slices of 16 */
    {129, 130, 2, 2, 65, 16, 127, false}, /* enough work for every tile */
    {70, 20, 5, 5, 37, 16, 61, false},    /* blocks of channels and of pixels with a rest */
    {67, 32, 4, 4, 33, 4, 67, false},     /* a chunk ends with a block of channels */
    {11, 18, 3, 3, 530, 2, 10, false},    /* two chunks of outputs, two blocks of channels */
    {10, 17, 14, 14, 20, 4, 9, false},    /* a chunk across two turned blocks */
    {2, 17, 33, 33, 5, 16, 2, false},     /* too large a map to be turned */
};

static void linear(const struct linear_shape *s) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_o%u_S%u_count%u", s->n, s->c, s->h, s->w, s->o,
                   s->shards, s->count);
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w), y = case_matrix(s->n, s->o);
    stn_tensor w = case_matrix(s->o, s->c * s->h * s->w);
    optest_case f = case_new(STN_OP_LINEAR, sizeof(stn_linear_params), s->count);
    f.params.linear.shards = s->shards;
    f.tiny = s->tiny;
    optest_case gx = f, gw = f;
    gx.op = STN_OP_LINEAR_GRAD_X;
    gw.op = STN_OP_LINEAR_GRAD_W;
    case_in(&f, x, OPTEST_X, true);
    case_in(&f, w, OPTEST_X, false);
    if (s->o != 17) { /* one shape without bias */
        case_in(&f, case_vector(s->o), OPTEST_X, false);
    }
    case_out(&f, y, true);
    case_add(&f, name, 1, 0);
    case_in(&gx, y, OPTEST_G, true);
    case_in(&gx, w, OPTEST_X, false);
    case_out(&gx, x, true);
    case_add(&gx, name, 0, 1);
    case_in(&gw, y, OPTEST_G, true);
    case_in(&gw, x, OPTEST_X, true);
    case_out(&gw, w, false);
    case_add(&gw, name, 2, 0);
}

static void linear_block(const struct linear_shape *s, uint32_t number) {
    char name[96];
    uint32_t act = number % 3 != 2;
    float slope = number % 2 == 0 ? 0.0f : 0.1f;
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_o%u_S%u_act%u_slope%g_count%u", s->n, s->c,
                   s->h, s->w, s->o, s->shards, act, (double)slope, s->count);
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w), y = case_matrix(s->n, s->o);
    stn_tensor w = case_matrix(s->o, s->c * s->h * s->w), b = case_vector(s->o);
    optest_case f = case_new(STN_OP_LINEAR_BLOCK, sizeof(stn_linear_block_params), s->count);
    f.params.linear_block =
        (stn_linear_block_params){sizeof f.params.linear_block, act, slope, s->shards};
    f.tiny = s->tiny;
    optest_case g = f;
    g.op = STN_OP_LINEAR_BLOCK_GRAD;
    case_in(&f, x, OPTEST_X, true);
    case_in(&f, w, OPTEST_X, false);
    if (s->o != 17) { /* one shape without bias */
        case_in(&f, b, OPTEST_X, false);
    }
    case_out(&f, y, true);
    case_add(&f, name, 1, 0);
    case_in(&g, y, OPTEST_G, true);
    case_in(&g, y, OPTEST_X, true);
    case_in(&g, x, OPTEST_X, true);
    case_in(&g, w, OPTEST_X, false);
    case_out(&g, w, false);
    case_out(&g, b, false);
    case_out(&g, x, true);
    case_add(&g, name, 4, 4);
}

static const struct pool_shape {
    uint32_t n, c, h, w, kh, kw, sh, sw, count;
    bool tiny;
} pools[] = {
    {1, 1, 1, 1, 1, 1, 1, 1, 1, true},     {2, 3, 7, 9, 2, 2, 2, 2, 2, true},
    {2, 5, 6, 7, 3, 2, 1, 2, 2, true},     {1, 2, 5, 5, 2, 2, 3, 3, 1, true}, /* gaps */
    {1, 1, 16, 17, 16, 16, 1, 1, 1, true},                                    /* index up to 255 */
    {2, 17, 23, 11, 3, 3, 2, 2, 2, false}, {3, 33, 8, 8, 2, 2, 2, 2, 2, false},
    {2, 64, 20, 20, 2, 2, 2, 2, 2, false}, /* MNIST, first pool */
    {3, 16, 4, 4, 2, 2, 2, 2, 3, false},
};

static void pool_pair(const struct pool_shape *s, bool max) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_k%ux%u_s%ux%u_count%u", s->n, s->c, s->h, s->w,
                   s->kh, s->kw, s->sh, s->sw, s->count);
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w);
    stn_tensor y = case_tensor(s->n, s->c, (s->h - s->kh) / s->sh + 1, (s->w - s->kw) / s->sw + 1);
    stn_tensor index = y;
    index.dtype = STN_U8;
    optest_case f =
        case_new(max ? STN_OP_MAXPOOL : STN_OP_AVGPOOL, sizeof(stn_pool_params), s->count);
    f.params.pool = (stn_pool_params){sizeof(stn_pool_params),       s->kh, s->kw, s->sh, s->sw,
                                      (float)(1.0 / (s->kh * s->kw))};
    f.limit = s->kh * s->kw;
    f.tiny = s->tiny;
    optest_case g = f;
    g.op = max ? STN_OP_MAXPOOL_GRAD : STN_OP_AVGPOOL_GRAD;
    case_in(&f, x, OPTEST_X, true);
    case_out(&f, y, true);
    case_in(&g, y, OPTEST_G, true);
    case_out(&g, x, true);
    if (max) {
        case_out(&f, index, true);
        case_in(&g, index, OPTEST_INDEX, true);
    }
    case_add(&f, name, 1, 3);
    case_add(&g, name, 3, 1);
}

static const struct map_shape {
    uint32_t n, c, h, w, count;
    bool tiny;
} maps[] = {
    {1, 1, 1, 1, 1, true},      {2, 3, 3, 5, 2, true},     {5, 7, 1, 1, 3, true},
    {3, 17, 5, 3, 3, false},    {2, 64, 10, 10, 1, false}, {4, 32, 1, 1, 4, false},
    {60, 301, 1, 1, 57, false}, /* more than one task, odd ends */
};

static void activation(const struct map_shape *s, float slope) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_slope%g_count%u", s->n, s->c, s->h, s->w,
                   (double)slope, s->count);
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w);
    optest_case f = case_new(STN_OP_ACT, sizeof(stn_act_params), s->count);
    f.params.act.slope = slope;
    f.tiny = s->tiny;
    optest_case g = f;
    g.op = STN_OP_ACT_GRAD;
    case_in(&f, x, OPTEST_X, true);
    case_out(&f, x, true);
    case_add(&f, name, 1, 1);
    case_in(&g, x, OPTEST_G, true);
    case_in(&g, x, OPTEST_X, true);
    case_out(&g, x, true);
    case_add(&g, name, 3, 1);
    f.alias[0] = 0;
    g.alias[0] = 0;
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_slope%g_count%u_inplace", s->n, s->c, s->h,
                   s->w, (double)slope, s->count);
    case_add(&f, name, 1, 1);
    case_add(&g, name, 3, 1);
}

static void dropout(const struct map_shape *s, double p, uint32_t id) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_p%g_count%u", s->n, s->c, s->h, s->w, p,
                   s->count);
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w);
    optest_case f = case_new(STN_OP_DROPOUT, sizeof(stn_dropout_params), s->count);
    f.params.dropout.id = id;
    f.params.dropout.threshold = (uint32_t)(p * 4294967296.0);
    f.params.dropout.scale = (float)(1.0 / (1.0 - p));
    f.tiny = s->tiny;
    optest_case g = f;
    g.op = STN_OP_DROPOUT_GRAD;
    case_in(&f, x, OPTEST_X, true);
    case_out(&f, x, true);
    case_add(&f, name, 1, 1);
    case_in(&g, x, OPTEST_G, true);
    case_out(&g, x, true);
    case_add(&g, name, 1, 1);
}

static const struct bn_shape {
    uint32_t n, c, h, w, shards, count;
    bool affine, tiny;
} bns[] = {
    {2, 1, 1, 1, 16, 2, true, true},     {8, 3, 1, 1, 2, 7, false, true},
    {3, 5, 5, 4, 2, 3, true, true},      {4, 5, 6, 7, 16, 4, false, false},
    {3, 17, 5, 5, 16, 3, true, false},   {7, 33, 3, 3, 4, 5, true, false},
    {2, 64, 10, 10, 16, 2, true, false}, {9, 37, 1, 1, 4, 7, true, false},
};

static optest_case bn_case(const struct bn_shape *s, uint32_t op) {
    optest_case c = case_new(op, sizeof(stn_bn_params), s->count);
    c.params.bn =
        (stn_bn_params){sizeof(stn_bn_params), s->shards, 1e-5f, 0.1f, OPTEST_INV_N, OPTEST_INV_N1};
    double values = (double)s->count * s->h * s->w;
    c.scalar[OPTEST_INV_N] = (float)(1.0 / values);
    c.scalar[OPTEST_INV_N1] = (float)(1.0 / (values - 1.0));
    c.tiny = s->tiny;
    return c;
}

static void bn_forward(const struct bn_shape *s, const char *name, bool eval) {
    optest_case c = bn_case(s, eval ? STN_OP_BN_EVAL : STN_OP_BN);
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w), v = case_vector(s->c);
    case_in(&c, x, OPTEST_X, true);
    if (eval) {
        case_in(&c, v, OPTEST_X, false);
        case_in(&c, v, OPTEST_POS, false);
    }
    for (uint32_t i = 0; i < 2 && s->affine; i++) {
        case_in(&c, v, OPTEST_X, false);
    }
    case_out(&c, x, true);
    if (!eval) {
        case_out(&c, case_matrix(3, s->c), false);
    }
    case_add(&c, name, 1, 1);
}

static void bn(const struct bn_shape *s) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_S%u_count%u%s", s->n, s->c, s->h, s->w,
                   s->shards, s->count, s->affine ? "_affine" : "");
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w), v = case_vector(s->c);
    bn_forward(s, name, false);
    bn_forward(s, name, true);
    optest_case u = bn_case(s, STN_OP_BN_UPDATE);
    case_in(&u, case_matrix(3, s->c), OPTEST_X, false);
    case_in(&u, v, OPTEST_X, false);
    case_in(&u, v, OPTEST_POS, false);
    case_out(&u, v, false);
    case_out(&u, v, false);
    u.alias[0] = 1;
    u.alias[1] = 2;
    case_add(&u, name, 0, 0);
    optest_case g = bn_case(s, STN_OP_BN_GRAD);
    case_in(&g, x, OPTEST_G, true);
    case_in(&g, x, OPTEST_X, true);
    case_in(&g, case_matrix(3, s->c), OPTEST_POS, false);
    if (s->affine) {
        case_in(&g, v, OPTEST_X, false);
    }
    case_out(&g, x, true);
    case_out(&g, v, false);
    case_out(&g, v, false);
    case_add(&g, name, 3, 1);
}

void cases_dense(void) {
    static const float slopes[] = {0.0f, 0.01f, 0.3f};
    for (uint32_t i = 0; i < sizeof linears / sizeof linears[0]; i++) {
        linear(&linears[i]);
        linear_block(&linears[i], i);
    }
    for (uint32_t i = 0; i < sizeof pools / sizeof pools[0]; i++) {
        pool_pair(&pools[i], true);
        pool_pair(&pools[i], false);
    }
    for (uint32_t i = 0; i < sizeof maps / sizeof maps[0]; i++) {
        activation(&maps[i], slopes[i % 3]);
        activation(&maps[i], slopes[(i + 1) % 3]);
        dropout(&maps[i], i % 2 == 0 ? 0.5 : 0.1, i);
    }
    for (uint32_t i = 0; i < sizeof bns / sizeof bns[0]; i++) {
        bn(&bns[i]);
    }
}
