// The work of one thread of the likelihood kernels, forward and backward.
#pragma once

#include "common/cuda/operands.h"
#include "common/cuda/rows.h"
#include "common/likelihood_arguments.h"

namespace fastvae {

using DeviceLikelihood = LikelihoodArguments<Cuda<void>>;

FASTVAE_INLINE int64_t data_row(int64_t row, int64_t data_rows) {
  return row < data_rows ? row : row - quotient(row, data_rows) * data_rows;  // one sample: no division
}

// A row of the output from a column on, with the target, mask and parameter of these columns.
template <bool kAligned, bool kMasked, class T, TargetKind kTarget, template <class, class> class Formula>
struct LikelihoodRow {
  using Real = typename Compute<T>::Real;
  using Math = scalar::PackFormula<T, Real, Formula>;
  static constexpr bool kWithMask = kMasked;
  const DeviceLikelihood& a;
  int64_t at, data;  // places of its first element in the output and in the data
  RowBeside<kAligned, T, kTarget> target;
  const T* output;
  const uint8_t* mask;
  const void* parameter = nullptr;
  bool float_parameter = false;
  Real everywhere = 0;  // a scalar parameter

  FASTVAE_INLINE LikelihoodRow(const DeviceLikelihood& arguments, int64_t row, int64_t column)
      : a(arguments),
        at(row * a.shape.columns + column),
        data(data_row(row, a.data_rows) * a.shape.columns + column),
        target(a.target_storage, a.target, data),
        output(static_cast<const T*>(a.output) + at),
        mask(a.mask + data) {
    if constexpr (Math::kHasParameter) {
      float_parameter = sizeof(T) != 4 && a.parameter_storage == kAsFloat32;
      const int64_t from = (a.spread == kFull ? at : column) * static_cast<int64_t>(float_parameter ? sizeof(float) : sizeof(T));
      parameter = static_cast<const uint8_t*>(a.parameter) + from;
      if (a.spread == kScalar) everywhere = load_any<Real>(a.parameter_storage, a.parameter, 0);
    }
  }

  // The pack that starts c columns on, of which `count` columns are left.
  struct Values {
    Real output[kPack<T>], target[kPack<T>], parameter[kPack<T>] = {};
    uint32_t counts = (1u << kPack<T>) - 1;  // a bit for each unmasked column; all bits are set without kMasked
  };
  FASTVAE_INLINE Values load(int c, int count) const {
    Values pack;
    load_pack<kAligned>(pack.output, output + c, count);
    target.load(pack.target, c, count);
    if constexpr (Math::kHasParameter) load_parameter(pack.parameter, c, count);
    if constexpr (kMasked) {
      if (count < kPack<T>) pack.counts = (1u << count) - 1;
      if (a.mask) pack.counts &= ByteWords<kPack<T>>::template load<kAligned>(mask + c, count).bits();
    }
    return pack;
  }

 private:
  FASTVAE_INLINE void load_parameter(Real (&x)[kPack<T>], int c, int count) const {
    if (a.spread == kScalar) {
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) x[i] = everywhere;
    } else if (float_parameter) {
      load_pack_of<kAligned, T>(x, static_cast<const float*>(parameter) + c, count);
    } else {
      load_pack<kAligned>(x, static_cast<const T*>(parameter) + c, count);
    }
  }
};

// Call run(masked): without a mask, and without the end of a row inside a pack, the code tests for neither.
template <bool kAligned, class Run>
FASTVAE_INLINE void with_mask(const DeviceLikelihood& a, const Run& run) {
  if (kAligned && !a.mask) return run(std::false_type{});
  run(std::true_type{});
}

template <class Row, class T, class Grid>
FASTVAE_INLINE void likelihood_rows(const Grid& grid, const DeviceLikelihood& a) {
  using Real = typename Row::Real;
  const typename Row::Math formula(a.num_levels);
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    Real sum = 0;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      const Row row(a, span.row, span.first);
      const int size = span.size();
      for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
        auto pack = row.load(c, size - c);
        sum += formula.template sum<Row::kWithMask>(pack.output, pack.target, pack.parameter, pack.counts);
      }
    }
    sum = team.sum(sum);
    if (team.lane == 0 && unit < units) static_cast<Real*>(a.sums)[unit] = sum;
  }
}

