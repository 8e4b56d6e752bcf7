/* A batch in micro-batches: the same state, losses, predictions and marked values for every memory
 * limit, on all kernels; what is allocated keeps to the limit; what cannot be done is refused. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "graph/net.h"
#include "plugin/device.h"
#include "tiny_model.h"

enum { BATCH = 23, SHARDS = 8, STEPS = 3, MAX_PIXELS = 28 * 28 };

static stn_err err;

/* ---- networks ----------------------------------------------------------------------------- */

/* Layers used twice, dropout, values used several times, no batch norm. factor: of the gradients
 * that reach the first convolution. */
static int32_t build(const stn_builder *b, stn_graph *g, const stn_model_request *r, float factor) {
    static const float identity[6] = {1, 0, 0, 0, 1, 0};
    stn_conv_spec conv = {sizeof conv, 8, 3, 3, 1, 1, 1, 1, 1}, second = conv;
    stn_warp_params warp = {.struct_size = sizeof warp,
                            .corners = STN_CORNERS_ALIGNED,
                            .filter = STN_FILTER_BILINEAR,
                            .padding = STN_PAD_BORDER,
                            .out_h = TINY_SIDE,
                            .out_w = TINY_SIDE};
    second.out = 20;
    second.bias = 0;
    stn_val x = b->scale_grad(g, b->conv(g, "cls.conv1", b->input(g), &conv), factor);
    x = b->act(g, b->maxpool(g, x, 2, 2), 0.0f);
    stn_val theta = b->linear(g, "loc.theta", x, 6, 1, STN_INIT_ZERO);
    theta = b->add(g, theta, b->constant(g, "identity", identity, 6));
    b->mark(g, "theta1", theta);
    stn_val y = b->scale_grad(
        g, b->conv(g, "cls.conv1", b->warp(g, b->input(g), theta, &warp), &conv), factor);
    y = b->act(g, b->maxpool(g, y, 2, 2), 0.0f);
    b->mark(g, "features", y);
    y = b->dropout(g, b->act(g, b->conv(g, "cls.conv2", b->add(g, x, y), &second), 0.25f), 0.25);
    y = b->act(g, b->linear(g, "cls.fc", y, 13, 1, STN_INIT_FAN_IN), 0.0f);
    b->loss(g, b->linear(g, "cls.out", y, r->heads * r->classes, 1, STN_INIT_FAN_IN), r->heads,
            r->classes);
    return STN_OK;
}

static int32_t build_plain(const stn_builder *b, stn_graph *g, const stn_model_request *r,
                           stn_err *e) {
    (void)e;
    return build(b, g, r, 1.0f);
}

/* Gradients about the size at which they are snapped: those of a part must not be. */
static int32_t build_faint(const stn_builder *b, stn_graph *g, const stn_model_request *r,
                           stn_err *e) {
    (void)e;
    return build(b, g, r, 0x1p-34f);
}

static const stn_model plain = {.struct_size = sizeof(stn_model), .build = build_plain};
static const stn_model faint = {.struct_size = sizeof(stn_model), .build = build_faint};

static stn_net_spec spec_of(const char *network) {
    stn_net_spec spec = tiny_spec();
    spec.batch = BATCH;
    spec.shards = SHARDS;
    if (network != NULL) {
        spec.model = "mnist_stn";
        spec.request.channels = 1;
        spec.request.height = spec.request.width = 28;
        spec.request.heads = 1;
        spec.request.width_factor = 0.2;
        spec.request.network = network;
        spec.request.variant = "rotate";
        spec.request.options.struct_size = sizeof(stn_options);
    }
    return spec;
}

/* ---- a device that counts what is allocated ----------------------------------------------- */

static const stn_backend *real;
static uint64_t allocated;

static int32_t counting_alloc(stn_device *device, uint64_t bytes, stn_buf **buf, stn_err *e) {
    allocated += bytes;
    return real->buf_alloc(device, bytes, buf, e);
}

typedef struct way {
    const char *backend, *option, *value;
} way;

typedef struct place {
    stn_ctx *ctx;
    stn_dev *dev;
    stn_backend counting;
} place;

