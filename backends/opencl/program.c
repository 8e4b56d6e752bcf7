/* Programs: each distinct (kernel file, build options) of a device is compiled once.
 *
 * A program's text is num.h, common.cl, vec.cl (for gpu_warp.cl: warp.cl) and the kernel file, or
 * all files of its group.
 * Build options are -cl-std=CL1.2 and -D only (contract C0).
 */
#include "ocl.h"

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

/* Files that take no options and that most networks need: a program costs 0.1 s on PoCL, however
 * short it is. */
static const char *const groups[][OCL_MAX_PARTS - 2u] = {
    {"reduce.cl", "elem.cl", "loss.cl", "opt.cl", "linear.cl", "conv.cl", "pool.cl"},
    {"vlinear.cl", "vpack.cl", "velem.cl"},
};

/* The group that holds the file, or NULL. */
static const char *const *group_of(const char *file) {
    for (size_t g = 0; g < sizeof groups / sizeof groups[0]; g++) {
        for (uint32_t i = 0; groups[g][i] != NULL; i++) {
            if (strcmp(groups[g][i], file) == 0) {
                return groups[g];
            }
        }
    }
    return NULL;
}

static int32_t add_part(ocl_program *p, const char *name, stn_err *err) {
    const ocl_source *s = find_source(name);
    if (s == NULL) {
        return stn_fail(err, STN_E_FAIL, "opencl: kernel file %s is not built in", name);
    }
    p->part[p->parts] = s->text;
    p->part_size[p->parts++] = (size_t)s->size;
    return STN_OK;
}

static int32_t fill_program(ocl_program *p, const char *file, const char *options, stn_err *err) {
    const char *third = strcmp(file, "gpu_warp.cl") == 0 ? "warp.cl" : "vec.cl";
    const char *const single[] = {file, NULL}, *const *files = group_of(file);
    files = files != NULL ? files : single;
    int n = snprintf(p->options, sizeof p->options, "-cl-std=CL1.2 %s", options);
    if (n < 0 || (size_t)n >= sizeof p->options || strlen(*files) >= sizeof p->file) {
        return stn_fail(err, STN_E_FAIL, "opencl: build options of %s are too long", file);
    }
    (void)snprintf(p->file, sizeof p->file, "%s", *files);
    STN_TRY(add_part(p, "num.h", err));
    STN_TRY(add_part(p, "common.cl", err));
    STN_TRY(add_part(p, third, err));
    for (; *files != NULL; files++) {
        STN_TRY(add_part(p, *files, err));
    }
    return STN_OK;
}

int32_t ocl_program_get(stn_device *device, const char *file, const char *options,
                        ocl_program **program, stn_err *err) {
    int32_t status = STN_OK;
    ocl_program wanted = {0};
    STN_TRY(fill_program(&wanted, file, options, err));
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
static void show_log(stn_device *device, const ocl_program *p, cl_program program) {
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
    ocl_log(STN_LOG_ERROR, "opencl: build log of %s (%s):", p->file, p->options);
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

static int32_t compile(stn_device *device, ocl_program *p, stn_err *err) {
    cl_int status = CL_SUCCESS;
    char what[96];
    (void)snprintf(what, sizeof what, "opencl: compiling %s", p->file);
    cl_program program =
        cl.clCreateProgramWithSource(device->context, p->parts, p->part, p->part_size, &status);
    if (status != CL_SUCCESS) {
        return ocl_fail(err, STN_E_FAIL, status, what);
    }
    status = cl.clBuildProgram(program, 1, &device->id, p->options, NULL, NULL);
    if (status != CL_SUCCESS) {
        show_log(device, p, program);
        (void)cl.clReleaseProgram(program);
        return ocl_fail(err, STN_E_FAIL, status, what);
    }
    ocl_cache_store(device, p, program);
    p->program = program;
    return STN_OK;
}

int32_t ocl_program_build(stn_device *device, ocl_program *program, stn_err *err) {
    int32_t status = STN_OK;
    (void)pthread_mutex_lock(&device->lock);
    if (program->program == NULL) {
        program->program = ocl_cache_load(device, program);
    }
    if (program->program == NULL) {
        status = compile(device, program, err);
    }
    (void)pthread_mutex_unlock(&device->lock);
    return status;
}

int32_t ocl_prepare_end(stn_device *device,
                        void (*progress)(void *user, uint32_t done, uint32_t total), void *user,
                        stn_err *err) {
    uint32_t total = 0, done = 0;
    (void)pthread_mutex_lock(&device->lock);
    for (ocl_program *p = device->programs; p != NULL; p = p->next) {
        total += p->program == NULL;
    }
    ocl_program *first = device->programs;
    (void)pthread_mutex_unlock(&device->lock);
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
        if (p->program != NULL) {
            (void)cl.clReleaseProgram(p->program);
        }
        ocl_host->free(p);
    }
}
