// bernoulli_nll and its backward on CUDA.
#include "common/cuda/likelihood.h"

namespace fastvae {
namespace {

Tensor bernoulli_nll(Tensor logits, Tensor target, std::optional<Tensor> mask) {
  return likelihood_forward<scalar::Bernoulli>("bernoulli_nll", {logits, target, std::nullopt, mask}, 0, kPixel);
}

Tensor bernoulli_nll_backward(Tensor grad_nll, Tensor logits, Tensor target, std::optional<Tensor> mask) {
  const LikelihoodInput in{logits, target, std::nullopt, mask};
  return std::get<0>(likelihood_gradient<scalar::Bernoulli>("bernoulli_nll_backward", grad_nll, in, 0, kPixel, true, false));
}

// Two passes: memory bandwidth limits the time, and they move no more bytes than one pass followed by a product.
std::tuple<Tensor, Tensor> bernoulli_nll_and_gradient(Tensor logits, Tensor target) {
  const Tensor nll = bernoulli_nll(logits, target, std::nullopt);
  Tensor ones = empty_contiguous_like(nll);
  torch::stable::fill_(ones, 1.0);
  return {nll, bernoulli_nll_backward(ones, logits, target, std::nullopt)};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("bernoulli_nll", TORCH_BOX(&bernoulli_nll));
  m.impl("bernoulli_nll_backward", TORCH_BOX(&bernoulli_nll_backward));
  m.impl("bernoulli_nll_and_gradient", TORCH_BOX(&bernoulli_nll_and_gradient));
}

}  // namespace fastvae
