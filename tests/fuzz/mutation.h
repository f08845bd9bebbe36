#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

// libFuzzer's own mutations break lengths and counts, and behind those the importers look no further. So
// most of the time a model is changed as what it is.

/// The next input that libFuzzer tries, made from `bytes` and at most `longest` bytes long; empty where the
/// bytes are not in the format, which libFuzzer then changes as bytes.
std::string mutated_model(std::string_view bytes, std::size_t longest, std::minstd_rand& random);

inline std::size_t below(std::minstd_rand& random, std::size_t end) { return random() % end; }

/// Numbers at the edges of types and ranges, as text.
inline std::string edge_number(std::minstd_rand& random) {
  static constexpr const char* numbers[] = {"0",
                                            "1",
                                            "2",
                                            "3",
                                            "5",
                                            "8",
                                            "11",
                                            "15",
                                            "16",
                                            "31",
                                            "32",
                                            "33",
                                            "63",
                                            "64",
                                            "255",
                                            "256",
                                            "257",
                                            "65535",
                                            "65536",
                                            "16777215",
                                            "16777216",
                                            "2147483647",
                                            "4294967295",
                                            "4294967296",
                                            "9223372036854775807",
                                            "18446744073709551615",
                                            "-1",
                                            "-2",
                                            "-3",
                                            "-128",
                                            "-2147483648",
                                            "-9223372036854775808",
                                            "0.5",
                                            "-0.0",
                                            "1e-35",
                                            "-1e-35",
                                            "1.0000000180025095e-35",
                                            "1e-45",
                                            "1e-300",
                                            "3.4028234663852886e+38",
                                            "3.4028235677973366e+38",
                                            "1e39",
                                            "-1e39",
                                            "1.7976931348623157e+308",
                                            "-1e308",
                                            "0.1",
                                            "100000000000000000"};
  return numbers[below(random, std::size(numbers))];
}
