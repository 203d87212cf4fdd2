// From tensors to CUDA kernels: the current device and stream, grid sizes, and the choice by dtype.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <utility>

#include "checks.h"
#include "cuda/grid.h"
#include "cuda/philox_body.h"
#include "storage.h"

namespace fastvae {

inline cudaStream_t current_stream(const Tensor& x) {
  void* stream = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(x.get_device_index(), &stream));
  return static_cast<cudaStream_t>(stream);
}

// Blocks for this many threads; bodies loop where a grid cannot be that large.
inline unsigned blocks_for(int64_t threads) {
  constexpr int64_t kMost = int64_t{1} << 30;
  return static_cast<unsigned>(std::clamp<int64_t>((threads + kThreadsPerBlock - 1) / kThreadsPerBlock, 1, kMost));
}

inline DeviceKey device_key(const Tensor& key, int64_t stream) {
  return {static_cast<const int64_t*>(key.data_ptr()), static_cast<uint32_t>(stream)};
}

inline bool is_aligned(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer) % 16 == 0; }

// Call run(T{}) with the storage type of x.
template <class Run>
void with_storage(const Tensor& x, Run&& run) {
  switch (x.scalar_type()) {
    case ScalarType::Double:
      return run(double{});
    case ScalarType::BFloat16:
      return run(BFloat16{});
    case ScalarType::Half:
      return run(Float16{});
    default:
      return run(float{});
  }
}

}  // namespace fastvae
