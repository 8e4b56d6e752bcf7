/* Checkpoint files: round trip, canonical bytes and hash, and every way a file can be damaged. */
#define _POSIX_C_SOURCE 200809L
#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <stn/stn.h>

#include "base/file.h"
#include "base/mem.h"
#include "ckpt/bytes.h"
#include "ckpt/format.h"

static const float weight[6] = {0.5f, -0.0f, 3.25f, -1e-9f, 1024.0f, 0.1f};
static const float bias[3] = {0.0f, 1.0f, -2.0f};
static const float mean[1] = {0.25f};

static const stn_ckpt_tensor tensors[4] = {
    {.name = "cls.weight", .role = 0, .rank = 2, .dim = {2, 3, 1, 1}, .elems = 6, .data = weight},
    {.name = "cls.bias", .role = 0, .rank = 1, .dim = {3, 1, 1, 1}, .elems = 3, .data = bias},
    {.name = "velocity.cls.bias", .role = 2, .rank = 1, .dim = {3}, .elems = 3, .data = bias},
    {.name = "bn.mean", .role = 1, .rank = 0, .dim = {1, 1, 1, 1}, .elems = 1, .data = mean},
};
static const stn_ckpt_info info = {
    .contract = STN_CONTRACT,
    .recipe = "batch = 256\nmodel = mnist_stn\nnetwork = sl1\n",
    .note = "made on a test bench",
    .step = 0x1122334455667788u,
    .seed = 7,
    .data_hash = "00ff",
    .adam_powers = {0.25, 0x1.5p-40},
    .not_reproducible = true,
};

static char path[256];

static void set_up(void) {
    (void)snprintf(path, sizeof path, "%s/ckpt-%ld.stn", STN_TEST_BINARY_DIR, (long)getpid());
}

static void tear_down(void) {
    stn__alloc_fail_after(-1);
    (void)unlink(path);
}

TestSuite(ckpt, .init = set_up, .fini = tear_down);

static void encode(uint8_t **bytes, uint64_t *size) {
    stn_err err = {0};
    cr_assert_eq(stn__ckpt_encode(&info, tensors, 4, bytes, size, &err), STN_OK, "%s", err.text);
}

