// Shared by the instruction sets: the table of kernels that each of common/cpu/{baseline,avx2,avx512,avx512_bf16}.cpp fills, and its selection.
#pragma once

#include <cstdint>

#include "common/likelihood_arguments.h"
#include "gaussian_rsample_kl/arguments.h"
#include "gaussian_rsample_kl_full/arguments.h"
#include "gaussian_rsample_log_ratio/arguments.h"
#include "multinomial_nll/arguments.h"

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
// Inside a segment at most this many columns are summed in float32; their sums are added in float64.
constexpr int64_t kFlush = 256;

struct NoiseArguments {
  NoiseKey key;
  int64_t columns;
  void* out;  // [rows, columns]
};

// The distribution of a kernel's rows.
struct CpuRows {
  int64_t rows, columns, segments;
};

// The types in the operators' arguments (<op>/arguments.h) on the CPU: a kernel is chosen by dtype at run time, so tensors have no type.
struct Cpu {
  using Key = NoiseKey;
  using Rows = CpuRows;
  using Stored = void;     // the dtype of the tensors
  using Real = void;       // float64 for float64, else float32
  using Partial = double;  // sums over a segment
};

using GaussianForward = GaussianForwardArguments<Cpu>;
using GaussianBackward = GaussianBackwardArguments<Cpu>;
using GaussianFull = FullArguments<Cpu>;
using LogRatio = LogRatioArguments<Cpu>;
using CpuLikelihood = LikelihoodArguments<Cpu>;
using CpuMultinomial = MultinomialArguments<Cpu>;

// A unit of gaussian_rsample_kl_full is a segment of a block of kRowBlock rows, so that sums over rows run in fixed blocks too; of
// gaussian_rsample_log_ratio, a row and a block of kSampleBlock samples (forward) or a segment of a row (backward); of a likelihood, a
// segment of a row, in the backward of rows_per_unit rows.
constexpr int64_t kRowBlock = 64;
constexpr int64_t kSampleBlock = 32;

enum Likelihood { kBernoulli, kGaussian, kDiscretizedLogistic, kLikelihoods };

// Each kernel works on the units [begin, end): rows, or rows times segments, row by row.
struct Kernels {
  const char* capability;
  void (*integers)(const NoiseArguments&, int64_t begin, int64_t end);
  void (*uniforms)(const NoiseArguments&, int64_t begin, int64_t end);
  void (*normals)(const NoiseArguments&, int64_t begin, int64_t end);
  void (*gaussian_rsample_kl[kDtypes])(const GaussianForward&, int64_t begin, int64_t end);
  void (*gaussian_rsample_kl_backward[kDtypes])(const GaussianBackward&, int64_t begin, int64_t end);
  void (*gaussian_rsample_kl_full[kDtypes])(const GaussianFull&, int64_t begin, int64_t end);
  void (*gaussian_rsample_kl_full_backward[kDtypes])(const GaussianFull&, int64_t begin, int64_t end);
  void (*gaussian_rsample_log_ratio[kDtypes])(const LogRatio&, int64_t begin, int64_t end);
  void (*gaussian_rsample_log_ratio_backward[kDtypes])(const LogRatio&, int64_t begin, int64_t end);
  void (*likelihood[kLikelihoods][kDtypes])(const CpuLikelihood&, int64_t begin, int64_t end);
  void (*likelihood_backward[kLikelihoods][kDtypes])(const CpuLikelihood&, int64_t begin, int64_t end);
  void (*bernoulli_and_gradient[kDtypes])(const CpuLikelihood&, int64_t begin, int64_t end);
  void (*multinomial_nll[kDtypes])(const CpuMultinomial&, int64_t begin, int64_t end);
  void (*multinomial_nll_backward[kDtypes])(const CpuMultinomial&, int64_t begin, int64_t end);
};

extern const Kernels kBaselineKernels;
#if defined(__x86_64__)
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kAvx512BF16Kernels;
#endif

// The fastest table that this CPU runs, or the one that FASTVAE_CPU_CAPABILITY=baseline|avx2|avx512|avx512_bf16 names. Chosen once.
const Kernels& kernels();

}  // namespace fastvae
