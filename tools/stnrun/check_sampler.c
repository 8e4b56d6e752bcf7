/* Golden cases of op_sampler. A shape ("7x9_to_5x11") holds input, theta and usually grad_output;
 * its grid cases and its cases "<mode>_<padding>_ac<0|1>" refer to them. Every sampler case runs
 * twice: as one operator from theta, and as affine grid followed by the sampler. */
#include <stdio.h>
#include <string.h>

#include "check.h"

/* What the cases of one shape share. */
typedef struct sampler_case {
    const char *name; /* whole case */
    char shape[160];  /* before the dot */
    uint32_t x[4], y[4];
    operand image, theta, gout;
    stn_warp_params params;
    bool exact; /* selects values: nearest, or integer coordinates */
} sampler_case;

static int32_t grid_case(check *c, const char *name, const char *shape, stn_err *err) {
    uint32_t g[4], corners;
    const float *theta, *gout;
    STN_TRY(case_dims(c, name, "output", g, err));
    STN_TRY(case_attr(c, name, 0, &corners, err));
    STN_TRY(case_floats(c, shape, "theta", &theta, err));
    STN_TRY(case_floats(c, name, "grad_output", &gout, err));
    /* The grid does not depend on filter, padding and input size, but every field must be valid. */
    stn_warp_params p = {.struct_size = sizeof p,
                         .corners = corners != 0 ? STN_CORNERS_ALIGNED : STN_CORNERS_HALF,
                         .filter = STN_FILTER_BILINEAR,
                         .padding = STN_PAD_ZEROS,
                         .in_h = g[1],
                         .in_w = g[2],
                         .out_h = g[1],
                         .out_w = g[2]};
    operand t = check_input(check_shape(STN_F32, g[0], 6, 0, 0), theta);
    operand r = {.tensor = check_shape(STN_F32, g[0], g[1], g[2], 2)};
    operand gg = check_input(r.tensor, gout), gt = {.tensor = t.tensor};
    STN_TRY(check_run(c, STN_OP_GRID, &p, &t, 1, &r, 1, NULL, err));
    STN_TRY(case_compare(c, name, "output", &r, false, err));
    STN_TRY(check_run(c, STN_OP_GRID_GRAD, &p, &gg, 1, &gt, 1, NULL, err));
    return case_compare(c, name, "grad_theta", &gt, false, err);
}

static int32_t load_case(check *c, const char *name, sampler_case *s, stn_err *err) {
    static const uint32_t filters[] = {STN_FILTER_BILINEAR, STN_FILTER_NEAREST};
    static const uint32_t paddings[] = {STN_PAD_ZEROS, STN_PAD_BORDER, STN_PAD_REFLECTION};
    uint32_t filter, padding, corners;
    const float *image, *theta, *gout;
    char own[160];
    STN_TRY(case_attr(c, name, 0, &filter, err));
    STN_TRY(case_attr(c, name, 1, &padding, err));
    STN_TRY(case_attr(c, name, 2, &corners, err));
    if (filter > 1 || padding > 2) {
        return stn_fail(err, STN_E_FORMAT, "%s: %s.attr names no known mode", c->path, name);
    }
    STN_TRY(case_dims(c, s->shape, "input", s->x, err));
    STN_TRY(case_dims(c, name, "output", s->y, err));
    STN_TRY(case_floats(c, s->shape, "input", &image, err));
    STN_TRY(case_floats(c, s->shape, "theta", &theta, err));
    bool has_own = check_has(c, check_key(own, name, "grad_output"));
    STN_TRY(case_floats(c, has_own ? name : s->shape, "grad_output", &gout, err));
    s->params = (stn_warp_params){.struct_size = sizeof s->params,
                                  .corners = corners != 0 ? STN_CORNERS_ALIGNED : STN_CORNERS_HALF,
                                  .filter = filters[filter],
                                  .padding = paddings[padding],
                                  .in_h = s->x[2],
                                  .in_w = s->x[3],
                                  .out_h = s->y[2],
                                  .out_w = s->y[3]};
    s->image = check_input(check_shape(STN_F32, s->x[0], s->x[1], s->x[2], s->x[3]), image);
    s->theta = check_input(check_shape(STN_F32, s->x[0], 6, 0, 0), theta);
    s->gout = check_input(check_shape(STN_F32, s->y[0], s->y[1], s->y[2], s->y[3]), gout);
    s->exact = filter == 1;
    return STN_OK;
}

