// The likelihood operators on the CPU: from tensors to the kernels' arguments and back.
#pragma once

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <tuple>
#include <vector>

#include "common/cpu/launch.h"
#include "common/likelihood_checks.h"

namespace fastvae {

// A sum in the range of the type: fill_ refuses a finite number that overflows, and accepts an infinity.
inline double or_infinity(double sum, ScalarType type) {
  const double largest = type == ScalarType::Half ? 65504.0 : type == ScalarType::BFloat16 ? 3.3895313892515355e38 : FLT_MAX;
  return type != ScalarType::Double && std::fabs(sum) > largest ? std::copysign(HUGE_VAL, sum) : sum;
}

inline CpuRows cpu_rows(const LikelihoodShape& shape) { return {shape.rows, shape.columns, segments_of(shape.columns)}; }

using LikelihoodKernel = void (*)(const CpuLikelihood&, int64_t, int64_t);

// Run a forward kernel over the rows' segments, and return each row's sum.
inline Tensor sums_of_rows(LikelihoodKernel kernel, CpuLikelihood& a, const Tensor& output, const LikelihoodShape& shape) {
  Tensor nll = empty_rows(output, shape);
  std::vector<double> sums(shape.rows * a.shape.segments);
  a.sums = sums.data();
  run_parallel(kernel, a, shape.rows * a.shape.segments, std::min(shape.columns, kSegment));
  add_segments(sums, shape.rows, a.shape.segments, nll);
  return nll;
}

inline Tensor likelihood_forward(const char* where, Likelihood which, LikelihoodInput in, int64_t num_levels = 0, Storage byte = kByte) {
  LikelihoodShape shape;
  CpuLikelihood a = likelihood_arguments<Cpu>(where, in, num_levels, byte, shape);
  a.shape = cpu_rows(shape);
  return sums_of_rows(kernels().likelihood[which][dtype_of(in.output)], a, in.output, shape);
}

// (grad_output, grad_parameter), each empty if it is not needed.
inline std::tuple<Tensor, Tensor> likelihood_gradient(const char* where, Likelihood which, Tensor grad_nll, LikelihoodInput in,
                                                      int64_t num_levels, Storage byte, bool need_output, bool need_parameter) {
  LikelihoodShape shape;
  CpuLikelihood a = likelihood_arguments<Cpu>(where, in, num_levels, byte, shape);
  a.shape = cpu_rows(shape);
  check_grad_rows(where, grad_nll, in.output, shape);
  grad_nll = as_contiguous(grad_nll);
  a.grad_nll = pointer(grad_nll);
  const ScalarType real = sum_type(in.output.scalar_type());
  Tensor grad_output = need_output ? with_huge_pages(empty_contiguous_like(in.output)) : empty_on(in.output, {0}, in.output.scalar_type());
  if (need_output) a.grad_output = pointer(grad_output);
  const Tensor& like = in.parameter ? *in.parameter : in.output;
  Tensor grad_parameter = need_parameter ? empty_contiguous_like(like) : empty_on(like, {0}, like.scalar_type());
  const bool by_column = need_parameter && a.spread == kPerDimension, by_scalar = need_parameter && a.spread == kScalar;
  if (need_parameter && a.spread == kFull) a.grad_parameter = pointer(grad_parameter);
  a.rows_per_unit = by_column ? kRowBlock : 1;
  const int64_t blocks = (shape.rows + a.rows_per_unit - 1) / a.rows_per_unit, units = blocks * a.shape.segments;
  std::optional<Tensor> columns;
  if (by_column) {
    columns = empty_on(in.output, {blocks, shape.columns}, real);
    a.grad_parameter_by_column = pointer(columns);
  }
  std::vector<double> sums(by_scalar ? units : 0);
  if (by_scalar) a.sums = sums.data();
  run_parallel(kernels().likelihood_backward[which][dtype_of(in.output)], a, shape.columns ? units : 0,
               std::min(shape.columns, kSegment) * a.rows_per_unit);
  if (by_column) add_blocks(*columns, blocks, shape.columns, grad_parameter);
  if (by_scalar) {
    double total = 0;
    for (const double sum : sums) total += sum;
    torch::stable::fill_(grad_parameter, or_infinity(total, grad_parameter.scalar_type()));
  }
  return {grad_output, grad_parameter};
}

}  // namespace fastvae
