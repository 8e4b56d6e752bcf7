/* Batch norm: training forward, evaluation and gradient. Lanes are channels of NC16 maps or of
 * features [N,C].
 *
 * Sums are taken as the bias gradient takes them: PLANE16 for every image, images and shards
 * afterwards. So passes over the images (a task is an image) alternate with passes over the blocks
 * of 16 channels, which are little work.
 */
#include "gradient.h"

/* What a pass over the images takes per channel: sums, or factors of the values. */
enum { SUM, SQUARES, R, GAMMA, BETA, S1, M2, SCALE, CONSTANTS };

typedef struct bn {
    const cpu_call *call;
    uint32_t n, rows, channels, blocks, pixels, shards;
    bool blocked;
    uint32_t x; /* which input */
    uint64_t width, bytes;
    float inv_n;
    /* Workspace. */
    float *plane[2]; /* [N][width]: sums over the pixels of every image */
    float *constant; /* [CONSTANTS][width] */
} bn;

static bn bn_plan(const stn_kernel *k, void *workspace) {
    bn b = {.x = k->op == STN_OP_BN_GRAD ? 1 : 0, .shards = k->params.bn.shards};
    const stn_tensor *x = &k->in[b.x];
    b.n = x->dim[0];
    b.channels = x->dim[1];
    b.blocks = blocks_of(b.channels);
    b.pixels = x->dim[2] * x->dim[3];
    b.blocked = x->layout == STN_NC16;
    b.width = (uint64_t)b.blocks * LANES;
    carver c = {.base = workspace};
    const uint64_t sums = k->op == STN_OP_BN_EVAL ? 0 : b.n * b.width * sizeof(float);
    b.plane[0] = carve(&c, sums);
    b.plane[1] = carve(&c, sums);
    b.constant = carve(&c, CONSTANTS * b.width * sizeof(float));
    b.bytes = c.used;
    return b;
}

/* Lanes of a block in memory. */
static uint32_t lanes_of(const bn *b, uint32_t block) {
    return b->blocked ? LANES : min_u32(LANES, b->channels - block * LANES);
}
static uint64_t place_of(const bn *b, uint32_t n, uint32_t block) {
    return b->blocked ? ((uint64_t)n * b->blocks + block) * b->pixels * LANES
                      : (uint64_t)n * b->channels + block * LANES;
}
static vf constant_of(const bn *b, uint32_t block, uint32_t what) {
    return v_load(b->constant + what * b->width + block * LANES);
}
static void set_constant(const bn *b, uint32_t block, uint32_t what, vf x) {
    v_store(b->constant + what * b->width + block * LANES, x);
}

/* d and the normalised value in training. */
VEC vf centred(vf minus_sum, vf inv_n, vf x) {
    return v_snap(v_fma(minus_sum, inv_n, x), v_set1(STN_LIM_X));
}
VEC vf scaled(vf d, vf r) {
    return v_snap(v_mul(d, r), v_set1(STN_LIM_X));
}

/* ---- sums over the pixels of an image ------------------------------------------------------- */

static void sum_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    for (uint32_t block = 0; block < b->blocks; block++) {
        const float *x = (const float *)b->call->in[b->x] + place_of(b, n, block);
        float *sum = b->plane[0] + n * b->width + block * LANES;
        if (b->blocked) {
            ISA(grad_plane)(x, b->pixels, sum);
        } else {
            v_store(sum, v_add(v_zero(), v_load_some(x, lanes_of(b, block))));
        }
    }
}

static void squares_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf inv_n = v_set1(b->inv_n);
    for (uint32_t block = 0; block < b->blocks; block++) {
        const float *x = (const float *)b->call->in[b->x] + place_of(b, n, block);
        const uint32_t lanes = lanes_of(b, block);
        const vf minus_sum = v_neg(constant_of(b, block, SUM));
        vf lane[STN_PLANE_LANES];
        for (uint32_t i = 0; i < STN_PLANE_LANES; i++) {
            lane[i] = v_zero();
        }
        for (uint32_t i = 0; i < b->pixels; i++, x += LANES) {
            const vf d = centred(minus_sum, inv_n, v_load_some(x, lanes));
            lane[i % STN_PLANE_LANES] = v_fma(d, d, lane[i % STN_PLANE_LANES]);
        }
        v_store(b->plane[0] + n * b->width + block * LANES, v_fold_rows(lane));
    }
}

