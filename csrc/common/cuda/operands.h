// The tensors used together with a decoder's output: targets, parameters and masks, whose storage is known at run time. A pack of them is loaded at
// once: 16 bytes at a time, or the 4 or 8 bytes of uint8 and bool.
#pragma once

#include "common/cuda/pack.h"
#include "common/device_likelihood.h"
#include "common/storage_kinds.h"

namespace fastvae {

// The compile-time knowledge of a kernel's target; with kAnyTarget the storage is read for each pack.
enum TargetKind { kSameTarget, kFloatTarget, kByteTarget, kAnyTarget, kNoTarget };

template <class T>
inline TargetKind target_kind(Storage storage) {
  if (storage == kByte || storage == kPixel) return kByteTarget;
  return storage == kAsFloat32 && sizeof(T) != 4 ? kFloatTarget : kSameTarget;
}

// Call run(aligned, target) with both as types: a separate kernel for each kind of target if the formula is so short that the choice
// would cost as much as the formula, and otherwise one kernel that reads the storage kind. That kernel also handles bytes that the operator
// does not accept but must not misread.
template <class T, bool kOwnKernels, bool kTakesBytes, class Run>
void with_target(Storage storage, bool aligned, Run&& run) {
  using Any = std::integral_constant<TargetKind, kAnyTarget>;
  const TargetKind kind = target_kind<T>(storage);
  if (!aligned || (kOwnKernels && !kTakesBytes && kind == kByteTarget)) return run(std::false_type{}, Any{});
  if constexpr (kOwnKernels && sizeof(T) <= 4) {
    if constexpr (sizeof(T) == 2) {
      if (kind == kFloatTarget) return run(std::true_type{}, std::integral_constant<TargetKind, kFloatTarget>{});
    }
    if constexpr (kTakesBytes) {
      if (kind == kByteTarget) return run(std::true_type{}, std::integral_constant<TargetKind, kByteTarget>{});
    }
    run(std::true_type{}, std::integral_constant<TargetKind, kSameTarget>{});
  } else {
    run(std::true_type{}, Any{});
  }
}

// Whether a pack of values of `size` bytes can be loaded at once, from every pack's beginning on.
template <class T>
inline bool packs_are_aligned(const void* pointer, int64_t size) {
  const int64_t bytes = size * kPack<T>;
  return reinterpret_cast<uintptr_t>(pointer) % (bytes < 16 ? bytes : 16) == 0;
}

inline int64_t size_of(Storage storage) {
  switch (storage) {
    case kAsFloat64:
      return 8;
    case kAsFloat32:
      return 4;
    case kByte:
    case kPixel:
      return 1;
    default:
      return 2;
  }
}

template <class Real>
FASTVAE_INLINE Real load_any(Storage storage, const void* from, int64_t at) {
  switch (storage) {
    case kAsFloat64:
      return static_cast<Real>(static_cast<const double*>(from)[at]);
    case kAsBFloat16:
      return to_real(static_cast<const BFloat16*>(from)[at]);
    case kAsFloat16:
      return to_real(static_cast<const Float16*>(from)[at]);
    case kByte:
      return static_cast<const uint8_t*>(from)[at];
    case kPixel:
      return scalar::ByteValue<Real>(true)(static_cast<const uint8_t*>(from)[at]);
    default:
      return static_cast<const float*>(from)[at];
  }
}

// The bytes of a pack, one in each byte of the words; 0 past the end.
template <int N>
struct ByteWords {
  uint32_t words[N / 4];

  template <bool kAligned>
  static FASTVAE_INLINE ByteWords load(const uint8_t* from, int count) {
    ByteWords pack{};
    if constexpr (kAligned) {
#if defined(__CUDA_ARCH__)
      if constexpr (N == 8) {
        const uint2 both = *reinterpret_cast<const uint2*>(from);
        pack.words[0] = both.x;
        pack.words[1] = both.y;
      } else {
        pack.words[0] = *reinterpret_cast<const uint32_t*>(from);
      }
#else
      memcpy(pack.words, from, N);
#endif
    } else {
      FASTVAE_UNROLL(8)
      for (int i = 0; i < N; ++i) pack.words[i / 4] |= i < count ? static_cast<uint32_t>(from[i]) << 8 * (i % 4) : 0u;
    }
    return pack;
  }

