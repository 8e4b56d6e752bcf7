/* The sampler at an affine grid, bilinear, for CPU devices. Lanes are 16 pixels of an NCHW map of
 * up to four channels (planes), or the 16 channels of a block of an NC16 map (blocks).
 *
 * One item per image. xt, yt hold the output coordinates of every pixel, padded with zeros to PP, a
 * multiple of 16; OP = pixels of the output.
 */
#define GATHER(p, i)                                                                               \
    ((float16)((p)[(i).s0], (p)[(i).s1], (p)[(i).s2], (p)[(i).s3], (p)[(i).s4], (p)[(i).s5],       \
               (p)[(i).s6], (p)[(i).s7], (p)[(i).s8], (p)[(i).s9], (p)[(i).sa], (p)[(i).sb],       \
               (p)[(i).sc], (p)[(i).sd], (p)[(i).se], (p)[(i).sf]))
#define ZERO16 ((float16)(0.0f))
#define SUB16(a, b) fma(-(b), (float16)(one), (a))

/* One direction of 16 samples: lower corner (-2 ... size + 1, inside with border or reflection),
 * fraction, and factor of the gradient. */
typedef struct {
    int16 low;
    float16 f, turn;
} axis_t;

static inline axis_t axis_of(float16 x, uint size, float s, float o, float per, float inv,
                             uint aligned, uint padding, float one) {
    axis_t a;
    float16 p, ones = (float16)(one);
    bool edge = padding == 2u || padding == 3u;
    a.turn = (float16)(1.0f);
    if (padding == 3u) {
        float16 q = fma(x, (float16)(s), (float16)(s)), d = fabs(q);
        int16 far = (as_int16(d) >= (int16)(as_int(0x1p20f))); /* NaN too */
        a.turn = q < ZERO16 ? (float16)(-1.0f) : a.turn;
        a.turn = far ? ZERO16 : a.turn;
        d = far ? ZERO16 : d;
        float16 n = floor(d * inv), r = fma(-n, (float16)(per), d);
        r = r < ZERO16 ? fma((float16)(per), ones, r) : r;
        r = r >= (float16)(per) ? SUB16(r, (float16)(per)) : r;
        int16 flip = r > (float16)(0.5f * per);
        a.turn = flip ? -a.turn : a.turn;
        r = flip ? SUB16((float16)(per), r) : r;
        p = aligned != 0u ? r : SUB16(r, (float16)(0.5f));
    } else {
        float16 least = (float16)(-2.0f), most = (float16)((float)(size + 1u));
        p = fma(x, (float16)(s), (float16)(o));
        p = (as_int16(p) & (int16)(0x7fffffff)) > (int16)(0x7f800000) ? least : p;
        p = p > least ? p : least;
        p = p < most ? p : most;
    }
    p = rint(p * 0x1p20f) * 0x1p-20f;
    if (edge) {
        float16 last = (float16)((float)(size - 1u));
        int16 inside = p > ZERO16;
        p = inside ? p : ZERO16;
        a.turn = inside ? a.turn : ZERO16;
        inside = p < last;
        p = inside ? p : last;
        a.turn = inside ? a.turn : ZERO16;
    }
    float16 corner = floor(p);
    a.f = SUB16(p, corner);
    a.low = convert_int16(corner);
    return a;
}

/* Both directions of pixels i ... i+15. */
#define AXIS(row, size, s, o, per, inv)                                                            \
    axis_of(SNAP16(fma((float16)(theta[row]), vload16(0, xt + i),                                  \
                       fma((float16)(theta[row + 1]), vload16(0, yt + i),                          \
                           (float16)(theta[row + 2]))),                                            \
                   STN_LIM_X),                                                                     \
            size, s, o, per, inv, aligned, padding, one)
#define AXES axis_t h = AXIS(0, W, sx, ox, perx, invx), v = AXIS(3, H, sy, oy, pery, invy);

/* Steps of contract C5 from the corners a b / c d. */
#define BLEND(fx, fy)                                                                              \
    float16 t_ = fma(fx, SUB16(b, a), a), u_ = fma(fx, SUB16(d, c), c);                            \
    float16 r = fma(fy, SUB16(u_, t_), t_);                                                        \
    r = SNAP16(r, STN_LIM_X);
#define SLOPES(fx, fy)                                                                             \
    float16 ba_ = SUB16(b, a), ca_ = SUB16(c, a);                                                  \
    float16 dx = fma(fy, SUB16(SUB16(d, c), ba_), ba_);                                            \
    float16 dy = fma(fx, SUB16(SUB16(d, b), ca_), ca_);                                            \
    dx = SNAP16(dx, STN_LIM_X), dy = SNAP16(dy, STN_LIM_X);

