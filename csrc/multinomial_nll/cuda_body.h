// What a thread of the multinomial_nll kernels does: segments of rows first, then each row's segments in order.
#pragma once

#include "common/cuda/likelihood_body.h"

namespace fastvae {

struct DeviceMultinomial {
  DeviceRows shape;  // of the logits; team is a warp for rows that need one
  int64_t data_rows;
  const void* logits;
  Storage counts_storage;
  const void* counts;  // dense [data_rows, columns], or null: compressed rows, which the row kernels add
  const int64_t* row_starts;  // [data_rows + 1]
  const int64_t* indices;     // [nonzeros], ascending in a row
  const void* values;         // [nonzeros], stored as counts_storage says
  int64_t nonzeros;
  void* pieces;  // [rows, segments, 4]: largest logit, sum of exponentials, dot product, sum of counts
  void* nll;     // [rows], as the next three
  void* logsumexp;
  void* total;
  const void* grad_nll;
  void* grad_logits;
};

template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void multinomial_pieces_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const Real lowest = -static_cast<Real>(HUGE_VAL);
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    const bool works = unit < units;
    const Span span = works ? span_of(a.shape, unit) : Span{0, 0, 0};
    const T* logits = static_cast<const T*>(a.logits) + span.row * a.shape.columns;
    const int64_t step = int64_t{team.lanes} * kPack<T>, from = span.first + team.lane * kPack<T>;
    Real x[kPack<T>], largest = lowest;
    for (int64_t c = from; c < span.last; c += step) {
      load_pack<kAligned>(x, logits + c, span.last - c);
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        if (i < span.last - c) largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;
      }
    }
    largest = team.largest(largest);
    const Real shift = largest == lowest ? Real{0} : largest;
    Real sum = 0, dot = 0, total = 0;
    for (int64_t c = from; c < span.last; c += step) {  // the second reading comes from the cache
      Real n[kPack<T>] = {};
      load_pack<kAligned>(x, logits + c, span.last - c);
      if (a.counts) {
        load_pack_any<kAligned, T>(n, a.counts_storage, a.counts, span.row % a.data_rows * a.shape.columns + c, span.last - c);
      }
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) {
        const Real shifted = x[i] - shift;
        sum += i < span.last - c ? scalar::exp_of_small(shifted) : Real{0};
        dot += n[i] == Real{0} ? Real{0} : n[i] * shifted;
        total += n[i];
      }
    }
    sum = team.sum(sum);
    dot = team.sum(dot);
    total = team.sum(total);
    if (team.lane == 0 && works) {
      Real* piece = static_cast<Real*>(a.pieces) + 4 * unit;
      piece[0] = largest;
      piece[1] = sum;
      piece[2] = dot;
      piece[3] = total;
    }
  }
}

// The range of the compressed row, made safe whatever the indices say.
FASTVAE_INLINE Span compressed_row(const DeviceMultinomial& a, int64_t row) {
  const int64_t data = row % a.data_rows, first = a.row_starts[data], last = a.row_starts[data + 1];
  return {row, first < 0 ? 0 : first, last < a.nonzeros ? last : a.nonzeros};
}

// A warp takes a row: its pieces in order (each lane the same), then the compressed counts, lane by lane.
template <class T, class Grid>
FASTVAE_INLINE void multinomial_rows_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, 5);
  for (int64_t row = team.first; row < a.shape.rows; row += team.step) {
    scalar::RunningSoftmax running;
    for (int64_t s = 0; s < a.shape.segments; ++s) {
      const Real* piece = static_cast<const Real*>(a.pieces) + 4 * (row * a.shape.segments + s);
      running.add(piece[0], piece[1], piece[2], piece[3]);
    }
    if (!a.counts) {
      const Span span = compressed_row(a, row);
      double dot = 0, total = 0;
      for (int64_t i = span.first + team.lane; i < span.last; i += kWarp) {
        const int64_t c = a.indices[i];
        const double n = load_any<Real>(a.counts_storage, a.values, i);
        if (c < 0 || c >= a.shape.columns || n == 0) continue;
        dot += n * (to_real(static_cast<const T*>(a.logits)[row * a.shape.columns + c]) - running.largest);
        total += n;
      }
      running.dot = team.sum(dot);
      running.total = team.sum(total);
    }
    if (team.lane == 0) {
      static_cast<Real*>(a.nll)[row] = static_cast<Real>(running.nll());
      static_cast<Real*>(a.logsumexp)[row] = static_cast<Real>(running.logsumexp());
      static_cast<Real*>(a.total)[row] = static_cast<Real>(running.total);
    }
  }
}

template <class T>
FASTVAE_INLINE typename Compute<T>::Real multinomial_gradient(const DeviceMultinomial& a, int64_t row,
                                                              typename Compute<T>::Real logit, typename Compute<T>::Real count) {
  using Real = typename Compute<T>::Real;
  const Real total = static_cast<const Real*>(a.total)[row], logsumexp = static_cast<const Real*>(a.logsumexp)[row];
  return (scalar::exp_of_small(logit - logsumexp) * total - count) * static_cast<const Real*>(a.grad_nll)[row];
}

// grad_logits = grad_nll (total softmax(logits) - counts), dense counts only.
template <bool kAligned, class T, class Grid>
FASTVAE_INLINE void multinomial_backward_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const int64_t columns = a.shape.columns;
  for (int64_t index = grid.index(); index < a.shape.rows * packs_of<T>(columns); index += grid.size()) {
    const Place place = place_of<T>(index, columns);
    const int64_t at = place.block * columns + place.column, count = columns - place.column;
    Real x[kPack<T>], n[kPack<T>] = {};
    load_pack<kAligned>(x, static_cast<const T*>(a.logits) + at, count);
    if (a.counts) {
      load_pack_any<kAligned, T>(n, a.counts_storage, a.counts, place.block % a.data_rows * columns + place.column, count);
    }
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) x[i] = multinomial_gradient<T>(a, place.block, x[i], n[i]);
    store_pack<kAligned>(static_cast<T*>(a.grad_logits) + at, x, count);
  }
}

// Then the compressed rows' columns once more, with their counts; the first of equal columns takes them all.
template <class T, class Grid>
FASTVAE_INLINE void multinomial_compressed_backward_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, 5);
  for (int64_t row = team.first; row < a.shape.rows; row += team.step) {
    const Span span = compressed_row(a, row);
    for (int64_t i = span.first + team.lane; i < span.last; i += kWarp) {
      const int64_t c = a.indices[i];
      if (c < 0 || c >= a.shape.columns || (i > span.first && a.indices[i - 1] == c)) continue;
      Real n = 0;
      for (int64_t j = i; j < span.last && a.indices[j] == c; ++j) n += load_any<Real>(a.counts_storage, a.values, j);
      const int64_t at = row * a.shape.columns + c;
      from_real(static_cast<T*>(a.grad_logits)[at], multinomial_gradient<T>(a, row, to_real(static_cast<const T*>(a.logits)[at]), n));
    }
  }
}

}  // namespace fastvae
