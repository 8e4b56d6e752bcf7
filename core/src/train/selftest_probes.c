/* Table of the self-test's probes; see selftest.h. The hashes were made with the scalar reference.
 */
#include "train/selftest.h"

#define T4(a, b, c, d)                                                                             \
    {                                                                                              \
        STN_F32, STN_NCHW, 4, {                                                                    \
            a, b, c, d                                                                             \
        }                                                                                          \
    }
#define T2(a, b)                                                                                   \
    {                                                                                              \
        STN_F32, STN_NCHW, 2, {                                                                    \
            a, b, 1, 1                                                                             \
        }                                                                                          \
    }
#define T1(a)                                                                                      \
    {                                                                                              \
        STN_F32, STN_NCHW, 1, {                                                                    \
            a, 1, 1, 1                                                                             \
        }                                                                                          \
    }
#define B4(a, b, c, d)                                                                             \
    {                                                                                              \
        STN_U8, STN_NCHW, 4, {                                                                     \
            a, b, c, d                                                                             \
        }                                                                                          \
    }
#define L2(a, b)                                                                                   \
    {                                                                                              \
        STN_I32, STN_NCHW, 2, {                                                                    \
            a, b, 1, 1                                                                             \
        }                                                                                          \
    }
#define OPEN                                                                                       \
    {                                                                                              \
        0, 0, 0, {                                                                                 \
            0, 0, 0, 0                                                                             \
        }                                                                                          \
    }
