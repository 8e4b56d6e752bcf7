/* Programs: each distinct (kernel file, build options) of a device is compiled once.
 *
 * A program's text is num.h, common.cl, vec.cl (for gpu_warp.cl: warp.cl) and the kernel file, or
 * all files of its group, or units. Build options are -cl-std=CL1.2 and -D, and for NVIDIA a limit
 * of registers (contract C0).
 */
#include "ocl.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const ocl_source *find_source(const char *name) {
    for (const ocl_source *s = ocl_sources; s->name != NULL; s++) {
        if (strcmp(s->name, name) == 0) {
            return s;
        }
    }
    return NULL;
}

/* --- text ------------------------------------------------------------------------------------- */

/* A program costs 0.1 s on PoCL, however short it is. So files that take no options and that most
 * networks need are compiled together, */
#define MOST_FILES 8u
static const char *const groups[][MOST_FILES] = {
    {"reduce.cl", "elem.cl", "loss.cl", "opt.cl", "linear.cl", "conv.cl", "pool.cl"},
    {"vlinear.cl", "vpack.cl", "velem.cl", "vwarp.cl", "vpool.cl", "vbn.cl"},
};
/* and so are units: files for given shapes, all that a network has of them. Options become macros,
 * V_UNIT is a unit's number, and FN (vec.cl) adds it to the names of functions. */
static const char *const units[] = {"vconv.cl",    "vlist.cl",  "vgrad.cl",  "vgrad_x.cl",
                                    "vscatter.cl", "vslide.cl", "vwindow.cl"};

/* The group that holds the file, or NULL. */
static const char *const *group_of(const char *file) {
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        for (uint32_t i = 0; i < MOST_FILES && groups[g][i] != NULL; i++) {
            if (strcmp(groups[g][i], file) == 0) {
                return groups[g];
            }
        }
    }
    return NULL;
}

static bool is_unit(const ocl_program *p) {
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        if (strcmp(units[i], p->file) == 0) {
            return true;
        }
    }
    return false;
}

void ocl_kernel_name(const ocl_program *program, const char *name, char *out, size_t size) {
    if (is_unit(program)) {
        (void)snprintf(out, size, "%s_%u", name, (unsigned)program->unit);
    } else {
        (void)snprintf(out, size, "%s", name);
    }
}

/* Appends `size` bytes; without memory it only counts them. */
static void put(ocl_text *t, const char *bytes, size_t size) {
    if (t->at != NULL) {
        memcpy(t->at + t->size, bytes, size);
    }
    t->size += size;
}

static void put_words(ocl_text *t, const char *before, const char *word, size_t size,
                      const char *after) {
    put(t, before, strlen(before));
    put(t, word, size);
    put(t, after, strlen(after));
}

static size_t name_length(const char *word) {
    size_t n = 0;
    while (isalnum((unsigned char)word[n]) || word[n] == '_') {
        n++;
    }
    return n;
}

static int32_t put_file(ocl_text *t, const char *name, stn_err *err) {
    const ocl_source *s = find_source(name);
    if (s == NULL) {
        return stn_fail(err, STN_E_FAIL, "opencl: kernel file %s is not built in", name);
    }
    put(t, s->text, (size_t)s->size);
    return STN_OK;
}

/* Other files have macros of the same names. */
static void end_macros(ocl_text *t, const char *name) {
    static const char define[] = "\n#define ";
    for (const char *at = find_source(name)->text; (at = strstr(at, define)) != NULL;) {
        at += sizeof define - 1u;
        put_words(t, "#undef ", at, name_length(at), "\n");
    }
}

/* "-DNAME=VALUE ..." as macros, or their ends. */
static void put_options(ocl_text *t, const char *options, bool end) {
    for (const char *at = options; (at = strstr(at, "-D")) != NULL;) {
        size_t name = name_length(at + 2), all = strcspn(at, " ");
        put_words(t, end ? "#undef " : "#define ", at + 2, name, end ? "\n" : " ");
        if (!end) {
            put_words(t, "", at + 3 + name, all - name - 3u, "\n");
        }
        at += all;
    }
}

