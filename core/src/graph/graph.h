/* The static graph of a model: values, nodes, and the state they share.
 *
 * A model is built twice, once for training and once for evaluation, into two stn_graph that share
 * one stn__store (parameters, running statistics, optimizer state: found by path name) and one
 * stn__slots (per-step scalars). Nodes stand in an order in which they may run; passes (fusion,
 * autodiff, update) keep that. Ids of values never change, nodes may be replaced.
 *
 * Errors while building are sticky: stn__graph_fail keeps the first, later calls do nothing.
 */
#ifndef STN_GRAPH_GRAPH_H
#define STN_GRAPH_GRAPH_H

#include <stdbool.h>

#include <stn/backend.h>
#include <stn/model.h>
#include <stn/stn.h>

#define STN__NAME 128u /* bytes of a value's or a state item's name */
#define STN__PATH 80u  /* bytes of a layer's name: a path given by the model, "#2" included */

/* A node that exists only before planning: y is x, its gradient is multiplied by scale.factor. */
#define STN__OP_GRAD_SCALE 0x10000u

/* ---- per-step scalars: computed on the host in double, rounded once ----------------------------
 */

enum {
    STN__SLOT_INV_COUNT, /* 1/count */
    STN__SLOT_BN_INV_N,  /* 1/(count*arg) */
    STN__SLOT_BN_INV_N1, /* 1/(count*arg-1) */
    STN__SLOT_RATE,      /* SGD: rate of group arg; Adam: lr' of group arg */
    STN__SLOT_EPS,       /* Adam's eps' */
    STN__SLOT_DECAY,     /* AdamW's lw of group arg */
};

#define STN__MAX_SLOTS 64u

typedef struct stn__slots {
    uint32_t n;
    struct {
        uint32_t kind, arg;
    } slot[STN__MAX_SLOTS];
} stn__slots;

/* Index of the slot of this kind and argument, added if new; ~0 if there are too many. */
uint32_t stn__slot(stn__slots *slots, uint32_t kind, uint32_t arg);

/* ---- state -------------------------------------------------------------------------------------
 */

enum { STN__ROLE_PARAM = 0, STN__ROLE_STATISTIC = 1, STN__ROLE_OPTIMIZER = 2 };

/* A piece of state, shared by both graphs. */
typedef struct stn__item {
    char name[STN__NAME];
    uint32_t role;
    stn_tensor tensor; /* f32, NCHW */
    uint32_t init;     /* STN_INIT_*; statistics: ZERO or ONE */
    uint32_t fan_in;   /* parameters with STN_INIT_FAN_IN */
    uint32_t ordinal;  /* parameters: number of the declaration, from 0 */
    float limit;       /* class of its values: smaller ones are 0 (contract C2) */
    uint32_t group;    /* parameters: 0 base rate, 1 "loc" rate */
    stn_val value[2];  /* value in the training [0] and evaluation [1] graph, or STN_NO_VALUE */
    stn_buf *buf;      /* of its own, or NULL in a pack; both are filled by the net */
    stn_ref ref;
} stn__item;

typedef struct stn__store {
    stn__item *item;
    uint64_t cap;
    uint32_t n, n_params;
} stn__store;

void stn__store_free(stn__store *store);
/* Index of the item, or ~0. */
uint32_t stn__store_find(const stn__store *store, const char *name);
/* Appends a zeroed item with this name; NULL without memory. */
stn__item *stn__store_add(stn__store *store, const char *name);

/* ---- values and nodes --------------------------------------------------------------------------
 */

enum {
    STN__PIXELS,     /* images as given to a step */
    STN__LABELS,     /* i32 [N,heads] */
    STN__STATE,      /* an item of the store */
    STN__CONST,      /* fixed numbers */
    STN__ACTIVATION, /* output of a node */
    STN__PACK,    /* memory of several state values or gradients; index: operand of the optimizer */
    STN__PARTIAL, /* sum of a gradient over a micro-batch; pack_at: its place in each level's sums
                   */
};

typedef struct stn__value {
    char name[STN__NAME]; /* "" until the value gets one; unique in its graph otherwise */
    char base[STN__PATH]; /* path of the layer it belongs to: names of later operators start so */
    uint32_t kind;
    uint32_t index; /* STATE: item; CONST: constant */
    bool batched;   /* dim[0] is the batch */
    bool marked;    /* observable by evaluation */
    bool needs;     /* depends on a parameter (autodiff) */
    stn_tensor tensor;
    int32_t node;     /* producer, or -1 */
    uint32_t slot;    /* which of its outputs */
    stn_val pack;     /* that it lies in, or STN_NO_VALUE */
    uint64_t pack_at; /* bytes from its beginning */
} stn__value;

typedef struct stn__node {
    uint32_t op;
    uint32_t decl; /* order of declaration, fixed before fusion: orders sums of gradients */
    uint32_t n_in, n_out;
    stn_val in[STN_MAX_IN], out[STN_MAX_OUT];
    stn_op_params params;
    uint32_t item[2];     /* BN: items of the running mean and variance */
    char name[STN__NAME]; /* of the layer, for messages */
} stn__node;

