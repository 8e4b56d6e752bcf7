/* Matrix products in local-memory tiles, for GPUs: convolutions, linear layers and their gradients.
 *
 * A group computes TM x TN outputs, an item RM x 4 of them (RM: 8, 4, 2 or 1). Slices of TK terms
 * pass through local memory, which holds two: while one is multiplied the next is fetched into
 * registers and then put into the other half, so that one barrier per slice suffices. A slice never
 * crosses the end of a chunk; terms past it are +0 on both sides, which changes no bit (contract
 * C4, zero terms).
 * Build options: TM, TN, RM with (TM/RM)*(TN/4) = ITEMS; FLOW = 1: the gradient that comes in
 * passes backwards through an activation with the output `flow` on its way to local memory; FLOW =
 * 2 (weight gradients): through a 2x2 max-pool of stride 2 and, with act = 1, an activation behind
 * it. LEVELS: see SHARDS.
 */
#if FLOW == 1
#define GRAD(g, e) act_bwd(g[e], flow[e], slope)
#else
#define GRAD(g, e) g[e]
#endif
#define ITEMS 128u
#define TK 16u
#define NX (TN / 4u)
#define NY (TM / RM)
#define GROUP __attribute__((reqd_work_group_size(NX, NY, 1)))
/* Rows of a slice in local memory: 4 floats longer than the tile, against bank conflicts. */
#define PA (TM + 4u)
#define PB (TN + 4u)
#define NA (TM * TK / ITEMS)
#define NB (TN * TK / ITEMS)
/* Arrays of an item become registers only where every loop over them is unrolled. */
#define UNROLL _Pragma("unroll")

/* Facts of term or column k of the table: offset of its input value, window row and column, offset
 * of its weight. */
typedef struct {
    uint at, kh, kw, weight;
} term_t;
static inline term_t term_of(__global const int *table, uint k) {
    uint4 e = as_uint4(vload4(k, table));
    term_t t = {e.x, e.y >> 16, e.y & 0xffffu, e.z};
    return t;
}

#if RM == 8
#define ROWS(cur, k, b)                                                                            \
    float4 a0 = ta[cur][k][2u * ty], a1 = ta[cur][k][2u * ty + 1u];                                \
    acc[0] = fma((float4)(a0.x), b, acc[0]);                                                       \
    acc[1] = fma((float4)(a0.y), b, acc[1]);                                                       \
    acc[2] = fma((float4)(a0.z), b, acc[2]);                                                       \
    acc[3] = fma((float4)(a0.w), b, acc[3]);                                                       \
    acc[4] = fma((float4)(a1.x), b, acc[4]);                                                       \
    acc[5] = fma((float4)(a1.y), b, acc[5]);                                                       \
    acc[6] = fma((float4)(a1.z), b, acc[6]);                                                       \
    acc[7] = fma((float4)(a1.w), b, acc[7]);
#elif RM == 4
#define ROWS(cur, k, b)                                                                            \
    float4 a = ta[cur][k][ty];                                                                     \
    acc[0] = fma((float4)(a.x), b, acc[0]);                                                        \
    acc[1] = fma((float4)(a.y), b, acc[1]);                                                        \
    acc[2] = fma((float4)(a.z), b, acc[2]);                                                        \
    acc[3] = fma((float4)(a.w), b, acc[3]);
#elif RM == 2
#define ROWS(cur, k, b)                                                                            \
    float2 a = ((__local const float2 *)ta[cur][k])[ty];                                           \
    acc[0] = fma((float4)(a.x), b, acc[0]);                                                        \
    acc[1] = fma((float4)(a.y), b, acc[1]);
#else
#define ROWS(cur, k, b) acc[0] = fma((float4)(((__local const float *)ta[cur][k])[ty]), b, acc[0]);
#endif

