/* Networks of the study against their float64 goldens (PyTorch): logits, transforms, loss, every
 * gradient and the parameters after one optimizer step.
 *
 * A tensor's distance is max|ours - golden| / max|golden|; the tolerance is ten times the spread
 * that the golden file states (how far two honest float32 programs differ), at least 2e-6.
 * The files lie in $STN_GOLDENS; without it the tests are skipped.
 *
 * The sampler's derivative jumps where a coordinate is a whole pixel. Where a golden transform puts
 * one closer to that than the float32 numbers around it are apart, either side is right: then the
 * transform may be nudged by 2^-22, and all tensors must agree with one of both nudges.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <stn/stn.h>

#include "tiny_model.h"

typedef struct golden {
    char name[128];
    stn_tensors *file;
    double worst; /* distance of the worst tensor */
    char worst_name[160];
    stn_net *net;
} golden;

static stn_ctx *ctx;
static stn_dev *dev;
static stn_err err;

/* ---- golden files ------------------------------------------------------------------------- */

static stn_tensor_entry entry(const golden *g, const char *prefix, const char *name) {
    char key[200];
    stn_tensor_entry e;
    (void)snprintf(key, sizeof key, "%s%s", prefix, name);
    cr_assert_eq(stn_tensors_find(g->file, key, &e), STN_OK, "%s: no %s", g->name, key);
    return e;
}

static double at(const stn_tensor_entry *e, uint64_t i) {
    switch (e->dtype) {
    case STN_ST_F64:
        return ((const double *)e->data)[i];
    case STN_ST_F32:
        return (double)((const float *)e->data)[i];
    case STN_ST_I64:
        return (double)((const int64_t *)e->data)[i];
    default:
        cr_assert_fail("%s has an unexpected type", e->name);
        return 0;
    }
}

/* Value of a number in the JSON text of the file's metadata. */
static double info_number(const golden *g, const char *key) {
    const char *info = stn_tensors_metadata(g->file, "info");
    char want[40];
    (void)snprintf(want, sizeof want, "\"%s\":", key);
    const char *found = info != NULL ? strstr(info, want) : NULL;
    cr_assert_neq(found, NULL, "%s: metadata has no %s", g->name, key);
    return strtod(found + strlen(want), NULL);
}

/* Keeps the worst tensor, so that a failure shows how far all is off. */
static void measure(golden *g, const char *what, const char *name, double distance) {
    cr_assert(distance >= 0.0, "%s: %s%s is not a number", g->name, what, name);
    if (distance >= g->worst) {
        g->worst = distance;
        (void)snprintf(g->worst_name, sizeof g->worst_name, "%s%s: %.3g", what, name, distance);
    }
}

static void compare(golden *g, const char *prefix, const char *name, const float *ours,
                    uint64_t n) {
    stn_tensor_entry e = entry(g, prefix, name);
    double most = 0, far = 0;
    cr_assert_eq(e.elems, n, "%s: %s%s has %llu elements, ours %llu", g->name, prefix, name,
                 (unsigned long long)e.elems, (unsigned long long)n);
    for (uint64_t i = 0; i < n; i++) {
        most = fmax(most, fabs(at(&e, i)));
        far = fmax(far, fabs((double)ours[i] - at(&e, i)));
    }
    measure(g, prefix, name, most > 0 ? far / most : far);
}

/* ---- parameters by the generator of the full-width files ---------------------------------- */

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static void generate(uint64_t seed, const char *name, float bound, float *data, uint64_t n) {
    uint64_t hash = UINT64_C(0xCBF29CE484222325);
    for (const char *c = name; *c != '\0'; c++) {
        hash = (hash ^ (uint8_t)*c) * UINT64_C(0x100000001B3);
    }
    uint64_t key = mix(seed + hash);
    for (uint64_t i = 0; i < n; i++) {
        double k = (double)(mix(key + (i + 1) * UINT64_C(0x9E3779B97F4A7C15)) >> 40);
        data[i] = (float)((k - 0x1p23) / 0x1p23 * (double)bound);
    }
}

