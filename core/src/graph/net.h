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
 * flags of both plans, then for each place in the queue the loss statistics [batch, heads, 2]
 * (z_label - m, sum) and the predictions [batch, heads]. Every part starts at a multiple of
 * STN__ALIGN. */
typedef struct stn__outcome {
    stn_buf *buf;
    uint8_t *copy; /* on the host */
    uint64_t flags[2], flags_bytes[2];
    uint64_t slots, slot_bytes; /* of the first step; from one step to the next */
    uint64_t pred;              /* inside a slot, behind the statistics */
} stn__outcome;

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
    uint32_t batch, heads, classes;
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
/* Lets the next step of a plan put its results in this place of the queue. */
void stn__net_slot(stn_net *net, uint32_t which, uint32_t place);
/* Smallest number of values a batch norm of this plan sees with `count` images; 0: no batch norm.
 */
uint64_t stn__net_bn_values(const stn_net *net, uint32_t count);
/* keep_values: E_FAIL naming the first tensor that was written past its end. Waits. */
int32_t stn__net_canaries(stn_net *net, stn_err *err);
/* Uploads the optimizer's, parameters' and statistics' initial values. */
int32_t stn__net_reset(stn_net *net, uint64_t seed, stn_err *err);

#endif
