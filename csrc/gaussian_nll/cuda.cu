// gaussian_nll and its backward on CUDA.
#include "common/cuda/likelihood.h"

namespace fastvae {
namespace {

Tensor gaussian_nll(Tensor mean, Tensor target, Tensor logvar, std::optional<Tensor> mask) {
  return likelihood_forward<scalar::Gaussian>("gaussian_nll", {mean, target, logvar, mask});
}

std::tuple<Tensor, Tensor> gaussian_nll_backward(Tensor grad_nll, Tensor mean, Tensor target, Tensor logvar, std::optional<Tensor> mask,
                                                 bool need_mean, bool need_logvar) {
  return likelihood_gradient<scalar::Gaussian>("gaussian_nll_backward", grad_nll, {mean, target, logvar, mask}, 0, kByte, need_mean, need_logvar);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("gaussian_nll", TORCH_BOX(&gaussian_nll));
  m.impl("gaussian_nll_backward", TORCH_BOX(&gaussian_nll_backward));
}

}  // namespace fastvae