/* What every kernel here begins with; M rows of output, columns of output, this item's place. */
#define TILE                                                                                       \
    __local float4 ta[2][TK][PA / 4u], tb[2][TK][PB / 4u];                                         \
    uint tx = (uint)get_local_id(0), ty = (uint)get_local_id(1), t = ty * NX + tx;                 \
    uint m0 = (uint)get_group_id(1) * TM, j0 = (uint)get_group_id(0) * TN;                         \
    float4 acc[RM], total[RM];                                                                     \
    float ra[NA], rb[NB];                                                                          \
    UNROLL for (uint i = 0u; i < RM; i++) {                                                        \
        acc[i] = (float4)(0.0f);                                                                   \
        total[i] = (float4)(0.0f);                                                                 \
    }

#define MULTIPLY(cur)                                                                              \
    UNROLL for (uint k = 0u; k < TK; k++) {                                                        \
        float4 b = tb[cur][k][tx];                                                                 \
        ROWS(cur, k, b)                                                                            \
    }

/* CHUNK: the chain of a chunk joins the total. */
#define END_CHUNK                                                                                  \
    UNROLL for (uint i = 0u; i < RM; i++) {                                                        \
        total[i] = fma(acc[i], (float4)(one), total[i]);                                           \
        acc[i] = (float4)(0.0f);                                                                   \
    }

/* Terms [first, last) in shards of `shard` terms, in chunks of L from the start of each. FETCH(k0,
 * end) reads the slice of terms k0 .. end-1 (at most TK) into ra, rb; PUT(half) stores them;
 * END_SHARD takes the total. All conditions are the same for the whole group. */
#define PRODUCT(first, last, shard, L)                                                             \
    uint k0 = (first), stop = (last)-k0 > (shard) ? k0 + (shard) : (last), cur = 0u;               \
    uint end = stop - k0 > (L) ? k0 + (L) : stop;                                                  \
    bool more = k0 < end;                                                                          \
    if (more) {                                                                                    \
        FETCH(k0, end)                                                                             \
        PUT(0u)                                                                                    \
    }                                                                                              \
    barrier(CLK_LOCAL_MEM_FENCE);                                                                  \
    while (more) {                                                                                 \
        bool ends = k0 + TK >= end, full = ends && end == stop;                                    \
        more = !ends || end < (last);                                                              \
        k0 = ends ? end : k0 + TK;                                                                 \
        stop = !full ? stop : (last)-end > (shard) ? end + (shard) : (last);                       \
        end = !ends ? end : stop - end > (L) ? end + (L) : stop;                                   \
        if (more) {                                                                                \
            FETCH(k0, end)                                                                         \
        }                                                                                          \
        MULTIPLY(cur)                                                                              \
        if (ends) {                                                                                \
            END_CHUNK                                                                              \
            if (full) {                                                                            \
                END_SHARD                                                                          \
            }                                                                                      \
        }                                                                                          \
        cur = 1u - cur;                                                                            \
        if (more) {                                                                                \
            PUT(cur)                                                                               \
        }                                                                                          \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
    }

/* SHARDS, where a group sums all of them (LEVELS > 0, 2^(LEVELS-1) shards): the total joins the
 * balanced tree, whose levels are held in registers; `done` counts shards. */
#if LEVELS
#define END_SHARD                                                                                  \
    bool carry = true;                                                                             \
    UNROLL for (uint l = 0u; l < LEVELS; l++) {                                                    \
        bool add = (done >> l & 1u) != 0u;                                                         \
        if (carry && add) {                                                                        \
            UNROLL for (uint i = 0u; i < RM; i++) {                                                \
                total[i] = fma(total[i], (float4)(one), level[l][i]);                              \
            }                                                                                      \
        } else if (carry) {                                                                        \
            UNROLL for (uint i = 0u; i < RM; i++) {                                                \
                level[l][i] = total[i];                                                            \
            }                                                                                      \
        }                                                                                          \
        carry = carry && add;                                                                      \
    }                                                                                              \
    UNROLL for (uint i = 0u; i < RM; i++) {                                                        \
        total[i] = (float4)(0.0f);                                                                 \
    }                                                                                              \
    done++;
#else
#define END_SHARD
#endif

