// The arguments of the gaussian_rsample_kl_full kernels on either device: `Device` is Cpu (common/cpu/kernels.h) or Cuda<T>
// (common/cuda/rows.h).
#pragma once

namespace fastvae {

// The gradients, in this order.
enum FullGradient { kByMu, kByLogvar, kByPriorMu, kByPriorLogvar, kFullGradients };

template <class Device>
struct FullArguments {
  typename Device::Key key;
  typename Device::Rows shape;
  const typename Device::Stored* mu;  // [rows, columns], as the next four
  const typename Device::Stored* logvar;
  const typename Device::Stored* prior_mu;  // null: N(0, 1)
  const typename Device::Stored* prior_logvar;
  typename Device::Stored* z;
  typename Device::Real* kl_elements;  // [rows, columns], or null
  typename Device::Partial* kl_rows;   // [rows, segments], or null
  typename Device::Real* kl_columns;   // [blocks of rows, columns], or null; on CUDA a separate kernel writes it
  // Backward only; a gradient is null if the caller has none.
  const typename Device::Stored* grad_z;       // [rows, columns]
  const typename Device::Real* grad_elements;  // [rows, columns]
  const typename Device::Real* grad_rows;      // [rows]
  const typename Device::Real* grad_columns;   // [columns]
  typename Device::Stored* grads[kFullGradients];  // [rows, columns] each, or null if it is not needed
};

}  // namespace fastvae
