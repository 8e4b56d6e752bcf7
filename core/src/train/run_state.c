/* State of a run as a checkpoint: gathering, hashing, saving, loading.
 *
 * The canonical state is contract name, identity text, step, seed, Adam powers, data hash and the
 * tensors sorted by name; device and versions stand in the note, outside of the hash.
 */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/text.h"
#include "train/run.h"

static int32_t state_shapes(const stn_net *net, stn__snapshot *s, uint64_t *elems) {
    *elems = 0;
    for (uint32_t i = 0; i < s->n; i++) {
        stn_state_info info;
        STN_TRY(stn_net_state_get(net, i, &info));
        stn_ckpt_tensor *t = &s->tensors[i];
        t->name = info.name;
        t->role = info.role;
        t->rank = info.rank;
        memcpy(t->dim, info.dim, sizeof t->dim);
        t->elems = info.elems;
        *elems += info.elems;
    }
    return STN_OK;
}

static char *device_note(const stn_run *run) {
    const stn_device_entry *d = stn_dev_info(run->dev);
    char text[512];
    (void)snprintf(text, sizeof text, "stn %s; backend %s; device %s; driver %s; kernels %s",
                   stn_version(), d->backend, d->info.name, d->info.driver, d->info.variant);
    return stn__strdup(text);
}

int32_t stn__snapshot_take(stn_run *run, stn__snapshot *s, stn_err *err) {
    memset(s, 0, sizeof *s);
    s->n = stn_net_state_count(run->net);
    uint64_t elems = 0;
    int32_t status = STN_E_NOMEM;
    s->tensors = stn__calloc(s->n ? s->n : 1, sizeof *s->tensors);
    s->note = device_note(run);
    if (s->tensors == NULL || s->note == NULL) {
        goto out_of_memory;
    }
    status = state_shapes(run->net, s, &elems);
    if (status != STN_OK) {
        stn__snapshot_free(s);
        return stn_fail(err, status, "state of the net cannot be listed");
    }
    s->data = stn__calloc(elems ? elems : 1, sizeof *s->data);
    if (s->data == NULL) {
        status = STN_E_NOMEM;
        goto out_of_memory;
    }
    float *at = s->data;
    for (uint32_t i = 0; i < s->n && status == STN_OK; i++) {
        status = stn_net_state_read(run->net, i, at, err);
        s->tensors[i].data = at;
        at += s->tensors[i].elems;
    }
    if (status == STN_OK) {
        status = stn_net_adam_powers(run->net, s->info.adam_powers, false, err);
    }
    if (status != STN_OK) {
        stn__snapshot_free(s);
        return status;
    }
    s->info.contract = STN_CONTRACT;
    s->info.recipe = run->identity;
    s->info.model = stn_config_get(run->config, "model");
    s->info.network = stn_config_get(run->config, "network");
    s->info.note = s->note;
    s->info.step = run->step;
    s->info.seed = run->seed;
    s->info.data_hash = run->info.hash;
    s->info.n_tensors = s->n;
    s->info.not_reproducible = run->not_reproducible;
    return STN_OK;

out_of_memory:
    stn__snapshot_free(s);
    return stn_fail(err, status, "no memory for a copy of the state (%u tensors, %llu numbers)",
                    s->n, (unsigned long long)elems);
}

void stn__snapshot_free(stn__snapshot *s) {
    stn__free(s->tensors);
    stn__free(s->data);
    stn__free(s->note);
    memset(s, 0, sizeof *s);
}

int32_t stn_run_state_hash(stn_run *run, char hex[STN_HASH_HEX], stn_err *err) {
    stn__snapshot s;
    STN_TRY(stn__snapshot_take(run, &s, err));
    stn_state_hash(&s.info, s.tensors, s.n, hex);
    stn__snapshot_free(&s);
    return STN_OK;
}

int32_t stn_run_save(stn_run *run, const char *path, stn_err *err) {
    stn__snapshot s;
    STN_TRY(stn__snapshot_take(run, &s, err));
    int32_t status = stn_ckpt_write(path, &s.info, s.tensors, s.n, err);
    stn__snapshot_free(&s);
    return status;
}

