#pragma once

#include <exception>
#include <stdexcept>
#include <string>

namespace tonearm {

/// The input is at fault (data, recipe, blob, folder): one sentence that says what, where, what was
/// expected and what to do. The command prints it and exits with 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The user pressed Ctrl-C and everything worth keeping has been saved. The command exits with 130.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "interrupted"; }
};

}  // namespace tonearm
