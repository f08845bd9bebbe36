// The inner loops behind dense.h, compiled several times with different -march (see CMakeLists.txt).
//
// An inline function compiled here for AVX-512 must never win at link time over the same function
// compiled for the baseline. So this file includes no header with inline code, uses the compiler's vector
// types rather than a library, and everything in it has internal linkage but for one table, whose name
// TONEARM_DENSE gives; a test looks at the symbols.
//
// Unlike the rest of the project it is compiled with -ffp-contract=fast: multiply-adds are what it is for.

#include "train/dense.h"

namespace tonearm {
namespace {

using std::size_t;

// `tile_rows` x `tile_vectors` accumulators, one row of b and one broadcast value fill the registers.
#if defined(__AVX512F__)
constexpr size_t width = 16, tile_rows = 8;
#elif defined(__AVX__)
constexpr size_t width = 8, tile_rows = 4;
#else
constexpr size_t width = 4, tile_rows = 4;
#endif
constexpr size_t tile_vectors = 3;

typedef float Vector __attribute__((vector_size(width * sizeof(float))));
typedef int Integers __attribute__((vector_size(width * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(width * sizeof(float)), aligned(4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }
inline void store(float* to, Vector value) { *reinterpret_cast<Unaligned*>(to) = value; }

// e^x to about 2 ulp: x = n ln 2 + r with |r| <= ln 2 / 2, Taylor's series for e^r, 2^n by its bits.
// Clamped to the normal numbers; NaN stays NaN.
inline Vector exponential(Vector x) {
  x = x < -87.0F ? Vector{} - 87.0F : x;
  x = x > 88.0F ? Vector{} + 88.0F : x;
  const float to_integer = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const Vector n = (x * 1.44269504F + to_integer) - to_integer;
  const Vector r = (x - n * 0.693359375F) + n * 2.12194440e-4F;
  Vector sum = r * (1.0F / 5040) + 1.0F / 720;
  sum = sum * r + 1.0F / 120;
  sum = sum * r + 1.0F / 24;
  sum = sum * r + 1.0F / 6;
  sum = sum * r + 0.5F;
  sum = sum * r + 1.0F;
  sum = sum * r + 1.0F;
  const Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
  return sum * __builtin_bit_cast(Vector, power);
}

inline Vector logistic(Vector x) { return 1.0F / (1.0F + exponential(-x)); }
inline Vector hyperbolic_tangent(Vector x) { return 2.0F * logistic(2.0F * x) - 1.0F; }

// A tile of c, held in registers while k runs.
template <size_t M, size_t V>
inline void tile(const Dense::Product& p, size_t row, size_t column) {
  Vector sum[M][V];
  for (size_t i = 0; i < M; ++i)
    for (size_t v = 0; v < V; ++v)
      sum[i][v] = p.start ? load(p.start + (row + i) * p.start_row + column + v * width) : Vector{};
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  for (size_t k = 0; k < p.k; ++k, a += p.a_column, b += p.b_row) {
    Vector right[V];
#pragma GCC unroll 8
    for (size_t v = 0; v < V; ++v) right[v] = load(b + v * width);
#pragma GCC unroll 8
    for (size_t i = 0; i < M; ++i)
#pragma GCC unroll 8
      for (size_t v = 0; v < V; ++v) sum[i][v] += a[i * p.a_row] * right[v];
  }
  for (size_t i = 0; i < M; ++i)
    for (size_t v = 0; v < V; ++v) store(p.c + (row + i) * p.c_row + column + v * width, sum[i][v]);
}

template <size_t V>
void stripe(const Dense::Product& p, size_t column) {
  size_t row = 0;
  for (; row + tile_rows <= p.m; row += tile_rows) tile<tile_rows, V>(p, row, column);
  for (; row + 2 <= p.m; row += 2) tile<2, V>(p, row, column);
  for (; row < p.m; ++row) tile<1, V>(p, row, column);
}

void multiply(const Dense::Product& p) {
  size_t column = 0;
  for (; column + tile_vectors * width <= p.n; column += tile_vectors * width)
    stripe<tile_vectors>(p, column);
  for (; column + 2 * width <= p.n; column += 2 * width) stripe<2>(p, column);
  for (; column < p.n; column += width) stripe<1>(p, column);
}

template <class Function>
inline void each(size_t count, float* values, Function function) {
  for (size_t i = 0; i < count; i += width) store(values + i, function(load(values + i)));
}

void activate(NetworkActivation activation, size_t count, float* values) {
  switch (activation) {
    case NetworkActivation::relu:  // written so that NaN stays NaN
      return each(count, values, [](Vector x) { return x < 0.0F ? Vector{} : x; });
    case NetworkActivation::sigmoid:
      return each(count, values, [](Vector x) { return logistic(x); });
    case NetworkActivation::tanh:
      return each(count, values, [](Vector x) { return hyperbolic_tangent(x); });
    case NetworkActivation::none:
    case NetworkActivation::softmax:
      return;
  }
}

template <class Function>
inline void chain(size_t count, const float* output, float* delta, Function derivative) {
  for (size_t i = 0; i < count; i += width) store(delta + i, load(delta + i) * derivative(load(output + i)));
}

void differentiate(NetworkActivation activation, size_t count, const float* output, float* delta) {
  switch (activation) {
    case NetworkActivation::relu:
      return chain(count, output, delta, [](Vector y) { return y > 0.0F ? Vector{} + 1.0F : Vector{}; });
    case NetworkActivation::sigmoid:
      return chain(count, output, delta, [](Vector y) { return y * (1.0F - y); });
    case NetworkActivation::tanh:
      return chain(count, output, delta, [](Vector y) { return 1.0F - y * y; });
    case NetworkActivation::none:
    case NetworkActivation::softmax:
      return;
  }
}

double cross_entropy(size_t rows, size_t classes, size_t stride, const float* logits, const float* target,
                     float scale, float* delta) {
  double loss = 0;
  double product = 1;  // of the normalisers, each between 1 and `classes`: one logarithm for all rows
  for (size_t row = 0; row < rows; ++row, logits += stride, delta += stride) {
    float largest = logits[0];
    for (size_t i = 1; i < classes; ++i) largest = logits[i] > largest ? logits[i] : largest;
    for (size_t i = 0; i < stride; i += width) store(delta + i, exponential(load(logits + i) - largest));
    float sum = 0;
    for (size_t i = 0; i < classes; ++i) sum += delta[i];
    const auto label = static_cast<size_t>(target[row]);
    loss += static_cast<double>(largest) - static_cast<double>(logits[label]);
    product *= static_cast<double>(sum);
    for (size_t i = 0; i < classes; ++i) delta[i] *= scale / sum;
    for (size_t i = classes; i < stride; ++i) delta[i] = 0;
    delta[label] -= scale;
  }
  return loss + __builtin_log(product);
}

void add(size_t count, const float* from, float* to) {
  for (size_t i = 0; i < count; i += width) store(to + i, load(to + i) + load(from + i));
}

void scale(size_t count, const float* by, float* to) {
  for (size_t i = 0; i < count; i += width) store(to + i, load(to + i) * load(by + i));
}

// Calls step(row, i) for every vector of units, whose first is i.
template <class Function>
inline void each_unit(const Dense::CellStep& s, Function step) {
  for (size_t row = 0; row < s.rows; ++row)
    for (size_t i = 0; i < s.units; i += width) step(row, i);
}

inline Vector before(const Dense::CellStep& s, size_t row, size_t i) {
  return s.previous ? load(s.previous + row * s.previous_row + i) : Vector{};
}

void lstm(const Dense::CellStep& s) {
  each_unit(s, [&](size_t row, size_t i) {
    float* const gates = s.gates + row * s.gates_row + i;
    const Vector in = logistic(load(gates)), forget = logistic(load(gates + s.units));
    const Vector entering = hyperbolic_tangent(load(gates + 2 * s.units));
    const Vector out = logistic(load(gates + 3 * s.units));
    const Vector memory = forget * before(s, row, i) + in * entering;
    const Vector squashed = hyperbolic_tangent(memory);
    store(gates, in);
    store(gates + s.units, forget);
    store(gates + 2 * s.units, entering);
    store(gates + 3 * s.units, out);
    store(s.memory + row * s.inner_row + i, memory);
    store(s.squashed + row * s.inner_row + i, squashed);
    store(s.output + row * s.output_row + i, out * squashed);
  });
}

void lstm_back(const Dense::CellStep& s) {
  each_unit(s, [&](size_t row, size_t i) {
    float* const gates = s.gates + row * s.gates_row + i;
    float* const carry = s.carry + row * s.carry_row + i;
    const Vector in = load(gates), forget = load(gates + s.units), entering = load(gates + 2 * s.units);
    const Vector out = load(gates + 3 * s.units), squashed = load(s.squashed + row * s.inner_row + i);
    const Vector delta = load(s.output + row * s.output_row + i);
    const Vector by_memory = load(carry) + delta * out * (1.0F - squashed * squashed);
    store(gates, by_memory * entering * in * (1.0F - in));
    store(gates + s.units, by_memory * before(s, row, i) * forget * (1.0F - forget));
    store(gates + 2 * s.units, by_memory * in * (1.0F - entering * entering));
    store(gates + 3 * s.units, delta * squashed * out * (1.0F - out));
    store(carry, by_memory * forget);
  });
}

void gru(const Dense::CellStep& s) {
  each_unit(s, [&](size_t row, size_t i) {
    float* const gates = s.gates + row * s.gates_row + i;
    Vector update = load(gates + s.units), candidate = load(gates + 2 * s.units);
    if (s.inner) {
      const Vector reset = logistic(load(gates));
      update = logistic(update);
      candidate += reset * load(s.inner + row * s.inner_row + i);
      store(gates, reset);
      store(gates + s.units, update);
    }
    candidate = hyperbolic_tangent(candidate);
    store(gates + 2 * s.units, candidate);
    store(s.output + row * s.output_row + i, candidate + update * (before(s, row, i) - candidate));
  });
}

void gru_back(const Dense::CellStep& s) {
  each_unit(s, [&](size_t row, size_t i) {
    float* const gates = s.gates + row * s.gates_row + i;
    const Vector update = load(gates + s.units), candidate = load(gates + 2 * s.units);
    const Vector delta = load(s.output + row * s.output_row + i);
    const Vector by_candidate = delta * (1.0F - update) * (1.0F - candidate * candidate);
    store(gates + s.units, delta * (before(s, row, i) - candidate) * update * (1.0F - update));
    store(gates + 2 * s.units, by_candidate);
    if (s.inner) {
      float* const inner = s.inner + row * s.inner_row + i;
      const Vector reset = load(gates);
      store(gates, by_candidate * load(inner) * reset * (1.0F - reset));
      store(inner, by_candidate * reset);
    }
    if (!s.carry) return;
    float* const carry = s.carry + row * s.carry_row + i;
    store(carry, load(carry) + delta * update);
  });
}

void gru_reset(const Dense::CellStep& s) {
  each_unit(s, [&](size_t row, size_t i) {
    float* const gates = s.gates + row * s.gates_row + i;
    const Vector reset = logistic(load(gates));
    store(gates, reset);
    store(gates + s.units, logistic(load(gates + s.units)));
    store(s.inner + row * s.inner_row + i, reset * before(s, row, i));
  });
}

void gru_reset_back(const Dense::CellStep& s) {
  each_unit(s, [&](size_t row, size_t i) {
    float* const gates = s.gates + row * s.gates_row + i;
    const Vector reset = load(gates), by_inner = load(s.inner + row * s.inner_row + i);
    store(gates, by_inner * before(s, row, i) * reset * (1.0F - reset));
    if (!s.carry) return;
    float* const carry = s.carry + row * s.carry_row + i;
    store(carry, load(carry) + by_inner * reset);
  });
}

void adam(const Dense::Adam& step, size_t count, const float* __restrict gradient,
          float* __restrict parameters, float* __restrict mean, float* __restrict variance) {
  for (size_t i = 0; i < count; ++i) {
    const float g = gradient[i];
    const float m = step.beta1 * mean[i] + (1 - step.beta1) * g;
    const float v = step.beta2 * variance[i] + (1 - step.beta2) * (g * g);
    mean[i] = m;
    variance[i] = v;
    const float change = m * step.mean_scale / (__builtin_sqrtf(v * step.variance_scale) + step.epsilon);
    parameters[i] -= step.rate * (change + step.decay * parameters[i]);
  }
}

}  // namespace

extern const Dense TONEARM_DENSE;
const Dense TONEARM_DENSE = {multiply, activate, differentiate, cross_entropy,  add, scale, lstm, lstm_back,
                             gru,      gru_back, gru_reset,     gru_reset_back, adam};

}  // namespace tonearm
