// The work of one thread of the gaussian_rsample_kl kernels, forward and backward: one pass, 16 bytes at a time, with the noise in registers.
//
// A team of at most a warp processes a row, or a segment of a long one, so that sums require shuffles only. The boundaries of segments and the
// distribution over lanes depend on the row's length only: no bit of a result depends on the grid.
#pragma once

#include "common/cuda/rows.h"
#include "gaussian_rsample_kl/arguments.h"

namespace fastvae {

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void gaussian_rsample_kl_body(const Grid& grid, const GaussianForwardArguments<Cuda<T>>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    Real squares = 0, excess = 0;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      const scalar::PhiloxRounds row(a.key.row(span.row));
      const int64_t base = span.row * a.shape.columns + span.first;
      const uint32_t block = span.noise_block();
      const int size = span.size();
      for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
        Real mu[kPack<T>], logvar[kPack<T>], z[kPack<T>];
        load_pack<kAligned>(mu, a.mu + base + c, size - c);  // past the end mu = logvar = 0, whose KL is 0
        load_pack<kAligned>(logvar, a.logvar + base + c, size - c);
        pack_normals<T>(row, block + (c >> 2), z);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          const scalar::LogVariance<Real> l(logvar[i]);
          squares = scalar::fused(mu[i], mu[i], squares);
          excess += l.excess;
          z[i] = scalar::fused(l.sigma, z[i], mu[i]);
        }
        store_pack<kAligned>(a.z + base + c, z, size - c);
      }
    }
    const Real total = team.sum((squares + excess) * Real{0.5});
    if (team.lane == 0 && unit < units) a.kl[unit] = total;
  }
}

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void gaussian_rsample_kl_backward_body(const Grid& grid, const GaussianBackwardArguments<Cuda<T>>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  for (int64_t unit = team.first; unit < units; unit += team.step) {
    const Span span = span_of(a.shape, unit);
    const scalar::PhiloxRounds row(a.key.row(span.row));
    const Real grad_kl = a.grad_kl ? a.grad_kl[span.row] : Real{0}, half_grad_kl = grad_kl * Real{0.5};
    const bool by_mu = a.grad_mu && a.grad_kl;  // without grad_kl, 0 * infinity must not be NaN
    const int64_t base = span.row * a.shape.columns + span.first;
    const uint32_t block = span.noise_block();
    const int size = span.size();
    for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
      const int64_t at = base + c;
      const int count = size - c;
      Real grad_z[kPack<T>] = {}, mu[kPack<T>], logvar[kPack<T>], grad[kPack<T>] = {};  // all loads before the first store
      if (a.grad_z) load_pack<kAligned>(grad_z, a.grad_z + at, count);
      if (by_mu) load_pack<kAligned>(mu, a.mu + at, count);
      if (a.grad_logvar) load_pack<kAligned>(logvar, a.logvar + at, count);
      if (a.grad_mu) {
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) grad[i] = by_mu ? scalar::fused(mu[i], grad_kl, grad_z[i]) : grad_z[i];
        store_pack<kAligned>(a.grad_mu + at, grad, count);
      }
      if (!a.grad_logvar) continue;
      Real sigma[kPack<T>], growth[kPack<T>];
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        const scalar::LogVariance<Real> l(logvar[i]);
        sigma[i] = l.sigma;
        growth[i] = l.growth;
      }
      if (a.grad_z) pack_normals<T>(row, block + (c >> 2), grad);
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) grad[i] = a.grad_z ? grad_z[i] * Real{0.5} * (sigma[i] * grad[i]) : Real{0};
      if (a.grad_kl) {
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) grad[i] = scalar::fused(growth[i], half_grad_kl, grad[i]);
      }
      store_pack<kAligned>(a.grad_logvar + at, grad, count);
    }
  }
}

}  // namespace fastvae
