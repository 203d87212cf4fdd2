// From tensors to kernels, on the CPU.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include <vector>

#include "common/checks.h"
#include "common/cpu/kernels.h"

namespace fastvae {

inline Dtype dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case ScalarType::Double:
      return kFloat64;
    case ScalarType::BFloat16:
      return kBFloat16;
    case ScalarType::Half:
      return kFloat16;
    default:
      return kFloat32;
  }
}

// Request huge pages for a large new output before its first access: zeroing 4 KiB pages one fault at a time costs more than
// the kernels themselves. If the system refuses, nothing changes.
inline Tensor with_huge_pages(Tensor x) {
#if defined(__linux__)
  constexpr uintptr_t kHugePage = uintptr_t{1} << 21;
  const uintptr_t begin = reinterpret_cast<uintptr_t>(x.data_ptr());
  const uintptr_t first = (begin + kHugePage - 1) & ~(kHugePage - 1);
  const uintptr_t last = (begin + x.numel() * x.element_size()) & ~(kHugePage - 1);
  if (last > first) madvise(reinterpret_cast<void*>(first), last - first, MADV_HUGEPAGE);
#endif
  return x;
}

inline NoiseKey read_key(const Tensor& key, int64_t stream) {
  const int64_t* words = static_cast<const int64_t*>(key.data_ptr());
  const int64_t stride = key.stride(0);
  return {static_cast<uint32_t>(words[0]), static_cast<uint32_t>(words[stride]), static_cast<uint64_t>(words[2 * stride]),
          static_cast<uint32_t>(stream)};
}

inline int64_t segments_of(int64_t columns) { return columns > kSegment ? (columns + kSegment - 1) / kSegment : 1; }

// out[i] = the sum of row i's segments, in order; out is float32 or float64.
inline void add_segments(const std::vector<double>& partial, int64_t rows, int64_t segments, Tensor& out) {
  const bool is_double = out.scalar_type() == ScalarType::Double;
  for (int64_t i = 0; i < rows; ++i) {
    double total = 0;
    for (int64_t s = 0; s < segments; ++s) total += partial[i * segments + s];
    if (is_double) {
      static_cast<double*>(out.data_ptr())[i] = total;
    } else {
      static_cast<float*>(out.data_ptr())[i] = static_cast<float>(total);
    }
  }
}

template <class Scalar>
void sum_blocks(const void* partial, int64_t blocks, int64_t columns, void* out) {
  std::vector<double> totals(columns);
  for (int64_t b = 0; b < blocks; ++b) {
    for (int64_t c = 0; c < columns; ++c) totals[c] += static_cast<const Scalar*>(partial)[b * columns + c];
  }
  for (int64_t c = 0; c < columns; ++c) static_cast<Scalar*>(out)[c] = static_cast<Scalar>(totals[c]);
}

// out[c] = the sum over the blocks of partial [blocks, columns], in order; out may be of any floating dtype.
inline void add_blocks(const Tensor& partial, int64_t blocks, int64_t columns, Tensor& out) {
  Tensor sums = empty_on(partial, {columns}, partial.scalar_type());
  const auto sum = partial.scalar_type() == ScalarType::Double ? sum_blocks<double> : sum_blocks<float>;
  sum(pointer(partial), blocks, columns, pointer(sums));
  torch::stable::copy_(out, torch::stable::view(sums, out.sizes()));
}

// A gradient like x, or an empty tensor if it is not needed.
inline Tensor empty_gradient(const Tensor& x, bool needed) {
  return needed ? with_huge_pages(empty_contiguous_like(x)) : empty_on(x, {0}, x.scalar_type());
}

// Run kernel(arguments, begin, end) over the units in parallel, if there are enough elements to amortise waking a thread.
template <class Arguments>
void run_parallel(void (*kernel)(const Arguments&, int64_t, int64_t), const Arguments& arguments, int64_t units, int64_t elements_per_unit) {
  constexpr int64_t kElementsPerThread = 8192;
  if (units == 0) return;
  const int64_t grain = elements_per_unit > 0 ? (kElementsPerThread + elements_per_unit - 1) / elements_per_unit : units;
  if (units <= grain) return kernel(arguments, 0, units);
  torch::stable::parallel_for(0, units, grain, [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); });
}

}  // namespace fastvae
