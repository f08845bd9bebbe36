#pragma once

#include <span>
#include <string_view>

#include "train/training.h"

namespace tonearm {

/// What trainers that cannot handle gaps or a single class demand of their rows; `who` begins the
/// sentence ("logistic regression"). Throws Error naming the first feature and row (counted from 0) that
/// is NaN or infinite.
void require_finite(const Dataset& data, std::string_view who);

/// Throws Error unless both classes, 0 and 1, occur.
void require_both_classes(std::span<const float> target, std::string_view who);

}  // namespace tonearm
