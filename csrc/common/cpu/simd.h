// Vectors of lanes for the CPU kernels: GCC and clang vector types of FASTVAE_SIMD_BYTES bytes, and the few primitives of the
// formulas that are not operators of the language. Included by common/cpu/<instruction set>.cpp only, under that set's target.
#pragma once

#include "common/lanes.h"

namespace fastvae {
namespace FASTVAE_LANES {

constexpr int kLanes = FASTVAE_SIMD_BYTES / 4;

typedef float F __attribute__((vector_size(FASTVAE_SIMD_BYTES)));
typedef int32_t I __attribute__((vector_size(FASTVAE_SIMD_BYTES)));
typedef uint32_t U __attribute__((vector_size(FASTVAE_SIMD_BYTES)));
typedef uint64_t W __attribute__((vector_size(FASTVAE_SIMD_BYTES)));
typedef uint16_t H __attribute__((vector_size(FASTVAE_SIMD_BYTES / 2)));

FASTVAE_INLINE U as_bits(F x) { return (U)x; }
FASTVAE_INLINE F as_float(U x) { return (F)x; }
FASTVAE_INLINE I as_signed(U x) { return (I)x; }
FASTVAE_INLINE F to_float(I x) { return __builtin_convertvector(x, F); }
#if FASTVAE_SIMD_BYTES == 64  // GCC would convert each half separately
FASTVAE_INLINE U widen(H x) { return (U)_mm512_cvtepu16_epi32((__m256i)x); }
FASTVAE_INLINE H narrow(U x) { return (H)_mm512_cvtepi32_epi16((__m512i)x); }
#else
FASTVAE_INLINE U widen(H x) { return __builtin_convertvector(x, U); }
FASTVAE_INLINE H narrow(U x) { return __builtin_convertvector(x, H); }
#endif

// Minimum and maximum return their second operand if one is NaN, as not_above and not_below require.
#if FASTVAE_SIMD_BYTES == 64
FASTVAE_INLINE W multiply_words(W a, uint32_t b) { return (W)_mm512_mul_epu32((__m512i)a, _mm512_set1_epi64(b)); }
FASTVAE_INLINE F square_root(F x) { return (F)_mm512_sqrt_ps((__m512)x); }
FASTVAE_INLINE F not_above(F x, float limit) { return (F)_mm512_min_ps(_mm512_set1_ps(limit), (__m512)x); }
FASTVAE_INLINE F not_below(F x, float limit) { return (F)_mm512_max_ps(_mm512_set1_ps(limit), (__m512)x); }
FASTVAE_INLINE F multiply_add(F a, F b, F c) { return (F)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
FASTVAE_INLINE F interleave_low(F a, F b) { return (F)_mm512_unpacklo_ps((__m512)a, (__m512)b); }
FASTVAE_INLINE F interleave_high(F a, F b) { return (F)_mm512_unpackhi_ps((__m512)a, (__m512)b); }
FASTVAE_INLINE W lane_blocks() { return W{0, 4, 1, 5, 2, 6, 3, 7}; }
#elif FASTVAE_SIMD_BYTES == 32
FASTVAE_INLINE W multiply_words(W a, uint32_t b) { return (W)_mm256_mul_epu32((__m256i)a, _mm256_set1_epi64x(b)); }
FASTVAE_INLINE F square_root(F x) { return (F)_mm256_sqrt_ps((__m256)x); }
FASTVAE_INLINE F not_above(F x, float limit) { return (F)_mm256_min_ps(_mm256_set1_ps(limit), (__m256)x); }
FASTVAE_INLINE F not_below(F x, float limit) { return (F)_mm256_max_ps(_mm256_set1_ps(limit), (__m256)x); }
FASTVAE_INLINE F multiply_add(F a, F b, F c) { return (F)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
FASTVAE_INLINE F interleave_low(F a, F b) { return (F)_mm256_unpacklo_ps((__m256)a, (__m256)b); }
FASTVAE_INLINE F interleave_high(F a, F b) { return (F)_mm256_unpackhi_ps((__m256)a, (__m256)b); }
FASTVAE_INLINE W lane_blocks() { return W{0, 2, 1, 3}; }
#else
#if defined(__SSE2__)
FASTVAE_INLINE W multiply_words(W a, uint32_t b) { return (W)_mm_mul_epu32((__m128i)a, _mm_set1_epi64x(b)); }
FASTVAE_INLINE F square_root(F x) { return (F)_mm_sqrt_ps((__m128)x); }
#else
FASTVAE_INLINE W multiply_words(W a, uint32_t b) { return (a & 0xffffffffu) * uint64_t{b}; }
FASTVAE_INLINE F square_root(F x) { return F{sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])}; }
#endif
FASTVAE_INLINE F not_above(F x, float limit) { return x > limit ? splat<F>(limit) : x; }
FASTVAE_INLINE F not_below(F x, float limit) { return x < limit ? splat<F>(limit) : x; }
FASTVAE_INLINE F multiply_add(F a, F b, F c) { return a * b + c; }
FASTVAE_INLINE F interleave_low(F a, F b) { return F{a[0], b[0], a[1], b[1]}; }
FASTVAE_INLINE F interleave_high(F a, F b) { return F{a[2], b[2], a[3], b[3]}; }
FASTVAE_INLINE W lane_blocks() { return W{0, 1}; }
#endif
// lane_blocks: which block each 64-bit lane works on. interleave_low then gives the columns of the first half of the blocks in order,
// interleave_high those of the second half.

}  // namespace FASTVAE_LANES
}  // namespace fastvae

