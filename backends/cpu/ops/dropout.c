/* DROPOUT and its gradient: the mask drawn anew, 16 blocks of four random words at a time.
 *
 * Random words are numbered by the elements in NCHW order. Operands in that order are drawn 256
 * elements at once and turned. In NC16 maps the lanes are channels: each draws the words of its own
 * plane, four pixels at a time; where a plane does not begin at word 0 of a block, the words of two
 * blocks are shifted against each other.
 */
#include "fast.h"

#define SPAN 16384u /* elements of a task, a multiple of 16 */

typedef struct dropout {
    const cpu_call *call;
    uint32_t key[2], c[3]; /* the counter behind its first word */
    uint32_t channels, pixels;
    uint32_t first; /* number of row 0 in the whole batch */
    uint64_t base;  /* elements of the batch before it */
    uint64_t total; /* elements of the rows that are real */
    float limit;
} dropout;

/* stn_philox of num.h: all four words of the blocks `block`. */
VEC void draw(const dropout *d, vi block, vi word[4]) {
    vi c0 = block, c1 = vi_set1((int32_t)d->c[0]), c2 = vi_set1((int32_t)d->c[1]),
       c3 = vi_set1((int32_t)d->c[2]);
    uint32_t k0 = d->key[0], k1 = d->key[1];
    for (uint32_t round = 0; round < 10; round++) {
        vi h0, h1;
        const vi l0 = vi_mul_wide(c0, 0xD2511F53u, &h0), l1 = vi_mul_wide(c2, 0xCD9E8D57u, &h1);
        c0 = vi_xor(vi_xor(h1, c1), vi_set1((int32_t)k0));
        c1 = l1;
        c2 = vi_xor(vi_xor(h0, c3), vi_set1((int32_t)k1));
        c3 = l0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    word[0] = c0;
    word[1] = c1;
    word[2] = c2;
    word[3] = c3;
}

static vi threshold(const dropout *d) {
    return vi_set1((int32_t)d->call->kernel->params.dropout.threshold);
}

VEC vf dropped(const dropout *d, vi word, vf x) {
    const vf scaled = v_mul(x, v_set1(d->call->kernel->params.dropout.scale));
    return v_keep_unless(vi_less(word, threshold(d)), v_snap(scaled, v_set1(d->limit)));
}

/* ---- in the order of the elements ----------------------------------------------------------- */

/* Words of 256 elements from `first` on, 16 to a vector. */
VEC void draw_run(const dropout *d, uint64_t first, vf word[LANES]) {
    static const int32_t four[LANES] = {0,  4,  8,  12, 16, 20, 24, 28,
                                        32, 36, 40, 44, 48, 52, 56, 60};
    for (uint32_t i = 0; i < 4; i++) {
        vi w[4];
        draw(d, vi_add(vi_load(four), vi_set1((int32_t)(first / 4 + i))), w);
        for (uint32_t j = 0; j < 4; j++) {
            word[4 * i + j] = vi_as_float(w[j]);
        }
    }
    v_transpose(word);
}

/* Runs begin at word 0 of a block; where the batch before does not end there, the first words of a
 * run are another's and a vector less is left. */
static void flat_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const dropout *d = user;
    const float *x = d->call->in[0];
    float *y = d->call->out[0];
    const uint64_t begin = (uint64_t)task * SPAN;
    const uint64_t end = d->total - begin < SPAN ? d->total : begin + SPAN;
    const uint32_t phase = d->base % 4, vectors = phase == 0 ? LANES : LANES - 1;
    vi seen = vi_set1(0);
    for (uint64_t at = begin; at < end;) {
        vf word[LANES];
        int32_t words[LANES * LANES];
        draw_run(d, d->base + at - phase, word);
        for (uint32_t i = 0; i < LANES; i++) {
            vi_store(words + i * LANES, vf_bits(word[i]));
        }
        for (uint32_t i = 0; i < vectors && at < end; i++, at += LANES) {
            const uint32_t n = (uint32_t)(end - at < LANES ? end - at : LANES);
            const vi own = vi_load(words + phase + i * LANES);
            const vf v = dropped(d, own, v_load_some(x + at, n));
            seen = v_seen(seen, v_keep(vm_first(n), v));
            v_store_some(y + at, v, n);
        }
    }
    flag_seen(d->call, seen);
}

