/* Matrix products in local-memory tiles, for GPUs: convolutions, linear layers and their gradients.
 *
 * A group computes TM x TN outputs, an item RM x RN of them (RM: 8, 4, 2 or 1; RN: 8 or 4). Slices
 * of TK terms pass through local memory, which holds two: while one is multiplied the next is
 * fetched into registers and then put into the other half, so that one barrier per slice suffices.
 * A slice never crosses the end of a chunk; terms past it are +0 on both sides, which changes no
 * bit (contract C4, zero terms). Loads stand outside branches: a load inside one waits for it.
 * Build options: TM, TN, RM, RN; FLOW = 1: the gradient that comes in passes backwards through an
 * activation with the output `flow` on its way to local memory; FLOW = 2 (weight gradients):
 * through a 2x2 max-pool of stride 2 over a map of even width and, with act = 1, an activation
 * behind it; INSIDE: no window reaches into the padding; LINEAR = 1: maps of one pixel, = 2: with
 * weights [term][m]; TURNED: weights lie where the table says, not as the terms; WHOLE: all chunks
 * are multiples of TK terms; ANY_GROUP: the host sees to the size of groups (gpu_tile_name);
 * LEVELS: see SHARDS.
 *
 * Rows and columns past the last are computed from any operands and not stored.
 */
#if FLOW == 1
#define GRAD(g, e) act_bwd(g[e], flow[e], slope)
#else
#define GRAD(g, e) g[e]
#endif
#define NX (TN / RN)
#define NY (TM / RM)
#define ITEMS (NX * NY)
/* Registers of an item bound the slice. */
#define TK (RM * RN > 32 ? 8u : 16u)
#ifdef ANY_GROUP
#define GROUP
#else
#define GROUP __attribute__((reqd_work_group_size(NX, NY, 1)))
#endif
/* Rows of a slice in local memory: 4 floats longer than the tile, against bank conflicts. */
#define PA (TM + 4u)
#define PB (TN + 4u)
/* Terms of a slice that an item fetches of either side; the last may lie past the tile. */
#define STEP (ITEMS / TK)
#define NA ((TM + STEP - 1u) / STEP)
#define NB (TN / STEP)
/* Arrays of an item become registers only where every loop over them is unrolled. */
#define UNROLL _Pragma("unroll")

/* The columns of an item: four, or four of each half of the tile. */
#if RN == 8
typedef float8 wide_t;
#define COLUMNS(half, k) ((float8)(tb[half][k][tx], tb[half][k][NX + tx]))
#define QUAD(v, c) ((c) == 0u ? (v).lo : (v).hi)
#else
typedef float4 wide_t;
#define COLUMNS(half, k) tb[half][k][tx]
#define QUAD(v, c) (v)
#endif
#define COLUMN(c) (j0 + (c) / 4u * (TN / 2u) + 4u * tx)

/* Facts of term or column k of the table: offset of its input value, window row and column. The
 * table's third word is the offset of its weight. */
typedef struct {
    uint at, kh, kw;
} term_t;
static inline term_t term_of(__global const int *table, uint k) {
    uint4 e = as_uint4(vload4(k, table));
    term_t t = {e.x, e.y >> 16, e.y & 0xffffu};
    return t;
}

/* The rows of an item. */
#define ROW(i, a) acc[i] = fma((wide_t)(a), d, acc[i]);
#if RM == 8
typedef float8 rows_t;
#define ROWS(half, k) ((float8)(ta[half][k][2u * ty], ta[half][k][2u * ty + 1u]))
#define ALL_ROWS(c)                                                                                \
    ROW(0, c.s0)                                                                                   \
    ROW(1, c.s1) ROW(2, c.s2) ROW(3, c.s3) ROW(4, c.s4) ROW(5, c.s5) ROW(6, c.s6) ROW(7, c.s7)
