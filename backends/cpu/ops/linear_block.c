/* LINEAR_BLOCK and its gradient: the fast parts one after another. The bias gradient and the
 * activation are little work; what a block saves is operators.
 */
#include "fast.h"

/* The operators that a block consists of; those that it does not need have op 0. */
typedef struct parts {
    stn_kernel linear, act, gw, gb, gx;
    uint64_t undone, workspace; /* bytes: gradient behind the activation; scratch of one part */
} parts;

static uint64_t aligned(uint64_t bytes) {
    return (bytes + 63u) / 64u * 64u;
}

/* Fills a part and asks for its kernel. */
static bool part(parts *p, stn_kernel *k, uint32_t op, uint32_t threads,
                 bool (*select)(const stn_kernel *k, uint32_t threads, cpu_impl *impl)) {
    k->op = op;
    if (!select(k, threads, &k->impl)) {
        return false;
    }
    p->workspace = k->impl.workspace > p->workspace ? k->impl.workspace : p->workspace;
    return true;
}

static bool parts_of(const stn_kernel *k, uint32_t threads, parts *p) {
    const stn_linear_block_params *b = &k->params.linear_block;
    const stn_op_params shards = {.linear = {sizeof shards.linear, b->shards}};
    const stn_op_params slope = {.act = {sizeof slope.act, b->slope}};
    memset(p, 0, sizeof *p);
    if (k->op == STN_OP_LINEAR_BLOCK) {
        const stn_tensor y = k->out[0];
        p->linear = (stn_kernel){.n_in = k->n_in, .n_out = 1, .params = shards, .out = {y}};
        memcpy(p->linear.in, k->in, sizeof p->linear.in);
        p->act = (stn_kernel){.n_in = 1, .n_out = 1, .params = slope, .in = {y}, .out = {y}};
        return part(p, &p->linear, STN_OP_LINEAR, threads, ISA(linear)) &&
               (b->act == 0 || part(p, &p->act, STN_OP_ACT, threads, ISA(elementwise)));
    }
    const stn_tensor gy = k->in[0], x = k->in[2], w = k->in[3];
    p->undone = b->act == 0 ? 0 : aligned(stn_tensor_bytes(&gy));
    p->act =
        (stn_kernel){.n_in = 2, .n_out = 1, .params = slope, .in = {gy, k->in[1]}, .out = {gy}};
    p->gw =
        (stn_kernel){.n_in = 2, .n_out = 1, .params = shards, .in = {gy, x}, .out = {k->out[0]}};
    p->gb = (stn_kernel){.n_in = 1, .n_out = 1, .params = shards, .in = {gy}, .out = {k->out[1]}};
    p->gx =
        (stn_kernel){.n_in = 2, .n_out = 1, .params = shards, .in = {gy, w}, .out = {k->out[2]}};
    return (b->act == 0 || part(p, &p->act, STN_OP_ACT_GRAD, threads, ISA(elementwise))) &&
           part(p, &p->gw, STN_OP_LINEAR_GRAD_W, threads, ISA(linear)) &&
           part(p, &p->gb, STN_OP_BIAS_GRAD, threads, ISA(bias_grad)) &&
           part(p, &p->gx, STN_OP_LINEAR_GRAD_X, threads, ISA(linear));
}

static void run_part(const cpu_call *call, const parts *p, const stn_kernel *k, const void *a,
                     const void *b, const void *c, void *out) {
    cpu_call own = *call;
    own.kernel = k;
    own.in[0] = a;
    own.in[1] = b;
    own.in[2] = c;
    own.out[0] = out;
    own.workspace = (uint8_t *)call->workspace + p->undone;
    k->impl.run(&own);
}

static void run_block(const cpu_call *call) {
    parts p;
    (void)parts_of(call->kernel, cpu_pool_threads(call->pool), &p);
    run_part(call, &p, &p.linear, call->in[0], call->in[1], call->in[2], call->out[0]);
    if (p.act.op != 0) {
        run_part(call, &p, &p.act, call->out[0], NULL, NULL, call->out[0]);
    }
}

static void run_block_grad(const cpu_call *call) {
    parts p;
    const void *gy = call->in[0];
    (void)parts_of(call->kernel, cpu_pool_threads(call->pool), &p);
    if (p.act.op != 0) {
        run_part(call, &p, &p.act, gy, call->in[1], NULL, call->workspace);
        gy = call->workspace;
    }
    run_part(call, &p, &p.gw, gy, call->in[2], NULL, call->out[0]);
    run_part(call, &p, &p.gb, gy, NULL, NULL, call->out[1]);
    run_part(call, &p, &p.gx, gy, call->in[3], NULL, call->out[2]);
}

bool ISA(linear_block)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    parts p;
    if (!parts_of(k, threads, &p)) {
        return false;
    }
    impl->workspace = p.undone + p.workspace;
    impl->run = k->op == STN_OP_LINEAR_BLOCK ? run_block : run_block_grad;
    return true;
}
