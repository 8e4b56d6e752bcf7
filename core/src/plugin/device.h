/* An opened device. */
#ifndef STN_PLUGIN_DEVICE_H
#define STN_PLUGIN_DEVICE_H

#include <stn/stn.h>

struct stn_dev {
    stn_ctx *ctx;
    const stn_backend *backend; /* owned by the context */
    stn_device *handle;
    stn_device_entry entry; /* facts of the opened device, `variant` filled */
};

#endif
