// bernoulli_nll and its backward on the CPU.
#include "common/cpu/likelihood.h"

namespace fastvae {
namespace {

Tensor bernoulli_nll(Tensor logits, Tensor target, std::optional<Tensor> mask) {
  return likelihood_forward("bernoulli_nll", kBernoulli, {logits, target, std::nullopt, mask}, 0, kPixel);
}

Tensor bernoulli_nll_backward(Tensor grad_nll, Tensor logits, Tensor target, std::optional<Tensor> mask) {
  const LikelihoodInput in{logits, target, std::nullopt, mask};
  return std::get<0>(likelihood_gradient("bernoulli_nll_backward", kBernoulli, grad_nll, in, 0, kPixel, true, false));
}

std::tuple<Tensor, Tensor> bernoulli_nll_and_gradient(Tensor logits, Tensor target) {
  LikelihoodInput in{logits, target, std::nullopt, std::nullopt};
  LikelihoodShape shape;
  CpuLikelihood a = likelihood_arguments<Cpu>("bernoulli_nll_and_gradient", in, 0, kPixel, shape);
  a.shape = cpu_rows(shape);
  Tensor gradient = with_huge_pages(empty_contiguous_like(in.output));
  a.grad_output = pointer(gradient);
  Tensor nll = sums_of_rows(kernels().bernoulli_and_gradient[dtype_of(in.output)], a, in.output, shape);
  return {nll, gradient};
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("bernoulli_nll", TORCH_BOX(&bernoulli_nll));
  m.impl("bernoulli_nll_backward", TORCH_BOX(&bernoulli_nll_backward));
  m.impl("bernoulli_nll_and_gradient", TORCH_BOX(&bernoulli_nll_and_gradient));
}

}  // namespace fastvae
