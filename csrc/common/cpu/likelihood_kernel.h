// Kernels of the likelihoods, forward and backward: one pass over the decoder's output, for all types of data and parameter.
#pragma once

#include "common/cpu/kernels.h"
#include "common/cpu/noise_lanes.h"
#include "common/likelihood_math.h"

namespace fastvae {
namespace FASTVAE_LANES {

// `count` values from `at` on, of a tensor whose type is known at run time only; the branch always goes the same way.
template <class Real>
FASTVAE_INLINE void load_any(Real& x, Storage storage, const void* from, int64_t at, int64_t count) {
  switch (storage) {
    case kPixel:
    case kByte: {
      load_bytes(x, static_cast<const uint8_t*>(from) + at, count);
      if (storage == kPixel) x = x / 255.0f;
      return;
    }
    case kAsFloat64:
      if constexpr (sizeof(Real) == sizeof(double)) load_some(x, static_cast<const double*>(from) + at, count);
      return;
    case kAsFloat32:
      return load_some(x, static_cast<const float*>(from) + at, count);
    case kAsBFloat16:
      if constexpr (sizeof(Real) != sizeof(double)) load_some(x, static_cast<const BFloat16*>(from) + at, count);
      return;
    case kAsFloat16:
      if constexpr (sizeof(Real) != sizeof(double)) load_some(x, static_cast<const Float16*>(from) + at, count);
      return;
  }
}

// The parameter of element (n, c).
template <class Real>
FASTVAE_INLINE Real load_parameter(const CpuLikelihood& a, int64_t at, int64_t c, int64_t count) {
  Real x{};
  if (a.spread == kScalar) {
    load_any(x, a.parameter_storage, a.parameter, 0, 1);
    x = first_lane(x) + Real{};
  } else if (a.spread != kNone) {
    load_any(x, a.parameter_storage, a.parameter, a.spread == kFull ? at : c, count);
  }
  return x;
}

// x, or 0 if it is masked or beyond the row's end.
template <class Real>
FASTVAE_INLINE Real masked(Real x, const uint8_t* mask, int64_t at, int64_t count) {
  if (mask) {
    Real keep;
    load_bytes(keep, mask + at, count);
    x = keep != 0.0f ? x : Real{};
  }
  return count < kWidthOf<Real> ? replace_after(x, count, 0) : x;
}

// body(c, count) for each vector of the columns [c, stop): full ones with a compile-time count, then the rest.
template <int64_t kWidth, class Body>
FASTVAE_INLINE void for_each_vector(int64_t c, int64_t stop, const Body& body) {
  for (; c + kWidth <= stop; c += kWidth) body(c, kWidth);
  if (c < stop) body(c, stop - c);
}

// The most common arguments, float32 targets without a mask, are a separate case without a test per vector.
template <class Walk, class Kernel>
FASTVAE_INLINE void with_common_case(const CpuLikelihood& arguments, const Kernel& kernel) {
  CpuLikelihood a = arguments;  // a copy: no store can be to it, so its fields stay in registers
  if (a.mask == nullptr && a.target_storage == kAsFloat32 && sizeof(typename Walk::Real) != sizeof(double)) {
    a.mask = nullptr;
    a.target_storage = kAsFloat32;
    return kernel(a);
  }
  kernel(a);
}

// The sums of the values, and with kGradient also each value's derivative with respect to the output.
template <class T, template <class, class> class Formula, bool kGradient = false>
FASTVAE_INLINE void likelihood_rows(const CpuLikelihood& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  using Sum = typename Formula<Real, Scalar>::Sum;
  constexpr int64_t kWidth = Walk<T>::kWidth;
  constexpr int64_t kGroup = Sum::kTerms * kWidth;
  const auto formula = Formula<Real, Scalar>::make(a.num_levels);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t n = unit / a.shape.segments, first = (unit - n * a.shape.segments) * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const int64_t row = n * a.shape.columns, data = n % a.data_rows * a.shape.columns;
    double total = 0;
    for (int64_t group = first; group < last; group += kGroup) {
      Sum sum;
      for_each_vector<kWidth>(group, last - group < kGroup ? last : group + kGroup, [&](int64_t c, int64_t count) FASTVAE_LAMBDA_INLINE {
        Real output, target{};
        load_some(output, static_cast<const T*>(a.output) + row + c, count);
        load_any(target, a.target_storage, a.target, data + c, count);
        Real parameter{};
        if constexpr (Formula<Real, Scalar>::kHasParameter) parameter = load_parameter<Real>(a, row + c, c, count);
        const auto keep = [&](Real x) FASTVAE_LAMBDA_INLINE { return masked(x, a.mask, data + c, count); };
        if constexpr (kGradient) {
          store_some(static_cast<T*>(a.grad_output) + row + c, sum.add_with_gradient(output, target, keep), count);
        } else {
          sum.add(formula, output, target, parameter, keep);
        }
      });
      total += sum_lanes(sum.total());
    }
    a.sums[unit] = total;
  }
}

template <class T, template <class, class> class Formula>
void likelihood(const CpuLikelihood& arguments, int64_t begin, int64_t end) {
  with_common_case<Walk<T>>(arguments, [&](const CpuLikelihood& a) FASTVAE_LAMBDA_INLINE { likelihood_rows<T, Formula>(a, begin, end); });
}

template <class T, template <class, class> class Formula>
void likelihood_and_gradient(const CpuLikelihood& arguments, int64_t begin, int64_t end) {
  with_common_case<Walk<T>>(arguments,
                            [&](const CpuLikelihood& a) FASTVAE_LAMBDA_INLINE { likelihood_rows<T, Formula, true>(a, begin, end); });
}

// grad_output, and grad_parameter: an element each where the parameter is spread in full, else sums of this unit's rows, by column in
// grad_parameter_by_column [blocks, columns] or over all columns in sums [units].
template <class T, template <class, class> class Formula>
FASTVAE_INLINE void likelihood_backward_rows(const CpuLikelihood& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  constexpr int64_t kWidth = Walk<T>::kWidth;
  const auto formula = Formula<Real, Scalar>::make(a.num_levels);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t block = unit / a.shape.segments, first = (unit - block * a.shape.segments) * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const int64_t first_row = block * a.rows_per_unit;
    const int64_t last_row = a.shape.rows - first_row < a.rows_per_unit ? a.shape.rows : first_row + a.rows_per_unit;
    Scalar* by_column = static_cast<Scalar*>(a.grad_parameter_by_column) + (a.grad_parameter_by_column ? block * a.shape.columns : 0);
    double total = 0;
    for (int64_t n = first_row; n < last_row; ++n) {
      const int64_t row = n * a.shape.columns, data = n % a.data_rows * a.shape.columns;
      const Scalar grad = static_cast<const Scalar*>(a.grad_nll)[n];
      Real sum{};
      for_each_vector<kWidth>(first, last, [&](int64_t c, int64_t count) FASTVAE_LAMBDA_INLINE {
        Real output, target{};
        load_some(output, static_cast<const T*>(a.output) + row + c, count);
        load_any(target, a.target_storage, a.target, data + c, count);
        Real parameter{};
        if constexpr (Formula<Real, Scalar>::kHasParameter) parameter = load_parameter<Real>(a, row + c, c, count);
        const ByOutputAndParameter<Real> by = formula.gradient(output, target, parameter);
        if (a.grad_output) {
          const Real out = masked(by.by_output * grad, a.mask, data + c, count);
          store_some(static_cast<T*>(a.grad_output) + row + c, out, count);
        }
        if constexpr (Formula<Real, Scalar>::kHasParameter) {
          const Real out = masked(by.by_parameter * grad, a.mask, data + c, count);
          if (a.grad_parameter) {
            if (a.parameter_storage == kAsFloat32) {
              store_some(static_cast<float*>(a.grad_parameter) + row + c, out, count);
            } else {
              store_some(static_cast<T*>(a.grad_parameter) + row + c, out, count);
            }
          } else if (by_column) {
            Real before{};
            if (n > first_row) load_some(before, by_column + c, count);
            store_some(by_column + c, before + out, count);
          } else if (a.sums) {
            sum = sum + out;
          }
        }
      });
      total += sum_lanes(sum);
    }
    if (a.sums) a.sums[unit] = total;
  }
}

template <class T, template <class, class> class Formula>
void likelihood_backward(const CpuLikelihood& arguments, int64_t begin, int64_t end) {
  with_common_case<Walk<T>>(arguments, [&](const CpuLikelihood& a) FASTVAE_LAMBDA_INLINE { likelihood_backward_rows<T, Formula>(a, begin, end); });
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
