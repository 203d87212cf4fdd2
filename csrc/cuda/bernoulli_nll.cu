// bernoulli_nll and its backward on CUDA.
#include "cuda/likelihood.h"

namespace fastvae {
namespace {

Tensor bernoulli_nll(Tensor logits, Tensor target, std::optional<Tensor> mask) {
  return likelihood_forward<scalar::Bernoulli>("bernoulli_nll", {logits, target, std::nullopt, mask}, 0, kPixel);
}

Tensor bernoulli_nll_backward(Tensor grad_nll, Tensor logits, Tensor target, std::optional<Tensor> mask) {
  const LikelihoodInput in{logits, target, std::nullopt, mask};
  return std::get<0>(likelihood_gradient<scalar::Bernoulli>("bernoulli_nll_backward", grad_nll, in, 0, kPixel, true, false));
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("bernoulli_nll", TORCH_BOX(&bernoulli_nll));
  m.impl("bernoulli_nll_backward", TORCH_BOX(&bernoulli_nll_backward));
}

}  // namespace fastvae
