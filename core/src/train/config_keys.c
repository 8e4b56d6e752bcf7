/* The flag table: every long flag, recipe key and environment variable of stn. */
#include <string.h>

#include "train/config.h"

#define IDENTITY 1u

static const stn_key_info keys[] = {
    /* what is run */
    {"recipe", "string", "", NULL, "shipped recipe or recipe file to start from", 0},
    {"dataset", "string", "", NULL, "dataset plugin", IDENTITY},
    {"model", "string", "", NULL, "model plugin", IDENTITY},
    {"network", "string", "", NULL, "network of the model, such as cnn or sl1", IDENTITY},
    {"width", "float", "0.01..16", "1", "factor on channel and hidden widths", IDENTITY},
    {"data-dir", "string", "", NULL, "directory that holds the datasets", 0},
    {"out", "string", "", NULL, "run directory", 0},
    /* where it is run */
    {"backend", "string", "", "cpu", "backend plugin", 0},
    {"device", "string", "", NULL, "device: index, stable id or part of its name", 0},
    {"threads", "int", "0..1024", "0", "threads of the CPU backend; 0 = all cores", 0},
    {"cpu-kernels", "choice:auto,ref,sse2,portable,avx2,avx512", "", "auto",
     "kernel set of the CPU backend", 0},
    {"device-class", "choice:auto,cpu-vector,gpu", "", "auto", "kernel class of the OpenCL backend",
     0},
    {"math", "choice:exact,fast", "", "exact", "fast: vendor kernels, results not reproducible", 0},
    {"mem-limit", "size", "0..", "0",
     "most device memory to plan for, such as 512M; batches are split to keep to it; 0 = any", 0},
    /* optimizer */
    {"optimizer", "choice:sgd,adam,adamw", "", "sgd", "update rule", IDENTITY},
    {"lr", "float", "0..1000", "0.01", "base learning rate", IDENTITY},
    {"momentum", "float", "0..1", "0", "momentum of sgd", IDENTITY},
    {"nesterov", "bool", "", "false", "Nesterov's form of momentum", IDENTITY},
    {"weight-decay", "float", "0..1", "0", "weight decay", IDENTITY},
    {"beta1", "float", "0..0.99999", "0.9", "decay of adam's first moment", IDENTITY},
    {"beta2", "float", "0..0.9999999", "0.999", "decay of adam's second moment", IDENTITY},
    {"eps", "float", "1e-20..1", "1e-8", "added to adam's denominator", IDENTITY},
    {"loc-rate", "float", "0..1000", "1", "rate multiplier of localization networks", IDENTITY},
    /* schedule */
    {"steps", "int", "1..1000000000000", "2000", "length of the run in optimizer steps", IDENTITY},
    {"schedule", "choice:constant,step,cosine", "", "constant", "course of the learning rate",
     IDENTITY},
    {"lr-steps", "list", "increasing step numbers, at most 32", NULL,
     "steps at which schedule=step changes the rate", IDENTITY},
    {"lr-factor", "float", "0..1000", "0.1", "factor on the rate at each of lr-steps", IDENTITY},
    {"warmup", "int", "0..1000000000", "0", "steps of linear warm-up", IDENTITY},
    /* batches */
    {"batch", "int", "1..65536", "256", "images per step", IDENTITY},
    {"shards", "int", "1..1024", "16", "shards a batch is summed in, a power of two", IDENTITY},
    {"seed", "int", "0..18446744073709551615", "0",
     "seed of initial weights, order and augmentation", IDENTITY},
    /* evaluation and saving */
    {"eval-passes", "int", "1..1000", "1", "passes over the test images, with fresh transforms", 0},
    {"eval-every", "int", "0..", "0", "steps between evaluations; 0 = at the end only", 0},
    {"save-every", "int", "0..", "1000", "steps between checkpoints; 0 = at the end only", 0},
    {"log-every", "int", "1..", "100", "steps between records of metrics", 0},
};

#define N_KEYS ((uint32_t)(sizeof keys / sizeof keys[0]))

uint32_t stn_key_count(void) {
    return N_KEYS;
}

const stn_key_info *stn_key_get(uint32_t index) {
    return index < N_KEYS ? &keys[index] : NULL;
}

const stn_key_info *stn__key_find(const char *key) {
    for (uint32_t i = 0; i < N_KEYS; i++) {
        if (strcmp(keys[i].name, key) == 0) {
            return &keys[i];
        }
    }
    return NULL;
}

const stn__owner stn__owners[STN__OWNERS] = {
    {"dataset", STN_KIND_DATASET}, {"model", STN_KIND_MODEL}, {"backend", STN_KIND_BACKEND}};

const stn__owner *stn__owner_of(const char *key, const char **option) {
    for (uint32_t i = 0; i < STN__OWNERS; i++) {
        size_t size = strlen(stn__owners[i].key);
        if (strncmp(key, stn__owners[i].key, size) == 0 && key[size] == '.' &&
            key[size + 1] != '\0') {
            *option = key + size + 1;
            return &stn__owners[i];
        }
    }
    return NULL;
}
