/* Cases of the affine grid, the sampler, their composite, and composition of maps. */
#include "optest_cases.h"

static const struct warp_shape {
    uint32_t n, c, h, w, oh, ow, count;
    bool tiny, every; /* every combination of settings, else four of them */
} shapes[] = {
    {9, 3, 5, 7, 4, 6, 8, true, true},        /* 9 rows: every kind of adversarial theta */
    {9, 1, 1, 1, 3, 2, 9, true, false},       /* one input pixel */
    {9, 2, 4, 5, 1, 1, 9, true, false},       /* one output pixel */
    {9, 2, 1, 6, 5, 5, 9, true, false},       /* one row */
    {3, 1, 28, 28, 28, 28, 3, false, true},   /* MNIST, image */
    {2, 64, 10, 10, 10, 10, 2, false, false}, /* MNIST, features */
    {9, 17, 6, 5, 7, 3, 7, false, false},     /* channels past 16 */
    {2, 3, 64, 64, 16, 16, 1, false, false},  /* SVHN */
    {2, 1, 45, 45, 47, 13, 2, false, false},  /* coordinates off the pixel grid at identity */
};

static const char *const corner_names[] = {"", "aligned", "half"};
static const char *const filter_names[] = {"", "bilinear", "nearest"};
static const char *const padding_names[] = {"", "zeros", "border", "reflection", "background"};

static optest_case warp_case(const struct warp_shape *s, const stn_warp_params *p, uint32_t op) {
    optest_case c = case_new(op, sizeof(stn_warp_params), s->count);
    c.params.warp = *p;
    c.tiny = s->tiny;
    return c;
}

static void grids(const struct warp_shape *s, const stn_warp_params *p, const char *name) {
    stn_tensor grid = case_tensor(s->n, s->oh, s->ow, 2), theta = case_matrix(s->n, 6);
    optest_case f = warp_case(s, p, STN_OP_GRID), g = warp_case(s, p, STN_OP_GRID_GRAD);
    case_in(&f, theta, OPTEST_THETA, true);
    case_out(&f, grid, true);
    case_add(&f, name, 0, 0);
    case_in(&g, grid, OPTEST_G, true);
    case_out(&g, theta, true);
    case_add(&g, name, 0, 0);
}

/* The sampler behind a grid (separate) or behind theta (in one). */
static void samplers(const struct warp_shape *s, const stn_warp_params *p, const char *name,
                     bool separate) {
    stn_tensor x = case_tensor(s->n, s->c, s->h, s->w);
    stn_tensor y = case_tensor(s->n, s->c, s->oh, s->ow);
    stn_tensor at = separate ? case_tensor(s->n, s->oh, s->ow, 2) : case_matrix(s->n, 6);
    uint32_t role = separate ? OPTEST_GRID : OPTEST_THETA;
    optest_case f = warp_case(s, p, separate ? STN_OP_SAMPLE : STN_OP_WARP);
    case_in(&f, x, OPTEST_X, true);
    case_in(&f, at, role, true);
    case_out(&f, y, true);
    case_add(&f, name, 1, 1);
    optest_case gx = warp_case(s, p, separate ? STN_OP_SAMPLE_GRAD_X : STN_OP_WARP_GRAD_X);
    case_in(&gx, y, OPTEST_G, true);
    case_in(&gx, at, role, true);
    case_out(&gx, x, true);
    case_add(&gx, name, 1, 1);
    optest_case ga = warp_case(s, p, separate ? STN_OP_SAMPLE_GRAD_GRID : STN_OP_WARP_GRAD_THETA);
    case_in(&ga, y, OPTEST_G, true);
    case_in(&ga, x, OPTEST_X, true);
    case_in(&ga, at, role, true);
    case_out(&ga, at, true);
    case_add(&ga, name, 3, 0);
}

static void settings(const struct warp_shape *s, uint32_t corners, uint32_t filter,
                     uint32_t padding) {
    stn_warp_params p = {sizeof p, corners, filter, padding, s->h, s->w, s->oh, s->ow, {0}};
    for (uint32_t i = 0; i < STN_MAX_BACKGROUND; i++) {
        p.background[i] = 0.25f * (float)i - 0.5f;
    }
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_c%u_%ux%u_to_%ux%u_%s_%s_%s_count%u", s->n, s->c, s->h,
                   s->w, s->oh, s->ow, corner_names[corners], filter_names[filter],
                   padding_names[padding], s->count);
    if (filter == STN_FILTER_BILINEAR && padding == STN_PAD_ZEROS) {
        grids(s, &p, name);
    }
    samplers(s, &p, name, true);
    samplers(s, &p, name, false);
}

static void compositions(uint32_t n, uint32_t count, bool tiny) {
    char name[96];
    (void)snprintf(name, sizeof name, "n%u_count%u", n, count);
    stn_tensor theta = case_matrix(n, 6);
    optest_case f = case_new(STN_OP_COMPOSE, sizeof(stn_none_params), count);
    f.tiny = tiny;
    optest_case g = f;
    g.op = STN_OP_COMPOSE_GRAD;
    case_in(&f, theta, OPTEST_X, true);
    case_in(&f, theta, OPTEST_X, true);
    case_out(&f, theta, true);
    case_add(&f, name, 0, 0);
    case_in(&g, theta, OPTEST_G, true);
    case_in(&g, theta, OPTEST_X, true);
    case_in(&g, theta, OPTEST_X, true);
    case_out(&g, theta, true);
    case_out(&g, theta, true);
    case_add(&g, name, 0, 0);
}

void cases_warp(void) {
    for (uint32_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (uint32_t k = 0; k < 16; k++) {
            uint32_t corners = 1 + k % 2, filter = 1 + k / 2 % 2, padding = 1 + k / 4;
            bool possible = padding != STN_PAD_BACKGROUND || shapes[i].c <= STN_MAX_BACKGROUND;
            /* Every shape meets each padding; bilinear with either corners, nearest in turn. */
            bool chosen =
                shapes[i].every || (filter == STN_FILTER_BILINEAR ? (k + i) % 2 == 0 : k == i % 16);
            if (possible && chosen) {
                settings(&shapes[i], corners, filter, padding);
            }
        }
    }
    compositions(1, 1, true);
    compositions(7, 5, true);
    compositions(65, 65, false);
}
