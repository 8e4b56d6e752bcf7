/* Convolutions with few channels and stride 1, for GPUs: a direct convolution, as a matrix product
 * would load as many values as it multiplies.
 *
 * A group computes BR rows of an image in 4*NQ output channels, an item 2 rows of 8 pixels in four
 * of them: 64 sums in registers. All weights of the channels and the rows of x under the band lie
 * in local memory; two rows of x serve 64*KW multiply-adds. Build options: NQ; SP: items for each
 * four channels; NC = channels of x; KH, KW; BR, even; GB = blocks of 8 pixels in a row; POOL = 1:
 * a 2x2 max-pool of stride 2 follows.
 */
#define ITEMS (NQ * SP)
#define UNROLL _Pragma("unroll")
#define TAPS (NC * KH * KW)
#define XH (BR + KH - 1u)
/* Vectors of a row of x under GB blocks, and under one. */
#define XV (2u * GB + (KW + 2u) / 4u)
#define WV ((KW + 10u) / 4u)

/* Sums s of the pixels of one channel m: + b, snapped, activated. */
#define BIASED(s) stn_snap_x(has_b != 0u ? ADD(bias, s) : (s))

/* y[n][m][oh][ow] of a map OH x OW before the pool; H x W: the map of x; ph, pw: padding. rows: KH,
 * kept from the compiler, which would unroll the loop over it. */
__kernel __attribute__((reqd_work_group_size(NQ, SP, 1))) void
few_y(RD(x), RD(w), RD(b), WR(y), WR8(index), uint M, uint H, uint W, uint OH, uint OW, uint ph,
      uint pw, uint rows, uint bands, uint has_b, uint act, float slope, uint images, FLAGS) {
    GO(x), GO(w), GO(b), GO(y), GO(index);
    __local float4 xs[NC][XH][XV], ws[TAPS][NQ + 1u];
    uint quad = (uint)get_local_id(0), place = (uint)get_local_id(1), t = place * NQ + quad;
    uint n = (uint)get_group_id(1) / bands, r0 = ((uint)get_group_id(1) - n * bands) * BR;
    uint m0 = (uint)get_group_id(0) * NQ * 4u;
    uint bad = 0u;
    bool exists = n < images;
    for (uint e = t; e < NC * XH * XV * 4u; e += ITEMS) {
        uint v = e % (XV * 4u), h = e / (XV * 4u) % XH, c = e / (XV * 4u * XH);
        uint xh = r0 + h - ph, xw = v - pw;
        bool in = exists & (xh < H) & (xw < W);
        float value = x[in ? ((n * NC + c) * H + xh) * W + xw : 0u];
        ((__local float *)xs[c][h])[v] = in ? value : 0.0f;
    }
    for (uint e = t; e < TAPS * NQ * 4u; e += ITEMS) {
        uint m = e / TAPS, k = e % TAPS;
        bool in = m0 + m < M;
        float value = w[in ? (m0 + m) * TAPS + k : 0u];
        ((__local float *)ws[k])[m] = in ? value : 0.0f;
    }
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint block = exists ? place : BR * GB; block < BR / 2u * GB; block += SP) {
        uint r = block / GB * 2u, v = block % GB;
        float4 acc[2][8];
        UNROLL for (uint i = 0u; i < 8u; i++) {
            acc[0][i] = (float4)(0.0f);
            acc[1][i] = (float4)(0.0f);
        }
        for (uint c = 0u; c < NC; c++) {
            for (uint kh = 0u; kh < rows; kh++) {
                float window[2][4u * WV];
                UNROLL for (uint i = 0u; i < WV; i++) {
                    vstore4(xs[c][r + kh][2u * v + i], i, window[0]);
                    vstore4(xs[c][r + kh + 1u][2u * v + i], i, window[1]);
                }
                UNROLL for (uint l = 0u; l < KW; l++) {
                    float4 weight = ws[(c * KH + kh) * KW + l][quad];
                    UNROLL for (uint i = 0u; i < 8u; i++) {
                        acc[0][i] = fma((float4)(window[0][l + i]), weight, acc[0][i]);
                        acc[1][i] = fma((float4)(window[1][l + i]), weight, acc[1][i]);
                    }
                }
            }
        }
        UNROLL for (uint q = 0u; q < 4u; q++) {
            uint m = m0 + quad * 4u + q, oh = r0 + r, ow = v * 8u;
            if (m >= M) {
                continue;
            }
            float bias = has_b != 0u ? b[m] : 0.0f, s[2][8];
            UNROLL for (uint i = 0u; i < 8u; i++) {
                float4 p0 = fma(acc[0][i], (float4)(one), (float4)(0.0f));
                float4 p1 = fma(acc[1][i], (float4)(one), (float4)(0.0f));
                s[0][i] = BIASED(q == 0u ? p0.x : q == 1u ? p0.y : q == 2u ? p0.z : p0.w);
                s[1][i] = BIASED(q == 0u ? p1.x : q == 1u ? p1.y : q == 2u ? p1.z : p1.w);
            }
#if POOL
            uint at = ((n * M + m) * (OH / 2u) + oh / 2u) * (OW / 2u) + ow / 2u;
            UNROLL for (uint i = 0u; i < 8u; i += 2u) {
                if (oh + 1u >= OH || ow + i + 1u >= OW) {
                    continue;
                }
                float each[4] = {s[0][i], s[0][i + 1u], s[1][i], s[1][i + 1u]}, best = each[0];
                uint which = 0u;
                UNROLL for (uint e = 0u; e < 4u; e++) {
                    NOTE(each[e])
                    bool larger = each[e] > best;
                    best = larger ? each[e] : best;
                    which = larger ? e : which;
                }
                best = act != 0u ? act_fwd(best, slope) : best;
                NOTE(best)
                y[at + i / 2u] = best;
                index[at + i / 2u] = (uchar)which;
            }
#else
            uint at = ((n * M + m) * OH + oh) * OW + ow;
            UNROLL for (uint i = 0u; i < 8u; i++) {
                UNROLL for (uint e = 0u; e < 2u; e++) {
                    if (oh + e < OH && ow + i < OW) {
                        float value = act != 0u ? act_fwd(s[e][i], slope) : s[e][i];
                        NOTE(value)
                        y[at + e * OW + i] = value;
                    }
                }
            }
#endif
        }
    }
    RAISE
}
