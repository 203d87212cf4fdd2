// A row's noise in vectors: groups of columns, for the CPU kernels.
#pragma once

#include "common/cpu/simd.h"
#include "common/philox.h"

namespace fastvae {
namespace FASTVAE_LANES {

// The iteration of a kernel over a row in float32: a chain of 64-bit lanes makes the words of kLanes / 2 blocks, which is two vectors of columns; four
// chains at a time hide the latency of the multiplications. `Real` is what a kernel computes with, a vector or (float64) a scalar.
struct Single {
  using Real = F;
  static constexpr int kWidth = kLanes;
  static constexpr int kVectors = 2;  // of columns, a chain
  static constexpr int kChains = 4;   // at most, at a time
  static constexpr int kColumns = kWidth * kVectors;

  // The words of one chain's blocks, the first of them `block`.
  static FASTVAE_INLINE void chain_words(const PhiloxRow& row, uint32_t block, U& radius, U& angle) {
    const PhiloxWords<W> x = philox_blocks(row, lane_blocks() + uint64_t{block});
    radius = (U)((x.x0 & 0xffffffffu) | (x.x2 << 32));
    angle = (U)((x.x1 & 0xffffffffu) | (x.x3 << 32));
  }

  // The words of the chains' columns, vector after vector, starting at column 4 * block.
  template <int kChains>
  static FASTVAE_INLINE void words(const PhiloxRow& row, uint32_t block, U (&out)[kChains * kVectors]) {
    FASTVAE_UNROLL(4)
    for (int chain = 0; chain < kChains; ++chain) {
      U radius, angle;
      chain_words(row, block + chain * kChainBlocks, radius, angle);
      out[2 * chain] = (U)interleave_low((F)radius, (F)angle);
      out[2 * chain + 1] = (U)interleave_high((F)radius, (F)angle);
    }
  }

  // The normals of the same.
  template <int kChains>
  static FASTVAE_INLINE void normals(const PhiloxRow& row, uint32_t block, F (&out)[kChains * kVectors]) {
    U radius[kChains], angle[kChains];
    FASTVAE_UNROLL(4)
    for (int chain = 0; chain < kChains; ++chain) chain_words(row, block + chain * kChainBlocks, radius[chain], angle[chain]);
    from_words(radius, angle, out);
  }

  // The first chain's normals of several rows.
  template <int kRows>
  static FASTVAE_INLINE void normals_of_rows(const PhiloxRow (&rows)[kRows], F (&out)[kRows * kVectors]) {
    U radius[kRows], angle[kRows];
    FASTVAE_UNROLL(4)
    for (int r = 0; r < kRows; ++r) chain_words(rows[r], 0, radius[r], angle[r]);
    from_words(radius, angle, out);
  }

 private:
  static constexpr uint32_t kChainBlocks = kLanes / 2;

  template <int kChains>
  static FASTVAE_INLINE void from_words(const U (&radius)[kChains], const U (&angle)[kChains], F (&out)[kChains * kVectors]) {
    FASTVAE_UNROLL(4)
    for (int chain = 0; chain < kChains; ++chain) {
      F cosine, sine;
      box_muller(radius[chain], angle[chain], cosine, sine);
      out[2 * chain] = interleave_low(cosine, sine);
      out[2 * chain + 1] = interleave_high(cosine, sine);
    }
  }
};

// The same in float64: one block at a time, in scalars. For gradient checks, not for speed.
struct Double {
  using Real = double;
  static constexpr int kWidth = 1;
  static constexpr int kVectors = 4;
  static constexpr int kChains = 1;
  static constexpr int kColumns = 4;

  template <int kChains>
  static FASTVAE_INLINE void normals(const PhiloxRow& row, uint32_t block, double (&out)[kChains * kVectors]) {
    for (int chain = 0; chain < kChains; ++chain) {
      double four[4];
      block_normals(row, block + chain, four);
      for (int i = 0; i < 4; ++i) out[4 * chain + i] = four[i];
    }
  }
};

template <class T>
struct WalkOf {
  using Type = Single;
};
template <>
struct WalkOf<double> {
  using Type = Double;
};
template <class Real>
constexpr int kWidthOf = sizeof(Real) == sizeof(double) ? 1 : kLanes;

template <class T>
using Walk = typename WalkOf<T>::Type;

}  // namespace FASTVAE_LANES
}  // namespace fastvae
