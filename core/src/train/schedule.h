/* Learning rates (contract C5, "schedules"). */
#ifndef STN_TRAIN_SCHEDULE_H
#define STN_TRAIN_SCHEDULE_H

#include <stn/stn.h>

/* The base rate of optimizer step `step` (from 0), in double; group rates multiply it and round to
 * float. The config has passed stn_config_check. */
double stn__schedule_lr(const stn_config *config, uint64_t step);

#endif