template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula, class Grid>
FASTVAE_INLINE void likelihood_body(const Grid& grid, const DeviceLikelihood& a) {
  with_mask<kAligned>(a, [&](auto masked) {
    likelihood_rows<LikelihoodRow<kAligned, decltype(masked)::value, T, kTarget, Formula>, T>(grid, a);
  });
}

// Store a pack's gradients by the output and, in the parameter's type, by the parameter.
template <bool kAligned, class T, bool kHasParameter, class Real>
FASTVAE_INLINE void store_gradients(const DeviceLikelihood& a, int64_t at, const Real (&by_output)[kPack<T>], const Real (&by_parameter)[kPack<T>],
                                    int count) {
  if (a.grad_output) store_pack<kAligned>(static_cast<T*>(a.grad_output) + at, by_output, count);
  if constexpr (kHasParameter) {
    if (!a.grad_parameter) return;
    if (sizeof(T) != 4 && a.parameter_storage == kAsFloat32) {
      float values[kPack<T>];
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) values[i] = static_cast<float>(by_parameter[i]);
      store_reals<kAligned, T>(static_cast<float*>(a.grad_parameter) + at, values, count);
    } else {
      store_pack<kAligned>(static_cast<T*>(a.grad_parameter) + at, by_parameter, count);
    }
  }
}

template <class Row, bool kAligned, class T, class Grid>
FASTVAE_INLINE void likelihood_gradient_rows(const Grid& grid, const DeviceLikelihood& a) {
  using Real = typename Row::Real;
  constexpr bool kHasParameter = Row::Math::kHasParameter;
  const typename Row::Math formula(a.num_levels);
  const Team<Grid> team(grid, a.shape.log2_team);
  for (int64_t unit = team.first; unit < a.shape.units; unit += team.step) {
    const Span span = span_of(a.shape, unit);
    const Row row(a, span.row, span.first);
    const Real grad = static_cast<const Real*>(a.grad_nll)[span.row];
    const int size = span.size();
    for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
      auto pack = row.load(c, size - c);
      formula.template gradient<Row::kWithMask>(pack.output, pack.target, pack.parameter, pack.counts, grad);
      store_gradients<kAligned, T, kHasParameter>(a, row.at + c, pack.output, pack.parameter, size - c);
    }
  }
}

// The gradients of every element, row by row.
template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula, class Grid>
FASTVAE_INLINE void likelihood_backward_body(const Grid& grid, const DeviceLikelihood& a) {
  with_mask<kAligned>(a, [&](auto masked) {
    likelihood_gradient_rows<LikelihoodRow<kAligned, decltype(masked)::value, T, kTarget, Formula>, kAligned, T>(grid, a);
  });
}

// The same if all rows share the parameter: a thread iterates over the rows of a block for a pack of columns, and sums its gradient in registers.
template <bool kAligned, class T, TargetKind kTarget, template <class, class> class Formula, class Grid>
FASTVAE_INLINE void likelihood_columns_body(const Grid& grid, const DeviceLikelihood& a) {
  using Row = LikelihoodRow<kAligned, true, T, kTarget, Formula>;
  using Real = typename Row::Real;
  const typename Row::Math formula(a.num_levels);
  const int64_t columns = a.shape.columns, blocks = row_blocks(a.shape.rows);
  for (int64_t index = grid.index(); index < blocks * packs_of<T>(columns); index += grid.size()) {
    const Place place = place_of<T>(index, columns);
    const int64_t first = place.block * kDeviceRowBlock, rest = columns - place.column;
    const int64_t last = a.shape.rows - first < kDeviceRowBlock ? a.shape.rows : first + kDeviceRowBlock;
    const int count = static_cast<int>(rest < kPack<T> ? rest : kPack<T>);
    Real sums[kPack<T>] = {};
    for (int64_t n = first; n < last; ++n) {
      const Row row(a, n, place.column);
      auto pack = row.load(0, count);
      formula.template gradient<true>(pack.output, pack.target, pack.parameter, pack.counts, static_cast<const Real*>(a.grad_nll)[n]);
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) sums[i] += pack.parameter[i];
      store_gradients<kAligned, T, false>(a, row.at, pack.output, pack.parameter, count);
    }
    store_reals<kAligned, T>(static_cast<Real*>(a.grad_parameter_by_column) + place.block * columns + place.column, sums, count);
  }
}

}  // namespace fastvae
