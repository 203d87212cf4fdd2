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

// A sum as the type can hold it: fill_ refuses a finite number that overflows, and takes an infinity.
inline double or_infinity(double sum, ScalarType type) {
  const double largest = type == ScalarType::Half ? 65504.0 : type == ScalarType::BFloat16 ? 3.3895313892515355e38 : FLT_MAX;
  return type != ScalarType::Double && std::fabs(sum) > largest ? std::copysign(HUGE_VAL, sum) : sum;
}

// The operators' tensors, contiguous; they must outlive the arguments that point at them.
struct LikelihoodInput {
  Tensor output, target;
  std::optional<Tensor> parameter, mask;
};

inline LikelihoodArguments likelihood_arguments(const char* where, LikelihoodInput& in, int64_t num_levels, Storage byte,
                                                LikelihoodShape& shape) {
  shape = check_output(where, in.output, in.target);
  check_mask(where, in.mask, in.target);
  LikelihoodArguments a{};
  if (in.parameter) {
    a.spread = check_spread(where, *in.parameter, in.output, shape);
    a.parameter_storage = storage_of(where, "the parameter", *in.parameter, in.output, kByte);
    in.parameter = as_contiguous(*in.parameter);
    a.parameter = pointer(in.parameter);
  }
  a.target_storage = storage_of(where, "target", in.target, in.output, byte);
  in.output = as_contiguous(in.output);
  in.target = as_contiguous(in.target);
  in.mask = as_contiguous(in.mask);
  a.rows = shape.rows;
  a.data_rows = shape.data_rows;
  a.columns = shape.columns;
  a.segments = segments_of(shape.columns);
  a.output = pointer(in.output);
  a.target = pointer(in.target);
  a.mask = static_cast<const uint8_t*>(pointer(in.mask));
  a.num_levels = static_cast<int>(num_levels);
  return a;
}

using LikelihoodKernel = void (*)(const LikelihoodArguments&, int64_t, int64_t);

// Run a forward kernel over the rows' segments, and return each row's sum.
inline Tensor sums_of_rows(LikelihoodKernel kernel, LikelihoodArguments& a, const Tensor& output, const LikelihoodShape& shape) {
  Tensor nll = empty_rows(output, shape);
  std::vector<double> sums(shape.rows * a.segments);
  a.sums = sums.data();
  run_parallel(kernel, a, shape.rows * a.segments, std::min(shape.columns, kSegment));
  add_segments(sums, shape.rows, a.segments, nll);
  return nll;
}

inline Tensor likelihood_forward(const char* where, Likelihood which, LikelihoodInput in, int64_t num_levels = 0, Storage byte = kByte) {
  LikelihoodShape shape;
  LikelihoodArguments a = likelihood_arguments(where, in, num_levels, byte, shape);
  return sums_of_rows(kernels().likelihood[which][dtype_of(in.output)], a, in.output, shape);
}

// (grad_output, grad_parameter); what nobody needs comes back empty.
inline std::tuple<Tensor, Tensor> likelihood_gradient(const char* where, Likelihood which, Tensor grad_nll, LikelihoodInput in,
                                                      int64_t num_levels, Storage byte, bool need_output, bool need_parameter) {
  LikelihoodShape shape;
  LikelihoodArguments a = likelihood_arguments(where, in, num_levels, byte, shape);
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
  const int64_t blocks = (shape.rows + a.rows_per_unit - 1) / a.rows_per_unit, units = blocks * a.segments;
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
