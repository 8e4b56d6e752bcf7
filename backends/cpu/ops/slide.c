/* The kernels of slide.h, one per height of the window. */
#include "slide.h"

#include "gradient_bits.h"

/* The window moves a row down: its first row is stored at `row`, a new one loaded behind it. */
VEC void slide_down(float *row, const uint32_t rows, vr a[SLIDE_MAX]) {
    vr_store(row, a[0]);
    UNROLL
    for (uint32_t k = 0; k + 1 < rows; k++) {
        a[k] = a[k + 1];
    }
    a[rows - 1] = vr_load(row + rows * SLIDE_COLS);
}

VEC void slide_body(const slide *job, const uint32_t rows, const bool windows,
                    const uint32_t channels) {
    const uint32_t words = windows ? 1 : job->words;
    const uint64_t pitch = windows ? GRAD_RECORD : job->pitch;
    const uint64_t at_pitch = windows ? GRAD_RECORD : job->at_pitch;
    const float *frame = job->frame;
    const ptrdiff_t shift = job->shift;
    float *row = job->sum;
    vr a[3][SLIDE_MAX];
    UNROLL
    for (uint32_t i = 0; i < channels * rows; i++) {
        a[i / rows][i % rows] = vr_load(row + i / rows * job->sum_step + i % rows * SLIDE_COLS);
    }
    for (uint32_t step = 0; step < job->steps; step++) {
        for (uint32_t m = 0; m < words; m++) {
            const float *g = job->g + step * pitch + m * SLIDE_WORD;
            const int32_t *at = job->at + step * at_pitch + m * SLIDE_WORD;
            uint64_t left = job->mask[m * job->word_step + step] & job->keep[m];
            for (; left != 0; left &= left - 1) {
                const uint32_t bit = (uint32_t)__builtin_ctzll(left);
                const uint32_t i = windows ? bit % LANES : bit;
                const vr value = vr_set1(g[i]);
                const float *w = frame + (at[i] + shift);
                UNROLL
                for (uint32_t c = 0; c < channels; c++, w += job->frame_step) {
                    /* Pins the address: otherwise one address computation is made per row. */
                    __asm__("" : "+r"(w));
                    UNROLL
                    for (uint32_t k = 0; k < rows; k++) {
                        a[c][k] = vr_fma(value, vr_load(w + k * SLIDE_COLS), a[c][k]);
                    }
                }
            }
        }
        for (uint32_t i = 0; i < (windows ? 2 : job->advance); i++, row += SLIDE_COLS) {
            UNROLL
            for (uint32_t c = 0; c < channels; c++) {
                slide_down(row + c * job->sum_step, rows, a[c]);
            }
        }
    }
    UNROLL
    for (uint32_t i = 0; i < channels * rows; i++) {
        vr_store(row + i / rows * job->sum_step + i % rows * SLIDE_COLS, a[i / rows][i % rows]);
    }
}

#define SLIDE_FEW(X) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#if defined(CPU_ISA_AVX512)
#define SLIDE_THREE_EACH(X) SLIDE_FEW(X) X(8)
#else
#define SLIDE_THREE_EACH(X)
#endif
#if defined(CPU_ISA_AVX512) || V_REGS > 1
#define SLIDE_EACH(X) SLIDE_FEW(X) X(8) X(9) X(10) X(11) X(12)
#else
#define SLIDE_EACH(X) SLIDE_FEW(X)
#endif

#define SLIDE_DEFINE(name, channels, rows)                                                         \
    static __attribute__((noinline)) void name##_lines_##rows(const slide *job) {                  \
        slide_body(job, rows, false, channels);                                                    \
    }                                                                                              \
    static __attribute__((noinline)) void name##_windows_##rows(const slide *job) {                \
        slide_body(job, rows, true, channels);                                                     \
    }
#define SLIDE_DEFINE_ONE(rows) SLIDE_DEFINE(slide_one, 1, rows)
#define SLIDE_DEFINE_THREE(rows) SLIDE_DEFINE(slide_three, 3, rows)
SLIDE_EACH(SLIDE_DEFINE_ONE)
SLIDE_THREE_EACH(SLIDE_DEFINE_THREE)

slide_fn ISA(slide_kernel)(uint32_t rows, bool windows, bool three) {
#define SLIDE_ONE_ENTRY(rows) [rows] = {slide_one_lines_##rows, slide_one_windows_##rows},
#define SLIDE_THREE_ENTRY(rows) [rows] = {slide_three_lines_##rows, slide_three_windows_##rows},
    static const slide_fn kernel[2][SLIDE_MAX + 1][2] = {
        {SLIDE_EACH(SLIDE_ONE_ENTRY)}, {[0] = {NULL}, SLIDE_THREE_EACH(SLIDE_THREE_ENTRY)}};
    return kernel[three][rows][windows];
}
