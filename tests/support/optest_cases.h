/* Inside of the operator tests: making cases. */
#ifndef OPTEST_CASES_H
#define OPTEST_CASES_H

#include "optest.h"

optest_case case_new(uint32_t op, uint32_t params_size, uint32_t count);
stn_tensor case_tensor(uint32_t n, uint32_t c, uint32_t h, uint32_t w);
stn_tensor case_matrix(uint32_t n, uint32_t k);
stn_tensor case_vector(uint32_t n);
void case_in(optest_case *c, stn_tensor t, uint32_t role, bool batched);
void case_out(optest_case *c, stn_tensor t, bool batched);
/* Adds the case in all layouts and with all kinds of data. map_in, map_out: operands that are
 * feature maps, whose layout varies. */
void case_add(const optest_case *base, const char *shape, uint32_t map_in, uint32_t map_out);
/* Adds it with the maps map_in and map_out blocked and all other operands row-major. */
void case_add_blocked(const optest_case *base, const char *shape, uint32_t map_in,
                      uint32_t map_out);

/* The families. */
void cases_conv(void);
void cases_dense(void);
void cases_warp(void);
void cases_rest(void);

#endif