#elif RM == 4
typedef float4 rows_t;
#define ROWS(half, k) ta[half][k][ty]
#define ALL_ROWS(c) ROW(0, c.x) ROW(1, c.y) ROW(2, c.z) ROW(3, c.w)
#elif RM == 2
typedef float2 rows_t;
#define ROWS(half, k) ((__local const float2 *)ta[half][k])[ty]
#define ALL_ROWS(c) ROW(0, c.x) ROW(1, c.y)
#else
typedef float rows_t;
#define ROWS(half, k) ((__local const float *)ta[half][k])[ty]
#define ALL_ROWS(c) ROW(0, c)
#endif

/* Place of item t in the tile: 32 in a row form a block of LX x 32/LX. A vector of local memory is
 * read by half of them at a time where each item t and t^1, or each t and t^2, read the same; a
 * quarter otherwise. So columns depend not on bit 1 of t, rows not on bit 0. */
#if NX % 8 == 0
#define LX 8u
#define IN_X(t) (((t)&1u) | ((t) >> 1 & 6u))
#define IN_Y(t) (((t) >> 1 & 1u) | ((t) >> 3 & 2u))
#else
#define LX 4u
#define IN_X(t) (((t)&1u) | ((t) >> 1 & 2u))
#define IN_Y(t) (((t) >> 1 & 1u) | ((t) >> 2 & 6u))
#endif
#define LANE_X(t) ((t) / 32u % (NX / LX) * LX + IN_X(t))
#define LANE_Y(t) ((t) / 32u / (NX / LX) * (32u / LX) + IN_Y(t))

/* Totals are touched once a chunk: where an item has 64 of them they shall lie in its memory, as
 * arrays do whose index a compiler does not know, and not in half of its registers. AWAY is 0. */
#if RM * RN > 32
#define AWAY (as_uint(one) & 1u)
#else
#define AWAY 0u
#endif
#define TOTAL(i) totals[(i) + away]

/* What every kernel here begins with; M rows of output, columns of output, this item's place. */
#define TILE                                                                                       \
    __local float4 ta[2][TK][PA / 4u], tb[2][TK][PB / 4u];                                         \
    uint t = (uint)get_local_id(1) * NX + (uint)get_local_id(0), tx = LANE_X(t), ty = LANE_Y(t);   \
    uint m0 = (uint)get_group_id(1) * TM, j0 = (uint)get_group_id(0) * TN;                         \
    wide_t acc[RM], totals[RM];                                                                    \
    uint bad = 0u, away = AWAY;                                                                    \
    float ra[NA], rb[NB];                                                                          \
    UNROLL for (uint i = 0u; i < RM; i++) {                                                        \
        acc[i] = (wide_t)(0.0f);                                                                   \
        TOTAL(i) = (wide_t)(0.0f);                                                                 \
    }

#define MULTIPLY(half)                                                                             \
    UNROLL for (uint k = 0u; k < TK; k++) {                                                        \
        rows_t c = ROWS(half, k);                                                                  \
        wide_t d = COLUMNS(half, k);                                                               \
        ALL_ROWS(c)                                                                                \
    }

/* CHUNK: the chain of a chunk joins the total. */
#define END_CHUNK                                                                                  \
    UNROLL for (uint i = 0u; i < RM; i++) {                                                        \
        TOTAL(i) = fma(acc[i], (wide_t)(one), TOTAL(i));                                           \
        acc[i] = (wide_t)(0.0f);                                                                   \
    }

#if WHOLE
#define IN_SLICE(k, end) true
#else
#define IN_SLICE(k, end) ((k) < (end))
#endif

/* Terms [first, last) in shards of `shard` terms, in chunks of L from the start of each. FETCH(k0,
 * end) reads the slice of terms k0 .. end-1 (at most TK, none if k0 = end) into ra, rb, behind the
 * last slice some other one that nothing takes; PUT(half) stores them; END_SHARD takes the total.
 * All conditions are the same for the whole group. The barrier stands behind FETCH: compilers move
 * loads down to their use, and there wait for them, but not across a barrier. */
