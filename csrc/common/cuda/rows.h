// The distribution of rows over the lanes of a grid, and the sums that follow.
#pragma once

#include "common/cuda/grid.h"
#include "common/cuda/pack.h"
#include "common/device_math.h"
#include "common/cuda/key.h"

namespace fastvae {

constexpr int64_t kDeviceSegment = 4096;  // columns

struct DeviceRows {
  int64_t rows, columns, segments, units;  // units: rows times segments
  int log2_team;  // of its lanes
};

// The distribution of a row, which depends on its length only: segments of a long row, and enough lanes that each has two packs, or four of a
// long row. The overhead of a row (addresses, the sum over lanes) is then amortised over its packs.
template <class T>
inline DeviceRows share_rows(int64_t rows, int64_t columns) {
  const int64_t packs = (columns + kPack<T> - 1) / kPack<T>, each = packs < 64 ? 2 : 4;
  int log2_team = 0;
  while (1 << log2_team < kWarp && (each << log2_team) < packs) ++log2_team;
  const int64_t segments = columns > kDeviceSegment ? (columns + kDeviceSegment - 1) / kDeviceSegment : 1;
  return {rows, columns, segments, rows * segments, log2_team};
}

// The types in the operators' arguments (<op>/arguments.h) on CUDA, for tensors of type T; Cuda<void> where the kernel casts.
template <class T>
struct Cuda {
  using Key = DeviceKey;
  using Rows = DeviceRows;
  using Stored = T;
  using Real = typename Compute<T>::Real;
  using Partial = Real;  // sums over a segment
};
template <>
struct Cuda<void> {
  using Key = DeviceKey;
  using Rows = DeviceRows;
  using Stored = void;
  using Real = void;
  using Partial = void;
};

// One unit of work: the columns [first, last) of a row.
struct Span {
  int64_t row, first, last;

  FASTVAE_INLINE int size() const { return static_cast<int>(last - first); }  // at most kDeviceSegment
  FASTVAE_INLINE uint32_t noise_block() const { return static_cast<uint32_t>(first >> 2); }
};

FASTVAE_INLINE Span span_of(const DeviceRows& a, int64_t unit) {
  if (a.segments == 1) return {unit, 0, a.columns};
  const int64_t row = quotient(unit, a.segments), first = (unit - row * a.segments) * kDeviceSegment;
  return {row, first, a.columns - first < kDeviceSegment ? a.columns : first + kDeviceSegment};
}

template <class T, class Real>
FASTVAE_INLINE void pack_normals(const scalar::PhiloxRounds& row, uint32_t block, Real (&noise)[kPack<T>]) {
  FASTVAE_UNROLL(2)
  for (int b = 0; b < kPack<T> / 4; ++b) {
    Real four[4];
    scalar::block_normals_approximate(row, block + b, four);
    FASTVAE_UNROLL(4)
    for (int j = 0; j < 4; ++j) noise[4 * b + j] = four[j];
  }
}

// Packs of columns [first, ...) of all rows, for kernels that go down the columns of a block of rows.
struct Place {
  int64_t block, column;

  FASTVAE_INLINE uint32_t noise_block() const { return static_cast<uint32_t>(column / 4); }
};

template <class T>
FASTVAE_INLINE int64_t packs_of(int64_t columns) {
  return (columns + kPack<T> - 1) / kPack<T>;
}

template <class T>
FASTVAE_INLINE Place place_of(int64_t index, int64_t columns) {
  const int64_t packs = packs_of<T>(columns), block = quotient(index, packs);
  return {block, (index - block * packs) * kPack<T>};
}

// Rows of a block, whose sums are then added in a tree over the blocks: few enough that a small batch occupies several threads per column.
constexpr int64_t kDeviceRowBlock = 16;

FASTVAE_INLINE int64_t row_blocks(int64_t rows) { return (rows + kDeviceRowBlock - 1) / kDeviceRowBlock; }

// out[i] = the sum of row i's segments. A team processes a row; its lanes' sums are added pairwise.
template <class Real, class Grid>
FASTVAE_INLINE void add_segments_body(const Grid& grid, const Real* partial, int64_t rows, int64_t segments, int log2_team, Real* out) {
  const Team<Grid> team(grid, log2_team);
  for (int64_t row = team.first; row < team.turns(rows); row += team.step) {
    double total = 0;
    for (int64_t s = team.lane; row < rows && s < segments; s += team.lanes) total += partial[row * segments + s];
    total = team.sum(total);
    if (team.lane == 0 && row < rows) out[row] = static_cast<Real>(total);
  }
}

// Lanes for the segments of a row.
inline int log2_of_segments(int64_t segments) {
  int log2_team = 0;
  while (1 << log2_team < kWarp && 1 << log2_team < segments) ++log2_team;
  return log2_team;
}

// One level of a tree of sums over the blocks of partial [blocks, columns]: out[g, c] = the sum of kFanIn blocks of column c, in order.
// The host repeats until one block remains: no thread adds more than kFanIn values per level.
constexpr int64_t kFanIn = 64;

FASTVAE_INLINE int64_t groups_of(int64_t blocks) { return (blocks + kFanIn - 1) / kFanIn; }

template <class Real, class Grid>
FASTVAE_INLINE void add_blocks_body(const Grid& grid, const Real* partial, int64_t blocks, int64_t columns, Real* out) {
  for (int64_t i = grid.index(); i < groups_of(blocks) * columns; i += grid.size()) {
    const int64_t group = quotient(i, columns), first = group * kFanIn;
    const int64_t last = blocks - first < kFanIn ? blocks : first + kFanIn;
    const Real* from = partial + first * columns + (i - group * columns);
    double total = 0;
    for (int64_t b = first; b < last; ++b, from += columns) total += *from;
    out[i] = static_cast<Real>(total);
  }
}

}  // namespace fastvae