Test(ckpt, round_trip) {
    stn_err err = {0};
    stn_ckpt *ckpt;
    cr_assert_eq(stn_ckpt_write(path, &info, tensors, 4, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_ckpt_open(path, &ckpt, &err), STN_OK, "%s", err.text);
    stn_ckpt_info got;
    stn_ckpt_info_get(ckpt, &got);
    cr_assert_eq(got.format, 1);
    cr_assert_str_eq(got.contract, info.contract);
    cr_assert_str_eq(got.recipe, info.recipe);
    cr_assert_str_eq(got.model, "mnist_stn");
    cr_assert_str_eq(got.network, "sl1");
    cr_assert_str_eq(got.note, info.note);
    cr_assert_str_eq(got.data_hash, info.data_hash);
    cr_assert_eq(got.step, info.step);
    cr_assert_eq(got.seed, info.seed);
    cr_assert_eq(got.n_tensors, 4);
    cr_assert(got.not_reproducible);
    cr_assert(got.adam_powers[0] == 0.25 && got.adam_powers[1] == 0x1.5p-40);
    char hash[STN_HASH_HEX];
    stn_state_hash(&info, tensors, 4, hash);
    cr_assert_str_eq(got.state_hash, hash);
    static const unsigned order[4] = {3, 1, 0, 2};
    stn_ckpt_tensor t;
    for (uint32_t i = 0; i < 4; i++) {
        const stn_ckpt_tensor *want = &tensors[order[i]];
        cr_assert_eq(stn_ckpt_tensor_get(ckpt, i, &t), STN_OK);
        cr_assert_str_eq(t.name, want->name);
        cr_assert(t.role == want->role && t.rank == want->rank && t.elems == want->elems);
        cr_assert_eq(memcmp(t.dim, want->dim, t.rank * sizeof t.dim[0]), 0);
        cr_assert_eq(memcmp(t.data, want->data, t.elems * sizeof(float)), 0);
    }
    cr_assert_neq(stn_ckpt_tensor_get(ckpt, 4, &t), STN_OK);
    stn_ckpt_close(ckpt);
    stn_ckpt_close(NULL);
}

Test(ckpt, order_of_tensors_does_not_matter) {
    stn_ckpt_tensor turned[4];
    uint8_t *a, *b;
    uint64_t na, nb;
    stn_err err = {0};
    char ha[STN_HASH_HEX], hb[STN_HASH_HEX];
    for (int i = 0; i < 4; i++) {
        turned[i] = tensors[3 - i];
    }
    encode(&a, &na);
    cr_assert_eq(stn__ckpt_encode(&info, turned, 4, &b, &nb, &err), STN_OK);
    cr_assert(na == nb && memcmp(a, b, na) == 0, "the same state gave different bytes");
    stn_state_hash(&info, tensors, 4, ha);
    stn_state_hash(&info, turned, 4, hb);
    cr_assert_str_eq(ha, hb);
    stn__free(a);
    stn__free(b);
}

/* The state hash is SHA-256 over a byte string that docs/checkpoint.md defines: a change of the
 * definition must be noticed. The digits come from a separate program that follows the document. */
Test(ckpt, state_hash_is_the_documented_one) {
    char hash[STN_HASH_HEX];
    stn_state_hash(&info, tensors, 4, hash);
    cr_expect_str_eq(hash, "d68ef4ce95c995f4f9399cae17cb95386e93ca86dd5e943cd64c744c9bf49a72");
}

Test(ckpt, every_part_of_the_state_is_hashed) {
    char base[STN_HASH_HEX], hash[STN_HASH_HEX];
    stn_state_hash(&info, tensors, 4, base);
    stn_ckpt_info changed[7];
    for (int i = 0; i < 7; i++) {
        changed[i] = info;
    }
    changed[0].contract = "stn-num/2";
    changed[1].recipe = "batch = 128\n";
    changed[2].step++;
    changed[3].seed++;
    changed[4].data_hash = "00fe";
    changed[5].adam_powers[0] = 0.5;
    changed[6].adam_powers[1] = 0.5;
    for (int i = 0; i < 7; i++) {
        stn_state_hash(&changed[i], tensors, 4, hash);
        cr_assert_str_neq(hash, base, "change %d", i);
    }
    stn_ckpt_tensor other[4];
    static const float data[6] = {0.5f, 0.0f, 3.25f, -1e-9f, 1024.0f, 0.1f}; /* -0 became +0 */
    for (int i = 0; i < 4; i++) {
        memcpy(other, tensors, sizeof other);
        if (i == 0) {
            other[0].data = data;
        } else if (i == 1) {
            other[0].name = "cls.weights";
        } else if (i == 2) {
            other[0].role = 1;
        } else {
            other[0].dim[0] = 3, other[0].dim[1] = 2;
        }
        stn_state_hash(&info, other, 4, hash);
        cr_assert_str_neq(hash, base, "tensor change %d", i);
    }
    stn_ckpt_info noted = info;
    noted.note = "another machine";
    noted.not_reproducible = false;
    stn_state_hash(&noted, tensors, 4, hash);
    cr_assert_str_eq(hash, base, "the note is no part of the state");
}

static void expect_refused(const uint8_t *bytes, uint64_t size, const char *what, uint64_t at) {
    stn_ckpt *ckpt = NULL;
    stn_err err = {0};
    int32_t status = stn__ckpt_decode(bytes, size, "file.stn", &ckpt, &err);
    cr_assert(status == STN_E_FORMAT && ckpt == NULL, "%s %llu: status %d", what,
              (unsigned long long)at, status);
    cr_assert(strncmp(err.text, "file.stn: ", 10) == 0 && strchr(err.text, '\n') == NULL, "%s",
              err.text);
}

Test(ckpt, every_flipped_bit_is_found) {
    uint8_t *bytes;
    uint64_t size;
    encode(&bytes, &size);
    for (uint64_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        expect_refused(bytes, size, "bit", bit);
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    stn__free(bytes);
}

Test(ckpt, every_cut_and_every_tail_is_found) {
    uint8_t *bytes;
    uint64_t size;
    encode(&bytes, &size);
    for (uint64_t n = 0; n < size; n++) {
        uint8_t *part = malloc(n + 1); /* an exact block, so that a sanitizer sees reads past it */
        memcpy(part, bytes, n);
        expect_refused(part, n, "cut", n);
        free(part);
    }
    uint8_t *longer = calloc(size + 5, 1);
    memcpy(longer, bytes, size);
    expect_refused(longer, size + 5, "tail", 5);
    free(longer);
    stn__free(bytes);
}

static void fix_header_hash(uint8_t *bytes) {
    char hex[STN_HASH_HEX];
    cr_assert_eq(stn__ckpt_header_hash(bytes, hex, NULL), STN_OK);
    stn__unhex(hex, bytes + STN__CKPT_HASHED);
}

/* Files whose hashes are right and whose contents are not. */
Test(ckpt, consistent_but_wrong_headers) {
    static const struct {
        uint32_t offset, value;
        const char *text;
    } cases[] = {
        {8, 2, "format 2 is newer than 1"},
        {8, 0xffffffffu, "format 4294967295 is newer than 1"},
        {8, 0, "damaged"},
        {12, 1, "reserved bits"},
        {20, 0x80000000u, "reserved bits"},
        {16, 8, "damaged"},
        {16, 0xffffffffu, "damaged"},
        {32, 0, "state hash"},
        {STN__CKPT_HEADER + 0, 0, "section 0 of the checkpoint is not adam"},
        {STN__CKPT_HEADER + 16, 0, "outside its place"},
        {STN__CKPT_HEADER + 28, 1, "outside its place"},
        {STN__CKPT_HEADER + 32, 17, "section adam claims 17 bytes"},
        {STN__CKPT_HEADER + 4 * STN__CKPT_ENTRY + 32, (1u << 20) + 1, "section recipe claims"},
        {STN__CKPT_HEADER + 7 * STN__CKPT_ENTRY + 32, 0x7fffffff, "tensor.data claims"},
        {STN__CKPT_HEADER + 7 * STN__CKPT_ENTRY + 36, 0x7fffffff, "tensor.data claims"},
        {STN__CKPT_HEADER + 7 * STN__CKPT_ENTRY + 32, 56, "tensor.data has 56 bytes"},
        {STN__CKPT_HEADER + 8 * STN__CKPT_ENTRY + 32, 200, "does not decompress"},
        {STN__CKPT_HEADER + 8 * STN__CKPT_ENTRY + 40, 0, "tensor.table is damaged"},
    };
    uint8_t *bytes;
    uint64_t size;
    encode(&bytes, &size);
    uint8_t *copy = malloc(size);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        stn_ckpt *ckpt = NULL;
        stn_err err = {0};
        memcpy(copy, bytes, size);
        stn__put_u32(copy + cases[i].offset, cases[i].value);
        fix_header_hash(copy);
        cr_assert_eq(stn__ckpt_decode(copy, size, "x", &ckpt, &err), STN_E_FORMAT, "case %zu", i);
        cr_assert(strstr(err.text, cases[i].text) != NULL, "case %zu: %s", i, err.text);
    }
    free(copy);
    stn__free(bytes);
}

Test(ckpt, foreign_files) {
    static const char *const files[] = {"", "x", "hello, this is no checkpoint of any kind",
                                        "\x89STN\r\n\x1a\n"};
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        expect_refused((const uint8_t *)files[i], strlen(files[i]), "file", i);
    }
    stn_ckpt *ckpt;
    stn_err err = {0};
    cr_assert_eq(stn_ckpt_open("/nonexistent/file.stn", &ckpt, &err), STN_E_NOTFOUND);
    cr_assert_null(ckpt);
}

