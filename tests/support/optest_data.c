/* Data of the operator tests: a pure function of the case's name and the input's number. */
#include "optest.h"

#include <math.h>
#include <string.h>

typedef struct source {
    uint64_t state;
} source;

/* splitmix64 */
static uint64_t next(source *s) {
    uint64_t z = (s->state += UINT64_C(0x9E3779B97F4A7C15));
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

static uint32_t below(source *s, uint32_t n) {
    return (uint32_t)((next(s) >> 32) * n >> 32);
}

/* Uniform in [-1, 1). */
static float unit(source *s) {
    return (float)((double)(next(s) >> 11) * 0x1p-52 - 1.0);
}

/* Sum of four uniforms: bell-shaped, about unit variance. */
static float bell(source *s) {
    return (unit(s) + unit(s)) + (unit(s) + unit(s));
}

static float snap(float x, float limit) {
    return fabsf(x) < limit ? 0.0f : x;
}

static float with_sign(source *s, float x) {
    return below(s, 2) ? -x : x;
}

/* Zeros, values at the envelope's limit, huge ones, many ties. */
static float hard(source *s, float limit, bool negative_zero) {
    switch (below(s, 6)) {
    case 0:
        return negative_zero ? with_sign(s, 0.0f) : 0.0f;
    case 1:
        return with_sign(s, limit * (1.0f + fabsf(unit(s))));
    case 2:
        return with_sign(s, ldexpf(1.0f + fabsf(unit(s)), (int)below(s, 16)));
    case 3:
        return with_sign(s, (float)below(s, 3));
    case 4:
        return with_sign(s, ldexpf(1.0f + fabsf(unit(s)), -(int)below(s, 28)));
    default:
        return snap(bell(s), limit);
    }
}

static float real_value(source *s, uint32_t role, uint32_t data) {
    float limit = role == OPTEST_G ? 0x1p-50f : 0x1p-30f;
    float x = data == OPTEST_INTEGER       ? (float)below(s, 9) - 4.0f
              : data == OPTEST_ADVERSARIAL ? hard(s, limit, role == OPTEST_X)
                                           : snap(bell(s), limit);
    if (role == OPTEST_POS) {
        return fabsf(x) + 0x1p-10f;
    }
    /* A snapped tensor never holds -0; parameters and images may come from outside. */
    return x == 0.0f && role == OPTEST_G ? 0.0f : x;
}

static float moment2(source *s, uint32_t data) {
    float x = data == OPTEST_ADVERSARIAL ? hard(s, 0x1p-40f, false) : bell(s);
    return snap(x * x, 0x1p-100f);
}

/* Biases of every size; the squares of some overflow. */
static float extreme(source *s) {
    static const float values[] = {0.0f, 1.0f, -3.0f, 0x1p70f, -0x1p70f, -1e-20f, 3e38f, -3e38f};
    return values[below(s, 8)];
}

/* Biases that show where a sum is zero. */
static float tiny(source *s) {
    static const float values[] = {1e-20f, 0x1.fffffep-31f, -0x1.fffffep-31f, -1e-20f, 1.0f};
    return values[below(s, 5)];
}

/* Coordinates that the sampler must give a defined meaning. */
static float wild_coordinate(source *s) {
    static const float wild[] = {INFINITY, -INFINITY, NAN,   1e30f, -1e30f, 3e6f, -3e6f, 100.0f,
                                 -7.5f,    0.0f,      -0.0f, 1.0f,  -1.0f,  0.5f, 2.0f,  -3.0f};
    return below(s, 3) == 0 ? wild[below(s, 16)] : 1.6f * unit(s);
}

/* Row n of affine maps: a turn and stretch near the identity; adversarial rows take kinds in turn.
 */
static void theta_row(source *s, uint32_t data, uint32_t n, float *theta) {
    static const float special[][6] = {
        {1, 0, 0, 0, 1, 0},         {-1, 0, 0, 0, 1, 0},
        {0, 0, 0, 0, 0, 0},         {1, 0, 5, 0, 1, -5},
        {1e30f, 0, 0, 0, 1e30f, 0}, {NAN, 0, 0, 0, 1, 0},
        {1, 0, INFINITY, 0, 1, 0},  {0.5f, 0.5f, 0.25f, -0.5f, 0.5f, 0}};
    if (data == OPTEST_ADVERSARIAL && n % 9 < 8) {
        memcpy(theta, special[n % 9], sizeof special[0]);
        return;
    }
    for (uint32_t i = 0; i < 6; i++) {
        float noise = data == OPTEST_INTEGER ? 0.5f * (float)below(s, 3) - 0.5f : 0.4f * bell(s);
        theta[i] = snap(noise + (i == 0 || i == 4 ? 1.0f : 0.0f), 0x1p-30f);
    }
}

/* Fills a map whose images hold a box of any values before a background; in every third image
 * the background is another one, and the box may fill the image or be nothing. */
static void fill_scene(source *s, const optest_case *c, const stn_tensor *t, float *x) {
    const uint32_t height = t->dim[2], width = t->dim[3];
    for (uint32_t n = 0; n < t->dim[0]; n++) {
        const uint32_t top = below(s, height + 1);
        const uint32_t bottom = top + below(s, height - top + 1);
        const uint32_t left = below(s, width + 1);
        const uint32_t right = left + below(s, width - left + 1);
        for (uint32_t p = 0; p < t->dim[1]; p++) {
            source other = {p + 977u * (n % 3 == 2) + strlen(c->name)};
            const float background = real_value(&other, OPTEST_X, c->data);
            for (uint32_t i = 0; i < height * width; i++) {
                const uint32_t h = i / width, w = i % width;
                const bool inside = h >= top && h < bottom && w >= left && w < right;
                *x++ = inside ? real_value(s, OPTEST_X, c->data) : background;
            }
        }
    }
}

static source source_of(const optest_case *c, uint32_t i) {
    source s = {i + 1u};
    for (const char *p = c->name; *p != '\0'; p++) {
        s.state = (s.state ^ (uint8_t)*p) * UINT64_C(0x100000001B3);
    }
    return s;
}

static void fill_real(const optest_case *c, uint32_t i, float *x) {
    source s = source_of(c, i);
    uint64_t n = optest_elems(&c->in[i]);
    if (c->role[i] == OPTEST_SCENE) {
        fill_scene(&s, c, &c->in[i], x);
        return;
    }
    for (uint64_t k = 0; k < n; k++) {
        switch (c->role[i]) {
        case OPTEST_THETA:
            if (k % 6 == 0) {
                theta_row(&s, c->data, (uint32_t)(k / 6), x + k);
            }
            break;
        case OPTEST_GRID:
            x[k] = c->data == OPTEST_ADVERSARIAL ? wild_coordinate(&s)
                                                 : snap(1.3f * unit(&s), 0x1p-30f);
            break;
        case OPTEST_PIXEL:
            x[k] = (float)below(&s, 256);
            break;
        case OPTEST_EXTREME:
            x[k] = extreme(&s);
            break;
        case OPTEST_TINY:
            x[k] = tiny(&s);
            break;
        case OPTEST_MOMENT2:
            x[k] = moment2(&s, c->data);
            break;
        default:
            x[k] = real_value(&s, c->role[i], c->data);
        }
    }
}

void optest_fill(const optest_case *c, uint32_t i, void *data) {
    source s = source_of(c, i);
    uint64_t n = optest_elems(&c->in[i]);
    if (c->in[i].dtype == STN_F32) {
        fill_real(c, i, data);
        return;
    }
    uint32_t limit = c->role[i] == OPTEST_PIXEL ? 256 : c->limit;
    for (uint64_t k = 0; k < n; k++) {
        if (c->in[i].dtype == STN_U8) {
            ((uint8_t *)data)[k] = (uint8_t)below(&s, limit);
        } else {
            ((int32_t *)data)[k] = (int32_t)below(&s, limit);
        }
    }
}
