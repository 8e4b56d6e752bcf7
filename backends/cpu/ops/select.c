/* Entry of one instruction set: asks the kernel families in turn. */
#include "fast.h"

#define SELECT_NAME2(isa) cpu_##isa##_select
#define SELECT_NAME1(isa) SELECT_NAME2(isa)

bool SELECT_NAME1(CPU_ISA)(const stn_kernel *kernel, uint32_t threads, cpu_impl *impl) {
#define SET_TEXT2(isa) #isa
#define SET_TEXT1(isa) SET_TEXT2(isa)
    impl->set = SET_TEXT1(CPU_ISA);
    impl->workspace = 0;
    switch (kernel->op) {
    case STN_OP_CONV:
    case STN_OP_CONV_BLOCK:
        return ISA(conv_forward)(kernel, threads, impl);
    case STN_OP_CONV_GRAD_X:
    case STN_OP_CONV_BLOCK_GRAD_X:
        return ISA(conv_grad_x)(kernel, threads, impl);
    case STN_OP_CONV_GRAD_W:
    case STN_OP_CONV_BLOCK_GRAD_W:
        return ISA(conv_grad_w)(kernel, threads, impl);
    case STN_OP_LINEAR:
    case STN_OP_LINEAR_GRAD_X:
    case STN_OP_LINEAR_GRAD_W:
        return ISA(linear)(kernel, threads, impl);
    case STN_OP_LINEAR_BLOCK:
    case STN_OP_LINEAR_BLOCK_GRAD:
        return ISA(linear_block)(kernel, threads, impl);
    case STN_OP_BIAS_GRAD:
        return ISA(bias_grad)(kernel, threads, impl);
    case STN_OP_MAXPOOL:
    case STN_OP_MAXPOOL_GRAD:
    case STN_OP_AVGPOOL:
    case STN_OP_AVGPOOL_GRAD:
        return ISA(pool)(kernel, threads, impl);
    case STN_OP_BN:
    case STN_OP_BN_EVAL:
    case STN_OP_BN_GRAD:
        return ISA(bn)(kernel, threads, impl);
    case STN_OP_DROPOUT:
    case STN_OP_DROPOUT_GRAD:
        return ISA(dropout)(kernel, threads, impl);
    case STN_OP_ACT:
    case STN_OP_ACT_GRAD:
    case STN_OP_SUM:
    case STN_OP_SCALE:
    case STN_OP_UNPACK:
    case STN_OP_SGD:
    case STN_OP_ADAM:
        return ISA(elementwise)(kernel, threads, impl);
    case STN_OP_WARP:
    case STN_OP_WARP_GRAD_X:
    case STN_OP_WARP_GRAD_THETA:
        return ISA(warp)(kernel, threads, impl);
    case STN_OP_XENT:
    case STN_OP_XENT_GRAD:
    case STN_OP_XENT_BOTH:
        return ISA(loss)(kernel, threads, impl);
    default:
        return false;
    }
}
