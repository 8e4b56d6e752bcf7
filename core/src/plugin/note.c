/* ELF note reader.
 *
 * Program headers are read, not sections: they are what the loader goes by and strip keeps them.
 * Every offset is checked against the file's size, because a shared object with a cut end passes
 * dlopen's own checks and then kills the process with SIGBUS.
 */
#define _POSIX_C_SOURCE 200809L
#include "plugin/note.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

#if UINTPTR_MAX > UINT32_MAX
typedef Elf64_Ehdr elf_header;
typedef Elf64_Phdr elf_segment;
#define HOST_CLASS ELFCLASS64
#else
typedef Elf32_Ehdr elf_header;
typedef Elf32_Phdr elf_segment;
#define HOST_CLASS ELFCLASS32
#endif

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define HOST_DATA ELFDATA2MSB
#else
#define HOST_DATA ELFDATA2LSB
#endif

#if defined(__x86_64__)
#define HOST_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define HOST_MACHINE EM_AARCH64
#elif defined(__riscv)
#define HOST_MACHINE EM_RISCV
#endif

#define MAX_SEGMENTS 256u
#define MAX_NOTES 65536u /* bytes of one note segment that are looked at */
#define NOTE_HEAD 16u    /* three words and the owner "stn\0" */

typedef struct elf_file {
    int fd;
    uint64_t size;
} elf_file;

static int32_t refuse(stn_err *err, const char *reason) {
    return stn_fail(err, STN_E_PLUGIN, "%s", reason);
}

static int32_t read_at(const elf_file *file, uint64_t offset, void *data, uint64_t size,
                       stn_err *err) {
    if (offset > file->size || size > file->size - offset) {
        return refuse(err, "the file is cut short; install the plugin again");
    }
    char *to = data;
    while (size > 0) {
        ssize_t got = pread(file->fd, to, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got <= 0) {
            return stn_fail(err, STN_E_IO, "the file cannot be read; check the disk");
        }
        to += got;
        offset += (uint64_t)got;
        size -= (uint64_t)got;
    }
    return STN_OK;
}

static bool inside(const elf_file *file, uint64_t offset, uint64_t size) {
    return offset <= file->size && size <= file->size - offset;
}

static int32_t check_header(const elf_file *file, const elf_header *h, stn_err *err) {
    if (memcmp(h->e_ident, ELFMAG, SELFMAG) != 0) {
        return refuse(err, "not a shared object (no ELF file)");
    }
    if (h->e_ident[EI_CLASS] != HOST_CLASS || h->e_ident[EI_DATA] != HOST_DATA) {
        return refuse(err, "built for another kind of machine (ELF class or byte order)");
    }
#ifdef HOST_MACHINE
    if (h->e_machine != HOST_MACHINE) {
        return refuse(err, "built for another kind of machine");
    }
#endif
    if (h->e_type != ET_DYN) {
        return refuse(err, "not a shared object; link it with -shared");
    }
    if (h->e_phentsize != sizeof(elf_segment) || h->e_phnum == 0 || h->e_phnum > MAX_SEGMENTS) {
        return refuse(err, "damaged ELF header; install the plugin again");
    }
    if (h->e_shoff != 0 &&
        !inside(file, h->e_shoff, (uint64_t)h->e_shnum * (uint64_t)h->e_shentsize)) {
        return refuse(err, "the file is cut short; install the plugin again");
    }
    return STN_OK;
}

/* Looks for our note among the `size` bytes of a note segment. Entries: name size, descriptor size,
 * type; both parts padded to `align`. */
static bool find_note(const char *bytes, uint64_t size, uint64_t align, stn_plugin_note *note) {
    uint64_t at = 0;
    while (size - at >= NOTE_HEAD) {
        uint32_t head[3];
        memcpy(head, bytes + at, sizeof head);
        uint64_t desc = (sizeof head + head[0] + align - 1) / align * align;
        if (head[0] == 4 && head[2] == 1 && memcmp(bytes + at + sizeof head, "stn", 4) == 0 &&
            head[1] >= sizeof *note - NOTE_HEAD && size - at >= sizeof *note) {
            memcpy(note, bytes + at, sizeof *note);
            return true;
        }
        uint64_t next = desc + (head[1] + align - 1) / align * align;
        if (next > size - at) {
            return false;
        }
        at += next;
    }
    return false;
}

