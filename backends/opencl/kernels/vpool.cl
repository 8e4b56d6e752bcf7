/* Pools of NC16 maps on CPU devices: lanes are 16 channels, one item per row of the result. `total`
 * counts the rows of all planes (n, block of channels).
 */
#define WINDOW uint H, uint W, uint OH, uint OW, uint KH, uint KW, uint sh, uint sw
#define OPEN                                                                                       \
    uint e = (uint)get_global_id(0);                                                               \
    if (e >= total) {                                                                              \
        return;                                                                                    \
    }                                                                                              \
    int16 bad = (int16)(0);
#define ONES ((float16)(one))
#define PUT(v, at, to)                                                                             \
    bad |= BAD16(v);                                                                               \
    put16(v, at, to);
#define CLOSE                                                                                      \
    if (any(bad)) {                                                                                \
        raise_flag(flags, flags_off, node, step1);                                                 \
    }
/* First window over row h. */
#define FIRST_ROW (h < KH ? 0u : (h - KH) / sh + 1u)
/* Windows over column v, v ascending: the first one moves on where it ends. */
#define NEXT_COLUMN v0 = v0 * sw + KW <= v ? v0 + 1u : v0;

__kernel void maxpool_blocks(RD(x), WR(y), WR8(index), WINDOW, uint act, float slope, uint total,
                             FLAGS) {
    GO(x), GO(y), GO(index);
    OPEN
    uint first = (e / OH * H + e % OH * sh) * W;
    for (uint v = 0u; v < OW; v++) {
        uint from = first + v * sw;
        float16 m = vload16(from, x);
        int16 best = (int16)(0);
        for (uint i = 0u; i < KH; i++) {
            for (uint j = 0u; j < KW; j++) {
                float16 t = vload16(from + i * W + j, x);
                int16 more = t > m;
                m = more ? t : m;
                best = more ? (int16)((int)(i * KW + j)) : best;
            }
        }
        m = ACT16(m, act != 0u, slope);
        PUT(m, e * OW + v, y)
        vstore16(convert_uchar16(best), e * OW + v, index);
    }
    CLOSE
}

__kernel void maxpool_grad_blocks(RD(gy), RD(y), RD8(index), WR(gx), WINDOW, uint act, float slope,
                                  uint total, FLAGS) {
    GO(gy), GO(y), GO(index), GO(gx);
    OPEN
    uint h = e % H, h0 = FIRST_ROW, v0 = 0u;
    for (uint v = 0u; v < W; v++) {
        float16 sum = (float16)(0.0f);
        NEXT_COLUMN
        for (uint oh = h0; oh * sh <= h && oh < OH; oh++) {
            for (uint ow = v0; ow * sw <= v && ow < OW; ow++) {
                uint at = (e / H * OH + oh) * OW + ow;
                int16 chosen = convert_int16(vload16(at, index));
                float16 g = vload16(at, gy);
                if (act != 0u) {
                    g = act_bwd16(g, vload16(at, y), slope);
                }
                g = fma(g, ONES, sum);
                sum = chosen == (int16)((int)((h - oh * sh) * KW + v - ow * sw)) ? g : sum;
            }
        }
        sum = SNAP16(sum, STN_LIM_G);
        PUT(sum, e * W + v, gx)
    }
    CLOSE
}

/* halve: 2x2 windows with stride 2 add as ((a+b)+(c+d)). */
__kernel void avgpool_blocks(RD(x), WR(y), WINDOW, float scale, uint halve, uint total, FLAGS) {
    GO(x), GO(y);
    OPEN
    uint first = (e / OH * H + e % OH * sh) * W;
    for (uint v = 0u; v < OW; v++) {
        uint from = first + v * sw;
        float16 sum = (float16)(0.0f);
        if (halve != 0u) {
            float16 a = fma(vload16(from + 1u, x), ONES, vload16(from, x));
            float16 b = fma(vload16(from + W + 1u, x), ONES, vload16(from + W, x));
            sum = fma(b, ONES, a);
        } else {
            for (uint i = 0u; i < KH; i++) {
                for (uint j = 0u; j < KW; j++) {
                    sum = fma(vload16(from + i * W + j, x), ONES, sum);
                }
            }
        }
        sum = sum * scale;
        sum = SNAP16(sum, STN_LIM_X);
        PUT(sum, e * OW + v, y)
    }
    CLOSE
}

__kernel void avgpool_grad_blocks(RD(gy), WR(gx), WINDOW, float scale, uint total, FLAGS) {
    GO(gy), GO(gx);
    OPEN
    uint h = e % H, h0 = FIRST_ROW, v0 = 0u;
    for (uint v = 0u; v < W; v++) {
        float16 sum = (float16)(0.0f);
        NEXT_COLUMN
        for (uint oh = h0; oh * sh <= h && oh < OH; oh++) {
            for (uint ow = v0; ow * sw <= v && ow < OW; ow++) {
                sum = fma(vload16((e / H * OH + oh) * OW + ow, gy), ONES, sum);
            }
        }
        sum = sum * scale;
        sum = SNAP16(sum, STN_LIM_G);
        PUT(sum, e * W + v, gx)
    }
    CLOSE
}
