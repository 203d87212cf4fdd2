// The GPU's approximate instructions, as functions of one lane.
//
// On the device each is one instruction (the sine and cosine two). On the host each is the exact function with a fraction of the instruction's
// documented error added, so that the tests check a formula's limit for any hardware within that error. The errors are
// those of the PTX ISA manual, "Floating Point Instructions".
#pragma once

#include "common/lanes.h"

namespace fastvae {
namespace scalar {

constexpr float kExp2Error = 0x1p-22f;         // relative
constexpr float kLog2Error = 0x1p-22f;         // absolute for arguments in (1/2, 2), relative elsewhere
constexpr float kTrigonometricError = 6.74e-7f;  // 2^-20.5, absolute for angles in [-2 pi, 2 pi]
constexpr float kReciprocalError = 0x1p-23f;   // relative, as the square root's

#if !defined(__CUDACC__)
// The share of each documented error that the host's functions add, -1 .. 1. Only tests set it.
inline float emulated_error = 0.0f;
inline float with_relative_error(double exact, float error) { return static_cast<float>(exact * (1.0 + double{emulated_error} * error)); }
inline float with_absolute_error(double exact, float error) { return static_cast<float>(exact + double{emulated_error} * error); }
#endif

// 2^x; 0 where the result would be subnormal.
FASTVAE_INLINE float exp2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
#elif defined(__CUDACC__)
  return exp2f(x);
#else
  return with_relative_error(::exp2(static_cast<double>(x)), kExp2Error);
#endif
}

// The base-2 logarithm of x >= 0.
FASTVAE_INLINE float log2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float logarithm;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(logarithm) : "f"(x));
  return logarithm;
#elif defined(__CUDACC__)
  return log2f(x);
#else
  const double exact = ::log2(static_cast<double>(x));
  return x > 0.5f && x < 2.0f ? with_absolute_error(exact, kLog2Error) : with_relative_error(exact, kLog2Error);
#endif
}

FASTVAE_INLINE float sine_approximate(float angle) {
#if defined(__CUDA_ARCH__)
  float sine;
  asm("sin.approx.ftz.f32 %0, %1;" : "=f"(sine) : "f"(angle));
  return sine;
#elif defined(__CUDACC__)
  return sinf(angle);
#else
  return with_absolute_error(::sin(static_cast<double>(angle)), kTrigonometricError);
#endif
}

FASTVAE_INLINE float cosine_approximate(float angle) {
#if defined(__CUDA_ARCH__)
  float cosine;
  asm("cos.approx.ftz.f32 %0, %1;" : "=f"(cosine) : "f"(angle));
  return cosine;
#elif defined(__CUDACC__)
  return cosf(angle);
#else
  return with_absolute_error(::cos(static_cast<double>(angle)), kTrigonometricError);
#endif
}

FASTVAE_INLINE float reciprocal_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float reciprocal;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(x));
  return reciprocal;
#elif defined(__CUDACC__)
  return 1.0f / x;
#else
  return with_relative_error(1.0 / static_cast<double>(x), kReciprocalError);
#endif
}

FASTVAE_INLINE float square_root_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float root;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
#elif defined(__CUDACC__)
  return sqrtf(x);
#else
  return with_relative_error(::sqrt(static_cast<double>(x)), kReciprocalError);
#endif
}

}  // namespace scalar
}  // namespace fastvae
