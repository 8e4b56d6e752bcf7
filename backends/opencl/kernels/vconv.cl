/* Convolution for CPU devices: one work-item computes rows of tiles, lanes are 16 output channels.
 *
 * x[N][V_C][V_H*V_W] with V_XS floats from pixel to pixel (16: NC16, 1: NCHW), without padding (a
 * copy holds it); w packed [og][V_C][V_KH*V_KW][V_NV][16]; y NC16. A tile is 16/V_NV output pixels
 * by V_NV vectors of 16 channels: 16 accumulators named one by one, V_TW pixels wide, or (V_TW = 0)
 * consecutive pixels in row-major order. V_POOL: a 2x2 max-pool of stride 2 follows in registers,
 * after bias and snap. V_LIMIT: class of the result.
 *
 * V_BG: tiles leave out what is background of an image, one value per channel, that of the pixel at
 * V_BG - 1; which one is taken decides the speed only. With one NCHW channel (BG_ROWS) the sums
 * over the first kernel rows of windows that begin with background are all alike and made once;
 * otherwise windows of nothing else share their sums. An item does V_STRIPS rows of tiles.
 */
#define finish FN(finish)
#define mark_row FN(mark_row)
#define clear_rows FN(clear_rows)
#define background_sums FN(background_sums)
#define vconv FN(vconv)
#define NP (16 / V_NV)
#define TAPS (V_KH * V_KW)
#define OB ((V_O + 15) / 16)
#define OP (V_OH * V_OW)
#if V_XS == 16
#define X_IMAGE (((V_C + 15) / 16) * V_H * V_W * 16)
#define X_CHANNEL(c) (((c) / 16) * V_H * V_W * 16 + (c) % 16)
#else
#define X_IMAGE (V_C * V_H * V_W)
#define X_CHANNEL(c) ((c)*V_H * V_W)
#endif

#define REP8(M) M(0) M(1) M(2) M(3) M(4) M(5) M(6) M(7)
#if V_NV == 2
#define REP(M) REP8(M)
#else
#define REP(M) REP8(M) M(8) M(9) M(10) M(11) M(12) M(13) M(14) M(15)
#endif

#if V_TW != 0
#define TH (NP / V_TW)
#define AT(i) ((((i) / V_TW) * V_SH * V_W + ((i) % V_TW) * V_SW) * V_XS)
#else
#define AT(i) at##i
#endif

#if V_NV == 2
#define ZERO(i) float16 a##i = (float16)(0.0f), b##i = (float16)(0.0f);
#define TOTAL(i) float16 t##i = (float16)(0.0f), u##i = (float16)(0.0f);
#define FOLD(i) t##i = fma(a##i, ones, t##i), u##i = fma(b##i, ones, u##i);
#define STEP(i)                                                                                    \
    {                                                                                              \
        float16 v = (float16)(xk[AT(i) + kw * V_XS]);                                              \
        a##i = fma(v, w0, a##i), b##i = fma(v, w1, b##i);                                          \
    }
#else
#define ZERO(i) float16 a##i = (float16)(0.0f);
#define TOTAL(i) float16 t##i = (float16)(0.0f);
#define FOLD(i) t##i = fma(a##i, ones, t##i);
#define STEP(i) a##i = fma((float16)(xk[AT(i) + kw * V_XS]), w0, a##i);
#endif

/* Bias, snap, and +0 in the channels past V_O. */
static inline float16 finish(float16 v, float16 bias, uint ob, float16 ones) {
    v = fma(bias, ones, v);
    v = SNAP16(v, V_LIMIT);
#if V_O % 16 != 0
    v = LANES16 < (int16)(V_O - (int)ob * 16) ? v : (float16)(0.0f);
#endif
    return v;
}

/* Totals of position i, vectors 0 and 1. */
#if V_C > V_CB
#define FIRST(i) t##i
#define SECOND(i) u##i
#else
#define FIRST(i) a##i
#define SECOND(i) b##i
#endif

/* Sums of a tile in memory: the code that finishes them is made once, not once for each. */
#if V_NV == 2
#define KEEP(i) done[i] = FIRST(i), done[NP + i] = SECOND(i);
#else
#define KEEP(i) done[i] = FIRST(i);
#endif
#define BIAS(v) (has_bias != 0u ? vload16(og * V_NV + (v), bias) : (float16)(0.0f))

#if V_TW != 0
#define PIXEL(i) ((r0 + (i) / V_TW) * V_OW + c0 + (i) % V_TW)
#else
#define PIXEL(i) min(base + (i), (uint)(OP - 1))
#endif
#define WHERE(i)                                                                                   \
    uint p##i = min(base + i##u, (uint)(OP - 1));                                                  \
    int at##i = (int)((p##i / V_OW * V_SH * V_W + p##i % V_OW * V_SW) * V_XS);

