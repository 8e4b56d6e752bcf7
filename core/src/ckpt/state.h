/* Hash of the canonical state, with a status (stn_state_hash of stn.h leaves hex empty instead). */
#ifndef STN_CKPT_STATE_H
#define STN_CKPT_STATE_H

#include <stn/stn.h>

int32_t stn__state_hash(const stn_ckpt_info *info, const stn_ckpt_tensor *tensors, uint32_t n,
                        char hex[STN_HASH_HEX], stn_err *err);

#endif
