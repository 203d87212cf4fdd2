// The CPU kernels for any machine: 16-byte vectors (SSE2 on x86-64, the compiler's default elsewhere).
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define FASTVAE_LANES baseline
#define FASTVAE_SIMD_BYTES 16
#include "common/cpu/table.h"

namespace fastvae {
constexpr Kernels kBaselineKernels = baseline::table("baseline");
}
