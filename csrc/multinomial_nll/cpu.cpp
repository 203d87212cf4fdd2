// multinomial_nll, of dense counts and of compressed rows, and its backward on the CPU.
#include <tuple>

#include "common/cpu/launch.h"
#include "common/likelihood_checks.h"

namespace fastvae {
namespace {

// Counts, dense or in compressed rows; contiguous, and alive as long as the arguments that point at them.
struct Counts {
  Tensor values;
  std::optional<Tensor> row_starts, indices;
};

void check_compressed(const char* where, Counts& counts, const Tensor& logits, int64_t columns) {
  Tensor& starts = *counts.row_starts;
  Tensor& indices = *counts.indices;
  STD_TORCH_CHECK(starts.dim() == 1 && starts.numel() > 0 && indices.dim() == 1 && counts.values.numel() == indices.numel(), where,
                  ": compressed rows must have crow_indices [B + 1], and col_indices and values of one length");
  STD_TORCH_CHECK(same_device(starts, logits) && same_device(indices, logits), where, ": indices must be on the logits' device");
  starts = as_contiguous(torch::stable::to(starts, ScalarType::Long));
  indices = as_contiguous(torch::stable::to(indices, ScalarType::Long));
  const int64_t rows = starts.numel() - 1, nonzeros = indices.numel();
  const int64_t* start = static_cast<const int64_t*>(starts.data_ptr());
  bool right = start[0] == 0 && start[rows] == nonzeros;
  for (int64_t i = 0; i < rows; ++i) right = right && start[i] <= start[i + 1];
  const int64_t* index = static_cast<const int64_t*>(pointer(indices));
  for (int64_t i = 0; i < nonzeros; ++i) right = right && index[i] >= 0 && index[i] < columns;
  STD_TORCH_CHECK(right, where, ": crow_indices must ascend from 0 to the number of values, and col_indices lie in the columns");
}

MultinomialArguments arguments_of(const char* where, Tensor& logits, Counts& counts, LikelihoodShape& shape) {
  MultinomialArguments a{};
  if (counts.row_starts) {
    STD_TORCH_CHECK(is_floating(logits.scalar_type()) && (logits.dim() == 2 || logits.dim() == 3) && same_device(counts.values, logits),
                    where, ": logits must be floating [B, V] or [K, B, V], and values on their device");
    const int64_t columns = logits.size(logits.dim() - 1), data_rows = logits.size(logits.dim() - 2);
    STD_TORCH_CHECK(counts.row_starts->numel() == data_rows + 1, where, ": crow_indices must have B + 1 entries");
    shape = {logits.dim() == 3, columns ? logits.numel() / columns : 0, data_rows, columns};
    check_compressed(where, counts, logits, columns);
    a.row_starts = static_cast<const int64_t*>(pointer(counts.row_starts));
    a.indices = static_cast<const int64_t*>(pointer(counts.indices));
  } else {
    shape = check_output(where, logits, counts.values);
  }
  STD_TORCH_CHECK(shape.columns > 0, where, ": counts must have shape [B, V], V at least 1");  // without elements counts have no address
  a.counts_storage = storage_of(where, "counts", counts.values, logits, kByte);
  logits = as_contiguous(logits);
  counts.values = as_contiguous(counts.values);
  (counts.row_starts ? a.values : a.counts) = pointer(counts.values);
  a.logits = pointer(logits);
  a.rows = shape.rows;
  a.data_rows = shape.data_rows;
  a.columns = shape.columns;
  return a;
}

std::tuple<Tensor, Tensor, Tensor> forward(const char* where, Tensor logits, Counts counts) {
  LikelihoodShape shape;
  MultinomialArguments a = arguments_of(where, logits, counts, shape);
  Tensor nll = empty_rows(logits, shape), logsumexp = empty_rows(logits, shape), total = empty_rows(logits, shape);
  a.nll = pointer(nll);
  a.logsumexp = pointer(logsumexp);
  a.total = pointer(total);
  run_parallel(kernels().multinomial_nll[dtype_of(logits)], a, shape.rows, shape.columns);
  return {nll, logsumexp, total};
}

Tensor backward(const char* where, Tensor grad_nll, Tensor logits, Counts counts, Tensor logsumexp, Tensor total) {
  LikelihoodShape shape;
  MultinomialArguments a = arguments_of(where, logits, counts, shape);
  for (Tensor* x : {&grad_nll, &logsumexp, &total}) {
    check_grad_rows(where, *x, logits, shape);
    *x = as_contiguous(*x);
  }
  Tensor grad_logits = with_huge_pages(empty_contiguous_like(logits));
  a.grad_nll = pointer(grad_nll);
  a.logsumexp = pointer(logsumexp);
  a.total = pointer(total);
  a.grad_logits = pointer(grad_logits);
  run_parallel(kernels().multinomial_nll_backward[dtype_of(logits)], a, shape.rows, shape.columns);
  return grad_logits;
}

std::tuple<Tensor, Tensor, Tensor> multinomial_nll(Tensor logits, Tensor counts) {
  return forward("multinomial_nll", logits, {counts, std::nullopt, std::nullopt});
}

Tensor multinomial_nll_backward(Tensor grad_nll, Tensor logits, Tensor counts, Tensor logsumexp, Tensor total) {
  return backward("multinomial_nll_backward", grad_nll, logits, {counts, std::nullopt, std::nullopt}, logsumexp, total);
}

std::tuple<Tensor, Tensor, Tensor> multinomial_nll_csr(Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values) {
  return forward("multinomial_nll_csr", logits, {values, crow_indices, col_indices});
}

Tensor multinomial_nll_csr_backward(Tensor grad_nll, Tensor logits, Tensor crow_indices, Tensor col_indices, Tensor values,
                                    Tensor logsumexp, Tensor total) {
  return backward("multinomial_nll_csr_backward", grad_nll, logits, {values, crow_indices, col_indices}, logsumexp, total);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("multinomial_nll", TORCH_BOX(&multinomial_nll));
  m.impl("multinomial_nll_backward", TORCH_BOX(&multinomial_nll_backward));
  m.impl("multinomial_nll_csr", TORCH_BOX(&multinomial_nll_csr));
  m.impl("multinomial_nll_csr_backward", TORCH_BOX(&multinomial_nll_csr_backward));
}

}  // namespace fastvae
