// The likelihood operators on CUDA: from tensors to kernels.
#pragma once

#include <tuple>
#include <type_traits>

#include "common/cuda/launch.h"
#include "common/cuda/likelihood_body.h"
#include "common/likelihood_checks.h"

namespace fastvae {

template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula>
__global__ void FASTVAE_LAUNCH_BOUNDS likelihood_kernel(DeviceLikelihood arguments) {
  likelihood_body<kAligned, T, kTarget, Formula>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula>
__global__ void FASTVAE_LAUNCH_BOUNDS likelihood_backward_kernel(DeviceLikelihood arguments) {
  likelihood_backward_body<kAligned, T, kTarget, Formula>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula>
__global__ void FASTVAE_LAUNCH_BOUNDS likelihood_columns_kernel(DeviceLikelihood arguments) {
  likelihood_columns_body<kAligned, T, kTarget, Formula>(DeviceGrid{}, arguments);
}

// Call run(aligned, kind of target), both as types.
template <class T, template <class, class> class Formula, class Run>
void with_target_of(const DeviceLikelihood& a, bool aligned, Run&& run) {
  using Math = scalar::PackFormula<T, typename Compute<T>::Real, Formula>;
  with_target<T, Math::kIsShort, Math::kTakesBytes>(a.target_storage, aligned, run);
}

// Whether all tensors can be loaded and stored a pack at a time.
template <class T>
bool packs_fit(const DeviceLikelihood& a) {
  const bool beside = packs_are_aligned<T>(a.target, size_of(a.target_storage)) && packs_are_aligned<T>(a.mask, 1) &&
                      (a.spread == kNone || a.spread == kScalar || packs_are_aligned<T>(a.parameter, size_of(a.parameter_storage)));
  return beside && rows_are_aligned<T>(a.shape.columns, {a.output, a.grad_output, a.grad_parameter});
}

template <template <class, class> class Formula>
Tensor likelihood_forward(const char* where, LikelihoodInput in, int64_t num_levels = 0, Storage byte = kByte) {
  const torch::stable::accelerator::DeviceGuard guard(in.output.get_device_index());
  LikelihoodShape shape;
  DeviceLikelihood a = likelihood_arguments<Cuda<void>>(where, in, num_levels, byte, shape);
  Tensor nll = empty_rows(in.output, shape);
  if (shape.rows == 0) return nll;
  with_storage(in.output, [&](auto storage) {
    using T = decltype(storage);
    const cudaStream_t queue = current_stream(in.output);
    a.shape = share_rows<T>(shape.rows, shape.columns);
    Tensor partial = partial_rows(in.output, a.shape, nll);
    a.sums = pointer(partial);
    with_target_of<T, Formula>(a, packs_fit<T>(a), [&](auto aligned, auto target) {
      likelihood_kernel<decltype(aligned)::value, T, decltype(target)::value, Formula><<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
    add_segments<typename Compute<T>::Real>(partial, a.shape, nll, queue);
  });
  return nll;
}

// The gradients if all rows share the parameter.
template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula>
void shared_parameter_gradient(DeviceLikelihood& a, Tensor& grad_parameter, cudaStream_t queue) {
  using Real = typename Compute<T>::Real;
  const int64_t columns = a.shape.columns, blocks = row_blocks(a.shape.rows);
  const ScalarType real = std::is_same_v<Real, double> ? ScalarType::Double : ScalarType::Float;
  Tensor partial = empty_on(grad_parameter, {blocks, columns}, real), sums = empty_on(grad_parameter, {columns}, real);
  a.grad_parameter_by_column = pointer(partial);
  likelihood_columns_kernel<kAligned, T, kTarget, Formula><<<blocks_for(blocks * packs_of<T>(columns)), kThreadsPerBlock, 0, queue>>>(a);
  STD_CUDA_KERNEL_LAUNCH_CHECK();
  add_blocks<Real>(partial, blocks, columns, sums, queue);
  if (a.spread == kScalar) {
    Tensor all = empty_on(grad_parameter, {1}, real);
    add_blocks<Real>(sums, columns, 1, all, queue);
    sums = all;
  }
  torch::stable::copy_(grad_parameter, torch::stable::view(sums, grad_parameter.sizes()));
}

// (grad_output, grad_parameter), each empty if it is not needed.
template <template <class, class> class Formula>
std::tuple<Tensor, Tensor> likelihood_gradient(const char* where, Tensor grad_nll, LikelihoodInput in, int64_t num_levels, Storage byte,
                                               bool need_output, bool need_parameter) {
  const torch::stable::accelerator::DeviceGuard guard(in.output.get_device_index());
  LikelihoodShape shape;
  DeviceLikelihood a = likelihood_arguments<Cuda<void>>(where, in, num_levels, byte, shape);
  check_grad_rows(where, grad_nll, in.output, shape);
  grad_nll = as_contiguous(grad_nll);
  a.grad_nll = pointer(grad_nll);
  Tensor grad_output = empty_gradient(in.output, need_output);
  a.grad_output = pointer(grad_output);
  Tensor grad_parameter = empty_gradient(in.parameter ? *in.parameter : in.output, need_parameter);
  const bool summed = need_parameter && a.spread != kFull;
  if (need_parameter && a.spread == kFull) a.grad_parameter = pointer(grad_parameter);
  if (summed && shape.rows * shape.columns == 0) torch::stable::fill_(grad_parameter, 0.0);
  if (shape.rows * shape.columns == 0) return {grad_output, grad_parameter};
  with_storage(in.output, [&](auto storage) {
    using T = decltype(storage);
    const cudaStream_t queue = current_stream(in.output);
    a.shape = share_rows<T>(shape.rows, shape.columns);
    with_target_of<T, Formula>(a, packs_fit<T>(a), [&](auto aligned, auto target) {
      constexpr bool kAligned = decltype(aligned)::value;
      constexpr TargetKind kTarget = decltype(target)::value;
      if constexpr (Formula<float, float>::kHasParameter) {
        if (summed) return shared_parameter_gradient<kAligned, T, kTarget, Formula>(a, grad_parameter, queue);
      }
      likelihood_backward_kernel<kAligned, T, kTarget, Formula><<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
      STD_CUDA_KERNEL_LAUNCH_CHECK();
    });
  });
  return {grad_output, grad_parameter};
}

}  // namespace fastvae
