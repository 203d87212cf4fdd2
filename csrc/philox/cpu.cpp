// philox_integers, philox_uniform, philox_normal on the CPU.
#include "common/cpu/launch.h"

namespace fastvae {
namespace {

Tensor draw(const char* where, ScalarType type, void (*kernel)(const NoiseArguments&, int64_t, int64_t), const Tensor& key, int64_t rows,
            int64_t columns, int64_t stream) {
  check_noise(where, key, columns, stream);
  STD_TORCH_CHECK(rows >= 0, where, ": rows must be at least 0, got ", rows);
  Tensor out = with_huge_pages(empty_on(key, {rows, columns}, type));
  run_parallel(kernel, NoiseArguments{read_key(key, stream), columns, pointer(out)}, columns ? rows : 0, columns);
  return out;
}

Tensor philox_integers(Tensor key, int64_t rows, int64_t columns, int64_t stream) {
  return draw("philox_integers", ScalarType::Long, kernels().integers, key, rows, columns, stream);
}

Tensor philox_uniform(Tensor key, int64_t rows, int64_t columns, int64_t stream) {
  return draw("philox_uniform", ScalarType::Float, kernels().uniforms, key, rows, columns, stream);
}

Tensor philox_normal(Tensor key, int64_t rows, int64_t columns, int64_t stream) {
  return draw("philox_normal", ScalarType::Float, kernels().normals, key, rows, columns, stream);
}

// Fills noise [rows, columns].
void philox_normal_into(Tensor noise, Tensor key, int64_t stream) {
  STD_TORCH_CHECK(noise.dim() == 2 && noise.is_contiguous() && noise.scalar_type() == ScalarType::Float && same_device(noise, key),
                  "philox_normal_: noise must be contiguous float32 [rows, columns], on the key's device");
  const int64_t columns = noise.size(1);
  check_noise("philox_normal_", key, columns, stream);
  const NoiseArguments arguments{read_key(key, stream), columns, pointer(noise)};
  run_parallel(kernels().normals, arguments, columns ? noise.size(0) : 0, columns);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CPU, m) {
  m.impl("philox_integers", TORCH_BOX(&philox_integers));
  m.impl("philox_uniform", TORCH_BOX(&philox_uniform));
  m.impl("philox_normal", TORCH_BOX(&philox_normal));
  m.impl("philox_normal_", TORCH_BOX(&philox_normal_into));
}

}  // namespace fastvae