/* Of the gradient, and of its products with the normalised values. */
static void gradients_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf inv_n = v_set1(b->inv_n);
    for (uint32_t block = 0; block < b->blocks; block++) {
        const uint64_t at = place_of(b, n, block);
        const float *g = (const float *)b->call->in[0] + at;
        const float *x = (const float *)b->call->in[1] + at;
        const uint32_t lanes = lanes_of(b, block);
        const vf minus_sum = v_neg(constant_of(b, block, SUM)), r = constant_of(b, block, R);
        vf one[STN_PLANE_LANES], two[STN_PLANE_LANES];
        for (uint32_t i = 0; i < STN_PLANE_LANES; i++) {
            one[i] = two[i] = v_zero();
        }
        for (uint32_t i = 0; i < b->pixels; i++, g += LANES, x += LANES) {
            const uint32_t l = i % STN_PLANE_LANES;
            const vf grad = v_load_some(g, lanes);
            one[l] = v_add(one[l], grad);
            two[l] =
                v_fma(grad, scaled(centred(minus_sum, inv_n, v_load_some(x, lanes)), r), two[l]);
        }
        v_store(b->plane[0] + n * b->width + block * LANES, v_fold_rows(one));
        v_store(b->plane[1] + n * b->width + block * LANES, v_fold_rows(two));
    }
}

/* ---- a block of channels -------------------------------------------------------------------- */

/* Sum over the batch of the images' sums, snapped. */
static vf batch_sum(const bn *b, uint32_t block, uint32_t plane, float limit) {
    const bias_sum s = {.plane = b->plane[plane],
                        .width = b->width,
                        .channels = (uint32_t)b->width,
                        .batch = b->n,
                        .rows = b->rows,
                        .shards = b->shards};
    return v_snap(ISA(batch_sum)(&s, block), v_set1(limit));
}

static vf inverse_root(vf x) {
    return v_snap(v_divide(v_set1(1.0f), v_root(x)), v_set1(STN_LIM_X));
}

/* A block of a vector [C], or of row `row` of [rows, C]. */
static vf read_block(const bn *b, uint32_t in, uint32_t row, uint32_t block) {
    const uint32_t first = block * LANES;
    return v_load_n((const float *)b->call->in[in] + (uint64_t)row * b->channels + first,
                    min_u32(LANES, b->channels - first));
}
static void write_block(const bn *b, uint32_t out, uint32_t row, uint32_t block, vf x) {
    const uint32_t first = block * LANES, lanes = min_u32(LANES, b->channels - first);
    v_store_n((float *)b->call->out[out] + (uint64_t)row * b->channels + first, x, lanes);
    flag_seen(b->call, v_seen(vi_set1(0), v_keep(vm_first(lanes), x)));
}

/* gamma and beta from input `first` on; 1 and 0 without. */
static void set_affine(const bn *b, uint32_t block, uint32_t first) {
    const bool affine = first < b->call->kernel->n_in;
    set_constant(b, block, GAMMA, affine ? read_block(b, first, 0, block) : v_set1(1.0f));
    set_constant(b, block, BETA, affine ? read_block(b, first + 1, 0, block) : v_zero());
}

static void sum_block(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf sum = batch_sum(b, block, 0, STN_LIM_X);
    write_block(b, 1, 0, block, sum);
    set_constant(b, block, SUM, sum);
}

static void squares_block(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf squares = batch_sum(b, block, 0, STN_LIM_X);
    const vf eps = v_set1(b->call->kernel->params.bn.eps);
    const vf r = inverse_root(v_fma(squares, v_set1(b->inv_n), eps));
    write_block(b, 1, 1, block, squares);
    write_block(b, 1, 2, block, r);
    set_constant(b, block, R, r);
    set_affine(b, block, 1);
}

static void eval_block(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf eps = v_set1(b->call->kernel->params.bn.eps);
    set_constant(b, block, SUM, read_block(b, 1, 0, block));
    set_constant(b, block, R, inverse_root(v_add(read_block(b, 2, 0, block), eps)));
    set_affine(b, block, 3);
}

static void stats_block(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    set_constant(b, block, SUM, read_block(b, 2, 0, block));
    set_constant(b, block, R, read_block(b, 2, 2, block));
}

static void gradients_block(void *user, uint32_t block, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf s1 = batch_sum(b, block, 0, STN_LIM_G), s2 = batch_sum(b, block, 1, STN_LIM_G);
    const vf gamma = b->call->kernel->n_in > 3 ? read_block(b, 3, 0, block) : v_set1(1.0f);
    write_block(b, 1, 0, block, s2);
    write_block(b, 2, 0, block, s1);
    set_constant(b, block, S1, s1);
    set_constant(b, block, M2, v_snap(v_mul(s2, v_set1(b->inv_n)), v_set1(STN_LIM_G)));
    set_constant(b, block, SCALE, scaled(gamma, constant_of(b, block, R)));
}

/* ---- values of an image --------------------------------------------------------------------- */

