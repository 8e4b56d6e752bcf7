/* Probes of the device self-test (contract C7): single operators on small generated operands. */
#ifndef STN_TRAIN_SELFTEST_H
#define STN_TRAIN_SELFTEST_H

#include <stn/stn.h>

/* How an operand is filled. */
enum {
    STN__FILL_X,     /* class X, full mantissas */
    STN__FILL_G,     /* class G */
    STN__FILL_POS,   /* positive */
    STN__FILL_THETA, /* near the identity */
    STN__FILL_GRID,  /* within [-1.25, 1.25) */
    STN__FILL_LOW,   /* integers below the probe's limit */
    STN__FILL_BYTE,  /* 0..255 */
    STN__FILL_HALF,  /* 0.5: shows a dropout mask */
    STN__FILL_FUSED, /* a pair that shows whether multiply-adds are fused */
    STN__FILL_ROWS,  /* ones with +2^30 and -2^30 at two places of each row: shows the order */
    STN__FILL_CHANS, /* the same for each channel */
};

typedef struct stn__probe_in {
    uint32_t fill;
    uint32_t map; /* 1: a feature map, whose layout may vary */
    stn_tensor tensor;
} stn__probe_in;

#define STN__PROBE_IN 5u

/* Slots of the scalars that probes use. */
enum {
    STN__PROBE_LR,
    STN__PROBE_EPS,
    STN__PROBE_LW,
    STN__PROBE_INV_N,
    STN__PROBE_INV_N1,
    STN__PROBE_SLOTS
};

typedef struct stn__probe {
    const char *name;
    uint32_t op, n_in, count, limit;
    uint32_t values; /* values a sum is divided by: 1/N, 1/(N-1) */
    stn__probe_in in[STN__PROBE_IN];
    stn_tensor wanted; /* of out[0] where the inputs leave it open (stn_op_infer) */
    uint32_t out_maps; /* bit i: output i is a feature map */
    stn_op_params params;
    const char *expect; /* first 16 digits of the SHA-256 of the outputs, in NCHW order */
} stn__probe;

extern const stn__probe stn__probes[];
extern const uint32_t stn__n_probes;
/* SHA-256 over the hashes of all probes. */
extern const char stn__probes_hash[STN_HASH_HEX];

#endif
