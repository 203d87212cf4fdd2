// The likelihoods' formulas for the CUDA kernels: a pack of columns at a time, with the GPU's approximate instructions where float32 stays
// within its limits. float64, and formulas that are not specialised here, use those of likelihood_math.h for each element.
#pragma once

#include <type_traits>

#include "common/approximate.h"
#include "common/device_math.h"
#include "common/likelihood_math.h"
#include "common/storage.h"

namespace fastvae {
namespace scalar {

// A byte as a number: itself, or a brightness, byte / 255. high + low is 1 / 255 to twice the type's digits, and byte * high + byte * low
// is the division's correctly rounded quotient for each of the 256 bytes.
template <class Real>
struct ByteValue {
  Real high, low;

  FASTVAE_INLINE explicit ByteValue(bool is_brightness);
  FASTVAE_INLINE Real operator()(Real byte) const { return fused(byte, high, byte * low); }
};
template <>
FASTVAE_INLINE ByteValue<float>::ByteValue(bool is_brightness)
    : high(is_brightness ? 0x1.010102p-8f : 1.0f), low(is_brightness ? -0x1.fdfdfep-33f : 0.0f) {}
template <>
FASTVAE_INLINE ByteValue<double>::ByteValue(bool is_brightness)
    : high(is_brightness ? 0x1.010101010101p-8 : 1.0), low(is_brightness ? 0x1.010101010101p-64 : 0.0) {}

// The smaller of two; NaN if x is NaN.
FASTVAE_INLINE float smaller_or_nan(float x, float limit) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  float smaller;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(smaller) : "f"(x), "f"(limit));
  return smaller;
#else
  return not_above(x, limit);
#endif
}

constexpr float kLog2E = 1.4426950408889634f, kLog2 = 0.69314718055994531f;

// exp(-|x|), 0 below float32's normal numbers. The approximate power has a relative error of 2.4e-7, and its argument's rounding adds
// |x| 2^-25. For float32 inputs this is corrected; 16-bit inputs have an error of 2^-9 in |x| anyway.
template <class T>
FASTVAE_INLINE float exp_minus_absolute(float x) {
  if constexpr (sizeof(T) == 2) {
    return exp2_approximate(::fabsf(x) * -kLog2E);
  } else {
    const float magnitude = smaller_or_nan(::fabsf(x), 112.0f);  // infinity has no remainder
    const float power = magnitude * kLog2E, rest = fused(magnitude, -kLog2E, power);
    const float rounded = exp2_approximate(-power);
    return fused(rounded, rest * kLog2, rounded);
  }
}

// A formula for packs of N columns. `counts` has a bit for each column, and is read only with kMasked, if some may be 0.
template <class T, class Real, template <class, class> class Formula>
struct PackFormula {
  using Math = Formula<Real, Real>;
  static constexpr bool kHasParameter = Math::kHasParameter;
  static constexpr bool kIsShort = false;    // whether each kind of target has a separate kernel
  static constexpr bool kTakesBytes = true;  // as a target
  Math math;

  FASTVAE_INLINE explicit PackFormula(int num_levels) : math(Math::make(num_levels)) {}

  // The sum of the values of the unmasked columns.
  template <bool kMasked, int N>
  FASTVAE_INLINE Real sum(Real (&output)[N], Real (&target)[N], const Real (&parameter)[N], uint32_t counts) const {
    Real sum = 0;
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      const Real value = math.value(output[i], target[i], parameter[i]);
      sum += !kMasked || (counts >> i & 1) ? value : Real{0};
    }
    return sum;
  }

  // The derivatives times `grad`, in place of the output and the parameter; 0 for masked columns.
  template <bool kMasked, int N>
  FASTVAE_INLINE void gradient(Real (&output)[N], Real (&target)[N], Real (&parameter)[N], uint32_t counts, Real grad) const {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      const auto by = math.gradient(output[i], target[i], parameter[i]);
      const bool is_counted = !kMasked || (counts >> i & 1);
      output[i] = is_counted ? by.by_output * grad : Real{0};
      if constexpr (kHasParameter) parameter[i] = is_counted ? by.by_parameter * grad : Real{0};
    }
  }
};

