/* The sampler for GPUs, NCHW only; warp.cl, which stands before it, has the coordinates. Arguments
 * are those of the general kernels of the same work.
 */
#define UNROLL _Pragma("unroll")
#define WARP_GROUP 128u
/* Channels of an item. */
#define CHANNELS 8u

/* One item per output pixel and block of channels, so that coordinates are found once. */
__kernel void gpu_sample(RD(x), COORDS, RD(background), WR(y), uint xl, uint yl, uint C, MAP,
                         uint total, FLAGS) {
    OPEN_COORDS, GO(x), GO(background), GO(y);
    uint e = (uint)get_global_id(0), c0 = (uint)get_global_id(1) * CHANNELS, OP = OH * OW;
    if (e >= total / C) {
        return;
    }
    uint n = e / OP, p = e - n * OP, c1 = c0 + CHANNELS < C ? c0 + CHANNELS : C;
    corners_t k = CORNERS(n, p);
    for (uint c = c0; c < c1; c++) {
        __global const float *xp = x + (n * C + c) * (H * W);
        float out = padding == 4u ? background[c] : 0.0f, va = CORNER(k, 0, xp, 1u, out), r = va;
        if (nearest == 0u) {
            float vb = CORNER(k, 1, xp, 1u, out), vc = CORNER(k, 2, xp, 1u, out),
                  vd = CORNER(k, 3, xp, 1u, out);
            float t = fma(k.fx, SUB(vb, va), va), u = fma(k.fx, SUB(vd, vc), vc);
            r = stn_snap_x(fma(k.fy, SUB(u, t), t));
        }
        CHECK(r);
        y[(n * C + c) * OP + p] = r;
    }
}

/* Gather: a group owns WARP_GROUP input pixels of an image and CHANNELS channels, an item one
 * pixel. Blocks of output pixels pass through local memory in order, so that every input pixel
 * chains the terms of the output pixels that touch it row-major; blocks that touch none of the
 * group's pixels are skipped. */