Test(ckpt, writer_refuses_what_a_reader_would) {
    static float broken[6] = {0, 0, 0, 0, 0, 0};
    stn_ckpt_tensor t[4];
    stn_ckpt_info i = info;
    stn_err err = {0};
    broken[4] = NAN;
    memcpy(t, tensors, sizeof t);
    t[0].data = broken;
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_NONFINITE);
    cr_assert(strstr(err.text, "element 4 of tensor cls.weight") != NULL, "%s", err.text);
    broken[4] = -INFINITY;
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_NONFINITE);
    memcpy(t, tensors, sizeof t);
    t[1].name = "cls.weight";
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_USAGE);
    t[1].name = "bad name";
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_USAGE);
    t[1] = tensors[1];
    t[1].elems = 2;
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_USAGE);
    t[1] = tensors[1];
    t[1].role = 3;
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_USAGE);
    t[1].role = 0, t[1].dim[0] = 0, t[1].elems = 0;
    cr_assert_eq(stn_ckpt_write(path, &i, t, 4, &err), STN_E_USAGE);
    i.contract = "";
    cr_assert_eq(stn_ckpt_write(path, &i, tensors, 4, &err), STN_E_USAGE);
    i = info;
    i.adam_powers[1] = NAN;
    cr_assert_eq(stn_ckpt_write(path, &i, tensors, 4, &err), STN_E_NONFINITE);
    cr_assert_neq(access(path, F_OK), 0, "nothing may be written");
}

