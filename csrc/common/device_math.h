// The formulas of the CUDA kernels in float32: noise and the exponentials of a log variance, shaped for the GPU's instructions.
//
// The integers, and so which noise belongs to which example, are those of every other backend. The normals differ from the exact ones by
// less than 2e-5 (the limit is 5e-5), because logarithm, root, sine and cosine are approximate instructions. KL and its derivative are
// polynomials, as accurate as on the CPU, because near the prior an approximate exponential would leave no correct digit.
//
// A product and its sum are always one `fused`, so that no two kernels round differently: the backward's noise has the forward's bits.
#pragma once

#include "common/approximate.h"
#include "common/elementary.h"
#include "common/philox.h"

namespace fastvae {
namespace scalar {

// a * b + c, rounded once, on the host too.
FASTVAE_INLINE float fused(float a, float b, float c) { return ::fmaf(a, b, c); }
FASTVAE_INLINE double fused(double a, double b, double c) { return ::fma(a, b, c); }

// value, or `other` if x < limit: a select, not a branch.
FASTVAE_INLINE float unless_below(float value, float x, float limit, float other) {
#if defined(__CUDA_ARCH__)
  float chosen;
  asm("{\n .reg .pred below;\n setp.lt.f32 below, %1, %2;\n selp.f32 %0, %3, %4, below;\n}" : "=f"(chosen) : "f"(x), "f"(limit), "f"(other), "f"(value));
  return chosen;
#else
  return x < limit ? other : value;
#endif
}

// Two normals of two words (Box & Muller 1958): radius sqrt(-2 log u0), angle 2 pi u1, u = (word + 1/2) / 2^32.
FASTVAE_INLINE void box_muller_approximate(uint32_t radius_word, uint32_t angle_word, float& cosine, float& sine) {
  // Near u0 = 1 the logarithm is computed from w = 1 - u0, which is exact there: -2 log(1 - w) = 2 w + w^2, within w^3.
  const bool near_one = radius_word >= 0xffc00000u;  // w < 2^-10
  const float v = fused(static_cast<float>(near_one ? ~radius_word : radius_word), 0x1p-32f, 0x1p-33f);
  const float squared = near_one ? fused(v, v, v + v) : log2_approximate(v) * -1.3862943611198906f;
  const float radius = square_root_approximate(squared);
  const float angle = static_cast<float>(as_signed(angle_word)) * 1.4629180792671596e-9f;  // 2 pi / 2^32; the half word is below its rounding
  cosine = radius * cosine_approximate(angle);
  sine = radius * sine_approximate(angle);
}

// philox_blocks for one block, with the rounds' keys held in registers: the compiler would compute them again for every block.
struct PhiloxRounds {
  PhiloxRow row;
  uint32_t keys0[kPhiloxRounds], keys1[kPhiloxRounds];

  FASTVAE_INLINE explicit PhiloxRounds(const PhiloxRow& of) : row(of) {
    FASTVAE_UNROLL(10)
    for (int round = 0; round < kPhiloxRounds; ++round) {
      keys0[round] = row.key0 + static_cast<uint32_t>(round) * kPhiloxWeyl0;
      keys1[round] = row.key1 + static_cast<uint32_t>(round) * kPhiloxWeyl1;
#if defined(__CUDA_ARCH__)
      asm volatile("" : "+r"(keys0[round]), "+r"(keys1[round]));
#endif
    }
  }

  // The same row, of the k-th sample after this one.
  FASTVAE_INLINE PhiloxRounds sample(uint32_t k) const {
    PhiloxRounds other = *this;
    other.row.stream += k;
    return other;
  }

  FASTVAE_INLINE PhiloxWords<uint64_t> words(uint32_t block) const {
    const uint64_t product0 = multiply_words(block, kPhiloxMultiplier0);  // rounds 1 and 2, as in philox_blocks
    const uint64_t product1 = multiply_words(mix(product0, uint64_t{row.stream}, keys1[0]), kPhiloxMultiplier1);
    PhiloxWords<uint64_t> x = {mix(product1, uint64_t{row.first_low}, keys0[1]), product1, product0 ^ (row.second_high ^ keys1[1]), row.second_low};
    FASTVAE_UNROLL(8)
    for (int round = 2; round < kPhiloxRounds; ++round) x = philox_round(x, keys0[round], keys1[round]);
    return x;
  }
};

// The four normals of one block of a row.
FASTVAE_INLINE void block_normals_approximate(const PhiloxRounds& row, uint32_t block, float (&normals)[4]) {
  const PhiloxWords<uint64_t> x = row.words(block);
  box_muller_approximate(static_cast<uint32_t>(x.x0), static_cast<uint32_t>(x.x1), normals[0], normals[1]);
  box_muller_approximate(static_cast<uint32_t>(x.x2), static_cast<uint32_t>(x.x3), normals[2], normals[3]);
}
FASTVAE_INLINE void block_normals_approximate(const PhiloxRounds& row, uint32_t block, double (&normals)[4]) {
  block_normals(row.row, block, normals);
}

// The functions of a log variance l that the Gaussian operators use: sigma = exp(l / 2), growth = exp(l) - 1 = 2 dKL/dl, and excess = exp(l) - 1 - l >= 0,
// of which KL = (mu^2 + excess) / 2. Unused members cost nothing.
template <class Real>
struct LogVariance;

// With l = n log 2 + s, |s| <= log(2) / 2: growth = 2^n (s + p) + (2^n - 1) and excess = 2^n p + ((2^n - 1) s + (2^n - 1 - n log 2)),
// p = exp(s) - 1 - s, without cancellation. n stays in -126 .. 127: beyond, s grows and with it p, which ends in the
// right infinities, and in one too early below l = -5e6, where a KL of 2.5e6 nats means nothing; NaN passes through s. sigma has the relative error of the approximate power, 3e-7, and of its argument's rounding.
template <>
struct LogVariance<float> {
  float sigma, growth, excess;

  FASTVAE_INLINE explicit LogVariance(float l) {
    constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer, held in the low bits
    sigma = exp2_approximate(l * 0.72134752044448170f);
    const float shifted = fmaxf(fminf(fused(l, 1.4426950408889634f, kRound), kRound + 127.0f), kRound - 126.0f);
    const float n = shifted - kRound;
    const float power = as_float((as_bits(shifted) << 23) + 0x3f800000u), power_less_one = power - 1.0f;
    const float s = fused(n, -0.69314718055994531f, l);
    float q = fused(s, 0.0013941319191693015f, 0.00836329534649849f);  // (exp(s) - 1 - s) / s^2, error 1.3e-7
    q = fused(q, s, 0.04166637361049652f);
    q = fused(q, s, 0.16666576266288757f);
    q = fused(q, s, 0.5f);
    const float s2 = s * s, p = s2 * q;
    growth = unless_below(fused(power, fused(s2, q, s), power_less_one), l, -88.0f, -1.0f);  // at -infinity s and p would cancel
    excess = fused(power, p, fused(power_less_one, s, fused(n, -0.69314718055994531f, power_less_one)));
  }
};

template <>
struct LogVariance<double> {
  double sigma, growth, excess;

  FASTVAE_INLINE explicit LogVariance(double l) {
    const Exponential<double> half = exponential(l * 0.5);
    sigma = half.value;
    growth = half.minus_one * (half.minus_one + 2.0);
    excess = half.minus_one * half.minus_one + 2.0 * half.minus_one_minus_x;
  }
};

}  // namespace scalar
}  // namespace fastvae
