// gaussian_rsample_kl and its backward on CUDA.
#include "gaussian_rsample_kl/cuda_body.h"

#include <tuple>

#include "common/cuda/launch.h"

namespace fastvae {
namespace {

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS forward_kernel(GaussianForwardArguments<Cuda<T>> arguments) {
  gaussian_rsample_kl_body<kAligned>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS backward_kernel(GaussianBackwardArguments<Cuda<T>> arguments) {
  gaussian_rsample_kl_backward_body<kAligned>(DeviceGrid{}, arguments);
}

std::tuple<Tensor, Tensor> gaussian_rsample_kl(Tensor mu, Tensor logvar, Tensor key, int64_t stream) {
  const Matrix matrix = check_gaussian("gaussian_rsample_kl", mu, logvar, key, stream);
  const torch::stable::accelerator::DeviceGuard guard(mu.get_device_index());
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  key = as_contiguous(key);
  Tensor z = empty_contiguous_like(mu);
  Tensor kl = empty_on(mu, {matrix.rows}, sum_type(mu.scalar_type()));
  if (matrix.rows == 0) return {z, kl};
  with_storage(mu, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename Compute<T>::Real;
    const cudaStream_t queue = current_stream(mu);
    const DeviceRows shape = share_rows<T>(matrix.rows, matrix.columns);
    Tensor partial = partial_rows(mu, shape, kl);
    const GaussianForwardArguments<Cuda<T>> arguments{device_key(key, stream), shape, static_cast<const T*>(pointer(mu)), static_cast<const T*>(pointer(logvar)),
                                                static_cast<T*>(pointer(z)), static_cast<Real*>(pointer(partial))};
    const bool aligned = rows_are_aligned<T>(matrix.columns, {arguments.mu, arguments.logvar, arguments.z});
    (aligned ? forward_kernel<true, T> : forward_kernel<false, T>)<<<blocks_of(shape), kThreadsPerBlock, 0, queue>>>(arguments);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    add_segments<Real>(partial, shape, kl, queue);
  });
  return {z, kl};
}

std::tuple<Tensor, Tensor> gaussian_rsample_kl_backward(std::optional<Tensor> grad_z, std::optional<Tensor> grad_kl, Tensor mu,
                                                        Tensor logvar, Tensor key, int64_t stream, bool need_mu, bool need_logvar) {
  const char* where = "gaussian_rsample_kl_backward";
  const Matrix matrix = check_gaussian(where, mu, logvar, key, stream);
  check_gradients(where, grad_z, grad_kl, mu);
  const torch::stable::accelerator::DeviceGuard guard(mu.get_device_index());
  grad_z = as_contiguous(grad_z);
  grad_kl = as_contiguous(grad_kl);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  key = as_contiguous(key);
  Tensor grad_mu = empty_gradient(mu, need_mu), grad_logvar = empty_gradient(mu, need_logvar);
  if (matrix.rows * matrix.columns == 0) return {grad_mu, grad_logvar};
  with_storage(mu, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename Compute<T>::Real;
    const DeviceRows shape = share_rows<T>(matrix.rows, matrix.columns);
    const GaussianBackwardArguments<Cuda<T>> arguments{
        device_key(key, stream),
        shape,
        static_cast<const T*>(pointer(grad_z)),
        static_cast<const Real*>(pointer(grad_kl)),
        static_cast<const T*>(pointer(mu)),
        static_cast<const T*>(pointer(logvar)),
        static_cast<T*>(pointer(grad_mu)),
        static_cast<T*>(pointer(grad_logvar)),
    };
    const bool aligned = rows_are_aligned<T>(
        matrix.columns, {arguments.grad_z, arguments.mu, arguments.logvar, arguments.grad_mu, arguments.grad_logvar});
    (aligned ? backward_kernel<true, T> : backward_kernel<false, T>)<<<blocks_of(shape), kThreadsPerBlock, 0, current_stream(mu)>>>(
        arguments);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("gaussian_rsample_kl", TORCH_BOX(&gaussian_rsample_kl));
  m.impl("gaussian_rsample_kl_backward", TORCH_BOX(&gaussian_rsample_kl_backward));
}

}  // namespace fastvae
