/* safetensors: round trip, deterministic bytes, and files that must be refused. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <stn/stn.h>

#include "base/file.h"
#include "base/mem.h"
#include "ckpt/bytes.h"

static char path[256];

static void set_up(void) {
    (void)snprintf(path, sizeof path, "%s/st-%ld.safetensors", STN_TEST_BINARY_DIR, (long)getpid());
}

static void tear_down(void) {
    stn__alloc_fail_after(-1);
    (void)unlink(path);
}

TestSuite(safetensors, .init = set_up, .fini = tear_down);

/* A file from its header text and `size` data bytes 0, 1, 2 ... Free with free. */
static uint8_t *make(const char *header, uint64_t size, uint64_t *total) {
    uint64_t length = strlen(header);
    uint8_t *bytes = malloc(8 + length + size + 1);
    stn__put_u64(bytes, length);
    memcpy(bytes + 8, header, length);
    for (uint64_t i = 0; i < size; i++) {
        bytes[8 + length + i] = (uint8_t)i;
    }
    *total = 8 + length + size;
    return bytes;
}

static int32_t parse(const char *header, uint64_t size, stn_tensors **file, stn_err *err) {
    uint64_t total;
    uint8_t *bytes = make(header, size, &total);
    int32_t status = stn_tensors_parse(bytes, total, "t", file, err);
    free(bytes);
    return status;
}

Test(safetensors, round_trip) {
    static const float f[4] = {1.5f, -0.0f, 3e-9f, -7.0f};
    static const double d[2] = {0.1, -1e300};
    static const int64_t l[1] = {-5};
    static const int32_t i[3] = {1, -2, 3};
    static const uint8_t u[5] = {0, 1, 2, 254, 255};
    const stn_tensor_entry in[6] = {
        {.name = "u", .dtype = STN_ST_U8, .rank = 1, .dim = {5}, .elems = 5, .data = u},
        {.name = "z", .dtype = STN_ST_F32, .rank = 2, .dim = {2, 2}, .elems = 4, .data = f},
        {.name = "d", .dtype = STN_ST_F64, .rank = 1, .dim = {2}, .elems = 2, .data = d},
        {.name = "i\"\n", .dtype = STN_ST_I32, .rank = 1, .dim = {3}, .elems = 3, .data = i},
        {.name = "l", .dtype = STN_ST_I64, .rank = 0, .elems = 1, .data = l},
        {.name = "none", .dtype = STN_ST_F32, .rank = 2, .dim = {0, 7}, .elems = 0, .data = f},
    };
    const char *const metadata[] = {"made by", "a test", "b", "", NULL};
    stn_err err = {0};
    stn_tensors *file;
    cr_assert_eq(stn_tensors_write(path, in, 6, metadata, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_tensors_open(path, &file, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_tensors_count(file), 6);
    static const uint32_t width[] = {4, 8, 8, 4, 1};
    for (int k = 0; k < 6; k++) {
        stn_tensor_entry e;
        cr_assert_eq(stn_tensors_find(file, in[k].name, &e), STN_OK, "%s", in[k].name);
        cr_assert(e.dtype == in[k].dtype && e.rank == in[k].rank && e.elems == in[k].elems);
        cr_assert_eq(memcmp(e.dim, in[k].dim, e.rank * sizeof e.dim[0]), 0);
        cr_assert_eq(memcmp(e.data, in[k].data, e.elems * width[e.dtype]), 0, "%s", in[k].name);
        cr_assert_eq((uintptr_t)e.data % 8, 0);
    }
    const char *last = "";
    for (uint32_t k = 0; k < 6; k++) {
        stn_tensor_entry e;
        cr_assert_eq(stn_tensors_get(file, k, &e), STN_OK);
        cr_assert_gt(strcmp(e.name, last), 0);
        last = e.name;
    }
    stn_tensor_entry e;
    cr_assert_eq(stn_tensors_get(file, 6, &e), STN_E_NOTFOUND);
    cr_assert_eq(stn_tensors_find(file, "zz", &e), STN_E_NOTFOUND);
    cr_assert_str_eq(stn_tensors_metadata(file, "made by"), "a test");
    cr_assert_str_eq(stn_tensors_metadata(file, "b"), "");
    cr_assert_null(stn_tensors_metadata(file, "a"));
    stn_tensors_close(file);
    stn_tensors_close(NULL);
}

Test(safetensors, bytes_do_not_depend_on_the_order_given) {
    static const float f[2] = {1, 2};
    static const uint8_t u[3] = {3, 4, 5};
    stn_tensor_entry in[3] = {
        {.name = "a", .dtype = STN_ST_U8, .rank = 1, .dim = {3}, .elems = 3, .data = u},
        {.name = "c", .dtype = STN_ST_F32, .rank = 1, .dim = {2}, .elems = 2, .data = f},
        {.name = "b", .dtype = STN_ST_F32, .rank = 1, .dim = {1}, .elems = 1, .data = f},
    };
    /* Wider elements first, then names; keys sorted; blanks up to a multiple of 8. */
    static const char want[] =
        "\xa8\0\0\0\0\0\0\0"
        "{\"a\":{\"data_offsets\":[12,15],\"dtype\":\"U8\",\"shape\":[3]},"
        "\"b\":{\"data_offsets\":[0,4],\"dtype\":\"F32\",\"shape\":[1]},"
        "\"c\":{\"data_offsets\":[4,12],\"dtype\":\"F32\",\"shape\":[2]}}      "
        "\0\0\x80\x3f\0\0\x80\x3f\0\0\0\x40\x03\x04\x05";
    char *bytes;
    uint64_t size;
    stn_err err = {0};
    for (int turn = 0; turn < 2; turn++) {
        cr_assert_eq(stn_tensors_write(path, in, 3, NULL, &err), STN_OK, "%s", err.text);
        cr_assert_eq(stn__file_read(path, 1000, &bytes, &size, &err), STN_OK);
        cr_assert_eq(size, sizeof want - 1, "%llu bytes", (unsigned long long)size);
        cr_assert_eq(memcmp(bytes, want, size), 0);
        stn__free(bytes);
        stn_tensor_entry swap = in[0];
        in[0] = in[2];
        in[2] = swap;
    }
}

Test(safetensors, accepted_oddities) {
    static const struct {
        const char *header;
        uint64_t size;
        uint32_t n;
    } cases[] = {
        {"{}", 0, 0},
        {"{}      ", 0, 0},
        {"{\"__metadata__\":{}}", 0, 0},
        {"{\"a\":{\"dtype\":\"BF16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 4, 1},
        /* an odd offset: legal, and the reader aligns */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[1,5]}}",
         5, 2},
        /* empty tensors share places with others */
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
         "\"b\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"c\":{\"dtype\":\"F32\",\"shape\":[5,0],\"data_offsets\":[1,1]}}",
         1, 3},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stn_tensors *file;
        stn_err err = {0};
        cr_assert_eq(parse(cases[i].header, cases[i].size, &file, &err), STN_OK, "%s", err.text);
        cr_assert_eq(stn_tensors_count(file), cases[i].n);
        for (uint32_t k = 0; k < cases[i].n; k++) {
            stn_tensor_entry e;
            cr_assert_eq(stn_tensors_get(file, k, &e), STN_OK);
            cr_assert_eq((uintptr_t)e.data % 16, 0);
        }
        stn_tensors_close(file);
    }
}

