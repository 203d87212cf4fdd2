// Kernels of gaussian_rsample_kl with a learned prior and sums over examples, over the batch, both or none: still one pass.
#pragma once

#include "gaussian_rsample_kl/cpu_kernel.h"

namespace fastvae {
namespace FASTVAE_LANES {

// The posterior against its prior, element by element: KL = (difference^2 precision + exp(l) - 1 - l) / 2, l = logvar - prior_logvar.
template <class T>
struct AgainstPrior {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  Real difference, scaled;  // mu - prior_mu, and that times the prior's precision
  Exponential<Real> ratio;  // of l / 2

  FASTVAE_INLINE AgainstPrior(Real mu, Real logvar, const void* prior_mu, const void* prior_logvar, int64_t at, int64_t count) {
    if (prior_mu) {
      Real prior_mean, prior_lv;
      load_some(prior_mean, static_cast<const T*>(prior_mu) + at, count);
      load_some(prior_lv, static_cast<const T*>(prior_logvar) + at, count);
      difference = mu - prior_mean;
      scaled = difference * exponential(-prior_lv).value;
      ratio = exponential((logvar - prior_lv) * 0.5f);
    } else {
      difference = scaled = mu;
      ratio = exponential(logvar * 0.5f);
    }
  }
  FASTVAE_INLINE Real kl() const {
    const Real squares = multiply_add(ratio.minus_one, ratio.minus_one, difference * scaled);
    return multiply_add(squares, Real{} + Scalar(0.5), ratio.minus_one_minus_x);
  }
};

template <class T>
FASTVAE_INLINE typename Walk<T>::Real full_group(const GaussianFull& a, const PhiloxRow& row, int64_t i, int64_t c, int64_t columns,
                                                 decltype(sum_lanes(typename Walk<T>::Real{}))* by_column, bool first_row) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  constexpr int kVectors = Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  Real noise[kVectors], sum{};
  Walk<T>::template normals<1>(row, static_cast<uint32_t>(c / 4), noise);
  FASTVAE_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = i * a.shape.columns + c + v * kWidth, count = columns - v * kWidth;
    Real mu, logvar;
    load_some(mu, static_cast<const T*>(a.mu) + at, count);
    load_some(logvar, static_cast<const T*>(a.logvar) + at, count);
    const AgainstPrior<T> prior(mu, logvar, a.prior_mu, a.prior_logvar, at, count);
    const Exponential<Real> sigma = a.prior_mu ? exponential(logvar * 0.5f) : prior.ratio;
    store_some(static_cast<T*>(a.z) + at, sample(mu, sigma, noise[v]), count);
    const Real kl = prior.kl();  // of lanes past the end: 0
    sum = sum + kl;
    if (a.kl_elements) store_some(static_cast<Scalar*>(a.kl_elements) + at, kl, count);
    if (by_column) {
      Real before{};
      if (!first_row) load_some(before, by_column + c + v * kWidth, count);
      store_some(by_column + c + v * kWidth, before + kl, count);
    }
  }
  return sum;
}

template <class T>
void gaussian_rsample_kl_full(const GaussianFull& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  constexpr int64_t kChain = Walk<T>::kColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t block = unit / a.shape.segments, segment = unit - block * a.shape.segments, first = segment * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const int64_t first_row = block * kRowBlock, last_row = a.shape.rows - first_row < kRowBlock ? a.shape.rows : first_row + kRowBlock;
    Scalar* by_column = a.kl_columns ? static_cast<Scalar*>(a.kl_columns) + block * a.shape.columns : nullptr;
    for (int64_t i = first_row; i < last_row; ++i) {
      const PhiloxRow row = noise_row(a.key, i);
      double total = 0;
      for (int64_t c = first; c < last;) {
        const int64_t stop = last - c < kFlush ? last : c + kFlush;
        Real sum{};
        for (; c < stop; c += kChain) sum = sum + full_group<T>(a, row, i, c, stop - c, by_column, i == first_row);
        c = stop;
        total += sum_lanes(sum);
      }
      if (a.kl_rows) a.kl_rows[i * a.shape.segments + segment] = total;
    }
  }
}

// With g the gradient of an element's KL: grad_mu = grad_z + g difference precision, grad_logvar = grad_z noise sigma / 2 + g (exp(l) - 1) / 2,
// grad_prior_mu = -g difference precision, grad_prior_logvar = -g (difference^2 precision + exp(l) - 1) / 2.
template <class T>
FASTVAE_INLINE void full_backward_group(const GaussianFull& a, const PhiloxRow& row, int64_t i, int64_t c, int64_t columns) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  constexpr int kVectors = Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  Real noise[kVectors];
  const bool draws = a.grad_z && a.grads[kByLogvar], has_kl = a.grad_elements || a.grad_rows || a.grad_columns;
  if (draws) Walk<T>::template normals<1>(row, static_cast<uint32_t>(c / 4), noise);
  FASTVAE_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    const int64_t column = c + v * kWidth, at = i * a.shape.columns + column, count = columns - v * kWidth;
    Real mu, logvar, grad_z{}, grad_kl{}, grad_mu{}, grad_logvar{}, grad_prior_mu{}, grad_prior_logvar{};
    load_some(mu, static_cast<const T*>(a.mu) + at, count);
    load_some(logvar, static_cast<const T*>(a.logvar) + at, count);
    if (a.grad_z) load_some(grad_z, static_cast<const T*>(a.grad_z) + at, count);
    grad_mu = grad_z;
    if (draws) grad_logvar = grad_z * 0.5f * (exponential(logvar * 0.5f).value * noise[v]);
    if (has_kl) {
      if (a.grad_elements) load_some(grad_kl, static_cast<const Scalar*>(a.grad_elements) + at, count);
      if (a.grad_columns) load_some(grad_kl, static_cast<const Scalar*>(a.grad_columns) + column, count);
      if (a.grad_rows) grad_kl = grad_kl + static_cast<const Scalar*>(a.grad_rows)[i];
      const AgainstPrior<T> prior(mu, logvar, a.prior_mu, a.prior_logvar, at, count);
      const Real by_mu = prior.scaled * grad_kl, by_logvar = kl_by_logvar(prior.ratio) * grad_kl;
      grad_mu = grad_mu + by_mu;
      grad_logvar = grad_logvar + by_logvar;
      grad_prior_mu = -by_mu;
      grad_prior_logvar = -(prior.difference * by_mu * 0.5f + by_logvar);
    }
    if (a.grads[kByMu]) store_some(static_cast<T*>(a.grads[kByMu]) + at, grad_mu, count);
    if (a.grads[kByLogvar]) store_some(static_cast<T*>(a.grads[kByLogvar]) + at, grad_logvar, count);
    if (a.grads[kByPriorMu]) store_some(static_cast<T*>(a.grads[kByPriorMu]) + at, grad_prior_mu, count);
    if (a.grads[kByPriorLogvar]) store_some(static_cast<T*>(a.grads[kByPriorLogvar]) + at, grad_prior_logvar, count);
  }
}

template <class T>
void gaussian_rsample_kl_full_backward(const GaussianFull& a, int64_t begin, int64_t end) {
  constexpr int64_t kChain = Walk<T>::kColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t i = unit / a.shape.segments, first = (unit - i * a.shape.segments) * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const PhiloxRow row = noise_row(a.key, i);
    for (int64_t c = first; c < last; c += kChain) full_backward_group<T>(a, row, i, c, last - c);
  }
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