/* The PUT of kernels whose item fetched term t % TK of both sides. */
#define PUT_TERMS(half)                                                                            \
    UNROLL for (uint i = 0u; i < NB; i++) {                                                        \
        ((__local float *)tb[half][t % TK])[t / TK + i * (ITEMS / TK)] = rb[i];                    \
    }                                                                                              \
    UNROLL for (uint i = 0u; i < NA; i++) {                                                        \
        ((__local float *)ta[half][t % TK])[t / TK + i * (ITEMS / TK)] = ra[i];                    \
    }

/* Input pixel under the first window element of a column, wrapping where it lies in the padding;
 * h past every size marks a column that does not exist. */
#define NOWHERE 0x80000000u

#if !LEVELS
/* y[n][m][p] = sum over k < K of w[m*wm + weight(k)] * x[n][at(k) + pixel], + b, snapped,
 * activated. Columns are the OP = OH*OW output pixels of every image, in rows of OW; with pool = 1
 * they are the 4 elements of every 2x2 window of the pooled map, whose width is then OW, so that an
 * item's four columns are one window and the pool happens in registers. xs: elements of an image of
 * x. */
__kernel GROUP void conv_tile(RD(x), RD(flow), RD(w), RD(b), WR(y), WR8(index), RDI(table), uint M, uint K,
                              uint L, uint wm, uint xs, uint H, uint W, uint OP, uint OW, uint sh,
                              uint sw, uint ph, uint pw, uint has_b, uint pool, uint act,
                              float slope, float limit, uint columns, FLAGS) {
    GO(x), GO(flow), GO(w), GO(b), GO(y), GO(index), GO(table);
    TILE
    uint h0 = NOWHERE, w0 = 0u, base = 0u;
    if (j0 + t % TN < columns) {
        uint j = j0 + t % TN, n = j / OP, p = j - n * OP, q = pool != 0u ? p / 4u : p;
        uint oh = q / OW, ow = q - oh * OW;
        oh = pool != 0u ? 2u * oh + (p >> 1 & 1u) : oh;
        ow = pool != 0u ? 2u * ow + (p & 1u) : ow;
        h0 = oh * sh - ph;
        w0 = ow * sw - pw;
        base = n * xs + h0 * W + w0;
    }
#define FETCH(k0, end)                                                                             \
    UNROLL for (uint i = 0u; i < NB; i++) {                                                        \
        uint k = (k0) + t / TN + i * (ITEMS / TN);                                                 \
        rb[i] = 0.0f;                                                                              \
        if (k < (end)) {                                                                           \
            term_t e = term_of(table, k);                                                          \
            if (h0 + e.kh < H && w0 + e.kw < W) {                                                  \
                rb[i] = GRAD(x, base + e.at);                                                      \
            }                                                                                      \
        }                                                                                          \
    }                                                                                              \
    {                                                                                              \
        uint k = (k0) + t % TK, at = k < (end) ? term_of(table, k).weight : 0u;                    \
        UNROLL for (uint i = 0u; i < NA; i++) {                                                    \
            uint m = m0 + t / TK + i * (ITEMS / TK);                                               \
            ra[i] = k < (end) && m < M ? w[m * wm + at] : 0.0f;                                    \
        }                                                                                          \
    }
#define PUT(half)                                                                                  \
    UNROLL for (uint i = 0u; i < NB; i++) {                                                        \
        ((__local float *)tb[half][t / TN + i * (ITEMS / TN)])[t % TN] = rb[i];                    \
    }                                                                                              \
    UNROLL for (uint i = 0u; i < NA; i++) {                                                        \
        ((__local float *)ta[half][t % TK])[t / TK + i * (ITEMS / TK)] = ra[i];                    \
    }
    /* Groups past the last column have nothing to do. No early return before a barrier: some
     * compilers split a kernel at its barriers and lose track of the items that left. */
    PRODUCT(0u, j0 < columns ? K : 0u, K, L)
#undef FETCH
#undef PUT
    uint j = j0 + 4u * tx;
    uint n = j / OP, p = j - n * OP;
    UNROLL for (uint i = 0u; i < RM; i++) {
        uint m = m0 + ty * RM + i;
        if (m >= M || j >= columns) {
            continue;
        }
        float4 r = has_b != 0u ? fma((float4)(b[m]), (float4)(one), total[i]) : total[i];
        float v[4] = {stn_snap(r.x, limit), stn_snap(r.y, limit), stn_snap(r.z, limit),
                      stn_snap(r.w, limit)};
        if (pool != 0u) {
            float best = v[0];
            uint which = 0u, at = (n * M + m) * (OP / 4u) + p / 4u;
            UNROLL for (uint c = 0u; c < 4u; c++) {
                CHECK(v[c]);
                bool larger = v[c] > best;
                best = larger ? v[c] : best;
                which = larger ? c : which;
            }
            best = act != 0u ? act_fwd(best, slope) : best;
            CHECK(best);
            y[at] = best;
            index[at] = (uchar)which;
            continue;
        }
        UNROLL for (uint c = 0u, nc = n, pc = p; c < 4u; c++) {
            float s = act != 0u ? act_fwd(v[c], slope) : v[c];
            if (j + c < columns) {
                CHECK(s);
                y[(nc * M + m) * OP + pc] = s;
            }
            pc++;
            nc += pc == OP;
            pc = pc == OP ? 0u : pc;
        }
    }
}