#define PRODUCT(first, last, shard, L)                                                             \
    uint k0 = (first), stop = (last)-k0 > (shard) ? k0 + (shard) : (last), cur = 0u;               \
    uint end = stop - k0 > (L) ? k0 + (L) : stop;                                                  \
    bool more = k0 < end;                                                                          \
    FETCH(k0, end)                                                                                 \
    PUT(0u)                                                                                        \
    while (more) {                                                                                 \
        bool ends = k0 + TK >= end, full = ends && end == stop;                                    \
        more = !ends || end < (last);                                                              \
        k0 = !more ? (first) : ends ? end : k0 + TK;                                               \
        stop = !full ? stop : (last)-end > (shard) ? end + (shard) : (last);                       \
        end = !ends ? end : stop - end > (L) ? end + (L) : stop;                                   \
        FETCH(k0, end)                                                                             \
        barrier(CLK_LOCAL_MEM_FENCE);                                                              \
        MULTIPLY(cur)                                                                              \
        if (ends) {                                                                                \
            END_CHUNK                                                                              \
            if (full) {                                                                            \
                END_SHARD                                                                          \
            }                                                                                      \
        }                                                                                          \
        cur = 1u - cur;                                                                            \
        PUT(cur)                                                                                   \
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
                TOTAL(i) = fma(TOTAL(i), (wide_t)(one), level[l][i]);                              \
            }                                                                                      \
        } else if (carry) {                                                                        \
            UNROLL for (uint i = 0u; i < RM; i++) {                                                \
                level[l][i] = TOTAL(i);                                                            \
            }                                                                                      \
        }                                                                                          \
        carry = carry && add;                                                                      \
    }                                                                                              \
    UNROLL for (uint i = 0u; i < RM; i++) {                                                        \
        TOTAL(i) = (wide_t)(0.0f);                                                                 \
    }                                                                                              \
    done++;
#else
#define END_SHARD
#endif

/* Value r of row i of a side's slice, of term k. */
#define SET_A(half, k, i, r)                                                                       \
    if (TM % STEP == 0u || (i) < TM) {                                                             \
        ((__local float *)ta[half][k])[i] = r;                                                     \
    }
#define SET_B(half, k, i, r) ((__local float *)tb[half][k])[i] = r;

/* An item fetches term t % TK of rows t / TK, t / TK + STEP ... */
#define PUT_TERMS_A(half)                                                                          \
    UNROLL for (uint i = 0u; i < NA; i++) {                                                        \
        SET_A(half, t % TK, t / TK + i * STEP, ra[i])                                              \
    }
#define PUT_TERMS_B(half)                                                                          \
    UNROLL for (uint i = 0u; i < NB; i++) {                                                        \
        SET_B(half, t % TK, t / TK + i * STEP, rb[i])                                              \
    }

/* Input pixel under the first window element of a column, wrapping where it lies in the padding;
 * h past every size marks a column that does not exist. */
#define NOWHERE 0x80000000u

#if !LEVELS && FLOW != 2
/* Stores the sums r of output row m, columns j .. j+3: + b, snapped, activated. With pool = 1 they
 * are the elements of a 2x2 window. */
