// How rows are shared out among the lanes of a grid, and the sums that follow.
#pragma once

#include "common/cuda/grid.h"
#include "common/cuda/pack.h"
#include "philox/cuda_body.h"

namespace fastvae {

constexpr int64_t kDeviceSegment = 4096;  // columns

struct DeviceRows {
  int64_t rows, columns, segments;
  int team;  // lanes
};

// How a row is shared out: enough lanes for its packs, and segments of a long row.
template <class T>
inline DeviceRows share_rows(int64_t rows, int64_t columns) {
  int team = 1;
  while (team < kWarp && int64_t{team} * kPack<T> < columns) team *= 2;
  const int64_t segments = columns > kDeviceSegment ? (columns + kDeviceSegment - 1) / kDeviceSegment : 1;
  return {rows, columns, segments, team};
}

// One unit of work: the columns [first, last) of a row.
struct Span {
  int64_t row, first, last;
};

FASTVAE_INLINE Span span_of(const DeviceRows& a, int64_t unit) {
  const int64_t row = a.segments == 1 ? unit : unit / a.segments;
  const int64_t first = (unit - row * a.segments) * kDeviceSegment;
  return {row, first, a.columns - first < kDeviceSegment ? a.columns : first + kDeviceSegment};
}

template <class T, class Real>
FASTVAE_INLINE void pack_normals(const scalar::PhiloxRow& row, int64_t column, Real (&noise)[kPack<T>]) {
  FASTVAE_UNROLL(2)
  for (int b = 0; b < kPack<T> / 4; ++b) {
    Real four[4];
    scalar::block_normals(row, static_cast<uint32_t>(column / 4) + b, four);
    FASTVAE_UNROLL(4)
    for (int j = 0; j < 4; ++j) noise[4 * b + j] = four[j];
  }
}

// Packs of columns [first, ...) of all rows, for kernels that go down the columns of a block of rows.
struct Place {
  int64_t block, column;
};

template <class T>
FASTVAE_INLINE int64_t packs_of(int64_t columns) {
  return (columns + kPack<T> - 1) / kPack<T>;
}

template <class T>
FASTVAE_INLINE Place place_of(int64_t index, int64_t columns) {
  const int64_t packs = packs_of<T>(columns), block = index / packs;
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
  const Team<Grid> team(grid, kWarp);
  double total = 0;
  for (int64_t i = team.lane; i < count; i += kWarp) total += values[i];
  total = team.sum(total);
  if (team.lane == 0) *out = static_cast<Real>(total);
}

}  // namespace fastvae
