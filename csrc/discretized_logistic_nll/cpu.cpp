// discretized_logistic_nll and its backward on the CPU.
#include "common/cpu/likelihood.h"

namespace fastvae {
namespace {

Tensor discretized_logistic_nll(Tensor mean, Tensor log_scale, Tensor target, std::optional<Tensor> mask, int64_t num_levels) {
  return likelihood_forward("discretized_logistic_nll", kDiscretizedLogistic, {mean, target, log_scale, mask}, num_levels);
}

std::tuple<Tensor, Tensor> discretized_logistic_nll_backward(Tensor grad_nll, Tensor mean, Tensor log_scale, Tensor target,
                                                             std::optional<Tensor> mask, int64_t num_levels, bool need_mean,
                                                             bool need_log_scale) {
  const LikelihoodInput in{mean, target, log_scale, mask};
  return likelihood_gradient("discretized_logistic_nll_backward", kDiscretizedLogistic, grad_nll, in, num_levels, kByte, need_mean,
                             need_log_scale);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("discretized_logistic_nll", TORCH_BOX(&discretized_logistic_nll));
  m.impl("discretized_logistic_nll_backward", TORCH_BOX(&discretized_logistic_nll_backward));
}

}  // namespace fastvae
