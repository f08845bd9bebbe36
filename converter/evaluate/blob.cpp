#include "evaluate/blob.h"

#include <algorithm>

#include "base/error.h"

namespace tonearm {

Blob::Blob(std::vector<unsigned char> bytes, const std::string& name, std::uint32_t cpu)
    : bytes_(std::move(bytes)) {
  tonearm_open_options options{};
  options.struct_size = sizeof options;
  options.cpu = cpu;
  tonearm_diagnostic diagnostic{};
  diagnostic.struct_size = sizeof diagnostic;
  if (tonearm_model_open(&model_, bytes_.data(), bytes_.size(), &options, &diagnostic) != TONEARM_OK) {
    std::string text(tonearm_diagnostic_text(&diagnostic, nullptr, 0), '\0');
    tonearm_diagnostic_text(&diagnostic, text.data(), text.size() + 1);
    throw Error(name + ": " + text);
  }
  info_.struct_size = sizeof info_;
  tonearm_model_info(&model_, &info_);
  scratch_.resize((tonearm_scratch_size(&model_) + 3) / 4);
}

void Blob::evaluate(std::span<const float> row, std::span<float> out) const {
  tonearm_evaluate(&model_, row.data(), static_cast<std::uint32_t>(row.size()), scratch_.data(),
                   scratch_.size() * 4, out.data());
}

std::vector<float> Blob::evaluate_rows(std::span<const float> rows, Threads& threads) const {
  constexpr std::size_t block_rows = 1024;
  const std::size_t count = rows.size() / columns();
  std::vector<float> out(count * outputs());
  threads.run((count + block_rows - 1) / block_rows, [&](std::size_t block) {
    std::vector<float> scratch(scratch_.size());
    const std::size_t end = std::min(count, (block + 1) * block_rows);
    for (std::size_t n = block * block_rows; n < end; ++n)
      tonearm_evaluate(&model_, rows.data() + n * columns(), info_.columns, scratch.data(),
                       scratch.size() * 4, out.data() + n * outputs());
  });
  return out;
}

}  // namespace tonearm
