// From tensors to CUDA kernels: the current device and stream, grid sizes, and the choice by dtype.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <algorithm>
#include <utility>

#include "common/checks.h"
#include "common/cuda/rows.h"
#include "common/storage.h"

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

inline unsigned blocks_of(const DeviceRows& shape) { return blocks_for(shape.units << shape.log2_team); }

template <class T>
bool rows_are_aligned(int64_t columns, std::initializer_list<const void*> pointers) {
  return columns % kPack<T> == 0 && std::all_of(pointers.begin(), pointers.end(), is_aligned);
}

template <class Real>
__global__ void FASTVAE_LAUNCH_BOUNDS add_segments_kernel(const Real* partial, int64_t rows, int64_t segments, int log2_team, Real* out) {
  add_segments_body(DeviceGrid{}, partial, rows, segments, log2_team, out);
}

template <class Real>
__global__ void FASTVAE_LAUNCH_BOUNDS add_blocks_kernel(const Real* partial, int64_t blocks, int64_t columns, Real* out) {
  add_blocks_body(DeviceGrid{}, partial, blocks, columns, out);
}

// The memory of the segments' sums: `sums` itself if each row is one segment.
inline Tensor partial_rows(const Tensor& like, const DeviceRows& shape, const Tensor& sums) {
  return shape.segments == 1 ? sums : empty_on(like, {shape.rows, shape.segments}, sums.scalar_type());
}

template <class Real>
void add_segments(const Tensor& partial, const DeviceRows& shape, const Tensor& sums, cudaStream_t queue) {
  if (shape.segments == 1) return;
  const int log2_team = log2_of_segments(shape.segments);
  add_segments_kernel<<<blocks_for(shape.rows << log2_team), kThreadsPerBlock, 0, queue>>>(
      static_cast<const Real*>(pointer(partial)), shape.rows, shape.segments, log2_team, static_cast<Real*>(pointer(sums)));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

// sums [columns] of partial [blocks, columns], level by level of the tree; there is at least one block.
template <class Real>
void add_blocks(Tensor partial, int64_t blocks, int64_t columns, const Tensor& sums, cudaStream_t queue) {
  for (bool last = columns == 0; !last; blocks = groups_of(blocks)) {
    const int64_t groups = groups_of(blocks);
    last = groups == 1;
    Tensor out = last ? sums : empty_on(partial, {groups, columns}, partial.scalar_type());
    add_blocks_kernel<<<blocks_for(groups * columns), kThreadsPerBlock, 0, queue>>>(static_cast<const Real*>(pointer(partial)), blocks, columns,
                                                                                    static_cast<Real*>(pointer(out)));
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    partial = out;
  }
}

// A gradient like x, or an empty tensor if it is not needed.
inline Tensor empty_gradient(const Tensor& x, bool needed) {
  return needed ? empty_contiguous_like(x) : empty_on(x, {0}, x.scalar_type());
}

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
