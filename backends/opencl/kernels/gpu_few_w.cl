/* Weight gradients of convolutions with few channels and stride 1, for GPUs: a direct sum, as the
 * columns of a matrix product would be few and its loads as many as its multiply-adds.
 *
 * A group sums one chunk of images for ML output channels, an item the KW weights of one channel
 * and one row of a window, in registers. Bands of BR rows of the gradient and the BR+KH-1 rows of x
 * under them pass through local memory. Items of a warp have the same rows of x, so that a block of
 * 8 pixels is two loads for 8*KW multiply-adds.
 * Build options: ML, NC (channels), KH, KW; BR, GB = rows and blocks of 8 pixels of a band; FLOW as
 * in gpu_few_x.cl.
 */
#define ITEMS (ML * NC * KH)
#define UNROLL _Pragma("unroll")
/* Vectors of a row of x under GB blocks, and under one. */
#define XV (2u * GB + (KW + 2u) / 4u)
#define WV ((KW + 10u) / 4u)
#define XH (BR + KH - 1u)
#if FLOW == 2
#define GR (BR / 2u) /* rows of windows */
#define GV 1u        /* vectors of a block */
#else
#define GR BR
#define GV 2u
#endif

/* acc += value v under pixel i of a block. */
#define TERM(i, v)                                                                                 \
    UNROLL for (uint l = 0u; l < KW; l++) {                                                        \
        acc[l] = fma(v, window[(i) + l], acc[l]);                                                  \
    }

/* part[z][m][j]: as conv_grad_w_tile's, of parts that are chunks. Padding: ph rows, pw columns. */
__kernel __attribute__((reqd_work_group_size(ML, NC *KH, 1))) void
few_w(RD(gy), RD(flow), RD8(index), RD(x), WR(part), uint M, uint H, uint W, uint OH, uint OW,
      uint QW, uint ph, uint pw, uint act, uint rows, uint B, uint G, uint parts, float slope,
      float one) {
    GO(gy), GO(flow), GO(index), GO(x), GO(part);
    __local float4 xs[NC][XH][XV], gs[GR][GB][GV][ML];
#if FLOW == 2
    __local uint chosen[GR][GB][ML];
#endif
    uint lane = (uint)get_local_id(0), row = (uint)get_local_id(1), t = row * ML + lane;
    uint m0 = (uint)get_group_id(0) * ML, z = (uint)get_group_id(2), c = row / KH, kh = row % KH;
    uint from = z / parts * B, to = from + B;
    from += z % parts * G;
    to = from + G < to ? from + G : to;
    to = to < rows ? to : rows;
    float acc[KW];
    UNROLL for (uint l = 0u; l < KW; l++) {
        acc[l] = 0.0f;
    }
    for (uint n = from; n < to; n++) {
        for (uint r0 = 0u; r0 < OH; r0 += BR) {
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint e = t; e < NC * XH * XV * 4u; e += ITEMS) {
                uint w = e % (XV * 4u), h = e / (XV * 4u) % XH, ec = e / (XV * 4u * XH);
                uint xh = r0 + h - ph, xw = w - pw;
                bool in = (xh < H) & (xw < W);
                float v = x[in ? ((n * NC + ec) * H + xh) * W + xw : 0u];
                ((__local float *)xs[ec][h])[w] = in ? v : 0.0f;
            }
            /* Pixels of the gradient; four of a channel, then the next channel. */
            for (uint e = t; e < GR * GB * GV * ML * 4u; e += ITEMS) {
                uint m = m0 + e / 4u % ML, vector = e / (4u * ML) % (GB * GV);
                uint g = e / (4u * ML * GB * GV), w = vector * 4u + e % 4u;
#if FLOW == 2
                uint h = r0 / 2u + g;
                bool in = (m < M) & (w < QW) & (h < OH / 2u);
                uint at = in ? ((n * M + m) * (OH / 2u) + h) * QW + w : 0u;
                uint which = index[at];
                ((__local uchar *)&chosen[g][vector][e / 4u % ML])[e % 4u] = in ? which : 255u;
#else
                uint h = r0 + g;
                bool in = (m < M) & (w < OW) & (h < OH);
                uint at = in ? ((n * M + m) * OH + h) * OW + w : 0u;
#endif
                float v = gy[at];
#if FLOW != 0
                v = act != 0u ? act_bwd(v, flow[at], slope) : v;
#endif
                ((__local float *)&gs[g][vector / GV][vector % GV][e / 4u % ML])[e % 4u] =
                    in ? v : 0.0f;
            }
            barrier(CLK_LOCAL_MEM_FENCE);
            for (uint r = 0u; r < BR; r++) {
                for (uint b = 0u; b < GB; b++) {
                    float window[4u * WV];
                    UNROLL for (uint i = 0u; i < WV; i++) {
                        vstore4(xs[c][r + kh][2u * b + i], i, window);
                    }
#if FLOW == 2
                    float4 g = gs[r / 2u][b][0][lane];
                    uint which = chosen[r / 2u][b][lane] ^ (r % 2u * 0x02020202u);
                    float v[4] = {g.x, g.y, g.z, g.w};
                    UNROLL for (uint i = 0u; i < 4u; i++) {
                        uint at = which >> 8u * i & 255u;
                        TERM(2u * i, at == 0u ? v[i] : 0.0f)
                        TERM(2u * i + 1u, at == 1u ? v[i] : 0.0f)
                    }
#else
                    float4 g = gs[r][b][0][lane], h = gs[r][b][1][lane];
                    float v[8] = {g.x, g.y, g.z, g.w, h.x, h.y, h.z, h.w};
                    UNROLL for (uint i = 0u; i < 8u; i++) {
                        TERM(i, v[i])
                    }
#endif
                }
            }
        }
    }
    if (m0 + lane < M) {
        UNROLL for (uint l = 0u; l < KW; l++) {
            part[((z * M + m0 + lane) * NC * KH + row) * KW + l] = fma(acc[l], one, 0.0f);
        }
    }
}
