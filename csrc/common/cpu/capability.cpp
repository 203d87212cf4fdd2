// The choice of the instruction set.
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "common/cpu/kernels.h"

namespace fastvae {
namespace {

struct Candidate {
  const Kernels* kernels;
  bool runs_here;
};

const Kernels& choose() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool bf16 = avx512 && __builtin_cpu_supports("avx512bf16");
  const Candidate candidates[] = {{&kAvx512BF16Kernels, bf16}, {&kAvx512Kernels, avx512}, {&kAvx2Kernels, avx2}, {&kBaselineKernels, true}};
#else
  const Candidate candidates[] = {{&kBaselineKernels, true}};
#endif
  const char* wanted = std::getenv("FASTVAE_CPU_CAPABILITY");
  for (const Candidate& candidate : candidates) {
    if (wanted && *wanted ? !std::strcmp(wanted, candidate.kernels->capability) : candidate.runs_here) {
      if (candidate.runs_here) return *candidate.kernels;
      throw std::runtime_error(std::string("FASTVAE_CPU_CAPABILITY: this CPU does not run ") + wanted + "; unset it");
    }
  }
  throw std::runtime_error(std::string("FASTVAE_CPU_CAPABILITY must be baseline, avx2, avx512 or avx512_bf16, got ") + wanted);
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace fastvae
