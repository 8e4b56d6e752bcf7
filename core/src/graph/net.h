/* Inside of a net: two plans on one device, the state they share, and a queue of steps. */
#ifndef STN_GRAPH_NET_H
#define STN_GRAPH_NET_H

#include "graph/plan.h"

#define STN__QUEUE 8u /* steps in flight before results must be collected */

/* A queued step: what the device still reads. */
typedef struct stn__queued {
    void *images;
    int32_t *labels;
    uint64_t step;
    uint32_t count;
    bool eval;
    double powers[2]; /* of the state before the step */
} stn__queued;

/* What the host reads back of the queued steps, one buffer, so that collecting is one read: the
 * flags of both plans, then for each place in the queue and each micro-batch the loss statistics
 * [rows, heads, 2] (z_label - m, sum) and the predictions [rows, heads]. Every part starts at a
 * multiple of STN__ALIGN. */
typedef struct stn__outcome {
    stn_buf *buf;
    uint8_t *copy; /* on the host */
    uint64_t flags[2], flags_bytes[2];
    uint64_t slots, slot_bytes; /* of the first step; from one step to the next */
    uint64_t part_bytes;        /* from one micro-batch of a step to the next */
    uint64_t pred;              /* inside a part, behind the statistics */
} stn__outcome;

#define STN__MAX_LEVELS 11u /* of the tree over at most 1024 micro-batches, and its root */

/* How a batch is run: in `parts` micro-batches of `rows` images, the last one may have fewer. */
typedef struct stn__micro {
    uint32_t share; /* a micro-batch has 1/share of the shards */
    uint32_t parts, rows;
    uint32_t levels; /* of the stack of sums */
    stn_buf *sum[STN__MAX_LEVELS];
    stn_kernel *add;
    stn_buf *marks; /* marked values of an evaluated batch, part by part */
} stn__micro;

/* A value as listed by stn_net_value_get. */
typedef struct stn__listed {
    stn_val value;
    uint32_t node; /* ~0: input or state */
} stn__listed;

struct stn_net {
    stn_dev *dev; /* borrowed */
    const stn_backend *backend;
    stn_device *device;
    stn_stream *stream;
    uint32_t batch, heads, classes; /* batch: of a step */
    stn__micro micro;
    bool dry; /* memory is counted only */
    uint32_t optimizer;
    double beta[2], eps, weight_decay, loc_rate;
    bool keep;
    stn__store store;
    uint32_t *order; /* state items sorted by name */
    stn__slots slots;
    stn__plan plan[2]; /* training, evaluation */
    stn__listed *listed[2];
    uint32_t n_listed[2];
    stn_buf *pixels, *labels, *workspace;
    stn_buf *arena[2][STN__MAX_BUFFERS]; /* both plans use [0] unless keep */
    stn_buf **constant[2];
    stn_buf **pack; /* of the training graph, by value; NULL elsewhere */
    stn_net_memory memory;

    stn__queued queue[STN__QUEUE];
    void *host;  /* images and labels of the queue */
    bool pinned; /* host is the backend's */
    uint32_t n_queued;
    stn__outcome outcome;
    double powers[2]; /* beta1^t, beta2^t after the steps queued so far */
    float scalar[STN__MAX_SLOTS];
    uint32_t scalar_count; /* batch and rate that scalar[] holds; count 0: none yet */
    double scalar_lr;
    stn_span *spans; /* the caller's; NULL: steps are not watched */
};

/* stn_net_open for a model that is not a plugin. */
int32_t stn__net_open(stn_dev *dev, const stn_model *model, const stn_net_spec *spec, stn_net **net,
                      stn_err *err);
/* Per-step scalars into net->scalar. Uses net->powers, which must include this step. */
void stn__net_scalars(stn_net *net, uint32_t count, double lr);
/* Lets the next run of a plan put its results in this place of the queue and part of the batch. */
void stn__net_slot(stn_net *net, uint32_t which, uint32_t place, uint32_t part);
/* Bytes of `rows` rows of a batched value. */
uint64_t stn__net_row_bytes(const stn_graph *g, stn_val v, uint32_t rows);
/* Smallest number of values a batch norm of this plan sees with `count` images; 0: no batch norm.
 */
uint64_t stn__net_bn_values(const stn_net *net, uint32_t count);
/* keep_values: E_FAIL naming the first tensor that was written past its end. Waits. */
int32_t stn__net_canaries(stn_net *net, stn_err *err);
/* ---- micro-batches (micro.c) ------------------------------------------------------------------
 */

/* Fills net->micro for micro-batches of 1/share of the shards; false if that is the whole batch. */
bool stn__micro_choose(stn_net *net, const stn_net_spec *spec, uint32_t share);
int32_t stn__micro_query(stn_net *net, uint64_t *workspace, stn_err *err);
int32_t stn__micro_prepare(stn_net *net, stn_err *err);
/* The level of the stack on which a part's sums go, and letting the training plan put them there.
 */
uint32_t stn__micro_level(uint32_t part);
void stn__micro_aim(stn_net *net, uint32_t level);
/* Adds the two uppermost of `depth` levels until `to` are left. */
int32_t stn__micro_fold(stn_net *net, uint32_t depth, uint32_t to, const stn_step *step,
                        stn_err *err);
/* Marked values of evaluation: their bytes, keeping those of a part, and where they were kept
 * (false: the value is none). */
uint64_t stn__micro_marks(const stn_net *net);
int32_t stn__micro_keep(stn_net *net, uint32_t part, stn_err *err);
bool stn__micro_kept(const stn_net *net, stn_val v, uint32_t part, stn_ref *ref);

/* Uploads the optimizer's, parameters' and statistics' initial values. */
int32_t stn__net_reset(stn_net *net, uint64_t seed, stn_err *err);

#endif
