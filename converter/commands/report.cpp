#include "commands/report.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <iostream>

#include "base/error.h"
#include "base/files.h"

namespace tonearm {

std::string format(const char* pattern, ...) {
  va_list arguments, again;
  va_start(arguments, pattern);
  va_copy(again, arguments);
  std::string text(static_cast<std::size_t>(std::vsnprintf(nullptr, 0, pattern, arguments)), '\0');
  std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  va_end(arguments);
  return text;
}

std::string table_text(const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> width;
  for (const auto& row : rows)
    for (std::size_t c = 0; c < row.size(); ++c) {
      if (c >= width.size()) width.push_back(0);
      width[c] = std::max(width[c], row[c].size());
    }
  const auto numeric = [&](std::size_t c) {
    for (std::size_t r = 1; r < rows.size(); ++r)
      if (c < rows[r].size() && !rows[r][c].empty())
        return rows[r][c].find_first_of("0123456789") <= 1;  // a sign or a point may come first
    return false;
  };
  std::string text;
  for (const auto& row : rows) {
    std::string line = " ";
    for (std::size_t c = 0; c < row.size(); ++c) {
      const std::string space(width[c] - row[c].size(), ' ');
      line += " " + (numeric(c) && c > 0 ? space + row[c] : row[c] + space) + " ";
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
  }
  return text;
}

std::string bytes_text(double bytes) {
  if (bytes < 1000) return format("%.0f B", bytes);
  if (bytes < 1e6) return format("%.1f kB", bytes / 1e3);
  return format("%.1f MB", bytes / 1e6);
}

nlohmann::ordered_json metrics_json(const Metrics& metrics) {
  return {{"rows", metrics.rows},         {"base_rate", metrics.base_rate},
          {"accuracy", metrics.accuracy}, {"auc", metrics.auc},
          {"log_loss", metrics.log_loss}, {"calibration_error", metrics.calibration_error}};
}

std::string remarks_text(const std::vector<LogRemark>& remarks) {
  std::string text;
  for (const LogRemark& remark : remarks)
    text += format("  note: %zu x %s, e.g. %s\n", remark.count, remark.what.c_str(), remark.example.c_str());
  return text;
}

void require_writable(const std::filesystem::path& file) {
  const auto fail = [&](const std::string& reason) {
    throw Error("cannot write '" + file.string() + "': " + reason);
  };
  if (file.filename().empty() || std::filesystem::is_directory(file))
    fail("a file must be named, not a folder");
  const std::filesystem::path folder = file.has_parent_path() ? file.parent_path() : ".";
  if (!std::filesystem::is_directory(folder)) fail("there is no folder '" + folder.string() + "'");
  // A file is replaced by renaming another one, a device is written to.
  const bool device = std::filesystem::exists(file) && !std::filesystem::is_regular_file(file);
  if (::access(device ? file.c_str() : folder.c_str(), W_OK) != 0) fail(std::strerror(errno));
}

void print_report(const std::string& text, const nlohmann::ordered_json& json, const std::string& json_path) {
  // Names of files need not be UTF-8, but JSON must be.
  const std::string json_text = json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
  if (json_path == "-") {
    std::cout << json_text;
  } else {
    std::cout << text;
    if (!json_path.empty()) write_file(json_path, json_text);
  }
  std::cout.flush();
  if (!std::cout) throw Error("standard output cannot be written to: is the disk full, or the reader gone?");
}

}  // namespace tonearm