/* ---- channels of a pixel -------------------------------------------------------------------- */

/* word[0 .. 3] become word[phase .. phase + 3] lane by lane, phase = odd + 2 * high. */
VEC void shift_words(vm odd, vm high, vi word[8]) {
    UNROLL
    for (uint32_t i = 0; i < 6; i++) {
        word[i] = vi_select(odd, word[i + 1], word[i]);
    }
    UNROLL
    for (uint32_t i = 0; i < 4; i++) {
        word[i] = vi_select(high, word[i + 2], word[i]);
    }
}

/* A task is one block of 16 channels of an image. */
static void blocked_task(void *user, uint32_t task, uint32_t thread) {
    (void)thread;
    const dropout *d = user;
    const uint32_t blocks = blocks_of(d->channels), first = task % blocks * LANES;
    const uint64_t at = (uint64_t)task * d->pixels * LANES;
    const float *x = (const float *)d->call->in[0] + at;
    float *y = (float *)d->call->out[0] + at;
    int32_t block[LANES], phase[LANES];
    for (uint32_t j = 0; j < LANES; j++) {
        const uint32_t plane = (d->first + task / blocks) * d->channels + first + j;
        const uint32_t element = plane * d->pixels;
        block[j] = (int32_t)(element / 4);
        phase[j] = (int32_t)(element % 4);
    }
    const vi one = vi_set1(1), two = vi_set1(2);
    const vm odd = vi_eq(vi_and(vi_load(phase), one), one);
    const vm high = vi_eq(vi_and(vi_load(phase), two), two);
    const bool aligned = d->pixels % 4 == 0;
    vi next[4], seen = vi_set1(0), counter = vi_load(block);
    draw(d, counter, next);
    for (uint32_t i = 0; i < d->pixels; i += 4) {
        vi word[8];
        UNROLL
        for (uint32_t k = 0; k < 4; k++) {
            word[k] = next[k];
        }
        counter = vi_add(counter, one);
        draw(d, counter, next);
        if (!aligned) {
            UNROLL
            for (uint32_t k = 0; k < 4; k++) {
                word[4 + k] = next[k];
            }
            shift_words(odd, high, word);
        }
        for (uint32_t k = 0; k < 4 && i + k < d->pixels; k++, x += LANES, y += LANES) {
            const vf v = dropped(d, word[k], v_load(x));
            seen = v_seen(seen, v);
            v_store(y, v);
        }
    }
    flag_seen(d->call, seen);
}

static void run_dropout(const cpu_call *call) {
    const stn_tensor *x = &call->kernel->in[0];
    const stn_step *step = call->step;
    const uint32_t rows = min_u32(cpu_rows(call), x->dim[0]);
    dropout d = {.call = call,
                 .key = {(uint32_t)step->seed, (uint32_t)(step->seed >> 32)},
                 .c = {STN_RNG_STREAM(STN_RNG_DROPOUT, call->kernel->params.dropout.id),
                       (uint32_t)step->step, (uint32_t)(step->step >> 32)},
                 .channels = x->dim[1],
                 .pixels = x->dim[2] * x->dim[3],
                 .first = step->first,
                 .limit = call->kernel->op == STN_OP_DROPOUT ? STN_LIM_X : STN_LIM_G};
    d.base = (uint64_t)d.first * d.channels * d.pixels;
    d.total = (uint64_t)rows * d.channels * d.pixels;
    if (x->layout == STN_NC16) {
        cpu_pool_run(call->pool, rows * blocks_of(d.channels), blocked_task, &d);
    } else {
        cpu_pool_run(call->pool, (uint32_t)((d.total + SPAN - 1) / SPAN), flat_task, &d);
    }
}

bool ISA(dropout)(const stn_kernel *k, uint32_t threads, cpu_impl *impl) {
    (void)threads;
    impl->run = run_dropout;
    return k->in[0].layout == k->out[0].layout && stn_tensor_elems(&k->in[0]) < UINT64_C(1) << 31;
}
