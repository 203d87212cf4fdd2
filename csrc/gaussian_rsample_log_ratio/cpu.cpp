// gaussian_rsample_log_ratio and its backward on the CPU.
#include <algorithm>
#include <tuple>
#include <vector>

#include "common/cpu/launch.h"

namespace fastvae {
namespace {

std::tuple<Tensor, Tensor> gaussian_rsample_log_ratio(Tensor mu, Tensor logvar, Tensor key, int64_t num_samples, int64_t stream,
                                                      int64_t first_sample) {
  const char* where = "gaussian_rsample_log_ratio";
  const auto [rows, columns] = check_gaussian(where, mu, logvar, key, stream + first_sample);
  check_samples(where, num_samples, first_sample);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  Tensor z = with_huge_pages(empty_samples_like(mu, num_samples));
  Tensor log_ratio = empty_on(mu, {num_samples, rows}, sum_type(mu.scalar_type()));
  LogRatio a{};
  a.key = read_key(key, stream + first_sample);
  a.shape = {rows, columns, 1};
  a.samples = num_samples;
  a.mu = pointer(mu);
  a.logvar = pointer(logvar);
  a.z = pointer(z);
  a.log_ratio = pointer(log_ratio);
  const int64_t blocks = (num_samples + kSampleBlock - 1) / kSampleBlock;
  run_parallel(kernels().gaussian_rsample_log_ratio[dtype_of(mu)], a, rows * blocks,
               columns * std::min(num_samples, kSampleBlock));
  return {z, log_ratio};
}

std::tuple<Tensor, Tensor> gaussian_rsample_log_ratio_backward(std::optional<Tensor> grad_z, std::optional<Tensor> grad_log_ratio, Tensor mu,
                                                               Tensor logvar, Tensor key, int64_t num_samples, int64_t stream,
                                                               int64_t first_sample, bool need_mu, bool need_logvar) {
  const char* where = "gaussian_rsample_log_ratio_backward";
  const auto [rows, columns] = check_gaussian(where, mu, logvar, key, stream + first_sample);
  check_samples(where, num_samples, first_sample);
  check_sample_gradients(where, grad_z, grad_log_ratio, mu, num_samples);
  grad_z = as_contiguous(grad_z);
  grad_log_ratio = as_contiguous(grad_log_ratio);
  mu = as_contiguous(mu);
  logvar = as_contiguous(logvar);
  Tensor grad_mu = empty_gradient(mu, need_mu), grad_logvar = empty_gradient(mu, need_logvar);
  const int64_t segments = segments_of(columns);
  LogRatio a{};
  a.key = read_key(key, stream + first_sample);
  a.shape = {rows, columns, segments};
  a.samples = num_samples;
  a.mu = pointer(mu);
  a.logvar = pointer(logvar);
  a.grad_z = pointer(grad_z);
  a.grad_log_ratio = pointer(grad_log_ratio);
  a.grad_mu = pointer(grad_mu);
  a.grad_logvar = pointer(grad_logvar);
  run_parallel(kernels().gaussian_rsample_log_ratio_backward[dtype_of(mu)], a, columns ? rows * segments : 0,
               std::min(columns, kSegment) * std::max<int64_t>(num_samples, 1));
  return {grad_mu, grad_logvar};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("gaussian_rsample_log_ratio", TORCH_BOX(&gaussian_rsample_log_ratio));
  m.impl("gaussian_rsample_log_ratio_backward", TORCH_BOX(&gaussian_rsample_log_ratio_backward));
}

}  // namespace fastvae
