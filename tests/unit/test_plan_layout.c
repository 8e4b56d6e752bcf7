/* Layouts and limits of a plan, against a made-up device that answers op_query as the test says. */
#include <criterion/criterion.h>
#include <string.h>

#include "graph/plan.h"
#include "tiny_model.h"

/* What the made-up device refuses. */
static uint32_t no_blocked_op; /* this operator, if any operand is NC16; 0: none; ~0: all */
static uint32_t no_op;         /* this operator altogether */
static uint64_t workspace_of_conv;

static int32_t query(stn_device *device, const stn_op_desc *desc, stn_support *support,
                     stn_err *e) {
    (void)device;
    (void)e;
    bool blocked = false;
    for (uint32_t i = 0; i < desc->n_in; i++) {
        blocked = blocked || desc->in[i].layout == STN_NC16;
    }
    for (uint32_t o = 0; o < desc->n_out; o++) {
        blocked = blocked || desc->out[o].layout == STN_NC16;
    }
    bool refuse = desc->op == no_op ||
                  (blocked && (no_blocked_op == UINT32_MAX || desc->op == no_blocked_op));
    support->level = refuse ? 0 : 1;
    support->exact = 1;
    support->workspace = desc->op == STN_OP_CONV ? workspace_of_conv : 64;
    return STN_OK;
}

static const stn_backend backend = {.struct_size = sizeof(stn_backend), .op_query = query};
static stn_device_info info = {.struct_size = sizeof info, .name = "made-up"};
static stn__store store;
static stn__slots slots;
static stn__plan plan;
static stn_err err;

static void cleanup(void) {
    stn__plan_free(&plan);
    stn__store_free(&store);
    memset(&slots, 0, sizeof slots);
}

static void reset(void) {
    no_blocked_op = no_op = 0;
    workspace_of_conv = 0;
    info.layout = STN_NC16;
    info.max_alloc = 0;
}

TestSuite(plan_layout, .init = reset, .fini = cleanup);

/* Plans the tiny net without fusion. */
static int32_t make(void) {
    stn_net_spec net = tiny_spec();
    stn__graph_spec spec = {&tiny_model, &net, false, false, &store, &slots};
    cr_assert_eq(stn__graph_build(&plan.graph, &spec, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn__graph_complete(&plan.graph, &net, NULL, NULL, &err), STN_OK, "%s", err.text);
    return stn__plan_make(&plan, &backend, NULL, &info, false, &err);
}

static uint32_t layout_of(const char *name) {
    stn_val v = stn__graph_find(&plan.graph, name);
    cr_assert_neq(v, STN_NO_VALUE, "%s", name);
    return plan.graph.value[v].tensor.layout;
}

static uint32_t count_blocked(void) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < plan.graph.n_values; i++) {
        n += plan.graph.value[i].tensor.layout == STN_NC16 ? 1 : 0;
    }
    return n;
}

Test(plan_layout, maps_take_the_preferred_layout) {
    cr_assert_eq(make(), STN_OK, "%s", err.text);
    cr_assert_eq(layout_of("cls.conv1.act"), STN_NC16);
    cr_assert_eq(layout_of("grad cls.conv1.act"), STN_NC16);
    cr_assert_eq(layout_of("cls.conv1.maxpool.index"), STN_NC16);
    cr_assert_eq(layout_of("image"), STN_NCHW, "two channels only");
    cr_assert_eq(layout_of("cls.conv2.weight"), STN_NCHW, "a parameter");
    cr_assert_eq(layout_of("loc.fc1"), STN_NCHW, "not a map");
}

Test(plan_layout, refused_operands_go_back) {
    no_blocked_op = STN_OP_WARP;
    cr_assert_eq(make(), STN_OK, "%s", err.text);
    cr_assert_eq(layout_of("cls.bn1"), STN_NCHW, "read by the warp of features");
    cr_assert_eq(layout_of("cls.bn1.warp"), STN_NCHW);
    cr_assert_eq(layout_of("cls.conv1.act"), STN_NC16, "not touched by a warp");
}

Test(plan_layout, device_without_blocked_layout) {
    no_blocked_op = UINT32_MAX;
    cr_assert_eq(make(), STN_OK, "%s", err.text);
    cr_assert_eq(count_blocked(), 0);
}

Test(plan_layout, unsupported_operator_is_named) {
    no_op = STN_OP_COMPOSE;
    cr_assert_eq(make(), STN_E_UNSUPPORTED);
    cr_assert_neq(strstr(err.text, "made-up"), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "compose"), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "loc.theta.compose"), NULL, "%s", err.text);
}

Test(plan_layout, workspace_is_the_largest) {
    workspace_of_conv = 12345;
    cr_assert_eq(make(), STN_OK, "%s", err.text);
    cr_assert_eq(plan.workspace, 12345);
}

Test(plan_layout, small_buffers_split_the_arena) {
    info.max_alloc = 32768; /* above the largest tensor, 6x8x12x12 floats of cls.conv1 */
    info.layout = STN_NCHW;
    cr_assert_eq(make(), STN_OK, "%s", err.text);
    cr_assert_gt(plan.arena.n, 1);
    for (uint32_t i = 0; i < plan.arena.n; i++) {
        cr_assert_leq(plan.arena.bytes[i], info.max_alloc);
    }
    cr_assert(stn__arena_check(plan.block, plan.n_blocks, &plan.arena));
}

Test(plan_layout, too_small_buffers_name_the_tensor) {
    info.max_alloc = 20000;
    info.layout = STN_NCHW;
    cr_assert_eq(make(), STN_E_NOMEM);
    cr_assert_neq(strstr(err.text, "cls.conv1"), NULL, "%s", err.text);
    cr_assert_neq(strstr(err.text, "27648"), NULL, "%s", err.text);
}