#define TENSOR(name, dtype, shape, from, to)                                                       \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[" from "," to "]" \
    "}"

Test(safetensors, refused) {
    static const struct {
        const char *header;
        uint64_t size;
        const char *text;
    } cases[] = {
        {"", 0, "header"},
        {"[]", 0, "not a JSON object"},
        {"7", 0, "header"},
        {"{", 0, "header"},
        {"{}x", 0, "header"},
        {"{\"a\":NaN}", 0, "header"},
        {"{\"a\":1}", 0, "exactly dtype"},
        {"{}", 1, "1 bytes belong to no tensor"},
        {"{" TENSOR("a", "F32", "[2]", "0", "8") "}", 7, "outside of the 7"},
        {"{" TENSOR("a", "F32", "[2]", "0", "8") "}", 9, "1 bytes belong to no tensor"},
        {"{" TENSOR("a", "F32", "[2]", "8", "0") "}", 8, "outside"},
        {"{" TENSOR("a", "F32", "[3]", "0", "8") "}", 8, "8 bytes stored, its shape needs 12"},
        {"{" TENSOR("a", "F64", "[2]", "0", "8") "}", 8, "its shape needs 16"},
        {"{" TENSOR("a", "F31", "[2]", "0", "8") "}", 8, "unknown dtype F31"},
        {"{" TENSOR("a", "F32", "[-2]", "0", "8") "}", 8, "no size"},
        {"{" TENSOR("a", "F32", "[2.0]", "0", "8") "}", 8, "no size"},
        {"{" TENSOR("a", "F32", "2", "0", "8") "}", 8, "shape is not a list"},
        {"{" TENSOR("a", "F32", "[1,1,1,1,1,1,1,1,2]", "0", "8") "}", 8, "at most 8"},
        {"{" TENSOR("a", "F32", "[4294967296,4294967296]", "0", "8") "}", 8, "too large"},
        {"{" TENSOR("a", "F32", "[4611686018427387904,2]", "0", "0") "}", 8, "too large"},
        {"{" TENSOR("a", "F32", "[99999999999999999999]", "0", "8") "}", 8, "header"},
        {"{" TENSOR("a", "F32", "[2]", "-1", "7") "}", 8, "not two sizes"},
        {"{" TENSOR("a", "F32", "[2]", "0.0", "8") "}", 8, "not two sizes"},
        {"{" TENSOR("a", "F32", "[2]", "4", "12") "}", 12, "leaves a gap"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "8", "12") "}", 12,
         "leaves a gap"},
        {"{" TENSOR("a", "F32", "[2]", "0", "8") "," TENSOR("b", "F32", "[2]", "4", "12") "}", 12,
         "overlaps"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "0", "4") "}", 4,
         "overlaps"},
        {"{" TENSOR("a", "F32", "[1]", "0", "4") "," TENSOR("a", "F32", "[1]", "4", "8") "}", 8,
         "header"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,1]}}", 1,
         "header"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "exactly dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":0}}", 1, "exactly"},
        {"{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,2]}}", 2, "not two sizes"},
        {"{\"__metadata__\":[]}", 0, "not an object"},
        {"{\"__metadata__\":{\"a\":1}}", 0, "metadata a is not a string"},
        {"{\"a\\u0000b\":{}}", 0, "header"},
        {"{\"a\\n\\u001b\":{}}", 0, "tensor a??: needs"},
        {"{\"a\nb\":{}}", 0, "header"},
        {"{\"\xff\":{}}", 0, "header"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stn_tensors *file = NULL;
        stn_err err = {0};
        int32_t status = parse(cases[i].header, cases[i].size, &file, &err);
        cr_assert(status == STN_E_FORMAT && file == NULL, "%s: status %d", cases[i].header, status);
        cr_assert(strstr(err.text, cases[i].text) != NULL && strchr(err.text, '\n') == NULL,
                  "%s: %s", cases[i].header, err.text);
    }
}

