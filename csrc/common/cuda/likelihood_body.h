// What a thread of the likelihood kernels does, forward and backward.
#pragma once

#include "common/cuda/rows.h"
#include "common/likelihood_math.h"
#include "common/storage_kinds.h"

namespace fastvae {

struct DeviceLikelihood {
  DeviceRows shape;    // of the output
  int64_t data_rows;   // output row n goes with data row n % data_rows
  const void* output;  // [rows, columns]
  Storage target_storage;
  const void* target;   // [data_rows, columns]
  const uint8_t* mask;  // [data_rows, columns], or null
  Spread spread;
  Storage parameter_storage;
  const void* parameter;
  int num_levels;
  void* sums;  // forward: [rows, segments]
  // Backward only.
  int64_t rows_per_block;
  const void* grad_nll;            // [rows]
  void* grad_output;               // [rows, columns], or null
  void* grad_parameter;            // [rows, columns] in the parameter's type for kFull, or null
  void* grad_parameter_by_column;  // [blocks of rows, columns], or null
};

template <class Real>
FASTVAE_INLINE Real load_any(Storage storage, const void* from, int64_t at) {
  switch (storage) {
    case kAsFloat64:
      return static_cast<Real>(static_cast<const double*>(from)[at]);
    case kAsBFloat16:
      return to_real(static_cast<const BFloat16*>(from)[at]);
    case kAsFloat16:
      return to_real(static_cast<const Float16*>(from)[at]);
    case kByte:
      return static_cast<const uint8_t*>(from)[at];
    case kPixel:
      return static_cast<const uint8_t*>(from)[at] / Real{255};
    default:
      return static_cast<const float*>(from)[at];
  }
}

// A pack of a tensor of run-time type: in 16-byte accesses where it is stored as the output is, which kAligned speaks of.
template <bool kAligned, class T, class Real>
FASTVAE_INLINE void load_pack_any(Real (&x)[kPack<T>], Storage storage, const void* from, int64_t at, int64_t count) {
  if (kAligned && (sizeof(T) == 4 ? storage == kAsFloat32 : storage != kAsFloat32 && storage != kByte && storage != kPixel)) {
    load_pack<kAligned>(x, static_cast<const T*>(from) + at, count);
    return;
  }
  FASTVAE_UNROLL(8)
  for (int i = 0; i < kPack<T>; ++i) x[i] = i < count ? load_any<Real>(storage, from, at + i) : Real{0};
}

// Output, target, parameter and mask of the pack of columns that starts at column c of output row n.
template <class T, class Formula, bool kAligned>
struct LikelihoodPack {
  using Real = typename Compute<T>::Real;
  Real output[kPack<T>], target[kPack<T>], parameter[kPack<T>] = {};
  bool counts[kPack<T>];

  FASTVAE_INLINE LikelihoodPack(const DeviceLikelihood& a, int64_t n, int64_t c, int64_t count) {
    const int64_t at = n * a.shape.columns + c, data = n % a.data_rows * a.shape.columns + c;
    load_pack<kAligned>(output, static_cast<const T*>(a.output) + at, count);
    load_pack_any<kAligned, T>(target, a.target_storage, a.target, data, count);
    if constexpr (Formula::kHasParameter) {
      if (a.spread == kScalar) {
        const Real all = load_any<Real>(a.parameter_storage, a.parameter, 0);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) parameter[i] = all;
      } else {
        load_pack_any<kAligned, T>(parameter, a.parameter_storage, a.parameter, a.spread == kFull ? at : c, count);
      }
    }
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) counts[i] = i < count && (!a.mask || a.mask[data + i]);
  }
};

template <bool kAligned, class T, template <class, class> class Formula, class Grid>
FASTVAE_INLINE void likelihood_body(const Grid& grid, const DeviceLikelihood& a) {
  using Real = typename Compute<T>::Real;
  using Math = Formula<Real, Real>;
  const Math formula = Math::make(a.num_levels);
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    Real sum = 0;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      for (int64_t c = span.first + team.lane * kPack<T>; c < span.last; c += int64_t{team.lanes} * kPack<T>) {
        const LikelihoodPack<T, Math, kAligned> pack(a, span.row, c, span.last - c);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) {
          const Real value = formula.value(pack.output[i], pack.target[i], pack.parameter[i]);
          sum += pack.counts[i] ? value : Real{0};
        }
      }
    }
    sum = team.sum(sum);
    if (team.lane == 0 && unit < units) static_cast<Real*>(a.sums)[unit] = sum;
  }
}

// A thread goes down a pack of columns of a block of rows: a parameter that all rows share is summed in registers.
template <bool kAligned, class T, template <class, class> class Formula, class Grid>
FASTVAE_INLINE void likelihood_backward_body(const Grid& grid, const DeviceLikelihood& a) {
  using Real = typename Compute<T>::Real;
  using Math = Formula<Real, Real>;
  const Math formula = Math::make(a.num_levels);
  const int64_t columns = a.shape.columns, blocks = (a.shape.rows + a.rows_per_block - 1) / a.rows_per_block;
  for (int64_t index = grid.index(); index < blocks * packs_of<T>(columns); index += grid.size()) {
    const Place place = place_of<T>(index, columns);
    const int64_t first = place.block * a.rows_per_block, count = columns - place.column;
    const int64_t last = a.shape.rows - first < a.rows_per_block ? a.shape.rows : first + a.rows_per_block;
    Real sums[kPack<T>] = {};
    for (int64_t n = first; n < last; ++n) {
      const LikelihoodPack<T, Math, kAligned> pack(a, n, place.column, count);
      const Real grad = static_cast<const Real*>(a.grad_nll)[n];
      Real by_output[kPack<T>], by_parameter[kPack<T>];
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        const auto by = formula.gradient(pack.output[i], pack.target[i], pack.parameter[i]);
        by_output[i] = pack.counts[i] ? by.by_output * grad : Real{0};
        by_parameter[i] = pack.counts[i] ? by.by_parameter * grad : Real{0};
        sums[i] += by_parameter[i];
      }
      const int64_t at = n * columns + place.column;
      if (a.grad_output) store_pack<kAligned>(static_cast<T*>(a.grad_output) + at, by_output, count);
      if constexpr (Math::kHasParameter) {
        if (a.grad_parameter && a.parameter_storage == kAsFloat32) {
          FASTVAE_UNROLL(8)
          for (int i = 0; i < kPack<T>; ++i) {
            if (i < count) static_cast<float*>(a.grad_parameter)[at + i] = static_cast<float>(by_parameter[i]);
          }
        } else if (a.grad_parameter) {
          store_pack<kAligned>(static_cast<T*>(a.grad_parameter) + at, by_parameter, count);
        }
      }
    }
    if (a.grad_parameter_by_column) {
      Real* to = static_cast<Real*>(a.grad_parameter_by_column) + place.block * columns + place.column;
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        if (i < count) to[i] = sums[i];
      }
    }
  }
}

}  // namespace fastvae
