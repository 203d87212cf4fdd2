// The operators of multinomial_nll, dense and compressed, on either device: arguments, checks, registration.
#pragma once

#include <tuple>

#include "common/likelihood_checks.h"
#include "multinomial_nll/arguments.h"

namespace fastvae {

// Counts, dense or in compressed rows; contiguous, and alive as long as the arguments that point at them.
struct Counts {
  Tensor values;
  std::optional<Tensor> row_starts, indices;
};

inline LikelihoodShape check_compressed(const char* where, const Tensor& logits, Counts& counts) {
  Tensor& starts = *counts.row_starts;
  Tensor& indices = *counts.indices;
  STD_TORCH_CHECK(is_floating(logits.scalar_type()) && (logits.dim() == 2 || logits.dim() == 3) && same_device(counts.values, logits) &&
                      same_device(starts, logits) && same_device(indices, logits),
                  where, ": logits must be floating [B, V] or [K, B, V], and the counts on their device");
  const int64_t columns = logits.size(logits.dim() - 1), data_rows = logits.size(logits.dim() - 2);
  STD_TORCH_CHECK(starts.dim() == 1 && starts.numel() == data_rows + 1 && indices.dim() == 1 && counts.values.numel() == indices.numel(),
                  where, ": crow_indices must have B + 1 entries, and col_indices and values one length");
  starts = as_contiguous(torch::stable::to(starts, ScalarType::Long));
  indices = as_contiguous(torch::stable::to(indices, ScalarType::Long));
  return {logits.dim() == 3, columns ? logits.numel() / columns : 0, data_rows, columns};
}

// The kernels' arguments, checked, without the distribution of the rows and the addresses of the results. Index values are not checked.
template <class Device>
MultinomialArguments<Device> multinomial_arguments(const char* where, Tensor& logits, Counts& counts, LikelihoodShape& shape) {
  MultinomialArguments<Device> a{};
  shape = counts.row_starts ? check_compressed(where, logits, counts) : check_output(where, logits, counts.values);
  STD_TORCH_CHECK(shape.columns > 0, where, ": counts must have shape [B, V], V at least 1");  // empty counts have no address
  a.counts_storage = storage_of(where, "counts", counts.values, logits, kByte);
  logits = as_contiguous(logits);
  counts.values = as_contiguous(counts.values);
  if (counts.row_starts) {
    a.row_starts = static_cast<const int64_t*>(pointer(counts.row_starts));
    a.indices = static_cast<const int64_t*>(pointer(counts.indices));
    a.values = pointer(counts.values);
    a.nonzeros = counts.indices->numel();
  } else {
    a.counts = pointer(counts.values);
  }
  a.logits = pointer(logits);
  a.data_rows = shape.data_rows;
  return a;
}

// The results of the forward for each row, which the backward uses.
inline void check_rows(const char* where, Tensor& grad_nll, Tensor& logsumexp, Tensor& total, const Tensor& logits,
                       const LikelihoodShape& shape) {
  for (Tensor* x : {&grad_nll, &logsumexp, &total}) {
    check_grad_rows(where, *x, logits, shape);
    *x = as_contiguous(*x);
  }
}

// The operators with the signatures of the schemas. `Device` defines
//     static std::tuple<Tensor, Tensor, Tensor> forward(const char* where, Tensor logits, Counts counts);
//     static Tensor backward(const char* where, Tensor grad_nll, Tensor logits, Counts counts, Tensor logsumexp, Tensor total);
template <class Device>
struct MultinomialOperators {
  static std::tuple<Tensor, Tensor, Tensor> dense(Tensor logits, Tensor counts) {
    return Device::forward("multinomial_nll", logits, {counts, std::nullopt, std::nullopt});
  }
  static Tensor dense_backward(Tensor grad_nll, Tensor logits, Tensor counts, Tensor logsumexp, Tensor total) {
    return Device::backward("multinomial_nll_backward", grad_nll, logits, {counts, std::nullopt, std::nullopt}, logsumexp, total);
  }
  static std::tuple<Tensor, Tensor, Tensor> csr(Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values) {
    return Device::forward("multinomial_nll_csr", logits, {values, crow_indices, col_indices});
  }
  static Tensor csr_backward(Tensor grad_nll, Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values, Tensor logsumexp,
                             Tensor total) {
    return Device::backward("multinomial_nll_csr_backward", grad_nll, logits, {values, crow_indices, col_indices}, logsumexp, total);
  }

  template <class Library>
  static void add_to(Library& library) {
    library.impl("multinomial_nll", TORCH_BOX(&dense));
    library.impl("multinomial_nll_backward", TORCH_BOX(&dense_backward));
    library.impl("multinomial_nll_csr", TORCH_BOX(&csr));
    library.impl("multinomial_nll_csr_backward", TORCH_BOX(&csr_backward));
  }
};

}  // namespace fastvae
