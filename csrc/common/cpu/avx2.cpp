// The CPU kernels for machines with AVX2, FMA and F16C: 32-byte vectors.
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

#include "common/cpu/kernels.h"

// From here to the end of the file, so that templates instantiated at the end are compiled for it too, and after all other headers,
// whose inline functions the linker shares with files for other machines.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC optimize("schedule-insns")  // interleaves the chains: a tenth to a fifth faster
#pragma GCC target("avx2,fma,f16c,bmi,bmi2")
#endif

#define FASTVAE_LANES avx2
#define FASTVAE_SIMD_BYTES 32
#define FASTVAE_HAS_FMA
#include "common/cpu/table.h"

namespace fastvae {
constexpr Kernels kAvx2Kernels = avx2::table("avx2");
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
