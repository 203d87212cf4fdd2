// The 16-bit storage types of tensors, and their conversions.
#pragma once

#include "common/lanes.h"

namespace fastvae {

// The storage types besides float and double. They have no arithmetic: kernels convert on load and store.
struct BFloat16 {
  uint16_t bits;
};
struct Float16 {
  uint16_t bits;
};

namespace FASTVAE_LANES {

// bfloat16 and float16 to and from float32, rounded to nearest even. F and U are float and uint32_t, or vectors of them.
template <class F, class U>
FASTVAE_INLINE F from_bfloat16(U bits) {
  return as_float(bits << 16);
}

template <class F, class U>
FASTVAE_INLINE U to_bfloat16(F x) {
  const U bits = as_bits(x);
  const U rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return x != x ? (bits >> 16) | 0x40u : rounded;  // rounding could turn a NaN into infinity
}

template <class F, class U>
FASTVAE_INLINE F from_float16(U bits) {
  const U magnitude = (bits & 0x7fffu) << 13;
  const F finite = as_float(magnitude) * 0x1p112f;  // moves the exponent, and makes subnormals normal
  const F value = (bits & 0x7c00u) == 0x7c00u ? as_float(magnitude | 0x7f800000u) : finite;
  return as_float(as_bits(value) | ((bits & 0x8000u) << 16));
}

template <class F, class U>
FASTVAE_INLINE U to_float16(F x) {
  const U bits = as_bits(x);
  const U sign = (bits >> 16) & 0x8000u;
  const U magnitude = bits & 0x7fffffffu;
  const U subnormal = as_bits(as_float(magnitude) + 0.5f) - 0x3f000000u;  // 0.5 has float16's smallest step as its last bit
  const U normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  const U finite = magnitude < 0x38800000u ? subnormal : normal;
  const U large = magnitude > 0x7f800000u ? (magnitude >> 13 & 0x3ffu) | 0x7e00u : (magnitude & 0u) + 0x7c00u;
  return sign | (magnitude >= 0x477ff000u ? large : finite);  // 65520 and above round to infinity
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
