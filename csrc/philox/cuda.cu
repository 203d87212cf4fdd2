// philox_integers, philox_uniform, philox_normal on CUDA.
#include "common/cuda/launch.h"
#include "philox/cuda_body.h"

namespace fastvae {
namespace {

template <bool kAligned, class Draw>
__global__ void FASTVAE_LAUNCH_BOUNDS philox_kernel(DeviceKey key, DeviceRows shape, typename Draw::Out* out) {
  philox_body<Draw, kAligned>(DeviceGrid{}, key, shape, out);
}

template <class Draw>
void fill(const Tensor& out, Tensor key, int64_t stream) {
  const torch::stable::accelerator::DeviceGuard guard(key.get_device_index());
  key = as_contiguous(key);
  if (out.numel() == 0) return;
  const DeviceRows shape = share_rows<float>(out.size(0), out.size(1));
  const bool aligned = rows_are_aligned<float>(shape.columns, {out.data_ptr()});
  (aligned ? philox_kernel<true, Draw> : philox_kernel<false, Draw>)<<<blocks_of(shape), kThreadsPerBlock, 0, current_stream(key)>>>(
      device_key(key, stream), shape, static_cast<typename Draw::Out*>(out.data_ptr()));
  STD_CUDA_KERNEL_LAUNCH_CHECK();
}

template <class Draw>
Tensor draw(const char* where, ScalarType type, const Tensor& key, int64_t rows, int64_t columns, int64_t stream) {
  check_noise(where, key, columns, stream);
  STD_TORCH_CHECK(rows >= 0, where, ": rows must be at least 0, got ", rows);
  Tensor out = empty_on(key, {rows, columns}, type);
  fill<Draw>(out, key, stream);
  return out;
}

Tensor philox_integers(Tensor key, int64_t rows, int64_t columns, int64_t stream) {
  return draw<DrawIntegers>("philox_integers", ScalarType::Long, key, rows, columns, stream);
}

Tensor philox_uniform(Tensor key, int64_t rows, int64_t columns, int64_t stream) {
  return draw<DrawUniforms>("philox_uniform", ScalarType::Float, key, rows, columns, stream);
}

Tensor philox_normal(Tensor key, int64_t rows, int64_t columns, int64_t stream) {
  return draw<DrawNormals>("philox_normal", ScalarType::Float, key, rows, columns, stream);
}

// Fills noise [rows, columns].
void philox_normal_into(Tensor noise, Tensor key, int64_t stream) {
  STD_TORCH_CHECK(noise.dim() == 2 && noise.is_contiguous() && noise.scalar_type() == ScalarType::Float && same_device(noise, key),
                  "philox_normal_: noise must be contiguous float32 [rows, columns], on the key's device");
  check_noise("philox_normal_", key, noise.size(1), stream);
  fill<DrawNormals>(noise, key, stream);
}

}  // namespace

STABLE_TORCH_LIBRARY_IMPL(fastvae, CUDA, m) {
  m.impl("philox_integers", TORCH_BOX(&philox_integers));
  m.impl("philox_uniform", TORCH_BOX(&philox_uniform));
  m.impl("philox_normal", TORCH_BOX(&philox_normal));
  m.impl("philox_normal_", TORCH_BOX(&philox_normal_into));
}

}  // namespace fastvae
