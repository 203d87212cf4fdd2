// The work of one thread of the gaussian_rsample_log_ratio kernels.
#pragma once

#include "common/cuda/rows.h"
#include "gaussian_rsample_log_ratio/arguments.h"

namespace fastvae {

template <class T>
using DeviceLogRatio = LogRatioArguments<Cuda<T>>;

// Samples that one unit draws: values that depend on mu and logvar only are computed once for all of them.
constexpr int kDeviceSamples = 4;

// A unit is a segment of a row and kDeviceSamples samples. With z = mu + sigma noise,
// 2 (log q(z) - log p(z)) = z^2 - noise^2 - logvar = (mu^2 - logvar) + 2 mu sigma noise + (exp(logvar) - 1) noise^2.
template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void log_ratio_body(const Grid& grid, const DeviceLogRatio<T>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units * ((a.samples + kDeviceSamples - 1) / kDeviceSamples), size_of_sample = a.shape.rows * a.shape.columns;
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    const bool works = unit < units;
    const int64_t first = quotient(works ? unit : 0, a.shape.units) * kDeviceSamples;
    const int samples = !works ? 0 : a.samples - first < kDeviceSamples ? static_cast<int>(a.samples - first) : kDeviceSamples;
    const int64_t place = unit - first / kDeviceSamples * a.shape.units;  // among the rows' segments
    Real constant = 0, sums[kDeviceSamples] = {};
    if (works) {
      const Span span = span_of(a.shape, place);
      const scalar::PhiloxRounds row = scalar::PhiloxRounds(a.key.row(span.row)).sample(static_cast<uint32_t>(first));
      const int64_t base = span.row * a.shape.columns + span.first;
      const int size = span.size();
      for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
        Real mu[kPack<T>], sigma[kPack<T>], slope[kPack<T>], growth[kPack<T>];
        load_pack<kAligned>(mu, a.mu + base + c, size - c);
        load_pack<kAligned>(sigma, a.logvar + base + c, size - c);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {  // past the end mu = logvar = 0, whose ratio is 0
          const scalar::LogVariance<Real> l(sigma[i]);
          constant += scalar::fused(mu[i], mu[i], -sigma[i]);
          sigma[i] = l.sigma;
          growth[i] = l.growth;
          slope[i] = mu[i] * l.sigma * Real{2};
        }
        T* to = a.z + first * size_of_sample + base + c;
        FASTVAE_UNROLL(4)
        for (int k = 0; k < kDeviceSamples; ++k) {
          if (k >= samples) continue;
          Real noise[kPack<T>];
          pack_normals<T>(row.sample(k), span.noise_block() + (c >> 2), noise);
          FASTVAE_UNROLL(8)
          for (int i = 0; i < kPack<T>; ++i) {
            sums[k] = scalar::fused(noise[i], scalar::fused(growth[i], noise[i], slope[i]), sums[k]);
            noise[i] = scalar::fused(sigma[i], noise[i], mu[i]);
          }
          store_pack<kAligned>(to + k * size_of_sample, noise, size - c);
        }
      }
    }
    FASTVAE_UNROLL(4)
    for (int k = 0; k < kDeviceSamples; ++k) {
      const Real sum = team.sum((constant + sums[k]) * Real{0.5});
      if (team.lane == 0 && k < samples) a.log_ratio[(first + k) * a.shape.units + place] = sum;
    }
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
    const scalar::PhiloxRounds rounds(a.key.row(row));
    Real mu[kPack<T>], sigma[kPack<T>], grad_mu[kPack<T>] = {}, grad_logvar[kPack<T>] = {};
    load_pack<kAligned>(mu, a.mu + at, count);
    load_pack<kAligned>(sigma, a.logvar + at, count);
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) sigma[i] = scalar::LogVariance<Real>(sigma[i]).sigma;
    for (int64_t k = 0; k < a.samples; ++k) {
      Real noise[kPack<T>], grad_z[kPack<T>] = {};
      pack_normals<T>(rounds.sample(static_cast<uint32_t>(k)), place.noise_block(), noise);
      if (a.grad_z) load_pack<kAligned>(grad_z, a.grad_z + k * size + at, count);
      const Real g = a.grad_log_ratio ? a.grad_log_ratio[k * a.shape.rows + row] : Real{0};
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        const Real offset = sigma[i] * noise[i];
        grad_mu[i] += grad_z[i];
        grad_logvar[i] = scalar::fused(grad_z[i], offset, grad_logvar[i]);
        if (a.grad_log_ratio) {
          const Real z = mu[i] + offset;
          grad_mu[i] = scalar::fused(g, z, grad_mu[i]);
          grad_logvar[i] = scalar::fused(g, scalar::fused(z, offset, Real{-1}), grad_logvar[i]);
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
