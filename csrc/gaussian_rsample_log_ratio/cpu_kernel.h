// Kernels of gaussian_rsample_log_ratio: K samples of a row while its means and variances stay in registers.
#pragma once

#include "gaussian_rsample_kl/cpu_kernel.h"

namespace fastvae {
namespace FASTVAE_LANES {

// The values of a group of columns that all samples share.
template <class T, int kChains>
struct SampledGroup {
  using Real = typename Walk<T>::Real;
  static constexpr int kVectors = kChains * Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  Real mu[kVectors], logvar[kVectors], growth[kVectors];  // growth = exp(logvar) - 1
  Exponential<Real> sigma[kVectors];

  FASTVAE_INLINE SampledGroup(const T* mu_at, const T* logvar_at, int64_t columns) {
    FASTVAE_UNROLL(8)
    for (int v = 0; v < kVectors; ++v) {
      const int64_t count = columns - v * kWidth;
      load_some(mu[v], mu_at + v * kWidth, count);  // past the end mu = logvar = 0, whose ratio is 0
      load_some(logvar[v], logvar_at + v * kWidth, count);
      sigma[v] = exponential(logvar[v] * 0.5f);
      growth[v] = sigma[v].minus_one * (sigma[v].minus_one + 2.0f);
    }
  }
};

template <class T, int kChains, class Scalar>
FASTVAE_INLINE void sample_group(const LogRatio& a, int64_t i, PhiloxRow row, int64_t c, int64_t first, int64_t last, Scalar* ratios) {
  using Group = SampledGroup<T, kChains>;
  using Real = typename Group::Real;
  const int64_t at = i * a.shape.columns + c;
  const Group group(static_cast<const T*>(a.mu) + at, static_cast<const T*>(a.logvar) + at, a.shape.columns - c);
  for (int64_t k = first; k < last; ++k) {
    row.stream = a.key.stream + static_cast<uint32_t>(k);
    Real noise[Group::kVectors], sum{};
    Walk<T>::template normals<kChains>(row, static_cast<uint32_t>(c / 4), noise);
    T* z = static_cast<T*>(a.z) + k * a.shape.rows * a.shape.columns + at;
    FASTVAE_UNROLL(8)
    for (int v = 0; v < Group::kVectors; ++v) {
      const Real offset = group.sigma[v].value * noise[v], drawn = sample(group.mu[v], group.sigma[v], noise[v]);
      store_some(z + v * Group::kWidth, drawn, a.shape.columns - c - v * Group::kWidth);
      sum = sum + ((drawn + offset) * group.mu[v] + (group.growth[v] * noise[v] * noise[v] - group.logvar[v]));
    }
    ratios[k - first] += sum_lanes(sum) * Scalar(0.5);
  }
}

template <class T>
void gaussian_rsample_log_ratio(const LogRatio& a, int64_t begin, int64_t end) {
  using Scalar = decltype(sum_lanes(typename Walk<T>::Real{}));
  constexpr int64_t kChain = Walk<T>::kColumns;
  const int64_t blocks = (a.samples + kSampleBlock - 1) / kSampleBlock;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t i = unit / blocks, first = (unit - i * blocks) * kSampleBlock;
    const int64_t last = a.samples - first < kSampleBlock ? a.samples : first + kSampleBlock;
    const PhiloxRow row = noise_row(a.key, i);
    double ratios[kSampleBlock] = {};
    int64_t c = 0;
    for (; a.shape.columns - c > kChain; c += 2 * kChain) sample_group<T, 2>(a, i, row, c, first, last, ratios);
    for (; c < a.shape.columns; c += kChain) sample_group<T, 1>(a, i, row, c, first, last, ratios);
    for (int64_t k = first; k < last; ++k) static_cast<Scalar*>(a.log_ratio)[k * a.shape.rows + i] = static_cast<Scalar>(ratios[k - first]);
  }
}

// grad_mu = sum_k grad_z + grad_ratio z;  grad_logvar = sum_k (grad_z e + grad_ratio (z e - 1)) / 2, e = sigma noise, in order of k.
template <class T>
FASTVAE_INLINE void log_ratio_backward_group(const LogRatio& a, int64_t i, PhiloxRow row, int64_t c, int64_t columns) {
  using Group = SampledGroup<T, 1>;
  using Real = typename Group::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  const int64_t at = i * a.shape.columns + c;
  const Group group(static_cast<const T*>(a.mu) + at, static_cast<const T*>(a.logvar) + at, columns);
  Real grad_mu[Group::kVectors] = {}, grad_logvar[Group::kVectors] = {};
  for (int64_t k = 0; k < a.samples; ++k) {
    row.stream = a.key.stream + static_cast<uint32_t>(k);
    Real noise[Group::kVectors];
    Walk<T>::template normals<1>(row, static_cast<uint32_t>(c / 4), noise);
    FASTVAE_UNROLL(8)
    for (int v = 0; v < Group::kVectors; ++v) {
      const Real offset = group.sigma[v].value * noise[v];
      if (a.grad_z) {
        Real g;
        load_some(g, static_cast<const T*>(a.grad_z) + k * a.shape.rows * a.shape.columns + at + v * Group::kWidth, columns - v * Group::kWidth);
        grad_mu[v] = grad_mu[v] + g;
        grad_logvar[v] = g * offset + grad_logvar[v];
      }
      if (a.grad_log_ratio) {
        const Scalar g = static_cast<const Scalar*>(a.grad_log_ratio)[k * a.shape.rows + i];
        const Real drawn = group.mu[v] + offset;
        grad_mu[v] = drawn * g + grad_mu[v];
        grad_logvar[v] = (drawn * offset - 1.0f) * g + grad_logvar[v];
      }
    }
  }
  FASTVAE_UNROLL(8)
  for (int v = 0; v < Group::kVectors; ++v) {
    const int64_t count = columns - v * Group::kWidth, to = at + v * Group::kWidth;
    if (a.grad_mu) store_some(static_cast<T*>(a.grad_mu) + to, grad_mu[v], count);
    if (a.grad_logvar) store_some(static_cast<T*>(a.grad_logvar) + to, grad_logvar[v] * 0.5f, count);
  }
}

template <class T>
void gaussian_rsample_log_ratio_backward(const LogRatio& a, int64_t begin, int64_t end) {
  constexpr int64_t kChain = Walk<T>::kColumns;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t i = unit / a.shape.segments, first = (unit - i * a.shape.segments) * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const PhiloxRow row = noise_row(a.key, i);
    for (int64_t c = first; c < last; c += kChain) log_ratio_backward_group<T>(a, i, row, c, last - c);
  }
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
