// How rows are shared out among the lanes of a grid, and the sums that follow.
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

// How a row is shared out, by its length alone: segments of a long row, and enough lanes that each has two packs of it, or four of a
// long one. What a row costs beside its packs (addresses, the sum over lanes) is then spread over them.
template <class T>
inline DeviceRows share_rows(int64_t rows, int64_t columns) {
  const int64_t packs = (columns + kPack<T> - 1) / kPack<T>, each = packs < 64 ? 2 : 4;
  int log2_team = 0;
  while (1 << log2_team < kWarp && (each << log2_team) < packs) ++log2_team;
  const int64_t segments = columns > kDeviceSegment ? (columns + kDeviceSegment - 1) / kDeviceSegment : 1;
  return {rows, columns, segments, rows * segments, log2_team};
}

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

// Rows of a block, whose sums go on in order of the blocks.
constexpr int64_t kDeviceRowBlock = 64;

// out[i] = the sum of row i's segments, in order.
template <class Real, class Grid>
FASTVAE_INLINE void add_segments_body(const Grid& grid, const Real* partial, int64_t rows, int64_t segments, Real* out) {
  for (int64_t i = grid.index(); i < rows; i += grid.size()) {
    double total = 0;
    for (int64_t s = 0; s < segments; ++s) total += partial[i * segments + s];
    out[i] = static_cast<Real>(total);
  }
}

// out[c] = the sum of column c over the blocks of partial [blocks, columns], in order.
template <class Real, class Grid>
FASTVAE_INLINE void add_blocks_body(const Grid& grid, const Real* partial, int64_t blocks, int64_t columns, Real* out) {
  for (int64_t c = grid.index(); c < columns; c += grid.size()) {
    double total = 0;
    for (int64_t b = 0; b < blocks; ++b) total += partial[b * columns + c];
    out[c] = static_cast<Real>(total);
  }
}

// *out = the sum of `count` values, by the first warp of the grid.
template <class Real, class Grid>
FASTVAE_INLINE void add_all_body(const Grid& grid, const Real* values, int64_t count, Real* out) {
  if (grid.index() >= kWarp) return;
  const Team<Grid> team(grid, 5);
  double total = 0;
  for (int64_t i = team.lane; i < count; i += kWarp) total += values[i];
  total = team.sum(total);
  if (team.lane == 0) *out = static_cast<Real>(total);
}

}  // namespace fastvae
