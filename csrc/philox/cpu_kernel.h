// Kernels of the noise alone.
#pragma once

#include "common/cpu/kernels.h"
#include "common/cpu/noise_lanes.h"

namespace fastvae {
namespace FASTVAE_LANES {

FASTVAE_INLINE PhiloxRow noise_row(const NoiseKey& key, int64_t row) {
  return philox_row(key.seed, key.step, key.first_row + static_cast<uint64_t>(row), key.stream);
}

struct WriteInteger {
  using Out = int64_t;
  template <int kChains>
  static FASTVAE_INLINE void write(const PhiloxRow& row, uint32_t block, int64_t* to, int64_t count) {
    U words[2 * kChains];
    Single::words<kChains>(row, block, words);
    uint32_t buffer[2 * kChains * kLanes];
    memcpy(buffer, words, sizeof(buffer));
    for (int64_t i = 0; i < count; ++i) to[i] = buffer[i];
  }
};

struct WriteUniform {
  using Out = float;
  template <int kChains>
  static FASTVAE_INLINE void write(const PhiloxRow& row, uint32_t block, float* to, int64_t count) {
    U words[2 * kChains];
    Single::words<kChains>(row, block, words);
    FASTVAE_UNROLL(8)
    for (int v = 0; v < 2 * kChains; ++v) store_some(to + v * kLanes, uniform<F>(words[v]), count - v * kLanes);
  }
};

struct WriteNormal {
  using Out = float;
  template <int kChains>
  static FASTVAE_INLINE void write(const PhiloxRow& row, uint32_t block, float* to, int64_t count) {
    F normals[2 * kChains];
    Single::normals<kChains>(row, block, normals);
    FASTVAE_UNROLL(8)
    for (int v = 0; v < 2 * kChains; ++v) store_some(to + v * kLanes, normals[v], count - v * kLanes);
  }
};

template <class Writer, int kChains>
FASTVAE_INLINE int64_t write_groups(const NoiseArguments& a, const PhiloxRow& row, typename Writer::Out* out, int64_t c) {
  constexpr int64_t kGroup = kChains * Single::kColumns;
  for (; c + kGroup <= a.columns; c += kGroup) Writer::template write<kChains>(row, static_cast<uint32_t>(c / 4), out + c, kGroup);
  return c;
}

template <class Writer>
void write_noise(const NoiseArguments& a, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    const PhiloxRow row = noise_row(a.key, i);
    typename Writer::Out* out = static_cast<typename Writer::Out*>(a.out) + i * a.columns;
    int64_t c = write_groups<Writer, 4>(a, row, out, 0);
    c = write_groups<Writer, 1>(a, row, out, c);
    if (c < a.columns) Writer::template write<1>(row, static_cast<uint32_t>(c / 4), out + c, a.columns - c);
  }
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