typedef struct stn__const {
    float *data; /* elems of the value's tensor */
} stn__const;

typedef struct stn__mark {
    char name[STN__PATH];
    stn_val value;
} stn__mark;

struct stn_graph {
    bool eval;
    uint32_t batch, shards;
    uint32_t heads, classes;
    bool split;             /* made for micro-batches (micro.c) */
    uint64_t partial_bytes; /* of all STN__PARTIAL values, each rounded up */
    stn__store *store;      /* borrowed */
    stn__slots *slots;      /* borrowed */
    stn__value *value;
    uint64_t cap_values;
    uint32_t n_values;
    stn__node *node;
    uint64_t cap_nodes;
    uint32_t n_nodes;
    stn__const *constant;
    uint64_t cap_constants;
    uint32_t n_constants;
    stn__mark *mark;
    uint64_t cap_marks;
    uint32_t n_marks;
    uint32_t n_dropouts; /* applications so far: ids of dropout streams */
    stn_val pixels, labels, image, logits, stats, pred;
    bool failed;
    stn_err err;
};

/* What a graph is built from. */
typedef struct stn__graph_spec {
    const stn_model *model;
    const stn_net_spec *net;
    bool eval, split;
    stn__store *store;
    stn__slots *slots;
} stn__graph_spec;

/* Builds the forward graph, pixels to loss. `graph` is zeroed by the caller; call
 * stn__graph_free whatever the outcome. */
int32_t stn__graph_build(stn_graph *graph, const stn__graph_spec *spec, stn_err *err);
void stn__graph_free(stn_graph *graph);

/* The builder handed to models. */
extern const stn_builder stn__builder;

/* Keeps the first error. Returns STN_NO_VALUE. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
stn_val
stn__graph_fail(stn_graph *g, int32_t code, const char *format, ...);
/* Adds a value; its name is made unique by "#2", "#3" ... STN_NO_VALUE after an error. */
stn_val stn__graph_value(stn_graph *g, uint32_t kind, const stn_tensor *tensor, bool batched,
                         const char *name);
/* Gives a value a name, made unique as above. */
void stn__graph_name(stn_graph *g, stn_val v, const char *name);
/* The value of a name or mark, or STN_NO_VALUE. */
stn_val stn__graph_find(const stn_graph *g, const char *name);
/* Adds a node at the end; out[] must be set by the caller with stn__graph_output. NULL after an
 * error. The pointer is valid until the next node is added. */
stn__node *stn__graph_node(stn_graph *g, uint32_t op, const stn_op_params *params,
                           const stn_val *in, uint32_t n_in, const char *name);
/* Adds an output value to the last node. */
stn_val stn__graph_output(stn_graph *g, const stn_tensor *tensor, bool batched, const char *name);
/* The value of a state item in this graph, created on first use. */
stn_val stn__graph_state(stn_graph *g, uint32_t item);
/* Recomputes the producers after the node list has changed. */
void stn__graph_relink(stn_graph *g);
/* Operator's name for messages. */
const char *stn__op_name(uint32_t op);
/* "[8,64,20,20]" */
const char *stn__shape_text(const stn_tensor *t, char text[64]);

/* ---- passes ------------------------------------------------------------------------------- */

/* Replaces conv, [max-pool], [activation] chains by CONV_BLOCK and linear, [activation] by
 * LINEAR_BLOCK where the device takes the block and the gradients the training graph will need. */
void stn__graph_fuse(stn_graph *g, const stn_backend *backend, stn_device *device);
/* Appends the gradient nodes; grads[item] (store->n of them, caller's) gets the gradient of every
 * parameter. */
int32_t stn__graph_differentiate(stn_graph *g, stn_val *grads, stn_err *err);
/* For micro-batches: puts the gradients of parameters over a micro-batch where they are added, and
 * what makes gradients of the sums behind all other nodes so far. */
int32_t stn__graph_split(stn_graph *g, const stn_val *grads, stn_err *err);
/* Appends running-statistics and optimizer nodes, adds the optimizer's state to the store. */
int32_t stn__graph_update(stn_graph *g, const stn_net_spec *net, const stn_val *grads,
                          stn_err *err);
/* One optimizer node for all parameters that are updated alike (pack.c). scratch: n_nodes entries.
 */
void stn__graph_pack(stn_graph *g, uint32_t *scratch);
/* Removes nodes without outputs. */
void stn__graph_drop_empty(stn_graph *g);
/* Fuse, differentiate, update, pack; drops STN__OP_GRAD_SCALE. With no_fusion, or backend NULL,
 * nothing is fused or packed; with keep_values nothing is packed. */
int32_t stn__graph_complete(stn_graph *g, const stn_net_spec *net, const stn_backend *backend,
                            stn_device *device, stn_err *err);

#endif