#define FINISH(r, m, j)                                                                            \
    uint n = (j) / OP, p = (j)-n * OP;                                                             \
    float4 biased = has_b != 0u ? fma((float4)(b[m]), (float4)(one), r) : r;                       \
    float v[4] = {stn_snap(biased.x, limit), stn_snap(biased.y, limit), stn_snap(biased.z, limit), \
                  stn_snap(biased.w, limit)};                                                      \
    if (pool != 0u) {                                                                              \
        float best = v[0];                                                                         \
        uint which = 0u, at = (n * M + (m)) * (OP / 4u) + p / 4u;                                  \
        UNROLL for (uint q = 0u; q < 4u; q++) {                                                    \
            NOTE(v[q])                                                                             \
            bool larger = v[q] > best;                                                             \
            best = larger ? v[q] : best;                                                           \
            which = larger ? q : which;                                                            \
        }                                                                                          \
        best = act != 0u ? act_fwd(best, slope) : best;                                            \
        NOTE(best)                                                                                 \
        y[at] = best;                                                                              \
        index[at] = (uchar)which;                                                                  \
    } else {                                                                                       \
        UNROLL for (uint q = 0u; q < 4u; q++) {                                                    \
            float s = act != 0u ? act_fwd(v[q], slope) : v[q];                                     \
            if ((j) + q < columns) {                                                               \
                NOTE(s)                                                                            \
                y[(n * M + (m)) * OP + p] = s;                                                     \
            }                                                                                      \
            p++;                                                                                   \
            n += p == OP;                                                                          \
            p = p == OP ? 0u : p;                                                                  \
        }                                                                                          \
    }

/* y[n][m][p] = sum over k < K of w[m*wm + k, or weight(k)] * x[n][at(k) + pixel], + b, snapped,
 * activated. Columns are the OP = OH*OW output pixels of every image, in rows of OW; with pool = 1
 * they are the 4 elements of every 2x2 window of the pooled map, whose width is then OW, so that
 * four columns of an item are one window and the pool happens in registers. xs: elements of an
 * image of x. LINEAR: term k is x[n*xs + k] and w[m*wm + k], or w[k*wm + m]. split = 1: every chunk
 * is the work of a group of its own, and y[chunk][m][column] are their sums for conv_finish. */
