/* The context: every plugin file found, and what became of it.
 *
 * The list is made once by stn_open and never changes its length, so indices and records stay
 * valid; the loading state inside the records changes under the loader's lock.
 */
#ifndef STN_PLUGIN_REGISTRY_H
#define STN_PLUGIN_REGISTRY_H

#include <stn/stn.h>

#include "base/log.h"
#include "base/text.h"

typedef struct stn__module stn__module; /* a loaded library, one per process and file */

typedef struct stn__record {
    char *path; /* absolute */
    stn_plugin_note note;
    uint64_t device, inode; /* of the file: the same one is listed once */
    bool refused, shadowed;
    char reason[sizeof(((stn_err *)0)->text)];
    stn__module *module; /* NULL until loaded */
    union {
        stn_backend backend;
        stn_dataset dataset;
        stn_model model;
    } table; /* complete: own size, stubs in the gaps */
} stn__record;

struct stn_ctx {
    stn__log log;
    stn__record *record;
    uint64_t n, cap;
    stn__text tried; /* places searched, "a, b, c" */
    stn_ctx *next;   /* open contexts, newest first */
};

/* search.c: fills ctx->record and ctx->tried. */
int32_t stn__search(stn_ctx *ctx, const stn_open_options *options, stn_err *err);

/* loader.c: loads record `index` if it is not yet, and marks it refused if that fails. */
int32_t stn__record_load(stn_ctx *ctx, uint32_t index, stn_err *err);
/* The record that kind and name mean: E_NOTFOUND (E_NODEVICE for a backend) or E_PLUGIN if the
 * only candidates were refused. */
int32_t stn__record_find(stn_ctx *ctx, uint32_t kind, const char *name, uint32_t *index,
                         stn_err *err);
const stn_plugin *stn__record_plugin(const stn__record *record);
/* Calls fini of what this context was the last to use. */
void stn__records_unload(stn_ctx *ctx);

/* host.c: the services given to plugins. Lines of plugins, which know no context, go to the log of
 * the newest open context. */
extern const stn_host stn__host;
void stn__host_attach(stn_ctx *ctx);
void stn__host_detach(stn_ctx *ctx);

/* vtable.c: copies the plugin's table into `record->table`. E_PLUGIN names a missing required
 * entry. */
int32_t stn__vtable_copy(stn__record *record, const stn_plugin *plugin, stn_err *err);

#endif
