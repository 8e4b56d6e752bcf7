/* Nets that must not open: bad settings, and every allocation failing in turn. */
#include <criterion/criterion.h>

#include "base/mem.h"
#include "graph/net.h"
#include "tiny_model.h"

static stn_ctx *ctx;
static stn_dev *dev;
static stn_err err;

static void open_ref(void) {
    dev = tiny_cpu(&ctx, "ref", "1");
    cr_assert_neq(dev, NULL);
}

static void close_all(void) {
    stn_dev_close(dev);
    stn_close(ctx);
}

TestSuite(net_fail, .init = open_ref, .fini = close_all);

Test(net_fail, bad_specs_are_refused) {
    stn_net_spec good = tiny_spec(), bad[8];
    for (int i = 0; i < 8; i++) {
        bad[i] = good;
    }
    bad[0].batch = 0;
    bad[1].shards = 3;
    bad[2].input_dtype = STN_I32;
    bad[3].request.channels = STN_MAX_CHANNELS + 1;
    bad[4].momentum = 1.0;
    bad[5].optimizer = STN_OPT_ADAMW + 1;
    bad[6].optimizer = STN_OPT_ADAM;
    bad[6].eps = 0.0;
    bad[7].weight_decay = -1.0;
    for (int i = 0; i < 8; i++) {
        stn_net *net = NULL;
        cr_assert_eq(stn__net_open(dev, &tiny_model, &bad[i], &net, &err), STN_E_USAGE, "%d", i);
        cr_assert_eq(net, NULL);
    }
}

Test(net_fail, every_failing_allocation_is_reported) {
    stn_net_spec spec = tiny_spec();
    uint64_t live = stn__alloc_live();
    int64_t k = 0;
    for (;; k++) {
        stn_net *net = NULL;
        stn__alloc_fail_after(k);
        int32_t status = stn__net_open(dev, &tiny_model, &spec, &net, &err);
        stn__alloc_fail_after(-1);
        if (status == STN_OK) {
            stn_net_close(net);
            break;
        }
        cr_assert_eq(status, STN_E_NOMEM, "allocation %lld: %s", (long long)k, err.text);
        cr_assert_eq(net, NULL);
        cr_assert_eq(stn__alloc_live(), live, "allocation %lld leaks", (long long)k);
    }
    cr_assert_gt(k, 100);
    cr_assert_eq(stn__alloc_live(), live);
}