/* Input gradient by taps: gx[n][m][p] = sum over the output channels o and the output pixels q
 * that pixel p meets of gy[n][o][q] * w[o][m][tap(p, q)], snapped. Columns are the images of one
 * pixel, so that all of a tile meet the same nh x nw outputs and nothing is multiplied by padding.
 * pixels[i] = {p, first q, nh << 16 | nw, first tap}: from row to row of outputs the tap moves back
 * by `up`, from column to column by `left`. CB channels of gy to a chunk; taps: of a window. */
__kernel GROUP void grad_x_tile(RD(gy), RD(w), WR(gx), RDI(pixels), uint M, uint O, uint CB, uint P,
                                uint OP, uint OW, uint taps, uint up, uint left, uint images,
                                FLAGS) {
    GO(gy), GO(w), GO(gx), GO(pixels);
    TILE
    uint4 pixel = as_uint4(vload4(get_group_id(2), pixels));
    uint nw = pixel.z & 0xffffu, met = (pixel.z >> 16) * nw;
#define FETCH(k0, end)                                                                             \
    {                                                                                              \
        uint k = (k0) + t % TK, o = k / met, r = k - o * met, row = r / nw, col = r - row * nw;    \
        uint from = o * OP + pixel.y + row * OW + col;                                             \
        uint at = o * M * taps + pixel.w - row * up - col * left;                                  \
        UNROLL for (uint i = 0u; i < NB; i++) {                                                    \
            uint n = j0 + t / TK + i * (ITEMS / TK);                                               \
            rb[i] = k < (end) && n < images ? gy[n * O * OP + from] : 0.0f;                        \
        }                                                                                          \
        UNROLL for (uint i = 0u; i < NA; i++) {                                                    \
            uint m = m0 + t / TK + i * (ITEMS / TK);                                               \
            ra[i] = k < (end) && m < M ? w[m * taps + at] : 0.0f;                                  \
        }                                                                                          \
    }
#define PUT(half) PUT_TERMS(half)
    PRODUCT(0u, j0 < images ? O * met : 0u, O * met, CB * met)
#undef FETCH
#undef PUT
    UNROLL for (uint i = 0u; i < RM; i++) {
        uint m = m0 + ty * RM + i, n = j0 + 4u * tx;
        float v[4] = {stn_snap_g(total[i].x), stn_snap_g(total[i].y), stn_snap_g(total[i].z),
                      stn_snap_g(total[i].w)};
        UNROLL for (uint c = 0u; c < 4u; c++) {
            if (m < M && n + c < images) {
                CHECK(v[c]);
                gx[((n + c) * M + m) * P + pixel.x] = v[c];
            }
        }
    }
}
#endif

#if FLOW == 2
static inline float pooled(__global const float *gy, __global const float *y,
                           __global const uchar *index, uint plane, uint QP, uint q, bool in,
                           uint which, uint act, float slope) {
    if (!in || q >= QP || index[plane + q] != which) {
        return 0.0f;
    }
    return act != 0u ? act_bwd(gy[plane + q], y[plane + q], slope) : gy[plane + q];
}
#endif

