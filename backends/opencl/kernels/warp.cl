/* Affine grids and the sampler. Coordinates come from a grid [N,OP,2] or, with from_theta, from
 * theta [N,6] and the tables xt[OW], yt[OH] of output coordinates (OP = OH*OW).
 */
#define COORDS RD(grid), RD(xt), RD(yt), uint from_theta, uint OH, uint OW
#define OPEN_COORDS GO(grid), GO(xt), GO(yt)

/* Pixel coordinate of a grid coordinate by the padding rule; *turn: factor of the gradient. */
static inline float to_pixels(float x, uint size, float s, float o, float per, float inv,
                              uint aligned, uint padding, float one, __private float *turn) {
    float last = (float)(size - 1u), p;
    *turn = 1.0f;
    if (padding == 3u) {
        float q = fma(x, s, s), a = fabs(q);
        *turn = q < 0.0f ? -1.0f : 1.0f;
        if (ISNAN(q) || a >= 0x1p20f) {
            a = 0.0f;
            *turn = 0.0f;
        }
        float n = floor(a * inv), r = fma(-n, per, a);
        r = r < 0.0f ? ADD(per, r) : r;
        r = r >= per ? SUB(r, per) : r;
        bool flip = r > 0.5f * per;
        *turn = flip ? -*turn : *turn;
        r = flip ? SUB(per, r) : r;
        p = aligned != 0u ? r : SUB(r, 0.5f);
    } else {
        p = fma(x, s, o);
        p = ISNAN(p) ? -2.0f : p;
        p = p > -2.0f ? p : -2.0f;
        float high = (float)(size + 1u);
        p = p < high ? p : high;
    }
    p = rint(p * 0x1p20f) * 0x1p-20f;
    if (padding == 2u || padding == 3u) {
        if (!(p > 0.0f)) {
            p = 0.0f;
            *turn = 0.0f;
        }
        if (!(p < last)) {
            p = last;
            *turn = 0.0f;
        }
    }
    return p;
}

static inline float2 grid_at(__global const float *grid, __global const float *xt,
                             __global const float *yt, uint from_theta, uint OH, uint OW, uint n,
                             uint p) {
    if (from_theta != 0u) {
        __global const float *t = grid + n * 6u;
        float x = xt[p % OW], y = yt[p / OW];
        return (float2)(stn_snap_x(fma(t[0], x, fma(t[1], y, t[2]))),
                        stn_snap_x(fma(t[3], x, fma(t[4], y, t[5]))));
    }
    uint i = (n * OH * OW + p) * 2u;
    return (float2)(grid[i], grid[i + 1u]);
}

__kernel void grid_of(RD(theta), RD(xt), RD(yt), WR(grid), uint OH, uint OW, uint total,
                      float one) {
    GO(theta), GO(xt), GO(yt), GO(grid);
    uint e = (uint)get_global_id(0);
    if (e < total) {
        uint P = OH * OW;
        float2 g = grid_at(theta, xt, yt, 1u, OH, OW, e / P, e % P);
        grid[2u * e] = g.x;
        grid[2u * e + 1u] = g.y;
    }
}

/* The four corners of a sample: positions in the plane, and which of them are inside. */
typedef struct {
    float fx, fy, turnx, turny;
    uint at[4];
    bool in[4];
} corners_t;

static inline corners_t corners_of(float2 g, MAP, float one) {
    corners_t k;
    float px = to_pixels(g.x, W, sx, ox, perx, invx, aligned, padding, one, &k.turnx);
    float py = to_pixels(g.y, H, sy, oy, pery, invy, aligned, padding, one, &k.turny);
    if (nearest != 0u) {
        px = rint(px);
        py = rint(py);
    }
    float bx = floor(px), by = floor(py);
    int ix = (int)bx, iy = (int)by, jx = ix + 1, jy = iy + 1;
    if (padding == 2u || padding == 3u) {
        jx = jx > (int)W - 1 ? (int)W - 1 : jx;
        jy = jy > (int)H - 1 ? (int)H - 1 : jy;
    }
    k.fx = SUB(px, bx);
    k.fy = SUB(py, by);
    bool x0 = (uint)ix < W, x1 = (uint)jx < W, y0 = (uint)iy < H, y1 = (uint)jy < H;
    k.in[0] = x0 && y0;
    k.in[1] = x1 && y0;
    k.in[2] = x0 && y1;
    k.in[3] = x1 && y1;
    k.at[0] = (uint)iy * W + (uint)ix;
    k.at[1] = (uint)iy * W + (uint)jx;
    k.at[2] = (uint)jy * W + (uint)ix;
    k.at[3] = (uint)jy * W + (uint)jx;
    return k;
}
#define CORNERS(n, p)                                                                              \
    corners_of(grid_at(grid, xt, yt, from_theta, OH, OW, n, p), W, H, sx, sy, ox, oy, perx, pery,  \
               invx, invy, aligned, nearest, padding, one)
