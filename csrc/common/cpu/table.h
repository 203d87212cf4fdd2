// The table of kernels of the instruction set that includes this.
#pragma once

#include "gaussian_rsample_kl_full/cpu_kernel.h"
#include "gaussian_rsample_kl/cpu_kernel.h"
#include "gaussian_rsample_log_ratio/cpu_kernel.h"
#include "common/cpu/likelihood_kernel.h"
#include "multinomial_nll/cpu_kernel.h"
#include "philox/cpu_kernel.h"

namespace fastvae {
namespace FASTVAE_LANES {

// One kernel, for each storage type of the tensors.
#define FASTVAE_EACH(kernel) {kernel<float>, kernel<double>, kernel<BFloat16>, kernel<Float16>}
#define FASTVAE_EACH_OF(kernel, formula) \
  {kernel<float, formula>, kernel<double, formula>, kernel<BFloat16, formula>, kernel<Float16, formula>}
#define FASTVAE_EACH_LIKELIHOOD(kernel) \
  {FASTVAE_EACH_OF(kernel, Bernoulli), FASTVAE_EACH_OF(kernel, Gaussian), FASTVAE_EACH_OF(kernel, DiscretizedLogistic)}

constexpr Kernels table(const char* capability) {
  return {
      capability,
      write_noise<WriteInteger>,
      write_noise<WriteUniform>,
      write_noise<WriteNormal>,
      FASTVAE_EACH(gaussian_rsample_kl),
      FASTVAE_EACH(gaussian_rsample_kl_backward),
      FASTVAE_EACH(gaussian_rsample_kl_full),
      FASTVAE_EACH(gaussian_rsample_kl_full_backward),
      FASTVAE_EACH(gaussian_rsample_log_ratio),
      FASTVAE_EACH(gaussian_rsample_log_ratio_backward),
      FASTVAE_EACH_LIKELIHOOD(likelihood),
      FASTVAE_EACH_LIKELIHOOD(likelihood_backward),
      FASTVAE_EACH_OF(likelihood_and_gradient, Bernoulli),
      FASTVAE_EACH(multinomial_nll),
      FASTVAE_EACH(multinomial_nll_backward),
  };
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
