// The CPU kernels for machines with AVX-512 (F, BW, DQ, VL) and its BF16 conversions: 64-byte vectors.
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>

#include "common/cpu/kernels.h"

// From here to the end of the file, so that templates instantiated at the end are compiled for it too, and after all other headers,
// whose inline functions the linker shares with files for other machines.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2"))), apply_to = function)
#else
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"  // GCC 12 reports it for its own AVX-512 intrinsics
#pragma GCC optimize("schedule-insns")  // interleaves the chains: a tenth to a fifth faster
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,bmi,bmi2")
#endif

#define FASTVAE_LANES avx512_bf16
#define FASTVAE_SIMD_BYTES 64
#define FASTVAE_HAS_FMA
#define FASTVAE_SIMD_BF16  // GCC 12 does not define its own macro here
#include "common/cpu/table.h"

namespace fastvae {
constexpr Kernels kAvx512BF16Kernels = avx512_bf16::table("avx512_bf16");
}

#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
