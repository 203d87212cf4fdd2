// gaussian_rsample_kl with a learned prior and other reductions, and its backward, on the CPU.
#include <algorithm>
#include <tuple>
#include <vector>

#include "common/cpu/launch.h"

namespace fastvae {
namespace {

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
  const GaussianFull arguments{read_key(key, stream),
                               rows,
                               columns,
                               segments,
                               pointer(mu),
                               pointer(logvar),
                               pointer(prior_mu),
                               pointer(prior_logvar),
                               pointer(z),
                               reduction == 0 ? pointer(kl) : nullptr,
                               by_row ? partial.data() : nullptr,
                               by_column ? pointer(partial_columns) : nullptr};
  run_parallel(kernels().gaussian_rsample_kl_full[dtype_of(mu)], arguments, blocks * segments, std::min(columns, kSegment) * kRowBlock);
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
  const GaussianFullBackward arguments{
      read_key(key, stream), rows, columns, segments, pointer(grad_z), reduction == 0 ? pointer(grad_kl) : nullptr,
      reduction == 0 ? nullptr : pointer(grad_kl), pointer(grad_columns), pointer(mu), pointer(logvar), pointer(prior_mu),
      pointer(prior_logvar), pointer(grads[0]), pointer(grads[1]), pointer(grads[2]), pointer(grads[3])};
  run_parallel(kernels().gaussian_rsample_kl_full_backward[dtype_of(mu)], arguments, columns ? rows * segments : 0,
               std::min(columns, kSegment));
  return {grads[0], grads[1], grads[2], grads[3]};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("gaussian_rsample_kl_full", TORCH_BOX(&gaussian_rsample_kl_full));
  m.impl("gaussian_rsample_kl_full_backward", TORCH_BOX(&gaussian_rsample_kl_full_backward));
}

}  // namespace fastvae
