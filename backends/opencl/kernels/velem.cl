/* Elementwise operators on CPU devices, 16 values at a time. */

/* Unpacking of row-major images into row-major ones, arguments of elem.cl; one item per plane. */
#define UNPACK(NAME, READ, LOAD)                                                                   \
    __kernel void NAME(READ, RD(mul), RD(add), WR(y), uint C, uint P, uint planes, FLAGS) {        \
        GO(x), GO(mul), GO(add), GO(y);                                                            \
        uint e = (uint)get_global_id(0);                                                           \
        if (e >= planes) {                                                                         \
            return;                                                                                \
        }                                                                                          \
        float16 m = (float16)(mul[e % C]), a = (float16)(add[e % C]);                              \
        int16 bad = (int16)(0);                                                                    \
        x = x + e * P;                                                                             \
        y = y + e * P;                                                                             \
        for (uint i = 0u; i < P; i += 16u) {                                                       \
            uint n = min(P - i, 16u);                                                              \
            float16 v = fma(LOAD(x + i, n), m, a);                                                 \
            v = SNAP16(v, STN_LIM_X);                                                              \
            v = LANES16 < (int16)((int)n) ? v : (float16)(0.0f);                                   \
            bad |= BAD16(v);                                                                       \
            store16(v, y + i, n);                                                                  \
        }                                                                                          \
        if (any(bad)) {                                                                            \
            raise_flag(flags, flags_off, node, step1);                                             \
        }                                                                                          \
    }
static inline float16 bytes16(__global const uchar *p, uint n) {
    if (n == 16u) {
        return convert_float16(vload16(0, p));
    }
    float each[16];
    for (uint l = 0u; l < 16u; l++) {
        each[l] = l < n ? (float)p[l] : 0.0f;
    }
    return vload16(0, each);
}
UNPACK(unpack8_planes, RD8(x), bytes16)
UNPACK(unpack32_planes, RD(x), load16)

/* Up to eight terms, `row` values of one image per item; arguments of elem.cl, sum. */
#define TERM16(i)                                                                                  \
    if (terms > i) {                                                                               \
        s = fma(load16(t##i + e, n), (float16)(one), s);                                           \
    }
#define SUM16_ARGS(AS)                                                                             \
    AS##RD(t0), AS##RD(t1), AS##RD(t2), AS##RD(t3), AS##RD(t4), AS##RD(t5), AS##RD(t6),            \
    AS##RD(t7), AS##WR(y), AS##U(terms), AS##U(row), AS##F(limit), AS##U(images), AS##FLAGS
KERNEL(sum16, SUM16_ARGS) {
    GO(t0), GO(t1), GO(t2), GO(t3), GO(t4), GO(t5), GO(t6), GO(t7), GO(y);
    uint image = id0, first = image * row;
    if (image >= images) {
        return;
    }
    int16 bad = (int16)(0);
    for (uint e = first; e < first + row; e += 16u) {
        uint n = min(first + row - e, 16u);
        float16 s = load16(t0 + e, n);
        TERM16(1)
        TERM16(2)
        TERM16(3)
        TERM16(4)
        TERM16(5)
        TERM16(6)
        TERM16(7)
        s = SNAP16(s, limit);
        bad |= BAD16(s);
        store16(s, y + e, n);
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

/* Dropout: 16 values in stored order per item. */

static inline uint16 high16(uint16 a, uint b) {
    return convert_uint16((convert_ulong16(a) * (ulong16)((ulong)b)) >> (ulong16)(32ul));
}

/* stn_philox of num.h for 16 elements. */
static inline uint16 philox16(uint key_lo, uint key_hi, uint16 element, uint stream, uint lo,
                              uint hi) {
    uint16 c0 = element >> 2u, c1 = (uint16)(stream), c2 = (uint16)(lo), c3 = (uint16)(hi);
    for (uint round = 0u; round < 10u; round++) {
        uint16 h0 = high16(c0, 0xD2511F53u), l0 = c0 * 0xD2511F53u;
        uint16 h1 = high16(c2, 0xCD9E8D57u), l1 = c2 * 0xCD9E8D57u;
        c0 = h1 ^ c1 ^ (uint16)(key_lo);
        c1 = l1;
        c2 = h0 ^ c3 ^ (uint16)(key_hi);
        c3 = l0;
        key_lo = key_lo + 0x9E3779B9u;
        key_hi = key_hi + 0xBB67AE85u;
    }
    int16 odd = (element & (uint16)(1u)) != (uint16)(0u);
    uint16 low = odd ? c1 : c0, high = odd ? c3 : c2;
    return (element & (uint16)(2u)) != (uint16)(0u) ? high : low;
}

/* Arguments of elem.cl, dropout; x and y may be one. */
#define DROPOUT16_ARGS(AS)                                                                         \
    AS##RD(x), AS##WR(y), AS##U(lay), AS##U(C), AS##U(P), AS##U(id), AS##U(threshold),             \
    AS##F(factor), AS##F(limit), AS##U(base), AS##U(seed_lo), AS##U(seed_hi), AS##U(step_lo),      \
    AS##U(step_hi), AS##U(total), AS##FLAGS
KERNEL(dropout16, DROPOUT16_ARGS) {
    GO(x), GO(y);
    uint first = id0 * 16u, count = 16u;
    if (first >= total) {
        return;
    }
    uint16 element = (uint16)(base + first) + convert_uint16(LANES16);
    if (lay != 0u) {
        pos_t q = decode(lay, C, P, first);
        element = (uint16)(base + (q.n * C + q.c) * P + q.p) + convert_uint16(LANES16) * (uint16)(P);
        count = min(C - q.c, 16u);
    }
    uint left = min(total - first, 16u);
    count = min(count, left);
    float each[16];
    for (uint l = 0u; l < 16u; l++) {
        each[l] = l < left ? x[first + l] : 0.0f;
    }
    uint16 word = philox16(seed_lo, seed_hi, element, STN_RNG_STREAM(STN_RNG_DROPOUT, id), step_lo,
                           step_hi);
    float16 r = vload16(0, each) * factor;
    r = SNAP16(r, limit);
    r = word < (uint16)(threshold) ? (float16)(0.0f) : r;
    r = LANES16 < (int16)((int)count) ? r : (float16)(0.0f);
    if (any(BAD16(r))) {
        raise_flag(flags, flags_off, node, step1);
    }
    if (left == 16u) {
        put16(r, 0, y + first);
        return;
    }
    vstore16(r, 0, each);
    for (uint l = 0u; l < left; l++) {
        y[first + l] = each[l];
    }
}