#define BG_ROWS (V_BG != 0 && V_XS == 1)
#if V_BG
#define SPAN ((V_TW - 1) * V_SW + V_KW) /* pixels of a row under a tile, at most 16 */
#define BELOW ((TH - 1) * V_SH)         /* rows from its first pixels down to the last */
#define UNDER (BELOW + V_KH)            /* rows, at most 32 */

/* Bits of rows gone through, the last one in bit 0: dirty[q] tells in which column q is not
 * background. One more row; of NCHW maps V_W >= 16, the last vector overlaps. */
static inline void mark_row(__global const float *row, __global const float *key,
                            __private uint *dirty) {
#if BG_ROWS
    for (uint q = 0u; q < V_W; q += 16u) {
        uint left = V_W - q < 16u ? 16u - (V_W - q) : 0u;
        int16 same = as_int16(vload16(0, row + q - left)) == (int16)(as_int(*key));
        uint16 marks = vload16(0, dirty + q - left);
        uint16 more = marks << 1 | as_uint16(same + (int16)(1));
        vstore16(LANES16 < (int16)((int)left) ? marks : more, 0, dirty + q - left);
    }
#else
    for (uint q = 0u; q < V_W; q++) {
        int16 differ = (int16)(0);
        for (uint c = 0u; c < V_C; c += 16u) {
            differ |= as_int16(vload16(q, row + X_CHANNEL(c))) !=
                      as_int16(vload16(0, key + X_CHANNEL(c)));
        }
        dirty[q] = dirty[q] << 1 | (any(differ) ? 1u : 0u);
    }
#endif
}

/* Kernel rows with nothing but background under all pixels of a tile. */
static inline uint clear_rows(const __private uint *dirty) {
    uint16 marks = vload16(0, dirty);
    marks = LANES16 < (int16)(SPAN) ? marks : (uint16)(0u);
    uint8 a = marks.lo | marks.hi;
    uint4 b = a.lo | a.hi;
    uint2 c = b.lo | b.hi;
    uint lead = min(clz((c.x | c.y) << (32 - UNDER)), (uint)UNDER);
    return max(lead, (uint)BELOW) - BELOW;
}

/* The sums of a window of background, in order: SUMS of them, the last over the whole window, with
 * BG_ROWS those before over its first kernel rows. */
#define SUMS (BG_ROWS ? V_KH + 1 : 1)
static inline void background_sums(__global const float16 *w, __global const float *key,
                                   float16 ones, __private float16 *sums) {
    float16 total[V_NV], sum[V_NV];
    for (uint v = 0u; v < V_NV; v++) {
        total[v] = (float16)(0.0f);
        sums[v] = total[v];
    }
    for (uint g = 0u; g < V_C; g += V_CB) {
        for (uint v = 0u; v < V_NV; v++) {
            sum[v] = (float16)(0.0f);
        }
        for (uint t = g * TAPS; t < min(g + V_CB, (uint)V_C) * TAPS; t++) {
            float16 x = (float16)(key[X_CHANNEL(t / TAPS)]);
            for (uint v = 0u; v < V_NV; v++) {
                sum[v] = fma(x, w[t * V_NV + v], sum[v]);
#if BG_ROWS
                sums[(t / V_KW + 1u) * V_NV + v] = sum[v];
#endif
            }
        }
        for (uint v = 0u; v < V_NV; v++) {
            total[v] = V_C > V_CB ? fma(sum[v], ones, total[v]) : sum[v];
        }
    }
    for (uint v = 0u; v < V_NV; v++) {
        sums[(SUMS - 1) * V_NV + v] = total[v];
    }
}

/* A tile starts from sums s. */
#define START(i) FIRST(i) = sums[s * V_NV];
#define START2(i) SECOND(i) = sums[s * V_NV + V_NV - 1];
#endif

/* The tiles of an item, and where each begins. */
#if V_TW != 0
#define FOR_STRIPS                                                                                 \
    for (uint strip = first * V_STRIPS; strip < min(first * V_STRIPS + V_STRIPS, (uint)STRIPS);    \
         strip++)
#define STRIPS ((V_UH + TH - 1) / TH)
#define OPEN_STRIP uint r0 = min(strip * TH, (uint)(V_UH - TH));
#define FOR_TILES for (uint right = 0u; right < V_UW; right += V_TW)
#define OPEN_TILE                                                                                  \
    uint c0 = min(right, (uint)(V_UW - V_TW));                                                     \
    __global const float *xt = xn + (r0 * V_SH * V_W + c0 * V_SW) * V_XS;
