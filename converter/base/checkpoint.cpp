#include "base/checkpoint.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/error.h"
#include "base/files.h"

namespace tonearm {

using nlohmann::json;

Checkpoint::Checkpoint(std::filesystem::path path, std::string fingerprint, bool resume)
    : path_(std::move(path)), resume_(resume) {
  content_ = std::make_shared<json>(json{{"fingerprint", fingerprint}, {"stages", json::object()}});
  if (!resume_ || path_.empty() || !std::filesystem::exists(path_)) return;
  const std::string advice = "; train without --resume, or delete the file";
  json saved = json::from_cbor(read_file(path_), true, false);
  if (!saved.is_object() || !saved.contains("fingerprint") || !saved.contains("stages") ||
      !saved["stages"].is_object())
    throw Error("the checkpoint " + path_.string() + " is damaged" + advice);
  if (saved["fingerprint"] != fingerprint)
    throw Error("the checkpoint " + path_.string() +
                " belongs to a training with another recipe, other data or another seed" + advice);
  *content_ = std::move(saved);
}

std::optional<json> Checkpoint::load(const std::string& stage) const {
  if (!resume_) return std::nullopt;
  const json& stages = content_->at("stages");
  const auto found = stages.find(stage);
  if (found == stages.end()) return std::nullopt;
  return *found;
}

void Checkpoint::save(const std::string& stage, const json& state) const {
  if (path_.empty()) return;
  (*content_)["stages"][stage] = state;
  write_file(path_, json::to_cbor(*content_));
}

void Checkpoint::remove() const {
  std::error_code ignored;  // what cannot be removed is refused or overwritten by the next training
  if (!path_.empty()) std::filesystem::remove(path_, ignored);
}

}  // namespace tonearm
