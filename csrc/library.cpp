// Information about libfastvae_cpu.so as C functions for ctypes, because the library has no Python symbol. Loading it registers the kernels.
#include <exception>
#include <string>

#include "common/cpu/kernels.h"

// The instruction set of the CPU kernels: avx512_bf16, avx512, avx2 or baseline. Null if FASTVAE_CPU_CAPABILITY names one that
// is not available; *error is then the reason.
extern "C" __attribute__((visibility("default"))) const char* fastvae_cpu_capability(const char** error) {
  try {
    return fastvae::kernels().capability;
  } catch (const std::exception& exception) {
    static std::string message;
    message = exception.what();
    *error = message.c_str();
    return nullptr;
  }
}
