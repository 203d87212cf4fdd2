// Counter-based noise: Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3).
//
// One implementation for host and device, scalars and vectors: a word is the low half of a 64-bit lane W (uint64_t, or a vector of them), so
// that a 32 x 32 -> 64 bit product is one instruction. The high halves contain arbitrary bits, which no product reads and xor does not move.
#pragma once

#include "common/elementary.h"

namespace fastvae {
namespace FASTVAE_LANES {

constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u;
constexpr uint32_t kPhiloxMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;

template <class W>
struct PhiloxWords {
  W x0, x1, x2, x3;
};

// The high half of a product, xor a word, xor a key.
template <class W>
FASTVAE_INLINE W mix(W product, W word, uint32_t key) {
  return (product >> 32) ^ word ^ uint64_t{key};
}
#if defined(__CUDA_ARCH__)
FASTVAE_INLINE uint64_t mix(uint64_t product, uint64_t word, uint32_t key) {
  uint32_t mixed;  // the compiler would make two instructions of some
  asm("lop3.b32 %0, %1, %2, %3, 0x96;"
      : "=r"(mixed)
      : "r"(static_cast<uint32_t>(product >> 32)), "r"(static_cast<uint32_t>(word)), "r"(key));
  return mixed;
}
#endif

template <class W>
FASTVAE_INLINE PhiloxWords<W> philox_round(const PhiloxWords<W>& x, uint32_t key0, uint32_t key1) {
  const W product0 = multiply_words(x.x0, kPhiloxMultiplier0);
  const W product1 = multiply_words(x.x2, kPhiloxMultiplier1);
  return {mix(product1, x.x1, key0), product1, mix(product0, x.x3, key1), product0};
}

// The whole function, as its authors state it: for known answers.
FASTVAE_INLINE PhiloxWords<uint64_t> philox4x32_10(PhiloxWords<uint64_t> x, uint32_t key0, uint32_t key1) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    x = philox_round(x, key0, key1);
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
  }
  return {x.x0 & 0xffffffffu, x.x1 & 0xffffffffu, x.x2 & 0xffffffffu, x.x3 & 0xffffffffu};
}

// The values that all counters (block, row & 0xffffffff, row >> 32, stream) of one row share. Two of the first two rounds' four products and half of
// their words do not depend on the block, so they are computed once per row.
struct PhiloxRow {
  uint32_t key0, key1;                     // seed, step
  uint32_t stream;                         // the counter's last word
  uint32_t first_low;                      // after round 1: word 1; word 0 is part of the two below
  uint32_t second_high, second_low;        // of the product of round 1's word 0
};

FASTVAE_INLINE PhiloxRow philox_row(uint32_t seed, uint32_t step, uint64_t row, uint32_t stream) {
  const uint64_t product1 = multiply_words(row >> 32, kPhiloxMultiplier1);
  const uint32_t first_word0 = static_cast<uint32_t>((product1 >> 32) ^ row ^ seed);
  const uint64_t product0 = multiply_words(first_word0, kPhiloxMultiplier0);
  return {seed, step, stream, static_cast<uint32_t>(product1), static_cast<uint32_t>(product0 >> 32), static_cast<uint32_t>(product0)};
}

// The words of the given blocks (column // 4) of a row: philox4x32_10 with the row's share of rounds 1 and 2 taken from `row`.
template <class W>
FASTVAE_INLINE PhiloxWords<W> philox_blocks(const PhiloxRow& row, W blocks) {
  uint32_t key0 = row.key0 + kPhiloxWeyl0, key1 = row.key1 + kPhiloxWeyl1;
  const W product0 = multiply_words(blocks, kPhiloxMultiplier0);                            // round 1
  const W word2 = (product0 >> 32) ^ uint64_t{row.stream ^ row.key1};
  const W product1 = multiply_words(word2, kPhiloxMultiplier1);                             // round 2
  PhiloxWords<W> x = {(product1 >> 32) ^ uint64_t{row.first_low ^ key0}, product1,
                      product0 ^ uint64_t{row.second_high ^ key1}, W{} + uint64_t{row.second_low}};
  FASTVAE_UNROLL(8)
  for (int round = 2; round < kPhiloxRounds; ++round) {
    key0 += kPhiloxWeyl0;
    key1 += kPhiloxWeyl1;
    x = philox_round(x, key0, key1);
  }
  return x;
}

