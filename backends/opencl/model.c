/* What the launches of a prepared operator do, computed from their parameters: nothing is run. */
#include "ocl.h"

#include <stdio.h>
#include <string.h>

void ocl_work(stn_kernel *k, ocl_tile_work work) {
    if (k->n_launch > 0 && !k->failed) {
        k->launch[k->n_launch - 1u]->work = work;
    }
}

static bool updates_in_place(uint32_t op) {
    return op == STN_OP_SGD || op == STN_OP_ADAM || op == STN_OP_BN_UPDATE;
}

/* Bytes from a place in workspace to the next one that a launch of the operator names. */
static uint64_t scratch_bytes(const stn_kernel *k, uint64_t from) {
    uint64_t end = k->workspace;
    for (uint32_t i = 0; i < k->n_launch; i++) {
        for (uint32_t j = 0; j < k->launch[i]->n_args; j++) {
            const ocl_arg *a = &k->launch[i]->arg[j];
            if (a->kind == OCL_ARG_WS && a->v.offset > from && a->v.offset < end) {
                end = a->v.offset;
            }
        }
    }
    return end - from;
}

static bool names_scratch(const ocl_launch *l, uint64_t offset) {
    for (uint32_t j = 0; j < l->n_args; j++) {
        if (l->arg[j].kind == OCL_ARG_WS && l->arg[j].v.offset == offset) {
            return true;
        }
    }
    return false;
}

/* Scratch is written by the first launch that names it and read by the later ones. */
static bool fills_scratch(const stn_kernel *k, uint32_t index, uint64_t offset) {
    for (uint32_t i = 0; i < index; i++) {
        if (names_scratch(k->launch[i], offset)) {
            return false;
        }
    }
    return true;
}

/* Each operand counts once, also where two arguments name it. */
static bool seen_before(const ocl_launch *l, uint32_t j) {
    const ocl_arg *a = &l->arg[j];
    for (uint32_t i = 0; i < j; i++) {
        const ocl_arg *b = &l->arg[i];
        bool same = a->kind == OCL_ARG_WS ? a->v.offset == b->v.offset : a->v.u == b->v.u;
        if (b->kind == a->kind && same) {
            return true;
        }
    }
    return false;
}

static void count_operands(const stn_kernel *k, uint32_t index, stn_launch *out) {
    const ocl_launch *l = k->launch[index];
    for (uint32_t j = 0; j < l->n_args; j++) {
        const ocl_arg *a = &l->arg[j];
        if (seen_before(l, j)) {
            continue;
        }
        if (a->kind == OCL_ARG_IN) {
            out->read += stn_tensor_bytes(&k->in[a->v.u]);
        } else if (a->kind == OCL_ARG_OUT) {
            uint64_t bytes = stn_tensor_bytes(&k->out[a->v.u]);
            out->written += bytes;
            out->read += updates_in_place(k->op) ? bytes : 0;
        } else if (a->kind == OCL_ARG_WS) {
            uint64_t bytes = scratch_bytes(k, a->v.offset);
            *(fills_scratch(k, index, a->v.offset) ? &out->written : &out->read) += bytes;
        }
    }
}

static void count_groups(const stn_kernel *k, const ocl_launch *l, stn_launch *out) {
    out->groups = 1;
    for (uint32_t d = 0; d < 3; d++) {
        uint64_t n = l->range.size[d] * ((l->range.per_row >> d) & 1u ? k->rows : 1u);
        out->group[d] = l->range.group[d] != 0 ? l->range.group[d] : 1u;
        out->groups *= (n + out->group[d] - 1u) / out->group[d];
    }
}

/* What the compiler says of a kernel; 0 where it says nothing. */
static uint32_t kernel_bytes(const stn_kernel *k, const ocl_launch *l,
                             cl_kernel_work_group_info what) {
    cl_ulong bytes = 0;
    if (cl.clGetKernelWorkGroupInfo(l->kernel, k->device->id, what, sizeof bytes, &bytes, NULL) !=
        CL_SUCCESS) {
        bytes = 0;
    }
    return (uint32_t)bytes;
}

int32_t ocl_op_launch_get(stn_kernel *kernel, uint32_t index, stn_launch *launch, stn_err *err) {
    stn_launch full = {.struct_size = launch->struct_size};
    STN_TRY(ocl_realise(kernel, err));
    if (index >= kernel->n_launch || kernel->launch[index]->program == NULL) {
        return stn_fail(err, STN_E_UNSUPPORTED, "opencl: launch %u is not described", index);
    }
    const ocl_launch *l = kernel->launch[index];
    (void)snprintf(full.name, sizeof full.name, "%s", l->name);
    count_operands(kernel, index, &full);
    count_groups(kernel, l, &full);
    full.flops = l->work.flops;
    full.loads = l->work.loads;
    full.registers = l->work.registers;
    full.local_bytes = kernel_bytes(kernel, l, CL_KERNEL_LOCAL_MEM_SIZE);
    full.private_bytes = kernel_bytes(kernel, l, CL_KERNEL_PRIVATE_MEM_SIZE);
    if (full.local_bytes < l->work.local_bytes) {
        full.local_bytes = l->work.local_bytes; /* some compilers count it per device, not here */
    }
    memcpy(launch, &full, launch->struct_size < sizeof full ? launch->struct_size : sizeof full);
    return STN_OK;
}
