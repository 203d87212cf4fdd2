// What the instruction sets have in common: the table of kernels that each of common/cpu/{baseline,avx2,avx512,avx512_bf16}.cpp fills, and the choice.
#pragma once

#include <cstdint>

#include "common/storage_kinds.h"

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

// gaussian_rsample_kl with a prior and other reductions. A unit is a segment of a block of kRowBlock rows, so that sums over rows run in
// fixed blocks too.
constexpr int64_t kRowBlock = 64;

struct GaussianFull {
  NoiseKey key;
  int64_t rows, columns, segments;
  const void* mu;            // [rows, columns], as all below
  const void* logvar;
  const void* prior_mu;      // null: N(0, 1)
  const void* prior_logvar;
  void* z;
  void* kl_elements;         // [rows, columns] in the type of sums, or null
  double* kl_rows;           // [rows, segments], or null
  void* kl_columns;          // [blocks of rows, columns] in the type of sums, or null
};

struct GaussianFullBackward {
  NoiseKey key;
  int64_t rows, columns, segments;
  const void* grad_z;         // null where absent, as all gradients
  const void* grad_elements;  // [rows, columns]
  const void* grad_rows;      // [rows]
  const void* grad_columns;   // [columns]
  const void* mu;
  const void* logvar;
  const void* prior_mu;
  const void* prior_logvar;
  void* grad_mu;  // null where nobody asks for it, as the next three
  void* grad_logvar;
  void* grad_prior_mu;
  void* grad_prior_logvar;
};

// gaussian_rsample_log_ratio: a unit is a row and a block of kSampleBlock samples (forward), or a segment of a row (backward).
constexpr int64_t kSampleBlock = 32;

struct LogRatio {
  NoiseKey key;  // of the first sample; the next ones count the stream on
  int64_t rows, columns, samples;
  const void* mu;
  const void* logvar;
  void* z;          // [samples, rows, columns]
  void* log_ratio;  // [samples, rows] in the type of sums
};

struct LogRatioBackward {
  NoiseKey key;
  int64_t rows, columns, segments, samples;
  const void* grad_z;          // [samples, rows, columns], or null
  const void* grad_log_ratio;  // [samples, rows], or null
  const void* mu;
  const void* logvar;
  void* grad_mu;      // [rows, columns], or null
  void* grad_logvar;  // the same
};

// A unit is a segment of a row; in the backward, of rows_per_unit rows.
struct LikelihoodArguments {
  int64_t rows, data_rows, columns, segments;  // output row n goes with data row n % data_rows
  const void* output;                          // [rows, columns]
  Storage target_storage;
  const void* target;   // [data_rows, columns]
  const uint8_t* mask;  // [data_rows, columns], or null
  Spread spread;
  Storage parameter_storage;
  const void* parameter;
  int num_levels;
  double* sums;                                // [units], or null
  void* grad_output;                           // [rows, columns], or null
  // Backward only.
  int64_t rows_per_unit;
  const void* grad_nll;            // [rows] in the type of sums
  void* grad_parameter;            // [rows, columns] for kFull, or null
  void* grad_parameter_by_column;  // [blocks of rows, columns] in the type of sums for kPerDimension, or null
};

// Counts are dense, [data_rows, columns], or compressed rows; the latter are spread out in `scratch`, a row of zeros for each call.
struct MultinomialArguments {
  int64_t rows, data_rows, columns;
  const void* logits;  // [rows, columns]
  Storage counts_storage;
  const void* counts;  // dense, or null
  const int64_t* row_starts;  // compressed: [data_rows + 1]
  const int64_t* indices;     // [nonzeros]
  const void* values;         // [nonzeros], stored as counts_storage says
  void* nll;                  // [rows] in the type of sums, as the next three
  void* logsumexp;
  void* total;
  const void* grad_nll;  // backward only
  void* grad_logits;     // [rows, columns], backward only
};

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
  void (*gaussian_rsample_kl_full_backward[kDtypes])(const GaussianFullBackward&, int64_t begin, int64_t end);
  void (*gaussian_rsample_log_ratio[kDtypes])(const LogRatio&, int64_t begin, int64_t end);
  void (*gaussian_rsample_log_ratio_backward[kDtypes])(const LogRatioBackward&, int64_t begin, int64_t end);
  void (*likelihood[kLikelihoods][kDtypes])(const LikelihoodArguments&, int64_t begin, int64_t end);
  void (*likelihood_backward[kLikelihoods][kDtypes])(const LikelihoodArguments&, int64_t begin, int64_t end);
  void (*bernoulli_and_gradient[kDtypes])(const LikelihoodArguments&, int64_t begin, int64_t end);
  void (*multinomial_nll[kDtypes])(const MultinomialArguments&, int64_t begin, int64_t end);
  void (*multinomial_nll_backward[kDtypes])(const MultinomialArguments&, int64_t begin, int64_t end);
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
