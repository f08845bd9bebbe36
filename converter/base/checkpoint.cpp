#include "base/checkpoint.h"

#include <cstdint>
#include <cstring>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "base/crc32.h"
#include "base/error.h"
#include "base/files.h"

namespace tonearm {

using nlohmann::json;

namespace {

// The file is CBOR and then its CRC-32: a flipped bit would otherwise resume to another model.
constexpr std::size_t crc_bytes = 4;

/// What the bytes of a checkpoint say; null where they are damaged.
json read(const std::vector<unsigned char>& bytes) {
  if (bytes.size() < crc_bytes) return nullptr;
  const std::span content(bytes.data(), bytes.size() - crc_bytes);
  std::uint32_t crc;
  std::memcpy(&crc, content.data() + content.size(), crc_bytes);
  return crc == crc32(content) ? json::from_cbor(content.begin(), content.end(), true, false) : nullptr;
}

}  // namespace

Checkpoint::Checkpoint(std::filesystem::path path, std::string fingerprint, bool resume)
    : path_(std::move(path)), resume_(resume) {
  content_ = std::make_shared<json>(json{{"fingerprint", fingerprint}, {"stages", json::object()}});
  if (!resume_ || path_.empty() || !std::filesystem::exists(path_)) return;
  const std::string advice = "; train without --resume, or delete the file";
  json saved = read(read_file(path_));
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
  std::vector<unsigned char> bytes = json::to_cbor(*content_);
  const std::uint32_t crc = crc32(bytes);
  bytes.resize(bytes.size() + crc_bytes);
  std::memcpy(bytes.data() + bytes.size() - crc_bytes, &crc, crc_bytes);
  write_file(path_, bytes);
}

void Checkpoint::remove() const {
  std::error_code ignored;  // what cannot be removed is refused or overwritten by the next training
  if (!path_.empty()) std::filesystem::remove(path_, ignored);
}

}  // namespace tonearm
