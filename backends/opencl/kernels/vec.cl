/* Vectors of 16 channels, for kernels of CPU devices. */
#define LANES16 ((int16)(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15))
#define SNAP16(v, limit)                                                                           \
    ((as_int16(v) & (int16)(0x7fffffff)) < (int16)(as_int(limit)) ? (float16)(0.0f) : (v))
#define POS16(v) (as_uint16(v) - (uint16)(1u) < (uint16)(0x7f800000u))
#define NONZERO16(v) ((as_int16(v) << 1) != (int16)(0))
#define BAD16(v) ((as_int16(v) & (int16)(0x7f800000)) == (int16)(0x7f800000))

/* Place of the lowest bit that is set: one instruction, where clz(v & -v) is three. */
#define LOWEST_BIT(v) ((uint)popcount(~(v) & ((v)-1u)))

static inline float16 act16(float16 v, float slope) {
    float16 low = slope == 0.0f ? (float16)(0.0f) : SNAP16(slope * v, STN_LIM_X);
    return POS16(v) ? v : low;
}
static inline float16 act_bwd16(float16 g, float16 y, float slope) {
    float16 low = slope == 0.0f ? (float16)(0.0f) : SNAP16(slope * g, STN_LIM_G);
    return POS16(y) ? g : low;
}
#define ACT16(v, act, slope) ((act) ? act16(v, slope) : (v))

/* As vload16 and vstore16, which PoCL takes apart into two loads (of bytes: eight) and four stores.
 */
typedef float16 loose16 __attribute__((aligned(4)));
typedef uchar16 loose16_u8 __attribute__((aligned(1)));
static inline float16 get16(uint i, __global const float *p) {
    return ((__global const loose16 *)p)[i];
}
static inline int16 get16_u8(uint i, __global const uchar *p) {
    return convert_int16(((__global const loose16_u8 *)p)[i]);
}
static inline void put16(float16 v, uint i, __global float *p) {
    ((__global loose16 *)p)[i] = v;
}

/* The first n <= 16 lanes; the others are zero or not written. */
static inline float16 load16(__global const float *p, uint n) {
    if (n == 16u) {
        return vload16(0, p);
    }
    float each[16];
    for (uint l = 0u; l < 16u; l++) {
        each[l] = l < n ? p[l] : 0.0f;
    }
    return vload16(0, each);
}
static inline void store16(float16 v, __global float *p, uint n) {
    if (n == 16u) {
        put16(v, 0, p);
        return;
    }
    float each[16];
    vstore16(v, 0, each);
    for (uint l = 0u; l < n; l++) {
        p[l] = each[l];
    }
}

/* M(0) M(1) ... of a number that an option gives: accumulators have names of their own. */
#define R1(M) M(0)
#define R2(M) R1(M) M(1)
#define R3(M) R2(M) M(2)
#define R4(M) R3(M) M(3)
#define R5(M) R4(M) M(4)
#define R6(M) R5(M) M(5)
#define R7(M) R6(M) M(6)
#define R8(M) R7(M) M(7)
#define R9(M) R8(M) M(8)
#define R10(M) R9(M) M(9)
#define R11(M) R10(M) M(10)
#define R12(M) R11(M) M(11)
#define R13(M) R12(M) M(12)
#define R14(M) R13(M) M(13)
#define R15(M) R14(M) M(14)
#define R16(M) R15(M) M(15)
#define R17(M) R16(M) M(16)
#define R18(M) R17(M) M(17)
#define R19(M) R18(M) M(18)
#define R20(M) R19(M) M(19)
#define R21(M) R20(M) M(20)
#define R22(M) R21(M) M(21)
#define R23(M) R22(M) M(22)
#define R24(M) R23(M) M(23)
#define R25(M) R24(M) M(24)
#define NEXT_0 1
#define NEXT_1 2
#define NEXT_2 3
#define NEXT_3 4
#define NEXT_4 5
#define NEXT_5 6
#define NEXT_6 7
#define NEXT_7 8
#define NEXT_8 9
#define NEXT_9 10
#define NEXT_10 11
#define NEXT_11 12
#define NEXT_12 13
#define NEXT_13 14
#define NEXT_14 15
#define NEXT_15 16
#define CAT_(a, b) a##b
#define CAT(a, b) CAT_(a, b)

/* 16 vectors become the columns of 16 rows, `pitch` floats apart: rows i and i + 8 are woven four
 * times over. */
