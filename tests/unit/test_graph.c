/* Building and differentiating graphs, without a device: names, sharing, errors, order of sums. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "graph/graph.h"
#include "tiny_model.h"

static stn__store store;
static stn__slots slots;
static stn_graph graph, eval_graph;
static stn_err err;

static void cleanup(void) {
    stn__graph_free(&graph);
    stn__graph_free(&eval_graph);
    stn__store_free(&store);
    memset(&slots, 0, sizeof slots);
    memset(&err, 0, sizeof err);
}

static int32_t build_as(const stn_model *model, stn_graph *g, bool eval) {
    stn_net_spec net = tiny_spec();
    stn__graph_spec spec = {model, &net, eval, false, &store, &slots};
    return stn__graph_build(g, &spec, &err);
}

static void complete(void) {
    stn_net_spec net = tiny_spec();
    int32_t status = stn__graph_complete(&graph, &net, NULL, NULL, &err);
    cr_assert_eq(status, STN_OK, "%s", err.text);
}

static const stn__node *producer(const stn_graph *g, const char *name) {
    stn_val v = stn__graph_find(g, name);
    cr_assert_neq(v, STN_NO_VALUE, "no value %s", name);
    cr_assert_geq(g->value[v].node, 0, "%s is not made by a node", name);
    return &g->node[g->value[v].node];
}

TestSuite(graph, .fini = cleanup);

Test(graph, tiny_builds_twice_and_shares_state) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    uint32_t n = store.n;
    cr_assert_eq(build_as(&tiny_model, &eval_graph, true), STN_OK, "%s", err.text);
    cr_assert_eq(store.n, n);
    /* conv1 w b, fc1 w b, theta w b, bn1 w b, conv2 w, out w b */
    cr_assert_eq(store.n_params, 11);
    uint32_t item = stn__store_find(&store, "cls.conv1.weight");
    cr_assert_eq(store.item[item].ordinal, 0);
    cr_assert_eq(store.item[item].fan_in, 18);
    cr_assert_eq(store.item[stn__store_find(&store, "loc.fc1.bias")].group, 1);
    cr_assert_eq(store.item[stn__store_find(&store, "loc.fc1.bias")].fan_in, 8 * 6 * 6);
    cr_assert_eq(store.item[stn__store_find(&store, "cls.out.bias")].group, 0);
    cr_assert_eq(store.item[stn__store_find(&store, "loc.bn.running_var")].init, STN_INIT_ONE);
    cr_assert_eq(stn__store_find(&store, "loc.bn.weight"), UINT32_MAX);
}

Test(graph, values_are_named_after_their_layer) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    static const char *const names[] = {"image",           "cls.conv1",      "cls.conv1.maxpool",
                                        "cls.conv1.act",   "cls.conv1#2",    "cls.conv1#2.act",
                                        "loc.theta",       "theta1",         "image.warp",
                                        "cls.bn1.warp",    "loc.bn.dropout", "logits",
                                        "cls.conv1.weight"};
    for (uint32_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cr_assert_neq(stn__graph_find(&graph, names[i]), STN_NO_VALUE, "%s", names[i]);
    }
    cr_assert_eq(producer(&graph, "logits")->op, STN_OP_LINEAR);
}

Test(graph, evaluation_has_no_dropout_and_uses_running_statistics) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    cr_assert_eq(build_as(&tiny_model, &eval_graph, true), STN_OK, "%s", err.text);
    uint32_t dropouts = 0, bn_eval = 0;
    for (uint32_t k = 0; k < eval_graph.n_nodes; k++) {
        uint32_t op = eval_graph.node[k].op;
        cr_assert(op != STN_OP_DROPOUT && op != STN_OP_BN && op != STN__OP_GRAD_SCALE);
        bn_eval += op == STN_OP_BN_EVAL ? 1 : 0;
    }
    for (uint32_t k = 0; k < graph.n_nodes; k++) {
        dropouts += graph.node[k].op == STN_OP_DROPOUT ? 1 : 0;
    }
    cr_assert_eq(bn_eval, 2);
    cr_assert_eq(dropouts, 1);
}

