/* Convolution and its gradients, one item for each output value (any shape, both layouts).
 *
 * Geometry arguments: C,H,W input; O,KH,KW weights; OH,OW output; sh,sw strides; ph,pw padding.
 */
#define GEOMETRY                                                                                   \
    uint C, uint H, uint W, uint O, uint KH, uint KW, uint OH, uint OW, uint sh, uint sw, uint ph, \
        uint pw

__kernel void conv(RD(x), RD(w), RD(b), WR(y), uint xl, uint yl, GEOMETRY, uint has_b, uint act,
                   float slope, uint total, FLAGS) {
    GO(x), GO(w), GO(b), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(yl, O, OH * OW, e);
    if (q.c >= O) {
        y[e] = 0.0f;
        return;
    }
    uint oh = q.p / OW, ow = q.p % OW, CB = stn_conv_chunk(KH, KW), st = STRIDE(xl);
    float sum = 0.0f;
    for (uint c0 = 0u; c0 < C; c0 += CB) {
        float acc = 0.0f;
        for (uint c = c0; c < c0 + CB && c < C; c++) {
            __global const float *xp = x + plane(xl, C, H * W, q.n, c);
            __global const float *wp = w + (q.c * C + c) * KH * KW;
            for (uint kh = 0u; kh < KH; kh++) {
                uint h = oh * sh + kh - ph;
                for (uint kw = 0u; kw < KW; kw++) {
                    uint v = ow * sw + kw - pw;
                    if (h < H && v < W) {
                        acc = fma(xp[(h * W + v) * st], wp[kh * KW + kw], acc);
                    }
                }
            }
        }
        sum = ADD(acc, sum);
    }
    float r = stn_snap_x(has_b != 0u ? ADD(b[q.c], sum) : sum);
    r = act != 0u ? act_fwd(r, slope) : r;
    CHECK(r);
    y[e] = r;
}

/* The zero-padded, zero-dilated output gradient, convolved with the flipped weights. */
__kernel void conv_grad_x(RD(gy), RD(w), WR(gx), uint yl, uint xl, GEOMETRY, uint total, FLAGS) {
    GO(gy), GO(w), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    pos_t q = decode(xl, C, H * W, e);
    if (q.c >= C) {
        gx[e] = 0.0f;
        return;
    }
    uint h = q.p / W, v = q.p % W, CB = stn_conv_chunk(KH, KW), st = STRIDE(yl);
    float sum = 0.0f;
    for (uint o0 = 0u; o0 < O; o0 += CB) {
        float acc = 0.0f;
        for (uint o = o0; o < o0 + CB && o < O; o++) {
            __global const float *gp = gy + plane(yl, O, OH * OW, q.n, o);
            __global const float *wp = w + (o * C + q.c) * KH * KW;
            for (uint i = 0u; i < KH; i++) {
                uint kh = KH - 1u - i, a = h + ph - kh, oh = a / sh;
                if (a > h + ph || oh * sh != a || oh >= OH) {
                    continue;
                }
                for (uint j = 0u; j < KW; j++) {
                    uint kw = KW - 1u - j, d = v + pw - kw, ow = d / sw;
                    if (d <= v + pw && ow * sw == d && ow < OW) {
                        acc = fma(gp[(oh * OW + ow) * st], wp[kh * KW + kw], acc);
                    }
                }
            }
        }
        sum = ADD(acc, sum);
    }
    float r = stn_snap_g(sum);
    CHECK(r);
    gx[e] = r;
}

/* Shard sums part[shard][o][c][kh][kw]; shard length B images, chunks of G images. */
__kernel void conv_grad_w(RD(gy), RD(x), WR(part), uint yl, uint xl, GEOMETRY, uint rows, uint B,
                          uint n_w, float one) {
    GO(gy), GO(x), GO(part);
    uint e = (uint)get_global_id(0), s = (uint)get_global_id(1);
    if (e >= n_w) {
        return;
    }
    uint kw = e % KW, kh = e / KW % KH, c = e / (KW * KH) % C, o = e / (KW * KH * C);
    uint G = stn_wgrad_chunk(OH, OW), ys = STRIDE(yl), xs = STRIDE(xl);
    uint first = s * B, last = first + B < rows ? first + B : rows;
    float sum = 0.0f;
    for (uint n0 = first; n0 < last; n0 += G) {
        float acc = 0.0f;
        for (uint n = n0; n < n0 + G && n < last; n++) {
            __global const float *gp = gy + plane(yl, O, OH * OW, n, o);
            __global const float *xp = x + plane(xl, C, H * W, n, c);
            for (uint oh = 0u; oh < OH; oh++) {
                uint h = oh * sh + kh - ph;
                for (uint ow = 0u; ow < OW; ow++) {
                    uint v = ow * sw + kw - pw;
                    if (h < H && v < W) {
                        acc = fma(gp[(oh * OW + ow) * ys], xp[(h * W + v) * xs], acc);
                    }
                }
            }
        }
        sum = ADD(acc, sum);
    }
    part[s * n_w + e] = sum;
}