/* Channel sums to gradients of the coordinate; to one entry of theta's gradient. */
#define TURNED(sum, turn)                                                                          \
    ((turn) == ZERO16 ? ZERO16 : SNAP16((turn) * (sum), STN_LIM_G))
#define ADD_THETA(gx, gy_)                                                                         \
    {                                                                                              \
        float16 u = vload16(0, xt + i), w = vload16(0, yt + i);                                    \
        t0 = fma(gx, u, t0), t1 = fma(gx, w, t1), t2 = fma(gx, ones, t2);                          \
        t3 = fma(gy_, u, t3), t4 = fma(gy_, w, t4), t5 = fma(gy_, ones, t5);                       \
    }
#define PUT_THETA(k, s)                                                                            \
    {                                                                                              \
        float r = stn_snap_g(s * stn_snap_g(fold16(t##k, one)));                                   \
        CHECK(r);                                                                                  \
        out[n * 6u + k] = r;                                                                       \
    }
#define OPEN_THETA                                                                                 \
    float16 ones = (float16)(one);                                                                 \
    float16 t0 = ZERO16, t1 = ZERO16, t2 = ZERO16, t3 = ZERO16, t4 = ZERO16, t5 = ZERO16;
#define CLOSE_THETA                                                                                \
    PUT_THETA(0, sx) PUT_THETA(1, sx) PUT_THETA(2, sx)                                             \
    PUT_THETA(3, sy) PUT_THETA(4, sy) PUT_THETA(5, sy)

#define GRID RD(thetas), RD(xt), RD(yt), RD(background), uint C, uint OP, uint PP
#define D_GRID GRID
#define P_GRID P_RD(thetas), P_RD(xt), P_RD(yt), P_RD(background), C, OP, PP
#define OPEN_GRID GO(thetas), GO(xt), GO(yt), GO(background);

/* --- planes ----------------------------------------------------------------------------------- */

/* Each plane of an image stands in a frame that holds what lies outside, so that the corners of a
 * sample are two pairs, one under the other. Rows and columns -2 ... size + 2. */
#define FRAME_W (W + 5u)
#define FRAME (FRAME_W * (H + 5u))
static inline void frame_plane(__global const float *x, __global float *frame, uint W, uint H,
                               float outside, bool edge) {
    for (uint r = 0u; r < H + 5u; r++) {
        __global float *to = frame + r * FRAME_W;
        uint row = min(max(r, 2u) - 2u, H - 1u);
        __global const float *from = x + row * W;
        bool inside = edge || row + 2u == r;
        for (uint w = 0u; w < W; w++) {
            to[2u + w] = inside ? from[w] : outside;
        }
        float left = edge ? from[0] : outside, right = edge ? from[W - 1u] : outside;
        to[0] = left, to[1] = left;
        to[W + 2u] = right, to[W + 3u] = right, to[W + 4u] = right;
    }
}

typedef ulong pair_t __attribute__((aligned(4)));
#define TWO(l) (*(__global const pair_t *)(plane_ + at.s##l))
#define PAIRS(low, high)                                                                           \
    float16 low##_l = as_float16((ulong8)(TWO(0), TWO(1), TWO(2), TWO(3), TWO(4), TWO(5), TWO(6),  \
                                          TWO(7))),                                                \
            low##_r = as_float16((ulong8)(TWO(8), TWO(9), TWO(a), TWO(b), TWO(c), TWO(d), TWO(e),  \
                                          TWO(f))),                                                \
            low = (float16)(low##_l.even, low##_r.even), high = (float16)(low##_l.odd, low##_r.odd);
#define CORNERS_PLANE(channel)                                                                     \
    __global const float *plane_ = frame + (channel)*FRAME;                                        \
    PAIRS(a, b)                                                                                    \
    plane_ = plane_ + FRAME_W;                                                                     \
    PAIRS(c, d)

/* One image after the other in the frames of an item. */
#define FOR_IMAGES                                                                                 \
    frame = frame + id0 * C * FRAME;                                                               \
    for (uint n = id0; n < rows; n += size0)
#define OPEN_IMAGE                                                                                 \
    __global const float *theta = thetas + n * 6u;                                                 \
    for (uint channel = 0u; channel < C; channel++) {                                              \
        frame_plane(x + (n * C + channel) * H * W, frame + channel * FRAME, W, H,                  \
                    padding == 4u ? background[channel] : 0.0f, padding == 2u || padding == 3u);   \
    }
#define OPEN_PIXELS                                                                                \
    AXES                                                                                           \
    int16 at = (v.low + (int16)(2)) * (int16)((int)FRAME_W) + h.low + (int16)(2);

/* OP >= 16: the last vector overlaps. */
#define WARP_PLANES_ARGS(AS)                                                                       \
    AS##RD(x), AS##GRID, AS##WR(frame), AS##WR(y), AS##MAP, AS##U(rows), AS##FLAGS
ONE_ITEM(warp_planes, WARP_PLANES_ARGS) {
    OPEN_GRID GO(x), GO(frame), GO(y);
    int16 bad = (int16)(0);
    FOR_IMAGES {
        OPEN_IMAGE
        for (uint first = 0u; first < OP; first += 16u) {
            uint i = min(first, OP - 16u);
            OPEN_PIXELS
            for (uint channel = 0u; channel < C; channel++) {
                CORNERS_PLANE(channel)
                BLEND(h.f, v.f)
                bad |= BAD16(r);
                put16(r, 0, y + (n * C + channel) * OP + i);
            }
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

#define THETA_PLANES_ARGS(AS)                                                                      \
    AS##RD(gy), AS##RD(x), AS##GRID, AS##WR(frame), AS##WR(out), AS##MAP, AS##U(rows), AS##FLAGS
ONE_ITEM(theta_planes, THETA_PLANES_ARGS) {
    OPEN_GRID GO(gy), GO(x), GO(frame), GO(out);
    FOR_IMAGES {
        OPEN_IMAGE
        OPEN_THETA
        for (uint i = 0u; i < PP; i += 16u) {
            OPEN_PIXELS
            int16 place = min(LANES16, (int16)((int)(OP - 1u - i)));
            /* PLANE16 of up to four channels: (0 + 2) + (1 + 3). */
            float16 even_x = ZERO16, odd_x = ZERO16, even_y = ZERO16, odd_y = ZERO16;
            for (uint channel = 0u; channel < C; channel++) {
                CORNERS_PLANE(channel)
                SLOPES(h.f, v.f)
                __global const float *from = gy + (n * C + channel) * OP + i;
                float16 g = i + 16u <= OP ? vload16(0, from) : GATHER(from, place);
                g = LANES16 == place ? g : ZERO16;
                dx = fma(g, dx, ZERO16), dy = fma(g, dy, ZERO16);
                if ((channel & 1u) == 0u) {
                    even_x = fma(dx, ones, even_x), even_y = fma(dy, ones, even_y);
                } else {
                    odd_x = fma(dx, ones, odd_x), odd_y = fma(dy, ones, odd_y);
                }
            }
            float16 gx = TURNED(fma(odd_x, ones, even_x), h.turn);
            float16 gv = TURNED(fma(odd_y, ones, even_y), v.turn);
            ADD_THETA(gx, gv)
        }
        CLOSE_THETA
    }
}

/* --- blocks ----------------------------------------------------------------------------------- */

/* The facts of all pixels of an image in workspace, eight runs of PP words: places of the corners,
 * fractions, and factors of the gradient. */
#define PLACE(y, x) (((x) | (y)) < (int16)(0) ? (int16)(-1) : (y) * (int16)((int)W) + (x))
#define INSIDE(i, size) (as_uint16(i) < (uint16)(size) ? (i) : (int16)(-1))
#define HIGHER(a, size)                                                                            \
    (padding == 2u || padding == 3u ? min((a).low + (int16)(1), (int16)((int)(size)-1))            \
                                    : INSIDE((a).low + (int16)(1), size))
#define STAGE                                                                                      \
    uint n = id0;                                                                                  \
    if (n >= rows) {                                                                               \
        return;                                                                                    \
    }                                                                                              \
    __global const float *theta = thetas + n * 6u;                                                 \
    stage = stage + n * 8u * PP;                                                                   \
    for (uint i = 0u; i < PP; i += 16u) {                                                          \
        AXES                                                                                       \
        int16 x0 = INSIDE(h.low, W), x1 = HIGHER(h, W), y0 = INSIDE(v.low, H), y1 = HIGHER(v, H);  \
        int16 at0 = PLACE(y0, x0), at1 = PLACE(y0, x1), at2 = PLACE(y1, x0), at3 = PLACE(y1, x1);  \
        put16(as_float16(at0), 0, stage + i);                                                      \
        put16(as_float16(at1), 0, stage + PP + i);                                                 \
        put16(as_float16(at2), 0, stage + 2u * PP + i);                                            \
        put16(as_float16(at3), 0, stage + 3u * PP + i);                                            \
        put16(h.f, 0, stage + 4u * PP + i);                                                        \
        put16(v.f, 0, stage + 5u * PP + i);                                                        \
        put16(h.turn, 0, stage + 6u * PP + i);                                                     \
        put16(v.turn, 0, stage + 7u * PP + i);                                                     \
    }
#define AT(i) as_int(stage[(i)*PP + p])
#define BLOCKS ((C + 15u) / 16u)
#define BLOCK(map, block, pixels) ((map) + (n * BLOCKS + (block)) * (pixels)*16u)
#define CORNER_BLOCK(i) (AT(i) < 0 ? outside : vload16((size_t)AT(i), from))
#define CORNERS_BLOCK(block)                                                                       \
    __global const float *from = BLOCK(x, block, H *W);                                            \
    float16 a = CORNER_BLOCK(0), b = CORNER_BLOCK(1), c = CORNER_BLOCK(2), d = CORNER_BLOCK(3);

/* Values outside, of the up to eight channels that may have a background. */
static inline float16 outside_of(__global const float *background, uint C, uint padding) {
    float16 v = ZERO16;
    if (padding == 4u) {
        v.lo = vload8(0, background);
        v = LANES16 < (int16)((int)C) ? v : ZERO16;
    }
    return v;
}

#define WARP_BLOCKS_ARGS(AS)                                                                       \
    AS##RD(x), AS##GRID, AS##WR(stage), AS##WR(y), AS##MAP, AS##U(rows), AS##FLAGS
ONE_ITEM(warp_blocks, WARP_BLOCKS_ARGS) {
    OPEN_GRID GO(x), GO(stage), GO(y);
    STAGE
    float16 outside = outside_of(background, C, padding);
    int16 bad = (int16)(0);
    for (uint block = 0u; block < BLOCKS; block++) {
        __global float *to = BLOCK(y, block, OP);
        for (uint p = 0u; p < OP; p++) {
            CORNERS_BLOCK(block)
            BLEND((float16)(stage[4u * PP + p]), (float16)(stage[5u * PP + p]))
            bad |= BAD16(r);
            put16(r, p, to);
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}

#define THETA_BLOCKS_ARGS(AS)                                                                      \
    AS##RD(gy), AS##RD(x), AS##GRID, AS##WR(stage), AS##WR(out), AS##MAP, AS##U(rows), AS##FLAGS
ONE_ITEM(theta_blocks, THETA_BLOCKS_ARGS) {
    OPEN_GRID GO(gy), GO(x), GO(stage), GO(out);
    STAGE
    float16 outside = outside_of(background, C, padding);
    __global float *sum_x = stage + 4u * PP, *sum_y = stage + 5u * PP;
    for (uint p = 0u; p < OP; p++) {
        float16 total_x = ZERO16, total_y = ZERO16, fx = (float16)(sum_x[p]),
                fy = (float16)(sum_y[p]);
        for (uint block = 0u; block < BLOCKS; block++) {
            CORNERS_BLOCK(block)
            SLOPES(fx, fy)
            float16 g = vload16(p, BLOCK(gy, block, OP));
            total_x = fma(g, dx, total_x), total_y = fma(g, dy, total_y);
        }
        sum_x[p] = fold16(total_x, one);
        sum_y[p] = fold16(total_y, one);
    }
    for (uint p = OP; p < PP; p++) {
        sum_x[p] = 0.0f;
        sum_y[p] = 0.0f;
    }
    OPEN_THETA
    for (uint i = 0u; i < PP; i += 16u) {
        float16 gx = TURNED(vload16(0, sum_x + i), vload16(0, stage + 6u * PP + i));
        float16 gv = TURNED(vload16(0, sum_y + i), vload16(0, stage + 7u * PP + i));
        ADD_THETA(gx, gv)
    }
    CLOSE_THETA
}

/* Scatters the output pixels in row-major order. */
#define SCATTER(i, weight)                                                                         \
    if (AT(i) >= 0) {                                                                              \
        size_t where = (size_t)AT(i);                                                              \
        put16(fma((float16)(weight), g, vload16(where, to)), where, to);                           \
    }
#define GRAD_BLOCKS_ARGS(AS)                                                                       \
    AS##RD(gy), AS##GRID, AS##WR(stage), AS##WR(gx), AS##MAP, AS##U(rows), AS##FLAGS
ONE_ITEM(grad_blocks, GRAD_BLOCKS_ARGS) {
    OPEN_GRID GO(gy), GO(stage), GO(gx);
    STAGE
    int16 bad = (int16)(0);
    for (uint block = 0u; block < BLOCKS; block++) {
        __global float *to = BLOCK(gx, block, H *W);
        for (uint q = 0u; q < H * W; q++) {
            put16(ZERO16, q, to);
        }
        for (uint p = 0u; p < OP; p++) {
            float16 g = vload16(p, BLOCK(gy, block, OP));
            float fx = stage[4u * PP + p], fy = stage[5u * PP + p], hx = SUB(one, fx),
                  hy = SUB(one, fy);
            SCATTER(0, hx * hy)
            SCATTER(1, fx * hy)
            SCATTER(2, hx * fy)
            SCATTER(3, fx * fy)
        }
        for (uint q = 0u; q < H * W; q++) {
            float16 r = vload16(q, to);
            r = SNAP16(r, STN_LIM_G);
            bad |= BAD16(r);
            put16(r, q, to);
        }
    }
    if (any(bad)) {
        raise_flag(flags, flags_off, node, step1);
    }
}