/* One operator from theta. */
static int32_t warp_form(check *c, const sampler_case *s, stn_err *err) {
    operand y = {.tensor = s->gout.tensor}, gx = {.tensor = s->image.tensor},
            gt = {.tensor = s->theta.tensor};
    STN_TRY(check_run(c, STN_OP_WARP, &s->params, (operand[]){s->image, s->theta}, 2, &y, 1, NULL,
                      err));
    STN_TRY(case_compare(c, s->name, "output", &y, s->exact, err));
    STN_TRY(check_run(c, STN_OP_WARP_GRAD_X, &s->params, (operand[]){s->gout, s->theta}, 2, &gx, 1,
                      NULL, err));
    STN_TRY(case_compare(c, s->name, "grad_input", &gx, false, err));
    STN_TRY(check_run(c, STN_OP_WARP_GRAD_THETA, &s->params,
                      (operand[]){s->gout, s->image, s->theta}, 3, &gt, 1, NULL, err));
    return case_compare(c, s->name, "grad_theta", &gt, false, err);
}

/* Compares the result of the two-operator form under its own label. */
static int32_t compare_parts(check *c, const sampler_case *s, const char *tensor,
                             const operand *result, bool exact, stn_err *err) {
    char name[160], label[176];
    (void)snprintf(label, sizeof label, "%s (grid, sample)", check_key(name, s->name, tensor));
    return check_compare(c, name, label, result->result, stn_tensor_elems(&result->tensor), exact,
                         err);
}

static int32_t grid_form(check *c, const sampler_case *s, stn_err *err) {
    char name[160];
    operand grid = {.tensor = check_shape(STN_F32, s->y[0], s->y[2], s->y[3], 2)};
    operand y = {.tensor = s->gout.tensor}, gx = {.tensor = s->image.tensor},
            gg = {.tensor = grid.tensor};
    STN_TRY(check_run(c, STN_OP_GRID, &s->params, &s->theta, 1, &grid, 1, NULL, err));
    grid.data = grid.result;
    STN_TRY(
        check_run(c, STN_OP_SAMPLE, &s->params, (operand[]){s->image, grid}, 2, &y, 1, NULL, err));
    STN_TRY(compare_parts(c, s, "output", &y, s->exact, err));
    STN_TRY(check_run(c, STN_OP_SAMPLE_GRAD_X, &s->params, (operand[]){s->gout, grid}, 2, &gx, 1,
                      NULL, err));
    STN_TRY(compare_parts(c, s, "grad_input", &gx, false, err));
    if (!check_has(c, check_key(name, s->name, "grad_grid"))) {
        return STN_OK;
    }
    STN_TRY(check_run(c, STN_OP_SAMPLE_GRAD_GRID, &s->params, (operand[]){s->gout, s->image, grid},
                      3, &gg, 1, NULL, err));
    return compare_parts(c, s, "grad_grid", &gg, false, err);
}

int32_t check_sampler_case(check *c, const char *name, stn_err *err) {
    const char *dot = strchr(name, '.');
    sampler_case s = {.name = name};
    if (dot == NULL) {
        return STN_OK; /* the shape itself */
    }
    (void)snprintf(s.shape, sizeof s.shape, "%.*s", (int)(dot - name), name);
    if (strncmp(dot + 1, "grid_", 5) == 0) {
        return grid_case(c, name, s.shape, err);
    }
    STN_TRY(load_case(c, name, &s, err));
    STN_TRY(warp_form(c, &s, err));
    return grid_form(c, &s, err);
}
