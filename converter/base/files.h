#pragma once

#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tonearm {

/// The whole file. Throws Error naming the path and the system's reason.
std::vector<unsigned char> read_file(const std::filesystem::path& path);

/// Writes a temporary file in the same folder, flushes it to the disk, and renames it: at any moment
/// the path holds the old bytes or the new ones. Throws Error (unwritable folder, full disk) and leaves
/// no temporary file behind.
void write_file(const std::filesystem::path& path, std::span<const unsigned char> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

/// The word in `known` that `word` was most likely meant to be (Levenshtein distance at most a third
/// of its length, at least 2; ASCII case ignored), or "" if none comes near.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace tonearm
