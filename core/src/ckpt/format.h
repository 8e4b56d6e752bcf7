/* The checkpoint container (docs/checkpoint.md): constants shared by its writer and its reader.
 *
 * Header, section table, then the sections without gaps, in the order of stn__section_kind. Every
 * byte of the file is covered by a SHA-256 kept in the header or in the table.
 */
#ifndef STN_CKPT_FORMAT_H
#define STN_CKPT_FORMAT_H

#include <stn/stn.h>

#define STN__CKPT_MAGIC                                                                            \
    "\x89STN\r\n\x1a\n" /* 8 bytes: text-mode transfers and cut bits break it                      \
                         */
#define STN__CKPT_FORMAT 1u

/* Header: magic 8, format u32, flags u32, sections u32, reserved u32, file size u64, state hash 32,
 * and the SHA-256 of the 64 bytes before it followed by the table. */
#define STN__CKPT_HEADER 96u
#define STN__CKPT_HASHED 64u
/* Table entry: name 16 (zero-padded), offset u64, stored size u64, raw size u64, SHA-256 of the
 * stored bytes. */
#define STN__CKPT_NAME 16u
#define STN__CKPT_ENTRY 72u

/* Sections, sorted by name. */
enum {
    STN__SEC_ADAM,
    STN__SEC_CONTRACT,
    STN__SEC_DATA,
    STN__SEC_NOTE,
    STN__SEC_RECIPE,
    STN__SEC_SEED,
    STN__SEC_STEP,
    STN__SEC_VALUES,
    STN__SEC_TENSORS,
    STN__SECTIONS
};

/* Name and the range of sizes a section may have before compression. */
typedef struct stn__section_kind {
    char name[STN__CKPT_NAME];
    uint64_t min, max;
} stn__section_kind;

extern const stn__section_kind stn__section_kinds[STN__SECTIONS];

#define STN__CKPT_MAX_TENSORS 65536u
#define STN__CKPT_MAX_NAME 255u
#define STN__CKPT_MAX_FLOATS (UINT64_C(1) << 36)

#define STN__NOTE_NOT_REPRODUCIBLE 1u

/* NULL if the name may be stored, else what is wrong with it. Names are printable ASCII. */
const char *stn__tensor_name_fault(const char *name, uint64_t size);
/* Product of the dimensions; false if it does not fit the format. */
bool stn__tensor_elems(const uint32_t *dim, uint32_t rank, uint64_t *elems);

/* 64 hex digits to 32 bytes. The digits are trusted. */
void stn__unhex(const char *hex, uint8_t bytes[32]);
/* Hash of header and table, kept at STN__CKPT_HASHED. `file` holds both of them whole. */
int32_t stn__ckpt_header_hash(const uint8_t *file, char hex[STN_HASH_HEX], stn_err *err);

/* The whole file in memory: what stn_ckpt_write writes and stn_ckpt_open reads. Free *bytes with
 * stn__free. `where` names the bytes in messages. */
int32_t stn__ckpt_encode(const stn_ckpt_info *info, const stn_ckpt_tensor *tensors, uint32_t n,
                         uint8_t **bytes, uint64_t *size, stn_err *err);
int32_t stn__ckpt_decode(const uint8_t *bytes, uint64_t size, const char *where, stn_ckpt **ckpt,
                         stn_err *err);

#endif
