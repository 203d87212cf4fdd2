// gaussian_rsample_log_ratio and its backward on CUDA.
#include "gaussian_rsample_log_ratio/cuda_body.h"

#include <tuple>

#include "common/cuda/launch.h"

namespace fastvae {
namespace {

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS forward_kernel(DeviceLogRatio<T> arguments) {
  log_ratio_body<kAligned>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS backward_kernel(DeviceLogRatio<T> arguments) {
  log_ratio_backward_body<kAligned>(DeviceGrid{}, arguments);
}

std::tuple<Tensor, Tensor> gaussian_rsample_log_ratio(Tensor mu, Tensor logvar, Tensor key, int64_t num_samples, int64_t stream,
                                                      int64_t first_sample) {
  const char* where = "gaussian_rsample_log_ratio";
  const Matrix matrix = check_gaussian(where, mu, logvar, key, stream + first_sample);
  check_samples(where, num_samples, first_sample);
  const torch::stable::accelerator::DeviceGuard guard(mu.get_device_index());
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  key = as_contiguous(key);
  Tensor z = empty_samples_like(mu, num_samples);
  Tensor log_ratio = empty_on(mu, {num_samples, matrix.rows}, sum_type(mu.scalar_type()));
  if (num_samples * matrix.rows == 0) return {z, log_ratio};
  with_storage(mu, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename Compute<T>::Real;
    const cudaStream_t queue = current_stream(mu);
    DeviceLogRatio<T> a{};
    a.key = device_key(key, stream + first_sample);
    a.shape = share_rows<T>(matrix.rows, matrix.columns);
    a.samples = num_samples;
    a.mu = static_cast<const T*>(pointer(mu));
    a.logvar = static_cast<const T*>(pointer(logvar));
    a.z = static_cast<T*>(pointer(z));
    DeviceRows all = a.shape;  // of all samples
    all.rows *= num_samples;
    all.units *= num_samples;
    Tensor partial = partial_rows(mu, all, log_ratio);
    a.log_ratio = static_cast<Real*>(pointer(partial));
    const bool aligned = rows_are_aligned<T>(matrix.columns, {a.mu, a.logvar, a.z});
    const unsigned blocks = blocks_for((a.shape.units * ((num_samples + kDeviceSamples - 1) / kDeviceSamples)) << a.shape.log2_team);
    (aligned ? forward_kernel<true, T> : forward_kernel<false, T>)<<<blocks, kThreadsPerBlock, 0, queue>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    add_segments<Real>(partial, all, log_ratio, queue);
  });
  return {z, log_ratio};
}

std::tuple<Tensor, Tensor> gaussian_rsample_log_ratio_backward(std::optional<Tensor> grad_z, std::optional<Tensor> grad_log_ratio, Tensor mu,
                                                               Tensor logvar, Tensor key, int64_t num_samples, int64_t stream,
                                                               int64_t first_sample, bool need_mu, bool need_logvar) {
  const char* where = "gaussian_rsample_log_ratio_backward";
  const Matrix matrix = check_gaussian(where, mu, logvar, key, stream + first_sample);
  check_samples(where, num_samples, first_sample);
  check_sample_gradients(where, grad_z, grad_log_ratio, mu, num_samples);
  const torch::stable::accelerator::DeviceGuard guard(mu.get_device_index());
  grad_z = as_contiguous(grad_z);
  grad_log_ratio = as_contiguous(grad_log_ratio);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  key = as_contiguous(key);
  Tensor grad_mu = empty_gradient(mu, need_mu), grad_logvar = empty_gradient(mu, need_logvar);
  if (matrix.rows * matrix.columns == 0) return {grad_mu, grad_logvar};
  with_storage(mu, [&](auto storage) {
    using T = decltype(storage);
    DeviceLogRatio<T> a{};
    a.key = device_key(key, stream + first_sample);
    a.shape = share_rows<T>(matrix.rows, matrix.columns);
    a.samples = num_samples;
    a.mu = static_cast<const T*>(pointer(mu));
    a.logvar = static_cast<const T*>(pointer(logvar));
    a.grad_z = static_cast<const T*>(pointer(grad_z));
    a.grad_log_ratio = static_cast<const typename Compute<T>::Real*>(pointer(grad_log_ratio));
    a.grad_mu = static_cast<T*>(pointer(grad_mu));
    a.grad_logvar = static_cast<T*>(pointer(grad_logvar));
    const bool aligned = rows_are_aligned<T>(matrix.columns, {a.mu, a.logvar, a.grad_z, a.grad_mu, a.grad_logvar});
    const unsigned blocks = blocks_for(matrix.rows * packs_of<T>(matrix.columns));
    (aligned ? backward_kernel<true, T> : backward_kernel<false, T>)<<<blocks, kThreadsPerBlock, 0, current_stream(mu)>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("gaussian_rsample_log_ratio", TORCH_BOX(&gaussian_rsample_log_ratio));
  m.impl("gaussian_rsample_log_ratio_backward", TORCH_BOX(&gaussian_rsample_log_ratio_backward));
}

}  // namespace fastvae
