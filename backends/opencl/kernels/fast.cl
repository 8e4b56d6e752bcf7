/* What surrounds the matrix products of --math fast: patches of images as matrices and back, bias,
 * snap and check of results. All tensors are NCHW.
 *
 * A chunk of images is a matrix with one column for each (n, pixel) and rows `ld` apart. Geometry
 * arguments: as in conv.cl.
 */
#define GEOMETRY                                                                                   \
    uint C, uint H, uint W, uint O, uint KH, uint KW, uint OH, uint OW, uint sh, uint sw, uint ph, \
        uint pw

/* patches[(c,kh,kw)][(n,oh,ow)] = x[n, c, oh*sh + kh - ph, ow*sw + kw - pw], 0 outside. */
__kernel void patches(RD(x), WR(m), GEOMETRY, uint ld, uint total) {
    GO(x), GO(m);
    uint q = (uint)get_global_id(0), k = (uint)get_global_id(1), P = OH * OW;
    if (q >= total) {
        return;
    }
    uint n = q / P, oh = q % P / OW, ow = q % OW;
    uint c = k / (KH * KW), h = oh * sh + k / KW % KH - ph, v = ow * sw + k % KW - pw;
    m[k * ld + q] = h < H && v < W ? x[((n * C + c) * H + h) * W + v] : 0.0f;
}

/* gx[n,c,h,w] = sum over the patches that hold this pixel. */
__kernel void unpatch(RD(m), WR(gx), GEOMETRY, uint ld, uint total, FLAGS) {
    GO(m), GO(gx);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint v = e % W, h = e / W % H, c = e / (W * H) % C, n = e / (W * H * C);
    float sum = 0.0f;
    for (uint kh = 0u; kh < KH; kh++) {
        uint a = h + ph - kh, oh = a / sh;
        if (a > h + ph || oh * sh != a || oh >= OH) {
            continue;
        }
        for (uint kw = 0u; kw < KW; kw++) {
            uint d = v + pw - kw, ow = d / sw;
            if (d <= v + pw && ow * sw == d && ow < OW) {
                sum = ADD(m[((c * KH + kh) * KW + kw) * ld + (n * OH + oh) * OW + ow], sum);
            }
        }
    }
    float r = stn_snap_g(sum);
    CHECK(r);
    gx[e] = r;
}

/* m[c][(n,p)] = x[n,c,p] */
__kernel void channels(RD(x), WR(m), uint C, uint P, uint ld, uint total) {
    GO(x), GO(m);
    uint q = (uint)get_global_id(0), c = (uint)get_global_id(1);
    if (q < total) {
        m[c * ld + q] = x[(q / P * C + c) * P + q % P];
    }
}

/* y[n,c,p] = snap(m[c][(n,p)] + b[c]) */
__kernel void images(RD(m), RD(b), WR(y), uint C, uint P, uint ld, uint has_b, uint total, FLAGS) {
    GO(m), GO(b), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    uint q = e / P, c = q % C;
    float v = m[c * ld + q / C * P + e % P];
    float r = stn_snap_x(has_b != 0u ? ADD(b[c], v) : v);
    CHECK(r);
    y[e] = r;
}

/* y[n,o] = snap(y[n,o] + b[o]) */
__kernel void finish(RD(b), WR(y), uint O, uint has_b, float limit, uint total, FLAGS) {
    GO(b), GO(y);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    float r = stn_snap(has_b != 0u ? ADD(b[e % O], y[e]) : y[e], limit);
    CHECK(r);
    y[e] = r;
}
