// gaussian_rsample_kl with a learned prior and other reductions, and its backward, on the CPU.
#include <algorithm>
#include <tuple>
#include <vector>

#include "common/cpu/launch.h"

namespace fastvae {
namespace {

GaussianFull arguments_of(const Tensor& mu, const Tensor& logvar, const std::optional<Tensor>& prior_mu,
                          const std::optional<Tensor>& prior_logvar, const Tensor& key, int64_t stream, const CpuRows& shape) {
  GaussianFull a{};
  a.key = read_key(key, stream);
  a.shape = shape;
  a.mu = pointer(mu);
  a.logvar = pointer(logvar);
  a.prior_mu = pointer(prior_mu);
  a.prior_logvar = pointer(prior_logvar);
  return a;
}

std::tuple<Tensor, Tensor, Tensor> gaussian_rsample_kl_full(Tensor mu, Tensor logvar, std::optional<Tensor> prior_mu,
                                                            std::optional<Tensor> prior_logvar, Tensor key, int64_t stream,
                                                            int64_t reduction) {
  const char* where = "gaussian_rsample_kl_full";
  const auto [rows, columns] = check_gaussian(where, mu, logvar, key, stream);
  check_prior(where, prior_mu, prior_logvar, mu);
  prior_mu = as_contiguous(prior_mu);
  prior_logvar = as_contiguous(prior_logvar);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  const ScalarType real = sum_type(mu.scalar_type());
  const int64_t segments = segments_of(columns), blocks = (rows + kRowBlock - 1) / kRowBlock;
  const bool by_row = reduction & 1, by_column = reduction & 2;
  Tensor z = with_huge_pages(empty_contiguous_like(mu));
  Tensor kl = reduction == 0 ? empty_on(mu, mu.sizes(), real) : empty_on(mu, {by_row ? rows : 0}, real);
  Tensor kl_columns = empty_on(mu, {by_column ? columns : 0}, real);
  Tensor partial_columns = empty_on(mu, {by_column ? blocks : 0, columns}, real);
  std::vector<double> partial(by_row ? rows * segments : 0);
  GaussianFull a = arguments_of(mu, logvar, prior_mu, prior_logvar, key, stream, {rows, columns, segments});
  a.z = pointer(z);
  a.kl_elements = reduction == 0 ? pointer(kl) : nullptr;
  a.kl_rows = by_row ? partial.data() : nullptr;
  a.kl_columns = by_column ? pointer(partial_columns) : nullptr;
  run_parallel(kernels().gaussian_rsample_kl_full[dtype_of(mu)], a, blocks * segments, std::min(columns, kSegment) * kRowBlock);
  if (by_row) add_segments(partial, rows, segments, kl);
  if (by_column) add_blocks(partial_columns, blocks, columns, kl_columns);
  return {z, kl, kl_columns};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> gaussian_rsample_kl_full_backward(
    std::optional<Tensor> grad_z, std::optional<Tensor> grad_kl, std::optional<Tensor> grad_columns, Tensor mu, Tensor logvar,
    std::optional<Tensor> prior_mu, std::optional<Tensor> prior_logvar, Tensor key, int64_t stream, int64_t reduction, bool need_mu,
    bool need_logvar, bool need_prior_mu, bool need_prior_logvar) {
  const char* where = "gaussian_rsample_kl_full_backward";
  const auto [rows, columns] = check_gaussian(where, mu, logvar, key, stream);
  check_prior(where, prior_mu, prior_logvar, mu);
  prior_mu = as_contiguous(prior_mu);
  prior_logvar = as_contiguous(prior_logvar);
  if (!(reduction & 2)) grad_columns = std::nullopt;
  if (reduction == 2) grad_kl = std::nullopt;
  check_full_gradients(where, grad_z, grad_kl, grad_columns, mu, reduction == 0 ? rows * columns : rows, columns);
  grad_z = as_contiguous(grad_z);
  grad_kl = as_contiguous(grad_kl);
  grad_columns = as_contiguous(grad_columns);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  Tensor grads[] = {empty_gradient(mu, need_mu), empty_gradient(mu, need_logvar), empty_gradient(mu, need_prior_mu),
                    empty_gradient(mu, need_prior_logvar)};
  const int64_t segments = segments_of(columns);
  GaussianFull a = arguments_of(mu, logvar, prior_mu, prior_logvar, key, stream, {rows, columns, segments});
  a.grad_z = pointer(grad_z);
  (reduction == 0 ? a.grad_elements : a.grad_rows) = pointer(grad_kl);
  a.grad_columns = pointer(grad_columns);
  for (int g = 0; g < kFullGradients; ++g) a.grads[g] = pointer(grads[g]);
  run_parallel(kernels().gaussian_rsample_kl_full_backward[dtype_of(mu)], a, columns ? rows * segments : 0,
               std::min(columns, kSegment));
  return {grads[0], grads[1], grads[2], grads[3]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("gaussian_rsample_kl_full", TORCH_BOX(&gaussian_rsample_kl_full));
  m.impl("gaussian_rsample_kl_full_backward", TORCH_BOX(&gaussian_rsample_kl_full_backward));
}

}  // namespace fastvae
