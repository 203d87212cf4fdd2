// multinomial_nll, of dense counts and of compressed rows, and its backward on CUDA.
#include "multinomial_nll/cuda_body.h"

#include "common/cuda/launch.h"
#include "multinomial_nll/operators.h"

namespace fastvae {
namespace {

template <bool kAligned, class T, TargetKind kCounts>
__global__ void FASTVAE_LAUNCH_BOUNDS pieces_kernel(DeviceMultinomial arguments) {
  multinomial_pieces_body<kAligned, T, kCounts>(DeviceGrid{}, arguments);
}

template <class T>
__global__ void FASTVAE_LAUNCH_BOUNDS rows_kernel(DeviceMultinomial arguments) {
  multinomial_rows_body<T>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T, TargetKind kCounts>
__global__ void FASTVAE_LAUNCH_BOUNDS backward_kernel(DeviceMultinomial arguments) {
  multinomial_backward_body<kAligned, T, kCounts>(DeviceGrid{}, arguments);
}

template <class T>
__global__ void FASTVAE_LAUNCH_BOUNDS compressed_backward_kernel(DeviceMultinomial arguments) {
  multinomial_compressed_backward_body<T>(DeviceGrid{}, arguments);
}

// Call run(aligned, kind of counts), both as types.
template <class T, class Run>
void with_counts(const DeviceMultinomial& a, Run&& run) {
  const bool aligned = rows_are_aligned<T>(a.shape.columns, {a.logits, a.grad_logits});
  if (aligned && !a.counts) return run(std::true_type{}, std::integral_constant<TargetKind, kNoTarget>{});
  with_target<T, true, true>(a.counts_storage, aligned && packs_are_aligned<T>(a.counts, size_of(a.counts_storage)), run);
}

// The kernels never read out of range, even with invalid indices: the host does not synchronise to check them.
struct OnCuda {
  static std::tuple<Tensor, Tensor, Tensor> forward(const char* where, Tensor logits, Counts counts) {
    const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
    LikelihoodShape shape;
    DeviceMultinomial a = multinomial_arguments<Cuda<void>>(where, logits, counts, shape);
    Tensor nll = empty_rows(logits, shape), logsumexp = empty_rows(logits, shape), total = empty_rows(logits, shape);
    if (shape.rows == 0) return {nll, logsumexp, total};
    a.nll = pointer(nll);
    a.logsumexp = pointer(logsumexp);
    a.total = pointer(total);
    with_storage(logits, [&](auto storage) {
      using T = decltype(storage);
      const cudaStream_t queue = current_stream(logits);
      a.shape = share_rows<T>(shape.rows, shape.columns);
      Tensor pieces = empty_on(logits, {shape.rows, a.shape.segments, 4}, sum_type(logits.scalar_type()));
      a.pieces = pointer(pieces);
      with_counts<T>(a, [&](auto aligned, auto kind) {
        pieces_kernel<decltype(aligned)::value, T, decltype(kind)::value><<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
        STD_CUDA_KERNEL_LAUNCH_CHECK();
      });
      rows_kernel<T><<<blocks_for(shape.rows * kWarp), kThreadsPerBlock, 0, queue>>>(a);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
    return {nll, logsumexp, total};
  }

  static Tensor backward(const char* where, Tensor grad_nll, Tensor logits, Counts counts, Tensor logsumexp, Tensor total) {
    const torch::stable::accelerator::DeviceGuard guard(logits.get_device_index());
    LikelihoodShape shape;
    DeviceMultinomial a = multinomial_arguments<Cuda<void>>(where, logits, counts, shape);
    check_rows(where, grad_nll, logsumexp, total, logits, shape);
    Tensor grad_logits = empty_contiguous_like(logits);
    if (shape.rows * shape.columns == 0) return grad_logits;
    a.grad_nll = pointer(grad_nll);
    a.logsumexp = pointer(logsumexp);
    a.total = pointer(total);
    a.grad_logits = pointer(grad_logits);
    with_storage(logits, [&](auto storage) {
      using T = decltype(storage);
      const cudaStream_t queue = current_stream(logits);
      a.shape = share_rows<T>(shape.rows, shape.columns);
      with_counts<T>(a, [&](auto aligned, auto kind) {
        backward_kernel<decltype(aligned)::value, T, decltype(kind)::value><<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
        STD_CUDA_KERNEL_LAUNCH_CHECK();
      });
      if (a.counts || a.nonzeros == 0) return;
      compressed_backward_kernel<T><<<blocks_for(shape.rows * kWarp), kThreadsPerBlock, 0, queue>>>(a);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
    return grad_logits;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) { MultinomialOperators<OnCuda>::add_to(m); }

}  // namespace fastvae
