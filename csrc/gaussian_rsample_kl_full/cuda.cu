// gaussian_rsample_kl with a learned prior and other reductions, and its backward, on CUDA.
#include "gaussian_rsample_kl_full/cuda_body.h"

#include <tuple>

#include "common/cuda/launch.h"

namespace fastvae {
namespace {

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS forward_kernel(DeviceFull<T> arguments) {
  full_body<kAligned>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS columns_kernel(DeviceFull<T> arguments) {
  full_columns_body<kAligned>(DeviceGrid{}, arguments);
}

template <bool kAligned, class T>
__global__ void FASTVAE_LAUNCH_BOUNDS backward_kernel(DeviceFull<T> arguments) {
  full_backward_body<kAligned>(DeviceGrid{}, arguments);
}

// The operators' tensors, contiguous; they must outlive the arguments that point at them.
struct FullInput {
  Tensor mu, logvar, key;
  std::optional<Tensor> prior_mu, prior_logvar;

  void make_contiguous() {
    mu = as_contiguous(mu);
    logvar = as_contiguous(logvar);
    key = as_contiguous(key);
    prior_mu = as_contiguous(prior_mu);
    prior_logvar = as_contiguous(prior_logvar);
  }
};

template <class T>
DeviceFull<T> arguments_of(const FullInput& in, const Matrix& matrix, int64_t stream) {
  DeviceFull<T> a{};
  a.key = device_key(in.key, stream);
  a.shape = share_rows<T>(matrix.rows, matrix.columns);
  a.mu = static_cast<const T*>(pointer(in.mu));
  a.logvar = static_cast<const T*>(pointer(in.logvar));
  a.prior_mu = static_cast<const T*>(pointer(in.prior_mu));
  a.prior_logvar = static_cast<const T*>(pointer(in.prior_logvar));
  return a;
}

std::tuple<Tensor, Tensor, Tensor> gaussian_rsample_kl_full(Tensor mu, Tensor logvar, std::optional<Tensor> prior_mu,
                                                            std::optional<Tensor> prior_logvar, Tensor key, int64_t stream,
                                                            int64_t reduction) {
  const char* where = "gaussian_rsample_kl_full";
  const Matrix matrix = check_gaussian(where, mu, logvar, key, stream);
  check_prior(where, prior_mu, prior_logvar, mu);
  const torch::stable::accelerator::DeviceGuard guard(mu.get_device_index());
  FullInput in{mu, logvar, key, prior_mu, prior_logvar};
  in.make_contiguous();
  const ScalarType real = sum_type(mu.scalar_type());
  const bool by_row = reduction & 1, by_column = reduction & 2;
  const int64_t blocks = (matrix.rows + kDeviceRowBlock - 1) / kDeviceRowBlock;
  Tensor z = empty_contiguous_like(mu);
  Tensor kl = reduction == 0 ? empty_on(mu, mu.sizes(), real) : empty_on(mu, {by_row ? matrix.rows : 0}, real);
  Tensor kl_columns = empty_on(mu, {by_column ? matrix.columns : 0}, real);
  if (matrix.rows * matrix.columns == 0) {
    torch::stable::fill_(kl, 0.0);
    torch::stable::fill_(kl_columns, 0.0);
    return {z, kl, kl_columns};
  }
  with_storage(mu, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename Compute<T>::Real;
    const cudaStream_t queue = current_stream(mu);
    DeviceFull<T> a = arguments_of<T>(in, matrix, stream);
    a.z = static_cast<T*>(pointer(z));
    Tensor partial = by_row ? partial_rows(mu, a.shape, kl) : kl;
    (reduction == 0 ? a.kl_elements : a.kl_rows) = by_row || reduction == 0 ? static_cast<Real*>(pointer(partial)) : nullptr;
    const bool aligned = rows_are_aligned<T>(matrix.columns, {a.mu, a.logvar, a.prior_mu, a.prior_logvar, a.z});
    (aligned ? forward_kernel<true, T> : forward_kernel<false, T>)<<<blocks_of(a.shape), kThreadsPerBlock, 0, queue>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    if (by_row) add_segments<Real>(partial, a.shape, kl, queue);
    if (!by_column) return;
    Tensor by_block = empty_on(mu, {blocks, matrix.columns}, real);
    a.kl_columns = static_cast<Real*>(pointer(by_block));
    const unsigned grid = blocks_for(blocks * packs_of<T>(matrix.columns));
    (aligned ? columns_kernel<true, T> : columns_kernel<false, T>)<<<grid, kThreadsPerBlock, 0, queue>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
    add_blocks<Real>(by_block, blocks, matrix.columns, kl_columns, queue);
  });
  return {z, kl, kl_columns};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gaussian_rsample_kl_full_backward(
    std::optional<Tensor> grad_z, std::optional<Tensor> grad_kl, std::optional<Tensor> grad_columns, Tensor mu, Tensor logvar,
    std::optional<Tensor> prior_mu, std::optional<Tensor> prior_logvar, Tensor key, int64_t stream, int64_t reduction, bool need_mu,
    bool need_logvar, bool need_prior_mu, bool need_prior_logvar) {
  const char* where = "gaussian_rsample_kl_full_backward";
  const Matrix matrix = check_gaussian(where, mu, logvar, key, stream);
  check_prior(where, prior_mu, prior_logvar, mu);
  if (!(reduction & 2)) grad_columns = std::nullopt;
  if (reduction == 2) grad_kl = std::nullopt;
  check_full_gradients(where, grad_z, grad_kl, grad_columns, mu, reduction == 0 ? matrix.rows * matrix.columns : matrix.rows, matrix.columns);
  const torch::stable::accelerator::DeviceGuard guard(mu.get_device_index());
  FullInput in{mu, logvar, key, prior_mu, prior_logvar};
  in.make_contiguous();
  grad_z = as_contiguous(grad_z);
  grad_kl = as_contiguous(grad_kl);
  grad_columns = as_contiguous(grad_columns);
  Tensor grads[] = {empty_gradient(mu, need_mu), empty_gradient(mu, need_logvar), empty_gradient(mu, need_prior_mu),
                    empty_gradient(mu, need_prior_logvar)};
  if (matrix.rows * matrix.columns == 0) return {grads[0], grads[1], grads[2], grads[3]};
  with_storage(mu, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename Compute<T>::Real;
    DeviceFull<T> a = arguments_of<T>(in, matrix, stream);
    a.grad_z = static_cast<const T*>(pointer(grad_z));
    (reduction == 0 ? a.grad_elements : a.grad_rows) = static_cast<const Real*>(pointer(grad_kl));
    a.grad_columns = static_cast<const Real*>(pointer(grad_columns));
    for (int g = 0; g < kFullGradients; ++g) a.grads[g] = static_cast<T*>(pointer(grads[g]));
    const bool aligned = rows_are_aligned<T>(matrix.columns, {a.mu, a.logvar, a.prior_mu, a.prior_logvar, a.grad_z, a.grads[0], a.grads[1],
                                                              a.grads[2], a.grads[3]});
    const unsigned blocks = blocks_for(matrix.rows * packs_of<T>(matrix.columns));
    (aligned ? backward_kernel<true, T> : backward_kernel<false, T>)<<<blocks, kThreadsPerBlock, 0, current_stream(mu)>>>(a);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  });
  return {grads[0], grads[1], grads[2], grads[3]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("gaussian_rsample_kl_full", TORCH_BOX(&gaussian_rsample_kl_full));
  m.impl("gaussian_rsample_kl_full_backward", TORCH_BOX(&gaussian_rsample_kl_full_backward));
}

}  // namespace fastvae
