// The runtime's own functions of real numbers: the error bounds that their header states.

#include "numbers.h"

#include <gtest/gtest.h>

#include <cfenv>
#include <cmath>
#include <functional>
#include <limits>
#include <utility>

namespace tonearm::runtime {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float missing = std::numeric_limits<float>::quiet_NaN();

// Through a pointer that the compiler cannot see through, so that nothing is computed in another mode.
float (*volatile exp_of)(float) = exp;
float (*volatile sigmoid_of)(float) = sigmoid;
float (*volatile tanh_of)(float) = tanh;

double exact_exp(double x) { return std::exp(x < -87 ? -87 : x > 87 ? 87 : x); }
double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double exact_tanh(double x) { return std::tanh(x); }

/// By how much `found` is off, over `expected`; a unit of a denormal counts as none.
double relative_error(float found, double expected) {
  const double difference = std::abs(static_cast<double>(found) - expected);
  if (difference <= static_cast<double>(std::numeric_limits<float>::denorm_min())) return 0;
  return difference / std::abs(expected);
}

/// Checks every step-th float against the header's bounds, which rounding otherwise may widen.
void check_bounds(std::uint32_t step, double widening) {
  for (std::uint64_t bits = 0; bits <= UINT32_MAX; bits += step) {
    const float x = bits_float(static_cast<std::uint32_t>(bits));
    // Nothing changes beyond the range in which exp is not constant.
    if (!(x >= -100 && x <= 100)) continue;
    const double exact = x;
    ASSERT_LT(relative_error(exp_of(x), exact_exp(exact)), 1e-7 + widening) << x;
    if (x >= -87) {
      ASSERT_LT(relative_error(sigmoid_of(x), exact_sigmoid(exact)), 2e-7 + widening) << x;
    }
    ASSERT_LT(relative_error(tanh_of(x), exact_tanh(exact)), 2e-7 + widening) << x;
  }
}

TEST(Numbers, ErrorsAreWithinTheStatedBounds) { check_bounds(1999, 0); }

// `long`: half a minute or more.
TEST(NumbersExhaustive, ErrorsAreWithinTheStatedBoundsForEveryFloat) { check_bounds(1, 0); }

TEST(Numbers, OtherRoundingModesAddAtMostOneUnit) {
  for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO}) {
    std::fesetround(mode);
    check_bounds(19997, static_cast<double>(std::numeric_limits<float>::epsilon()));
    std::fesetround(FE_TONEAREST);
  }
}

TEST(Numbers, LimitsAreReachedAndNotPassed) {
  EXPECT_EQ(exp(0), 1);
  EXPECT_EQ(exp(infinity), exp(87));
  EXPECT_EQ(exp(-infinity), exp(-87));
  EXPECT_EQ(sigmoid(0), 0.5f);
  EXPECT_EQ(sigmoid(infinity), 1);
  EXPECT_LT(sigmoid(-infinity), 1e-37f);
  EXPECT_GE(sigmoid(-infinity), 0);
  EXPECT_EQ(tanh(0), 0);
  EXPECT_EQ(tanh(infinity), 1);
  EXPECT_EQ(tanh(-infinity), -1);
  EXPECT_TRUE(is_nan(exp(missing)) && is_nan(sigmoid(missing)) && is_nan(tanh(missing)));
}

TEST(Numbers, KindsOfFloatsAreToldApart) {
  for (const float value : {0.0f, -0.0f, 1e-40f, -3.4e38f}) EXPECT_TRUE(is_finite(value) && !is_nan(value));
  for (const float value : {infinity, -infinity}) EXPECT_TRUE(!is_finite(value) && !is_nan(value));
  for (const float value : {missing, -missing, bits_float(0x7f800001), bits_float(0xffffffff)})
    EXPECT_TRUE(!is_finite(value) && is_nan(value));
}

/// Checks that every step-th float is ordered against its neighbour as the floats themselves are.
void check_order(std::uint32_t step) {
  for (std::uint64_t bits = 0; bits < 0x7f800000u; bits += step) {
    const auto low = static_cast<std::uint32_t>(bits);
    ASSERT_LT(ordered(low), ordered(low + 1)) << low;
    ASSERT_GT(ordered(low | 0x80000000u), ordered((low + 1) | 0x80000000u)) << low;
    ASSERT_EQ(ordered(low), -ordered(low | 0x80000000u) - (low == 0 ? 0 : 1)) << low;
  }
}

TEST(Ordered, IsMonotoneWithOneZero) {
  check_order(997);
  EXPECT_EQ(ordered(float_bits(-0.0f)), ordered(float_bits(0.0f)));
  EXPECT_EQ(ordered(float_bits(infinity)), 2139095040);
  EXPECT_EQ(ordered(float_bits(-infinity)), -2139095041);
}

TEST(OrderedExhaustive, IsMonotoneForEveryFloat) { check_order(1); }

}  // namespace
}  // namespace tonearm::runtime