static int32_t read_segment(const elf_file *file, const elf_segment *segment, stn_plugin_note *note,
                            bool *found, stn_err *err) {
    if (segment->p_type != PT_LOAD && segment->p_type != PT_DYNAMIC && segment->p_type != PT_NOTE) {
        return STN_OK;
    }
    if (!inside(file, segment->p_offset, segment->p_filesz)) {
        return refuse(err, "the file is cut short; install the plugin again");
    }
    if (segment->p_type != PT_NOTE || *found || segment->p_filesz < sizeof *note) {
        return STN_OK;
    }
    uint64_t size = segment->p_filesz < MAX_NOTES ? segment->p_filesz : MAX_NOTES;
    char *bytes = stn__alloc(size);
    if (bytes == NULL) {
        return stn__nomem(err, "the plugin's note", size);
    }
    int32_t status = read_at(file, segment->p_offset, bytes, size, err);
    if (status == STN_OK) {
        *found = find_note(bytes, size, segment->p_align >= 8 ? 8 : 4, note);
    }
    stn__free(bytes);
    return status;
}

static int32_t read_file(const elf_file *file, stn_plugin_note *note, stn_err *err) {
    elf_header header;
    bool found = false;
    if (file->size < sizeof header) {
        return refuse(err, file->size == 0 ? "the file is empty"
                                           : "not a shared object (too small for an ELF file)");
    }
    STN_TRY(read_at(file, 0, &header, sizeof header, err));
    STN_TRY(check_header(file, &header, err));
    for (uint64_t i = 0; i < header.e_phnum; i++) {
        elf_segment segment;
        uint64_t at = 0;
        if (!stn__add(header.e_phoff, i * sizeof segment, &at)) {
            return refuse(err, "damaged ELF header; install the plugin again");
        }
        STN_TRY(read_at(file, at, &segment, sizeof segment, err));
        STN_TRY(read_segment(file, &segment, note, &found, err));
    }
    if (!found) {
        return refuse(err, "no stn plugin (it has no stn note)");
    }
    if (memchr(note->name, '\0', sizeof note->name) == NULL ||
        memchr(note->version, '\0', sizeof note->version) == NULL) {
        return refuse(err, "name or version in its note is longer than 31 bytes");
    }
    return STN_OK;
}

int32_t stn__note_read(const char *path, stn_plugin_note *note, stn_err *err) {
    struct stat info;
    memset(note, 0, sizeof *note);
    /* Without O_NONBLOCK a fifo would stop the scan. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &info) != 0) {
        int32_t code = errno == ENOENT ? STN_E_NOTFOUND : STN_E_IO;
        const char *reason = errno == ENOENT   ? "no such file; check the path"
                             : errno == EACCES ? "no permission to read it; check its mode"
                                               : "cannot be opened; check the path";
        if (fd >= 0) {
            (void)close(fd);
        }
        return stn_fail(err, code, "%s", reason);
    }
    elf_file file = {fd, S_ISREG(info.st_mode) ? (uint64_t)info.st_size : 0};
    int32_t status = S_ISREG(info.st_mode)
                         ? read_file(&file, note, err)
                         : refuse(err, "not a regular file; give a shared object");
    (void)close(fd);
    if (status != STN_OK) {
        memset(note, 0, sizeof *note);
    }
    return status;
}

const char *stn__kind_name(uint32_t kind) {
    switch (kind) {
    case STN_KIND_BACKEND:
        return "backend";
    case STN_KIND_DATASET:
        return "dataset";
    case STN_KIND_MODEL:
        return "model";
    default:
        return "plugin";
    }
}

static bool good_name(const char *name) {
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789_-";
    return name[0] != '\0' && name[strspn(name, allowed)] == '\0';
}

int32_t stn__note_check(const stn_plugin_note *note, stn_err *err) {
    if (note->magic != STN_PLUGIN_MAGIC) {
        return refuse(err, "wrong magic number in its note; build it with this stn's headers");
    }
    if (note->abi_major != STN_ABI_MAJOR) {
        return stn_fail(err, STN_E_PLUGIN,
                        "built for plugin ABI %" PRIu32 ", this stn has %u; build it with this "
                        "stn's headers",
                        note->abi_major, STN_ABI_MAJOR);
    }
    if (note->kind < STN_KIND_BACKEND || note->kind > STN_KIND_MODEL) {
        return stn_fail(err, STN_E_PLUGIN, "unknown kind of plugin %" PRIu32 " in its note",
                        note->kind);
    }
    if ((note->features & ~STN_FEATURES_BUILT) != 0) {
        return stn_fail(err, STN_E_PLUGIN,
                        "built with a sanitizer (features 0x%" PRIx32 ") that this program lacks; "
                        "build both alike",
                        note->features);
    }
    if (!good_name(note->name)) {
        return refuse(err, "bad name in its note; use a-z, 0-9, _ and -");
    }
    return STN_OK;
}