  // Byte i as a number: on the device as the last bits of 2^23.
  template <class Real>
  FASTVAE_INLINE Real value(int i) const {
#if defined(__CUDA_ARCH__)
    if constexpr (sizeof(Real) == 4) return __uint_as_float(__byte_perm(words[i / 4], 0x4b000000u, 0x7540u + i % 4)) - 0x1p23f;
#endif
    return static_cast<Real>(words[i / 4] >> 8 * (i % 4) & 0xffu);
  }

  // A bit for each byte that is not 0.
  FASTVAE_INLINE uint32_t bits() const {
    uint32_t bits = 0;
    FASTVAE_UNROLL(8)
    for (int i = 0; i < N; ++i) bits |= (words[i / 4] >> 8 * (i % 4) & 0xffu) != 0 ? 1u << i : 0u;
    return bits;
  }
};

// A pack of columns of T's kernel, stored as From.
template <bool kAligned, class T, class From, class Real>
FASTVAE_INLINE void load_pack_of(Real (&x)[kPack<T>], const From* from, int count) {
  if constexpr (std::is_same_v<From, T>) {
    load_pack<kAligned>(x, from, count);
  } else if constexpr (kAligned) {
    struct alignas(16) Values {
      From values[kPack<T>];
    };
    const Values pack = *reinterpret_cast<const Values*>(from);
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) x[i] = to_real(pack.values[i]);
  } else {
    FASTVAE_UNROLL(8)
    for (int i = 0; i < kPack<T>; ++i) x[i] = i < count ? to_real(from[i]) : Real{0};
  }
}

template <bool kAligned, class T, class Real>
FASTVAE_INLINE void load_pack_of_bytes(Real (&x)[kPack<T>], const uint8_t* from, int count, const scalar::ByteValue<Real>& value) {
  const auto bytes = ByteWords<kPack<T>>::template load<kAligned>(from, count);
  FASTVAE_UNROLL(8)
  for (int i = 0; i < kPack<T>; ++i) x[i] = value(bytes.template value<Real>(i));
}

// A row of a tensor that is stored as the output is, as float32, or in bytes (storage_of in likelihood_checks.h allows no other), from
// element `at` on.
template <bool kAligned, class T, TargetKind kKind>
struct RowBeside {
  using Real = typename Compute<T>::Real;
  Storage storage;
  bool is_bytes, is_float;  // known to the compiler but for kAnyTarget
  const uint8_t* from;

  FASTVAE_INLINE RowBeside(Storage stored, const void* tensor, int64_t at)
      : storage(stored),
        is_bytes(kKind == kByteTarget || (kKind == kAnyTarget && (stored == kByte || stored == kPixel))),
        is_float(kKind == kFloatTarget || (kKind == kAnyTarget && stored == kAsFloat32 && sizeof(T) != 4)),
        from(static_cast<const uint8_t*>(tensor) + at * static_cast<int64_t>(is_bytes ? 1 : is_float ? sizeof(float) : sizeof(T))) {}

  // The pack that starts c columns on.
  FASTVAE_INLINE void load(Real (&x)[kPack<T>], int c, int count) const {
    if (is_bytes) {
      load_pack_of_bytes<kAligned, T>(x, from + c, count, scalar::ByteValue<Real>(storage == kPixel));
    } else if (is_float) {
      load_pack_of<kAligned, T>(x, reinterpret_cast<const float*>(from) + c, count);
    } else {
      load_pack<kAligned>(x, reinterpret_cast<const T*>(from) + c, count);
    }
  }
};

}  // namespace fastvae