static int32_t put_unit(ocl_text *t, const ocl_program *p, stn_err *err) {
    char number[24];
    (void)snprintf(number, sizeof number, "-DV_UNIT=%u", (unsigned)p->unit);
    put_options(t, number, false);
    put_options(t, p->options, false);
    STN_TRY(put_file(t, "vflow.cl", err));
    STN_TRY(put_file(t, p->file, err));
    end_macros(t, p->file);
    end_macros(t, "vflow.cl");
    put_options(t, p->options, true);
    put_options(t, number, true);
    return STN_OK;
}

/* Programs that are compiled together: one, or several units. */
typedef struct batch {
    ocl_program *first;      /* of the device's list */
    const ocl_program *only; /* NULL: all units that are not compiled */
} batch;

static bool in_batch(const batch *b, const ocl_program *p) {
    return b->only != NULL ? p == b->only : is_unit(p) && p->program == NULL;
}

static int32_t put_batch(ocl_text *t, const batch *b, stn_err *err) {
    bool gpu = b->only != NULL && strcmp(b->only->file, "gpu_warp.cl") == 0;
    STN_TRY(put_file(t, "num.h", err));
    STN_TRY(put_file(t, "common.cl", err));
    STN_TRY(put_file(t, gpu ? "warp.cl" : "vec.cl", err));
    if (b->only != NULL && !is_unit(b->only)) {
        const char *const single[MOST_FILES] = {b->only->file}, *const *files = group_of(*single);
        files = files != NULL ? files : single;
        for (uint32_t i = 0; i < MOST_FILES && files[i] != NULL; i++) {
            STN_TRY(put_file(t, files[i], err));
            end_macros(t, files[i]);
        }
        return STN_OK;
    }
    for (const ocl_program *p = b->first; p != NULL; p = p->next) {
        if (in_batch(b, p)) {
            STN_TRY(put_unit(t, p, err));
        }
    }
    return STN_OK;
}

/* Caller frees t->at. */
static int32_t make_text(ocl_text *t, const batch *b, stn_err *err) {
    STN_TRY(put_batch(t, b, err));
    char *memory = ocl_host->alloc(t->size, 0);
    if (memory == NULL) {
        return stn_fail(err, STN_E_NOMEM, "opencl: out of host memory for a program");
    }
    t->at = memory;
    t->size = 0;
    return put_batch(t, b, err);
}

/* --- programs --------------------------------------------------------------------------------- */

int32_t ocl_program_get(stn_device *device, const char *file, const char *options,
                        ocl_program **program, stn_err *err) {
    int32_t status = STN_OK;
    ocl_program wanted = {0};
    const char *const *files = group_of(file);
    int n = snprintf(wanted.options, sizeof wanted.options, "%s", options);
    int m = snprintf(wanted.file, sizeof wanted.file, "%s", files != NULL ? *files : file);
    if (n < 0 || (size_t)n >= sizeof wanted.options || m < 0 || (size_t)m >= sizeof wanted.file) {
        return stn_fail(err, STN_E_FAIL, "opencl: build options of %s are too long", file);
    }
    (void)pthread_mutex_lock(&device->lock);
    ocl_program **link = &device->programs;
    while (*link != NULL && (strcmp((*link)->file, wanted.file) != 0 ||
                             strcmp((*link)->options, wanted.options) != 0)) {
        link = &(*link)->next;
    }
    if (*link == NULL) {
        ocl_program *p = ocl_host->alloc(sizeof *p, 0);
        if (p == NULL) {
            status = stn_fail(err, STN_E_NOMEM, "opencl: out of host memory for a program");
        } else {
            *p = wanted;
            *link = p;
        }
    }
    *program = *link;
    (void)pthread_mutex_unlock(&device->lock);
    return status;
}

/* The whole build log goes to the host's log, line by line. */
static void show_log(stn_device *device, const ocl_text *t, cl_program program) {
    size_t size = 0;
    if (cl.clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &size) !=
            CL_SUCCESS ||
        size < 2) {
        return;
    }
    char *text = ocl_host->alloc(size + 1, 0);
    if (text == NULL) {
        return;
    }
    memset(text, 0, size + 1);
    (void)cl.clGetProgramBuildInfo(program, device->id, CL_PROGRAM_BUILD_LOG, size, text, NULL);
    ocl_log(STN_LOG_ERROR, "opencl: build log of %s (%s):", t->name, t->options);
    for (char *line = text; line != NULL;) {
        char *end = strchr(line, '\n');
        if (end != NULL) {
            *end = '\0';
        }
        if (*line != '\0') {
            ocl_log(STN_LOG_ERROR, "%s", line);
        }
        line = end != NULL ? end + 1 : NULL;
    }
    ocl_host->free(text);
}

