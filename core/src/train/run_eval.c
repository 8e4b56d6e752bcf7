/* Evaluation: test error over passes with fresh transforms, and the spread of the final pose.
 *
 * Pose (experiments: "Spread of the final pose"): e = applied + predicted transform per image; the
 * spread is the root mean square of e minus its mean over the image's class. Predicted, from
 * theta = [a b tx; c d ty] (output to input): angle = -(180/pi) atan2(b-c, a+d), log2 area scale =
 * -log2(ad-bc), shift = (-tx, ty) * half range (x right, y up).
 */
#include <math.h>
#include <string.h>

#include "base/det_math.h"
#include "base/mem.h"
#include "train/run.h"

#define QUEUE_MAX 64u
#define POSE_CLASSES 256u

typedef enum pose_kind { POSE_NONE, POSE_ANGLE, POSE_SCALE, POSE_SHIFT } pose_kind;

/* Sums per class of e (up to two components) and of its square. */
typedef struct pose_sums {
    pose_kind kind;
    double half_x, half_y;
    uint32_t theta; /* index of the value "theta1" */
    uint64_t n[POSE_CLASSES];
    double sum[POSE_CLASSES][2], square[POSE_CLASSES];
} pose_sums;

/* One loader batch kept until its results are collected. */
typedef struct pending {
    uint32_t count;
    int32_t *labels;
    double *poses; /* 4 per image */
} pending;

static void pose_setup(stn_run *run, pose_sums *p) {
    memset(p, 0, sizeof *p);
    const char *distortion = stn_config_get(run->config, "dataset.distortion");
    uint32_t warped;
    if (distortion == NULL || run->info.heads != 1 || run->info.classes > POSE_CLASSES ||
        stn_net_value_find(run->net, true, "theta1", &p->theta) != STN_OK ||
        stn_net_value_find(run->net, true, "warped1", &warped) != STN_OK) {
        return;
    }
    stn_value_info info;
    (void)stn_net_value_get(run->net, true, warped, &info);
    p->half_x = ((double)run->info.out_w - 1.0) / 2.0;
    p->half_y = ((double)run->info.out_h - 1.0) / 2.0;
    bool image = info.tensor.dim[1] == run->info.channels;
    if (strcmp(distortion, "rotate") == 0) {
        p->kind = POSE_ANGLE;
    } else if (strcmp(distortion, "scale") == 0) {
        p->kind = POSE_SCALE;
    } else if (strcmp(distortion, "translate") == 0 && image) {
        /* A theta on feature maps shifts in feature pixels; only image shifts are compared. */
        p->kind = POSE_SHIFT;
    }
}

static void pose_add(pose_sums *p, int32_t label, const float *t, const double *applied) {
    double e[2] = {0.0, 0.0};
    double a = t[0], b = t[1], tx = t[2], c = t[3], d = t[4], ty = t[5];
    if (p->kind == POSE_ANGLE) {
        e[0] = applied[0] - stn__atan2(b - c, a + d) * (180.0 / 3.14159265358979323846);
    } else if (p->kind == POSE_SCALE) {
        double det = fabs(a * d - b * c);
        e[0] =
            2.0 * applied[1] - stn__log_e(det > 0x1p-60 ? det : 0x1p-60) / 0.693147180559945309417;
    } else {
        e[0] = applied[2] - tx * p->half_x;
        e[1] = -applied[3] + ty * p->half_y;
    }
    p->n[label]++;
    p->sum[label][0] += e[0];
    p->sum[label][1] += e[1];
    p->square[label] += e[0] * e[0] + e[1] * e[1];
}

static double pose_spread(const pose_sums *p) {
    double total = 0.0;
    uint64_t n = 0;
    for (uint32_t c = 0; c < POSE_CLASSES; c++) {
        if (p->n[c] == 0) {
            continue;
        }
        double k = (double)p->n[c];
        total += p->square[c] - (p->sum[c][0] * p->sum[c][0] + p->sum[c][1] * p->sum[c][1]) / k;
        n += p->n[c];
    }
    return n == 0 ? -1.0 : sqrt((total > 0.0 ? total : 0.0) / (double)n);
}

/* theta of the newest collected step; so with poses every step is collected on its own. */
static int32_t pose_collect(stn_run *run, pose_sums *p, const pending *batch, float *theta,
                            stn_err *err) {
    STN_TRY(stn_net_value_read(run->net, true, p->theta, theta, err));
    for (uint32_t i = 0; i < batch->count; i++) {
        pose_add(p, batch->labels[i], theta + 6u * i, batch->poses + 4u * i);
    }
    return STN_OK;
}

typedef struct eval_session {
    stn_run *run;
    stn__loader *loader;
    stn_eval_result *result;
    pose_sums *pose;
    float *theta;
    pending last;
    double loss;
    uint64_t pass_wrong, pass_images;
} eval_session;

