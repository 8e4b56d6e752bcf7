/* The loader, see batch.h.
 *
 * Ring of SLOTS batches: slot `head` is the next to hand out, `ready` slots from there on are
 * complete, the slot before `head` may be in the consumer's hands. Only the producer writes slots,
 * and only the one at head + ready; the mutex guards the fields named so. A seek raises
 * `generation`, and a batch finished under an older one is dropped.
 */
#define _POSIX_C_SOURCE 200809L
#include "data/batch.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include <stn/op.h>

#include "base/mem.h"
#include "base/rng.h"
#include "data/augment.h"

#define AHEAD 3u
#define SLOTS (AHEAD + 1u) /* one is with the consumer */
#define NO_PASS UINT64_MAX

typedef struct slot {
    stn__batch batch;
    uint8_t *images;
    int32_t *labels;
    uint32_t *sample;
    double *poses;
    int32_t status;
    stn_err err;
} slot;

struct stn__loader {
    stn__loader_spec spec;
    stn_data_info info;
    uint64_t steps;       /* of one pass */
    uint64_t row_elems;   /* channels * out_h * out_w */
    uint64_t row_bytes;   /* of one image in a batch */
    uint64_t image_bytes; /* of one image of the dataset */
    slot slots[SLOTS];

    /* The producer's alone. */
    uint32_t *order; /* permutation of pass `order_pass` */
    uint64_t order_pass;
    uint8_t *raw; /* [batch] images of the dataset, if it augments */
    stn__augmenter augmenter;

    pthread_mutex_t mutex;
    pthread_cond_t wake_producer, wake_consumer;
    pthread_t thread;
    bool started; /* the consumer's alone */
    /* Guarded by the mutex. */
    bool stop, held;
    uint32_t head, ready;
    uint64_t generation;
    uint64_t next_step; /* of the batch in slot head */
};

/* ---- making one batch ----------------------------------------------------------------------- */

static void choose_samples(stn__loader *l, uint64_t pass, uint64_t first, slot *s) {
    uint32_t n = l->info.count[l->spec.split];
    if (l->spec.shuffle && l->order_pass != pass) {
        stn__shuffle(l->spec.seed, (uint32_t)pass, l->order, n);
        l->order_pass = pass;
    }
    for (uint32_t i = 0; i < s->batch.count; i++) {
        uint32_t at = (uint32_t)first + i;
        s->sample[i] = l->spec.shuffle ? l->order[at] : at;
    }
}

static int32_t transform_samples(stn__loader *l, slot *s, stn_err *err) {
    stn_draw_key key = {.seed_lo = (uint32_t)l->spec.seed,
                        .seed_hi = (uint32_t)(l->spec.seed >> 32),
                        .split = l->spec.split,
                        .pass = s->batch.pass};
    float *out = (float *)(void *)s->images;
    for (uint32_t i = 0; i < s->batch.count; i++) {
        key.sample = s->sample[i];
        STN_TRY(stn__augmenter_run(&l->augmenter, &key, l->raw + i * l->image_bytes,
                                   out + i * l->row_elems, s->poses + 4u * (uint64_t)i, err));
    }
    return STN_OK;
}

static int32_t check_labels(const stn__loader *l, const slot *s, stn_err *err) {
    for (uint64_t i = 0; i < (uint64_t)s->batch.count * l->info.heads; i++) {
        if ((uint32_t)s->labels[i] >= l->info.classes) {
            return stn_fail(err, STN_E_FORMAT,
                            "label %d of image %u is not in 0..%u: the data "
                            "set is damaged",
                            s->labels[i], s->sample[i / l->info.heads], l->info.classes - 1);
        }
    }
    return STN_OK;
}

static int32_t make_batch(stn__loader *l, uint64_t step, slot *s, stn_err *err) {
    uint64_t pass = step / l->steps, first = step % l->steps * l->spec.batch;
    uint64_t left = l->info.count[l->spec.split] - first;
    if (pass > UINT32_MAX) {
        return stn_fail(err, STN_E_USAGE, "step %llu lies beyond 2^32 passes over the data",
                        (unsigned long long)step);
    }
    s->batch.step = step;
    s->batch.pass = (uint32_t)pass;
    s->batch.count = left < l->spec.batch ? (uint32_t)left : l->spec.batch;
    choose_samples(l, pass, first, s);
    uint8_t *target = l->info.augments != 0 ? l->raw : s->images;
    STN_TRY(l->spec.dataset->get(l->spec.data, l->spec.split, s->sample, s->batch.count, target,
                                 s->labels, err));
    STN_TRY(check_labels(l, s, err));
    if (l->info.augments != 0) {
        STN_TRY(transform_samples(l, s, err));
    }
    uint64_t used = s->batch.count * l->row_bytes;
    memset(s->images + used, 0, (size_t)(l->spec.batch * l->row_bytes - used));
    return STN_OK;
}