/* The first line of the two identity texts that differs, for the message. */
static void first_difference(const char *ours, const char *theirs, char *text, size_t cap) {
    while (*ours != '\0' || *theirs != '\0') {
        size_t a = strcspn(ours, "\n"), b = strcspn(theirs, "\n");
        if (a != b || memcmp(ours, theirs, a) != 0) {
            (void)snprintf(text, cap, "run '%.*s', checkpoint '%.*s'", (int)a, ours, (int)b,
                           theirs);
            return;
        }
        ours += a + (ours[a] == '\n');
        theirs += b + (theirs[b] == '\n');
    }
    (void)snprintf(text, cap, "no line");
}

static int32_t check_fits(const stn_run *run, const char *path, const stn_ckpt_info *info,
                          stn_err *err) {
    if (strcmp(info->contract, STN_CONTRACT) != 0) {
        return stn_fail(err, STN_E_FORMAT, "%s: made under contract %s, this program runs %s", path,
                        info->contract, STN_CONTRACT);
    }
    if (strcmp(info->recipe, run->identity) != 0) {
        char text[160];
        first_difference(run->identity, info->recipe, text, sizeof text);
        return stn_fail(err, STN_E_USAGE, "%.80s: belongs to another run: %s", path, text);
    }
    if (info->seed != run->seed) {
        return stn_fail(err, STN_E_USAGE, "%s: seed %llu, this run has %llu", path,
                        (unsigned long long)info->seed, (unsigned long long)run->seed);
    }
    if (strcmp(info->data_hash, run->info.hash) != 0) {
        return stn_fail(err, STN_E_USAGE, "%.90s: trained on other data (%.12s..., here %.12s...)",
                        path, info->data_hash, run->info.hash);
    }
    return STN_OK;
}

/* Every tensor is matched before the first one is written, so a foreign file changes nothing. */
static int32_t check_tensors(const stn_run *run, const stn_ckpt *ckpt, const stn_ckpt_info *info,
                             const char *path, stn_err *err) {
    if (info->n_tensors != stn_net_state_count(run->net)) {
        return stn_fail(err, STN_E_USAGE, "%s: %u tensors, network %s has %u: another model", path,
                        info->n_tensors, stn_config_get(run->config, "network"),
                        stn_net_state_count(run->net));
    }
    for (uint32_t i = 0; i < info->n_tensors; i++) {
        stn_ckpt_tensor t;
        stn_state_info s;
        STN_TRY(stn_ckpt_tensor_get(ckpt, i, &t));
        STN_TRY(stn_net_state_get(run->net, i, &s));
        if (strcmp(t.name, s.name) != 0 || t.rank != s.rank ||
            memcmp(t.dim, s.dim, sizeof t.dim) != 0) {
            return stn_fail(err, STN_E_USAGE, "%s: tensor %s does not fit %s of network %s", path,
                            t.name, s.name, stn_config_get(run->config, "network"));
        }
    }
    return STN_OK;
}

static int32_t load_tensors(stn_run *run, const stn_ckpt *ckpt, const stn_ckpt_info *info,
                            stn_err *err) {
    for (uint32_t i = 0; i < info->n_tensors; i++) {
        stn_ckpt_tensor t;
        STN_TRY(stn_ckpt_tensor_get(ckpt, i, &t));
        STN_TRY(stn_net_state_write(run->net, i, t.data, err));
    }
    double powers[2] = {info->adam_powers[0], info->adam_powers[1]};
    return stn_net_adam_powers(run->net, powers, true, err);
}

int32_t stn_run_load(stn_run *run, const char *path, stn_err *err) {
    stn_ckpt *ckpt = NULL;
    STN_TRY(stn_ckpt_open(path, &ckpt, err));
    stn_ckpt_info info;
    stn_ckpt_info_get(ckpt, &info);
    int32_t status = check_fits(run, path, &info, err);
    if (status == STN_OK) {
        status = check_tensors(run, ckpt, &info, path, err);
    }
    if (status == STN_OK) {
        status = load_tensors(run, ckpt, &info, err);
    }
    if (status == STN_OK) {
        run->step = info.step;
        run->not_reproducible = run->not_reproducible || info.not_reproducible;
    }
    stn_ckpt_close(ckpt);
    return status;
}
