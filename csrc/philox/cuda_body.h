// The work of one thread of the noise kernels: the four words of one block, in one of three forms.
#pragma once

#include "common/cuda/rows.h"

namespace fastvae {

struct DrawIntegers {
  using Out = int64_t;
  static FASTVAE_INLINE void draw(const scalar::PhiloxRounds& row, uint32_t block, int64_t (&out)[4]) {
    const scalar::PhiloxWords<uint64_t> x = row.words(block);
    out[0] = static_cast<uint32_t>(x.x0);
    out[1] = static_cast<uint32_t>(x.x1);
    out[2] = static_cast<uint32_t>(x.x2);
    out[3] = static_cast<uint32_t>(x.x3);
  }
};

struct DrawUniforms {
  using Out = float;
  static FASTVAE_INLINE void draw(const scalar::PhiloxRounds& row, uint32_t block, float (&out)[4]) {
    int64_t words[4];
    DrawIntegers::draw(row, block, words);
    FASTVAE_UNROLL(4)
    for (int i = 0; i < 4; ++i) out[i] = scalar::uniform<float>(static_cast<uint32_t>(words[i]));
  }
};

struct DrawNormals {
  using Out = float;
  static FASTVAE_INLINE void draw(const scalar::PhiloxRounds& row, uint32_t block, float (&out)[4]) {
    scalar::block_normals_approximate(row, block, out);
  }
};

// With kAligned rows are whole blocks on 16-byte addresses.
template <class Draw, bool kAligned, class Grid>
FASTVAE_INLINE void philox_body(const Grid& grid, const DeviceKey& key, const DeviceRows& shape, typename Draw::Out* out) {
  const Team<Grid> team(grid, shape.log2_team);
  for (int64_t unit = team.first; unit < shape.units; unit += team.step) {
    const Span span = span_of(shape, unit);
    const scalar::PhiloxRounds row(key.row(span.row));
    typename Draw::Out* to = out + span.row * shape.columns + span.first;
    const int size = span.size();
    for (int c = team.lane * 4; c < size; c += team.lanes * 4) {
      typename Draw::Out four[4];
      Draw::draw(row, span.noise_block() + (c >> 2), four);
      store_reals<kAligned, float>(to + c, four, size - c);
    }
  }
}

}  // namespace fastvae
