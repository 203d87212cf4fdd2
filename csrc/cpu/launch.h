// From tensors to kernels, on the CPU.
#pragma once

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "checks.h"
#include "cpu/kernels.h"

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

// Ask for huge pages under a large fresh output, before anything touches it: zeroing 4 KiB pages one fault at a time costs more than
// the kernels themselves. Where the system refuses, nothing changes.
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

// Run kernel(arguments, begin, end) over the units in parallel, where there are enough elements to pay for waking a thread.
template <class Arguments>
void run_parallel(void (*kernel)(const Arguments&, int64_t, int64_t), const Arguments& arguments, int64_t units, int64_t elements_per_unit) {
  constexpr int64_t kElementsPerThread = 8192;
  if (units == 0) return;
  const int64_t grain = elements_per_unit > 0 ? (kElementsPerThread + elements_per_unit - 1) / elements_per_unit : units;
  if (units <= grain) return kernel(arguments, 0, units);
  torch::stable::parallel_for(0, units, grain, [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); });
}

}  // namespace fastvae
