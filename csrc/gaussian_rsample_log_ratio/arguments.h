// The arguments of the gaussian_rsample_log_ratio kernels on either device: `Device` is Cpu (common/cpu/kernels.h) or Cuda<T>
// (common/cuda/rows.h).
#pragma once

#include <cstdint>

namespace fastvae {

template <class Device>
struct LogRatioArguments {
  typename Device::Key key;     // of the first sample; sample k has the stream's word plus k
  typename Device::Rows shape;  // of mu
  int64_t samples;
  const typename Device::Stored* mu;      // [rows, columns]
  const typename Device::Stored* logvar;  // [rows, columns]
  typename Device::Stored* z;             // [samples, rows, columns]
  typename Device::Real* log_ratio;       // [samples, rows]; on CUDA [samples, rows, segments]
  // Backward only.
  const typename Device::Stored* grad_z;          // [samples, rows, columns], or null
  const typename Device::Real* grad_log_ratio;    // [samples, rows], or null
  typename Device::Stored* grad_mu;               // [rows, columns], or null
  typename Device::Stored* grad_logvar;           // [rows, columns], or null
};

}  // namespace fastvae