// word * 2^-32 + 2^-33 with the word and the sum rounded to nearest even, and 1 - 2^-24 where that would be 1: strictly inside (0, 1),
// and the same bits everywhere. The halves convert exactly, and no instruction set lacks the signed conversion.
template <class F, class U>
FASTVAE_INLINE F uniform(U word) {
  const F rounded = to_float(as_signed(word >> 16)) * 65536.0f + to_float(as_signed(word & 0xffffu));
  const F u = rounded * 0x1p-32f + 0x1p-33f;
  return u > 1.0f - 0x1p-24f ? splat<F>(1.0f - 0x1p-24f) : u;
}

// Two normals of two words (Box & Muller 1958): radius sqrt(-2 log u0), angle 2 pi u1, with u = (word + 1/2) / 2^32. Within 1e-6 of
// the exact value, also where u0 is near 1; |normal| <= 6.77. Polynomials: minimax fits, errors 4e-9 (sine), 6e-8 (cosine).
template <class F, class U>
FASTVAE_INLINE void box_muller(U radius_word, U angle_word, F& cosine, F& sine) {
  // v is u0 in the lower half and 1 - u0 in the upper, each from the words' own bits: float32 could not hold u0 = 1 - 2^-33.
  const auto upper_half = as_signed(radius_word) >> 31;  // all ones, or zero
  const F v = to_float(as_signed(radius_word) ^ upper_half) * 0x1p-32f + 0x1p-33f;
  const F u = upper_half ? 1.0f - v : v;
  const F radius = square_root(minus_two_log(u, v));
  // angle = (pi / 2) t, or that plus pi, which changes both signs.
  const U twice = angle_word << 1;
  const F t = to_float(as_signed(twice)) * 0x1p-31f + 0x1p-31f;
  const F turned = as_float(as_bits(radius) ^ ((angle_word ^ twice) & 0x80000000u));
  const F t2 = t * t;
  F c = t2 * 0.000859689898788929f + -0.020813966169953346f;
  c = c * t2 + 0.2536531984806061f;
  c = c * t2 + -1.233698844909668f;
  c = c * t2 + 1.0f;
  F s = t2 * 0.00015082056052051485f + -0.004672227893024683f;
  s = s * t2 + 0.07968848198652267f;
  s = s * t2 + -0.6459633708000183f;
  s = s * t2 + 1.570796251296997f;
  cosine = turned * c;
  sine = turned * t * s;
}

// The same in float64, for float64 tensors.
FASTVAE_INLINE void box_muller(uint32_t radius_word, uint32_t angle_word, double& cosine, double& sine) {
  const bool upper_half = radius_word >> 31;
  const double v = (upper_half ? ~radius_word : radius_word) * 0x1p-32 + 0x1p-33;
  const double radius = ::sqrt(-2.0 * (upper_half ? ::log1p(-v) : ::log(v)));
  const double turns = angle_word * 0x1p-32 + 0x1p-33;
#if defined(__CUDA_ARCH__)
  ::sincospi(2.0 * turns, &sine, &cosine);  // without the reduction of huge angles, whose call would spill registers
#else
  sine = ::sin(6.283185307179586 * turns);
  cosine = ::cos(6.283185307179586 * turns);
#endif
  sine *= radius;
  cosine *= radius;
}

// The four normals of one block of a row, F float or double: one thread's share.
template <class F>
FASTVAE_INLINE void block_normals(const PhiloxRow& row, uint32_t block, F (&normals)[4]) {
  const PhiloxWords<uint64_t> x = philox_blocks(row, uint64_t{block});
  box_muller(static_cast<uint32_t>(x.x0), static_cast<uint32_t>(x.x1), normals[0], normals[1]);
  box_muller(static_cast<uint32_t>(x.x2), static_cast<uint32_t>(x.x3), normals[2], normals[3]);
}

}  // namespace FASTVAE_LANES
}  // namespace fastvae