// max(l, 0) - l t + log(1 + e), e = exp(-|l|): one logarithm for all columns of a pack, of the product of their (1 + e). The product
// minus 1 is kept, a sum of positive terms, so that no e is lost to rounding, however small.
template <class T>
struct PackFormula<T, float, Bernoulli> {
  static constexpr bool kHasParameter = false, kIsShort = true, kTakesBytes = true;
  FASTVAE_INLINE explicit PackFormula(int) {}

  template <bool kMasked, int N>
  FASTVAE_INLINE float sum(float (&logit)[N], float (&target)[N], const float (&)[N], uint32_t counts) const {
    if constexpr (kMasked) leave_out(logit, target, counts);
    float linear[N], product_less_one[N];
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      linear[i] = fused(-logit[i], target[i], ::fmaxf(logit[i], 0.0f));
      product_less_one[i] = exp_minus_absolute<T>(logit[i]);
    }
    FASTVAE_UNROLL(3)
    for (int half = N / 2; half > 0; half /= 2) {
      FASTVAE_UNROLL(4)
      for (int i = 0; i < half; ++i) {
        const float a = product_less_one[i], b = product_less_one[i + half];
        linear[i] += linear[i + half];
        product_less_one[i] = fused(a, b, a + b);
      }
    }
    return linear[0] + log_one_plus(product_less_one[0]);
  }

  // (sigmoid(l) - t) grad, in the logit's place.
  template <bool kMasked, int N>
  FASTVAE_INLINE void gradient(float (&logit)[N], float (&target)[N], float (&)[N], uint32_t counts, float grad) const {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      const float small = exp_minus_absolute<T>(logit[i]);
      const float by = fused(logit[i] < 0.0f ? small : 1.0f, reciprocal_approximate(1.0f + small), -target[i]) * grad;
      logit[i] = !kMasked || (counts >> i & 1) ? by : 0.0f;
    }
  }

 private:
  // A logit whose exponential vanishes, and a target of 0, have the value 0.
  template <int N>
  static FASTVAE_INLINE void leave_out(float (&logit)[N], float (&target)[N], uint32_t counts) {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      logit[i] = counts >> i & 1 ? logit[i] : -200.0f;
      target[i] = counts >> i & 1 ? target[i] : 0.0f;
    }
  }
};

// (log(2 pi) + logvar + (target - mean)^2 exp(-logvar)) / 2. The rounding of 16-bit means is larger than the error of the approximate power.
template <class T>
struct PackFormula<T, float, Gaussian> {
  static constexpr bool kHasParameter = true, kIsShort = true, kTakesBytes = false;
  FASTVAE_INLINE explicit PackFormula(int) {}

  template <bool kMasked, int N>
  FASTVAE_INLINE float sum(float (&mean)[N], float (&target)[N], const float (&logvar)[N], uint32_t counts) const {
    float sum = 0;
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      const float error = target[i] - mean[i];
      const float twice = fused(error * error, precision(logvar[i]), logvar[i] + 1.8378770664093453f);
      sum += !kMasked || (counts >> i & 1) ? twice : 0.0f;
    }
    return sum * 0.5f;
  }

  template <bool kMasked, int N>
  FASTVAE_INLINE void gradient(float (&mean)[N], float (&target)[N], float (&logvar)[N], uint32_t counts, float grad) const {
    const float half = grad * 0.5f;
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      const bool is_counted = !kMasked || (counts >> i & 1);
      const float error = mean[i] - target[i], scaled = error * precision(logvar[i]);
      mean[i] = is_counted ? scaled * grad : 0.0f;
      logvar[i] = is_counted ? fused(-scaled, error, 1.0f) * half : 0.0f;
    }
  }

 private:
  static FASTVAE_INLINE float precision(float logvar) {
    if constexpr (sizeof(T) == 2) return exp2_approximate(logvar * -kLog2E);
    return exponential(-logvar).value;
  }
};

}  // namespace scalar
}  // namespace fastvae
