// The CUDA kernels' bodies on an emulated grid, for tests/csrc/test_emulated_grid.py (through ctypes). Pointers are to host memory.
#include "emulated_grid.h"

#include "cuda/gaussian_rsample_kl_body.h"
#include "cuda/philox_body.h"

namespace {

enum Dtype { kFloat32, kFloat64, kBFloat16, kFloat16 };

template <class Run>
int with_storage(int dtype, const Run& run) {
  try {
    if (dtype == kFloat32) run(float{});
    if (dtype == kFloat64) run(double{});
    if (dtype == kBFloat16) run(fastvae::BFloat16{});
    if (dtype == kFloat16) run(fastvae::Float16{});
  } catch (const std::exception&) {
    return 1;
  }
  return 0;
}

}  // namespace

extern "C" {

// kind: 0 integers, 1 uniforms, 2 normals.
int philox(int blocks, int threads, int kind, const int64_t* key, uint32_t stream, int64_t rows, int64_t columns, void* out) {
  const fastvae::DeviceKey device_key{key, stream};
  return with_storage(kFloat32, [&](auto) {
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      if (kind == 0) fastvae::philox_body<fastvae::DrawIntegers>(grid, device_key, rows, columns, static_cast<int64_t*>(out));
      if (kind == 1) fastvae::philox_body<fastvae::DrawUniforms>(grid, device_key, rows, columns, static_cast<float*>(out));
      if (kind == 2) fastvae::philox_body<fastvae::DrawNormals>(grid, device_key, rows, columns, static_cast<float*>(out));
    });
  });
}

int gaussian_rsample_kl(int blocks, int threads, int dtype, int aligned, const int64_t* key, uint32_t stream, int64_t rows,
                        int64_t columns, const void* mu, const void* logvar, void* z, void* kl) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const auto shape = fastvae::share_rows<T>({key, stream}, rows, columns);
    std::vector<Real> partial(rows * shape.segments);
    const fastvae::GaussianForwardArguments<T> arguments{shape, static_cast<const T*>(mu), static_cast<const T*>(logvar),
                                                         static_cast<T*>(z), partial.data()};
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      aligned ? fastvae::gaussian_rsample_kl_body<true>(grid, arguments) : fastvae::gaussian_rsample_kl_body<false>(grid, arguments);
    });
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      fastvae::add_segments_body(grid, partial.data(), rows, shape.segments, static_cast<Real*>(kl));
    });
  });
}

int gaussian_rsample_kl_backward(int blocks, int threads, int dtype, int aligned, const int64_t* key, uint32_t stream, int64_t rows,
                                 int64_t columns, const void* grad_z, const void* grad_kl, const void* mu, const void* logvar,
                                 void* grad_mu, void* grad_logvar) {
  return with_storage(dtype, [&](auto storage) {
    using T = decltype(storage);
    using Real = typename fastvae::Compute<T>::Real;
    const fastvae::GaussianBackwardArguments<T> arguments{
        fastvae::share_rows<T>({key, stream}, rows, columns),
        static_cast<const T*>(grad_z),
        static_cast<const Real*>(grad_kl),
        static_cast<const T*>(mu),
        static_cast<const T*>(logvar),
        static_cast<T*>(grad_mu),
        static_cast<T*>(grad_logvar),
    };
    emulated::launch(blocks, threads, [&](const emulated::Grid& grid) {
      aligned ? fastvae::gaussian_rsample_kl_backward_body<true>(grid, arguments)
              : fastvae::gaussian_rsample_kl_backward_body<false>(grid, arguments);
    });
  });
}

}  // extern "C"