static int32_t collect(eval_session *s, stn_err *err) {
    stn_step_result results[QUEUE_MAX];
    uint32_t n = 0;
    STN_TRY(stn_net_collect(s->run->net, results, &n, NULL, err));
    for (uint32_t i = 0; i < n; i++) {
        s->loss += results[i].loss * (double)results[i].count;
        s->pass_wrong += results[i].wrong;
        s->pass_images += results[i].count;
    }
    if (n > 0 && s->pose->kind != POSE_NONE) {
        STN_TRY(pose_collect(s->run, s->pose, &s->last, s->theta, err));
    }
    return STN_OK;
}

static int32_t queue_batch(eval_session *s, stn_err *err) {
    stn__batch batch;
    STN_TRY(stn__loader_next(s->loader, &batch, err));
    stn_net_step_args args = {.images = batch.images,
                              .labels = batch.labels,
                              .count = batch.count,
                              .step = batch.step,
                              .seed = s->run->seed};
    STN_TRY(stn_net_eval_step(s->run->net, &args, err));
    s->last.count = batch.count;
    memcpy(s->last.labels, batch.labels, batch.count * s->run->info.heads * sizeof(int32_t));
    memcpy(s->last.poses, batch.poses, batch.count * 4u * sizeof(double));
    return STN_OK;
}

static int32_t run_pass(eval_session *s, uint32_t pass, stn_err *err) {
    uint64_t steps = stn__loader_steps(s->loader);
    uint32_t depth = s->pose->kind != POSE_NONE ? 1u : stn_net_queue_depth(s->run->net);
    depth = depth < QUEUE_MAX ? depth : QUEUE_MAX;
    STN_TRY(stn__loader_seek(s->loader, pass * steps, err));
    uint32_t queued = 0;
    for (uint64_t i = 0; i < steps; i++) {
        STN_TRY(queue_batch(s, err));
        if (++queued == depth || i + 1 == steps) {
            STN_TRY(collect(s, err));
            queued = 0;
        }
    }
    return STN_OK;
}

static int32_t run_passes(eval_session *s, uint32_t passes, stn_progress_fn progress, void *user,
                          stn_err *err) {
    double started = stn__seconds();
    for (uint32_t pass = 0; pass < passes; pass++) {
        s->pass_wrong = s->pass_images = 0;
        STN_TRY(run_pass(s, pass, err));
        double percent = 100.0 * (double)s->pass_wrong / (double)s->pass_images;
        if (pass < sizeof s->result->pass_error / sizeof s->result->pass_error[0]) {
            s->result->pass_error[pass] = percent;
        }
        s->result->wrong += s->pass_wrong;
        s->result->images += s->pass_images;
        s->result->passes = pass + 1;
        double elapsed = stn__seconds() - started;
        stn_progress p = {.step = pass + 1,
                          .total = passes,
                          .error_percent = percent,
                          .images_per_s = (double)s->result->images / elapsed,
                          .seconds = elapsed};
        if (progress != NULL && progress(user, &p) != 0) {
            return stn_fail(err, STN_E_INTERRUPTED, "evaluation stopped after pass %u of %u",
                            pass + 1, passes);
        }
    }
    return STN_OK;
}

int32_t stn_run_eval(stn_run *run, uint32_t split, uint32_t passes, stn_progress_fn progress,
                     void *user, stn_eval_result *result, stn_err *err) {
    if (split > STN_SPLIT_TEST || passes == 0) {
        return stn_fail(err, STN_E_USAGE,
                        "evaluation of split %u over %u passes: split must be 0 "
                        "or 1, passes at least 1",
                        split, passes);
    }
    memset(result, 0, sizeof *result);
    eval_session s = {.run = run, .result = result};
    int32_t status = STN_OK;
    s.pose = stn__calloc(1, sizeof *s.pose);
    s.theta = stn__calloc(run->batch, 6u * sizeof *s.theta);
    s.last.labels = stn__calloc(run->batch, run->info.heads * sizeof *s.last.labels);
    s.last.poses = stn__calloc(run->batch, 4u * sizeof *s.last.poses);
    if (s.pose == NULL || s.theta == NULL || s.last.labels == NULL || s.last.poses == NULL) {
        status = stn_fail(err, STN_E_NOMEM, "no memory to evaluate batches of %u", run->batch);
    }
    if (status == STN_OK) {
        pose_setup(run, s.pose);
        status = stn__run_loader(run, split, false, &s.loader, err);
    }
    if (status == STN_OK) {
        status = run_passes(&s, passes, progress, user, err);
    }
    if (result->images > 0) {
        static const char *const unit[] = {"", "degrees", "log2 area", "pixels"};
        result->error_percent = 100.0 * (double)result->wrong / (double)result->images;
        result->loss = s.loss / (double)result->images;
        result->classes = run->info.classes;
        result->pose_std = s.pose->kind == POSE_NONE ? -1.0 : pose_spread(s.pose);
        (void)snprintf(result->pose_unit, sizeof result->pose_unit, "%s", unit[s.pose->kind]);
    }
    stn__loader_close(s.loader);
    stn__free(s.pose);
    stn__free(s.theta);
    stn__free(s.last.labels);
    stn__free(s.last.poses);
    return status;
}