Test(ckpt, no_tensors_and_empty_texts) {
    const stn_ckpt_info bare = {.contract = "c"};
    stn_ckpt *ckpt;
    stn_ckpt_info got;
    stn_err err = {0};
    cr_assert_eq(stn_ckpt_write(path, &bare, NULL, 0, &err), STN_OK, "%s", err.text);
    cr_assert_eq(stn_ckpt_open(path, &ckpt, &err), STN_OK, "%s", err.text);
    stn_ckpt_info_get(ckpt, &got);
    cr_assert_str_empty(got.recipe);
    cr_assert_str_empty(got.model);
    cr_assert_str_empty(got.note);
    cr_assert_eq(got.n_tensors, 0);
    cr_assert(!got.not_reproducible);
    stn_ckpt_close(ckpt);
}

/* A disk that fills up, played by a limit on file sizes: the old checkpoint stays whole. */
Test(ckpt, full_disk_keeps_the_old_file) {
    static float noise[4096];
    stn_err err = {0};
    stn_ckpt *ckpt;
    stn_ckpt_info got;
    for (uint32_t i = 0; i < 4096; i++) {
        noise[i] = stn_uniform(stn_philox(1, 2, i, 3, 4, 5));
    }
    const stn_ckpt_tensor big = {
        .name = "noise", .rank = 1, .dim = {4096, 1, 1, 1}, .elems = 4096, .data = noise};
    cr_assert_eq(stn_ckpt_write(path, &info, tensors, 4, &err), STN_OK, "%s", err.text);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit old, small;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 8192;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    int32_t status = stn_ckpt_write(path, &info, &big, 1, &err);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    cr_assert_eq(status, STN_E_IO, "%s", err.text);
    cr_assert_eq(stn_ckpt_open(path, &ckpt, &err), STN_OK, "%s", err.text);
    stn_ckpt_info_get(ckpt, &got);
    cr_assert_eq(got.n_tensors, 4);
    stn_ckpt_close(ckpt);
}

Test(ckpt, out_of_memory_anywhere) {
    uint8_t *bytes, *again;
    uint64_t size, n;
    stn_err err = {0};
    encode(&bytes, &size);
    const uint64_t live = stn__alloc_live();
    int32_t status = STN_E_NOMEM;
    for (int64_t k = 0; status != STN_OK; k++) {
        stn_ckpt *ckpt = NULL;
        cr_assert_lt(k, 1000);
        stn__alloc_fail_after(k);
        status = stn__ckpt_decode(bytes, size, "x", &ckpt, &err);
        stn__alloc_fail_after(-1);
        cr_assert(status == STN_OK || (status == STN_E_NOMEM && ckpt == NULL), "%d", status);
        stn_ckpt_close(ckpt);
        cr_assert_eq(stn__alloc_live(), live);
    }
    status = STN_E_NOMEM;
    for (int64_t k = 0; status != STN_OK; k++) {
        cr_assert_lt(k, 1000);
        stn__alloc_fail_after(k);
        status = stn__ckpt_encode(&info, tensors, 4, &again, &n, &err);
        stn__alloc_fail_after(-1);
        cr_assert(status == STN_OK || (status == STN_E_NOMEM && again == NULL), "%d", status);
        stn__free(again);
        cr_assert_eq(stn__alloc_live(), live);
    }
    stn__free(bytes);
}
