/* A golden file of operators (op_*.safetensors) and the scalar reference it is held against. Every
 * function fails the Criterion test that calls it if it cannot do its work. Tensors are named
 * CASE.NAME; c is a case, name the rest. */
#ifndef GOLDENS_H
#define GOLDENS_H

#include <stn/stn.h>

#include "optest_cases.h"

/* Opens a golden file and the device; false, with the line that lists the skip, without one. */
bool golden_open(const char *name);
/* Ends the test, in which that many tensors must have been compared, and frees what was kept. */
void golden_close(uint32_t at_least);
/* Memory that is freed by golden_close; not NULL. */
void *golden_keep(void *memory);

/* Calls fn with every case name (keys without their last part) once. */
void golden_cases(void (*fn)(const char *c));
bool golden_find(const char *c, const char *name, stn_tensor_entry *entry);
/* Element i. */
double golden_number(const char *c, const char *name, uint64_t i);
/* All elements as floats, kept. */
float *golden_values(const char *c, const char *name);
/* Shape as a tensor of four dimensions, missing ones 1. */
stn_tensor golden_shape(const char *c, const char *name);
/* Expects agreement within the file's tolerance, or equality after rounding to float. */
void golden_compare(const char *c, const char *name, const float *ours, uint64_t n, bool exact);
/* Runs a case on given inputs; the outputs are kept. */
void golden_run(const optest_case *c, const void *const *in, float **out);

#endif
