// The work of one thread of the multinomial_nll kernels: segments of rows first, then each row's segments in order.
#pragma once

#include <limits>

#include "common/cuda/likelihood_body.h"
#include "multinomial_nll/arguments.h"

namespace fastvae {

using DeviceMultinomial = MultinomialArguments<Cuda<void>>;

// exp(x) for x <= 0, or slightly above 0.
FASTVAE_INLINE float softmax_power(float x) { return scalar::exp2_approximate(x * scalar::kLog2E); }
FASTVAE_INLINE double softmax_power(double x) { return ::exp(x); }

// The logits of a row that a lane has seen, each read once: the sum of their exponentials and their dot product with the counts, relative
// to a logit that is at most kStep below the largest. Each change of it rounds the sum, so small steps are not followed; after a large one
// the earlier terms are negligible. A NaN is never the largest, but makes the sum NaN.
template <class Real>
struct LaneSoftmax {
  static constexpr Real kStep = 2;
  Real largest = std::numeric_limits<Real>::lowest(), sum = 0, dot = 0, total = 0;

  template <int N>
  FASTVAE_INLINE void add(const Real (&x)[N]) {
    Real top = x[0];
    FASTVAE_UNROLL(8)
    for (int i = 1; i < N; ++i) top = larger(top, x[i]);
    if (top > largest + kStep) move_to(top);
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) sum += softmax_power(x[i] - largest);
  }

  // A count of 0 ignores its logit, which may be infinite.
  template <int N>
  FASTVAE_INLINE void add_counts(const Real (&x)[N], const Real (&counts)[N]) {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) {
      dot = counts[i] == Real{0} ? dot : scalar::fused(counts[i], x[i] - largest, dot);
      total += counts[i];
    }
  }

  // Rescale the sums to another logit, which is not smaller.
  FASTVAE_INLINE void move_to(Real top) {
    const Real by = largest - top;
    sum *= softmax_power(by);
    dot = total == Real{0} ? dot : scalar::fused(total, by, dot);
    largest = top;
  }

 private:
  static FASTVAE_INLINE float larger(float a, float b) { return ::fmaxf(a, b); }
  static FASTVAE_INLINE double larger(double a, double b) { return ::fmax(a, b); }
};

// Whether counts are dense; compressed rows come later.
template <TargetKind kCounts>
FASTVAE_INLINE bool has_counts(const DeviceMultinomial& a) {
  return kCounts != kNoTarget && (kCounts != kAnyTarget || a.counts);
}

// A team processes a segment of a row, in one pass over its logits.
template <bool kAligned, class T, TargetKind kCounts, class Grid>
FASTVAE_INLINE void multinomial_pieces_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const Real lowest = -static_cast<Real>(HUGE_VAL);
  const Team<Grid> team(grid, a.shape.log2_team);
  const int64_t units = a.shape.units;
  const bool counted = has_counts<kCounts>(a);
  for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) {
    LaneSoftmax<Real> lane;
    if (unit < units) {
      const Span span = span_of(a.shape, unit);
      const T* logits = static_cast<const T*>(a.logits) + span.row * a.shape.columns + span.first;
      const int64_t data = counted ? data_row(span.row, a.data_rows) * a.shape.columns + span.first : 0;
      const RowBeside<kAligned, T, kCounts> row_counts(a.counts_storage, a.counts, data);
      const int size = span.size();
      for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
        Real x[kPack<T>], counts[kPack<T>];
        load_pack<kAligned>(x, logits + c, size - c);
        if (counted) row_counts.load(counts, c, size - c);
        FASTVAE_UNROLL(8)
        for (int i = 0; i < kPack<T>; ++i) x[i] = kAligned || i < size - c ? x[i] : lowest;
        lane.add(x);
        if (counted) lane.add_counts(x, counts);
      }
    }
    const Real largest = team.largest(lane.largest);
    lane.move_to(largest);
    const Real sum = team.sum(lane.sum), dot = team.sum(lane.dot), total = team.sum(lane.total);
    if (team.lane == 0 && unit < units) {
      Real* piece = static_cast<Real*>(a.pieces) + 4 * unit;
      piece[0] = sum == Real{0} ? lowest : largest;  // without a logit above -infinity
      piece[1] = sum;
      piece[2] = dot;
      piece[3] = total;
    }
  }
}

