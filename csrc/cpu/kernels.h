// What the instruction sets have in common: the table of kernels that each of cpu/{baseline,avx2,avx512}.cpp fills, and the choice.
#pragma once

#include <cstdint>

namespace fastvae {

// The order of the tables: float32, float64, bfloat16, float16.
enum Dtype { kFloat32, kFloat64, kBFloat16, kFloat16, kDtypes };

struct NoiseKey {
  uint32_t seed, step;
  uint64_t first_row;
  uint32_t stream;
};

// A row is cut into segments of this many columns, so that few long rows also use all threads. Where a row is cut depends on its
// length only, and the segments' sums are added in order: so no bit of a result depends on the number of threads.
constexpr int64_t kSegment = 16384;
// Inside a segment float32 sums run over this many columns at most, and go on in float64.
constexpr int64_t kFlush = 256;

struct NoiseArguments {
  NoiseKey key;
  int64_t columns;
  void* out;  // [rows, columns]
};

struct GaussianForward {
  NoiseKey key;
  int64_t columns, segments;
  const void* mu;      // [rows, columns]
  const void* logvar;  // [rows, columns]
  void* z;             // [rows, columns]
  double* kl;          // [rows, segments]
};

struct GaussianBackward {
  NoiseKey key;
  int64_t columns, segments;
  const void* grad_z;   // [rows, columns], or null
  const void* grad_kl;  // [rows] float32 (float64 for float64), or null
  const void* mu;
  const void* logvar;
  void* grad_mu;      // [rows, columns], or null where nobody asks for it
  void* grad_logvar;  // the same
};

// Each kernel works on the units [begin, end): rows, or rows times segments, row by row.
struct Kernels {
  const char* capability;
  void (*integers)(const NoiseArguments&, int64_t begin, int64_t end);
  void (*uniforms)(const NoiseArguments&, int64_t begin, int64_t end);
  void (*normals)(const NoiseArguments&, int64_t begin, int64_t end);
  void (*gaussian_rsample_kl[kDtypes])(const GaussianForward&, int64_t begin, int64_t end);
  void (*gaussian_rsample_kl_backward[kDtypes])(const GaussianBackward&, int64_t begin, int64_t end);
};

extern const Kernels kBaselineKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

// The fastest table that this CPU runs, or the one that FASTVAE_CPU_CAPABILITY=baseline|avx2|avx512 names. Chosen once.
const Kernels& kernels();

}  // namespace fastvae
