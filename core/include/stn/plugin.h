/* Plugin ABI: the entry every plugin exports and the services it may use.
 *
 * A plugin is a shared object that exports one const data symbol, `stn_plugin_entry`, and repeats
 * its descriptor in an ELF note so that the core can refuse it without running any of its code
 * (dlopen runs constructors). It never links the core: it reaches the host through stn_host only.
 * It must have no constructors, hidden visibility, and no mutable globals except those its init
 * sets.
 *
 * Versioning: same major required; a minor only appends. The core copies min(struct_size) bytes of
 * a vtable into its own table and fills missing optional entries with stubs.
 */
#ifndef STN_PLUGIN_H
#define STN_PLUGIN_H

#include <stddef.h>
#include <stdint.h>

#include <stn/error.h>

#define STN_ABI_MAJOR 1u
#define STN_ABI_MINOR 3u
#define STN_PLUGIN_MAGIC UINT64_C(0x314e47554c504e53) /* "SNPLUGN1" */

enum { STN_KIND_BACKEND = 1, STN_KIND_DATASET = 2, STN_KIND_MODEL = 3 };

/* Feature bits: sanitizer runtimes a host must share (0 in ordinary builds). */
#define STN_FEATURE_ASAN 1u
#define STN_FEATURE_TSAN 2u
#if defined(__SANITIZE_ADDRESS__)
#define STN_FEATURES_BUILT STN_FEATURE_ASAN
#elif defined(__SANITIZE_THREAD__)
#define STN_FEATURES_BUILT STN_FEATURE_TSAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define STN_FEATURES_BUILT STN_FEATURE_ASAN
#elif __has_feature(thread_sanitizer)
#define STN_FEATURES_BUILT STN_FEATURE_TSAN
#endif
#endif
#ifndef STN_FEATURES_BUILT
#define STN_FEATURES_BUILT 0u
#endif

enum { STN_LOG_ERROR = 0, STN_LOG_WARN = 1, STN_LOG_INFO = 2, STN_LOG_DEBUG = 3 };

/* Services of the host, valid from init to fini. All functions are thread-safe. */
typedef struct stn_host {
    uint32_t struct_size;
    uint32_t abi_minor;
    /* Memory that counts and can be made to fail in tests. `align` is a power of two, 0 = 16.
     * Returns NULL if there is none. free accepts NULL. */
    void *(*alloc)(uint64_t bytes, uint64_t align);
    void (*free)(void *ptr);
    /* One line, without newline; the host decides where it goes. */
    void (*log)(int32_t level, const char *text);
    /* The core's own functions (C3): the same bits on every platform. Arguments in radians. */
    double (*sin)(double x);
    double (*cos)(double x);
    double (*exp2)(double x);
    double (*log_e)(double x);
} stn_host;

/* One option a plugin understands, as listed by `stnrun plugins`. type: "int", "float", "string",
 * "bool" or "choice:a,b,c"; range is free text such as "1..256". */
typedef struct stn_option_info {
    const char *name, *type, *range, *def, *help;
} stn_option_info;

/* Options as given by the user: `count` pairs of name and value, already checked by the core
 * against the plugin's option list. */
typedef struct stn_options {
    uint32_t struct_size;
    uint32_t count;
    const char *const *name;
    const char *const *value;
} stn_options;

typedef struct stn_plugin {
    uint64_t magic;
    uint32_t struct_size;
    uint32_t abi_major, abi_minor;
    uint32_t kind;
    uint32_t features;
    uint32_t n_options;
    const char *name, *version, *licence, *description;
    const stn_option_info *options;
    const void *vtable; /* stn_backend, stn_dataset or stn_model; begins with its struct_size */
    /* Called once after the descriptor is accepted; the host table outlives the plugin. */
    int32_t (*init)(const stn_host *host, stn_err *err);
    void (*fini)(void); /* may be NULL */
} stn_plugin;

/* The same facts as an ELF note (section .note.stn, name "stn", type 1). */
typedef struct stn_plugin_note {
    uint32_t namesz, descsz, type;
    char owner[4];
    uint64_t magic;
    uint32_t abi_major, abi_minor, kind, features;
    char name[32];
    char version[32];
} stn_plugin_note;

#if defined(__GNUC__)
#define STN_EXPORT __attribute__((visibility("default")))
#define STN_NOTE_SECTION __attribute__((section(".note.stn"), used, aligned(8)))
#else
#define STN_EXPORT
#define STN_NOTE_SECTION
#endif

/* Writes the entry and the note. name_ and version_ are string literals of at most 31 bytes. */
#define STN_PLUGIN(kind_, name_, version_, licence_, description_, options_, n_options_, vtable_,  \
                   init_, fini_)                                                                   \
    static const stn_plugin_note stn_plugin_note_ STN_NOTE_SECTION = {                             \
        4,                                                                                         \
        (uint32_t)(sizeof(stn_plugin_note) - 16u),                                                 \
        1,                                                                                         \
        "stn",                                                                                     \
        STN_PLUGIN_MAGIC,                                                                          \
        STN_ABI_MAJOR,                                                                             \
        STN_ABI_MINOR,                                                                             \
        (kind_),                                                                                   \
        STN_FEATURES_BUILT,                                                                        \
        name_,                                                                                     \
        version_};                                                                                 \
    extern const stn_plugin stn_plugin_entry;                                                      \
    STN_EXPORT const stn_plugin stn_plugin_entry = {                                               \
        STN_PLUGIN_MAGIC, (uint32_t)sizeof(stn_plugin),                                            \
        STN_ABI_MAJOR,    STN_ABI_MINOR,                                                           \
        (kind_),          STN_FEATURES_BUILT,                                                      \
        (n_options_),     (name_),                                                                 \
        (version_),       (licence_),                                                              \
        (description_),   (options_),                                                              \
        (vtable_),        (init_),                                                                 \
        (fini_)}

#endif
