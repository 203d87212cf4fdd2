// The arguments of the gaussian_rsample_kl kernels on either device: `Device` is Cpu (common/cpu/kernels.h) or Cuda<T> (common/cuda/rows.h).
#pragma once

namespace fastvae {

template <class Device>
struct GaussianForwardArguments {
  typename Device::Key key;
  typename Device::Rows shape;
  const typename Device::Stored* mu;      // [rows, columns]
  const typename Device::Stored* logvar;  // [rows, columns]
  typename Device::Stored* z;             // [rows, columns]
  typename Device::Partial* kl;           // [rows, segments]
};

template <class Device>
struct GaussianBackwardArguments {
  typename Device::Key key;
  typename Device::Rows shape;
  const typename Device::Stored* grad_z;  // [rows, columns], or null
  const typename Device::Real* grad_kl;   // [rows], or null
  const typename Device::Stored* mu;
  const typename Device::Stored* logvar;
  typename Device::Stored* grad_mu;      // [rows, columns], or null if it is not needed
  typename Device::Stored* grad_logvar;  // [rows, columns], or null if it is not needed
};

}  // namespace fastvae
