/* Rearrangements for the kernels of CPU devices. */

/* Weights [C][O][T] to [og][C][T][lanes], the taps T backwards. One item per (og, c). */
#define PACK_W_ARGS(AS)                                                                            \
    AS##RD(w), AS##WR(out), AS##U(O), AS##U(C), AS##U(T), AS##U(lanes), AS##U(total)
KERNEL(pack_w, PACK_W_ARGS) {
    GO(w), GO(out);
    uint e = id0, first = e / C * lanes;
    if (e >= total) {
        return;
    }
    w = w + (e % C * O + first) * T;
    out = out + e * T * lanes;
    for (uint t = 0u; t < T; t++) {
        for (uint l = 0u; l < lanes; l++) {
            out[t * lanes + l] = first + l < O ? w[l * T + T - 1u - t] : 0.0f;
        }
    }
}

/* Rows w[O][K] to [og][K][lanes], lanes = 16 or 32. One item per (16 rows, 16 terms). */
#define PACK_ROWS_ARGS(AS)                                                                         \
    AS##RD(w), AS##WR(out), AS##U(O), AS##U(K), AS##U(lanes), AS##U(total)
KERNEL(pack_rows, PACK_ROWS_ARGS) {
    GO(w), GO(out);
    uint e = id0, across = (K + 15u) / 16u, o = e / across * 16u;
    uint k = e % across * 16u, terms = min(K - k, 16u);
    if (e >= total) {
        return;
    }
    w = w + o * K + k;
    out = out + (o / lanes * K + k) * lanes + o % lanes;
    if (terms == 16u && o + 16u <= O) {
        float16 row[16];
        for (uint l = 0u; l < 16u; l++) {
            row[l] = vload16(0, w + l * K);
        }
        turn16(row, out, lanes);
        return;
    }
    for (uint t = 0u; t < terms; t++) {
        for (uint l = 0u; l < 16u; l++) {
            out[t * lanes + l] = o + l < O ? w[l * K + t] : 0.0f;
        }
    }
}

/* Bias to whole vectors. */
__kernel void pack_b(RD(b), WR(out), uint O, uint total) {
    GO(b), GO(out);
    uint e = (uint)get_global_id(0);
    if (e < total) {
        out[e] = e < O ? b[e] : 0.0f;
    }
}

/* Rows of images with a border of zeros and, for gradients of strided windows, zeros between:
 * planes of PH rows of PW groups of `step` floats from planes of H x W; source (h, w) lands at
 * (h*sh + top, w*sw + left). One item per row of the result. */
__kernel void pad_rows(RD(x), WR(out), uint planes, uint step, uint H, uint W, uint PH, uint PW,
                       uint top, uint left, uint sh, uint sw) {
    GO(x), GO(out);
    uint e = (uint)get_global_id(0);
    if (e >= planes * PH) {
        return;
    }
    uint q = e / PH, r = e % PH, h = (r - top) / sh;
    bool live = r >= top && h * sh == r - top && h < H;
    out = out + e * PW * step;
    for (uint i = 0u; i < PW * step; i++) {
        out[i] = 0.0f;
    }
    if (live) {
        x = x + (q * H + h) * W * step;
        for (uint v = 0u; v < W; v++) {
            for (uint l = 0u; l < step; l++) {
                out[(left + v * sw) * step + l] = x[v * step + l];
            }
        }
    }
}

/* Kernels of O x C as rows of vectors of 16 input channels: kernel (slice, o) stands below `above`
 * rows of zeros, each of its rows behind `margin` of them; above + 1 rows of zeros end the table. One
 * item per (slice, o), and one for the end. */
__kernel void pad_w(RD(w), WR(out), uint O, uint C, uint KH, uint KW, uint above, uint margin,
                    uint total) {
    GO(w), GO(out);
    uint e = (uint)get_global_id(0), o = e % O, c = e / O * 16u, length = margin + KW;
    if (e >= total) {
        return;
    }
    uint rows = above + (e + 1u < total ? KH : 1u), lanes = min(max(C, c) - c, 16u);
    w = w + (o * C + c) * (KH * KW);
    out = out + e * ((above + KH) * length * 16u);
    for (uint i = 0u; i < rows * length; i++, out += 16) {
        uint row = i / length, col = i % length;
        if (row < above || col < margin || e + 1u == total) {
            put16((float16)(0.0f), 0, out);
            continue;
        }
        __global const float *from = w + (row - above) * KW + col - margin;
        for (uint l = 0u; l < 16u; l++) {
            out[l] = l < lanes ? from[l * (KH * KW)] : 0.0f;
        }
    }
}
