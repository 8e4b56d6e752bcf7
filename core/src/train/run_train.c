/* The training loop: queues steps, collects results, reports, saves and evaluates.
 *
 * Steps are queued up to the net's depth and results are read back together, so the device never
 * waits for the host. Boundaries (save, evaluate, record, end) fall between two collections.
 */
#include "base/clock.h"
#include "train/run.h"
#include "train/schedule.h"

#define QUEUE_MAX 64u
#define REPORT_SECONDS 0.5

/* Sums over the steps since the last report or record. */
typedef struct tally {
    double loss;
    uint64_t steps, images, wrong;
} tally;

typedef struct session {
    stn_run *run;
    stn_progress_fn progress;
    void *user;
    uint64_t until;
    uint64_t save_every, eval_every, log_every; /* 0: never */
    tally report, record;
    double started, reported, recorded;
    bool stop;
} session;

double stn__seconds(void) {
    return 1e-9 * (double)stn__now_ns();
}

static void tally_add(tally *t, const stn_step_result *results, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        t->loss += results[i].loss;
        t->steps++;
        t->images += results[i].count;
        t->wrong += results[i].wrong;
    }
}

static stn_progress tally_progress(const session *s, const tally *t, double since) {
    const stn_run *run = s->run;
    double now = stn__seconds();
    double per_epoch = (double)stn__loader_steps(run->train_loader);
    stn_progress p = {
        .step = run->step,
        .total = run->length,
        .epoch = (double)run->step / per_epoch,
        .loss = t->steps ? t->loss / (double)t->steps : 0.0,
        .error_percent = t->images ? 100.0 * (double)t->wrong / (double)t->images : 0.0,
        .lr = stn__schedule_lr(run->config, run->step ? run->step - 1 : 0),
        .images_per_s = now > since ? (double)t->images / (now - since) : 0.0,
        .seconds = now - s->started,
    };
    return p;
}

static uint64_t next_multiple(uint64_t step, uint64_t every, uint64_t limit) {
    if (every == 0) {
        return limit;
    }
    uint64_t next = (step / every + 1) * every;
    return next < limit ? next : limit;
}

/* The step up to which work may be queued before something must happen. */
static uint64_t next_boundary(const session *s) {
    uint64_t step = s->run->step;
    uint64_t limit = next_multiple(step, s->save_every, s->until);
    limit = next_multiple(step, s->eval_every, limit);
    return next_multiple(step, s->log_every, limit);
}

static int32_t queue_step(stn_run *run, uint64_t step, stn_err *err) {
    stn__batch batch;
    STN_TRY(stn__loader_next(run->train_loader, &batch, err));
    stn_net_step_args args = {
        .images = batch.images,
        .labels = batch.labels,
        .count = batch.count,
        .lr = stn__schedule_lr(run->config, step),
        .step = step,
        .seed = run->seed,
    };
    return stn_net_train_step(run->net, &args, err);
}

/* Queues steps up to `limit` or the queue's depth and collects them. Steps finished before an error
 * count: the state is that of the last good one. */
static int32_t run_some(session *s, uint64_t limit, stn_err *err) {
    stn_run *run = s->run;
    uint32_t depth = stn_net_queue_depth(run->net), queued = 0, n = 0;
    depth = depth < QUEUE_MAX ? depth : QUEUE_MAX;
    int32_t status = STN_OK;
    while (status == STN_OK && queued < depth && run->step + queued < limit) {
        status = queue_step(run, run->step + queued, err);
        queued += status == STN_OK;
    }
    stn_step_result results[QUEUE_MAX];
    stn_err collect_err = {0};
    int32_t collected = stn_net_collect(run->net, results, &n, NULL, &collect_err);
    run->step += n;
    tally_add(&s->report, results, n);
    tally_add(&s->record, results, n);
    if (status == STN_OK && collected != STN_OK && err != NULL) {
        *err = collect_err;
    }
    return status != STN_OK ? status : collected;
}

static int32_t report(session *s, bool last) {
    double now = stn__seconds();
    if (s->progress == NULL || (!last && now - s->reported < REPORT_SECONDS)) {
        return STN_OK;
    }
    stn_progress p = tally_progress(s, &s->report, s->reported);
    s->report = (tally){0};
    s->reported = now;
    if (s->progress(s->user, &p) != 0) {
        s->stop = true;
    }
    return STN_OK;
}

static bool due(uint64_t step, uint64_t every) {
    return every != 0 && step % every == 0;
}

static int32_t at_boundary(session *s, stn_err *err) {
    stn_run *run = s->run;
    double test_error = -1.0;
    if (due(run->step, s->eval_every) && run->step < run->length) {
        stn_eval_result result;
        STN_TRY(stn_run_eval(run, STN_SPLIT_TEST, 1, NULL, NULL, &result, err));
        test_error = result.error_percent;
    }
    if (due(run->step, s->log_every) || test_error >= 0.0 || run->step == run->length) {
        stn_progress p = tally_progress(s, &s->record, s->recorded);
        s->record = (tally){0};
        s->recorded = stn__seconds();
        STN_TRY(stn__rundir_record(run, &p, test_error, err));
    }
    if (due(run->step, s->save_every)) {
        STN_TRY(stn__rundir_save(run, err));
    }
    return STN_OK;
}

int32_t stn_run_train(stn_run *run, uint64_t until, stn_progress_fn progress, void *user,
                      stn_err *err) {
    double now = stn__seconds();
    session s = {
        .run = run,
        .progress = progress,
        .user = user,
        .until = until == 0 || until > run->length ? run->length : until,
        .save_every = (uint64_t)stn_config_int(run->config, "save-every"),
        .eval_every = (uint64_t)stn_config_int(run->config, "eval-every"),
        .log_every = (uint64_t)stn_config_int(run->config, "log-every"),
        .started = now,
        .reported = now,
        .recorded = now,
    };
    STN_TRY(stn__loader_seek(run->train_loader, run->step, err));
    int32_t status = STN_OK;
    while (status == STN_OK && run->step < s.until && !s.stop) {
        uint64_t limit = next_boundary(&s);
        status = run_some(&s, limit, err);
        if (status == STN_OK && run->step == limit) {
            status = at_boundary(&s, err);
        }
        if (status == STN_OK) {
            status = report(&s, run->step >= s.until);
        }
    }
    /* What was trained is kept, whatever ended the loop; the first error is the one to report. */
    stn_err save_err = {0};
    int32_t saved = stn__rundir_save(run, &save_err);
    if (status == STN_OK && saved != STN_OK) {
        if (err != NULL) {
            *err = save_err;
        }
        return saved;
    }
    if (status == STN_OK && s.stop && run->step < s.until) {
        return stn_fail(err, STN_E_INTERRUPTED, "stopped after step %llu of %llu",
                        (unsigned long long)run->step, (unsigned long long)run->length);
    }
    return status;
}
