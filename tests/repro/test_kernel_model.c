/* What the class gpu says of its kernels, against numbers worked out by hand. */
#include <criterion/criterion.h>
#include <string.h>

#include "graph/net.h"
#include "tiny_model.h"

enum { N = 48, SIDE = 20, C = 3, O = 40, K = 5, OUT = SIDE - K + 1, HIDDEN = 100, SHARDS = 4 };

static stn_ctx *ctx;
static stn_dev *dev;
static stn_net *net;
static stn_err err;

/* A convolution of 5x5 without padding and two linear layers. */
static int32_t build(const stn_builder *b, stn_graph *g, const stn_model_request *r, stn_err *e) {
    (void)e;
    stn_conv_spec conv = {sizeof conv, O, K, K, 1, 1, 0, 0, 1};
    stn_val x = b->conv(g, "conv", b->input(g), &conv);
    x = b->linear(g, "fc", x, HIDDEN, 1, STN_INIT_FAN_IN);
    b->loss(g, b->linear(g, "out", x, r->heads * r->classes, 1, STN_INIT_FAN_IN), r->heads,
            r->classes);
    return STN_OK;
}

/* min_work: multiply-adds from which the kernels for few channels are taken. */
static void open_with(const char *min_work) {
    static const stn_model model = {.struct_size = sizeof(stn_model), .build = build};
    const char *const names[] = {"device-class", "min-work"}, *const values[] = {"gpu", min_work};
    stn_options options = {sizeof options, 2, names, values};
    stn_open_options open = {.plugin_path = STN_TEST_PLUGIN_DIR};
    stn_net_spec spec = tiny_spec();
    spec.batch = N;
    spec.shards = SHARDS;
    spec.request.channels = C;
    spec.request.height = spec.request.width = SIDE;
    spec.no_fusion = true;
    cr_assert_eq(stn_open(&open, &ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(ctx, "opencl", NULL, &options, &dev, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn__net_open(dev, &model, &spec, &net, &err), STN_OK, "%s", err.text);
}

static void open_tiles(void) {
    open_with("1000000000000");
}

static void open_few(void) {
    open_with("0");
}

static void close_all(void) {
    stn_net_close(net);
    stn_dev_close(dev);
    stn_close(ctx);
}

TestSuite(kernel_model, .init = open_tiles, .fini = close_all);
TestSuite(kernel_model_few, .init = open_few, .fini = close_all);

/* The kernel `which` of the operator with this name and layer. */
static stn_launch launch_of(const char *op, const char *layer, uint32_t which) {
    for (uint32_t i = 0; i < stn_net_node_count(net, false); i++) {
        stn_node_info node;
        stn_launch launch;
        cr_assert_eq(stn_net_node_get(net, false, i, &node, &err), STN_OK, "%s", err.text);
        if (strcmp(node.op, op) == 0 && strcmp(node.name, layer) == 0) {
            cr_assert_eq(stn_net_launch_get(net, false, i, which, &launch, &err), STN_OK, "%s",
                         err.text);
            return launch;
        }
    }
    cr_assert(false, "no %s of %s", op, layer);
    return (stn_launch){0};
}

static uint64_t floats(uint64_t n) {
    return n * 4u;
}

/* 40 outputs: one row of tiles 64 x 128; 48 * 256 columns: 96 tiles. */
Test(kernel_model, convolution) {
    const uint64_t columns = N * OUT * OUT, length = C * K * K;
    stn_launch l = launch_of("conv", "conv", 0);
    cr_assert_str_eq(l.name, "conv_tile");
    cr_assert_eq(l.flops, 2 * columns * O * length);
    cr_assert_eq(l.read, floats(N * C * SIDE * SIDE + O * length + O));
    cr_assert_eq(l.written, floats(columns * O));
    cr_assert_eq(l.groups, columns / 128);
    cr_assert_eq(l.loads, l.groups * length * floats(64 + 128));
    cr_assert_eq(l.group[0] * l.group[1] * l.group[2], 128);
    cr_assert_eq(l.local_bytes, 2 * 8 * floats(68 + 132));
    cr_assert_eq(l.registers, 64 + 12 + 16); /* sums, slice in flight, slice at work */
}

Test(kernel_model, weight_gradient) {
    const uint64_t values = O * C * K * K, pixels = N * OUT * OUT;
    stn_launch tile = launch_of("conv_grad_w", "grad of conv", 0);
    stn_launch finish = launch_of("conv_grad_w", "grad of conv", 1);
    cr_assert_str_eq(tile.name, "conv_grad_w_tile");
    cr_assert_eq(tile.flops, 2 * pixels * values);
    cr_assert_eq(tile.read, floats(pixels * O + N * C * SIDE * SIDE));
    /* A sum for each of the 12 images of a shard (a chunk is one image) is written and read. */
    cr_assert_geq(tile.written, floats(N * values));
    cr_assert_lt(tile.written, floats(N * values) + 256);
    cr_assert_eq(finish.read, tile.written);
    cr_assert_eq(finish.written, floats(values));
    cr_assert_eq(finish.flops, N * values);
}

/* Every chunk of the 10,240 features has groups of its own, whose sums a second launch adds. */
Test(kernel_model, linear) {
    const uint64_t features = O * OUT * OUT, chunks = features / 512;
    stn_launch l = launch_of("linear", "fc", 0), finish = launch_of("linear", "fc", 1);
    cr_assert_eq(l.flops, 2 * N * features * HIDDEN);
    cr_assert_geq(l.written, floats(chunks * N * HIDDEN));
    cr_assert_lt(l.written, floats(chunks * N * HIDDEN) + 256);
    cr_assert_str_eq(finish.name, "conv_finish");
    cr_assert_eq(finish.read, l.written + floats(HIDDEN));
    cr_assert_eq(finish.written, floats(N * HIDDEN));
    cr_assert_eq(finish.flops, chunks * N * HIDDEN);
    l = launch_of("linear_grad_x", "grad of fc", 0);
    cr_assert_eq(l.flops, 2 * N * features * HIDDEN);
}

/* Forward, and everywhere without padding, kernels do the work that operators declare. */
static void agree(void) {
    for (uint32_t i = 0; i < stn_net_node_count(net, false); i++) {
        stn_node_info node;
        uint64_t flops = 0;
        uint32_t n;
        cr_assert_eq(stn_net_node_get(net, false, i, &node, &err), STN_OK, "%s", err.text);
        cr_assert_eq(stn_net_node_launches(net, false, i, &n, &err), STN_OK);
        cr_assert_geq(n, 1);
        for (uint32_t k = 0; k < n; k++) {
            stn_launch launch;
            cr_assert_eq(stn_net_launch_get(net, false, i, k, &launch, &err), STN_OK, "%s",
                         err.text);
            cr_assert_gt(launch.read + launch.written, 0, "%s", launch.name);
            bool finish = strstr(launch.name, "_finish") != NULL; /* adds what others left */
            flops += finish ? 0 : launch.flops;
        }
        if (strncmp(node.op, "conv", 4) == 0 || strncmp(node.op, "linear", 6) == 0) {
            cr_assert_eq(flops, node.flops, "%s of %s: %llu, declared %llu", node.op, node.name,
                         (unsigned long long)flops, (unsigned long long)node.flops);
        }
    }
}

Test(kernel_model, agrees_with_what_operators_declare) {
    agree();
    stn_launch launch;
    cr_assert_eq(stn_net_launch_get(net, false, 0, 9, &launch, &err), STN_E_UNSUPPORTED);
    cr_assert_eq(stn_net_launch_get(net, false, 99, 0, &launch, &err), STN_E_USAGE);
}

Test(kernel_model_few, agrees_with_what_operators_declare) {
    stn_launch l = launch_of("conv", "conv", 0);
    cr_assert_str_eq(l.name, "few_y");
    cr_assert_eq(l.written, floats(N * O * OUT * OUT));
    l = launch_of("conv_grad_w", "grad of conv", 0);
    cr_assert_str_eq(l.name, "few_w");
    agree();
}
