// The likelihoods' formulas, one element at a time: the negative log likelihood in nats, and its derivatives by the decoder's output and
// with respect to the parameter next to it. For host and device, scalars and vectors; F is float, double or a vector of floats.
#pragma once

#include "common/elementary.h"

namespace fastvae {
namespace FASTVAE_LANES {

template <class F>
struct ByOutputAndParameter {
  F by_output, by_parameter;
};

// The sum of a formula's values over elements of a row. `keep` replaces masked elements by 0.
template <class F>
struct PlainSum {
  static constexpr int kTerms = 16;  // elements per lane between two sums
  F sum{};

  template <class Formula, class Keep>
  FASTVAE_INLINE void add(const Formula& formula, F output, F target, F parameter, const Keep& keep) {
    sum = sum + keep(formula.value(output, target, parameter));
  }
  FASTVAE_INLINE F total() const { return sum; }
};

// The same for Bernoulli: the logarithms of some elements are one, of the product of the (1 + e). The product minus 1 is kept, a
// sum of positive terms, so that no e is lost to rounding, however small; at most 2^kTerms - 1.
template <class F>
struct BernoulliSum {
  static constexpr int kTerms = 8;
  F linear{}, product_less_one{};

  template <class Formula, class Keep>
  FASTVAE_INLINE void add(const Formula&, F logit, F target, F, const Keep& keep) {
    add(Logit<F>(logit), target, keep);
  }
  // The same, and the derivative by the logit, from one exponential.
  template <class Keep>
  FASTVAE_INLINE F add_with_gradient(F logit, F target, const Keep& keep) {
    const Logit<F> l(logit);
    add(l, target, keep);
    return keep(l.sigmoid() - target);
  }
  FASTVAE_INLINE F total() const { return linear + log_one_plus(product_less_one); }

 private:
  template <class Keep>
  FASTVAE_INLINE void add(const Logit<F>& l, F target, const Keep& keep) {
    const F small = keep(l.small);
    linear = linear + keep((l.x > 0.0f ? l.x : splat<F>(0.0f)) - l.x * target);
    product_less_one = multiply_add(product_less_one, small, product_less_one + small);
  }
};

// -t log sigmoid(l) - (1 - t) log(1 - sigmoid(l)) = max(l, 0) - l t + log(1 + exp(-|l|)); no parameter.
template <class F, class Scalar>
struct Bernoulli {
  static constexpr bool kHasParameter = false;
  using Sum = BernoulliSum<F>;
  static FASTVAE_INLINE Bernoulli make(int) { return {}; }

  FASTVAE_INLINE F value(F logit, F target, F) const {
    const Logit<F> l(logit);
    return ((logit > 0.0f ? logit : splat<F>(0.0f)) - logit * target) + l.log1p_small();
  }
  FASTVAE_INLINE ByOutputAndParameter<F> gradient(F logit, F target, F) const { return {Logit<F>(logit).sigmoid() - target, F{}}; }
};

// (log(2 pi) + logvar + (target - mean)^2 exp(-logvar)) / 2; the parameter is logvar.
template <class F, class Scalar>
struct Gaussian {
  static constexpr bool kHasParameter = true;
  using Sum = PlainSum<F>;
  static FASTVAE_INLINE Gaussian make(int) { return {}; }

  FASTVAE_INLINE F value(F mean, F target, F logvar) const {
    const F error = target - mean;
    return (error * error * exponential(-logvar).value + (logvar + static_cast<Scalar>(1.8378770664093453))) * 0.5f;
  }
  FASTVAE_INLINE ByOutputAndParameter<F> gradient(F mean, F target, F logvar) const {
    const F error = mean - target;
    const F scaled = error * exponential(-logvar).value;
    return {scaled, (1.0f - scaled * error) * 0.5f};
  }
};

// -log of a logistic's mass in the cell of level t of L about x = 2 t / (L - 1) - 1, the outermost cells reaching to infinity; the
// parameter is log_scale. With a and b the cell's edges in units of the scale the mass is sigmoid(a) sigmoid(-b) (1 - exp(b - a)).
template <class F, class Scalar>
struct DiscretizedLogistic {
  static constexpr bool kHasParameter = true;
  using Sum = PlainSum<F>;
  Scalar half, last, log_cell;  // half a cell; the highest level; log of the cell's width

  static FASTVAE_INLINE DiscretizedLogistic make(int num_levels) {
    const double half = 1.0 / (num_levels - 1);
    return {static_cast<Scalar>(half), static_cast<Scalar>(num_levels - 1), static_cast<Scalar>(::log(2.0 * half))};
  }
  // Below it width / scale has no significant digits in float32, and the mass between its edges is the width itself.
  static constexpr float kLeastWidth = 1.1754944e-38f;

  FASTVAE_INLINE F value(F mean, F target, F log_scale) const {
    const F inverse = exponential(-log_scale).value;
    const F centre = (target * half * 2.0f - 1.0f) - mean;
    const F zero = splat<F>(0.0f);
    const F upper = target < last ? Logit<F>(-(centre + half) * inverse).softplus() : zero;
    const F lower = target > Scalar{0} ? Logit<F>((centre - half) * inverse).softplus() : zero;
    const F width = inverse * half * 2.0f;
    const F mass = width < kLeastWidth ? log_cell - log_scale : log_one_minus_exp_minus(width);
    const F inner = target > Scalar{0} ? mass : zero;
    return upper + lower - (target < last ? inner : zero);
  }
  FASTVAE_INLINE ByOutputAndParameter<F> gradient(F mean, F target, F log_scale) const {
    const F inverse = exponential(-log_scale).value;
    const F centre = (target * half * 2.0f - 1.0f) - mean;
    const F a = (centre + half) * inverse, b = (centre - half) * inverse, width = inverse * half * 2.0f;
    const F zero = splat<F>(0.0f);
    const F upper = target < last ? Logit<F>(-a).sigmoid() : zero;
    const F lower = target > Scalar{0} ? Logit<F>(b).sigmoid() : zero;
    const F from_width = width < kLeastWidth ? splat<F>(1.0f) : width / exponential(width).minus_one;
    const F inner = target > Scalar{0} ? from_width : zero;
    return {inverse * (upper - lower), a * upper - b * lower + (target < last ? inner : zero)};
  }
};

// log sum exp(logits) and sum counts (logits - logsumexp), piece by piece in order, relative to the largest logit so far.
struct RunningSoftmax {
  double largest = -HUGE_VAL, sum = 0, dot = 0, total = 0;

  FASTVAE_INLINE void add(double piece_largest, double piece_sum, double piece_dot, double piece_total) {
    if (piece_largest > largest || piece_largest != piece_largest) {
      const bool first = largest == -HUGE_VAL;
      sum = first ? sum : sum * exponential(largest - piece_largest).value;
      dot = total == 0 ? dot : dot + total * (first ? 0.0 : largest - piece_largest);
      largest = piece_largest;
    } else if (piece_largest < largest) {
      const double by = piece_largest == -HUGE_VAL ? 0.0 : piece_largest - largest;
      piece_sum = by == 0.0 ? piece_sum : piece_sum * exponential(by).value;
      piece_dot = piece_total == 0 ? piece_dot : piece_dot + piece_total * by;
    }
    sum += piece_sum;
    dot += piece_dot;
    total += piece_total;
  }
  FASTVAE_INLINE double logsumexp() const { return largest + ::log(sum); }
  FASTVAE_INLINE double nll() const { return total * ::log(sum) - dot; }
};

}  // namespace FASTVAE_LANES
}  // namespace fastvae
