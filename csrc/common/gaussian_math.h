// The formulas of the Gaussian operators (sample, KL divergence, derivatives) for the CPU kernels, scalars and vectors; the CUDA kernels'
// are in device_math.h.
#pragma once

#include "common/elementary.h"

namespace fastvae {
namespace FASTVAE_LANES {

// KL(N(mu, exp(logvar)) || N(0, 1)) = (mu^2 + exp(logvar) - 1 - logvar) / 2 in nats, of sums of its parts: squares holds mu^2 and
// (sigma - 1)^2, linear holds sigma - 1 - logvar/2.
template <class F>
struct KLSums {
  F squares{}, linear{};

  FASTVAE_INLINE void add(F mu, const Exponential<F>& sigma) {
    squares = multiply_add(sigma.minus_one, sigma.minus_one, multiply_add(mu, mu, squares));
    linear = linear + sigma.minus_one_minus_x;
  }
  FASTVAE_INLINE F total() const { return squares * 0.5f + linear; }
};

// z = mu + sigma noise
template <class F>
FASTVAE_INLINE F sample(F mu, const Exponential<F>& sigma, F noise) {
  return multiply_add(sigma.value, noise, mu);
}

// dKL/dlogvar = (exp(logvar) - 1) / 2, of sigma = exp(logvar / 2).
template <class F>
FASTVAE_INLINE F kl_by_logvar(const Exponential<F>& sigma) {
  return sigma.minus_one * 0.5f * (sigma.minus_one + 2.0f);
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
