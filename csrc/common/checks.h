// The checks of a kernel's arguments that memory safety requires, with the messages of the Python checks (fastvae/ops/_checks.py). Those
// come first and are more precise; these also protect direct callers of torch.ops.fastvae.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <vector>

namespace fastvae {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

constexpr int64_t kMaxColumns = int64_t{1} << 34;  // a counter word contains column // 4
constexpr int64_t kMaxStream = int64_t{1} << 32;

inline bool is_floating(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::Double || type == ScalarType::BFloat16 || type == ScalarType::Half;
}

// The dtype of sums over columns: float64 for float64, else float32.
inline ScalarType sum_type(ScalarType type) { return type == ScalarType::Double ? type : ScalarType::Float; }

inline bool same_device(const Tensor& a, const Tensor& b) {
  return a.is_cpu() == b.is_cpu() && a.get_device_index() == b.get_device_index();
}

inline void check_noise(const char* where, const Tensor& key, int64_t columns, int64_t stream) {
  STD_TORCH_CHECK(key.scalar_type() == ScalarType::Long && key.dim() == 1 && key.size(0) == 3, where,
                  ": key must be int64 of shape [3] (seed, step, first_row); make it with fastvae.noise_key");
  STD_TORCH_CHECK(stream >= 0 && stream < kMaxStream, where, ": stream must be at least 0 and below 2**32, got ", stream);
  STD_TORCH_CHECK(columns >= 0 && columns <= kMaxColumns, where, ": an example must have at most 2**34 columns of noise, got ", columns);
}

inline void check_like(const char* where, const char* name, const Tensor& x, const char* like_name, const Tensor& like) {
  bool same = x.dim() == like.dim();
  for (int64_t d = 0; same && d < x.dim(); ++d) same = x.size(d) == like.size(d);
  STD_TORCH_CHECK(same && x.scalar_type() == like.scalar_type() && same_device(x, like), where, ": ", name, " must have ", like_name,
                  "'s shape, dtype and device; convert one of them");
}

// Rows and columns of x [B, ...] seen as [B, D].
struct Matrix {
  int64_t rows, columns;
};

inline Matrix as_matrix(const char* where, const char* name, const Tensor& x) {
  STD_TORCH_CHECK(x.dim() > 0 && is_floating(x.scalar_type()), where, ": ", name, " must have shape [B, ...] and a floating dtype");
  int64_t columns = 1;
  for (int64_t d = 1; d < x.dim(); ++d) columns *= x.size(d);
  return {x.size(0), columns};
}

inline Matrix check_gaussian(const char* where, const Tensor& mu, const Tensor& logvar, const Tensor& key, int64_t stream) {
  const Matrix shape = as_matrix(where, "mu", mu);
  check_like(where, "logvar", logvar, "mu", mu);
  check_noise(where, key, shape.columns, stream);
  STD_TORCH_CHECK(same_device(key, mu), where, ": key must be on mu's device; move it with key.to(mu.device)");
  return shape;
}

// The gradients that a backward operator receives: grad_z as mu, grad_kl [B] in the type of sums.
inline void check_gradients(const char* where, const std::optional<Tensor>& grad_z, const std::optional<Tensor>& grad_kl,
                            const Tensor& mu) {
  if (grad_z) check_like(where, "grad_z", *grad_z, "mu", mu);
  STD_TORCH_CHECK(!grad_kl || (grad_kl->dim() == 1 && grad_kl->size(0) == mu.size(0) &&
                               grad_kl->scalar_type() == sum_type(mu.scalar_type()) && same_device(*grad_kl, mu)),
                  where, ": grad_kl must have kl's shape, dtype and device");
}

// The prior: both of its tensors, like mu, or none.
inline void check_prior(const char* where, const std::optional<Tensor>& prior_mu, const std::optional<Tensor>& prior_logvar,
                        const Tensor& mu) {
  STD_TORCH_CHECK(prior_mu.has_value() == prior_logvar.has_value(), where, ": give prior_mu and prior_logvar both, or none");
  if (!prior_mu) return;
  check_like(where, "prior_mu", *prior_mu, "mu", mu);
  check_like(where, "prior_logvar", *prior_logvar, "mu", mu);
}

// Gradients of a KL of `kl_size` elements and of one by column.
inline void check_full_gradients(const char* where, const std::optional<Tensor>& grad_z, const std::optional<Tensor>& grad_kl,
                                 const std::optional<Tensor>& grad_columns, const Tensor& mu, int64_t kl_size, int64_t columns) {
  if (grad_z) check_like(where, "grad_z", *grad_z, "mu", mu);
  const auto fits = [&](const std::optional<Tensor>& grad, int64_t size) {
    return !grad || (grad->numel() == size && grad->scalar_type() == sum_type(mu.scalar_type()) && same_device(*grad, mu));
  };
  STD_TORCH_CHECK(fits(grad_kl, kl_size) && fits(grad_columns, columns), where, ": grad_kl must have kl's shape, dtype and device");
}

constexpr int64_t kMaxSamples = int64_t{1} << 16;

inline void check_samples(const char* where, int64_t num_samples, int64_t first_sample) {
  STD_TORCH_CHECK(num_samples >= 0 && first_sample >= 0 && num_samples + first_sample <= kMaxSamples, where,
                  ": first_sample + num_samples must be at most 65536, got ", first_sample, " + ", num_samples);
}

// Gradients of z [K, *mu's shape] and of the ratio [K, B].
inline void check_sample_gradients(const char* where, const std::optional<Tensor>& grad_z, const std::optional<Tensor>& grad_log_ratio,
                                   const Tensor& mu, int64_t num_samples) {
  STD_TORCH_CHECK(!grad_z || (grad_z->numel() == num_samples * mu.numel() && grad_z->scalar_type() == mu.scalar_type() &&
                              same_device(*grad_z, mu)),
                  where, ": grad_z must have z's shape, dtype and device");
  STD_TORCH_CHECK(!grad_log_ratio || (grad_log_ratio->numel() == num_samples * mu.size(0) && same_device(*grad_log_ratio, mu) &&
                                      grad_log_ratio->scalar_type() == sum_type(mu.scalar_type())),
                  where, ": grad_log_ratio must have log_ratio's shape, dtype and device");
}

// A contiguous tensor of these sizes on x's device, uninitialised. It calls at::empty_strided directly: torch::stable::new_empty goes through
// the dispatcher with boxed lists, which takes 3 us.
inline Tensor empty_on(const Tensor& x, torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) {
  std::vector<int64_t> strides(sizes.size());
  int64_t stride = 1;
  for (size_t d = sizes.size(); d-- > 0;) {
    strides[d] = stride;
    stride *= sizes[d] > 1 ? sizes[d] : 1;
  }
  int32_t device_type = 0;
  TORCH_ERROR_CODE_CHECK(aoti_torch_get_device_type(x.get(), &device_type));
  const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  AtenTensorHandle handle = nullptr;
  TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(static_cast<int64_t>(sizes.size()), sizes.data(), strides.data(), dtype, device_type,
                                                  x.get_device_index(), &handle));
  return Tensor(handle);
}
inline Tensor empty_on(const Tensor& x, std::initializer_list<int64_t> sizes, ScalarType type) {
  return empty_on(x, torch::headeronly::IntHeaderOnlyArrayRef(sizes.begin(), sizes.size()), type);
}

inline Tensor as_contiguous(const Tensor& x) { return x.is_contiguous() ? x : torch::stable::contiguous(x); }

inline std::optional<Tensor> as_contiguous(const std::optional<Tensor>& x) {
  return x ? std::optional<Tensor>(as_contiguous(*x)) : std::nullopt;
}

inline Tensor empty_contiguous_like(const Tensor& x) { return empty_on(x, x.sizes(), x.scalar_type()); }

// [K, *x's shape]
inline Tensor empty_samples_like(const Tensor& x, int64_t num_samples) {
  std::vector<int64_t> sizes{num_samples};
  for (int64_t d = 0; d < x.dim(); ++d) sizes.push_back(x.size(d));
  return empty_on(x, torch::headeronly::IntHeaderOnlyArrayRef(sizes.data(), sizes.size()), x.scalar_type());
}

inline void* pointer(const Tensor& x) { return x.numel() ? x.data_ptr() : nullptr; }
inline void* pointer(const std::optional<Tensor>& x) { return x ? pointer(*x) : nullptr; }

}  // namespace fastvae
