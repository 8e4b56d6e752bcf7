/* Little-endian numbers in byte arrays, independent of the host's byte order and alignment.
 *
 * A stn__span reads forward through untrusted bytes: a read past the end sets `bad` and gives
 * zeros, so that a parser may check once at the end of a record.
 */
#ifndef STN_CKPT_BYTES_H
#define STN_CKPT_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void stn__put_u32(uint8_t *p, uint32_t v) {
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static inline void stn__put_u64(uint8_t *p, uint64_t v) {
    for (unsigned i = 0; i < 8; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

static inline void stn__put_f32(uint8_t *p, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    stn__put_u32(p, bits);
}

static inline void stn__put_f64(uint8_t *p, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    stn__put_u64(p, bits);
}

static inline uint32_t stn__get_u32(const uint8_t *p) {
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t stn__get_u64(const uint8_t *p) {
    return (uint64_t)stn__get_u32(p) | (uint64_t)stn__get_u32(p + 4) << 32;
}

static inline float stn__get_f32(const uint8_t *p) {
    uint32_t bits = stn__get_u32(p);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

static inline double stn__get_f64(const uint8_t *p) {
    uint64_t bits = stn__get_u64(p);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

typedef struct stn__span {
    const uint8_t *p;
    uint64_t left;
    bool bad;
} stn__span;

/* The next n bytes, or NULL if there are fewer. */
static inline const uint8_t *stn__span_take(stn__span *s, uint64_t n) {
    if (s->bad || s->left < n) {
        s->bad = true;
        return NULL;
    }
    const uint8_t *p = s->p;
    s->p += n;
    s->left -= n;
    return p;
}

static inline uint32_t stn__span_u32(stn__span *s) {
    const uint8_t *p = stn__span_take(s, 4);
    return p == NULL ? 0 : stn__get_u32(p);
}

static inline uint64_t stn__span_u64(stn__span *s) {
    const uint8_t *p = stn__span_take(s, 8);
    return p == NULL ? 0 : stn__get_u64(p);
}

#endif
