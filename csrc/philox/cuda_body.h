// What a thread of the noise kernels does: the four words of one block, in one of three forms.
#pragma once

#include "common/cuda/grid.h"
#include "common/philox.h"

namespace fastvae {

struct DeviceKey {
  const int64_t* words;  // [3] on the device: nothing waits for the host to read it
  uint32_t stream;

  FASTVAE_INLINE scalar::PhiloxRow row(int64_t i) const {
    return scalar::philox_row(static_cast<uint32_t>(words[0]), static_cast<uint32_t>(words[1]),
                              static_cast<uint64_t>(words[2]) + static_cast<uint64_t>(i), stream);
  }
};

struct DrawIntegers {
  using Out = int64_t;
  static FASTVAE_INLINE void draw(const scalar::PhiloxRow& row, uint32_t block, int64_t (&out)[4]) {
    const scalar::PhiloxWords<uint64_t> x = scalar::philox_blocks(row, uint64_t{block});
    out[0] = static_cast<uint32_t>(x.x0);
    out[1] = static_cast<uint32_t>(x.x1);
    out[2] = static_cast<uint32_t>(x.x2);
    out[3] = static_cast<uint32_t>(x.x3);
  }
};

struct DrawUniforms {
  using Out = float;
  static FASTVAE_INLINE void draw(const scalar::PhiloxRow& row, uint32_t block, float (&out)[4]) {
    int64_t words[4];
    DrawIntegers::draw(row, block, words);
    FASTVAE_UNROLL(4)
    for (int i = 0; i < 4; ++i) out[i] = scalar::uniform<float>(static_cast<uint32_t>(words[i]));
  }
};

struct DrawNormals {
  using Out = float;
  static FASTVAE_INLINE void draw(const scalar::PhiloxRow& row, uint32_t block, float (&out)[4]) {
    scalar::block_normals(row, block, out);
  }
};

template <class Draw, class Grid>
FASTVAE_INLINE void philox_body(const Grid& grid, const DeviceKey& key, int64_t rows, int64_t columns, typename Draw::Out* out) {
  const int64_t blocks = (columns + 3) / 4;
  for (int64_t i = grid.index(); i < rows * blocks; i += grid.size()) {
    const int64_t row = i / blocks, block = i - row * blocks, count = columns - 4 * block;
    typename Draw::Out four[4];
    Draw::draw(key.row(row), static_cast<uint32_t>(block), four);
    typename Draw::Out* to = out + row * columns + 4 * block;
    FASTVAE_UNROLL(4)
    for (int j = 0; j < 4; ++j) {
      if (j < count) to[j] = four[j];
    }
  }
}

}  // namespace fastvae
