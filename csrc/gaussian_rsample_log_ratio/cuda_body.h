// What a thread of the gaussian_rsample_log_ratio kernels does.
#pragma once

#include "common/cuda/rows.h"
#include "common/gaussian_math.h"

namespace fastvae {

template <class T>
struct DeviceLogRatio {
  DeviceKey key;     // its stream is the first sample's
  DeviceRows shape;  // of mu
  int64_t samples;
  const T* mu;
  const T* logvar;
  T* z;                                         // [samples, rows, columns]
  typename Compute<T>::Real* sums;              // [samples, rows, segments]
  const T* grad_z;                              // [samples, rows, columns], or null; backward only, as all below
  const typename Compute<T>::Real* grad_ratio;  // [samples, rows], or null
  T* grad_mu;                                   // [rows, columns], or null
  T* grad_logvar;                               // the same
};

template <class T>
FASTVAE_INLINE scalar::PhiloxRow sample_row(const DeviceLogRatio<T>& a, int64_t row, int64_t sample) {
  return DeviceKey{a.key.words, a.key.stream + static_cast<uint32_t>(sample)}.row(row);
}

// A unit is a segment of a row of a sample; mu and logvar come from the cache for all samples but the first.
template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void log_ratio_body(const Grid& grid, const DeviceLogRatio<T>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.team);
  const int64_t each = a.shape.rows * a.shape.segments, units = a.samples * each;
  for (int64_t turn = 0; team.first_of_warp + turn < units; turn += team.teams) {
    const int64_t unit = team.team + turn, sample = unit / each;
    Real sum = 0;
    if (unit < units) {
      const Span span = span_of(a.shape, unit - sample * each);
      const scalar::PhiloxRow row = sample_row(a, span.row, sample);
      const int64_t base = span.row * a.shape.columns;
      for (int64_t c = span.first + team.lane * kPack<T>; c < span.last; c += int64_t{team.lanes} * kPack<T>) {
        Real mu[kPack<T>], logvar[kPack<T>], noise[kPack<T>];
        load_pack<kAligned>(mu, a.mu + base + c, span.last - c);
        load_pack<kAligned>(logvar, a.logvar + base + c, span.last - c);
        pack_normals<T>(row, c, noise);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {  // past the end mu = logvar = 0, whose ratio is 0
          const auto sigma = scalar::exponential(logvar[i] * Real{0.5});
          const Real offset = sigma.value * noise[i], z = scalar::sample(mu[i], sigma, noise[i]);
          const Real growth = sigma.minus_one * (sigma.minus_one + Real{2});
          sum += (z + offset) * mu[i] + (growth * noise[i] * noise[i] - logvar[i]);
          noise[i] = z;
        }
        store_pack<kAligned>(a.z + sample * a.shape.rows * a.shape.columns + base + c, noise, span.last - c);
      }
    }
    sum = team.sum(sum) * Real{0.5};
    if (team.lane == 0 && unit < units) a.sums[unit] = sum;
  }
}

// grad_mu = sum_k grad_z + grad_ratio z;  grad_logvar = sum_k (grad_z e + grad_ratio (z e - 1)) / 2, e = sigma noise, in order of k.
template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void log_ratio_backward_body(const Grid& grid, const DeviceLogRatio<T>& a) {
  using Real = typename Compute<T>::Real;
  const int64_t columns = a.shape.columns, size = a.shape.rows * columns;
  for (int64_t index = grid.index(); index < a.shape.rows * packs_of<T>(columns); index += grid.size()) {
    const Place place = place_of<T>(index, columns);
    const int64_t row = place.block, at = row * columns + place.column, count = columns - place.column;
    Real mu[kPack<T>], sigma[kPack<T>], grad_mu[kPack<T>] = {}, grad_logvar[kPack<T>] = {};
    load_pack<kAligned>(mu, a.mu + at, count);
    load_pack<kAligned>(sigma, a.logvar + at, count);
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) sigma[i] = scalar::exponential(sigma[i] * Real{0.5}).value;
    for (int64_t k = 0; k < a.samples; ++k) {
      Real noise[kPack<T>], grad_z[kPack<T>] = {};
      pack_normals<T>(sample_row(a, row, k), place.column, noise);
      if (a.grad_z) load_pack<kAligned>(grad_z, a.grad_z + k * size + at, count);
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        const Real offset = sigma[i] * noise[i];
        grad_mu[i] += grad_z[i];
        grad_logvar[i] += grad_z[i] * offset;
        if (a.grad_ratio) {
          const Real g = a.grad_ratio[k * a.shape.rows + row], z = mu[i] + offset;
          grad_mu[i] += g * z;
          grad_logvar[i] += g * (z * offset - Real{1});
        }
      }
    }
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) grad_logvar[i] *= Real{0.5};
    if (a.grad_mu) store_pack<kAligned>(a.grad_mu + at, grad_mu, count);
    if (a.grad_logvar) store_pack<kAligned>(a.grad_logvar + at, grad_logvar, count);
  }
}

}  // namespace fastvae
