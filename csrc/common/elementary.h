// The elementary functions that all formulas share: logarithm, exponential, sigmoid, for host and device, scalars and vectors.
// Polynomials are minimax fits; errors are relative, on the whole range of the argument.
#pragma once

#include "common/lanes.h"

namespace fastvae {
namespace FASTVAE_LANES {

// -2 log(1 + f) for sqrt(1/2) - 1 <= f <= sqrt(2) - 1, relative error 1e-7 also near f = 0.
template <class F>
FASTVAE_INLINE F minus_two_log1p(F f) {
  F p = f * -0.17966234683990479f + 0.28790873289108276f;
  p = p * f + -0.2972141206264496f;
  p = p * f + 0.33112403750419617f;
  p = p * f + -0.39934542775154114f;
  p = p * f + 0.5000449419021606f;
  p = p * f + -0.6666753888130188f;
  return (p * f + 1.0f) * (f * f) - 2.0f * f;
}

// -2 log u for u > 0, given 1 - u as well: near u = 1 the result depends on 1 - u, which a float32 u does not resolve.
template <class F>
FASTVAE_INLINE F minus_two_log(F u, F one_minus_u) {
  // u = 2^exponent * (1 + f), sqrt(1/2) <= 1 + f < sqrt(2)
  const auto offset = as_bits(u) - 0x3f3504f3u;
  const auto exponent = as_signed(offset) >> 23;
  const F f = exponent == 0 ? -one_minus_u : as_float((offset & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
  return to_float(exponent) * -1.3862943611198906f + minus_two_log1p(f);
}

// log(1 + x) for x >= 0, relative error 2e-7 also near x = 0.
template <class F>
FASTVAE_INLINE F log_one_plus(F x) {
  return minus_two_log(x + 1.0f, -x) * -0.5f;
}
FASTVAE_INLINE double log_one_plus(double x) { return ::log1p(x); }

// exp(x), exp(x) - 1 and exp(x) - 1 - x, each to a few units in its last place: the last is a sum of terms that do not cancel, however
// near x is to 0. With them exp(2x) - 1 - 2x = (exp(x) - 1)^2 + 2 (exp(x) - 1 - x) needs no second exponential, and is never negative.
//
// Beyond the range: exp overflows to infinity above x = 88.37 and is 0 below -87.7; infinities give the limits, NaN gives NaN.
template <class F>
struct Exponential {
  F value, minus_one, minus_one_minus_x;
};

constexpr float kHighestExponent = 88.376f, kLowestExponent = -88.0f;  // beyond them 2^n leaves float32

// x = n log 2 + r, |r| <= log(2) / 2, and with it exp(x) = 2^n (1 + r + r^2 q).
template <class F>
struct ReducedExponent {
  F power, r, r2, q;

  FASTVAE_INLINE explicit ReducedExponent(F x) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    const F shifted = x * 1.4426950408889634f + kRound;
    const F n = shifted - kRound;
    power = as_float((as_bits(shifted) << 23) + 0x3f800000u);
    r = (x - n * 0.693359375f) + n * 2.1219444005469057e-4f;
    r2 = r * r;
    q = r * 0.0013941319191693015f + 0.00836329534649849f;  // (exp(r) - 1 - r) / r^2, error 1.3e-7
    q = q * r + 0.04166637361049652f;
    q = q * r + 0.16666576266288757f;
    q = q * r + 0.5f;
  }
  FASTVAE_INLINE F growth() const { return multiply_add(r2, q, r); }  // exp(r) - 1
};

template <class F>
FASTVAE_INLINE Exponential<F> exponential(F x) {
  const F below = not_above(x, kHighestExponent);
  const ReducedExponent<F> e(not_below(below, kLowestExponent));
  const F growth = e.growth(), power_minus_one = e.power - 1.0f;
  const F value = multiply_add(e.power, growth, e.power);
  return {x > kHighestExponent ? splat<F>(__builtin_inff()) : value, multiply_add(e.power, growth, power_minus_one),
          multiply_add(e.power, e.r2 * e.q, multiply_add(e.power, e.r, power_minus_one - below))};
}

// exp(x) where x is known not to exceed 88 (softmax, sigmoid: x <= 0).
template <class F>
FASTVAE_INLINE F exp_of_small(F x) {
  const ReducedExponent<F> e(not_below(x, kLowestExponent));
  return multiply_add(e.power, e.growth(), e.power);
}
FASTVAE_INLINE double exp_of_small(double x) { return ::exp(x); }

FASTVAE_INLINE Exponential<double> exponential(double x) {
  const double minus_one = ::expm1(x);
  if (!(::fabs(x) < 0.5)) return {::exp(x), minus_one, x > 50.0 ? minus_one : minus_one - x};
  double series = 1.0;  // x^2/2! + x^3/3! + ..., from the end
  for (int n = 16; n > 2; --n) series = 1.0 + series * x / n;
  return {1.0 + minus_one, minus_one, series * x * x / 2.0};
}

template <class F>
FASTVAE_INLINE F absolute(F x) {
  return as_float(as_bits(x) & 0x7fffffffu);
}
FASTVAE_INLINE double absolute(double x) { return ::fabs(x); }

// exp(-|x|), from which sigmoid and softplus of x and of -x follow.
template <class F>
struct Logit {
  F x, small;  // exp(-|x|), in [0, 1]

  FASTVAE_INLINE explicit Logit(F value) : x(value), small(exp_of_small(-absolute(value))) {}

  // log(1 + exp(-|x|)): 1 + small is halved where it leaves minus_two_log1p's range.
  FASTVAE_INLINE F log1p_small() const {
    const auto far = small > 0.41421356f;
    const F f = far ? small * 0.5f - 0.5f : small;
    return minus_two_log1p(f) * -0.5f + (far ? splat<F>(0.69314718f) : splat<F>(0.0f));
  }
  // log(1 + exp(x))
  FASTVAE_INLINE F softplus() const { return (x > 0.0f ? x : splat<F>(0.0f)) + log1p_small(); }
  // 1 / (1 + exp(-x))
  FASTVAE_INLINE F sigmoid() const { return (x < 0.0f ? small : splat<F>(1.0f)) / (small + 1.0f); }
};

template <>
FASTVAE_INLINE double Logit<double>::log1p_small() const {
  return ::log1p(small);
}

// log(1 - exp(-x)) for x > 0, exact at both ends.
template <class F>
FASTVAE_INLINE F log_one_minus_exp_minus(F x) {
  const Exponential<F> e = exponential(-x);
  return minus_two_log(-e.minus_one, e.value) * -0.5f;
}
FASTVAE_INLINE double log_one_minus_exp_minus(double x) {
  return x < 0.6931471805599453 ? ::log(-::expm1(-x)) : ::log1p(-::exp(-x));
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
