/* Token lint of kernel sources against contract C0/C1: every .cl file of the OpenCL backend, and
 * the operator sources of the CPU backend for the functions that no device may call.
 *
 * Comments and strings are removed and names after '.' or '->' are members, not calls. The linter
 * itself is tested on planted violations.
 */
#include <criterion/criterion.h>

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Functions whose results differ between platforms. */
static const char *const forbidden[] = {
    "mad",   "mad24", "fmax",  "fmin",  "clamp", "mix",   "dot",   "pow",  "powr",  "pown",
    "exp",   "exp2",  "exp10", "expm1", "log",   "log2",  "log10", "sin",  "cos",   "tan",
    "rsqrt", "tanh",  "expf",  "logf",  "powf",  "tanhf", "sinf",  "cosf", "fmaxf", "fminf"};
/* In OpenCL C also these: contract C3 has its own. Integer atomics are free of order; atomic_xchg
 * is the one that takes floats. */
static const char *const forbidden_cl[] = {"sqrt",       "half_divide", "native_divide",
                                           "smoothstep", "hypot",       "normalize",
                                           "length",     "distance",    "step"};

static bool in_list(const char *word, const char *const *list, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(word, list[i]) == 0) {
            return true;
        }
    }
    return false;
}

/* Replaces comments and literals by blanks, keeping lines. */
static void blank_comments(char *text) {
    for (char *p = text; *p != '\0';) {
        if (p[0] == '/' && p[1] == '*') {
            char *end = strstr(p + 2, "*/");
            end = end != NULL ? end + 2 : p + strlen(p);
            for (; p < end; p++) {
                *p = *p == '\n' ? '\n' : ' ';
            }
        } else if (p[0] == '/' && p[1] == '/') {
            for (; *p != '\0' && *p != '\n'; p++) {
                *p = ' ';
            }
        } else if (*p == '"') {
            for (*p++ = ' '; *p != '\0' && *p != '"' && *p != '\n'; p++) {
                *p = ' ';
            }
            if (*p == '"') {
                *p++ = ' ';
            }
        } else {
            p++;
        }
    }
}

static bool word_char(char c) {
    return isalnum((unsigned char)c) || c == '_';
}

static char before(const char *text, const char *p) {
    while (p > text && (p[-1] == ' ' || p[-1] == '\t' || p[-1] == '\n')) {
        p--;
    }
    return p > text ? p[-1] : '\0';
}

/* A name that is called and not a member. */
static bool bad_call(const char *text, const char *start, const char *end, bool cl) {
    char word[64];
    size_t n = (size_t)(end - start);
    char previous = before(text, start);
    const char *next = end;
    while (*next == ' ' || *next == '\n') {
        next++;
    }
    if (n >= sizeof word || *next != '(' || previous == '.' || previous == '>') {
        return false;
    }
    memcpy(word, start, n);
    word[n] = '\0';
    return in_list(word, forbidden, sizeof forbidden / sizeof *forbidden) ||
           (cl && (in_list(word, forbidden_cl, sizeof forbidden_cl / sizeof *forbidden_cl) ||
                   strncmp(word, "native_", 7) == 0 || strncmp(word, "half_", 5) == 0 ||
                   strcmp(word, "atomic_xchg") == 0));
}

/* The last declaration of a name before `limit` under type words that begin with `type`, NULL if
 * there is none: from the type up to ';' or '{', names after the type or a comma. Enough for C of
 * this style. */
static const char *declared(const char *text, const char *limit, const char *type, const char *name,
                            size_t n) {
    const char *found = NULL;
    size_t m = strlen(type);
    for (const char *p = strstr(text, type); p != NULL && p < limit; p = strstr(p + m, type)) {
        if (p > text && word_char(p[-1])) {
            continue;
        }
        const char *q = p + m;
        int depth = 0;
        while (isdigit((unsigned char)*q)) {
            q++;
        }
        if (word_char(*q)) {
            continue;
        }
        for (bool named = true; q < limit && *q != ';' && *q != '{' && depth >= 0; q++) {
            depth += (*q == '(' || *q == '[') - (*q == ')' || *q == ']');
            if (word_char(*q) && !word_char(q[-1])) {
                if (named && depth == 0 && strncmp(q, name, n) == 0 && !word_char(q[n]) &&
                    q[n] != '(') {
                    found = p;
                }
                named = false;
            }
            named = *q == ',' && depth == 0 ? true : named;
        }
    }
    return found;
}

static bool is_float(const char *text, const char *limit, const char *name, size_t n) {
    const char *real = declared(text, limit, "float", name, n);
    const char *whole = declared(text, limit, "uint", name, n);
    const char *other = declared(text, limit, "int", name, n);
    return real != NULL && (whole == NULL || whole < real) && (other == NULL || other < real);
}

