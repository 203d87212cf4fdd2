// Where a thread stands in the grid, and what it can say to its warp. Kernel bodies are templates over this, so that the tests can run
// them on the host with an emulated grid (tests/csrc/emulated_grid.h); here is the real one.
#pragma once

#include "common/lanes.h"

namespace fastvae {

constexpr int kWarp = 32;
constexpr int kThreadsPerBlock = 256;

#if defined(__CUDACC__)
// The 1 keeps ptxas from spilling registers of the float64 kernels for the sake of occupancy.
#define FASTVAE_LAUNCH_BOUNDS __launch_bounds__(kThreadsPerBlock, 1)

struct DeviceGrid {
  __device__ __forceinline__ int64_t index() const { return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; }
  __device__ __forceinline__ int64_t size() const { return static_cast<int64_t>(gridDim.x) * blockDim.x; }
  template <class Real>
  __device__ __forceinline__ Real shuffle_xor(Real value, int mask) const {
    return __shfl_xor_sync(0xffffffffu, value, mask);
  }
};
#endif

// A team of lanes (a power of two, at most a warp) that shares one unit of work, and the units it takes: every team of a warp goes
// through the same number of turns, so that all lanes meet in the shuffles; a team without a unit idles.
template <class Grid>
struct Team {
  const Grid& grid;
  int lanes, lane;
  int64_t team, teams, first_of_warp;

  FASTVAE_INLINE Team(const Grid& where, int lanes_per_team)
      : grid(where),
        lanes(lanes_per_team),
        lane(static_cast<int>(where.index() & (lanes_per_team - 1))),
        team(where.index() / lanes_per_team),
        teams(where.size() / lanes_per_team),
        first_of_warp(where.index() / kWarp * (kWarp / lanes_per_team)) {}

  // The sum over the team's lanes, the same on each: halves added to halves.
  template <class Real>
  FASTVAE_INLINE Real sum(Real value) const {
    for (int mask = lanes / 2; mask > 0; mask /= 2) value += grid.shuffle_xor(value, mask);
    return value;
  }

  // The largest over the team's lanes, the same on each; NaN where a lane has NaN.
  template <class Real>
  FASTVAE_INLINE Real largest(Real value) const {
    for (int mask = lanes / 2; mask > 0; mask /= 2) {
      const Real other = grid.shuffle_xor(value, mask);
      value = other > value || other != other ? other : value;
    }
    return value;
  }
};

}  // namespace fastvae
