// fastvae._C: importing it registers the kernels; besides, it says how it was built and gives the noise functions for known answers.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "common/cpu/kernels.h"
#include "common/philox.h"

#ifndef FASTVAE_WITH_CUDA
#define FASTVAE_WITH_CUDA 0
#endif
#ifndef FASTVAE_BUILT_WITH_TORCH
#define FASTVAE_BUILT_WITH_TORCH "unknown"
#endif
#define FASTVAE_STRING_OF(x) #x
#define FASTVAE_STRING(x) FASTVAE_STRING_OF(x)

namespace py = pybind11;

namespace {

std::array<uint32_t, 4> philox4x32_10(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key) {
  const auto x = fastvae::scalar::philox4x32_10({counter[0], counter[1], counter[2], counter[3]}, key[0], key[1]);
  return {static_cast<uint32_t>(x.x0), static_cast<uint32_t>(x.x1), static_cast<uint32_t>(x.x2), static_cast<uint32_t>(x.x3)};
}

std::array<float, 2> box_muller(uint32_t radius_word, uint32_t angle_word) {
  std::array<float, 2> normals;
  fastvae::scalar::box_muller(radius_word, angle_word, normals[0], normals[1]);
  return normals;
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = __VERSION__;
  info["cuda"] = static_cast<bool>(FASTVAE_WITH_CUDA);
  info["torch"] = FASTVAE_BUILT_WITH_TORCH;
  info["torch_target_version"] = FASTVAE_STRING(TORCH_TARGET_VERSION);
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "fastvae's native kernels; importing this registers them with PyTorch.";
  m.def("build_info", &build_info, "How this library was built.");
  m.def("cpu_capability", [] { return fastvae::kernels().capability; },
        "The instruction set of the CPU kernels: avx512_bf16, avx512, avx2 or baseline; FASTVAE_CPU_CAPABILITY overrides it.");
  m.def("philox4x32_10", &philox4x32_10, py::arg("counter"), py::arg("key"), "Four uint32 words of a counter and a key.");
  m.def("box_muller", &box_muller, py::arg("radius_word"), py::arg("angle_word"), "Two float32 normals of two uint32 words.");
}