/* Compound assignment to, or division by or of, a float name. */
static bool bad_operator(const char *text, const char *p) {
    bool divide = p[0] == '/';
    if (!divide && !((p[0] == '+' || p[0] == '-') && p[1] == '=')) {
        return false;
    }
    const char *end = p;
    while (end > text && end[-1] == ' ') {
        end--;
    }
    if (end > text && end[-1] == ']') {
        for (int depth = 0; end > text;) {
            end--;
            depth += (*end == ']') - (*end == '[');
            if (depth == 0) {
                break;
            }
        }
    }
    const char *start = end;
    while (start > text && word_char(start[-1])) {
        start--;
    }
    if (start == end || isdigit((unsigned char)*start)) {
        return start != end && divide && memchr(start, 'f', (size_t)(end - start)) != NULL;
    }
    /* Pointers walk by +=; only arrays and scalars hold sums. */
    char pattern[80];
    (void)snprintf(pattern, sizeof pattern, "*%.*s", (int)(end - start < 64 ? end - start : 64),
                   start);
    return before(text, start) != '.' && is_float(text, p, start, (size_t)(end - start)) &&
           strstr(text, pattern) == NULL;
}

/* Number of violations; each is told with its line. */
static int lint(const char *name, char *text, bool cl) {
    int found = 0, line = 1;
    blank_comments(text);
    for (const char *p = text; *p != '\0'; p++) {
        line += *p == '\n';
        const char *end = p;
        if (isalpha((unsigned char)*p) && (p == text || !word_char(p[-1]))) {
            while (word_char(*end)) {
                end++;
            }
        }
        if (end > p && bad_call(text, p, end, cl)) {
            fprintf(stderr, "%s:%d: %.*s is forbidden (NUMERICS.md, C0)\n", name, line,
                    (int)(end - p), p);
            found++;
        } else if (cl && end == p && bad_operator(text, p)) {
            fprintf(stderr, "%s:%d: %c on floats is forbidden (NUMERICS.md, C0, C1)\n", name, line,
                    *p);
            found++;
        }
    }
    return found;
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    cr_assert_not_null(file, "%s", path);
    char *text = calloc(1, 1u << 20);
    cr_assert_not_null(text);
    cr_assert_lt(fread(text, 1, (1u << 20) - 1, file), (1u << 20) - 1, "%s is too long", path);
    fclose(file);
    return text;
}

static int lint_folder(const char *folder, const char *ending, bool cl, int *files) {
    char path[512];
    int found = 0;
    (void)snprintf(path, sizeof path, "%s/%s", STN_TEST_SOURCE_DIR, folder);
    DIR *dir = opendir(path);
    cr_assert_not_null(dir, "%s", path);
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        size_t n = strlen(e->d_name), m = strlen(ending);
        if (n > m && strcmp(e->d_name + n - m, ending) == 0) {
            (void)snprintf(path, sizeof path, "%s/%s/%s", STN_TEST_SOURCE_DIR, folder, e->d_name);
            char *text = read_file(path);
            found += lint(e->d_name, text, cl);
            free(text);
            (*files)++;
        }
    }
    closedir(dir);
    return found;
}

Test(lint, opencl_kernels) {
    int files = 0, found = lint_folder("backends/opencl/kernels", ".cl", true, &files);
    cr_assert_gt(files, 5);
    cr_assert_eq(found, 0);
}

Test(lint, cpu_operators) {
    int files = 0;
    int found = lint_folder("backends/cpu/ops", ".c", false, &files) +
                lint_folder("backends/cpu/ops/ref", ".c", false, &files);
    cr_assert_gt(files, 5);
    cr_assert_eq(found, 0);
}

/* The pragma stands in common.cl and num.h, which precede every kernel file. */
Test(lint, contraction_is_off) {
    char *text = read_file(STN_TEST_SOURCE_DIR "/backends/opencl/kernels/common.cl");
    cr_assert_not_null(strstr(text, "#pragma OPENCL FP_CONTRACT OFF"));
    free(text);
}

static int lint_text(const char *source) {
    char text[512];
    (void)snprintf(text, sizeof text, "%s", source);
    return lint("planted", text, true);
}

Test(lint, finds_planted_violations) {
    cr_assert_eq(lint_text("float a = mad(b, c, d);"), 1);
    cr_assert_eq(lint_text("float a = native_recip(b);"), 1);
    cr_assert_eq(lint_text("float s = 0; s += x;"), 1);
    cr_assert_eq(lint_text("float16 lane[16]; lane[i] += x;"), 1);
    cr_assert_eq(lint_text("float a, b; a = b / c;"), 1);
    cr_assert_eq(lint_text("float y = 1.0f / x;"), 1);
    cr_assert_eq(lint_text("float r = sqrt (x);"), 1);
    cr_assert_eq(lint_text("atomic_xchg(p, 1.0f);"), 1);
    cr_assert_eq(lint_text("float x = p.exp(1); // exp(2)"), 0);
    cr_assert_eq(lint_text("uint n = 0; n += 2; n = n / 3u; float f;"), 0);
    cr_assert_eq(lint_text("/* log(x) */ float *p; p += 1;"), 0);
}
