// Kernels of multinomial_nll: log-softmax and dot product in one pass over a row, cut into pieces that stay in the first-level cache.
#pragma once

#include "common/cpu/likelihood_kernel.h"

namespace fastvae {
namespace FASTVAE_LANES {

constexpr int64_t kPiece = 1024;  // columns

template <class Scalar>
FASTVAE_INLINE Scalar value_at(Storage storage, const void* values, int64_t i) {
  Scalar x{};
  if constexpr (sizeof(Scalar) == sizeof(double)) {
    load_any(x, storage, values, i, 1);
  } else {
    F lane{};
    load_any(lane, storage, values, i, 1);
    x = first_lane(lane);
  }
  return x;
}

// Add (or, with clear, remove) the compressed row's values.
template <class Scalar>
FASTVAE_INLINE void scatter(const CpuMultinomial& a, int64_t row, Scalar* scratch, bool clear) {
  for (int64_t i = a.row_starts[row]; i < a.row_starts[row + 1]; ++i) {
    const int64_t c = a.indices[i];
    scratch[c] = clear ? Scalar{0} : scratch[c] + value_at<Scalar>(a.counts_storage, a.values, i);
  }
}

template <class Scalar>
constexpr Storage kScratchStorage = sizeof(Scalar) == sizeof(double) ? kAsFloat64 : kAsFloat32;

template <class T>
FASTVAE_INLINE void multinomial_piece(const T* logits, Storage storage, const void* counts, int64_t start,
                                      int64_t columns, RunningSoftmax& running) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  constexpr int64_t kWidth = Walk<T>::kWidth;
  const Scalar lowest = -static_cast<Scalar>(__builtin_inf());
  Real largest = Real{} + lowest;
  for_each_vector<kWidth>(0, columns, [&](int64_t c, int64_t count) FASTVAE_LAMBDA_INLINE {
    Real x;
    load_some(x, logits + c, count);
    if (count < kWidth) x = replace_after(x, count, lowest);
    largest = x > largest || x != x ? x : largest;
  });
  const Scalar piece_largest = largest_lane(largest);
  const Scalar shift = piece_largest == lowest ? Scalar{0} : piece_largest;
  Real sum{}, dot{}, total{};
  for_each_vector<kWidth>(0, columns, [&](int64_t c, int64_t count) FASTVAE_LAMBDA_INLINE {
    Real x, n{};
    load_some(x, logits + c, count);
    load_any(n, storage, counts, start + c, count);
    if (count < kWidth) x = replace_after(x, count, lowest);
    const Real shifted = x - shift;
    sum = sum + exp_of_small(shifted);
    dot = dot + (n == Scalar{0} ? Real{} : n * shifted);
    total = total + n;
  });
  running.add(piece_largest, sum_lanes(sum), sum_lanes(dot), sum_lanes(total));
}

template <class T>
void multinomial_nll(const CpuMultinomial& a, int64_t begin, int64_t end) {
  using Scalar = decltype(sum_lanes(typename Walk<T>::Real{}));
  Scalar* scratch = a.counts ? nullptr : new Scalar[a.shape.columns]();
  for (int64_t n = begin; n < end; ++n) {
    const int64_t data = n % a.data_rows;
    if (scratch) scatter(a, data, scratch, false);
    const Storage storage = scratch ? kScratchStorage<Scalar> : a.counts_storage;
    const void* counts = scratch ? scratch : a.counts;
    const int64_t start = scratch ? 0 : data * a.shape.columns;
    RunningSoftmax running;
    for (int64_t c = 0; c < a.shape.columns; c += kPiece) {
      const int64_t columns = a.shape.columns - c < kPiece ? a.shape.columns - c : kPiece;
      multinomial_piece(static_cast<const T*>(a.logits) + n * a.shape.columns + c, storage, counts, start + c, columns, running);
    }
    static_cast<Scalar*>(a.nll)[n] = static_cast<Scalar>(running.nll());
    static_cast<Scalar*>(a.logsumexp)[n] = static_cast<Scalar>(running.logsumexp());
    static_cast<Scalar*>(a.total)[n] = static_cast<Scalar>(running.total);
    if (scratch) scatter(a, data, scratch, true);
  }
  delete[] scratch;
}

// grad_logits = grad_nll (total softmax(logits) - counts).
template <class T>
void multinomial_nll_backward(const CpuMultinomial& a, int64_t begin, int64_t end) {
  using Real = typename Walk<T>::Real;
  using Scalar = decltype(sum_lanes(Real{}));
  constexpr int64_t kWidth = Walk<T>::kWidth;
  Scalar* scratch = a.counts ? nullptr : new Scalar[a.shape.columns]();
  for (int64_t n = begin; n < end; ++n) {
    const int64_t data = n % a.data_rows;
    if (scratch) scatter(a, data, scratch, false);
    const Storage storage = scratch ? kScratchStorage<Scalar> : a.counts_storage;
    const void* counts = scratch ? scratch : a.counts;
    const int64_t start = scratch ? 0 : data * a.shape.columns, row = n * a.shape.columns;
    const Scalar grad = static_cast<const Scalar*>(a.grad_nll)[n];
    const Scalar total = static_cast<const Scalar*>(a.total)[n], logsumexp = static_cast<const Scalar*>(a.logsumexp)[n];
    for_each_vector<kWidth>(0, a.shape.columns, [&](int64_t c, int64_t count) FASTVAE_LAMBDA_INLINE {
      Real x, k{};
      load_some(x, static_cast<const T*>(a.logits) + row + c, count);
      load_any(k, storage, counts, start + c, count);
      const Real out = (exp_of_small(x - logsumexp) * total - k) * grad;
      store_some(static_cast<T*>(a.grad_logits) + row + c, out, count);
    });
    if (scratch) scatter(a, data, scratch, true);
  }
  delete[] scratch;
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
