/* Softmax cross-entropy, one item per (image, head). */

/* Gradient of one row of K logits with maximum m and sum of exponentials `sum`. */
#define GRADIENT                                                                                   \
    float R = stn_recip(sum);                                                                      \
    for (uint k = 0u; k < K; k++) {                                                                \
        float y = (int)k == label[e] ? -one : -0.0f;                                               \
        float r = stn_snap_g(fma(stn_exp(SUB(z[k], m)), R, y) * inv_n);                            \
        CHECK(r);                                                                                  \
        gz[k] = r;                                                                                 \
    }

/* grad: gz is wanted too. */
__kernel void xent(RD(z), RDI(label), WR(stats), WRI(pred), WR(gz), uint K, uint grad, float inv_n,
                   uint total, FLAGS) {
    GO(z), GO(label), GO(stats), GO(pred), GO(gz);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    z = z + e * K;
    float m = z[0], sum = 0.0f;
    int best = 0;
    for (uint k = 1u; k < K; k++) {
        bool more = z[k] > m;
        m = more ? z[k] : m;
        best = more ? (int)k : best;
    }
    for (uint k = 0u; k < K; k++) {
        sum = ADD(stn_exp(SUB(z[k], m)), sum);
    }
    /* The core checks labels; a wrong one must still not read outside the row. */
    float d = SUB((uint)label[e] < K ? z[label[e]] : m, m);
    CHECK(d);
    CHECK(sum);
    stats[2u * e] = d;
    stats[2u * e + 1u] = sum;
    pred[e] = best;
    if (grad != 0u) {
        gz = gz + e * K;
        GRADIENT
    }
}

__kernel void xent_grad(RD(z), RDI(label), WR(gz), uint K, float inv_n, uint total, FLAGS) {
    GO(z), GO(label), GO(gz);
    uint e = (uint)get_global_id(0);
    if (e >= total) {
        return;
    }
    z = z + e * K;
    gz = gz + e * K;
    float m = z[0], sum = 0.0f;
    for (uint k = 1u; k < K; k++) {
        m = z[k] > m ? z[k] : m;
    }
    for (uint k = 0u; k < K; k++) {
        sum = ADD(stn_exp(SUB(z[k], m)), sum);
    }
    GRADIENT
}