/* ---- the producer --------------------------------------------------------------------------- */

static void *produce(void *argument) {
    stn__loader *l = argument;
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        if (l->ready + (l->held ? 1u : 0u) >= SLOTS) {
            pthread_cond_wait(&l->wake_producer, &l->mutex);
            continue;
        }
        slot *s = &l->slots[(l->head + l->ready) % SLOTS];
        uint64_t step = l->next_step + l->ready, generation = l->generation;
        pthread_mutex_unlock(&l->mutex);
        s->status = make_batch(l, step, s, &s->err);
        pthread_mutex_lock(&l->mutex);
        if (generation == l->generation) {
            l->ready++;
            pthread_cond_signal(&l->wake_consumer);
        }
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* Signals stay with the threads of the program. */
static int32_t start(stn__loader *l, stn_err *err) {
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    int status = pthread_create(&l->thread, NULL, produce, l);
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (status != 0) {
        int32_t code =
            stn_fail(err, STN_E_FAIL, "cannot start the data thread: %s", strerror(status));
        if (err != NULL) {
            err->native = status;
        }
        return code;
    }
    l->started = true;
    return STN_OK;
}

/* ---- the consumer --------------------------------------------------------------------------- */

int32_t stn__loader_seek(stn__loader *l, uint64_t step, stn_err *err) {
    if (step / l->steps > UINT32_MAX) {
        return stn_fail(err, STN_E_USAGE, "step %llu lies beyond 2^32 passes over the data",
                        (unsigned long long)step);
    }
    pthread_mutex_lock(&l->mutex);
    bool failed = l->ready > 0 && l->slots[l->head].status != STN_OK;
    if (step != l->next_step || failed) {
        l->next_step = step;
        l->ready = 0;
        l->generation++;
        pthread_cond_signal(&l->wake_producer);
    }
    pthread_mutex_unlock(&l->mutex);
    return STN_OK;
}

int32_t stn__loader_next(stn__loader *l, stn__batch *batch, stn_err *err) {
    if (!l->started) {
        STN_TRY(start(l, err));
    }
    pthread_mutex_lock(&l->mutex);
    l->held = false;
    pthread_cond_signal(&l->wake_producer);
    while (l->ready == 0) {
        pthread_cond_wait(&l->wake_consumer, &l->mutex);
    }
    const slot *s = &l->slots[l->head];
    int32_t status = s->status;
    if (status == STN_OK) {
        *batch = s->batch;
        l->head = (l->head + 1) % SLOTS;
        l->ready--;
        l->next_step++;
        l->held = true;
    } else if (err != NULL) {
        *err = s->err;
    }
    pthread_mutex_unlock(&l->mutex);
    return status;
}

uint64_t stn__loader_steps(const stn__loader *l) {
    return l->steps;
}

uint32_t stn__loader_input_dtype(const stn__loader *l) {
    return l->info.augments != 0 ? STN_F32 : STN_U8;
}

/* ---- opening and closing -------------------------------------------------------------------- */

static int32_t check_info(const stn_data_info *info, stn_err *err) {
    const uint32_t limit = 1u << 14;
    bool sizes = info->src_h > 0 && info->src_w > 0 && info->out_h > 0 && info->out_w > 0 &&
                 info->src_h <= limit && info->src_w <= limit && info->out_h <= limit &&
                 info->out_w <= limit;
    bool same = info->src_h == info->out_h && info->src_w == info->out_w;
    if (!sizes || info->channels == 0 || info->channels > STN_MAX_CHANNELS || info->heads == 0 ||
        info->classes == 0 || (info->augments == 0 && !same)) {
        return stn_fail(err, STN_E_PLUGIN,
                        "the dataset describes images of %ux%ux%u (from %ux%u), %u heads, %u "
                        "classes: report this to the plugin's authors",
                        info->channels, info->out_h, info->out_w, info->src_h, info->src_w,
                        info->heads, info->classes);
    }
    return STN_OK;
}

static int32_t check_spec(const stn__loader_spec *spec, stn_err *err) {
    STN_TRY(check_info(spec->info, err));
    if (spec->split > STN_SPLIT_TEST || spec->batch == 0) {
        return stn_fail(err, STN_E_USAGE, "batch %u of split %u: the batch must be at least 1",
                        spec->batch, spec->split);
    }
    uint32_t n = spec->info->count[spec->split];
    if (n == 0 || n > 1u << 30) {
        return stn_fail(err, STN_E_FORMAT, "the %s split has %u images; 1 to 2^30 are possible",
                        spec->split == STN_SPLIT_TRAIN ? "training" : "test", n);
    }
    if (spec->shuffle && spec->batch > n) {
        return stn_fail(err, STN_E_USAGE,
                        "batch %u is larger than the data set (%u images): choose a smaller batch",
                        spec->batch, n);
    }
    return STN_OK;
}

static bool allocate_slot(const stn__loader *l, slot *s) {
    uint64_t n = l->spec.batch, bytes;
    s->images = stn__mul(n, l->row_bytes, &bytes) ? stn__alloc_aligned(bytes, 64) : NULL;
    s->labels = stn__calloc(n, l->info.heads * sizeof *s->labels);
    s->sample = stn__calloc(n, sizeof *s->sample);
    s->poses = stn__calloc(n, 4 * sizeof *s->poses);
    s->batch.images = s->images;
    s->batch.labels = s->labels;
    s->batch.sample = s->sample;
    s->batch.poses = s->poses;
    return s->images != NULL && s->labels != NULL && s->sample != NULL && s->poses != NULL;
}

static int32_t allocate(stn__loader *l, stn_err *err) {
    bool ok = true;
    for (uint32_t i = 0; i < SLOTS; i++) {
        ok = allocate_slot(l, &l->slots[i]) && ok;
    }
    if (l->spec.shuffle) {
        l->order = stn__calloc(l->info.count[l->spec.split], sizeof *l->order);
        ok = l->order != NULL && ok;
    }
    if (l->info.augments != 0) {
        l->raw = stn__calloc(l->spec.batch, l->image_bytes);
        ok = l->raw != NULL && ok;
    }
    if (!ok) {
        return stn__nomem(err, "the ring of batches", l->spec.batch * l->row_bytes * SLOTS);
    }
    if (l->info.augments != 0) {
        STN_TRY(stn__augmenter_open(&l->augmenter, l->spec.dataset, l->spec.data, &l->info, err));
    }
    return STN_OK;
}

int32_t stn__loader_open(const stn__loader_spec *spec, stn__loader **loader, stn_err *err) {
    *loader = NULL;
    STN_TRY(check_spec(spec, err));
    stn__loader *l = stn__calloc(1, sizeof *l);
    if (l == NULL) {
        return stn__nomem(err, "a data loader", sizeof *l);
    }
    l->spec = *spec;
    l->info = *spec->info;
    l->order_pass = NO_PASS;
    l->steps = ((uint64_t)l->info.count[spec->split] + spec->batch - 1) / spec->batch;
    l->row_elems = (uint64_t)l->info.channels * l->info.out_h * l->info.out_w;
    l->row_bytes = l->row_elems * (l->info.augments != 0 ? sizeof(float) : 1u);
    l->image_bytes = (uint64_t)l->info.channels * l->info.src_h * l->info.src_w;
    (void)pthread_mutex_init(&l->mutex, NULL);
    (void)pthread_cond_init(&l->wake_producer, NULL);
    (void)pthread_cond_init(&l->wake_consumer, NULL);
    int32_t status = allocate(l, err);
    if (status != STN_OK) {
        stn__loader_close(l);
        return status;
    }
    *loader = l;
    return STN_OK;
}

void stn__loader_close(stn__loader *l) {
    if (l == NULL) {
        return;
    }
    if (l->started) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        pthread_cond_signal(&l->wake_producer);
        pthread_mutex_unlock(&l->mutex);
        (void)pthread_join(l->thread, NULL);
    }
    for (uint32_t i = 0; i < SLOTS; i++) {
        stn__free(l->slots[i].images);
        stn__free(l->slots[i].labels);
        stn__free(l->slots[i].sample);
        stn__free(l->slots[i].poses);
    }
    stn__free(l->order);
    stn__free(l->raw);
    stn__augmenter_close(&l->augmenter);
    (void)pthread_cond_destroy(&l->wake_consumer);
    (void)pthread_cond_destroy(&l->wake_producer);
    (void)pthread_mutex_destroy(&l->mutex);
    stn__free(l);
}
