// SEMHIER_CLONES before a function whose floats, if any, are summed in one order on all of them: made for several kinds
// of x86 processor, the best taken at run time. Such a function must not throw: with GCC 12 that ends the process.
#pragma once

#if defined(__x86_64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define SEMHIER_CLONES __attribute__((target_clones("default", "avx2", "arch=skylake-avx512")))
#else
#define SEMHIER_CLONES
#endif
