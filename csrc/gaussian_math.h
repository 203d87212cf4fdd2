// The scalar formulas of the Gaussian operators (sample, KL divergence, derivatives), for host and device, scalars and vectors.
#pragma once

#include "lanes.h"

namespace fastvae {
namespace FASTVAE_LANES {

// exp(x), exp(x) - 1 and exp(x) - 1 - x, each to a few units in its last place: the last is a sum of terms that do not cancel, however
// near x is to 0. With them exp(2x) - 1 - 2x = (exp(x) - 1)^2 + 2 (exp(x) - 1 - x) needs no second exponential, and is never negative.
//
// Beyond the range: exp overflows to infinity above x = 88.37 and is 0 below -87.7; infinities give what the limits say, NaN gives NaN.
template <class F>
struct Exponential {
  F value, minus_one, minus_one_minus_x;
};

template <class F>
FASTVAE_INLINE Exponential<F> exponential(F x) {
  constexpr float kHighest = 88.376f, kLowest = -88.0f;  // where 2^n leaves float32
  constexpr float kRound = 12582912.0f;                  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
  const F below = x > kHighest ? splat<F>(kHighest) : x;
  const F inside = below < kLowest ? splat<F>(kLowest) : below;
  const F shifted = inside * 1.4426950408889634f + kRound;
  const F n = shifted - kRound;
  const F power = as_float((as_bits(shifted) << 23) + 0x3f800000u);  // 2^n
  const F r = (inside - n * 0.693359375f) + n * 2.1219444005469057e-4f;
  F q = r * 0.0013941319193691015f + 0.00836329534649849f;  // minimax fit of (exp(r) - 1 - r) / r^2, relative error 1.3e-7
  q = q * r + 0.04166637361049652f;
  q = q * r + 0.16666576266288757f;
  q = q * r + 0.5f;
  const F curve = r * r * q;
  const F growth = r + curve;
  const F value = power * growth + power;
  const F power_minus_one = power - 1.0f;
  return {x > kHighest ? splat<F>(__builtin_inff()) : value, power * growth + power_minus_one,
          power * curve + (power * r + (power_minus_one - below))};
}

FASTVAE_INLINE Exponential<double> exponential(double x) {
  const double minus_one = ::expm1(x);
  if (!(::fabs(x) < 0.5)) return {::exp(x), minus_one, x > 50.0 ? minus_one : minus_one - x};
  double series = 1.0;  // x^2/2! + x^3/3! + ..., from the end
  for (int n = 16; n > 2; --n) series = 1.0 + series * x / n;
  return {1.0 + minus_one, minus_one, series * x * x / 2.0};
}

// KL(N(mu, exp(logvar)) || N(0, 1)) = (mu^2 + exp(logvar) - 1 - logvar) / 2 in nats, of sums of its parts: squares holds mu^2 and
// (sigma - 1)^2, linear holds sigma - 1 - logvar/2.
template <class F>
struct KLSums {
  F squares{}, linear{};

  FASTVAE_INLINE void add(F mu, const Exponential<F>& sigma) {
    squares = sigma.minus_one * sigma.minus_one + (mu * mu + squares);
    linear = linear + sigma.minus_one_minus_x;
  }
  FASTVAE_INLINE F total() const { return squares * 0.5f + linear; }
};

// dKL/dlogvar = (exp(logvar) - 1) / 2, of sigma = exp(logvar / 2).
template <class F>
FASTVAE_INLINE F kl_by_logvar(const Exponential<F>& sigma) {
  return sigma.minus_one * 0.5f * (sigma.minus_one + 2.0f);
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
