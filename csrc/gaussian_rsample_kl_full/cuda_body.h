// The work of one thread of the gaussian_rsample_kl_full kernels: a learned prior, and sums over examples, over the batch, both or none.
#pragma once

#include "common/cuda/rows.h"
#include "gaussian_rsample_kl_full/arguments.h"

namespace fastvae {

template <class T>
using DeviceFull = FullArguments<Cuda<T>>;

// The posterior against its prior, element by element: KL = (difference^2 precision + exp(l) - 1 - l) / 2, l = logvar - prior_logvar.
template <class Real>
struct ElementKL {
  Real difference, scaled;  // mu - prior_mu, and that times the prior's precision
  scalar::LogVariance<Real> ratio;

  FASTVAE_INLINE Real value() const { return scalar::fused(difference, scaled, ratio.excess) * Real{0.5}; }
};

FASTVAE_INLINE float precision_of(float logvar) { return scalar::exp2_approximate(logvar * -1.4426950408889634f); }
FASTVAE_INLINE double precision_of(double logvar) { return ::exp(-logvar); }

template <bool kAligned, class T>
struct FullPack {
  using Real = typename Compute<T>::Real;
  Real mu[kPack<T>], logvar[kPack<T>], prior_mu[kPack<T>] = {}, prior_logvar[kPack<T>] = {};
  bool has_prior;

  FASTVAE_INLINE FullPack(const DeviceFull<T>& a, int64_t at, int64_t count) : has_prior(a.prior_mu != nullptr) {
    load_pack<kAligned>(mu, a.mu + at, count);
    load_pack<kAligned>(logvar, a.logvar + at, count);
    if (has_prior) {
      load_pack<kAligned>(prior_mu, a.prior_mu + at, count);
      load_pack<kAligned>(prior_logvar, a.prior_logvar + at, count);
    }
  }
  FASTVAE_INLINE ElementKL<Real> element(int i) const {
    const Real difference = mu[i] - prior_mu[i];
    const Real scaled = has_prior ? difference * precision_of(prior_logvar[i]) : difference;
    return {difference, scaled, scalar::LogVariance<Real>(logvar[i] - prior_logvar[i])};
  }
};

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void full_body(const Grid& grid, const DeviceFull<T>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    Real sum = 0;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      const scalar::PhiloxRounds row(a.key.row(span.row));
      const int64_t base = span.row * a.shape.columns + span.first;
      const int size = span.size();
      for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
        const int count = size - c;
        const FullPack<kAligned, T> pack(a, base + c, count);
        Real z[kPack<T>], kl[kPack<T>];
        pack_normals<T>(row, span.noise_block() + (c >> 2), z);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          z[i] = scalar::fused(scalar::LogVariance<Real>(pack.logvar[i]).sigma, z[i], pack.mu[i]);
          kl[i] = pack.element(i).value();  // past the end: 0
          sum += kl[i];
        }
        store_pack<kAligned>(a.z + base + c, z, count);
        if (a.kl_elements) store_reals<kAligned, T>(a.kl_elements + base + c, kl, count);
      }
    }
    sum = team.sum(sum);
    if (a.kl_rows && team.lane == 0 && unit < units) a.kl_rows[unit] = sum;
  }
}

// The sums over blocks of rows: a thread iterates over the rows of a pack of columns. It reads mu and logvar again, mostly from the cache.
template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void full_columns_body(const Grid& grid, const DeviceFull<T>& a) {
  using Real = typename Compute<T>::Real;
  const int64_t columns = a.shape.columns, blocks = (a.shape.rows + kDeviceRowBlock - 1) / kDeviceRowBlock;
  for (int64_t index = grid.index(); index < blocks * packs_of<T>(columns); index += grid.size()) {
    const Place place = place_of<T>(index, columns);
    const int64_t first = place.block * kDeviceRowBlock, count = columns - place.column;
    const int64_t last = a.shape.rows - first < kDeviceRowBlock ? a.shape.rows : first + kDeviceRowBlock;
    Real sums[kPack<T>] = {};
    for (int64_t row = first; row < last; ++row) {
      const FullPack<kAligned, T> pack(a, row * columns + place.column, count);
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) sums[i] += pack.element(i).value();
    }
    store_reals<kAligned, T>(a.kl_columns + place.block * columns + place.column, sums, count);
  }
}

// With g the gradient of an element's KL: grad_mu = grad_z + g difference precision, grad_logvar = grad_z noise sigma / 2 + g (exp(l) - 1) / 2,
// grad_prior_mu = -g difference precision, grad_prior_logvar = -g (difference^2 precision + exp(l) - 1) / 2.
template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void full_backward_body(const Grid& grid, const DeviceFull<T>& a) {
  using Real = typename Compute<T>::Real;
  const int64_t columns = a.shape.columns;
  const bool has_kl = a.grad_elements || a.grad_rows || a.grad_columns;
  for (int64_t index = grid.index(); index < a.shape.rows * packs_of<T>(columns); index += grid.size()) {
    const Place place = place_of<T>(index, columns);
    const int64_t at = place.block * columns + place.column, count = columns - place.column;
    const FullPack<kAligned, T> pack(a, at, count);
    Real grads[4][kPack<T>] = {};
    if (a.grad_z) {
      load_pack<kAligned>(grads[0], a.grad_z + at, count);
      if (a.grads[kByLogvar]) {
        Real noise[kPack<T>];
        pack_normals<T>(scalar::PhiloxRounds(a.key.row(place.block)), place.noise_block(), noise);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          grads[1][i] = grads[0][i] * Real{0.5} * (scalar::LogVariance<Real>(pack.logvar[i]).sigma * noise[i]);
        }
      }
    }
    if (has_kl) {
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        Real g = a.grad_rows ? a.grad_rows[place.block] : Real{0};
        if (a.grad_columns && i < count) g += a.grad_columns[place.column + i];
        if (a.grad_elements && i < count) g += a.grad_elements[at + i];
        const ElementKL<Real> kl = pack.element(i);
        const Real by_mu = kl.scaled * g, by_logvar = kl.ratio.growth * Real{0.5} * g;
        grads[0][i] += by_mu;
        grads[1][i] += by_logvar;
        grads[2][i] = -by_mu;
        grads[3][i] = -(kl.difference * by_mu * Real{0.5} + by_logvar);
      }
    }
    FASTVAE_UNROLL(4)
    for (int g = 0; g < kFullGradients; ++g) {
      if (a.grads[g]) store_pack<kAligned>(a.grads[g] + at, grads[g], count);
    }
  }
}

}  // namespace fastvae