/* Inputs of a unit: of the weight itself, or of the weight beside a bias. */
static uint64_t fan_in(const golden *g, const stn_state_info *info) {
    char weight[128];
    uint32_t index;
    stn_state_info w;
    const char *dot = strrchr(info->name, '.');
    (void)snprintf(weight, sizeof weight, "%.*s.weight", (int)(dot - info->name), info->name);
    cr_assert_eq(stn_net_state_find(g->net, weight, &index), STN_OK);
    cr_assert_eq(stn_net_state_get(g->net, index, &w), STN_OK);
    return w.elems / w.dim[0];
}

/* ---- one network -------------------------------------------------------------------------- */

static void open_net(golden *g) {
    static const char *const variants[] = {"rotate", "scale", "translate"};
    const char *at_variant = strstr(g->name, "mnist_") + 6;
    char network[32];
    (void)snprintf(network, sizeof network, "%.*s", (int)strcspn(at_variant + 2, "."),
                   at_variant + 2);
    stn_tensor_entry input = entry(g, "", "input"), hyper = entry(g, "", "hyper");
    stn_net_spec spec = {.model = "mnist_stn",
                         .request = {.struct_size = sizeof(stn_model_request),
                                     .channels = (uint32_t)input.dim[1],
                                     .height = (uint32_t)input.dim[2],
                                     .width = (uint32_t)input.dim[3],
                                     .heads = 1,
                                     .classes = 10,
                                     .width_factor = info_number(g, "width"),
                                     .network = network,
                                     .variant = variants[strchr("rst", at_variant[0]) - "rst"],
                                     .options = {.struct_size = sizeof(stn_options)}},
                         .batch = (uint32_t)input.dim[0],
                         .shards = 16,
                         .input_dtype = STN_F32,
                         .mul = {1, 1, 1, 1},
                         .optimizer = STN_OPT_SGD,
                         .momentum = at(&hyper, 1),
                         .weight_decay = at(&hyper, 2),
                         .loc_rate = 1,
                         .keep_values = true};
    cr_assert_eq(stn_net_open(ctx, dev, &spec, &g->net, &err), STN_OK, "%s: %s", g->name, err.text);
    cr_assert_eq((double)stn_net_param_elems(g->net), info_number(g, "parameters"));
}

static float *buffer(uint64_t n) {
    float *data = malloc(n * sizeof *data);
    cr_assert_neq(data, NULL);
    return data;
}

static void load_parameters(golden *g, bool full) {
    for (uint32_t i = 0; i < stn_net_state_count(g->net); i++) {
        stn_state_info info;
        cr_assert_eq(stn_net_state_get(g->net, i, &info), STN_OK);
        if (info.role != 0) {
            continue;
        }
        float *data = buffer(info.elems);
        if (full) {
            stn_tensor_entry seed = entry(g, "", "seed");
            float bound = (float)(1.0 / sqrt((double)fan_in(g, &info)));
            generate((uint64_t)at(&seed, 0), info.name, bound, data, info.elems);
            stn_tensor_entry index = entry(g, "index.", info.name);
            stn_tensor_entry want = entry(g, "param_at.", info.name);
            for (uint64_t k = 0; k < index.elems; k++) {
                cr_assert_eq((double)data[(uint64_t)at(&index, k)], at(&want, k));
            }
        } else {
            stn_tensor_entry e = entry(g, "param.", info.name);
            cr_assert_eq(e.elems, info.elems);
            memcpy(data, e.data, info.elems * sizeof *data);
        }
        cr_assert_eq(stn_net_state_write(g->net, i, data, &err), STN_OK, "%s", err.text);
        free(data);
    }
}

