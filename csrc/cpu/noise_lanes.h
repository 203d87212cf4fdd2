// A row's noise in vectors: groups of columns, for the CPU kernels.
#pragma once

#include "cpu/simd.h"
#include "philox.h"

namespace fastvae {
namespace FASTVAE_LANES {

// How a kernel walks a row in float32: a chain of 64-bit lanes makes the words of kLanes / 2 blocks, which is two vectors of columns; four
// chains at a time hide the latency of the multiplications. `Real` is what a kernel computes with, a vector or (float64) a scalar.
struct Single {
  using Real = F;
  static constexpr int kWidth = kLanes;
  static constexpr int kVectors = 2;  // of columns, a chain
  static constexpr int kChains = 4;   // at most, at a time
  static constexpr int kColumns = kWidth * kVectors;

  // The words of the chains' columns, vector after vector, starting at column 4 * block.
  template <int kChains>
  static FASTVAE_INLINE void words(const PhiloxRow& row, uint32_t block, U (&radius)[kChains], U (&angle)[kChains]) {
    FASTVAE_UNROLL(4)
    for (int chain = 0; chain < kChains; ++chain) {
      const W blocks = lane_blocks() + uint64_t{block + chain * static_cast<uint32_t>(kLanes / 2)};
      const PhiloxWords<W> x = philox_blocks(row, blocks);
      radius[chain] = (U)((x.x0 & 0xffffffffu) | (x.x2 << 32));
      angle[chain] = (U)((x.x1 & 0xffffffffu) | (x.x3 << 32));
    }
  }

  template <int kChains>
  static FASTVAE_INLINE void words(const PhiloxRow& row, uint32_t block, U (&out)[kChains * kVectors]) {
    U radius[kChains], angle[kChains];
    words<kChains>(row, block, radius, angle);
    FASTVAE_UNROLL(4)
    for (int chain = 0; chain < kChains; ++chain) {
      out[2 * chain] = (U)interleave_low((F)radius[chain], (F)angle[chain]);
      out[2 * chain + 1] = (U)interleave_high((F)radius[chain], (F)angle[chain]);
    }
  }

  template <int kChains>
  static FASTVAE_INLINE void normals(const PhiloxRow& row, uint32_t block, F (&out)[kChains * kVectors]) {
    U radius[kChains], angle[kChains];
    words<kChains>(row, block, radius, angle);
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