VEC void normalise(const bn *b, uint32_t n, const bool training) {
    const vf inv_n = v_set1(b->inv_n), limit = v_set1(STN_LIM_X);
    vi seen = vi_set1(0);
    for (uint32_t block = 0; block < b->blocks; block++) {
        const uint64_t at = place_of(b, n, block);
        const float *x = (const float *)b->call->in[0] + at;
        float *y = (float *)b->call->out[0] + at;
        const uint32_t lanes = lanes_of(b, block);
        const vm real = vm_first(min_u32(LANES, b->channels - block * LANES));
        const vf mean = constant_of(b, block, SUM), minus_sum = v_neg(mean);
        const vf r = constant_of(b, block, R);
        const vf gamma = constant_of(b, block, GAMMA), beta = constant_of(b, block, BETA);
        for (uint32_t i = 0; i < b->pixels; i++, x += LANES, y += LANES) {
            const vf v = v_load_some(x, lanes);
            const vf d = training ? centred(minus_sum, inv_n, v) : v_snap(v_sub(v, mean), limit);
            const vf out = v_keep(real, v_snap(v_fma(gamma, scaled(d, r), beta), limit));
            seen = v_seen(seen, out);
            v_store_some(y, out, lanes);
        }
    }
    flag_seen(b->call, seen);
}

static void forward_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    normalise(user, n, true);
}

static void eval_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    normalise(user, n, false);
}

static void grad_image(void *user, uint32_t n, uint32_t thread) {
    (void)thread;
    const bn *b = user;
    const vf inv_n = v_set1(b->inv_n), limit = v_set1(STN_LIM_G);
    vi seen = vi_set1(0);
    for (uint32_t block = 0; block < b->blocks; block++) {
        const uint64_t at = place_of(b, n, block);
        const float *g = (const float *)b->call->in[0] + at;
        const float *x = (const float *)b->call->in[1] + at;
        float *gx = (float *)b->call->out[0] + at;
        const uint32_t lanes = lanes_of(b, block);
        const vf minus_sum = v_neg(constant_of(b, block, SUM)), r = constant_of(b, block, R);
        const vf minus_s1 = v_neg(constant_of(b, block, S1)), m2 = constant_of(b, block, M2);
        const vf scale = constant_of(b, block, SCALE);
        for (uint32_t i = 0; i < b->pixels; i++, g += LANES, x += LANES, gx += LANES) {
            const vf xhat = scaled(centred(minus_sum, inv_n, v_load_some(x, lanes)), r);
            const vf mean_free = v_fma(minus_s1, inv_n, v_load_some(g, lanes));
            const vf t = v_snap(v_fma(v_neg(xhat), m2, mean_free), limit);
            const vf out = v_snap(v_mul(scale, t), limit);
            seen = v_seen(seen, out);
            v_store_some(gx, out, lanes);
        }
    }
    flag_seen(b->call, seen);
}

/* ---- the operators -------------------------------------------------------------------------- */

static bn bn_start(const cpu_call *call) {
    bn b = bn_plan(call->kernel, call->workspace);
    b.call = call;
    b.rows = min_u32(cpu_rows(call), b.n);
    if (call->kernel->op != STN_OP_BN_EVAL) {
        b.inv_n = call->step->scalar[call->kernel->params.bn.slot_inv_n];
    }
    return b;
}

static void run_forward(const cpu_call *call) {
    bn b = bn_start(call);
    cpu_pool_run(call->pool, b.rows, sum_image, &b);
    cpu_pool_run(call->pool, b.blocks, sum_block, &b);
    cpu_pool_run(call->pool, b.rows, squares_image, &b);
    cpu_pool_run(call->pool, b.blocks, squares_block, &b);
    cpu_pool_run(call->pool, b.rows, forward_image, &b);
}

static void run_eval(const cpu_call *call) {
    bn b = bn_start(call);
    cpu_pool_run(call->pool, b.blocks, eval_block, &b);
    cpu_pool_run(call->pool, b.rows, eval_image, &b);
}

static void run_grad(const cpu_call *call) {
    bn b = bn_start(call);
    cpu_pool_run(call->pool, b.blocks, stats_block, &b);
    cpu_pool_run(call->pool, b.rows, gradients_image, &b);
    cpu_pool_run(call->pool, b.blocks, gradients_block, &b);
    cpu_pool_run(call->pool, b.rows, grad_image, &b);
}

/* Maps are stored alike, in NC16 or as features; vectors in order. */
static bool readable(const stn_kernel *k) {
    const stn_tensor *map = &k->in[0];
    bool good = map->layout == STN_NC16 || map->dim[2] * map->dim[3] == 1;
    good = good && k->out[0].layout == map->layout && k->params.bn.shards <= GRAD_MAX_SHARDS;
    for (uint32_t i = 1; i < k->n_in; i++) {
        const bool grad_x = k->op == STN_OP_BN_GRAD && i == 1;
        good = good && k->in[i].layout == (grad_x ? map->layout : STN_NCHW);
    }
    for (uint32_t i = 1; i < k->n_out; i++) {
        good = good && k->out[i].layout == STN_NCHW;
    }
    return good;
}

bool ISA(bn)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    (void)threads;
    impl->workspace = bn_plan(k, NULL).bytes;
    impl->run = k->op == STN_OP_BN ? run_forward : k->op == STN_OP_BN_EVAL ? run_eval : run_grad;
    return readable(k);
}