/* Declaration id of the forward node whose gradient made `grad`, by the gradient node's name. */
static uint32_t consumer(const stn_graph *g, stn_val grad) {
    const char *name = g->node[g->value[grad].node].name;
    cr_assert_eq(strncmp(name, "grad of ", 8), 0, "%s", name);
    for (uint32_t k = 0; k < g->n_nodes; k++) {
        if (strcmp(g->node[k].name, name + 8) == 0) {
            return g->node[k].decl;
        }
    }
    cr_assert_fail("no forward node %s", name + 8);
    return 0;
}

Test(graph, shared_parameter_adds_later_use_first) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    complete();
    const stn__node *sum = producer(&graph, "grad cls.conv1.weight");
    cr_assert_eq(sum->op, STN_OP_SUM);
    cr_assert_eq(sum->n_in, 2);
    cr_assert_eq(sum->params.scale.gradient, 1);
    cr_assert_gt(consumer(&graph, sum->in[0]), consumer(&graph, sum->in[1]));
    cr_assert_eq(producer(&graph, "grad cls.conv2.weight")->op, STN_OP_CONV_GRAD_W);
}

Test(graph, one_consumer_twice_adds_higher_slot_first) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    complete();
    /* The halved gradient of theta is SCALE of the sum over warp (last) and compose (slots 1, 0).
     */
    const stn__node *scale = producer(&graph, "grad loc.theta.sum");
    cr_assert_eq(scale->op, STN_OP_SCALE);
    cr_assert_float_eq(scale->params.scale.factor, 0.5f, 0.0f);
    const stn__node *sum = &graph.node[graph.value[scale->in[0]].node];
    cr_assert_eq(sum->op, STN_OP_SUM);
    cr_assert_eq(sum->n_in, 3);
    const stn__node *compose = &graph.node[graph.value[sum->in[0]].node];
    cr_assert_eq(compose->op, STN_OP_COMPOSE_GRAD);
    cr_assert_eq(sum->in[0], compose->out[1]);
    cr_assert_eq(sum->in[1], compose->out[0]);
    cr_assert_eq(graph.node[graph.value[sum->in[2]].node].op, STN_OP_WARP_GRAD_THETA);
}

Test(graph, state_changes_last_and_in_order) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    complete();
    uint32_t k = graph.n_nodes - 13;
    cr_assert_eq(graph.node[k].op, STN_OP_BN_UPDATE);
    cr_assert_str_eq(graph.node[k].name, "cls.bn1");
    cr_assert_str_eq(graph.node[k + 1].name, "loc.bn");
    for (uint32_t i = 0; i < 11; i++) {
        const stn__node *node = &graph.node[k + 2 + i];
        cr_assert_eq(node->op, STN_OP_SGD);
        const stn__item *item = &store.item[graph.value[node->in[1]].index];
        cr_assert_eq(item->ordinal, i);
        cr_assert_eq(slots.slot[node->params.opt.slot_lr].arg, item->group);
    }
    for (uint32_t i = 0; i < k; i++) {
        cr_assert(graph.node[i].op < STN_OP_SGD || graph.node[i].op > STN_OP_ADAM);
        cr_assert_neq(graph.node[i].op, STN__OP_GRAD_SCALE);
    }
    cr_assert_neq(stn__store_find(&store, "velocity.cls.conv1.weight"), UINT32_MAX);
}

Test(graph, nodes_read_only_what_was_made_before) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    complete();
    for (uint32_t k = 0; k < graph.n_nodes; k++) {
        for (uint32_t i = 0; i < graph.node[k].n_in; i++) {
            const stn__value *v = &graph.value[graph.node[k].in[i]];
            cr_assert(v->kind != STN__ACTIVATION || (v->node >= 0 && v->node < (int32_t)k),
                      "%s reads %s", graph.node[k].name, v->name);
        }
    }
}

/* ---- errors ------------------------------------------------------------------------------- */

static int which;

