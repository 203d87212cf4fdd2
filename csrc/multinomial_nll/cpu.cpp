// multinomial_nll, of dense counts and of compressed rows, and its backward on the CPU.
#include "common/cpu/launch.h"
#include "multinomial_nll/operators.h"

namespace fastvae {
namespace {

void check_indices(const char* where, const CpuMultinomial& a) {
  bool right = a.row_starts[0] == 0 && a.row_starts[a.data_rows] == a.nonzeros;
  for (int64_t i = 0; i < a.data_rows; ++i) right = right && a.row_starts[i] <= a.row_starts[i + 1];
  for (int64_t i = 0; i < a.nonzeros; ++i) right = right && a.indices[i] >= 0 && a.indices[i] < a.shape.columns;
  STD_TORCH_CHECK(right, where, ": crow_indices must ascend from 0 to the number of values, and col_indices lie in the columns");
}

CpuMultinomial arguments_of(const char* where, Tensor& logits, Counts& counts, LikelihoodShape& shape) {
  CpuMultinomial a = multinomial_arguments<Cpu>(where, logits, counts, shape);
  a.shape = {shape.rows, shape.columns, 1};
  if (a.row_starts) check_indices(where, a);
  return a;
}

struct OnCpu {
  static std::tuple<Tensor, Tensor, Tensor> forward(const char* where, Tensor logits, Counts counts) {
    LikelihoodShape shape;
    CpuMultinomial a = arguments_of(where, logits, counts, shape);
    Tensor nll = empty_rows(logits, shape), logsumexp = empty_rows(logits, shape), total = empty_rows(logits, shape);
    a.nll = pointer(nll);
    a.logsumexp = pointer(logsumexp);
    a.total = pointer(total);
    run_parallel(kernels().multinomial_nll[dtype_of(logits)], a, shape.rows, shape.columns);
    return {nll, logsumexp, total};
  }

  static Tensor backward(const char* where, Tensor grad_nll, Tensor logits, Counts counts, Tensor logsumexp, Tensor total) {
    LikelihoodShape shape;
    CpuMultinomial a = arguments_of(where, logits, counts, shape);
    check_rows(where, grad_nll, logsumexp, total, logits, shape);
    Tensor grad_logits = with_huge_pages(empty_contiguous_like(logits));
    a.grad_nll = pointer(grad_nll);
    a.logsumexp = pointer(logsumexp);
    a.total = pointer(total);
    a.grad_logits = pointer(grad_logits);
    run_parallel(kernels().multinomial_nll_backward[dtype_of(logits)], a, shape.rows, shape.columns);
    return grad_logits;
  }
};

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) { MultinomialOperators<OnCpu>::add_to(m); }

}  // namespace fastvae