// The range of the compressed row, clamped so that invalid indices are safe.
FASTVAE_INLINE Span compressed_row(const DeviceMultinomial& a, int64_t row) {
  const int64_t data = data_row(row, a.data_rows), first = a.row_starts[data], last = a.row_starts[data + 1];
  return {row, first < 0 ? 0 : first, last < a.nonzeros ? last : a.nonzeros};
}

// A warp processes a row: its pieces in order (each lane the same), then the compressed counts, lane by lane.
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

// The values of a row that the gradient needs.
template <class Real>
struct MultinomialRow {
  Real total, logsumexp, grad;

  FASTVAE_INLINE MultinomialRow(const DeviceMultinomial& a, int64_t row)
      : total(static_cast<const Real*>(a.total)[row]),
        logsumexp(static_cast<const Real*>(a.logsumexp)[row]),
        grad(static_cast<const Real*>(a.grad_nll)[row]) {}

  FASTVAE_INLINE Real gradient(Real logit, Real count) const {
    return scalar::fused(softmax_power(logit - logsumexp), total, -count) * grad;
  }
};

// grad_logits = grad_nll (total softmax(logits) - counts), dense counts only.
template <bool kAligned, class T, TargetKind kCounts, class Grid>
FASTVAE_INLINE void multinomial_backward_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, a.shape.log2_team);
  const bool counted = has_counts<kCounts>(a);
  for (int64_t unit = team.first; unit < a.shape.units; unit += team.step) {
    const Span span = span_of(a.shape, unit);
    const MultinomialRow<Real> row(a, span.row);
    const int64_t base = span.row * a.shape.columns + span.first;
    const T* logits = static_cast<const T*>(a.logits) + base;
    T* grad_logits = static_cast<T*>(a.grad_logits) + base;
    const int64_t data = counted ? data_row(span.row, a.data_rows) * a.shape.columns + span.first : 0;
    const RowBeside<kAligned, T, kCounts> row_counts(a.counts_storage, a.counts, data);
    const int size = span.size();
    for (int c = team.lane * kPack<T>; c < size; c += team.lanes * kPack<T>) {
      Real x[kPack<T>], counts[kPack<T>] = {};
      load_pack<kAligned>(x, logits + c, size - c);
      if (counted) row_counts.load(counts, c, size - c);
      FASTVAE_UNROLL(8)
      for (int i = 0; i < kPack<T>; ++i) x[i] = row.gradient(x[i], counts[i]);
      store_pack<kAligned>(grad_logits + c, x, size - c);
    }
  }
}

// Then the columns of the compressed rows again, with their counts; the first of equal columns receives all of them.
template <class T, class Grid>
FASTVAE_INLINE void multinomial_compressed_backward_body(const Grid& grid, const DeviceMultinomial& a) {
  using Real = typename Compute<T>::Real;
  const Team<Grid> team(grid, 5);
  for (int64_t row = team.first; row < a.shape.rows; row += team.step) {
    const Span span = compressed_row(a, row);
    const MultinomialRow<Real> of_row(a, row);
    for (int64_t i = span.first + team.lane; i < span.last; i += kWarp) {
      const int64_t c = a.indices[i];
      if (c < 0 || c >= a.shape.columns || (i > span.first && a.indices[i - 1] == c)) continue;
      Real n = 0;
      for (int64_t j = i; j < span.last && a.indices[j] == c; ++j) n += load_any<Real>(a.counts_storage, a.values, j);
      const int64_t at = row * a.shape.columns + c;
      from_real(static_cast<T*>(a.grad_logits)[at], of_row.gradient(to_real(static_cast<const T*>(a.logits)[at]), n));
    }
  }
}

}  // namespace fastvae