static int32_t compile(stn_device *device, const ocl_text *t, cl_program *built, stn_err *err) {
    cl_int status = CL_SUCCESS;
    char what[96];
    const char *text = t->at;
    (void)snprintf(what, sizeof what, "opencl: compiling %s", t->name);
    cl_program program = cl.clCreateProgramWithSource(device->context, 1, &text, &t->size, &status);
    if (status != CL_SUCCESS) {
        return ocl_fail(err, STN_E_FAIL, status, what);
    }
    status = cl.clBuildProgram(program, 1, &device->id, t->options, NULL, NULL);
    if (status != CL_SUCCESS) {
        show_log(device, t, program);
        (void)cl.clReleaseProgram(program);
        return ocl_fail(err, STN_E_FAIL, status, what);
    }
    ocl_cache_store(device, t, program);
    *built = program;
    return STN_OK;
}

/* Numbers the units of a batch, and compiles it or loads it from the cache. Holds the lock. */
static int32_t build(stn_device *device, const batch *b, stn_err *err) {
    uint32_t n = 0;
    for (ocl_program *p = b->first; p != NULL; p = p->next) {
        p->unit = in_batch(b, p) ? n++ : p->unit;
    }
    if (n == 0) {
        return STN_OK;
    }
    bool plain = b->only != NULL && !is_unit(b->only);
    char options[sizeof b->only->options + 16u];
    (void)snprintf(options, sizeof options, "-cl-std=CL1.2 %s", plain ? b->only->options : "");
    ocl_text t = {.name = b->only != NULL ? b->only->file : "units", .options = options};
    int32_t status = make_text(&t, b, err);
    cl_program program = status == STN_OK ? ocl_cache_load(device, &t) : NULL;
    if (status == STN_OK && program == NULL) {
        status = compile(device, &t, &program, err);
    }
    ocl_host->free(t.at);
    bool shared = false;
    for (ocl_program *p = b->first; p != NULL && status == STN_OK; p = p->next) {
        if (in_batch(b, p)) {
            p->shared = shared;
            p->program = program;
            shared = true;
        }
    }
    return status;
}

int32_t ocl_program_build(stn_device *device, ocl_program *program, stn_err *err) {
    int32_t status = STN_OK;
    (void)pthread_mutex_lock(&device->lock);
    if (program->program == NULL) {
        status = build(device, &(batch){device->programs, program}, err);
    }
    (void)pthread_mutex_unlock(&device->lock);
    return status;
}

int32_t ocl_prepare_end(stn_device *device,
                        void (*progress)(void *user, uint32_t done, uint32_t total), void *user,
                        stn_err *err) {
    uint32_t total = 0, done = 0, waiting = 0;
    (void)pthread_mutex_lock(&device->lock);
    ocl_program *first = device->programs;
    for (ocl_program *p = first; p != NULL; p = p->next) {
        waiting += p->program == NULL && is_unit(p);
        total += p->program == NULL && !is_unit(p);
    }
    int32_t status = build(device, &(batch){first, NULL}, err);
    (void)pthread_mutex_unlock(&device->lock);
    STN_TRY(status);
    if (waiting != 0) {
        total++;
        done++;
        if (progress != NULL) {
            progress(user, done, total);
        }
    }
    /* Programs are only ever appended, so the list can be walked without the lock. */
    for (ocl_program *p = first; p != NULL; p = p->next) {
        if (p->program == NULL) {
            STN_TRY(ocl_program_build(device, p, err));
            done++;
            if (progress != NULL) {
                progress(user, done, done > total ? done : total);
            }
        }
    }
    return STN_OK;
}

void ocl_programs_free(stn_device *device) {
    while (device->programs != NULL) {
        ocl_program *p = device->programs;
        device->programs = p->next;
        if (p->program != NULL && !p->shared) {
            (void)cl.clReleaseProgram(p->program);
        }
        ocl_host->free(p);
    }
}
