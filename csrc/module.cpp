// fastvae._C, optional: information about its build, and the noise functions on the host for tests with known answers. It contains no kernel
// and does not need torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>

#include "common/philox.h"

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
  info["python"] = PY_VERSION;
  info["pybind11"] =
      FASTVAE_STRING(PYBIND11_VERSION_MAJOR) "." FASTVAE_STRING(PYBIND11_VERSION_MINOR) "." FASTVAE_STRING(PYBIND11_VERSION_PATCH);
  return info;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "fastvae's noise functions on the host, for known answers; the kernels are in libfastvae_cpu.so and libfastvae_cuda.so.";
  m.def("build_info", &build_info, "How this module was built.");
  m.def("philox4x32_10", &philox4x32_10, py::arg("counter"), py::arg("key"), "Four uint32 words of a counter and a key.");
  m.def("box_muller", &box_muller, py::arg("radius_word"), py::arg("angle_word"), "Two float32 normals of two uint32 words.");
}