#define CORNER(k, i, plane_, st, out) ((k).in[i] ? (plane_)[(k).at[i] * (st)] : (out))

/* background: [8] values of the channels, read with padding 4 only. */
__kernel void sample(RD(x), COORDS, RD(background), WR(y), uint xl, uint yl, uint C, MAP,
                     uint total, FLAGS) {
    OPEN_COORDS, GO(x), GO(background), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, C, OH * OW, e);
    if (q.c >= C) {
        y[e] = 0.0f;
        return;
    }
    uint st = STRIDE(xl);
    float out = padding == 4u ? background[q.c] : 0.0f, r;
    __global const float *xp = x + plane(xl, C, H * W, q.n, q.c);
    corners_t k = CORNERS(q.n, q.p);
    float a = CORNER(k, 0, xp, st, out);
    if (nearest != 0u) {
        r = a;
    } else {
        float b = CORNER(k, 1, xp, st, out), c = CORNER(k, 2, xp, st, out),
              d = CORNER(k, 3, xp, st, out);
        float t = fma(k.fx, SUB(b, a), a), u = fma(k.fx, SUB(d, c), c);
        r = stn_snap_x(fma(k.fy, SUB(u, t), t));
    }
    CHECK(r);
    y[e] = r;
}

/* One item per stored plane (n, c): scatters its output pixels in row-major order. */
__kernel void sample_grad_x(RD(gy), COORDS, WR(gx), uint gl, uint xl, uint C, uint stored, MAP,
                            uint total, FLAGS) {
    OPEN_COORDS, GO(gy), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint n = e / stored, c = e % stored, P = H * W, OP = OH * OW, st = STRIDE(xl);
    gx = gx + plane(xl, C, P, n, c);
    for (uint i = 0u; i < P; i++) {
        gx[i * st] = 0.0f;
    }
    if (c >= C) {
        return;
    }
    gy = gy + plane(gl, C, OP, n, c);
    for (uint p = 0u; p < OP; p++) {
        corners_t k = CORNERS(n, p);
        float g = gy[p * STRIDE(gl)];
        if (nearest != 0u) {
            if (k.in[0]) {
                gx[k.at[0] * st] = ADD(g, gx[k.at[0] * st]);
            }
            continue;
        }
        float hx = SUB(one, k.fx), hy = SUB(one, k.fy);
        float wt[4] = {hx * hy, k.fx * hy, hx * k.fy, k.fx * k.fy};
        for (uint i = 0u; i < 4u; i++) {
            if (k.in[i]) {
                gx[k.at[i] * st] = fma(wt[i], g, gx[k.at[i] * st]);
            }
        }
    }
    for (uint i = 0u; i < P; i++) {
        float r = stn_snap_g(gx[i * st]);
        CHECK(r);
        gx[i * st] = r;
    }
}

static inline float fold_lanes(__private float *lane, float one) {
    for (uint s = 8u; s > 0u; s /= 2u) {
        for (uint j = 0u; j < s; j++) {
            lane[j] = ADD(lane[j + s], lane[j]);
        }
    }
    return lane[0];
}

