// A thread's part of a row: the columns of one or two Philox blocks, moved in 16-byte accesses where that is possible.
#pragma once

#include <type_traits>

#include "common/storage.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace fastvae {

// The type in which values of a storage type are computed.
template <class T>
struct Compute {
  using Real = float;
};
template <>
struct Compute<double> {
  using Real = double;
};

template <class T>
constexpr int kPack = sizeof(T) == 2 ? 8 : 4;  // columns

FASTVAE_INLINE float to_real(float x) { return x; }
FASTVAE_INLINE double to_real(double x) { return x; }
FASTVAE_INLINE float to_real(BFloat16 x) { return scalar::from_bfloat16<float, uint32_t>(x.bits); }
FASTVAE_INLINE float to_real(Float16 x) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(x.bits));
#else
  return scalar::from_float16<float, uint32_t>(x.bits);
#endif
}

FASTVAE_INLINE void from_real(float& to, float x) { to = x; }
FASTVAE_INLINE void from_real(double& to, double x) { to = x; }
FASTVAE_INLINE void from_real(BFloat16& to, float x) {
#if defined(__CUDA_ARCH__)
  to.bits = __bfloat16_as_ushort(__float2bfloat16_rn(x));
#else
  to.bits = static_cast<uint16_t>(scalar::to_bfloat16<float, uint32_t>(x));
#endif
}
FASTVAE_INLINE void from_real(Float16& to, float x) {
#if defined(__CUDA_ARCH__)
  to.bits = __half_as_ushort(__float2half_rn(x));
#else
  to.bits = static_cast<uint16_t>(scalar::to_float16<float, uint32_t>(x));
#endif
}

template <class T>
struct alignas(16) Pack {
  T values[kPack<T>];
};

// Two adjacent values: one instruction converts both.
template <class T, class Real>
FASTVAE_INLINE void from_real_pair(T* to, Real first, Real second) {
#if defined(__CUDA_ARCH__)
  if constexpr (sizeof(T) == 2) {
    uint32_t both;
    if constexpr (std::is_same_v<T, BFloat16>) {
      const __nv_bfloat162 pair = __floats2bfloat162_rn(first, second);
      memcpy(&both, &pair, sizeof both);
    } else {
      const __half2 pair = __floats2half2_rn(first, second);
      memcpy(&both, &pair, sizeof both);
    }
    *reinterpret_cast<uint32_t*>(to) = both;
    return;
  }
#endif
  from_real(to[0], first);
  from_real(to[1], second);
}

// Store whole 16-byte words. The compiler may split the store of a structure into its members.
template <class Words>
FASTVAE_INLINE void store_words(void* to, const Words& words) {
  static_assert(sizeof(Words) % 16 == 0 && alignof(Words) == 16);
#if defined(__CUDA_ARCH__)
  const uint4* from = reinterpret_cast<const uint4*>(&words);
  FASTVAE_UNROLL(4)
  for (unsigned i = 0; i < sizeof(Words) / 16; ++i) {
    asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(static_cast<uint4*>(to) + i), "r"(from[i].x), "r"(from[i].y), "r"(from[i].z),
                 "r"(from[i].w)
                 : "memory");
  }
#else
  memcpy(to, &words, sizeof words);
#endif
}

// `count` is the number of columns left in the row; the others load as zero. kAligned says that rows are whole packs on 16-byte addresses.
template <bool kAligned, class T, class Real>
FASTVAE_INLINE void load_pack(Real (&x)[kPack<T>], const T* from, int64_t count) {
  if constexpr (kAligned) {
    const Pack<T> pack = *reinterpret_cast<const Pack<T>*>(from);
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) x[i] = to_real(pack.values[i]);
  } else {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) x[i] = i < count ? to_real(from[i]) : Real{0};
  }
}

template <bool kAligned, class T, class Real>
FASTVAE_INLINE void store_pack(T* to, const Real (&x)[kPack<T>], int64_t count) {
  if constexpr (kAligned) {
    Pack<T> pack;
    FASTVAE_UNROLL(4)
    for (int i = 0; i < kPack<T>; i += 2) from_real_pair(pack.values + i, x[i], x[i + 1]);
    store_words(to, pack);
  } else {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) {
      if (i < count) from_real(to[i], x[i]);
    }
  }
}

// The same for values in their computation type, for a pack of columns of T.
template <bool kAligned, class T, class Real>
FASTVAE_INLINE void store_reals(Real* to, const Real (&x)[kPack<T>], int64_t count) {
  if constexpr (kAligned) {
    struct alignas(16) {
      Real values[kPack<T>];
    } pack;
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) pack.values[i] = x[i];
    store_words(to, pack);
  } else {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) {
      if (i < count) to[i] = x[i];
    }
  }
}

}  // namespace fastvae
