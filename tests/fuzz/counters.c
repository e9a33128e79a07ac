/* Edge counters for libFuzzer, from code that gcc compiled with -fsanitize-coverage=trace-pc.
 *
 * libFuzzer reads tables of 8-bit counters, which clang makes; gcc calls a function at each basic
 * block instead. Here is that function. The table is handed to libFuzzer by fuzz/__main__.py, with
 * one made-up program counter for each counter, since libFuzzer wants both tables of one length.
 */
#include <stdint.h>

#define COUNTERS 65536

uint8_t fuzz_counters[COUNTERS];
uintptr_t fuzz_pcs[COUNTERS][2];

/* The first field of each pair is the counter; the second, its flags, stays 0. */
__attribute__((constructor)) static void fuzz_number_pcs(void) {
    for (uintptr_t i = 0; i < COUNTERS; i++)
        fuzz_pcs[i][0] = i + 1;
}

void __sanitizer_cov_trace_pc(void) {
    uintptr_t at = (uintptr_t)__builtin_return_address(0);
    uint8_t *counter = &fuzz_counters[(at ^ (at >> 16)) % COUNTERS];
    if (*counter != 255)
        ++*counter;
}

/* gcc also reports comparisons of floating-point numbers, of which libFuzzer does not know. */
void __sanitizer_cov_trace_cmpf(float a, float b) {
    (void)a, (void)b;
}

void __sanitizer_cov_trace_cmpd(double a, double b) {
    (void)a, (void)b;
}