/* Weight gradient: part[z][m][j] = sum over the images of part z and their output pixels of
 * gy[n][m][p] * x[n][at(j) + pixel]. A shard has B images, a chunk G, a part G (parts > 1 to a
 * shard) or B. A pooled gradient has QP pixels in rows of QW. With LEVELS there are no parts:
 * part[m][j] is the gradient, snapped to `limit`. */
__kernel GROUP void conv_grad_w_tile(RD(gy), RD(flow), RD8(index), RD(x), WR(part), RDI(table),
                                     uint M, uint N, uint xs, uint H, uint W, uint OP, uint OW,
                                     uint QP, uint QW, uint sh, uint sw, uint ph, uint pw, uint act,
                                     uint rows, uint B, uint G, uint parts, float slope,
                                     float limit, FLAGS) {
    GO(gy), GO(flow), GO(index), GO(x), GO(part), GO(table);
    TILE __local uint4 column[TN];
    uint z = (uint)get_group_id(2), from = 0u, to = rows;
#if LEVELS
    float4 level[LEVELS][RM];
    uint done = 0u;
#else
    from = z / parts * B, to = from + B;
    from = parts > 1u ? from + z % parts * G : from;
    to = parts > 1u && from + G < to ? from + G : to;
    to = to < rows ? to : rows;
    from = from < to ? from : to;
#endif
    for (uint i = t; i < TN; i += ITEMS) {
        bool in = j0 + i < N;
        term_t e = term_of(table, in ? j0 + i : 0u);
        column[i] = (uint4)(e.at - ph * W - pw, in ? e.kh - ph : NOWHERE, e.kw - pw, 0u);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#define FETCH(k0, end)                                                                             \
    {                                                                                              \
        uint k = (k0) + t % TK, n = k / OP, p = k - n * OP, row = p / OW, col = p - row * OW;      \
        uint oh = row * sh, ow = col * sw, base = n * xs + oh * W + ow;                            \
        UNROLL for (uint i = 0u; i < NB; i++) {                                                    \
            uint4 e = column[t / TK + i * (ITEMS / TK)];                                           \
            bool in = k < (end) && oh + e.y < H && ow + e.z < W;                                   \
            rb[i] = in ? x[base + e.x] : 0.0f;                                                     \
        }                                                                                          \
        UNROLL for (uint i = 0u; i < NA; i++) {                                                    \
            uint m = m0 + t / TK + i * (ITEMS / TK);                                               \
            ra[i] = k < (end) && m < M ? FLOW_IN(n * M + m) : 0.0f;                                \
        }                                                                                          \
    }
#if FLOW == 2
/* The value of a plane under row, col: zero unless its window chose it. */
#define FLOW_IN(plane)                                                                             \
    pooled(gy, flow, index, (plane)*QP, QP, row / 2u * QW + col / 2u, col / 2u < QW,               \
           (row & 1u) * 2u + (col & 1u), act, slope)
#else
#define FLOW_IN(plane) GRAD(gy, (plane)*OP + p)
#endif
#define PUT(half) PUT_TERMS(half)
    PRODUCT(from * OP, to * OP, B * OP, G * OP)
#undef FETCH
#undef PUT
#if LEVELS
    while (done < 1u << (LEVELS - 1u)) {
        END_SHARD
    }
    UNROLL for (uint i = 0u; i < RM; i++) {
        total[i] = level[LEVELS - 1u][i];
    }
#endif
    UNROLL for (uint i = 0u; i < RM; i++) {
        uint m = m0 + ty * RM + i, j = j0 + 4u * tx;
        float v[4] = {total[i].x, total[i].y, total[i].z, total[i].w};
        UNROLL for (uint c = 0u; c < 4u; c++) {
            if (m >= M || j + c >= N) {
                continue;
            }
#if LEVELS
            v[c] = stn_snap(v[c], limit);
            CHECK(v[c]);
#endif
            part[(z * M + m) * N + j + c] = v[c];
        }
    }
}
