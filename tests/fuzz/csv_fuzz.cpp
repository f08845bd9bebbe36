// Whatever the bytes, a CSV file is refused with an Error, or read, by every block size the same; and so it
// is as a table of rows and as logs of listening sessions.

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/parallel.h"
#include "data/adapter.h"
#include "data/csv.h"
#include "data/table.h"
#include "input_file.h"
#include "memory_limit.h"

namespace {

using namespace tonearm;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "fuzz: %s\n", what);
  std::abort();
}

/// The sentence of an Error, if one is thrown: never an empty one.
template <typename Action>
std::optional<std::string> error_of(const Action& action) {
  try {
    action();
    return std::nullopt;
  } catch (const Error& error) {
    if (std::strlen(error.what()) == 0) fail("an Error says nothing");
    return error.what();
  }
}

/// Every field and where it stands; and what went wrong at the end.
struct Records {
  std::vector<std::string> fields;
  std::vector<std::size_t> lines;
  std::optional<std::string> error;

  bool operator==(const Records& other) const {
    // Where a gzip stream is damaged, another mistake may come before, in a block that is whole.
    const auto is_unreadable = [](const Records& records) {
      return records.error && records.error->starts_with("cannot read");
    };
    if (is_unreadable(*this) || is_unreadable(other)) return error && other.error;
    return fields == other.fields && lines == other.lines && error == other.error;
  }
};

Records read(const std::filesystem::path& path, std::size_t block) {
  Records found;
  found.error = error_of([&] {
    CsvReader reader(path, block);
    found.fields = reader.header();
    for (std::vector<std::string_view> fields; reader.next(fields);) {
      if (fields.size() != reader.header().size())
        fail("a record has another number of fields than the header");
      found.lines.push_back(reader.line());
      for (std::size_t i = 0; i < fields.size(); ++i) {
        found.fields.emplace_back(fields[i]);
        (void)error_of([&] { (void)reader.number(i, fields[i]); });
      }
    }
  });
  return found;
}

void read_as_table(const std::filesystem::path& path, const std::vector<std::string>& header) {
  TableSpec spec;
  spec.path = path;
  for (std::size_t i = 0; i < header.size() && i < 4; ++i)
    spec.columns.push_back({header[i], i % 2 == 0 ? ColumnType::number : ColumnType::category});
  if (header.size() > 4) spec.target = header[4];
  if (header.size() > 5) spec.groups = {header[5]};
  (void)error_of([&] {
    const Table table = read_table(spec);
    for (const Column& column : table.columns)
      if (column.values.size() != table.identity.size()) fail("the columns of a table differ in length");
  });
}

void read_as_logs(const std::filesystem::path& path) {
  static Threads threads(1);
  (void)error_of([&] {
    const auto logs = open_mssd({path, "", "", wanted_tracks({"duration", "tempo"})}, threads);
    for (std::size_t shard = 0; shard < logs->shards(); ++shard)
      logs->read(shard, [](const Log& log) {
        if (log.plays.empty()) fail("a log has no plays");
      });
    (void)logs->remarks();
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const InputFile file("log_fuzz.csv");
  const std::filesystem::path& path = file.holding(data, size);
  // A gzip stream may hold a thousand times its bytes.
  const MemoryLimit limit((std::size_t{64} << 20) + 2000 * size);
  const Records whole = read(path, 1 << 18);
  for (const std::size_t block : {std::size_t{4}, std::size_t{37}})
    if (!(read(path, block) == whole)) fail("the size of the blocks changes what is read");
  if (!whole.fields.empty()) {
    std::vector<std::string> header = whole.fields;
    header.resize(std::min<std::size_t>(header.size(), 6));
    read_as_table(path, header);
  }
  read_as_logs(path);
  return 0;
}
