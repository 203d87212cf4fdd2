// The table of kernels of the instruction set that includes this.
#pragma once

#include "cpu/gaussian_rsample_kl_kernel.h"
#include "cpu/noise_kernel.h"

namespace fastvae {
namespace FASTVAE_LANES {

constexpr Kernels table(const char* capability) {
  return {
      capability,
      write_noise<WriteInteger>,
      write_noise<WriteUniform>,
      write_noise<WriteNormal>,
      {gaussian_rsample_kl<float>, gaussian_rsample_kl<double>, gaussian_rsample_kl<BFloat16>, gaussian_rsample_kl<Float16>},
      {gaussian_rsample_kl_backward<float>, gaussian_rsample_kl_backward<double>, gaussian_rsample_kl_backward<BFloat16>,
       gaussian_rsample_kl_backward<Float16>},
  };
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
