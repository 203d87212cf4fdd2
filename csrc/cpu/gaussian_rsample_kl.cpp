// gaussian_rsample_kl and its backward on the CPU: arguments in, kernel, tensors out.
#include <algorithm>
#include <tuple>
#include <vector>

#include "cpu/launch.h"

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
  const GaussianForward arguments{read_key(key, stream), columns,    segments,      pointer(mu),
                                  pointer(logvar),       pointer(z), partial.data()};
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
  const GaussianBackward arguments{read_key(key, stream), columns,     segments,         pointer(grad_z),     pointer(grad_kl),
                                   pointer(mu),           pointer(logvar), pointer(grad_mu), pointer(grad_logvar)};
  run_parallel(kernels().gaussian_rsample_kl_backward[dtype_of(mu)], arguments, rows * segments, std::min(columns, kSegment));
  return {grad_mu, grad_logvar};
}

// The prior: both of its tensors, like mu, or none.
void check_prior(const char* where, std::optional<Tensor>& prior_mu, std::optional<Tensor>& prior_logvar, const Tensor& mu) {
  STD_TORCH_CHECK(prior_mu.has_value() == prior_logvar.has_value(), where, ": give prior_mu and prior_logvar both, or none");
  if (!prior_mu) return;
  check_like(where, "prior_mu", *prior_mu, "mu", mu);
  check_like(where, "prior_logvar", *prior_logvar, "mu", mu);
  prior_mu = as_contiguous(prior_mu);
  prior_logvar = as_contiguous(prior_logvar);
}

std::tuple<Tensor, Tensor, Tensor> gaussian_rsample_kl_full(Tensor mu, Tensor logvar, std::optional<Tensor> prior_mu,
                                                            std::optional<Tensor> prior_logvar, Tensor key, int64_t stream,
                                                            int64_t reduction) {
  const char* where = "gaussian_rsample_kl_full";
  const auto [rows, columns] = check_gaussian(where, mu, logvar, key, stream);
  check_prior(where, prior_mu, prior_logvar, mu);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  const ScalarType real = sum_type(mu.scalar_type());
  const int64_t segments = segments_of(columns), blocks = (rows + kRowBlock - 1) / kRowBlock;
  const bool by_row = reduction & 1, by_column = reduction & 2;
  Tensor z = with_huge_pages(empty_contiguous_like(mu));
  Tensor kl = reduction == 0 ? torch::stable::new_empty(mu, mu.sizes(), real) : empty_on(mu, {by_row ? rows : 0}, real);
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
  m.impl("gaussian_rsample_kl", TORCH_BOX(&gaussian_rsample_kl));
  m.impl("gaussian_rsample_kl_backward", TORCH_BOX(&gaussian_rsample_kl_backward));
  m.impl("gaussian_rsample_kl_full", TORCH_BOX(&gaussian_rsample_kl_full));
  m.impl("gaussian_rsample_kl_full_backward", TORCH_BOX(&gaussian_rsample_kl_full_backward));
}

}  // namespace fastvae
