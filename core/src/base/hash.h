/* SHA-256 over libcrypto.
 *
 * A failure inside the library (no memory, algorithm refused) is sticky: later updates do nothing
 * and final reports it, so a wrong hash is never returned. One object belongs to one thread.
 */
#ifndef STN_BASE_HASH_H
#define STN_BASE_HASH_H

#include <stdint.h>

#include <stn/error.h>

#define STN__SHA256_HEX 65 /* 64 digits and the terminating zero */

typedef struct stn__sha256 {
    void *state; /* NULL: failed, or already final */
} stn__sha256;

/* Must be followed by final or drop, also after a failure. */
int32_t stn__sha256_init(stn__sha256 *hash, stn_err *err);
/* data may be NULL if size is 0. */
void stn__sha256_update(stn__sha256 *hash, const void *data, uint64_t size);
/* Little-endian integers, the form in which canonical records are hashed. */
void stn__sha256_u32(stn__sha256 *hash, uint32_t value);
void stn__sha256_u64(stn__sha256 *hash, uint64_t value);
/* Lower-case hex; hex is "" if the status is not STN_OK. Frees the state. */
int32_t stn__sha256_final(stn__sha256 *hash, char hex[STN__SHA256_HEX], stn_err *err);
void stn__sha256_drop(stn__sha256 *hash);
/* All in one. */
int32_t stn__sha256_of(const void *data, uint64_t size, char hex[STN__SHA256_HEX], stn_err *err);

#endif
