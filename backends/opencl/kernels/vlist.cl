/* Lists of the non-zero terms of a block's gradient, for CPU devices: the block's activation and
 * 2x2 max-pool of stride 2 (V_POOL) or its activation alone are undone on the way.
 *
 * gy, y, index are NC16 [N][OB][height * width][16]; an entry is (bits of g, offset), in row-major
 * order of the pixels (oh, ow) of the convolution's output. Leaving zeros out changes no bit (C4).
 */
#define list_w FN(list_w)
#define bias_planes FN(bias_planes)

/* For the weight gradient: list (segment, o) with the terms of the images of one chunk; offset of
 * the input pixel under tap (0, 0): `line` floats from one row to the next, `pitch` from one column
 * to the next. segment = shard * chunks + chunk. One item per 16 channels and segment. */
#define START(l) __global uint2 *p##l = out + l * capacity;
#define APPEND(l)                                                                                  \
    *p##l = entry[l];                                                                              \
    p##l += keep[l];
#define LENGTH(l) counts[l] = (int)(p##l - (out + l * capacity));
#define LIST_W_ARGS(AS)                                                                            \
    AS##RD(gy), AS##RD(y), AS##RD8(index), AS##WRP(list), AS##WRI(counts), AS##F(slope),           \
    AS##U(rows), AS##U(B), AS##U(chunks), AS##U(G), AS##U(capacity), AS##U(segments), AS##U(OB),   \
    AS##U(height), AS##U(width), AS##U(pitch), AS##U(line), AS##U(ximage), AS##F(one)
KERNEL(list_w, LIST_W_ARGS) {
    GO(gy), GO(y), GO(index), GO(counts);
    uint ob = id0, segment = id1;
    if (ob >= OB || segment >= segments) {
        return;
    }
    uint s = segment / chunks, first = s * B + segment % chunks * G;
    uint last = min(min(first + G, s * B + B), rows), id = (segment * OB + ob) * 16u;
    __global uint2 *out = list + list_off + id * capacity;
    counts = counts + id;
    R16(START)
    for (uint image = first; image < last; image++) {
        for (uint row = 0u; row < height * (V_POOL + 1); row++) {
            uint at = ((image * OB + ob) * height + row / (V_POOL + 1)) * width;
            int16 place = (int16)((int)(image * ximage + row * line));
            /* Every term is written, and kept if it counts: no branches. */
            for (uint px = 0u; px < width; px++) {
                float16 g = flow16(gy, y, at + px, slope);
                int16 k = WINDOW16(at + px), line_of = k >> 1;
                int16 col = (k & (int16)(1)) + (int16)((int)px * (V_POOL + 1));
                int16 to = place + col * (int16)((int)pitch);
                int16 here = line_of == (int16)((int)(row % (V_POOL + 1)));
                int16 bits = as_int16(here ? g : (float16)(0.0f));
                uint2 entry[16];
                int keep[16];
                vstore16((int16)(bits.s0, to.s0, bits.s1, to.s1, bits.s2, to.s2, bits.s3, to.s3,
                                 bits.s4, to.s4, bits.s5, to.s5, bits.s6, to.s6, bits.s7, to.s7),
                         0, (__private int *)entry);
                vstore16((int16)(bits.s8, to.s8, bits.s9, to.s9, bits.sa, to.sa, bits.sb, to.sb,
                                 bits.sc, to.sc, bits.sd, to.sd, bits.se, to.se, bits.sf, to.sf),
                         1, (__private int *)entry);
                vstore16(((bits << 1) != (int16)(0)) & (int16)(1), 0, keep);
                R16(APPEND)
            }
        }
    }
    R16(LENGTH)
}

/* Bias gradient, PLANE16 of each image and 16 channels: part[n][O]. */
#define BIAS_PLANES_ARGS(AS)                                                                       \
    AS##RD(gy), AS##RD(y), AS##RD8(index), AS##WR(part), AS##F(slope), AS##U(rows), AS##U(O),      \
    AS##U(height), AS##U(width), AS##U(OW), AS##F(one)
KERNEL(bias_planes, BIAS_PLANES_ARGS) {
    GO(gy), GO(y), GO(index), GO(part);
    uint ob = id0, n = id1, OB = (O + 15u) / 16u;
    if (n >= rows) {
        return;
    }
    float16 ones = (float16)(one), lane[16];
    for (uint i = 0u; i < 16u; i++) {
        lane[i] = (float16)(0.0f);
    }
    /* Pixels of the convolution's output row by row: the order within a lane counts. */
    for (uint oh = 0u; oh < height * (V_POOL + 1); oh++) {
        for (uint px = 0u; px < width; px++) {
            uint at = (n * OB + ob) * height * width + oh / (V_POOL + 1) * width + px;
            uint first = oh * OW + px * (V_POOL + 1);
            float16 g = flow16(gy, y, at, slope);
#if V_POOL
            int16 k = WINDOW16(at);
            for (uint dx = 0u; dx < 2u; dx++) {
                uint l = (first + dx) % 16u;
                int here = (int)(oh % 2u * 2u + dx);
                lane[l] = fma(k == (int16)(here) ? g : (float16)(0.0f), ones, lane[l]);
            }
#else
            lane[first % 16u] = fma(g, ones, lane[first % 16u]);
#endif
        }
    }
    for (uint s = 8u; s > 0u; s /= 2u) {
        for (uint j = 0u; j < s; j++) {
            lane[j] = fma(lane[j + s], ones, lane[j]);
        }
    }
    float each[16];
    vstore16(lane[0], 0, each);
    for (uint l = 0u; l < 16u && ob * 16u + l < O; l++) {
        part[n * O + ob * 16u + l] = each[l];
    }
}
