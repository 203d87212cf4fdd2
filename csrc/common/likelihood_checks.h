// The arguments of the likelihood operators: the meaning of their shapes, and the checks that memory safety requires.
#pragma once

#include "common/checks.h"
#include "common/likelihood_arguments.h"

namespace fastvae {

// The output [B, ...] or [K, B, ...] as `rows` rows; row n uses data row n % data_rows.
struct LikelihoodShape {
  bool samples;
  int64_t rows, data_rows, columns;
};

inline LikelihoodShape check_output(const char* where, const Tensor& output, const Tensor& target) {
  const int64_t extra = output.dim() - target.dim();
  bool fits = is_floating(output.scalar_type()) && target.dim() > 0 && (extra == 0 || extra == 1) && same_device(output, target);
  for (int64_t d = 0; fits && d < target.dim(); ++d) fits = output.size(d + extra) == target.size(d);
  STD_TORCH_CHECK(fits, where, ": the output must be floating, of target's shape or [K, *that], and on its device");
  int64_t columns = 1;
  for (int64_t d = 1; d < target.dim(); ++d) columns *= target.size(d);
  return {extra == 1, target.size(0) * (extra ? output.size(0) : 1), target.size(0), columns};
}

inline Storage storage_of(const char* where, const char* name, const Tensor& x, const Tensor& output, Storage byte) {
  const ScalarType type = x.scalar_type();
  if (type == ScalarType::Float) return kAsFloat32;
  if (type == ScalarType::Bool) return kByte;
  if (type == ScalarType::Byte) return byte;
  STD_TORCH_CHECK(type == output.scalar_type(), where, ": ", name, " must have the output's dtype, or be float32, uint8 or bool");
  return type == ScalarType::Double ? kAsFloat64 : type == ScalarType::BFloat16 ? kAsBFloat16 : kAsFloat16;
}

inline void check_mask(const char* where, const std::optional<Tensor>& mask, const Tensor& target) {
  STD_TORCH_CHECK(!mask || (mask->scalar_type() == ScalarType::Bool && mask->numel() == target.numel() && same_device(*mask, target)), where,
                  ": mask must be bool, of target's shape and on its device");
}

inline Spread check_spread(const char* where, const Tensor& parameter, const Tensor& output, const LikelihoodShape& shape) {
  STD_TORCH_CHECK(is_floating(parameter.scalar_type()) && same_device(parameter, output), where,
                  ": the parameter must be floating and on the output's device");
  if (parameter.numel() == 1) return kScalar;
  bool full = parameter.dim() == output.dim();
  for (int64_t d = 0; full && d < output.dim(); ++d) full = parameter.size(d) == output.size(d);
  if (full) return kFull;
  STD_TORCH_CHECK(parameter.numel() == shape.columns, where,
                  ": the parameter must be one number, or have an example's shape or the output's");
  return kPerDimension;
}

// One number for each row, [B] or [K, B].
inline Tensor empty_rows(const Tensor& output, const LikelihoodShape& shape) {
  const ScalarType type = sum_type(output.scalar_type());
  return shape.samples ? empty_on(output, {output.size(0), shape.data_rows}, type) : empty_on(output, {shape.rows}, type);
}

inline void check_grad_rows(const char* where, const Tensor& grad, const Tensor& output, const LikelihoodShape& shape) {
  STD_TORCH_CHECK(grad.numel() == shape.rows && grad.scalar_type() == sum_type(output.scalar_type()) && same_device(grad, output), where,
                  ": grad_nll must have nll's shape, dtype and device");
}

// The operators' tensors, contiguous; they must outlive the arguments that point at them.
struct LikelihoodInput {
  Tensor output, target;
  std::optional<Tensor> parameter, mask;
};

// The kernels' arguments, checked, without the distribution of the rows and the addresses of the results; `byte` is the meaning of a uint8 target.
template <class Device>
LikelihoodArguments<Device> likelihood_arguments(const char* where, LikelihoodInput& in, int64_t num_levels, Storage byte,
                                                 LikelihoodShape& shape) {
  shape = check_output(where, in.output, in.target);
  check_mask(where, in.mask, in.target);
  LikelihoodArguments<Device> a{};
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
  a.data_rows = shape.data_rows;
  a.output = pointer(in.output);
  a.target = pointer(in.target);
  a.mask = static_cast<const uint8_t*>(pointer(in.mask));
  a.num_levels = static_cast<int>(num_levels);
  return a;
}

}  // namespace fastvae