#define IN(fill, map, ...)                                                                         \
    { STN__FILL_##fill, map, __VA_ARGS__ }
#define CONV(s, p, shards) .conv = {sizeof(stn_conv_params), s, s, p, p, shards}
#define LINEAR(shards) .linear = {sizeof(stn_linear_params), shards}
#define REDUCE(shards) .reduce = {sizeof(stn_reduce_params), shards}
#define POOL(k, s, scale) .pool = {sizeof(stn_pool_params), k, k, s, s, scale}
#define ACT(slope) .act = {sizeof(stn_act_params), slope}
#define DROPOUT .dropout = {sizeof(stn_dropout_params), 5, 0x80000000u, 2.0f}
#define BN .bn = {sizeof(stn_bn_params), 2, 1e-5f, 0.1f, STN__PROBE_INV_N, STN__PROBE_INV_N1}
#define LOSS .loss = {sizeof(stn_loss_params), 3, 10, STN__PROBE_INV_N}
#define SUM(gradient, factor) .scale = {sizeof(stn_scale_params), gradient, factor}
#define NONE .none = {sizeof(stn_none_params)}
#define WARP(corners, filter, padding)                                                             \
    .warp = {sizeof(stn_warp_params),                                                              \
             STN_CORNERS_##corners,                                                                \
             STN_FILTER_##filter,                                                                  \
             STN_PAD_##padding,                                                                    \
             7,                                                                                    \
             6,                                                                                    \
             5,                                                                                    \
             8,                                                                                    \
             {0.5f, -1.5f, 2.0f}}
#define OPT(nesterov, decoupled, mu)                                                               \
    .opt = {sizeof(stn_opt_params),                                                                \
            STN__PROBE_LR,                                                                         \
            STN__PROBE_EPS,                                                                        \
            STN__PROBE_LW,                                                                         \
            nesterov,                                                                              \
            decoupled,                                                                             \
            mu,                                                                                    \
            0x1.0624dep-11f,                                                                       \
            0x1.99999ap-4f,                                                                        \
            0x1.0624dep-10f}
#define DENSE(slope) .linear_block = {sizeof(stn_linear_block_params), 1, slope, 4}
#define BLOCK                                                                                      \
    .block = {sizeof(stn_conv_block_params),                                                       \
              1,                                                                                   \
              0.0f,                                                                                \
              {sizeof(stn_conv_params), 1, 1, 0, 0, 2},                                            \
              {sizeof(stn_pool_params), 2, 2, 2, 2, 0.0f}}

/* name, operator, count, limit, values, maps among the outputs, wanted out[0], parameters, hash,
 * inputs: fill, map, tensor */
#define PROBE(name, op, count, limit, values, maps, wanted, params, expect, ...)                   \
    {                                                                                              \
        name, STN_OP_##op, sizeof((const stn__probe_in[]){__VA_ARGS__}) / sizeof(stn__probe_in),   \
            count, limit, values, {__VA_ARGS__}, wanted, maps, {params}, expect                    \
    }

const stn__probe stn__probes[] = {
    PROBE("linear (fused multiply-add)", LINEAR, 1, 0, 1, 0, OPEN, LINEAR(1), "e1bafb2cf816c225",
          IN(FUSED, 0, T2(1, 2)), IN(FUSED, 0, T2(1, 2))),
    PROBE("linear (order)", LINEAR, 16, 0, 1, 0, OPEN, LINEAR(1), "27ac400878080eb9",
          IN(ROWS, 0, T2(16, 600)), IN(HALF, 0, T2(3, 600))),
    PROBE("linear_grad_w (order)", LINEAR_GRAD_W, 19, 0, 1, 0, OPEN, LINEAR(4), "c77b88a15066a893",
          IN(CHANS, 0, T2(19, 17)), IN(HALF, 0, T2(19, 3))),
    PROBE("bias_grad (order, 1 sums)", BIAS_GRAD, 5, 0, 1, 0, OPEN, REDUCE(4), "6a113f85ca377dad",
          IN(CHANS, 1, T4(5, 1, 5, 7))),
    PROBE("bias_grad (order, 3 sums)", BIAS_GRAD, 5, 0, 1, 0, OPEN, REDUCE(4), "542f9b3998d12078",
          IN(CHANS, 1, T4(5, 3, 5, 7))),
    PROBE("bias_grad (order, 17 sums)", BIAS_GRAD, 5, 0, 1, 0, OPEN, REDUCE(4), "0238f39a3001dcc5",
          IN(CHANS, 1, T4(5, 17, 5, 7))),
    PROBE("bias_grad (order, 64 sums)", BIAS_GRAD, 5, 0, 1, 0, OPEN, REDUCE(4), "25a97208f25b3ea4",
          IN(CHANS, 1, T4(5, 64, 5, 7))),
    PROBE("batch_norm (order, 1 sums)", BN, 4, 0, 80, 1, OPEN, BN, "84c450fda5d8ba83",
          IN(CHANS, 1, T4(4, 1, 5, 4))),
    PROBE("batch_norm (order, 3 sums)", BN, 4, 0, 80, 1, OPEN, BN, "315a33b77d63e9ec",
          IN(CHANS, 1, T4(4, 3, 5, 4))),
    PROBE("batch_norm (order, 17 sums)", BN, 4, 0, 80, 1, OPEN, BN, "63d66a2cdadb79f1",
          IN(CHANS, 1, T4(4, 17, 5, 4))),
    PROBE("batch_norm (order, 64 sums)", BN, 4, 0, 80, 1, OPEN, BN, "255aa7d0542d359c",
          IN(CHANS, 1, T4(4, 64, 5, 4))),
    PROBE("softmax_xent (1 rows)", XENT, 1, 10, 1, 0, OPEN, LOSS, "d0ff948da315153a",
          IN(X, 0, T2(1, 30)), IN(LOW, 0, L2(1, 3))),
    PROBE("softmax_xent_grad (1 rows)", XENT_GRAD, 1, 10, 1, 0, OPEN, LOSS, "e7b7bde1e6a0f6f8",
          IN(X, 0, T2(1, 30)), IN(LOW, 0, L2(1, 3))),
    PROBE("softmax_xent (3 rows)", XENT, 3, 10, 3, 0, OPEN, LOSS, "2460d24139ed5220",
          IN(X, 0, T2(3, 30)), IN(LOW, 0, L2(3, 3))),
    PROBE("softmax_xent_grad (3 rows)", XENT_GRAD, 3, 10, 3, 0, OPEN, LOSS, "b780b7e195b98078",
          IN(X, 0, T2(3, 30)), IN(LOW, 0, L2(3, 3))),
    PROBE("softmax_xent (17 rows)", XENT, 17, 10, 17, 0, OPEN, LOSS, "f6d093e15200f0f6",
          IN(X, 0, T2(17, 30)), IN(LOW, 0, L2(17, 3))),
    PROBE("softmax_xent_grad (17 rows)", XENT_GRAD, 17, 10, 17, 0, OPEN, LOSS, "407f1728827ff723",
          IN(X, 0, T2(17, 30)), IN(LOW, 0, L2(17, 3))),
    PROBE("softmax_xent (64 rows)", XENT, 64, 10, 64, 0, OPEN, LOSS, "eb8ac17dd3f8f783",
          IN(X, 0, T2(64, 30)), IN(LOW, 0, L2(64, 3))),
    PROBE("softmax_xent_grad (64 rows)", XENT_GRAD, 64, 10, 64, 0, OPEN, LOSS, "a761877f71060b4e",
          IN(X, 0, T2(64, 30)), IN(LOW, 0, L2(64, 3))),
    PROBE("sum (1 elements)", SUM, 1, 0, 1, 0, OPEN, SUM(0, 0.0f), "67ea70e49a506e19",
          IN(X, 0, T2(1, 1)), IN(X, 0, T2(1, 1)), IN(X, 0, T2(1, 1)), IN(X, 0, T2(1, 1))),
    PROBE("sum (3 elements)", SUM, 1, 0, 1, 0, OPEN, SUM(0, 0.0f), "2980e446aed86ae4",
          IN(X, 0, T2(1, 3)), IN(X, 0, T2(1, 3)), IN(X, 0, T2(1, 3)), IN(X, 0, T2(1, 3))),
    PROBE("sum (17 elements)", SUM, 1, 0, 1, 0, OPEN, SUM(0, 0.0f), "7e70ddf8bc88cf44",
          IN(X, 0, T2(1, 17)), IN(X, 0, T2(1, 17)), IN(X, 0, T2(1, 17)), IN(X, 0, T2(1, 17))),
    PROBE("sum (64 elements)", SUM, 1, 0, 1, 0, OPEN, SUM(0, 0.0f), "92a1d47975ac2b85",
          IN(X, 0, T2(1, 64)), IN(X, 0, T2(1, 64)), IN(X, 0, T2(1, 64)), IN(X, 0, T2(1, 64))),
    PROBE("conv", CONV, 3, 0, 1, 1, OPEN, CONV(1, 1, 2), "598fd0ce2885ae4c",
          IN(X, 1, T4(3, 20, 9, 7)), IN(X, 0, T4(18, 20, 3, 3)), IN(X, 0, T1(18))),
    PROBE("conv_grad_x", CONV_GRAD_X, 3, 0, 1, 1, T4(3, 20, 9, 7), CONV(1, 1, 2),
          "087e7d6f3c707960", IN(G, 1, T4(3, 18, 9, 7)), IN(X, 0, T4(18, 20, 3, 3))),
    PROBE("conv_grad_w", CONV_GRAD_W, 3, 0, 1, 0, T4(18, 20, 3, 3), CONV(1, 1, 2),
          "6c04c387dd585ee3", IN(G, 1, T4(3, 18, 9, 7)), IN(X, 1, T4(3, 20, 9, 7))),
    PROBE("conv (stride 2)", CONV, 2, 0, 1, 1, OPEN, CONV(2, 1, 2), "fcbd3b3648a044dd",
          IN(X, 1, T4(2, 40, 6, 8)), IN(X, 0, T4(5, 40, 3, 3))),
    PROBE("conv_grad_x (stride 2)", CONV_GRAD_X, 2, 0, 1, 1, T4(2, 40, 6, 8), CONV(2, 1, 2),
          "92b522c7267faae1", IN(G, 1, T4(2, 5, 3, 4)), IN(X, 0, T4(5, 40, 3, 3))),
    PROBE("conv_grad_w (stride 2)", CONV_GRAD_W, 2, 0, 1, 0, T4(5, 40, 3, 3), CONV(2, 1, 2),
          "e2bab89fa1d975cb", IN(G, 1, T4(2, 5, 3, 4)), IN(X, 1, T4(2, 40, 6, 8))),
    PROBE("linear", LINEAR, 4, 0, 1, 0, OPEN, LINEAR(2), "5c19cfe9ce418945",
          IN(X, 1, T4(5, 20, 6, 5)), IN(X, 0, T2(11, 600)), IN(X, 0, T1(11))),
    PROBE("linear_grad_x", LINEAR_GRAD_X, 4, 0, 1, 1, T4(5, 20, 6, 5), LINEAR(2),
          "47abe977b06abd24", IN(G, 0, T2(5, 11)), IN(X, 0, T2(11, 600))),
    PROBE("linear_grad_w", LINEAR_GRAD_W, 4, 0, 1, 0, OPEN, LINEAR(2), "77fba73ccd085fb7",
          IN(G, 0, T2(5, 11)), IN(X, 1, T4(5, 20, 6, 5))),
    PROBE("maxpool", MAXPOOL, 2, 0, 1, 3, OPEN, POOL(2, 2, 0.25f), "25ae1fa62500e771",
          IN(X, 1, T4(2, 18, 7, 9))),
    PROBE("maxpool_grad", MAXPOOL_GRAD, 2, 4, 1, 1, T4(2, 18, 7, 9), POOL(2, 2, 0.25f),
          "5c57bf95ad26457b", IN(G, 1, T4(2, 18, 3, 4)), IN(LOW, 1, B4(2, 18, 3, 4))),
    PROBE("maxpool_grad (overlapping)", MAXPOOL_GRAD, 2, 9, 1, 1, T4(2, 3, 7, 9), POOL(3, 2, 0.0f),
          "8abd7260f3ed6f0f", IN(G, 1, T4(2, 3, 3, 4)), IN(LOW, 1, B4(2, 3, 3, 4))),
    PROBE("avgpool", AVGPOOL, 2, 0, 1, 1, OPEN, POOL(2, 2, 0.25f), "d0a7ec81dc3d77ab",
          IN(X, 1, T4(2, 18, 7, 9))),
    PROBE("avgpool_grad", AVGPOOL_GRAD, 2, 0, 1, 1, T4(2, 18, 7, 9), POOL(2, 2, 0.25f),
          "d700b3a68c6dfc98", IN(G, 1, T4(2, 18, 3, 4))),
    PROBE("avgpool (3x3)", AVGPOOL, 2, 0, 1, 1, OPEN, POOL(3, 2, 0x1.c71c72p-4f),
          "b6c8a99339123805", IN(X, 1, T4(2, 3, 7, 9))),
    PROBE("avgpool_grad (3x3)", AVGPOOL_GRAD, 2, 0, 1, 1, T4(2, 3, 7, 9),
          POOL(3, 2, 0x1.c71c72p-4f), "81d336e516908dc7", IN(G, 1, T4(2, 3, 3, 4))),
    PROBE("act", ACT, 2, 0, 1, 1, OPEN, ACT(0.0f), "1ab1ca4dcf601cc8", IN(X, 1, T4(2, 18, 5, 3))),
    PROBE("act_grad", ACT_GRAD, 2, 0, 1, 1, OPEN, ACT(0.0f), "1b3a2f5ddb62384d",
          IN(G, 1, T4(2, 18, 5, 3)), IN(X, 1, T4(2, 18, 5, 3))),
    PROBE("act (leaky)", ACT, 2, 0, 1, 1, OPEN, ACT(0x1.47ae14p-7f), "caef8faed260e238",
          IN(X, 1, T4(2, 18, 5, 3))),
    PROBE("act_grad (leaky)", ACT_GRAD, 2, 0, 1, 1, OPEN, ACT(0x1.47ae14p-7f), "f7511d4571b62c8e",
          IN(G, 1, T4(2, 18, 5, 3)), IN(X, 1, T4(2, 18, 5, 3))),
    PROBE("dropout (Philox)", DROPOUT, 2, 0, 1, 1, OPEN, DROPOUT, "bffae40af221e14b",
          IN(HALF, 1, T4(2, 18, 5, 3))),
    PROBE("dropout_grad", DROPOUT_GRAD, 2, 0, 1, 1, OPEN, DROPOUT, "b99bf661dadf5a26",
          IN(G, 1, T4(2, 18, 5, 3))),
    PROBE("batch_norm", BN, 4, 0, 60, 1, OPEN, BN, "30109210c073c402", IN(X, 1, T4(5, 18, 5, 3)),
          IN(X, 0, T1(18)), IN(X, 0, T1(18))),
    PROBE("batch_norm_update", BN_UPDATE, 4, 0, 60, 0, OPEN, BN, "9339e372cdee6a62",
          IN(POS, 0, T2(3, 18)), IN(X, 0, T1(18)), IN(POS, 0, T1(18))),
    PROBE("batch_norm_eval", BN_EVAL, 4, 0, 60, 1, OPEN, BN, "230783038eddba32",
          IN(X, 1, T4(5, 18, 5, 3)), IN(X, 0, T1(18)), IN(POS, 0, T1(18)), IN(X, 0, T1(18)),
          IN(X, 0, T1(18))),
    PROBE("batch_norm_grad", BN_GRAD, 4, 0, 60, 1, OPEN, BN, "bd5032371f39cfd6",
          IN(G, 1, T4(5, 18, 5, 3)), IN(X, 1, T4(5, 18, 5, 3)), IN(POS, 0, T2(3, 18)),
          IN(X, 0, T1(18))),
    PROBE("warp (zeros)", WARP, 4, 0, 1, 1, OPEN, WARP(ALIGNED, BILINEAR, ZEROS),
          "1a1a02bb96c98a9a", IN(X, 1, T4(4, 18, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_x (zeros)", WARP_GRAD_X, 4, 0, 1, 1, OPEN, WARP(ALIGNED, BILINEAR, ZEROS),
          "469346851648928b", IN(G, 1, T4(4, 18, 5, 8)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_theta (zeros)", WARP_GRAD_THETA, 4, 0, 1, 0, OPEN,
          WARP(ALIGNED, BILINEAR, ZEROS), "63256b814d184436", IN(G, 1, T4(4, 18, 5, 8)),
          IN(X, 1, T4(4, 18, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("sample (zeros)", SAMPLE, 4, 0, 1, 1, OPEN, WARP(ALIGNED, BILINEAR, ZEROS),
          "11a770a52f0c9036", IN(X, 1, T4(4, 18, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_x (zeros)", SAMPLE_GRAD_X, 4, 0, 1, 1, OPEN, WARP(ALIGNED, BILINEAR, ZEROS),
          "65886a5ede5c2146", IN(G, 1, T4(4, 18, 5, 8)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_grid (zeros)", SAMPLE_GRAD_GRID, 4, 0, 1, 0, OPEN,
          WARP(ALIGNED, BILINEAR, ZEROS), "0b5900c27919f145", IN(G, 1, T4(4, 18, 5, 8)),
          IN(X, 1, T4(4, 18, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("warp (border)", WARP, 4, 0, 1, 1, OPEN, WARP(HALF, BILINEAR, BORDER), "887b8b382dbfec6c",
          IN(X, 1, T4(4, 1, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_x (border)", WARP_GRAD_X, 4, 0, 1, 1, OPEN, WARP(HALF, BILINEAR, BORDER),
          "db5a74a4c830d2e5", IN(G, 1, T4(4, 1, 5, 8)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_theta (border)", WARP_GRAD_THETA, 4, 0, 1, 0, OPEN,
          WARP(HALF, BILINEAR, BORDER), "604730abdf08d14d", IN(G, 1, T4(4, 1, 5, 8)),
          IN(X, 1, T4(4, 1, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("sample (border)", SAMPLE, 4, 0, 1, 1, OPEN, WARP(HALF, BILINEAR, BORDER),
          "c652dfee20b81974", IN(X, 1, T4(4, 1, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_x (border)", SAMPLE_GRAD_X, 4, 0, 1, 1, OPEN, WARP(HALF, BILINEAR, BORDER),
          "3a7f3859e660123e", IN(G, 1, T4(4, 1, 5, 8)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_grid (border)", SAMPLE_GRAD_GRID, 4, 0, 1, 0, OPEN,
          WARP(HALF, BILINEAR, BORDER), "cb565d9dbb9b0d4e", IN(G, 1, T4(4, 1, 5, 8)),
          IN(X, 1, T4(4, 1, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("warp (reflection)", WARP, 4, 0, 1, 1, OPEN, WARP(HALF, BILINEAR, REFLECTION),
          "508b2a707470ea65", IN(X, 1, T4(4, 3, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_x (reflection)", WARP_GRAD_X, 4, 0, 1, 1, OPEN,
          WARP(HALF, BILINEAR, REFLECTION), "8a11b450b2ce6b3b", IN(G, 1, T4(4, 3, 5, 8)),
          IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_theta (reflection)", WARP_GRAD_THETA, 4, 0, 1, 0, OPEN,
          WARP(HALF, BILINEAR, REFLECTION), "7b290f11d5af374f", IN(G, 1, T4(4, 3, 5, 8)),
          IN(X, 1, T4(4, 3, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("sample (reflection)", SAMPLE, 4, 0, 1, 1, OPEN, WARP(HALF, BILINEAR, REFLECTION),
          "a9c806c38f0f80e8", IN(X, 1, T4(4, 3, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_x (reflection)", SAMPLE_GRAD_X, 4, 0, 1, 1, OPEN,
          WARP(HALF, BILINEAR, REFLECTION), "e25f162cac670719", IN(G, 1, T4(4, 3, 5, 8)),
          IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_grid (reflection)", SAMPLE_GRAD_GRID, 4, 0, 1, 0, OPEN,
          WARP(HALF, BILINEAR, REFLECTION), "ab4c078486f07f39", IN(G, 1, T4(4, 3, 5, 8)),
          IN(X, 1, T4(4, 3, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("warp (background)", WARP, 4, 0, 1, 1, OPEN, WARP(ALIGNED, BILINEAR, BACKGROUND),
          "b3bef4698fdeef0a", IN(X, 1, T4(4, 3, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_x (background)", WARP_GRAD_X, 4, 0, 1, 1, OPEN,
          WARP(ALIGNED, BILINEAR, BACKGROUND), "87b3361f4979d3c4", IN(G, 1, T4(4, 3, 5, 8)),
          IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_theta (background)", WARP_GRAD_THETA, 4, 0, 1, 0, OPEN,
          WARP(ALIGNED, BILINEAR, BACKGROUND), "364d6b038f27ba7a", IN(G, 1, T4(4, 3, 5, 8)),
          IN(X, 1, T4(4, 3, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("sample (background)", SAMPLE, 4, 0, 1, 1, OPEN, WARP(ALIGNED, BILINEAR, BACKGROUND),
          "8edda52eb67fb5f3", IN(X, 1, T4(4, 3, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_x (background)", SAMPLE_GRAD_X, 4, 0, 1, 1, OPEN,
          WARP(ALIGNED, BILINEAR, BACKGROUND), "4c823a586eedc26b", IN(G, 1, T4(4, 3, 5, 8)),
          IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_grid (background)", SAMPLE_GRAD_GRID, 4, 0, 1, 0, OPEN,
          WARP(ALIGNED, BILINEAR, BACKGROUND), "f81f12f9933a764f", IN(G, 1, T4(4, 3, 5, 8)),
          IN(X, 1, T4(4, 3, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("warp (nearest)", WARP, 4, 0, 1, 1, OPEN, WARP(ALIGNED, NEAREST, BORDER),
          "3d38799fcd0f4c74", IN(X, 1, T4(4, 3, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_x (nearest)", WARP_GRAD_X, 4, 0, 1, 1, OPEN, WARP(ALIGNED, NEAREST, BORDER),
          "04b611ef616b7384", IN(G, 1, T4(4, 3, 5, 8)), IN(THETA, 0, T2(4, 6))),
    PROBE("warp_grad_theta (nearest)", WARP_GRAD_THETA, 4, 0, 1, 0, OPEN,
          WARP(ALIGNED, NEAREST, BORDER), "2ea9ab9198d16380", IN(G, 1, T4(4, 3, 5, 8)),
          IN(X, 1, T4(4, 3, 7, 6)), IN(THETA, 0, T2(4, 6))),
    PROBE("sample (nearest)", SAMPLE, 4, 0, 1, 1, OPEN, WARP(ALIGNED, NEAREST, BORDER),
          "54046ea1421c9493", IN(X, 1, T4(4, 3, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_x (nearest)", SAMPLE_GRAD_X, 4, 0, 1, 1, OPEN,
          WARP(ALIGNED, NEAREST, BORDER), "e8d83b251beeff03", IN(G, 1, T4(4, 3, 5, 8)),
          IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("sample_grad_grid (nearest)", SAMPLE_GRAD_GRID, 4, 0, 1, 0, OPEN,
          WARP(ALIGNED, NEAREST, BORDER), "bfe492baf731a0db", IN(G, 1, T4(4, 3, 5, 8)),
          IN(X, 1, T4(4, 3, 7, 6)), IN(GRID, 0, T4(4, 5, 8, 2))),
    PROBE("affine_grid (aligned)", GRID, 4, 0, 1, 0, OPEN, WARP(ALIGNED, BILINEAR, ZEROS),
          "2ce1db92869378d5", IN(THETA, 0, T2(4, 6))),
    PROBE("affine_grid_grad (aligned)", GRID_GRAD, 4, 0, 1, 0, OPEN, WARP(ALIGNED, BILINEAR, ZEROS),
          "7c6fbb3baf16f683", IN(G, 0, T4(4, 5, 8, 2))),
    PROBE("affine_grid (half-pixel)", GRID, 4, 0, 1, 0, OPEN, WARP(HALF, BILINEAR, ZEROS),
          "f016681466d07d74", IN(THETA, 0, T2(4, 6))),
    PROBE("affine_grid_grad (half-pixel)", GRID_GRAD, 4, 0, 1, 0, OPEN, WARP(HALF, BILINEAR, ZEROS),
          "73ae0f9618aa4318", IN(G, 0, T4(4, 5, 8, 2))),
    PROBE("compose", COMPOSE, 5, 0, 1, 0, OPEN, NONE, "9a7931e26c53f368", IN(THETA, 0, T2(5, 6)),
          IN(THETA, 0, T2(5, 6))),
    PROBE("compose_grad", COMPOSE_GRAD, 5, 0, 1, 0, OPEN, NONE, "592567ab20e5d45e",
          IN(G, 0, T2(5, 6)), IN(THETA, 0, T2(5, 6)), IN(THETA, 0, T2(5, 6))),
    PROBE("sum (one row)", SUM, 3, 0, 1, 1, OPEN, SUM(0, 0.0f), "477916ac41f45067",
          IN(X, 1, T4(3, 18, 2, 3)), IN(X, 1, T4(1, 18, 2, 3))),
    PROBE("sum (gradients)", SUM, 3, 0, 1, 1, OPEN, SUM(1, 0.0f), "161b3053719dcecd",
          IN(G, 1, T4(3, 18, 2, 3)), IN(G, 1, T4(3, 18, 2, 3)), IN(G, 1, T4(3, 18, 2, 3))),
    PROBE("scale", SCALE, 3, 0, 1, 1, OPEN, SUM(0, 0x1.99999ap-4f), "4fe1cfcb06d92f08",
          IN(X, 1, T4(3, 18, 2, 3))),
    PROBE("copy", COPY, 3, 0, 1, 0, OPEN, NONE, "eb82c1a602ad36e4", IN(X, 1, T4(3, 18, 2, 3))),
    PROBE("unpack", UNPACK, 3, 0, 1, 1, OPEN, NONE, "bcd63d83edab07b6",
          IN(BYTE, 0, B4(3, 18, 2, 3)), IN(X, 0, T1(18)), IN(X, 0, T1(18))),
    PROBE("sgd", SGD, 1, 0, 1, 0, OPEN, OPT(0, 0, 0x1.ccccccp-1f), "ecdfa304f5f08e8e",
          IN(G, 0, T2(3, 37)), IN(X, 0, T2(3, 37)), IN(G, 0, T2(3, 37))),
    PROBE("sgd (Nesterov)", SGD, 1, 0, 1, 0, OPEN, OPT(1, 0, 0x1.ccccccp-1f), "b1cf8bd06b42a011",
          IN(G, 0, T2(3, 37)), IN(X, 0, T2(3, 37)), IN(G, 0, T2(3, 37))),
    PROBE("adam", ADAM, 1, 0, 1, 0, OPEN, OPT(0, 0, 0.0f), "25f3f924fb6d2d23", IN(G, 0, T2(3, 37)),
          IN(X, 0, T2(3, 37)), IN(G, 0, T2(3, 37)), IN(POS, 0, T2(3, 37))),
    PROBE("adam (decoupled)", ADAM, 1, 0, 1, 0, OPEN, OPT(0, 1, 0.0f), "6ba2e88824a98992",
          IN(G, 0, T2(3, 37)), IN(X, 0, T2(3, 37)), IN(G, 0, T2(3, 37)), IN(POS, 0, T2(3, 37))),
    PROBE("conv_block (1 to 20 channels)", CONV_BLOCK, 3, 0, 1, 3, OPEN, BLOCK, "e28292ce8c6a71dc",
          IN(X, 1, T4(3, 1, 12, 12)), IN(X, 0, T4(20, 1, 5, 5)), IN(X, 0, T1(20))),
    PROBE("conv_block_grad_x (1 to 20 channels)", CONV_BLOCK_GRAD_X, 3, 4, 1, 1, T4(3, 1, 12, 12),
          BLOCK, "daf0834202a6a504", IN(G, 1, T4(3, 20, 4, 4)), IN(X, 1, T4(3, 20, 4, 4)),
          IN(LOW, 1, B4(3, 20, 4, 4)), IN(X, 0, T4(20, 1, 5, 5))),
    PROBE("conv_block_grad_w (1 to 20 channels)", CONV_BLOCK_GRAD_W, 3, 4, 1, 0, T4(20, 1, 5, 5),
          BLOCK, "8999168f51076fb5", IN(G, 1, T4(3, 20, 4, 4)), IN(X, 1, T4(3, 20, 4, 4)),
          IN(LOW, 1, B4(3, 20, 4, 4)), IN(X, 1, T4(3, 1, 12, 12))),
    PROBE("conv_block (20 to 18 channels)", CONV_BLOCK, 3, 0, 1, 3, OPEN, BLOCK, "84b85c4a54cb4cea",
          IN(X, 1, T4(3, 20, 8, 8)), IN(X, 0, T4(18, 20, 3, 3)), IN(X, 0, T1(18))),
    PROBE("conv_block_grad_x (20 to 18 channels)", CONV_BLOCK_GRAD_X, 3, 4, 1, 1, T4(3, 20, 8, 8),
          BLOCK, "9c07a7b00a8b7777", IN(G, 1, T4(3, 18, 3, 3)), IN(X, 1, T4(3, 18, 3, 3)),
          IN(LOW, 1, B4(3, 18, 3, 3)), IN(X, 0, T4(18, 20, 3, 3))),
    PROBE("conv_block_grad_w (20 to 18 channels)", CONV_BLOCK_GRAD_W, 3, 4, 1, 0, T4(18, 20, 3, 3),
          BLOCK, "be3c0783cc256021", IN(G, 1, T4(3, 18, 3, 3)), IN(X, 1, T4(3, 18, 3, 3)),
          IN(LOW, 1, B4(3, 18, 3, 3)), IN(X, 1, T4(3, 20, 8, 8))),
    PROBE("linear_block", LINEAR_BLOCK, 19, 0, 1, 0, OPEN, DENSE(0.0f), "9059b28d90b00561",
          IN(X, 1, T4(19, 20, 3, 3)), IN(X, 0, T2(17, 180)), IN(X, 0, T1(17))),
    PROBE("linear_block_grad", LINEAR_BLOCK_GRAD, 19, 0, 1, 4, OPEN, DENSE(0x1.99999ap-4f),
          "5c568503254d3d3a", IN(G, 0, T2(19, 17)), IN(X, 0, T2(19, 17)),
          IN(X, 1, T4(19, 20, 3, 3)), IN(X, 0, T2(17, 180))),
    PROBE("softmax_xent_both", XENT_BOTH, 17, 10, 17, 0, OPEN, LOSS, "ff2740c5a9094414",
          IN(X, 0, T2(17, 30)), IN(LOW, 0, L2(17, 3))),
};
const uint32_t stn__n_probes = (uint32_t)(sizeof stn__probes / sizeof stn__probes[0]);
const char stn__probes_hash[STN_HASH_HEX] =
    "643e3065467fa818eeeb6e40f3ca82a62df81637d30de5d7b130cec8575d3a7d";
