// One lane of the formulas (csrc/common/README.md explains the words of these files): the scalar primitives that philox.h and gaussian_math.h are written in.
//
// The formulas are templates. A CUDA thread, the emulated grid of the tests and float64 instantiate them with scalars (namespace
// fastvae::scalar, this file); the CPU kernels instantiate the same text with vectors (common/cpu/simd.h), once per instruction set, each in
// a separate namespace, so that the linker never mixes them.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define FASTVAE_INLINE __host__ __device__ __forceinline__
#else
#define FASTVAE_INLINE inline __attribute__((always_inline))
#endif

#if defined(__CUDACC__)
#define FASTVAE_LAMBDA_INLINE
#else
#define FASTVAE_LAMBDA_INLINE __attribute__((always_inline))  // of a lambda, after its parameters
#endif

#define FASTVAE_PRAGMA(text) _Pragma(#text)
#if defined(__CUDACC__) || defined(__clang__)
#define FASTVAE_UNROLL(count) FASTVAE_PRAGMA(unroll count)
#else
#define FASTVAE_UNROLL(count) FASTVAE_PRAGMA(GCC unroll count)
#endif

#ifndef FASTVAE_LANES
#define FASTVAE_LANES scalar
#endif

namespace fastvae {

namespace FASTVAE_LANES {

template <class To, class From>
FASTVAE_INLINE To same_bits(const From& from) {
  static_assert(sizeof(To) == sizeof(From), "a cast of bits keeps the size");
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

FASTVAE_INLINE uint32_t as_bits(float x) { return same_bits<uint32_t>(x); }
FASTVAE_INLINE float as_float(uint32_t x) { return same_bits<float>(x); }
FASTVAE_INLINE int32_t as_signed(uint32_t x) { return static_cast<int32_t>(x); }
FASTVAE_INLINE uint32_t as_unsigned(int32_t x) { return static_cast<uint32_t>(x); }
FASTVAE_INLINE float to_float(int32_t x) { return static_cast<float>(x); }
FASTVAE_INLINE float square_root(float x) { return sqrtf(x); }

// a * b + c, rounded once where the hardware has it. The compiler fuses most products and sums by itself, but not always alike: this is for
// values that two kernels must agree on to the last bit.
FASTVAE_INLINE float multiply_add(float a, float b, float c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(FASTVAE_HAS_FMA)
  return fmaf(a, b, c);
#else
  return a * b + c;
#endif
}
FASTVAE_INLINE double multiply_add(double a, double b, double c) {
#if defined(__CUDA_ARCH__) || defined(__FMA__) || defined(FASTVAE_HAS_FMA)
  return fma(a, b, c);
#else
  return a * b + c;
#endif
}

// A scalar of the formulas (a constant) as a value of the lanes.
template <class F>
FASTVAE_INLINE F splat(float x) {
  return F{} + x;
}

// x, but not above (below) the limit; NaN stays NaN.
FASTVAE_INLINE float not_above(float x, float limit) { return x > limit ? limit : x; }
FASTVAE_INLINE float not_below(float x, float limit) { return x < limit ? limit : x; }

// The product of two 32-bit words in the low halves of 64-bit lanes; the high halves are ignored.
FASTVAE_INLINE uint64_t multiply_words(uint64_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  uint64_t product;  // the compiler would generate a 64-bit product
  asm("mul.wide.u32 %0, %1, %2;" : "=l"(product) : "r"(static_cast<uint32_t>(a)), "r"(b));
  return product;
#else
  return static_cast<uint64_t>(static_cast<uint32_t>(a)) * b;
#endif
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
