// What a thread of the gaussian_rsample_kl_full kernels does: a learned prior, and sums over examples, over the batch, both or none.
#pragma once

#include "common/cuda/rows.h"
#include "common/gaussian_math.h"

namespace fastvae {

template <class T>
struct DeviceFull {
  using Real = typename Compute<T>::Real;
  DeviceKey key;
  DeviceRows shape;
  const T* mu;
  const T* logvar;
  const T* prior_mu;  // null: N(0, 1)
  const T* prior_logvar;
  T* z;
  Real* kl_elements;  // [rows, columns], or null
  Real* kl_rows;      // [rows, segments], or null
  Real* kl_columns;   // [blocks of kDeviceRowBlock rows, columns], by a kernel of its own
  const T* grad_z;    // backward only, as all below; null where absent
  const Real* grad_elements;
  const Real* grad_rows;
  const Real* grad_columns;
  T* grads[4];  // of mu, logvar, prior_mu, prior_logvar; null where nobody asks for it
};

// The posterior against its prior, element by element: KL = (difference^2 precision + exp(l) - 1 - l) / 2, l = logvar - prior_logvar.
template <class Real>
struct ElementKL {
  Real difference, scaled;  // mu - prior_mu, and that times the prior's precision
  scalar::Exponential<Real> ratio;

  FASTVAE_INLINE Real value() const {
    const Real squares = scalar::multiply_add(ratio.minus_one, ratio.minus_one, difference * scaled);
    return scalar::multiply_add(squares, Real{0.5}, ratio.minus_one_minus_x);
  }
};

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
    const Real scaled = has_prior ? difference * scalar::exponential(-prior_logvar[i]).value : difference;
    return {difference, scaled, scalar::exponential((logvar[i] - prior_logvar[i]) * Real{0.5})};
  }
};

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void full_body(const Grid& grid, const DeviceFull<T>& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.team);
  const int64_t units = a.shape.rows * a.shape.segments;
  for (int64_t turn = 0; team.first_of_warp + turn < units; turn += team.teams) {
    const int64_t unit = team.team + turn;
    Real sum = 0;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      const scalar::PhiloxRow row = a.key.row(span.row);
      for (int64_t c = span.first + team.lane * kPack<T>; c < span.last; c += int64_t{team.lanes} * kPack<T>) {
        const int64_t at = span.row * a.shape.columns + c, count = span.last - c;
        const FullPack<kAligned, T> pack(a, at, count);
        Real z[kPack<T>], kl[kPack<T>];
        pack_normals<T>(row, c, z);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          z[i] = scalar::sample(pack.mu[i], scalar::exponential(pack.logvar[i] * Real{0.5}), z[i]);
          kl[i] = pack.element(i).value();  // past the end: 0
          sum += kl[i];
        }
        store_pack<kAligned>(a.z + at, z, count);
        if (a.kl_elements) {
          FASTVAE_UNROLL(8)
          for (int i = 0; i < kPack<T>; ++i) {
            if (i < count) a.kl_elements[at + i] = kl[i];
          }
        }
      }
    }
    sum = team.sum(sum);
    if (a.kl_rows && team.lane == 0 && unit < units) a.kl_rows[unit] = sum;
  }
}

// The sums over blocks of rows: a thread goes down a pack of columns. It reads mu and logvar again, mostly from the cache.
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
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) {
      if (i < count) a.kl_columns[place.block * columns + place.column + i] = sums[i];
    }
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
      if (a.grads[1]) {
        Real noise[kPack<T>];
        pack_normals<T>(a.key.row(place.block), place.column, noise);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          grads[1][i] = grads[0][i] * Real{0.5} * (scalar::exponential(pack.logvar[i] * Real{0.5}).value * noise[i]);
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
        const Real by_mu = kl.scaled * g, by_logvar = scalar::kl_by_logvar(kl.ratio) * g;
        grads[0][i] += by_mu;
        grads[1][i] += by_logvar;
        grads[2][i] = -by_mu;
        grads[3][i] = -(kl.difference * by_mu * Real{0.5} + by_logvar);
      }
    }
    FASTVAE_UNROLL(4)
    for (int g = 0; g < 4; ++g) {
      if (a.grads[g]) store_pack<kAligned>(a.grads[g] + at, grads[g], count);
    }
  }
}

}  // namespace fastvae
