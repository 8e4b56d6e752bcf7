/* Golden files of goldens.h: one is open at a time, with the memory of its test. */
#include "goldens.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stn/stn.h>

static optest_dev dev;
static stn_tensors *file;
static double tolerance;
static uint32_t checked;

/* Memory of one test, released together. */
static void *kept[4096];
static uint32_t n_kept;

void *golden_keep(void *memory) {
    cr_assert_not_null(memory);
    cr_assert_lt(n_kept, 4096);
    return kept[n_kept++] = memory;
}

static void release(void) {
    while (n_kept > 0) {
        free(kept[--n_kept]);
    }
}

static const char *directory(void) {
    const char *dir = getenv("STN_GOLDENS");
    return dir != NULL ? dir : STN_TEST_SOURCE_DIR "/../shared/reference/goldens";
}

bool golden_open(const char *name) {
    char path[512], plugin[512];
    const char *options[] = {"threads", "2", "cpu-kernels", "ref", NULL};
    const stn_backend *backend;
    stn_err err = {0};
    (void)snprintf(path, sizeof path, "%s/%s.safetensors", directory(), name);
    if (access(path, R_OK) != 0) {
        printf("SKIP %s: no golden files (STN_GOLDENS)\n", name);
        return false;
    }
    cr_assert_eq(stn_tensors_open(path, &file, &err), STN_OK, "%s", err.text);
    cr_assert_eq(optest_load(optest_plugin_path("cpu", plugin, sizeof plugin), &backend, &err),
                 STN_OK, "%s", err.text);
    cr_assert_eq(optest_open(backend, 0, options, &dev, &err), STN_OK, "%s", err.text);
    const char *info = stn_tensors_metadata(file, "info");
    const char *spread = info == NULL ? NULL : strstr(info, "\"error\": ");
    cr_assert_not_null(spread, "%s tells no spread", path);
    tolerance = fmax(2e-6, 10.0 * strtod(spread + strlen("\"error\": "), NULL));
    checked = 0;
    return true;
}

void golden_close(uint32_t at_least) {
    cr_assert_geq(checked, at_least, "only %u tensors were compared", checked);
    optest_close(&dev);
    stn_tensors_close(file);
    release();
}

/* ---- tensors of a case ---------------------------------------------------------------------- */

bool golden_find(const char *c, const char *name, stn_tensor_entry *entry) {
    char key[160];
    (void)snprintf(key, sizeof key, "%s.%s", c, name);
    return stn_tensors_find(file, key, entry) == STN_OK;
}

static double element(const stn_tensor_entry *e, uint64_t i) {
    const uint8_t *at = (const uint8_t *)e->data + i * (e->dtype == STN_ST_F32 ? 4 : 8);
    float f;
    double d;
    int64_t k;
    memcpy(&f, at, 4);
    if (e->dtype == STN_ST_F32) {
        return (double)f;
    }
    memcpy(&d, at, 8);
    memcpy(&k, at, 8);
    return e->dtype == STN_ST_I64 ? (double)k : d;
}

double golden_number(const char *c, const char *name, uint64_t i) {
    stn_tensor_entry e;
    cr_assert(golden_find(c, name, &e) && i < e.elems, "%s.%s[%u]", c, name, (unsigned)i);
    return element(&e, i);
}

float *golden_values(const char *c, const char *name) {
    stn_tensor_entry e;
    cr_assert(golden_find(c, name, &e), "%s.%s is missing", c, name);
    float *v = golden_keep(malloc((e.elems + 1) * sizeof *v));
    for (uint64_t i = 0; i < e.elems; i++) {
        v[i] = (float)element(&e, i);
    }
    return v;
}

stn_tensor golden_shape(const char *c, const char *name) {
    stn_tensor_entry e;
    cr_assert(golden_find(c, name, &e), "%s.%s is missing", c, name);
    stn_tensor t = case_tensor(1, 1, 1, 1);
    for (uint32_t i = 0; i < e.rank && i < 4; i++) {
        t.dim[i] = (uint32_t)e.dim[i];
    }
    return t;
}

void golden_compare(const char *c, const char *name, const float *ours, uint64_t n, bool exact) {
    stn_tensor_entry e;
    double worst = 0.0, size = 0.0;
    cr_assert(golden_find(c, name, &e), "%s.%s is missing", c, name);
    cr_assert_eq(e.elems, n, "%s.%s has another size", c, name);
    for (uint64_t i = 0; i < n; i++) {
        double g = element(&e, i), d = fabs((double)ours[i] - g);
        worst = d > worst || isnan(d) ? (isnan(d) ? INFINITY : d) : worst;
        size = fmax(size, fabs(g));
        cr_expect(!exact || ours[i] == (float)g, "%s.%s[%u] is %a and must be exactly %a", c, name,
                  (unsigned)i, (double)ours[i], g);
    }
    double agreement = worst == 0.0 ? 0.0 : worst / size;
    cr_expect_leq(agreement, tolerance, "%s.%s agrees to %.3g only, tolerance %.3g", c, name,
                  agreement, tolerance);
    checked++;
}

void golden_run(const optest_case *c, const void *const *in, float **out) {
    optest_result result;
    stn_err err = {0};
    cr_assert_eq(optest_run_data(&dev, c, in, &result, &err), STN_OK, "operator %u: %s", c->op,
                 err.text);
    for (uint32_t i = 0; i < c->n_out; i++) {
        out[i] = golden_keep(result.out[i]);
    }
}

void golden_cases(void (*fn)(const char *c)) {
    char done[256][128];
    uint32_t n = 0;
    for (uint32_t i = 0; i < stn_tensors_count(file); i++) {
        stn_tensor_entry e;
        char name[128];
        cr_assert_eq(stn_tensors_get(file, i, &e), STN_OK);
        (void)snprintf(name, sizeof name, "%s", e.name);
        char *dot = strrchr(name, '.');
        cr_assert_not_null(dot);
        *dot = '\0';
        uint32_t k = 0;
        while (k < n && strcmp(done[k], name) != 0) {
            k++;
        }
        if (k == n) {
            cr_assert_lt(n, 256);
            memcpy(done[n++], name, sizeof name);
            fn(name);
        }
    }
}
