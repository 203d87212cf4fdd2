// Kernels of gaussian_rsample_kl, forward and backward: one pass over a row, with its noise in registers.
#pragma once

#include "philox/cpu_kernel.h"
#include "common/gaussian_math.h"

namespace fastvae {
namespace FASTVAE_LANES {

// One vector of columns of a row, `count` of which exist.
template <class T, class Real>
FASTVAE_INLINE void forward_vector(const T* mu, const T* logvar, T* z, int64_t count, Real noise, KLSums<Real>& sums) {
  Real m, lv;
  load_some(m, mu, count);  // lanes past the end are mu = logvar = 0, whose KL is 0
  load_some(lv, logvar, count);
  const Exponential<Real> sigma = exponential(lv * 0.5f);
  sums.add(m, sigma);
  store_some(z, sample(m, sigma, noise), count);
}

// `columns` columns, kChains chains wide, from `block` on; with kWhole all of them exist.
template <class T, int kChains, bool kWhole, class Real>
FASTVAE_INLINE void forward_group(const PhiloxRow& row, uint32_t block, const T* mu, const T* logvar, T* z, int64_t columns,
                                  KLSums<Real>& sums) {
  constexpr int kVectors = kChains * Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  Real noise[kVectors];
  Walk<T>::template normals<kChains>(row, block, noise);
  FASTVAE_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    const int64_t at = v * kWidth;
    forward_vector(mu + at, logvar + at, z + at, kWhole ? kWidth : columns - at, noise[v], sums);
  }
}

// Rows that one chain covers go four at a time, for the same reason as chains do. The last rows of a batch go through the same code,
// so that no bit of a row depends on its neighbours.
constexpr int kNarrowRows = 4;

template <class T>
constexpr bool has_narrow_rows = Walk<T>::kWidth > 1;

template <class T>
FASTVAE_INLINE void narrow_forward(const GaussianForward& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  constexpr int kVectors = Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  for (int64_t i = begin; i < end; i += kNarrowRows) {
    PhiloxRow rows[kNarrowRows];
    FASTVAE_UNROLL(4)
    for (int r = 0; r < kNarrowRows; ++r) rows[r] = noise_row(a.key, i + r);
    Real noise[kNarrowRows * kVectors];
    Walk<T>::normals_of_rows(rows, noise);
    FASTVAE_UNROLL(4)
    for (int r = 0; r < kNarrowRows; ++r) {
      if (i + r >= end) break;
      KLSums<Real> sums;
      FASTVAE_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        const int64_t at = (i + r) * a.shape.columns + v * kWidth;
        forward_vector(static_cast<const T*>(a.mu) + at, static_cast<const T*>(a.logvar) + at, static_cast<T*>(a.z) + at,
                       a.shape.columns - v * kWidth, noise[r * kVectors + v], sums);
      }
      a.kl[i + r] = sum_lanes(sums.total());
    }
  }
}

template <class T>
void gaussian_rsample_kl(const GaussianForward& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  constexpr int kMost = Walk<T>::kChains;
  constexpr int64_t kChain = Walk<T>::kColumns, kGroup = kMost * kChain;
  if constexpr (has_narrow_rows<T>) {
    if (a.shape.columns <= kChain) return narrow_forward<T>(a, begin, end);
  }
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t i = unit / a.shape.segments, first = (unit - i * a.shape.segments) * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const PhiloxRow row = noise_row(a.key, i);
    const T* mu = static_cast<const T*>(a.mu) + i * a.shape.columns;
    const T* logvar = static_cast<const T*>(a.logvar) + i * a.shape.columns;
    T* z = static_cast<T*>(a.z) + i * a.shape.columns;
    double total = 0;
    for (int64_t c = first; c < last;) {
      const int64_t stop = last - c < kFlush ? last : c + kFlush;
      KLSums<Real> sums;
      for (; c + kGroup <= stop; c += kGroup) {
        forward_group<T, kMost, true>(row, static_cast<uint32_t>(c / 4), mu + c, logvar + c, z + c, kGroup, sums);
      }
      for (; c + kChain <= stop; c += kChain) {
        forward_group<T, 1, true>(row, static_cast<uint32_t>(c / 4), mu + c, logvar + c, z + c, kChain, sums);
      }
      if (c < stop) forward_group<T, 1, false>(row, static_cast<uint32_t>(c / 4), mu + c, logvar + c, z + c, stop - c, sums);
      c = stop;
      total += sum_lanes(sums.total());
    }
    a.kl[unit] = total;
  }
}