__kernel GROUP void conv_tile(RD(x), RD(flow), RD(w), RD(b), WR(y), WR8(index), RDI(table), uint M,
                              uint K, uint L, uint wm, uint xs, uint H, uint W, uint OP, uint OW,
                              uint sh, uint sw, uint ph, uint pw, uint has_b, uint pool, uint act,
                              float slope, float limit, uint split, uint columns, FLAGS) {
    GO(x), GO(flow), GO(w), GO(b), GO(y), GO(index), GO(table);
    TILE uint chunk = (uint)get_group_id(2), first = chunk * L, last = K;
    last = split != 0u && first + L < K ? first + L : last;
    /* Groups past the last column have nothing to do. No early return before a barrier: some
     * compilers split a kernel at its barriers and lose track of the items that left. */
    last = j0 < columns ? last : first;
#if LINEAR
#define FETCH_B(k0, end)                                                                           \
    {                                                                                              \
        uint k = (k0) + t % TK;                                                                    \
        UNROLL for (uint i = 0u; i < NB; i++) {                                                    \
            uint j = min(j0 + t / TK + i * STEP, columns - 1u);                                    \
            bool in = IN_SLICE(k, end);                                                            \
            float v = GRAD(x, in ? j * xs + k : 0u);                                               \
            rb[i] = in ? v : 0.0f;                                                                 \
        }                                                                                          \
    }
#define PUT_B(half) PUT_TERMS_B(half)
#else
    /* This item fetches a column. */
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
/* Where the input of term k lies from `base`, and whether it lies in the map. */
#if INSIDE
#define TERM(k) uint at = table[4u * (k)];
#define MEETS true
#else
#define TERM(k)                                                                                    \
    term_t e = term_of(table, k);                                                                  \
    uint at = e.at;
#define MEETS ((h0 + e.kh < H) & (w0 + e.kw < W))
#endif
#define FETCH_B(k0, end)                                                                           \
    UNROLL for (uint i = 0u; i < NB; i++) {                                                        \
        uint k = (k0) + t / TN + i * (ITEMS / TN);                                                 \
        TERM(IN_SLICE(k, end) ? k : 0u)                                                            \
        bool in = IN_SLICE(k, end) & MEETS;                                                        \
        float v = GRAD(x, in ? base + at : 0u);                                                    \
        rb[i] = in ? v : 0.0f;                                                                     \
    }
#define PUT_B(half)                                                                                \
    UNROLL for (uint i = 0u; i < NB; i++){SET_B(half, t / TN + i * (ITEMS / TN), t % TN, rb[i])}
#endif
#if LINEAR == 2
#define FETCH_A(k0, end)                                                                           \
    UNROLL for (uint i = 0u; i < NA; i++) {                                                        \
        uint k = (k0) + t / TM + i * (ITEMS / TM), m = min(m0 + t % TM, M - 1u);                   \
        bool in = IN_SLICE(k, end);                                                                \
        float v = w[in ? k * wm + m : 0u];                                                         \
        ra[i] = in ? v : 0.0f;                                                                     \
    }
#define PUT_A(half)                                                                                \
    UNROLL for (uint i = 0u; i < NA; i++) {                                                        \
        SET_A(half, t / TM + i * (ITEMS / TM), t % TM, ra[i])                                      \
    }
#else
#if TURNED
#define WEIGHT(k, m) ((m)*wm + (uint)table[4u * (k) + 2u])
#else
#define WEIGHT(k, m) ((m)*wm + (k))
#endif
#define FETCH_A(k0, end)                                                                           \
    {                                                                                              \
        uint k = (k0) + t % TK;                                                                    \
        UNROLL for (uint i = 0u; i < NA; i++) {                                                    \
            uint m = min(m0 + t / TK + i * STEP, M - 1u);                                          \
            bool in = IN_SLICE(k, end);                                                            \
            float v = w[in ? WEIGHT(k, m) : 0u];                                                   \
            ra[i] = in ? v : 0.0f;                                                                 \
        }                                                                                          \
    }
#define PUT_A(half) PUT_TERMS_A(half)
#endif
#define FETCH(k0, end) FETCH_B(k0, end) FETCH_A(k0, end)
#define PUT(half) PUT_B(half) PUT_A(half)
    PRODUCT(first, last, K, L)
#undef FETCH
#undef PUT
    UNROLL for (uint i = 0u; i < RM; i++) {
        uint m = m0 + ty * RM + i;
        UNROLL for (uint c = 0u; c < RN; c += 4u) {
            float4 r = QUAD(TOTAL(i), c);
            uint j = COLUMN(c);
            if (m >= M || j >= columns) {
                continue;
            }
            if (split != 0u) {
                float v[4] = {r.x, r.y, r.z, r.w};
                UNROLL for (uint q = 0u; q < 4u; q++) {
                    if (j + q < columns) {
                        y[(chunk * M + m) * columns + j + q] = v[q];
                    }
                }
                continue;
            }
            FINISH(r, m, j)
        }
    }
    RAISE
}

/* The second pass of a split conv_tile: adds the sums of the chunks in order, an item four columns
 * of a row. */
