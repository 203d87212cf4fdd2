// The key of a CUDA kernel's noise, on the device.
#pragma once

#include "common/philox.h"

namespace fastvae {

struct DeviceKey {
  const int64_t* words;  // [3] on the device: nothing waits for the host to read it
  uint32_t stream;

  FASTVAE_INLINE scalar::PhiloxRow row(int64_t i) const {
    return scalar::philox_row(static_cast<uint32_t>(words[0]), static_cast<uint32_t>(words[1]),
                              static_cast<uint64_t>(words[2]) + static_cast<uint64_t>(i), stream);
  }
};

}  // namespace fastvae
