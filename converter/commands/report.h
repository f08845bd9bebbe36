#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "data/sessions.h"
#include "evaluate/metrics.h"

namespace tonearm {

/// Formats like printf.
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

/// Rows of texts in aligned columns; the first row is the header. Numbers align right.
std::string table_text(const std::vector<std::vector<std::string>>& rows);

/// 12345678 as "12.3 MB".
std::string bytes_text(double bytes);

nlohmann::ordered_json metrics_json(const Metrics& metrics);

/// What was odd about the data, a line each.
std::string remarks_text(const std::vector<LogRemark>& remarks);

/// Throws Error if `file` could not be written: before hours of training rather than after them.
void require_writable(const std::filesystem::path& file);

/// Prints `text`, and `json` to `json_path` if that is not empty; "-" is stdout, and then `text` is not
/// printed.
void print_report(const std::string& text, const nlohmann::ordered_json& json, const std::string& json_path);

}  // namespace tonearm
