#pragma once

#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace tonearm {

/// Where an interrupted training continues: one CBOR file beside the output, written atomically,
/// removed when the output is complete. `fingerprint` ties it to recipe, data and seed: a checkpoint of
/// another training, or a damaged one, is refused with an Error. Copies share their content.
class Checkpoint {
 public:
  /// A checkpoint that is never written nor found (path empty), for training that is not resumable.
  Checkpoint() = default;
  /// With `resume`, reads the file, if there is one, and load() returns what was saved; without, load()
  /// returns nothing and the first save() overwrites.
  Checkpoint(std::filesystem::path path, std::string fingerprint, bool resume);

  /// The saved state of stage `stage` ("fold 2", "final"), if there is one.
  std::optional<nlohmann::json> load(const std::string& stage) const;
  void save(const std::string& stage, const nlohmann::json& state) const;
  void remove() const;
  bool is_kept() const { return !path_.empty(); }

 private:
  std::filesystem::path path_;
  bool resume_ = false;
  std::shared_ptr<nlohmann::json> content_;  // what the file holds after the next save
};

}  // namespace tonearm
