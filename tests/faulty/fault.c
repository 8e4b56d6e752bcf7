/* One wrong rounding in one kernel: the last bit of one element of the operator STN_PLANT_FAULT.
 *
 * Shows that the self-test refuses such a device and that `stnrun compare` blames the operator. */
#include "cpu.h"

#include <string.h>

static const struct {
    uint32_t op;
    const char *name;
} ops[] = {
#define STN_OP(number, NAME, name, min_in, max_in, n_out, params, text) {number, name},
#include <stn/op.def>
#undef STN_OP
};

void cpu_plant_fault(const cpu_call *call) {
    const stn_kernel *k = call->kernel;
    for (uint32_t i = 0; i < sizeof ops / sizeof ops[0]; i++) {
        if (ops[i].op == k->op && strcmp(ops[i].name, STN_PLANT_FAULT) == 0 &&
            k->out[0].dtype == STN_F32) {
            uint32_t bits, *first = call->out[0];
            memcpy(&bits, first, sizeof bits);
            bits ^= 1u;
            memcpy(first, &bits, sizeof bits);
        }
    }
}