#else
#define FOR_STRIPS
#define OPEN_STRIP
#define FOR_TILES for (uint base = 0u; base < OP; base += NP)
#define OPEN_TILE                                                                                  \
    __global const float *xt = xn;                                                                 \
    REP(WHERE)
#endif

#define VCONV_ARGS(AS)                                                                             \
    AS##RD(x), AS##RD(wp), AS##RD(bias), AS##WR(y), AS##WR8(index), AS##U(has_bias),               \
    AS##F(slope), AS##U(images), AS##FLAGS
ONE_ITEM(vconv, VCONV_ARGS) {
    GO(x), GO(wp), GO(bias), GO(y), GO(index);
    uint first = id0, n = id1, og = id2;
    if (n >= images) {
        return;
    }
    float16 ones = (float16)(one);
    int16 bad = (int16)(0);
    __global const float *xn = x + n * X_IMAGE;
    __global const float16 *wg = (__global const float16 *)wp + og * V_C * TAPS * V_NV;
#if V_BG
    __global const float *key = xn + (V_BG - 1) * V_XS;
    float16 sums[SUMS * V_NV];
    uint dirty[V_W + 16], row = min(first * V_STRIPS * TH, (uint)(V_UH - TH)) * V_SH;
    bool summed = false;
#endif
    FOR_STRIPS {
        OPEN_STRIP
#if V_BG
        for (; row < r0 * V_SH + UNDER; row++) {
            mark_row(xn + row * V_W * V_XS, key, dirty);
        }
#endif
        FOR_TILES {
            OPEN_TILE
            __global const float16 *w = wg;
            uint first_c = 0u, first_kh = 0u;
#if V_C > V_CB
            REP(TOTAL)
#else
            REP(ZERO)
#endif
#if V_BG
            uint clear = clear_rows(dirty + c0 * V_SW);
            if (clear >= (BG_ROWS ? 1u : V_KH)) {
                uint s = BG_ROWS ? clear : 0u;
                if (!summed) {
                    background_sums(wg, key, ones, sums);
                    summed = true;
                }
                first_c = BG_ROWS ? 0u : V_C;
                first_kh = s;
                w += s * V_KW * V_NV;
                REP(START)
#if V_NV == 2
                REP(START2)
#endif
            }
#endif
            for (uint g = first_c; g < V_C; g += V_CB) {
#if V_C > V_CB
                REP(ZERO)
#endif
                for (uint c = g; c < min(g + V_CB, (uint)V_C); c++) {
                    __global const float *xk = xt + X_CHANNEL(c) + first_kh * V_W * V_XS;
                    for (uint kh = first_kh; kh < V_KH; kh++, xk += V_W * V_XS) {
#pragma unroll
                        for (uint kw = 0u; kw < V_KW; kw++, w += V_NV) {
                            float16 w0 = w[0];
#if V_NV == 2
                            float16 w1 = w[1];
#endif
                            REP(STEP)
                        }
                    }
                }
#if V_C > V_CB
                REP(FOLD)
#endif
            }
            float16 done[16];
            REP(KEEP)
#if V_POOL
            /* Windows of four positions: the first maximum wins, then the activation. */
#pragma unroll 1
            for (uint i = 0u; i < 4u; i++) {
                uint v = i / (NP / 4), row_y = i % (NP / 4) / (V_TW / 2), col = i % (V_TW / 2);
                uint ob = og * V_NV + v, at = v * NP + row_y * 2u * V_TW + col * 2u;
                float16 b = BIAS(v), m = finish(done[at], b, ob, ones);
                int16 k = (int16)(0);
#pragma unroll
                for (uint j = 1u; j < 4u; j++) {
                    float16 q = finish(done[at + j / 2u * V_TW + j % 2u], b, ob, ones);
                    int16 more = q > m;
                    m = more ? q : m, k = more ? (int16)((int)j) : k;
                }
                m = ACT16(m, V_ACT, slope);
                bad |= BAD16(m);
                uint to = ((n * OB + ob) * V_PH + r0 / 2u + row_y) * V_PW + c0 / 2u + col;
                put16(m, to, y);
                vstore16(convert_uchar16(k), to, index);
            }
#else
#pragma unroll 1
            for (uint i = 0u; i < 16u; i++) {
                uint ob = og * V_NV + i / NP;
                float16 r = finish(done[i], BIAS(i / NP), ob, ones);
                r = ACT16(r, V_ACT, slope);
                bad |= BAD16(r);
                put16(r, (n * OB + ob) * OP + PIXEL(i % NP), y);
            }
#endif
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
