/* The flow into a convolution, for units that undo an activation (V_ACT) and a pool (V_POOL). */
#define flow16 FN(flow16)
#define term FN(term)
#define map_t FN(map_t)

/* NC16 [N][O/16][P][16]; V_POOL: behind a 2x2 max-pool. */
typedef struct {
    __global const float *gy, *y;
    __global const uchar *index;
} map_t;

/* Value of pooled pixel p after activation, and its place k (2*dy + dx) in the window. No branches:
 * half of them would be taken the wrong way. V_ACT: 1 relu, 2 leaky. */
static inline float term(map_t m, uint p, float slope, __private uint *k) {
    float g = m.gy[p * 16u];
#if V_ACT == 1
    g = as_float(as_uint(g) & (POS(m.y[p * 16u]) ? 0xffffffffu : 0u));
#elif V_ACT == 2
    g = act_bwd(g, m.y[p * 16u], slope);
#endif
#if V_POOL
    *k = m.index[p * 16u];
#else
    *k = 0u;
#endif
    return stn_snap_g(g);
}

#define NONZERO(g) ((as_uint(g) << 1) != 0u ? 1u : 0u)

/* The flow of 16 channels at pooled pixel `at`, and its places in the windows. */
static inline float16 flow16(__global const float *gy, __global const float *y, uint at,
                             float slope) {
    float16 g = get16(at, gy);
#if V_ACT
    g = act_bwd16(g, get16(at, y), slope);
#endif
    return SNAP16(g, STN_LIM_G);
}
#if V_POOL
#define WINDOW16(at) get16_u8(at, index)
#else
#define WINDOW16(at) ((int16)(0))
#endif
