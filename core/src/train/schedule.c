/* Learning rates: a function of the settings and the number of the step, in host double.
 *
 *   constant  lr
 *   step      lr f f f ...   one factor f = lr-factor for each of lr-steps that is <= t
 *   cosine    lr 0.5 (1 + cos(pi t / T)), T = steps; past T as at T
 *   warm-up   times min(1, (t + 1) / warmup)
 */
#include "train/schedule.h"

#include <string.h>

#include "base/det_math.h"
#include "train/config.h"

static const double pi = 0x1.921fb54442d18p+1;

static double after_steps(const stn_config *config, double lr, uint64_t step) {
    uint64_t at[STN__MAX_LR_STEPS];
    uint32_t n;
    const char *list = stn_config_get(config, "lr-steps");
    const double factor = stn_config_real(config, "lr-factor");
    if (list != NULL && stn__parse_steps(list, at, &n)) {
        for (uint32_t i = 0; i < n && at[i] <= step; i++) {
            lr *= factor;
        }
    }
    return lr;
}

double stn__schedule_lr(const stn_config *config, uint64_t step) {
    const char *schedule = stn_config_get(config, "schedule");
    const uint64_t warmup = (uint64_t)stn_config_int(config, "warmup");
    double lr = stn_config_real(config, "lr");
    if (strcmp(schedule, "step") == 0) {
        lr = after_steps(config, lr, step);
    } else if (strcmp(schedule, "cosine") == 0) {
        uint64_t total = (uint64_t)stn_config_int(config, "steps");
        double t = (double)(step < total ? step : total);
        double c = stn__cos(pi * t / (double)total);
        lr = lr * 0.5 * (1.0 + c);
    }
    if (step < warmup) {
        lr *= (double)(step + 1) / (double)warmup;
    }
    return lr;
}