__kernel void conv_finish(RD(part), RD(b), WR(y), WR8(index), uint M, uint OP, uint chunks,
                          uint has_b, uint pool, uint act, float slope, float limit, uint columns,
                          FLAGS) {
    GO(part), GO(b), GO(y), GO(index);
    uint e = (uint)get_global_id(0), quads = (columns + 3u) / 4u, m = e / quads;
    uint j = 4u * (e - m * quads);
    if (m >= M) {
        return;
    }
    uint4 at = (uint4)(j) + (uint4)(0u, 1u, 2u, 3u);
    at = m * columns + (at < (uint4)(columns) ? at : (uint4)(j));
    float4 total = (float4)(0.0f);
    uint bad = 0u;
    for (uint s = 0u; s < chunks; s++, at += M * columns) {
        float4 sum = (float4)(part[at.x], part[at.y], part[at.z], part[at.w]);
        total = fma(sum, (float4)(one), total);
    }
    FINISH(total, m, j)
    RAISE
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
    TILE uint4 pixel = as_uint4(vload4(get_group_id(2), pixels));
    uint nw = pixel.z & 0xffffu, met = (pixel.z >> 16) * nw;
    /* `away` keeps compilers from taking common factors out of an address: that makes two products
     * of one for every value of a slice. */
    uint image = O * OP + away, row = taps + away, terms = O * met;
    met = met > 0u ? met : 1u; /* as a divisor, of terms that no sum takes */
    nw = nw > 0u ? nw : 1u;
    uint inverse_met = INVERSE(met), inverse_nw = INVERSE(nw);
#define FETCH(k0, end)                                                                             \
    {                                                                                              \
        uint k = (k0) + t % TK;                                                                    \
        uint2 o = divide(k, met, inverse_met), at = divide(o.y, nw, inverse_nw);                   \
        uint from = o.x * OP + pixel.y + at.x * OW + at.y;                                         \
        uint weight = o.x * M * taps + pixel.w - at.x * up - at.y * left;                          \
        UNROLL for (uint i = 0u; i < NB; i++) {                                                    \
            uint n = min(j0 + t / TK + i * STEP, images - 1u);                                     \
            bool in = IN_SLICE(k, end);                                                            \
            float v = gy[in ? n * image + from : 0u];                                              \
            rb[i] = in ? v : 0.0f;                                                                 \
        }                                                                                          \
        UNROLL for (uint i = 0u; i < NA; i++) {                                                    \
            uint m = min(m0 + t / TK + i * STEP, M - 1u);                                          \
            bool in = IN_SLICE(k, end);                                                            \
            float v = w[in ? m * row + weight : 0u];                                               \
            ra[i] = in ? v : 0.0f;                                                                 \
        }                                                                                          \
    }
#define PUT(half) PUT_TERMS_B(half) PUT_TERMS_A(half)
    PRODUCT(0u, j0 < images ? terms : 0u, terms, CB * met)
#undef FETCH
#undef PUT
    UNROLL for (uint i = 0u; i < RM; i++) {
        uint m = m0 + ty * RM + i;
        UNROLL for (uint c = 0u; c < RN; c += 4u) {
            float4 r = QUAD(TOTAL(i), c);
            uint n = COLUMN(c);
            float v[4] = {stn_snap_g(r.x), stn_snap_g(r.y), stn_snap_g(r.z), stn_snap_g(r.w)};
            UNROLL for (uint q = 0u; q < 4u; q++) {
                if (m < M && n + q < images) {
                    NOTE(v[q])
                    gx[((n + q) * M + m) * P + pixel.x] = v[q];
                }
            }
        }
    }
    RAISE
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
    uint inverse_op = INVERSE(OP), inverse_ow = INVERSE(OW);
#if LEVELS
    wide_t level[LEVELS][RM];
    uint done = 0u;
#else
    from = z / parts * B, to = from + B;
    from = parts > 1u ? from + z % parts * G : from;
    to = parts > 1u && from + G < to ? from + G : to;
    to = to < rows ? to : rows;
    to = from < to ? to : 0u;
    from = from < to ? from : 0u;
#endif
    for (uint i = t; i < TN; i += ITEMS) {
        bool in = j0 + i < N;
        term_t e = term_of(table, in ? j0 + i : 0u);
        column[i] = (uint4)(e.at - ph * W - pw, in ? e.kh - ph : NOWHERE, e.kw - pw, 0u);
    }
    barrier(CLK_LOCAL_MEM_FENCE);
#if INSIDE
#define MEETS_X(e) true
#else
#define MEETS_X(e) ((oh + e.y < H) & (ow + e.z < W))
#endif
#define FETCH_X(k0, end)                                                                           \
    {                                                                                              \
        uint k = (k0) + t % TK;                                                                    \
        uint2 n = divide(k, OP, inverse_op), p = divide(n.y, OW, inverse_ow);                      \
        uint oh = p.x * sh, ow = p.y * sw, base = n.x * xs + oh * W + ow;                          \
        UNROLL for (uint i = 0u; i < NB; i++) {                                                    \
            uint4 e = column[t / TK + i * STEP];                                                   \
            bool in = IN_SLICE(k, end) & MEETS_X(e);                                               \
            float v = x[in ? base + e.x : 0u];                                                     \
            rb[i] = in ? v : 0.0f;                                                                 \
        }                                                                                          \
    }
#if FLOW == 2
/* Terms k and k + 1 of a row, k even, lie under the same window: of both at most one is not zero,
 * and of the window's two rows of terms one. PAIRS of them to a slice. */
#define PAIRS (TK / 2u)
#define NP ((TM + ITEMS / PAIRS - 1u) / (ITEMS / PAIRS))
    float pair[NP][2];
#define FETCH(k0, end)                                                                             \
    FETCH_X(k0, end) {                                                                             \
        uint k = (k0) + t % PAIRS * 2u;                                                            \
        uint2 n = divide(k, OP, inverse_op), p = divide(n.y, OW, inverse_ow);                      \
        uint q = p.x / 2u * QW + p.y / 2u, which = p.x % 2u * 2u;                                  \
        UNROLL for (uint i = 0u; i < NP; i++) {                                                    \
            uint m = m0 + t / PAIRS + i * (ITEMS / PAIRS);                                         \
            bool in = IN_SLICE(k, end) & (m < M) & (q < QP);                                       \
            uint at = in ? (n.x * M + m) * QP + q : 0u, chosen = index[at];                        \
            float v = gy[at];                                                                      \
            v = act != 0u ? act_bwd(v, flow[at], slope) : v;                                       \
            pair[i][0] = (in & (chosen == which)) ? v : 0.0f;                                      \
            pair[i][1] = (in & (chosen == which + 1u)) ? v : 0.0f;                                 \
        }                                                                                          \
    }
#define PUT(half)                                                                                  \
    PUT_TERMS_B(half)                                                                              \
    UNROLL for (uint i = 0u; i < NP; i++) {                                                        \
        uint m = t / PAIRS + i * (ITEMS / PAIRS);                                                  \
        if (TM % (ITEMS / PAIRS) == 0u || m < TM) {                                                \
            ((__local float *)ta[half][t % PAIRS * 2u])[m] = pair[i][0];                           \
            ((__local float *)ta[half][t % PAIRS * 2u + 1u])[m] = pair[i][1];                      \
        }                                                                                          \
    }
#else
#define FETCH(k0, end)                                                                             \
    FETCH_X(k0, end) {                                                                             \
        uint k = (k0) + t % TK;                                                                    \
        uint2 n = divide(k, OP, inverse_op);                                                       \
        UNROLL for (uint i = 0u; i < NA; i++) {                                                    \
            uint m = min(m0 + t / TK + i * STEP, M - 1u);                                          \
            bool in = IN_SLICE(k, end);                                                            \
            float v = GRAD(gy, in ? (n.x * M + m) * OP + n.y : 0u);                                \
            ra[i] = in ? v : 0.0f;                                                                 \
        }                                                                                          \
    }
#define PUT(half) PUT_TERMS_B(half) PUT_TERMS_A(half)
#endif
    PRODUCT(from * OP, to * OP, B * OP, G * OP)
#undef FETCH
#undef PUT
#if LEVELS
    while (done < 1u << (LEVELS - 1u)) {
        END_SHARD
    }
    UNROLL for (uint i = 0u; i < RM; i++) {
        TOTAL(i) = level[LEVELS - 1u][i];
    }
#endif
    UNROLL for (uint i = 0u; i < RM; i++) {
        uint m = m0 + ty * RM + i;
        UNROLL for (uint c = 0u; c < RN; c += 4u) {
            float4 r = QUAD(TOTAL(i), c);
            float v[4] = {r.x, r.y, r.z, r.w};
            uint j = COLUMN(c);
            UNROLL for (uint q = 0u; q < 4u; q++) {
                if (m >= M || j + q >= N) {
                    continue;
                }
#if LEVELS
                v[q] = stn_snap(v[q], limit);
                NOTE(v[q])
#endif
                part[(z * M + m) * N + j + q] = v[q];
            }
        }
    }
    RAISE
}
