// gaussian_rsample_kl and its backward on the CPU: arguments in, kernel, tensors out.
#include <algorithm>
#include <tuple>
#include <vector>

#include "common/cpu/launch.h"

namespace fastvae {
namespace {

std::tuple<Tensor, Tensor> gaussian_rsample_kl(Tensor mu, Tensor logvar, Tensor key, int64_t stream) {
  const auto [rows, columns] = check_gaussian("gaussian_rsample_kl", mu, logvar, key, stream);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  Tensor z = with_huge_pages(empty_contiguous_like(mu));
  Tensor kl = empty_on(mu, {rows}, sum_type(mu.scalar_type()));
  const int64_t segments = segments_of(columns);
  std::vector<double> partial(rows * segments);
  const GaussianForward arguments{read_key(key, stream), {rows, columns, segments}, pointer(mu), pointer(logvar), pointer(z), partial.data()};
  run_parallel(kernels().gaussian_rsample_kl[dtype_of(mu)], arguments, rows * segments, std::min(columns, kSegment));
  add_segments(partial, rows, segments, kl);
  return {z, kl};
}

std::tuple<Tensor, Tensor> gaussian_rsample_kl_backward(std::optional<Tensor> grad_z, std::optional<Tensor> grad_kl, Tensor mu,
                                                        Tensor logvar, Tensor key, int64_t stream, bool need_mu, bool need_logvar) {
  const char* where = "gaussian_rsample_kl_backward";
  const auto [rows, columns] = check_gaussian(where, mu, logvar, key, stream);
  check_gradients(where, grad_z, grad_kl, mu);
  grad_z = as_contiguous(grad_z);
  grad_kl = as_contiguous(grad_kl);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  Tensor grad_mu = empty_gradient(mu, need_mu), grad_logvar = empty_gradient(mu, need_logvar);
  if (rows * columns == 0) return {grad_mu, grad_logvar};
  const int64_t segments = segments_of(columns);
  const GaussianBackward arguments{read_key(key, stream), {rows, columns, segments}, pointer(grad_z), pointer(grad_kl), pointer(mu),
                                   pointer(logvar),       pointer(grad_mu),          pointer(grad_logvar)};
  run_parallel(kernels().gaussian_rsample_kl_backward[dtype_of(mu)], arguments, rows * segments, std::min(columns, kSegment));
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("gaussian_rsample_kl", TORCH_BOX(&gaussian_rsample_kl));
  m.impl("gaussian_rsample_kl_backward", TORCH_BOX(&gaussian_rsample_kl_backward));
}

}  // namespace fastvae
