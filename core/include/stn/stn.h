/* stn: the embedding API. `stnrun` is written with this header and nothing else.
 *
 * Objects: a context (plugins), a device, a config (options with their origin), a net (a model on a
 * device), a run (net + dataset + schedule + checkpoints), a checkpoint file. Create/destroy come
 * in pairs, destroy accepts NULL, strings returned by an object live as long as the object. One
 * object belongs to one thread at a time; different objects of one context may be used by different
 * threads. Nothing here prints; messages go to the context's log function.
 */
#ifndef STN_STN_H
#define STN_STN_H

#include <stdbool.h>

#include <stn/backend.h>
#include <stn/dataset.h>
#include <stn/error.h>
#include <stn/model.h>
#include <stn/op.h>
#include <stn/plugin.h>

#ifdef __cplusplus
extern "C" {
#endif

#define STN_VERSION "0.1.0"
#define STN_CONTRACT "stn-num/1"
#define STN_HASH_HEX 65 /* 64 hex digits of a SHA-256 and the terminating zero */

typedef struct stn_ctx stn_ctx;
typedef struct stn_dev stn_dev;
typedef struct stn_config stn_config;
typedef struct stn_net stn_net;
typedef struct stn_run stn_run;
typedef struct stn_ckpt stn_ckpt;

const char *stn_version(void);
const char *stn_status_name(int32_t status); /* "E_FORMAT" */
const char *stn_status_text(int32_t status); /* "bad or corrupt input file" */
int32_t stn_status_exit(int32_t status);     /* exit status for programs, users.md 6.1 */
/* The known name closest to `name` (edit distance <= 1/3 of its length), or NULL: for messages. */
const char *stn_suggest(const char *name, const char *const *known, uint32_t n);

/* ---- context and plugins ------------------------------------------------------------------- */

typedef struct stn_open_options {
    const char *const *plugin_files; /* --plugin FILE, NULL-ended, may be NULL */
    const char *plugin_path;         /* STN_PLUGIN_PATH, colon-separated, may be NULL */
    /* May be NULL. Called from any thread; must not call back into the library. */
    void (*log)(void *user, int32_t level, const char *line);
    void *log_user;
} stn_open_options;

/* Scans the plugin directories (files, path, user data directory, libdir/stn/<major>, build tree
 * relative to the executable) by reading ELF notes; nothing is loaded before it is needed. A broken
 * plugin is not an error here: it is listed with its reason. */
int32_t stn_open(const stn_open_options *options, stn_ctx **ctx, stn_err *err);
void stn_close(stn_ctx *ctx);

typedef struct stn_plugin_info {
    const char *path;
    const char *name, *version; /* from the note; "" if unreadable */
    uint32_t kind, abi_major, abi_minor, features;
    bool refused, loaded, shadowed; /* shadowed: an earlier file of the same name wins */
    const char *reason;             /* why refused, "" otherwise */
} stn_plugin_info;

uint32_t stn_plugin_count(const stn_ctx *ctx);
int32_t stn_plugin_get(stn_ctx *ctx, uint32_t index, stn_plugin_info *info);
/* Loads a plugin by kind and name; the error names every directory tried and a suggestion.
 * Returns its descriptor (options, description, licence). */
int32_t stn_plugin_load(stn_ctx *ctx, uint32_t kind, const char *name, const stn_plugin **plugin,
                        stn_err *err);
/* Loaded, size-checked and stub-filled vtables; owned by the context. */
int32_t stn_backend_load(stn_ctx *ctx, const char *name, const stn_backend **b, stn_err *err);
int32_t stn_dataset_load(stn_ctx *ctx, const char *name, const stn_dataset **d, stn_err *err);
int32_t stn_model_load(stn_ctx *ctx, const char *name, const stn_model **m, stn_err *err);

/* ---- devices --------------------------------------------------------------------------------- */

typedef struct stn_device_entry {
    char backend[32];
    uint32_t index; /* within the backend */
    stn_device_info info;
} stn_device_entry;

/* Lists devices of one backend, or of all (backend NULL). A backend that fails to load or finds no
 * platform contributes none and says why in the log. *n is the full number, `cap` entries filled.
 */
int32_t stn_device_list(stn_ctx *ctx, const char *backend, stn_device_entry *entries, uint32_t cap,
                        uint32_t *n, stn_err *err);
/* Opens a device. selector: NULL or "" (the best by a fixed ranking: GPU first), an index, a stable
 * id, or a case-insensitive substring of id or name. No match or an ambiguous one is E_NODEVICE
 * and lists what exists. options may be NULL. */
int32_t stn_dev_open(stn_ctx *ctx, const char *backend, const char *selector,
                     const stn_options *options, stn_dev **dev, stn_err *err);
void stn_dev_close(stn_dev *dev);
const stn_device_entry *stn_dev_info(const stn_dev *dev);
const stn_backend *stn_dev_backend(const stn_dev *dev);
stn_device *stn_dev_handle(const stn_dev *dev);

/* Measures what the device can do at best, in about a second; E_UNSUPPORTED if its backend has no
 * such entry. Nothing else may run on the device meanwhile. */
int32_t stn_dev_peaks(stn_dev *dev, stn_peaks *peaks, stn_err *err);

/* Contract C7: runs every operator and probe and compares the output hash with the constant.
 * Calls `report` per part (may be NULL). E_MISMATCH names the operator. */
typedef void (*stn_selftest_fn)(void *user, const char *part, bool ok, const char *detail);
int32_t stn_dev_selftest(stn_dev *dev, stn_selftest_fn report, void *user, stn_err *err);

/* ---- operators --------------------------------------------------------------------------------
 */

typedef struct stn_op_info {
    uint32_t number, min_in, max_in, n_out;
    const char *name, *text;
} stn_op_info;

uint32_t stn_op_count(void);
const stn_op_info *stn_op_get(uint32_t index);
const stn_op_info *stn_op_find(uint32_t number);
/* Checks parameters and operand shapes; fills `out` (n_out of them) with dtype, rank, dim (layout
 * NCHW). The one place where shapes are inferred. Some gradients have a shape that their inputs do
 * not determine (windows with a stride, linear_grad_x): if out[0].rank is not 0 on entry, out[0] is
 * the wanted shape, which is checked and kept; with rank 0 the smallest shape that fits is given
 * (linear_grad_x: [N, K]). Other outputs are only written. */
int32_t stn_op_infer(uint32_t op, const void *params, const stn_tensor *in, uint32_t n_in,
                     stn_tensor *out, stn_err *err);
uint64_t stn_op_flops(const stn_op_desc *desc);
/* Runs one operator on host arrays, stored as desc says: allocates, uploads, runs, downloads. For
 * checks and tests. Rows past step->count come back as zeros; outputs of in-place operators start
 * as the inputs of the same name. E_NONFINITE, with the outputs filled, if one is infinite or NaN.
 */
int32_t stn_op_exec(stn_dev *dev, const stn_op_desc *desc, const void *const *in, void *const *out,
                    const stn_step *step, stn_err *err);

/* ---- configuration ------------------------------------------------------------------------------
 */

/* Origins, weakest first. */
enum {
    STN_FROM_DEFAULT,
    STN_FROM_SYSTEM,
    STN_FROM_USER,
    STN_FROM_RECIPE,
    STN_FROM_ENV,
    STN_FROM_FLAG
};

typedef struct stn_key_info {
    const char *name, *type, *range, *def, *help;
    uint32_t identity; /* 1: part of the run's identity (stored in the checkpoint, must agree on
                          resume) */
} stn_key_info;

/* The flag table: one entry per long flag, recipe key and environment variable (STN_ + upper case,
 * '-' and '.' as '_'). Keys "dataset.X", "model.X" and "backend.X" reach the plugin's options. */
uint32_t stn_key_count(void);
const stn_key_info *stn_key_get(uint32_t index);

int32_t stn_config_new(stn_ctx *ctx, stn_config **config, stn_err *err);
void stn_config_free(stn_config *config);
/* Sets a key unless a stronger origin has set it. Type, range and name are checked here (plugin
 * options when the plugin is known, see stn_config_check). `where` names the origin for messages.
 */
int32_t stn_config_set(stn_config *config, const char *key, const char *value, uint32_t origin,
                       const char *where, stn_err *err);
/* Reads "key = value" lines; recipe is a shipped name ("mnist-r-sl1") or a file path. */
int32_t stn_config_recipe(stn_config *config, const char *recipe, uint32_t origin, stn_err *err);
int32_t stn_config_text(stn_config *config, const char *text, uint64_t size, uint32_t origin,
                        const char *where, stn_err *err);
int32_t stn_config_env(stn_config *config, stn_err *err);
/* Reads the user's and the system's file if they exist. */
int32_t stn_config_files(stn_config *config, stn_err *err);
/* Final checks over all keys, plugin options included. */
int32_t stn_config_check(stn_config *config, stn_err *err);
/* NULL for a key without value. */
const char *stn_config_get(const stn_config *config, const char *key);
int64_t stn_config_int(const stn_config *config, const char *key);
double stn_config_real(const stn_config *config, const char *key);
bool stn_config_bool(const stn_config *config, const char *key);
typedef struct stn_config_item {
    const char *key, *value, *where; /* where: "default", "--lr", "recipe mnist-r-sl1" ... */
    uint32_t origin, identity;
} stn_config_item;
uint32_t stn_config_count(const stn_config *config);
int32_t stn_config_item_at(const stn_config *config, uint32_t index, stn_config_item *item);
/* Canonical text of the identity keys: sorted "key = value\n" lines. Owned by the config and valid
 * until the next call; NULL if there is no memory. */
const char *stn_config_identity(stn_config *config);

uint32_t stn_recipe_count(stn_ctx *ctx);
const char *stn_recipe_name(stn_ctx *ctx, uint32_t index);

/* ---- nets: a model on a device ------------------------------------------------------------ */

enum { STN_OPT_SGD = 0, STN_OPT_ADAM = 1, STN_OPT_ADAMW = 2 };

typedef struct stn_net_spec {
    const char *model; /* plugin name */
    stn_model_request request;
    uint32_t batch, shards;
    uint32_t input_dtype; /* STN_U8 or STN_F32: pixels 0..255 as given to stn_net_step */
    float mul[STN_MAX_CHANNELS], add[STN_MAX_CHANNELS]; /* normalisation: x = fma(v, mul, add) */
    uint32_t optimizer, nesterov;
    double momentum, weight_decay, beta1, beta2, eps;
    double loc_rate; /* rate multiplier of parameters whose name begins with "loc" */
    bool
        keep_values; /* every value keeps its own memory, so that it can be read (compare, check) */
    bool no_fusion;  /* composites are not offered: every value of the declared graph exists */
    /* Bytes of device memory that the net may take, 0: any. Batches are then run in micro-batches
     * of whole shards, with the same bits; E_NOMEM says what is needed at least. Counted are the
     * buffers of the plan, not what the backend and the driver take besides. */
    uint64_t mem_limit;
    void (*progress)(void *user, uint32_t done, uint32_t total); /* while compiling; may be NULL */
    void *progress_user;
} stn_net_spec;

int32_t stn_net_open(stn_ctx *ctx, stn_dev *dev, const stn_net_spec *spec, stn_net **net,
                     stn_err *err);
void stn_net_close(stn_net *net);

/* A piece of state. Roles: 0 parameter, 1 running statistic, 2 optimizer state (velocity, m, v). */
typedef struct stn_state_info {
    const char *name; /* "cls.conv1.weight", "velocity.cls.conv1.weight" */
    uint32_t role, rank;
    uint32_t dim[STN_MAX_RANK];
    uint64_t elems;
} stn_state_info;
/* Sorted by name (bytewise): the canonical order of checkpoints and hashes. */
uint32_t stn_net_state_count(const stn_net *net);
int32_t stn_net_state_get(const stn_net *net, uint32_t index, stn_state_info *info);
int32_t stn_net_state_find(const stn_net *net, const char *name, uint32_t *index);
/* Waits for the device; `data` is row-major f32. */
int32_t stn_net_state_read(stn_net *net, uint32_t index, float *data, stn_err *err);
int32_t stn_net_state_write(stn_net *net, uint32_t index, const float *data, stn_err *err);
uint64_t stn_net_param_elems(const stn_net *net); /* trainable numbers, shared ones once */
/* Initial parameters by the contract (Philox kind 1), statistics and optimizer state zero (running
 * variance 1), step 0. */
int32_t stn_net_init(stn_net *net, uint64_t seed, stn_err *err);

/* One queued step. images: batch rows of input_dtype, `count` of them real; labels: heads each. The
 * arrays are copied before the call returns. Results are read in batches by stn_net_collect. */
typedef struct stn_net_step_args {
    const void *images;
    const int32_t *labels;
    uint32_t count;
    double lr;     /* base rate of this step */
    uint64_t step; /* number of this step from 0 */
    uint64_t seed; /* dropout key */
} stn_net_step_args;
int32_t stn_net_train_step(stn_net *net, const stn_net_step_args *args, stn_err *err);
int32_t stn_net_eval_step(stn_net *net, const stn_net_step_args *args, stn_err *err);

/* Outcome of one queued step. loss: host double, sum over heads of the mean cross-entropy, images
 * in order (contract C5); wrong: images with any head wrong. */
typedef struct stn_step_result {
    uint64_t step;
    double loss;
    uint32_t count, wrong;
} stn_step_result;
/* How many steps may be queued before stn_net_collect must be called (>= 4). */
uint32_t stn_net_queue_depth(const stn_net *net);
/* Waits; fills results of all queued steps in order, *n of them. `pred` (may be NULL) gets the
 * predictions, heads per image, of all of them in order. E_NONFINITE names step, operator, tensor;
 * the state is that of the last good step (if the optimizer itself overflowed, parameters have
 * taken that step: go on from a checkpoint). */
int32_t stn_net_collect(stn_net *net, stn_step_result *results, uint32_t *n, int32_t *pred,
                        stn_err *err);
/* Optimizer bookkeeping that belongs to the state: powers of beta (Adam), for checkpoints. */
int32_t stn_net_adam_powers(stn_net *net, double powers[2], bool set, stn_err *err);

/* Values of the training graph, in plan order (with keep_values every one is readable after a
 * collected step). */
typedef struct stn_value_info {
    const char *name;  /* "cls.conv1", "theta1", "grad cls.conv1.weight" ... */
    const char *op;    /* operator that made it, "" for inputs and state */
    uint32_t node;     /* position in plan order, ~0 for inputs and state */
    stn_tensor tensor; /* as stored; stn_net_value_read converts to NCHW */
    bool batched;
} stn_value_info;
uint32_t stn_net_value_count(const stn_net *net, bool eval);
int32_t stn_net_value_get(const stn_net *net, bool eval, uint32_t index, stn_value_info *info);
/* Reads a value in NCHW, elements of its dtype. A marked value ("theta1", "logits") of the eval
 * plan is always readable after stn_net_collect. */
int32_t stn_net_value_read(stn_net *net, bool eval, uint32_t index, void *data, stn_err *err);
int32_t stn_net_value_find(const stn_net *net, bool eval, const char *name, uint32_t *index);

/* One operator of a plan and the time its last run took on the device. */
typedef struct stn_node_info {
    const char *name; /* of the layer or gradient it belongs to */
    const char *op;
    uint64_t flops; /* multiply-adds count as two; 0 where unknown */
    uint64_t bytes; /* of all operands as stored, each counted once */
    uint64_t ns;    /* 0 if the backend does not measure (OpenCL: option profile) */
} stn_node_info;
uint32_t stn_net_node_count(const stn_net *net, bool eval);
/* Waits for the device. Every operator must have run once. */
int32_t stn_net_node_get(stn_net *net, bool eval, uint32_t index, stn_node_info *info,
                         stn_err *err);

/* When an operator ran: nanoseconds of the host's monotonic clock (CLOCK_MONOTONIC). */
typedef struct stn_span {
    uint64_t begin, end;
} stn_span;
/* From now on each training step waits for every operator before it starts the next one and writes
 * when that was: one span for each node of the training plan. NULL: no longer. */
void stn_net_watch(stn_net *net, stn_span *spans);

/* Kernels that one step of a full batch hands to the device; 0 if the backend does not count them.
 */
uint32_t stn_net_launches(const stn_net *net, bool eval);

/* Kernels that one run of an operator hands to the device, and what each does by its parameters:
 * nothing is run or measured. E_UNSUPPORTED if the backend does not describe its kernels. Where an
 * operator is one kernel that counts no work of its own, the operator's is given. */
int32_t stn_net_node_launches(const stn_net *net, bool eval, uint32_t index, uint32_t *n,
                              stn_err *err);
int32_t stn_net_launch_get(stn_net *net, bool eval, uint32_t index, uint32_t launch,
                           stn_launch *info, stn_err *err);

typedef struct stn_net_memory {
    uint64_t params, optimizer, activations, workspace, total; /* bytes on the device */
    uint32_t train_nodes, eval_nodes;
    uint32_t micro_batches, micro_rows; /* of a step, 1 if it runs whole; images in each */
} stn_net_memory;
void stn_net_memory_get(const stn_net *net, stn_net_memory *memory);
/* False: the device has operators in this net that do not obey the contract (--math fast). */
bool stn_net_exact(const stn_net *net);

/* ---- runs --------------------------------------------------------------------------------- */

typedef struct stn_run_options {
    bool keep_values, no_fusion;                                 /* as in stn_net_spec */
    bool not_reproducible;                                       /* as after stn_run_override */
    void (*progress)(void *user, uint32_t done, uint32_t total); /* while compiling */
    void *progress_user;
} stn_run_options;

/* Opens dataset, net and device state from a checked config; nothing is written yet. config and dev
 * must outlive the run. options may be NULL. */
int32_t stn_run_open(stn_ctx *ctx, stn_config *config, stn_dev *dev, const stn_run_options *options,
                     stn_run **run, stn_err *err);
void stn_run_close(stn_run *run);
stn_net *stn_run_net(stn_run *run);
const stn_data_info *stn_run_data(const stn_run *run);
uint64_t stn_run_step(const stn_run *run);   /* optimizer steps done */
uint64_t stn_run_length(const stn_run *run); /* steps of the whole run */
/* False: operators outside the contract (--math fast) or an overridden self-test were at work, now
 * or before the checkpoint that was loaded. Must go with every result that is shown. */
bool stn_run_reproducible(const stn_run *run);
/* Contract C7 for this run: the self-test's parts of every operator in its plans, in the layouts of
 * their maps, and those of fused multiply-adds and the order of sums. As stn_dev_selftest, but
 * without the other operators, whose kernels would be compiled for nothing. */
int32_t stn_run_selftest(stn_run *run, stn_selftest_fn report, void *user, stn_err *err);
/* Marks the run as not reproducible: its device failed the self-test and is used all the same. */
void stn_run_override(stn_run *run);
/* Says that the caller has trained the run's net itself up to `step` (benchmarks). */
void stn_run_set_step(stn_run *run, uint64_t step);

typedef struct stn_progress {
    uint64_t step, total;
    double epoch, loss, error_percent, lr; /* over the steps since the last report */
    double images_per_s, seconds;
} stn_progress;
/* Called between steps, about twice a second and at the end; a non-zero return stops cleanly after
 * the current step (status E_INTERRUPTED). */
typedef int (*stn_progress_fn)(void *user, const stn_progress *progress);
/* Trains up to step `until` (0: to the end). */
int32_t stn_run_train(stn_run *run, uint64_t until, stn_progress_fn progress, void *user,
                      stn_err *err);

typedef struct stn_eval_result {
    uint64_t images; /* test images times passes */
    uint64_t wrong;
    uint32_t passes;
    double error_percent, loss;
    double pose_std; /* spread of the final pose (experiments.md 7), negative if not defined */
    char pose_unit[16];
    uint32_t classes;
    double pass_error[32]; /* error percent per pass, the first 32 */
} stn_eval_result;
int32_t stn_run_eval(stn_run *run, uint32_t split, uint32_t passes, stn_progress_fn progress,
                     void *user, stn_eval_result *result, stn_err *err);
/* Fills the next training batch into caller arrays without training (compare, figures). */
int32_t stn_run_batch(stn_run *run, uint64_t step, void *images, int32_t *labels, uint32_t *count,
                      stn_err *err);
/* SHA-256 of the canonical state (docs/checkpoint.md). */
int32_t stn_run_state_hash(stn_run *run, char hex[STN_HASH_HEX], stn_err *err);

/* Checkpoints of a run. save writes atomically (temporary file, fsync, rename, fsync of the
 * directory). load verifies everything before using anything. */
int32_t stn_run_save(stn_run *run, const char *path, stn_err *err);
int32_t stn_run_load(stn_run *run, const char *path, stn_err *err);
/* Run directory: creates it (E_EXISTS if it holds a run and !resume), writes recipe and run.json,
 * loads the newest good checkpoint on resume, and makes stn_run_train append metrics and save every
 * `save-every` steps, keeping the last two checkpoints. */
int32_t stn_run_directory(stn_run *run, const char *dir, bool resume, stn_err *err);

/* ---- checkpoint files --------------------------------------------------------------------- */

/* Reads and verifies a whole file. */
int32_t stn_ckpt_open(const char *path, stn_ckpt **ckpt, stn_err *err);
void stn_ckpt_close(stn_ckpt *ckpt);
typedef struct stn_ckpt_tensor {
    const char *name;
    uint32_t role, rank;
    uint32_t dim[STN_MAX_RANK];
    uint64_t elems;
    const float *data;
} stn_ckpt_tensor;
typedef struct stn_ckpt_info {
    uint32_t format;
    const char *contract, *recipe; /* recipe: canonical identity text */
    const char *model, *network;   /* found in `recipe`; not looked at when writing */
    const char *note;              /* device, versions: outside the hashed state */
    uint64_t step, seed;
    const char *data_hash;
    char state_hash[STN_HASH_HEX];
    uint32_t n_tensors;
    bool not_reproducible; /* made under --math fast or a self-test override */
    double adam_powers[2];
} stn_ckpt_info;
void stn_ckpt_info_get(const stn_ckpt *ckpt, stn_ckpt_info *info);
int32_t stn_ckpt_tensor_get(const stn_ckpt *ckpt, uint32_t index, stn_ckpt_tensor *tensor);
/* Writes a checkpoint from parts (used by runs, import and tests). */
int32_t stn_ckpt_write(const char *path, const stn_ckpt_info *info, const stn_ckpt_tensor *tensors,
                       uint32_t n, stn_err *err);
/* SHA-256 over the canonical state of these parts (info->state_hash is ignored), tensors in any
 * order; "" if there is no memory. */
void stn_state_hash(const stn_ckpt_info *info, const stn_ckpt_tensor *tensors, uint32_t n,
                    char hex[STN_HASH_HEX]);

/* safetensors: read (verified: no overlap, gap, duplicate or out-of-range entry) and write. */
typedef struct stn_tensors stn_tensors;
typedef struct stn_tensor_entry {
    const char *name;
    uint32_t dtype; /* STN_ST_* */
    uint32_t rank;
    uint64_t dim[8];
    uint64_t elems;
    const void *data;
} stn_tensor_entry;
enum { STN_ST_F32, STN_ST_F64, STN_ST_I64, STN_ST_I32, STN_ST_U8, STN_ST_OTHER };
int32_t stn_tensors_open(const char *path, stn_tensors **file, stn_err *err);
int32_t stn_tensors_parse(const void *bytes, uint64_t size, const char *where, stn_tensors **file,
                          stn_err *err); /* copies */
void stn_tensors_close(stn_tensors *file);
uint32_t stn_tensors_count(const stn_tensors *file);
int32_t stn_tensors_get(const stn_tensors *file, uint32_t index, stn_tensor_entry *entry);
int32_t stn_tensors_find(const stn_tensors *file, const char *name, stn_tensor_entry *entry);
const char *stn_tensors_metadata(const stn_tensors *file, const char *key); /* NULL if absent */
int32_t stn_tensors_write(const char *path, const stn_tensor_entry *entries, uint32_t n,
                          const char *const *metadata /* key, value, ..., NULL */, stn_err *err);

/* ---- data directories --------------------------------------------------------------------- */

/* Where a dataset's files lie: --data-dir, STN_DATA_DIR, the user's data directory, then the
 * distribution's own; the error lists every place tried. */
int32_t stn_data_find(stn_ctx *ctx, const char *dataset, const char *data_dir, char *dir,
                      uint32_t cap, stn_err *err);

#ifdef __cplusplus
}
#endif

#endif