#define OUTSIDE 0xffffffffu
__kernel __attribute__((reqd_work_group_size(WARP_GROUP, 1, 1))) void
gpu_sample_grad_x(RD(gy), COORDS, WR(gx), uint gl, uint xl, uint C, uint stored, MAP, uint total,
                  FLAGS) {
    OPEN_COORDS, GO(gy), GO(gx);
    __local uint4 at[WARP_GROUP];
    __local float4 weight[WARP_GROUP];
    __local uint low, high;
    uint P = H * W, OP = OH * OW, tiles = (P + WARP_GROUP - 1u) / WARP_GROUP;
    uint lane = (uint)get_local_id(0), c0 = (uint)get_global_id(1) * CHANNELS;
    uint n = (uint)get_group_id(0) / tiles, first = (uint)get_group_id(0) % tiles * WARP_GROUP;
    uint pixel = first + lane;
    float acc[CHANNELS];
    UNROLL for (uint j = 0u; j < CHANNELS; j++) {
        acc[j] = 0.0f;
    }
    for (uint p0 = 0u; p0 < OP; p0 += WARP_GROUP) {
        uint block = OP - p0 < WARP_GROUP ? OP - p0 : WARP_GROUP;
        if (lane == 0u) {
            low = OUTSIDE;
            high = 0u;
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < block) {
            corners_t k = CORNERS(n, p0 + lane);
            float hx = SUB(one, k.fx), hy = SUB(one, k.fy);
            bool linear = nearest == 0u;
            uint4 a = (uint4)(k.in[0] ? k.at[0] : OUTSIDE, k.in[1] && linear ? k.at[1] : OUTSIDE,
                              k.in[2] && linear ? k.at[2] : OUTSIDE,
                              k.in[3] && linear ? k.at[3] : OUTSIDE);
            at[lane] = a;
            weight[lane] = (float4)(linear ? hx * hy : one, k.fx * hy, hx * k.fy, k.fx * k.fy);
            uint v[4] = {a.x, a.y, a.z, a.w};
            UNROLL for (uint i = 0u; i < 4u; i++) {
                if (v[i] != OUTSIDE) {
                    atomic_min((volatile __local uint *)&low, v[i]);
                    atomic_max((volatile __local uint *)&high, v[i]);
                }
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        uint touched = low < first + WARP_GROUP && low <= high && high >= first ? block : 0u;
        for (uint i = 0u; i < touched; i++) {
            uint4 a = at[i];
            if (a.x != pixel && a.y != pixel && a.z != pixel && a.w != pixel) {
                continue;
            }
            float4 w = weight[i];
            UNROLL for (uint j = 0u; j < CHANNELS; j++) {
                if (c0 + j < C) {
                    float g = gy[(n * C + c0 + j) * OP + p0 + i];
                    acc[j] = a.x == pixel ? fma(w.x, g, acc[j]) : acc[j];
                    acc[j] = a.y == pixel ? fma(w.y, g, acc[j]) : acc[j];
                    acc[j] = a.z == pixel ? fma(w.z, g, acc[j]) : acc[j];
                    acc[j] = a.w == pixel ? fma(w.w, g, acc[j]) : acc[j];
                }
            }
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    UNROLL for (uint j = 0u; j < CHANNELS; j++) {
        if (c0 + j < C && pixel < P) {
            float r = stn_snap_g(acc[j]);
            CHECK(r);
            gx[(n * C + c0 + j) * P + pixel] = r;
        }
    }
}

/* PLANE16 with its lanes in registers. */
static inline float fold_registers(__private const float *lane, float one) {
    float a[8];
    UNROLL for (uint j = 0u; j < 8u; j++) {
        a[j] = ADD(lane[j + 8u], lane[j]);
    }
    float b0 = ADD(a[4], a[0]), b1 = ADD(a[5], a[1]), b2 = ADD(a[6], a[2]), b3 = ADD(a[7], a[3]);
    float d0 = ADD(b2, b0), d1 = ADD(b3, b1);
    return ADD(d1, d0);
}

/* Gradient of the pixel coordinates of output pixel p, in pixel units: PLANE16 over channels. gy
 * and x begin at image n. */
static inline float2 coordinate_grad(__global const float *gy, __global const float *x,
                                     __global const float *background, corners_t k, uint C, uint P,
                                     uint OP, uint p, uint nearest, uint padding, float one) {
    float lx[16], ly[16];
    UNROLL for (uint j = 0u; j < 16u; j++) {
        lx[j] = 0.0f;
        ly[j] = 0.0f;
    }
    for (uint c0 = 0u; c0 < C && nearest == 0u; c0 += 16u) {
        UNROLL for (uint j = 0u; j < 16u; j++) {
            uint c = c0 + j;
            if (c < C) {
                __global const float *xp = x + c * P;
                float out = padding == 4u ? background[c] : 0.0f, g = gy[c * OP + p];
                float va = CORNER(k, 0, xp, 1u, out), vb = CORNER(k, 1, xp, 1u, out),
                      vc = CORNER(k, 2, xp, 1u, out), vd = CORNER(k, 3, xp, 1u, out);
                float ba = SUB(vb, va), ca = SUB(vc, va);
                float dx = stn_snap_x(fma(k.fy, SUB(SUB(vd, vc), ba), ba));
                float dy = stn_snap_x(fma(k.fx, SUB(SUB(vd, vb), ca), ca));
                lx[j] = fma(g, dx, lx[j]);
                ly[j] = fma(g, dy, ly[j]);
            }
        }
    }
    float gx = fold_registers(lx, one), gv = fold_registers(ly, one);
    return (float2)(k.turnx == 0.0f ? 0.0f : stn_snap_g(k.turnx * gx),
                    k.turny == 0.0f ? 0.0f : stn_snap_g(k.turny * gv));
}

/* One item per output pixel. */
__kernel void gpu_sample_grad_grid(RD(gy), RD(x), COORDS, RD(background), WR(out), uint gl, uint xl,
                                   uint C, uint scaled, MAP, uint total, FLAGS) {
    OPEN_COORDS, GO(gy), GO(x), GO(background), GO(out);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint OP = OH * OW, P = H * W, n = e / OP, p = e - n * OP;
    float2 s = coordinate_grad(gy + n * C * OP, x + n * C * P, background, CORNERS(n, p), C, P, OP,
                               p, nearest, padding, one);
    float r = stn_snap_g(sx * s.x), v = stn_snap_g(sy * s.y);
    CHECK(r);
    CHECK(v);
    out[2u * e] = r;
    out[2u * e + 1u] = v;
}

/* One group per image: items find s of WARP_GROUP output pixels, then 16 lanes for each of the six
 * entries of theta add them up, PLANE16 over the pixels of s*xt, s*yt or s. */
__kernel __attribute__((reqd_work_group_size(WARP_GROUP, 1, 1))) void
gpu_warp_grad_theta(RD(gy), RD(x), COORDS, RD(background), WR(out), uint C, MAP, FLAGS) {
    OPEN_COORDS, GO(gy), GO(x), GO(background), GO(out);
    __local float2 s[WARP_GROUP];
    __local float lanes[WARP_GROUP / 16u][16];
    uint OP = OH * OW, P = H * W, n = (uint)get_group_id(0), item = (uint)get_local_id(0);
    uint entry = item / 16u, lane = item % 16u, column = entry % 3u;
    bool second = entry >= 3u;
    float sum = 0.0f;
    for (uint p0 = 0u; p0 < OP; p0 += WARP_GROUP) {
        uint block = OP - p0 < WARP_GROUP ? OP - p0 : WARP_GROUP;
        if (item < block) {
            s[item] =
                coordinate_grad(gy + n * C * OP, x + n * C * P, background, CORNERS(n, p0 + item),
                                C, P, OP, p0 + item, nearest, padding, one);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
        for (uint i = lane; i < block && entry < 6u; i += 16u) {
            uint p = p0 + i;
            float f = column == 0u ? xt[p % OW] : column == 1u ? yt[p / OW] : one;
            sum = fma(second ? s[i].y : s[i].x, f, sum);
        }
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    lanes[entry][lane] = sum;
    for (uint d = 8u; d > 0u; d /= 2u) {
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lane < d) {
            lanes[entry][lane] = ADD(lanes[entry][lane + d], lanes[entry][lane]);
        }
    }
    if (lane == 0u && entry < 6u) {
        float r = stn_snap_g((second ? sy : sx) * stn_snap_g(lanes[entry][0]));
        CHECK(r);
        out[n * 6u + entry] = r;
    }
}