static int32_t build_wrong(const stn_builder *b, stn_graph *g, const stn_model_request *r,
                           stn_err *e) {
    (void)e;
    stn_val x = b->input(g);
    stn_conv_spec conv = {sizeof conv, 4, 3, 3, 1, 1, 0, 0, 1}, huge = conv;
    huge.kh = 40;
    switch (which) {
    case 0:
        x = b->conv(g, "cls.big", x, &huge);
        break;
    case 1:
        x = b->conv(g, "cls.conv1", b->conv(g, "cls.conv1", x, &conv), &conv);
        break;
    case 2:
        x = b->dropout(g, x, 1.0);
        break;
    case 3:
        x = b->linear(g, "", x, 4, 1, STN_INIT_FAN_IN);
        break;
    case 4:
        b->fail(g, "no such network");
        break;
    case 5:
        x = b->act(g, 12345, 0.0f);
        break;
    case 6:
        x = b->batch_norm(g, "cls.bn", x, 1, 1e-12f, 0.1f);
        break;
    case 7:
        return STN_OK; /* no loss */
    case 8:
        b->loss(g, b->linear(g, "cls.out", x, 30, 1, STN_INIT_FAN_IN), 3, 10);
        return STN_OK;
    default:
        break;
    }
    /* Sticky: all of this must do nothing. */
    for (int i = 0; i < 100; i++) {
        x = b->act(g, b->maxpool(g, x, 2, 2), 0.0f);
    }
    b->loss(g, b->linear(g, "cls.out", x, r->heads * r->classes, 1, STN_INIT_FAN_IN), r->heads,
            r->classes);
    return STN_OK;
}

static const stn_model wrong_model = {.struct_size = sizeof(stn_model), .build = build_wrong};

Test(graph, errors_name_the_layer_and_stick) {
    static const char *const want[] = {"cls.big", "cls.conv1.weight", "dropout",
                                       "path",    "no such network",  "not a value",
                                       "cls.bn",  "no loss",          "3 heads"};
    for (which = 0; which < 9; which++) {
        int32_t status = build_as(&wrong_model, &graph, false);
        cr_assert_neq(status, STN_OK, "case %d", which);
        cr_assert_eq(err.code, status);
        cr_assert_neq(strstr(err.text, want[which]), NULL, "case %d: %s", which, err.text);
        cr_assert_neq(strstr(err.text, "tiny"), NULL, "%s", err.text);
        cleanup();
    }
}

static int32_t build_dead(const stn_builder *b, stn_graph *g, const stn_model_request *r,
                          stn_err *e) {
    (void)e;
    stn_val x = b->input(g);
    (void)b->linear(g, "cls.unused", x, 4, 0, STN_INIT_FAN_IN);
    b->loss(g, b->linear(g, "cls.out", x, r->heads * r->classes, 1, STN_INIT_FAN_IN), r->heads,
            r->classes);
    return STN_OK;
}

Test(graph, parameter_without_gradient_is_an_error) {
    static const stn_model dead = {.struct_size = sizeof(stn_model), .build = build_dead};
    cr_assert_eq(build_as(&dead, &graph, false), STN_OK, "%s", err.text);
    stn_net_spec net = tiny_spec();
    cr_assert_eq(stn__graph_complete(&graph, &net, NULL, NULL, &err), STN_E_USAGE);
    cr_assert_neq(strstr(err.text, "cls.unused.weight"), NULL, "%s", err.text);
}

Test(graph, missing_gradient_rule_names_the_node) {
    cr_assert_eq(build_as(&tiny_model, &graph, false), STN_OK, "%s", err.text);
    for (uint32_t k = 0; k < graph.n_nodes; k++) {
        if (graph.node[k].op == STN_OP_DROPOUT) {
            graph.node[k].op = STN_OP_GRID;
        }
    }
    stn_net_spec net = tiny_spec();
    cr_assert_eq(stn__graph_complete(&graph, &net, NULL, NULL, &err), STN_E_UNSUPPORTED);
    cr_assert_neq(strstr(err.text, "loc.bn.dropout"), NULL, "%s", err.text);
}