/* One item per output pixel: PLANE16 over channels; in pixel units, or scaled to grid units. */
__kernel void sample_grad_grid(RD(gy), RD(x), COORDS, RD(background), WR(out), uint gl, uint xl,
                               uint C, uint scaled, MAP, uint total, FLAGS) {
    OPEN_COORDS, GO(gy), GO(x), GO(background), GO(out);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint OP = OH * OW, n = e / OP, p = e % OP, xs = STRIDE(xl), gs = STRIDE(gl);
    corners_t k = CORNERS(n, p);
    float lx[16], ly[16];
    for (uint j = 0u; j < 16u; j++) {
        lx[j] = 0.0f;
        ly[j] = 0.0f;
    }
    for (uint c = 0u; c < C && nearest == 0u; c++) {
        __global const float *xp = x + plane(xl, C, H * W, n, c);
        float pad = padding == 4u ? background[c] : 0.0f;
        float va = CORNER(k, 0, xp, xs, pad), vb = CORNER(k, 1, xp, xs, pad),
              vc = CORNER(k, 2, xp, xs, pad), vd = CORNER(k, 3, xp, xs, pad);
        float g = gy[plane(gl, C, OP, n, c) + p * gs];
        float ba = SUB(vb, va), ca = SUB(vc, va);
        float dx = stn_snap_x(fma(k.fy, SUB(SUB(vd, vc), ba), ba));
        float dy = stn_snap_x(fma(k.fx, SUB(SUB(vd, vb), ca), ca));
        lx[c & 15u] = fma(g, dx, lx[c & 15u]);
        ly[c & 15u] = fma(g, dy, ly[c & 15u]);
    }
    float gx = fold_lanes(lx, one), gv = fold_lanes(ly, one);
    gx = k.turnx == 0.0f ? 0.0f : stn_snap_g(k.turnx * gx);
    gv = k.turny == 0.0f ? 0.0f : stn_snap_g(k.turny * gv);
    if (scaled != 0u) {
        gx = stn_snap_g(sx * gx);
        gv = stn_snap_g(sy * gv);
        CHECK(gx);
        CHECK(gv);
    }
    out[2u * e] = gx;
    out[2u * e + 1u] = gv;
}

/* One item per (n, entry of theta): PLANE16 over the output pixels of s*xt, s*yt or s. */
__kernel void theta_grad(RD(s), RD(xt), RD(yt), WR(out), uint OH, uint OW, float sx, float sy,
                         uint total, FLAGS) {
    GO(s), GO(xt), GO(yt), GO(out);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint n = e / 6u, row = e % 6u / 3u, k = e % 3u, OP = OH * OW;
    s = s + n * OP * 2u + row;
    float lane[16];
    for (uint j = 0u; j < 16u; j++) {
        lane[j] = 0.0f;
    }
    for (uint p = 0u; p < OP; p++) {
        float f = k == 0u ? xt[p % OW] : k == 1u ? yt[p / OW] : one;
        lane[p & 15u] = fma(s[p * 2u], f, lane[p & 15u]);
    }
    float r = stn_snap_g((row != 0u ? sy : sx) * stn_snap_g(fold_lanes(lane, one)));
    CHECK(r);
    out[e] = r;
}

__kernel void compose(RD(a), RD(b), WR(c), uint total, FLAGS) {
    GO(a), GO(b), GO(c);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint j = e % 3u;
    __global const float *ai = a + e / 3u * 3u, *bi = b + e / 6u * 6u;
    float r = stn_snap_x(fma(ai[0], bi[j], fma(ai[1], bi[3u + j], j == 2u ? ai[2] : 0.0f)));
    CHECK(r);
    c[e] = r;
}

__kernel void compose_grad(RD(g), RD(a), RD(b), WR(ga), WR(gb), uint total, FLAGS) {
    GO(g), GO(a), GO(b), GO(ga), GO(gb);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint i = e % 6u / 3u, j = e % 3u;
    g = g + e / 6u * 6u;
    a = a + e / 6u * 6u;
    b = b + e / 6u * 6u;
    float t = 0.0f, u = 0.0f;
    for (uint m = 0u; m < 3u && j < 2u; m++) {
        t = fma(g[i * 3u + m], b[j * 3u + m], t);
    }
    t = stn_snap_g(j < 2u ? t : g[i * 3u + 2u]);
    for (uint m = 0u; m < 2u; m++) {
        u = fma(g[m * 3u + j], a[m * 3u + i], u);
    }
    u = stn_snap_g(u);
    CHECK(t);
    CHECK(u);
    ga[e] = t;
    gb[e] = u;
}
