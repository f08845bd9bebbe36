#include <algorithm>
#include <bit>
#include <cmath>
#include <exception>
#include <limits>

#include "base/error.h"
#include "data/adapter.h"
#include "data/table.h"

namespace tonearm {
namespace {

constexpr float missing = std::numeric_limits<float>::quiet_NaN();

}  // namespace

std::string track_column_name(std::uint8_t column) { return columns_with({})[column].name; }

WantedTracks wanted_tracks(const std::vector<std::string>& needed) {
  WantedTracks wanted;
  wanted.named = !needed.empty();
  const auto needs = [&](const std::string& name) {
    return std::find(needed.begin(), needed.end(), name) != needed.end();
  };
  for (std::uint8_t i = 0; i < track_column_count; ++i) {
    const std::string name = track_column_name(i);
    if (needed.empty() || needs(name) || (name == "duration" && needs("played_share")))
      wanted.columns.push_back(i);
  }
  return wanted;
}

TrackCells::TrackCells(const CsvReader& reader, const WantedTracks& wanted) {
  for (std::uint8_t place = 0; place < wanted.columns.size(); ++place) {
    const std::string name = track_column_name(wanted.columns[place]);
    if (const auto field = reader.find(name))
      cells_.push_back({place, name == "mode" ? Kind::mode : Kind::number, *field});
    else if (const auto popularity = reader.find("us_popularity_estimate");
             popularity && name == "popularity")
      cells_.push_back({place, Kind::number, *popularity});
    else if (const auto duration = reader.find("duration_ms"); duration && name == "duration")
      cells_.push_back({place, Kind::milliseconds, *duration});
    else
      missing_.push_back(place);
  }
}

float TrackCells::number(const CsvReader& reader, const Cell& cell, std::string_view text) {
  if (cell.kind == Kind::mode) {
    if (text == "major") return 1;
    if (text == "minor") return 0;
  }
  const float value = reader.number(cell.field, text);
  if (cell.kind == Kind::milliseconds) return value / 1000;
  if (cell.kind == Kind::mode && value != 0 && value != 1 && !std::isnan(value))
    reader.refuse(cell.field, text, "major, minor, 1 or 0");
  return value;
}

/// The rows of one file, before all are entered into the table.
struct TrackTable::Part {
  std::vector<std::unique_ptr<float[]>> blocks;
  std::size_t rows = 0;
  std::vector<std::uint32_t> lines;
  std::exception_ptr failure;
};

TrackTable::TrackTable(std::vector<std::filesystem::path> files, std::span<const std::string_view> id_names,
                       WantedTracks wanted, Threads& threads)
    : files_(std::move(files)), wanted_(std::move(wanted)), stride_(2 + wanted_.columns.size()) {
  std::vector<Part> parts(files_.size());
  threads.run(parts.size(), [&](std::size_t i) {
    try {
      read(files_[i], id_names, parts[i]);
    } catch (...) {
      parts[i].failure = std::current_exception();
    }
  });
  for (const Part& part : parts)
    if (part.failure) std::rethrow_exception(part.failure);
  enter(parts);
}

void TrackTable::read(const std::filesystem::path& file, std::span<const std::string_view> id_names,
                      Part& part) const {
  CsvReader reader(file);
  const TrackCells cells(reader, wanted_);
  if (wanted_.named && !cells.complete())
    (void)reader.place(track_column_name(wanted_.columns[cells.missing()[0]]));
  std::optional<std::size_t> id;
  for (const std::string_view name : id_names)
    if (!id) id = reader.find(name);
  if (!id) id = reader.place(id_names[0]);

  std::vector<std::string_view> fields;
  while (reader.next(fields)) {
    if (part.rows % rows_per_block == 0)
      part.blocks.push_back(std::make_unique<float[]>(rows_per_block * stride_));
    float* const row = part.blocks.back().get() + part.rows % rows_per_block * stride_;
    if (fields[*id].empty()) reader.refuse(*id, fields[*id], "the id of a track");
    const std::uint64_t key = hash_text(fields[*id]);
    std::memcpy(row, &key, sizeof key);
    float* const values = row + 2;
    if (!cells.complete()) std::fill_n(values, wanted_.columns.size(), missing);
    cells.read(reader, fields, [&](std::uint8_t place, float value) { values[place] = value; });
    part.lines.push_back(static_cast<std::uint32_t>(reader.line()));
    ++part.rows;
  }
}

// Rows are numbered by their blocks, so that no row is moved; the last block of each part leaves a gap.
void TrackTable::enter(std::vector<Part>& parts) {
  std::size_t rows = 0;
  for (const Part& part : parts) rows += part.rows;
  slots_.resize(std::bit_ceil(rows + rows / 3 + 2));
  for (std::size_t p = 0; p < parts.size(); ++p) {
    Part& part = parts[p];
    const std::size_t first = blocks_.size() * rows_per_block;
    if (first + part.rows >= std::numeric_limits<std::uint32_t>::max())
      throw Error(files_[p].string() + ": the track table has more than 2^32 rows");
    for (auto& block : part.blocks) blocks_.push_back(std::move(block));
    for (std::size_t i = 0; i < part.rows; ++i) {
      const auto index = static_cast<std::uint32_t>(first + i);
      std::uint64_t id;
      std::memcpy(&id, row(index), sizeof id);
      std::size_t at = id & (slots_.size() - 1);
      while (slots_[at] != 0 &&
             std::memcmp(row(static_cast<std::uint32_t>(slots_[at]) - 1), &id, sizeof id) != 0)
        at = (at + 1) & (slots_.size() - 1);
      if (slots_[at] != 0) {
        if (repeated_.count++ == 0)
          repeated_.example = files_[p].string() + ":" + std::to_string(part.lines[i]);
      } else {
        slots_[at] = (id >> 32 << 32) | (index + 1);
      }
    }
    part = {};
  }
}

bool TrackTable::look_up(tonearm_track& track, std::span<const std::uint8_t> places) const {
  const std::uint64_t id = track.track_id;
  for (std::size_t at = id & (slots_.size() - 1);; at = (at + 1) & (slots_.size() - 1)) {
    const std::uint64_t slot = slots_[at];
    if (slot == 0) return false;
    if (slot >> 32 != id >> 32) continue;
    const float* const values = row(static_cast<std::uint32_t>(slot) - 1);
    if (std::memcmp(values, &id, sizeof id) != 0) continue;
    for (const std::uint8_t place : places)
      set_track_column(track, wanted_.columns[place], values[2 + place]);
    return true;
  }
}

}  // namespace tonearm