#define TAKE(i) a[i] = row[i];
#define GIVE(i) put16(a[i], 0, to + i * pitch);
#define WEAVE(b, a, i)                                                                             \
    b[2 * i].even = a[i].lo, b[2 * i].odd = a[i + 8].lo;                                           \
    b[2 * i + 1].even = a[i].hi, b[2 * i + 1].odd = a[i + 8].hi;
#define WEAVE_TO(i) WEAVE(b, a, i)
#define WEAVE_BACK(i) WEAVE(a, b, i)
static inline void turn16(__private const float16 *row, __global float *to, uint pitch) {
    float16 a[16], b[16];
    R16(TAKE)
    R8(WEAVE_TO)
    R8(WEAVE_BACK)
    R8(WEAVE_TO)
    R8(WEAVE_BACK)
    R16(GIVE)
}

/* PoCL makes three functions of a kernel, with all that it calls, unless that may not be inlined and
 * does not ask for its place among the items. So a long kernel only hands its parameters and places
 * on to a function of its own, and takes half the time to compile.
 *
 * NAME_ARGS(AS) lists the parameters for KERNEL(NAME, NAME_ARGS) { ... }, each as AS##kind(name): D_
 * declares it, P_ passes it. Names of built-in functions (length) are macros on PoCL: not for them. */
#if defined(POCL_DEVICE_ADDRESS_BITS)
#define NOT_INLINED __attribute__((noinline))
#else
#define NOT_INLINED
#endif
#define D_RD(x) RD(x)
#define D_RD8(x) RD8(x)
#define D_RDI(x) RDI(x)
#define D_WR(x) WR(x)
#define D_WR8(x) WR8(x)
#define D_WRI(x) WRI(x)
#define D_RDP(x) __global const uint2 *x, ulong x##_off
#define D_WRP(x) __global uint2 *x, ulong x##_off
#define D_U(x) uint x
#define D_F(x) float x
#define D_FLAGS FLAGS
#define D_TICKETS TICKETS
#define D_MAP MAP
#define P_RD(x) x, x##_off
#define P_RD8(x) x, x##_off
#define P_RDI(x) x, x##_off
#define P_WR(x) x, x##_off
#define P_WR8(x) x, x##_off
#define P_WRI(x) x, x##_off
#define P_RDP(x) x, x##_off
#define P_WRP(x) x, x##_off
#define P_U(x) x
#define P_F(x) x
#define P_FLAGS flags, flags_off, node, step1, one
#define P_TICKETS tickets, tickets_off
#define P_MAP W, H, sx, sy, ox, oy, perx, pery, invx, invy, aligned, nearest, padding
#define KERNEL(name, ARGS) HAND_ON(, name, ARGS)
#define ONE_ITEM(name, ARGS) HAND_ON(__attribute__((reqd_work_group_size(1, 1, 1))), name, ARGS)
#define HAND_ON(extra, name, ARGS)                                                                 \
    NOT_INLINED static void CAT(name, _at)(ARGS(D_), PLACE_OF_ITEM);                               \
    __kernel extra void name(ARGS(D_)) {                                                           \
        CAT(name, _at)                                                                             \
        (ARGS(P_), (uint)get_global_id(0), (uint)get_global_id(1), (uint)get_global_id(2),         \
         (uint)get_global_size(0), (uint)get_global_size(1));                                      \
    }                                                                                              \
    NOT_INLINED static void CAT(name, _at)(ARGS(D_), PLACE_OF_ITEM)
#define PLACE_OF_ITEM uint id0, uint id1, uint id2, uint size0, uint size1

/* A launch of one item for each compute unit, which take the next of `jobs` jobs whenever they are
 * free: runtimes hand half of a launch's groups to their first thread at once. The last item to
 * leave puts the tickets back. */
#define TICKETS __global uint *tickets, ulong tickets_off
#define FOR_JOBS(job, jobs)                                                                        \
    GO(tickets);                                                                                   \
    for (uint job = atomic_inc(tickets); job < (jobs); job = atomic_inc(tickets))
#define END_JOBS                                                                                   \
    if (atomic_inc(tickets + 1) + 1u == size0) {                                                   \
        atomic_and(tickets, 0u);                                                                   \
        atomic_and(tickets + 1, 0u);                                                               \
    }

/* Names of functions of a unit: programs hold several (program.c). */
#define FN(name) CAT(CAT(name, _), V_UNIT)
