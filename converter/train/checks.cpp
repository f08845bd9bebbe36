#include "train/checks.h"

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace tonearm {

void require_finite(const Dataset& data, std::string_view who) {
  const auto bad =
      std::find_if(data.values.begin(), data.values.end(), [](float v) { return !std::isfinite(v); });
  if (bad == data.values.end()) return;
  const auto index = static_cast<std::size_t>(bad - data.values.begin());
  throw Error(std::string(who) + ": feature " + std::to_string(index % data.features) + " of row " +
              std::to_string(index / data.features) + " (counted from 0) is " +
              (std::isnan(*bad)
                   ? "missing; give its column a missing-value policy (a value to fill in), or "
                     "use trees, which accept missing values"
                   : "infinite; every value must be finite, so repair the data or clip the column"));
}

void require_both_classes(std::span<const float> target, std::string_view who) {
  const auto positive = std::count(target.begin(), target.end(), 1.0F);
  if (positive > 0 && static_cast<std::size_t>(positive) < target.size()) return;
  throw Error(std::string(who) + ": " +
              (target.empty() ? std::string("there are no rows")
                              : "all " + std::to_string(target.size()) + " rows have the label " +
                                    (positive > 0 ? "1" : "0")) +
              ", but both classes are needed; check the label rule and the split");
}

}  // namespace tonearm
