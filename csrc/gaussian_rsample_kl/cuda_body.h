// What a thread of the gaussian_rsample_kl kernels does, forward and backward: one pass, 16 bytes at a time, noise made in registers.
//
// A team of at most a warp takes a row, or a segment of a long one, so that sums need shuffles only. Where rows are cut and how lanes
// share them depends on the row's length alone: no bit of a result depends on the grid.
#pragma once

#include "common/cuda/rows.h"
#include "common/gaussian_math.h"

namespace fastvae {

template <class T>
struct GaussianForwardArguments {
  DeviceKey key;
  DeviceRows shape;
  const T* mu;      // [rows, columns]
  const T* logvar;  // [rows, columns]
  T* z;             // [rows, columns]
  typename Compute<T>::Real* kl;  // [rows, segments]
};

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void gaussian_rsample_kl_body(const Grid& grid, const GaussianForwardArguments<T>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.team);
  const int64_t units = a.shape.rows * a.shape.segments;
  for (int64_t turn = 0; team.first_of_warp + turn < units; turn += team.teams) {
    const int64_t unit = team.team + turn;
    scalar::KLSums<Real> sums;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      const scalar::PhiloxRow row = a.key.row(span.row);
      const int64_t base = span.row * a.shape.columns;
      for (int64_t c = span.first + team.lane * kPack<T>; c < span.last; c += int64_t{team.lanes} * kPack<T>) {
        Real mu[kPack<T>], logvar[kPack<T>], z[kPack<T>];
        load_pack<kAligned>(mu, a.mu + base + c, span.last - c);  // past the end mu = logvar = 0, whose KL is 0
        load_pack<kAligned>(logvar, a.logvar + base + c, span.last - c);
        pack_normals<T>(row, c, z);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          const scalar::Exponential<Real> sigma = scalar::exponential(logvar[i] * Real{0.5});
          sums.add(mu[i], sigma);
          z[i] = scalar::sample(mu[i], sigma, z[i]);
        }
        store_pack<kAligned>(a.z + base + c, z, span.last - c);
      }
    }
    const Real total = team.sum(sums.total());
    if (team.lane == 0 && unit < units) a.kl[unit] = total;
  }
}

template <class T>
struct GaussianBackwardArguments {
  DeviceKey key;
  DeviceRows shape;
  const T* grad_z;                            // [rows, columns], or null
  const typename Compute<T>::Real* grad_kl;   // [rows], or null
  const T* mu;
  const T* logvar;
  T* grad_mu;      // [rows, columns], or null where nobody asks for it
  T* grad_logvar;  // the same
};

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void gaussian_rsample_kl_backward_body(const Grid& grid, const GaussianBackwardArguments<T>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.team);
  const int64_t units = a.shape.rows * a.shape.segments;
  for (int64_t unit = team.team; unit < units; unit += team.teams) {
    const Span span = span_of(a.shape, unit);
    const scalar::PhiloxRow row = a.key.row(span.row);
    const Real grad_kl = a.grad_kl ? a.grad_kl[span.row] : Real{0};
    const int64_t base = span.row * a.shape.columns;
    for (int64_t c = span.first + team.lane * kPack<T>; c < span.last; c += int64_t{team.lanes} * kPack<T>) {
      const int64_t at = base + c, count = span.last - c;
      Real grad_z[kPack<T>] = {}, x[kPack<T>], grad[kPack<T>];
      if (a.grad_z) load_pack<kAligned>(grad_z, a.grad_z + at, count);
      if (a.grad_mu) {
        if (a.grad_kl) {
          load_pack<kAligned>(x, a.mu + at, count);
          FASTVAE_UNROLL(8)
          for (int i = 0; i < kPack<T>; ++i) grad[i] = x[i] * grad_kl + grad_z[i];
          store_pack<kAligned>(a.grad_mu + at, grad, count);
        } else {
          store_pack<kAligned>(a.grad_mu + at, grad_z, count);
        }
      }
      if (a.grad_logvar) {
        load_pack<kAligned>(x, a.logvar + at, count);
        if (a.grad_z) pack_normals<T>(row, c, grad);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          const scalar::Exponential<Real> sigma = scalar::exponential(x[i] * Real{0.5});
          grad[i] = a.grad_z ? grad_z[i] * Real{0.5} * (sigma.value * grad[i]) : Real{0};
          if (a.grad_kl) grad[i] = scalar::kl_by_logvar(sigma) * grad_kl + grad[i];
        }
        store_pack<kAligned>(a.grad_logvar + at, grad, count);
      }
    }
  }
}

}  // namespace fastvae