#include "common/storage.h"  // after the primitives, which its templates look up where they are defined

namespace fastvae {
namespace FASTVAE_LANES {

// The sum of the lanes, halves added to halves: one fixed order.
#if FASTVAE_SIMD_BYTES == 64
FASTVAE_INLINE float sum_lanes(F x) { return _mm512_reduce_add_ps((__m512)x); }
#elif FASTVAE_SIMD_BYTES == 32
FASTVAE_INLINE float sum_lanes(F x) {
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_shuffle_ps(sum, sum, 1)));
}
#else
FASTVAE_INLINE float sum_lanes(F x) { return (x[0] + x[2]) + (x[1] + x[3]); }
#endif
FASTVAE_INLINE double sum_lanes(double x) { return x; }

// Loads and stores of one vector in any of the storage types; no alignment is assumed.
FASTVAE_INLINE void load(F& x, const float* from) { memcpy(&x, from, sizeof(F)); }
FASTVAE_INLINE void load(double& x, const double* from) { x = *from; }
FASTVAE_INLINE void load(double& x, const float* from) { x = *from; }
FASTVAE_INLINE void store(float* to, double x) { *to = static_cast<float>(x); }
FASTVAE_INLINE void store(float* to, F x) { memcpy(to, &x, sizeof(F)); }
FASTVAE_INLINE void store(double* to, double x) { *to = x; }

FASTVAE_INLINE void load(F& x, const BFloat16* from) {
  H bits;
  memcpy(&bits, from, sizeof(H));
  x = from_bfloat16<F>(widen(bits));
}
#if FASTVAE_SIMD_BYTES == 64 && defined(FASTVAE_SIMD_BF16)
// Rounds like to_bfloat16, but for numbers below 2^-126, which become 0.
FASTVAE_INLINE void store(BFloat16* to, F x) { _mm256_storeu_si256((__m256i*)to, (__m256i)_mm512_cvtneps_pbh((__m512)x)); }
#else
FASTVAE_INLINE void store(BFloat16* to, F x) {
  const H bits = narrow(to_bfloat16<F, U>(x));
  memcpy(to, &bits, sizeof(H));
}
#endif