static void open_way(const way *w, place *p) {
    stn_options options = {sizeof options, 1, &w->option, &w->value};
    stn_open_options open = {.plugin_path = STN_TEST_PLUGIN_DIR};
    cr_assert_eq(stn_open(&open, &p->ctx, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_dev_open(p->ctx, w->backend, NULL, &options, &p->dev, &err), STN_OK,
                 "%s %s: %s", w->backend, w->value, err.text);
    real = p->dev->backend;
    p->counting = *real;
    p->counting.buf_alloc = counting_alloc;
    p->dev->backend = &p->counting;
}

static void close_way(place *p) {
    stn_dev_close(p->dev);
    stn_close(p->ctx);
}

static int32_t open_net(const place *p, const stn_model *model, const stn_net_spec *spec,
                        stn_net **net) {
    allocated = 0;
    return spec->model == NULL ? stn__net_open(p->dev, model, spec, net, &err)
                               : stn_net_open(p->ctx, p->dev, spec, net, &err);
}

/* ---- what a net gives --------------------------------------------------------------------- */

typedef struct outcome {
    uint8_t *bytes;
    uint64_t size;
} outcome;

static void *more(outcome *o, uint64_t size) {
    o->bytes = realloc(o->bytes, o->size + size);
    cr_assert_neq(o->bytes, NULL);
    o->size += size;
    return memset(o->bytes + o->size - size, 0, size);
}

static void batch(uint32_t number, const stn_net_spec *spec, uint8_t *images, int32_t *labels) {
    uint32_t pixels = spec->request.channels * spec->request.height * spec->request.width;
    for (uint32_t i = 0; i < BATCH * pixels; i++) {
        images[i] = (uint8_t)((i * 2654435761u + number * 40503u) >> 24);
    }
    for (uint32_t i = 0; i < BATCH * spec->request.heads; i++) {
        labels[i] = (int32_t)((i + number) % spec->request.classes);
    }
}

static void run(stn_net *net, const stn_net_spec *spec, uint32_t step, uint32_t count, bool eval,
                outcome *o) {
    static uint8_t images[BATCH * MAX_PIXELS];
    static int32_t labels[BATCH * TINY_HEADS];
    batch(step, spec, images, labels);
    stn_net_step_args args = {images, labels, count, 0.05, step, 11};
    stn_step_result result;
    uint32_t n = 0;
    int32_t *pred = more(o, (uint64_t)count * spec->request.heads * sizeof *pred);
    int32_t status =
        eval ? stn_net_eval_step(net, &args, &err) : stn_net_train_step(net, &args, &err);
    cr_assert_eq(status, STN_OK, "%s", err.text);
    cr_assert_eq(stn_net_collect(net, &result, &n, pred, &err), STN_OK, "%s", err.text);
    cr_assert_eq(n, 1);
    cr_assert_eq(result.count, count);
    memcpy(more(o, sizeof result.loss), &result.loss, sizeof result.loss);
    memcpy(more(o, sizeof result.wrong), &result.wrong, sizeof result.wrong);
}

static void read_mark(stn_net *net, const char *name, outcome *o) {
    uint32_t index;
    stn_value_info info;
    if (stn_net_value_find(net, true, name, &index) != STN_OK) {
        return;
    }
    cr_assert_eq(stn_net_value_get(net, true, index, &info), STN_OK);
    cr_assert_eq(info.tensor.dim[0], BATCH);
    info.tensor.layout = STN_NCHW;
    void *data = more(o, stn_tensor_bytes(&info.tensor));
    cr_assert_eq(stn_net_value_read(net, true, index, data, &err), STN_OK, "%s", err.text);
}

/* Steps of full and of short batches, an evaluation, the state. */
static outcome gather(stn_net *net, const stn_net_spec *spec) {
    static const uint32_t counts[STEPS] = {BATCH, 4, BATCH - 5};
    outcome o = {0};
    cr_assert_eq(stn_net_init(net, 3, &err), STN_OK, "%s", err.text);
    for (uint32_t i = 0; i < STEPS; i++) {
        run(net, spec, i, counts[i], false, &o);
    }
    run(net, spec, STEPS, BATCH, true, &o);
    read_mark(net, "theta1", &o);
    read_mark(net, "features", &o);
    for (uint32_t i = 0; i < stn_net_state_count(net); i++) {
        stn_state_info info;
        cr_assert_eq(stn_net_state_get(net, i, &info), STN_OK);
        float *data = more(&o, info.elems * sizeof *data);
        cr_assert_eq(stn_net_state_read(net, i, data, &err), STN_OK, "%s", err.text);
    }
    return o;
}

/* ---- the same for every limit ------------------------------------------------------------- */

/* Lowers the limit by what each plan needs until a shard does not fit. Returns how many plans there
 * were; *most: the largest number of micro-batches. */
static uint32_t lower(const place *p, const way *w, const stn_model *model, stn_net_spec spec,
                      const outcome *want, uint64_t limit, uint32_t *most) {
    stn_net *net = NULL;
    uint32_t plans = 0;
    *most = 1;
    for (spec.mem_limit = limit; open_net(p, model, &spec, &net) == STN_OK; plans++) {
        stn_net_memory memory;
        stn_net_memory_get(net, &memory);
        cr_assert_eq(memory.total, allocated);
        cr_assert_leq(allocated, spec.mem_limit);
        cr_assert_gt(memory.micro_batches, *most);
        *most = memory.micro_batches;
        outcome got = gather(net, &spec);
        cr_assert_eq(got.size, want->size);
        cr_expect_eq(memcmp(got.bytes, want->bytes, got.size), 0, "%s %s: %u micro-batches differ",
                     w->backend, w->value, memory.micro_batches);
        free(got.bytes);
        stn_net_close(net);
        spec.mem_limit = memory.total - 1;
    }
    cr_assert_eq(err.code, STN_E_NOMEM, "%s", err.text);
    cr_assert(strstr(err.text, "even a shard of 3 images") != NULL, "%s", err.text);
    return plans;
}

static void check(const char *network, const stn_model *model) {
    static const way ways[] = {
        {"cpu", "cpu-kernels", "ref"},
        {"cpu", "cpu-kernels", "auto"},
        {"opencl", "device-class", "cpu-vector"},
        {"opencl", "device-class", "gpu"},
    };
    stn_net_spec spec = spec_of(network);
    outcome want = {0};
    for (uint32_t i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        place p;
        stn_net *net = NULL;
        stn_net_memory memory;
        uint32_t most;
        open_way(&ways[i], &p);
        cr_assert_eq(open_net(&p, model, &spec, &net), STN_OK, "%s", err.text);
        stn_net_memory_get(net, &memory);
        cr_assert_eq(memory.micro_batches, 1);
        if (i == 0) {
            want = gather(net, &spec);
        }
        stn_net_close(net);
        uint32_t plans = lower(&p, &ways[i], model, spec, &want, memory.total - 1, &most);
        cr_assert_geq(plans, 2, "%s %s", ways[i].backend, ways[i].value);
        /* In small networks the sums of eight parts may take more than smaller maps save. */
        cr_assert_geq(most, SHARDS / 2, "%s %s: %u", ways[i].backend, ways[i].value, most);
        close_way(&p);
    }
    free(want.bytes);
}

Test(micro_batches, every_layer) {
    check(NULL, &plain);
}

Test(micro_batches, faint_gradients) {
    check(NULL, &faint);
}

Test(micro_batches, sl1) {
    check("sl1", NULL);
}

Test(micro_batches, cnn) {
    check("cnn", NULL);
}

/* ---- refusals ----------------------------------------------------------------------------- */

static void refuse(const place *p, const stn_model *model, const stn_net_spec *spec,
                   const char *why) {
    stn_net *net = NULL;
    cr_assert_eq(open_net(p, model, spec, &net), STN_E_NOMEM, "%s", err.text);
    cr_assert_eq(net, NULL);
    cr_assert_eq(allocated, 0);
    cr_assert(strstr(err.text, why) != NULL, "%s", err.text);
    cr_assert(strchr(err.text, '\n') == NULL && strstr(err.text, "; allow ") != NULL, "%s",
              err.text);
}

/* Bytes that a net needs whole. */
static uint64_t whole_bytes(const place *p, const stn_model *model, const stn_net_spec *spec) {
    stn_net *net = NULL;
    stn_net_memory memory;
    cr_assert_eq(open_net(p, model, spec, &net), STN_OK, "%s", err.text);
    stn_net_memory_get(net, &memory);
    stn_net_close(net);
    return memory.total;
}

Test(micro_batches, refused) {
    static const way cpu = {"cpu", "cpu-kernels", "ref"};
    place p;
    open_way(&cpu, &p);
    stn_net *net = NULL;
    stn_net_spec spec = spec_of(NULL);
    uint64_t whole = whole_bytes(&p, &tiny_model, &spec);
    spec.mem_limit = whole - 1;
    refuse(&p, &tiny_model, &spec, "training batch norm");
    spec.mem_limit = whole; /* what fits is not split */
    cr_assert_eq(open_net(&p, &tiny_model, &spec, &net), STN_OK, "%s", err.text);
    stn_net_close(net);
    spec.mem_limit = 1 << 16;
    spec.keep_values = true;
    refuse(&p, &plain, &spec, "values are to be kept");
    spec.keep_values = false;
    refuse(&p, &plain, &spec, "even a shard of 3 images");
    p.dev->entry.info.capabilities &= ~(uint64_t)STN_CAP_MICRO_BATCHES;
    refuse(&p, &plain, &spec, "too old");
    close_way(&p);
}

/* Plans that were tried leave nothing behind, whatever fails. */
Test(micro_batches, every_failing_allocation_is_reported) {
    static const way cpu = {"cpu", "cpu-kernels", "ref"};
    place p;
    open_way(&cpu, &p);
    stn_net *net = NULL;
    stn_net_spec spec = spec_of(NULL);
    uint64_t whole = whole_bytes(&p, &plain, &spec);
    spec.mem_limit = whole - 1;
    uint64_t live = stn__alloc_live();
    int64_t k = 0;
    for (int32_t status = STN_E_NOMEM; status != STN_OK; k++) {
        stn__alloc_fail_after(k);
        status = open_net(&p, &plain, &spec, &net);
        stn__alloc_fail_after(-1);
        cr_assert(status == STN_OK || status == STN_E_NOMEM, "allocation %lld: %s", (long long)k,
                  err.text);
        stn_net_close(net);
        cr_assert_eq(stn__alloc_live(), live, "allocation %lld leaks", (long long)k);
    }
    cr_assert_gt(k, 100);
    close_way(&p);
}