static void run_step(golden *g) {
    stn_tensor_entry input = entry(g, "", "input"), label = entry(g, "", "label");
    stn_tensor_entry hyper = entry(g, "", "hyper"), loss = entry(g, "", "loss");
    int32_t labels[64];
    for (uint64_t i = 0; i < label.elems; i++) {
        labels[i] = (int32_t)at(&label, i);
    }
    stn_net_step_args args = {input.data, labels, (uint32_t)input.dim[0], at(&hyper, 0), 0, 0};
    stn_step_result result;
    uint32_t n;
    cr_assert_eq(stn_net_train_step(g->net, &args, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_net_collect(g->net, &result, &n, NULL, &err), STN_OK, "%s", err.text);
    measure(g, "", "loss", fabs(result.loss - at(&loss, 0)) / at(&loss, 0));
}

static float *read_value(golden *g, const char *name, uint64_t *n) {
    uint32_t index;
    stn_value_info info;
    cr_assert_eq(stn_net_value_find(g->net, false, name, &index), STN_OK, "%s: no value %s",
                 g->name, name);
    cr_assert_eq(stn_net_value_get(g->net, false, index, &info), STN_OK);
    info.tensor.layout = STN_NCHW;
    *n = stn_tensor_elems(&info.tensor);
    float *data = buffer(*n);
    cr_assert_eq(stn_net_value_read(g->net, false, index, data, &err), STN_OK, "%s", err.text);
    return data;
}

static void check_value(golden *g, const char *name) {
    uint64_t n;
    float *ours = read_value(g, name, &n);
    compare(g, "", name, ours, n);
    free(ours);
}

/* Full-width files hold samples of the gradient and its norm. */
static void compare_samples(golden *g, const char *prefix, const char *name, const float *ours,
                            uint64_t n) {
    stn_tensor_entry index = entry(g, "index.", name), want = entry(g, prefix, name);
    double most = 0, far = 0;
    for (uint64_t i = 0; i < n; i++) {
        most = fmax(most, fabs((double)ours[i]));
    }
    for (uint64_t k = 0; k < index.elems; k++) {
        far = fmax(far, fabs((double)ours[(uint64_t)at(&index, k)] - at(&want, k)));
    }
    measure(g, prefix, name, far / most);
}

static void compare_norm(golden *g, const char *name, const float *ours, uint64_t n) {
    stn_tensor_entry want = entry(g, "grad_norm.", name);
    double square = 0;
    for (uint64_t i = 0; i < n; i++) {
        square = fma((double)ours[i], (double)ours[i], square);
    }
    measure(g, "grad_norm.", name, fabs(sqrt(square) - at(&want, 0)) / at(&want, 0));
}

static void check_parameters(golden *g, bool full) {
    for (uint32_t i = 0; i < stn_net_state_count(g->net); i++) {
        stn_state_info info;
        char name[160];
        uint64_t n;
        cr_assert_eq(stn_net_state_get(g->net, i, &info), STN_OK);
        if (info.role != 0) {
            continue;
        }
        (void)snprintf(name, sizeof name, "grad %s", info.name);
        float *ours = read_value(g, name, &n), *after = buffer(info.elems);
        cr_assert_eq(stn_net_state_read(g->net, i, after, &err), STN_OK, "%s", err.text);
        if (full) {
            compare_samples(g, "grad_at.", info.name, ours, n);
            compare_norm(g, info.name, ours, n);
            compare_samples(g, "after_at.", info.name, after, info.elems);
        } else {
            compare(g, "grad.", info.name, ours, n);
            compare(g, "after.", info.name, after, info.elems);
        }
        free(ours);
        free(after);
    }
}

/* True if the golden transform puts a coordinate of the warped map within float32 spacing of a
 * whole pixel: `side` pixels sampled, `out` sampled points, corners aligned. */
static bool near_jump(const golden *g, double side, uint32_t out) {
    stn_tensor_entry theta = entry(g, "", "theta1");
    for (uint64_t row = 0; row < theta.elems / 3; row++) {
        for (uint32_t i = 0; i < out * out; i++) {
            double x = (2.0 * (i % out) + 1 - out) / (out - 1);
            double y = (2.0 * (i / out) + 1 - out) / (out - 1);
            double u =
                at(&theta, 3 * row) * x + at(&theta, 3 * row + 1) * y + at(&theta, 3 * row + 2);
            double p = (u + 1) / 2 * (side - 1);
            if (p > 0 && p < side - 1 &&
                fabs(p - rint(p)) < (double)nextafterf((float)p, 1e9f) - (double)(float)p) {
                return true;
            }
        }
    }
    return false;
}

/* True if a coordinate of the first transform lies within float32 spacing of a whole pixel. */
static bool may_nudge(const golden *g) {
    uint32_t index;
    stn_value_info info;
    if (stn_net_value_find(g->net, false, "warped1", &index) != STN_OK) {
        return false;
    }
    cr_assert_eq(stn_net_value_get(g->net, false, index, &info), STN_OK);
    uint32_t out = info.tensor.dim[2];
    return near_jump(g, strstr(g->name, "mnist_t_") != NULL ? 2.0 * out : out, out);
}

/* One step from the golden parameters, the transform's bias moved by `nudge`. */
static void attempt(golden *g, bool full, float nudge) {
    g->worst = 0;
    cr_assert_eq(stn_net_init(g->net, 0, &err), STN_OK, "%s", err.text);
    load_parameters(g, full);
    uint32_t index;
    if (nudge != 0.0f) {
        float bias[6];
        cr_assert_eq(stn_net_state_find(g->net, "loc.theta.bias", &index), STN_OK);
        cr_assert_eq(stn_net_state_read(g->net, index, bias, &err), STN_OK, "%s", err.text);
        bias[2] += nudge;
        bias[5] += nudge;
        cr_assert_eq(stn_net_state_write(g->net, index, bias, &err), STN_OK, "%s", err.text);
    }
    run_step(g);
    check_value(g, "logits");
    for (int i = 1; i <= (int)info_number(g, "thetas"); i++) {
        char theta[16];
        (void)snprintf(theta, sizeof theta, "theta%d", i);
        check_value(g, theta);
    }
    check_parameters(g, full);
}

static void check_file(const char *dir, const char *file) {
    golden g = {0};
    char path[1024];
    (void)snprintf(g.name, sizeof g.name, "%s", file);
    (void)snprintf(path, sizeof path, "%s/%s", dir, file);
    cr_assert_eq(stn_tensors_open(path, &g.file, &err), STN_OK, "%s", err.text);
    bool full = strncmp(file, "full_", 5) == 0;
    double tolerance = fmax(10 * info_number(&g, "error"), 2e-6);
    static const float nudges[] = {0.0f, -0x1p-22f, 0x1p-22f};
    open_net(&g);
    for (int i = 0; i < 3; i++) {
        attempt(&g, full, nudges[i]);
        (void)fprintf(stderr, "%-32s tolerance %.2g, nudge %g, worst %s\n", g.name, tolerance,
                      (double)nudges[i], g.worst_name);
        if (g.worst <= tolerance || !may_nudge(&g)) {
            break;
        }
    }
    cr_expect_leq(g.worst, tolerance, "%s: tolerance %.3g, worst %s", g.name, tolerance,
                  g.worst_name);
    stn_net_close(g.net);
    stn_tensors_close(g.file);
}

/* Checks every file with this prefix; returns how many there were. */
static uint32_t check_all(const char *kernels, const char *prefix) {
    const char *where = getenv("STN_GOLDENS");
    uint32_t n = 0;
    if (where == NULL) {
        cr_skip_test("STN_GOLDENS is not set");
    }
    DIR *dir = opendir(where);
    cr_assert_neq(dir, NULL, "no directory %s", where);
    dev = tiny_cpu(&ctx, kernels, "2");
    cr_assert_neq(dev, NULL);
    for (struct dirent *d = readdir(dir); d != NULL; d = readdir(dir)) {
        if (strncmp(d->d_name, prefix, strlen(prefix)) == 0) {
            check_file(where, d->d_name);
            n++;
        }
    }
    (void)closedir(dir);
    stn_dev_close(dev);
    stn_close(ctx);
    return n;
}

Test(net_goldens, small_ref) {
    cr_assert_eq(check_all("ref", "net_mnist_"), 10);
}

Test(net_goldens, small_auto) {
    cr_assert_eq(check_all("auto", "net_mnist_"), 10);
}

Test(net_goldens, full_width) {
    cr_assert_eq(check_all("auto", "full_mnist_"), 9);
}
