/* SHA-256 through OpenSSL's EVP interface. */
#include "base/hash.h"

#include <stddef.h>

#include <openssl/evp.h>

#define DIGEST_BYTES 32u

int32_t stn__sha256_init(stn__sha256 *hash, stn_err *err) {
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    hash->state = md;
    if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1) {
        stn__sha256_drop(hash);
        return stn_fail(err, STN_E_FAIL,
                        "libcrypto cannot start a SHA-256; check its installation "
                        "and the free memory");
    }
    return STN_OK;
}

void stn__sha256_update(stn__sha256 *hash, const void *data, uint64_t size) {
    if (hash->state == NULL || size == 0) {
        return;
    }
    if (size > SIZE_MAX || EVP_DigestUpdate(hash->state, data, (size_t)size) != 1) {
        stn__sha256_drop(hash);
    }
}

void stn__sha256_u32(stn__sha256 *hash, uint32_t value) {
    uint8_t bytes[4];
    for (unsigned i = 0; i < sizeof bytes; i++) {
        bytes[i] = (uint8_t)(value >> 8 * i);
    }
    stn__sha256_update(hash, bytes, sizeof bytes);
}

void stn__sha256_u64(stn__sha256 *hash, uint64_t value) {
    stn__sha256_u32(hash, (uint32_t)value);
    stn__sha256_u32(hash, (uint32_t)(value >> 32));
}

int32_t stn__sha256_final(stn__sha256 *hash, char hex[STN__SHA256_HEX], stn_err *err) {
    static const char digits[] = "0123456789abcdef";
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned size = 0;
    hex[0] = '\0';
    if (hash->state == NULL || EVP_DigestFinal_ex(hash->state, digest, &size) != 1 ||
        size != DIGEST_BYTES) {
        stn__sha256_drop(hash);
        return stn_fail(err, STN_E_FAIL,
                        "libcrypto failed while computing a SHA-256; check its "
                        "installation and the free memory");
    }
    for (unsigned i = 0; i < DIGEST_BYTES; i++) {
        hex[2 * i] = digits[digest[i] >> 4];
        hex[2 * i + 1] = digits[digest[i] & 15u];
    }
    hex[2 * DIGEST_BYTES] = '\0';
    stn__sha256_drop(hash);
    return STN_OK;
}

void stn__sha256_drop(stn__sha256 *hash) {
    EVP_MD_CTX_free(hash->state);
    hash->state = NULL;
}

int32_t stn__sha256_of(const void *data, uint64_t size, char hex[STN__SHA256_HEX], stn_err *err) {
    stn__sha256 hash;
    hex[0] = '\0';
    STN_TRY(stn__sha256_init(&hash, err));
    stn__sha256_update(&hash, data, size);
    return stn__sha256_final(&hash, hex, err);
}
