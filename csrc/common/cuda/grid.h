// A thread's position in the grid, and its communication within the warp. Kernel bodies are templates over this, so that the tests can run
// them on the host with an emulated grid (tests/csrc/emulated_grid.h); here is the real one.
#pragma once

#include "common/lanes.h"

namespace fastvae {

constexpr int kWarp = 32;
constexpr int kThreadsPerBlock = 128;  // small blocks: fewer registers are left unused

#if defined(__CUDACC__)
// The 1 keeps ptxas from spilling registers of the float64 kernels for the sake of occupancy.
#define FASTVAE_LAUNCH_BOUNDS __launch_bounds__(kThreadsPerBlock, 1)

struct DeviceGrid {
  __device__ __forceinline__ int64_t index() const { return static_cast<int64_t>(blockIdx.x) * kThreadsPerBlock + threadIdx.x; }
  __device__ __forceinline__ int64_t size() const { return static_cast<int64_t>(gridDim.x) * kThreadsPerBlock; }
  template <class Real>
  __device__ __forceinline__ Real shuffle_xor(Real value, int mask) const {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }
};
#endif

// n / d for n >= 0, d > 0. A 64-bit division is 70 instructions, and nearly all numbers fit in 32 bits.
FASTVAE_INLINE int64_t quotient(int64_t n, int64_t d) {
  if (((n | d) >> 32) == 0) return static_cast<uint32_t>(n) / static_cast<uint32_t>(d);
  return n / d;
}

// A team of lanes (a power of two, at most a warp) that shares one unit of work, and the units it takes. Every team of a warp goes
// through the same number of iterations, so that all lanes take part in the shuffles; a team without a unit idles:
//     for (int64_t unit = team.first; unit < team.turns(units); unit += team.step) if (unit < units) ...
template <class Grid>
struct Team {
  const Grid& grid;
  int lanes, lane;
  int64_t first, step;

  FASTVAE_INLINE Team(const Grid& where, int log2_lanes)
      : grid(where),
        lanes(1 << log2_lanes),
        lane(static_cast<int>(where.index()) & (lanes - 1)),
        first(where.index() >> log2_lanes),
        step(where.size() >> log2_lanes) {}

  // The number of units, rounded up so that the teams of a warp end together.
  FASTVAE_INLINE int64_t turns(int64_t units) const { return (units + kWarp - 1) & ~int64_t{kWarp - 1}; }

  // The sum over the team's lanes, the same on each: halves added to halves.
  template <class Real>
  FASTVAE_INLINE Real sum(Real value) const {
    FASTVAE_UNROLL(5)
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const Real other = grid.shuffle_xor(value, mask);  // of another team where mask >= lanes
      value += mask < lanes ? other : Real{0};
    }
    return value;
  }

  // The maximum over the team's lanes, the same on each; NaN if a lane has NaN.
  template <class Real>
  FASTVAE_INLINE Real largest(Real value) const {
    FASTVAE_UNROLL(5)
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      const Real other = grid.shuffle_xor(value, mask);
      value = mask < lanes && (other > value || other != other) ? other : value;
    }
    return value;
  }
};

}  // namespace fastvae