// grad_mu = grad_z + grad_kl mu;  grad_logvar = grad_z noise sigma / 2 + grad_kl (exp(logvar) - 1) / 2, for one vector of columns.
template <class T, bool kNoise, class Real, class Scalar>
FASTVAE_INLINE void backward_vector(const GaussianBackward& a, int64_t at, int64_t count, Real noise, Scalar grad_kl) {
  Real g{};
  if (a.grad_z) load_some(g, static_cast<const T*>(a.grad_z) + at, count);
  if (a.grad_mu) {
    Real grad = g;
    if (a.grad_kl) {
      Real m;
      load_some(m, static_cast<const T*>(a.mu) + at, count);
      grad = m * grad_kl + g;
    }
    store_some(static_cast<T*>(a.grad_mu) + at, grad, count);
  }
  if (a.grad_logvar) {
    Real lv;
    load_some(lv, static_cast<const T*>(a.logvar) + at, count);
    const Exponential<Real> sigma = exponential(lv * 0.5f);
    Real grad{};
    if constexpr (kNoise) grad = g * 0.5f * (sigma.value * noise);
    if (a.grad_kl) grad = kl_by_logvar(sigma) * grad_kl + grad;
    store_some(static_cast<T*>(a.grad_logvar) + at, grad, count);
  }
}

template <class T, int kChains, bool kWhole, bool kNoise, class Scalar>
FASTVAE_INLINE void backward_group(const GaussianBackward& a, const PhiloxRow& row, uint32_t block, int64_t at, int64_t columns,
                                   Scalar grad_kl) {
  constexpr int kVectors = kChains * Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  typename Walk<T>::Real noise[kVectors] = {};
  if constexpr (kNoise) Walk<T>::template normals<kChains>(row, block, noise);
  FASTVAE_UNROLL(8)
  for (int v = 0; v < kVectors; ++v) {
    backward_vector<T, kNoise>(a, at + v * kWidth, kWhole ? kWidth : columns - v * kWidth, noise[v], grad_kl);
  }
}

template <class T, bool kNoise>
FASTVAE_INLINE void narrow_backward(const GaussianBackward& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  constexpr int kVectors = Walk<T>::kVectors, kWidth = Walk<T>::kWidth;
  for (int64_t i = begin; i < end; i += kNarrowRows) {
    PhiloxRow rows[kNarrowRows];
    Real noise[kNarrowRows * kVectors] = {};
    FASTVAE_UNROLL(4)
    for (int r = 0; r < kNarrowRows; ++r) rows[r] = noise_row(a.key, i + r);
    if constexpr (kNoise) Walk<T>::normals_of_rows(rows, noise);
    FASTVAE_UNROLL(4)
    for (int r = 0; r < kNarrowRows; ++r) {
      if (i + r >= end) break;
      const float grad_kl = a.grad_kl ? static_cast<const float*>(a.grad_kl)[i + r] : 0.0f;
      FASTVAE_UNROLL(2)
      for (int v = 0; v < kVectors; ++v) {
        backward_vector<T, kNoise>(a, (i + r) * a.shape.columns + v * kWidth, a.shape.columns - v * kWidth, noise[r * kVectors + v], grad_kl);
      }
    }
  }
}

template <class T, bool kNoise>
FASTVAE_INLINE void backward_units(const GaussianBackward& a, int64_t begin, int64_t end) {
  using Scalar = decltype(sum_lanes(typename Walk<T>::Real{}));
  constexpr int kMost = Walk<T>::kChains;
  constexpr int64_t kChain = Walk<T>::kColumns, kGroup = kMost * kChain;
  if constexpr (has_narrow_rows<T>) {
    if (a.shape.columns <= kChain) return narrow_backward<T, kNoise>(a, begin, end);
  }
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t i = unit / a.shape.segments, first = (unit - i * a.shape.segments) * kSegment;
    const int64_t last = a.shape.columns - first < kSegment ? a.shape.columns : first + kSegment;
    const PhiloxRow row = noise_row(a.key, i);
    const Scalar grad_kl = a.grad_kl ? static_cast<const Scalar*>(a.grad_kl)[i] : Scalar{0};
    const int64_t base = i * a.shape.columns;
    int64_t c = first;
    for (; c + kGroup <= last; c += kGroup) {
      backward_group<T, kMost, true, kNoise>(a, row, static_cast<uint32_t>(c / 4), base + c, kGroup, grad_kl);
    }
    for (; c + kChain <= last; c += kChain) {
      backward_group<T, 1, true, kNoise>(a, row, static_cast<uint32_t>(c / 4), base + c, kChain, grad_kl);
    }
    if (c < last) backward_group<T, 1, false, kNoise>(a, row, static_cast<uint32_t>(c / 4), base + c, last - c, grad_kl);
  }
}

template <class T>
void gaussian_rsample_kl_backward(const GaussianBackward& a, int64_t begin, int64_t end) {
  if (a.grad_z && a.grad_logvar) {
    backward_units<T, true>(a, begin, end);
  } else {
    backward_units<T, false>(a, begin, end);
  }
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
