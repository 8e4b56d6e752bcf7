/* Vectors of 16 channels, for kernels of CPU devices. */
#define LANES16 ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define SNAP16(v, limit)                                                                           \
    ((as_int16(v) & (int16)(0x7fffffff)) < (int16)(as_int(limit)) ? (float16)(0.0f) : (v))
#define POS16(v) (as_uint16(v) - (uint16)(1u) < (uint16)(0x7f800000u))
#define BAD16(v) ((as_int16(v) & (int16)(0x7f800000)) == (int16)(0x7f800000))

static inline float16 act16(float16 v, float slope) {
    float16 low = slope == 0.0f ? (float16)(0.0f) : SNAP16(slope * v, STN_LIM_X);
    return POS16(v) ? v : low;
}
static inline float16 act_bwd16(float16 g, float16 y, float slope) {
    float16 low = slope == 0.0f ? (float16)(0.0f) : SNAP16(slope * g, STN_LIM_G);
    return POS16(y) ? g : low;
}
#define ACT16(v, act, slope) ((act) ? act16(v, slope) : (v))