Test(safetensors, header_length) {
    static const uint64_t lengths[] = {3, 100000001, INT64_MAX, UINT64_MAX, UINT64_MAX - 7};
    stn_err err = {0};
    stn_tensors *file;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        uint64_t total;
        uint8_t *bytes = make("{}", 0, &total);
        stn__put_u64(bytes, lengths[i]);
        cr_assert_eq(stn_tensors_parse(bytes, total, "t", &file, &err), STN_E_FORMAT);
        for (uint64_t n = 0; n < 8; n++) {
            cr_assert_eq(stn_tensors_parse(bytes, n, "t", &file, &err), STN_E_FORMAT);
        }
        free(bytes);
    }
}

Test(safetensors, deep_nesting_is_refused) {
    const size_t depth = 1000000;
    char *header = malloc(depth + 1);
    memset(header, '[', depth);
    header[depth] = '\0';
    stn_tensors *file;
    stn_err err = {0};
    cr_assert_eq(parse(header, 0, &file, &err), STN_E_FORMAT);
    free(header);
}

Test(safetensors, writer_refuses) {
    static const float f[2] = {1, 2};
    const stn_tensor_entry good = {
        .name = "a", .dtype = STN_ST_F32, .rank = 1, .dim = {2}, .elems = 2, .data = f};
    stn_err err = {0};
    for (int i = 0; i < 7; i++) {
        stn_tensor_entry e[2] = {good, good};
        e[1].name = "b";
        if (i == 0) {
            e[1].name = "a";
        } else if (i == 1) {
            e[1].name = "";
        } else if (i == 2) {
            e[1].name = "__metadata__";
        } else if (i == 3) {
            e[1].name = "\xff";
        } else if (i == 4) {
            e[1].dtype = STN_ST_OTHER;
        } else if (i == 5) {
            e[1].elems = 3;
        } else {
            e[1].rank = 9;
        }
        cr_assert_eq(stn_tensors_write(path, e, 2, NULL, &err), STN_E_USAGE, "case %d", i);
        cr_assert_neq(access(path, F_OK), 0, "nothing may be written");
    }
}

Test(safetensors, out_of_memory_anywhere) {
    static const char header[] = "{\"__metadata__\":{\"k\":\"v\"}," TENSOR(
        "a", "F32", "[1]", "0", "4") "," TENSOR("b", "F32", "[1]", "4", "8") "}";
    const uint64_t live = stn__alloc_live();
    int32_t status = STN_E_NOMEM;
    for (int64_t k = 0; status != STN_OK; k++) {
        stn_tensors *file = NULL;
        stn_err err = {0};
        cr_assert_lt(k, 100);
        stn__alloc_fail_after(k);
        status = parse(header, 8, &file, &err);
        stn__alloc_fail_after(-1);
        cr_assert(status == STN_OK || (status == STN_E_NOMEM && file == NULL), "%d", status);
        stn_tensors_close(file);
        cr_assert_eq(stn__alloc_live(), live);
    }
}