#if FASTVAE_SIMD_BYTES == 64
FASTVAE_INLINE void load(F& x, const Float16* from) { x = (F)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from)); }
FASTVAE_INLINE void store(Float16* to, F x) {
  _mm256_storeu_si256((__m256i*)to, _mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif FASTVAE_SIMD_BYTES == 32
FASTVAE_INLINE void load(F& x, const Float16* from) { x = (F)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from)); }
FASTVAE_INLINE void store(Float16* to, F x) {
  _mm_storeu_si128((__m128i*)to, _mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#else
FASTVAE_INLINE void load(F& x, const Float16* from) {
  H bits;
  memcpy(&bits, from, sizeof(H));
  x = from_float16<F>(widen(bits));
}
FASTVAE_INLINE void store(Float16* to, F x) {
  const H bits = narrow(to_float16<F, U>(x));
  memcpy(to, &bits, sizeof(H));
}
#endif

// The first `count` lanes only (fewer than none: none; the other lanes load as zero): the end of a row.
template <class V, class T>
FASTVAE_INLINE void load_some(V& x, const T* from, int64_t count) {
  constexpr int lanes = sizeof(V) == sizeof(double) ? 1 : kLanes;
  if (count >= lanes) return load(x, from);
  T buffer[lanes] = {};
  for (int64_t i = 0; i < count; ++i) buffer[i] = from[i];
  load(x, buffer);
}
template <class V, class T>
FASTVAE_INLINE void store_some(T* to, V x, int64_t count) {
  constexpr int lanes = sizeof(V) == sizeof(double) ? 1 : kLanes;
  if (count >= lanes) return store(to, x);
  T buffer[lanes];
  store(buffer, x);
  for (int64_t i = 0; i < count; ++i) to[i] = buffer[i];
}

// Bytes as numbers 0 to 255.
FASTVAE_INLINE void load_bytes(F& x, const uint8_t* from, int64_t count) {
  typedef uint8_t Q __attribute__((vector_size(kLanes)));
  Q bytes = {};
  if (count >= kLanes) {
    memcpy(&bytes, from, sizeof(Q));
  } else {
    uint8_t buffer[kLanes] = {};
    for (int64_t i = 0; i < count; ++i) buffer[i] = from[i];
    memcpy(&bytes, buffer, sizeof(Q));
  }
  x = to_float(__builtin_convertvector(bytes, I));
}
FASTVAE_INLINE void load_bytes(double& x, const uint8_t* from, int64_t) { x = *from; }

// x in the first `count` lanes, `other` in the rest.
FASTVAE_INLINE F replace_after(F x, int64_t count, float other) {
  int32_t lanes[kLanes];
  FASTVAE_UNROLL(16)
  for (int i = 0; i < kLanes; ++i) lanes[i] = i;
  const I index = same_bits<I>(lanes);
  return index < static_cast<int32_t>(count) ? x : splat<F>(other);
}
FASTVAE_INLINE double replace_after(double x, int64_t, double) { return x; }

FASTVAE_INLINE float first_lane(F x) { return x[0]; }
FASTVAE_INLINE double first_lane(double x) { return x; }

// The largest lane; NaN if a lane is NaN.
FASTVAE_INLINE float largest_lane(F x) {
  float largest = x[0];
  for (int i = 1; i < kLanes; ++i) largest = x[i] > largest || x[i] != x[i] ? x[i] : largest;
  return largest;
}
FASTVAE_INLINE double largest_lane(double x) { return x; }

#if FASTVAE_SIMD_BYTES == 64
FASTVAE_INLINE __mmask16 first_lanes(int64_t count) {
  return count >= 16 ? 0xffff : count <= 0 ? 0 : static_cast<__mmask16>((1u << count) - 1);
}
FASTVAE_INLINE void load_some(F& x, const float* from, int64_t count) {
  x = (F)_mm512_maskz_loadu_ps(first_lanes(count), from);
}
FASTVAE_INLINE void store_some(float* to, F x, int64_t count) { _mm512_mask_storeu_ps(to, first_lanes(count), (__m512)x); }
#elif FASTVAE_SIMD_BYTES == 32
FASTVAE_INLINE __m256i first_lanes(int64_t count) {
  const int32_t clipped = count > 8 ? 8 : static_cast<int32_t>(count);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(clipped), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTVAE_INLINE void load_some(F& x, const float* from, int64_t count) {
  x = (F)_mm256_maskload_ps(from, first_lanes(count));
}
FASTVAE_INLINE void store_some(float* to, F x, int64_t count) { _mm256_maskstore_ps(to, first_lanes(count), (__m256)x); }
#endif

}  // namespace FASTVAE_LANES
}  // namespace fastvae
