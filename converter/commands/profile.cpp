#include "commands/profile.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <new>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"
#include "commands/commands.h"
#include "commands/experiment.h"
#include "commands/report.h"
#include "commands/session_experiment.h"
#include "data/sessions.h"
#include "data/table.h"
#include "evaluate/blob.h"
#include "features/encoders.h"
#include "features/replay.h"

namespace tonearm {
namespace {

// ------------------------------------------------------------------------------------------- JSON

/// A value of a JSON document, and where it is.
class Place {
 public:
  Place(const nlohmann::json& value, std::string path) : value_(value), path_(std::move(path)) {}

  Place at(const char* field) const {
    if (!value_.is_object()) fail("an object");
    const auto found = value_.find(field);
    if (found == value_.end())
      throw Error(before() + "there is no field '" + field + "'; is it JSON of tonearm-profile?");
    return {*found, path_.ends_with(": ") ? path_ + field : path_ + "." + field};
  }
  Place at(std::size_t index) const { return {value_[index], path_ + "[" + std::to_string(index) + "]"}; }
  std::size_t size(std::size_t most) const {
    if (!value_.is_array() || value_.size() > most) fail("a list of at most " + std::to_string(most));
    return value_.size();
  }
  bool is_null() const { return value_.is_null(); }

  template <typename Number>
  void read(Number& number) const {
    constexpr std::uint64_t most = std::numeric_limits<Number>::max();
    if (!value_.is_number_unsigned() || value_.get<std::uint64_t>() > most)
      fail("a whole number from 0 to " + std::to_string(most));
    number = static_cast<Number>(value_.get<std::uint64_t>());
  }
  std::string text() const {
    if (!value_.is_string()) fail("a text");
    return value_.get<std::string>();
  }
  template <std::size_t size>
  void read(char (&text)[size]) const {
    const std::string found = this->text();
    if (found.size() >= size || found.find('\0') != std::string::npos)
      fail("a text of at most " + std::to_string(size - 1) + " bytes");
    found.copy(text, size - 1);
    text[found.size()] = 0;
  }

  [[noreturn]] void fail(const std::string& expected) const {
    // Lists and objects may be as deep as the file is long, and are not quoted.
    std::string found = value_.is_object() ? "an object"
                        : value_.is_array()
                            ? "a list of " + std::to_string(value_.size())
                            : value_.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
    if (found.size() > 40) found = found.substr(0, 40) + "...";
    throw Error(before() + found + " should be " + expected);
  }

 private:
  /// Of the whole document the path is the file's name alone, which has its colon.
  std::string before() const { return path_.ends_with(": ") ? path_ : path_ + ": "; }

  const nlohmann::json& value_;
  std::string path_;
};

void read_times(const Place& place, profile_times& times) {
  if (place.is_null()) return;
  tonearm_profile_times& summary = times.summary;
  place.at("count").read(summary.count);
  if (summary.count == 0) place.at("count").fail("at least 1, or the times null");
  place.at("total").read(summary.total);
  place.at("minimum").read(summary.minimum);
  place.at("median").read(summary.median);
  place.at("p90").read(summary.p90);
  place.at("p99").read(summary.p99);
  place.at("maximum").read(summary.maximum);
  const Place quantiles = place.at("quantiles");
  if (quantiles.size(PROFILE_QUANTILES) != PROFILE_QUANTILES)
    quantiles.fail("a list of " + std::to_string(PROFILE_QUANTILES));
  for (std::size_t q = 0; q < PROFILE_QUANTILES; ++q) {
    quantiles.at(q).read(times.quantiles[q]);
    if (q > 0 && times.quantiles[q] < times.quantiles[q - 1])
      quantiles.at(q).fail("no less than the one before");
  }
}

void read_part(const Place& place, profile_part& part) {
  const std::string kind = place.at("kind").text();
  if (kind == "call") {
    place.at("call").read(part.kind);
    if (part.kind < TONEARM_PROFILE_EVALUATE || part.kind > TONEARM_PROFILE_QUEUE)
      place.at("call").fail("from 1 to 6");
  } else if (kind == "operator") {
    part.kind = TONEARM_PROFILE_OPERATOR;
    place.at("operator").read(part.index);
  } else if (kind == "features") {
    part.kind = TONEARM_PROFILE_FEATURES;
  } else {
    place.at("kind").fail("\"call\", \"features\" or \"operator\"");
  }
  if (const Place phase = place.at("phase"); !phase.is_null()) {
    part.phase = TONEARM_PHASE_HISTORY;
    while (part.phase <= TONEARM_PHASE_CANDIDATE && phase.text() != profile_phase_name(part.phase))
      ++part.phase;
    if (part.phase > TONEARM_PHASE_CANDIDATE) phase.fail("\"history\", \"context\", \"candidate\" or null");
  }
  place.at("name").read(part.name);
  place.at("touched_bytes").read(part.touched_bytes);
  read_times(place.at("warm"), part.warm);
  read_times(place.at("cold"), part.cold);
  read_times(place.at("instructions"), part.instructions);
}

/// What a C function prints.
template <typename Print>
std::string printed(const Print& print) {
  char* text = nullptr;
  std::size_t size = 0;
  FILE* file = ::open_memstream(&text, &size);
  if (file == nullptr) throw std::bad_alloc();
  print(file);
  const bool failed = std::fclose(file) != 0;
  const std::unique_ptr<char, void (*)(void*)> owner(text, std::free);
  if (failed) throw std::bad_alloc();
  return {text, size};
}

// --------------------------------------------------------------------------------------- workload

struct Options {
  std::string model, session, rows, report, json, cpu, device;
  std::vector<std::string> from;
  std::uint32_t runs = 2000, cold_runs = 31, queue = 20;
  std::int64_t evict_megabytes = -1;
};

/// What the model is fed. The arrays of `workload` lead into the others.
struct Feed {
  ::workload workload = {};
  std::vector<Log> logs;
  std::vector<tonearm_event> events;
  std::vector<tonearm_track> tracks;
  std::vector<float> rows;
};

constexpr std::size_t most_tracks = 2000, most_rows = 5000;

void feed_logs(const Blob& blob, const std::string& path, Feed& feed) {
  schema::ModelT model;
  schema::GetModel(blob.bytes().data())->UnPackTo(&model);
  if (model.card->recipe.empty())
    throw Error(
        "the blob's card has no recipe, so nothing says how its logs are read; leave --session away "
        "to profile it with made-up sessions");
  const Recipe recipe = Recipe::from_text(model.card->recipe, "the recipe in the card");
  std::vector<std::string> needed;
  for (const auto& column : model.columns) needed.push_back(column->name);
  Threads threads(1);
  const auto logs = open_logs(recipe.root().section("data"), path, needed, threads, false);
  Replay replay(blob, logs->columns(), {});
  std::size_t plays = 0;
  for (std::size_t shard = 0; shard < logs->shards() && plays < most_tracks; ++shard)
    logs->read(shard, [&](const Log& log) {
      if (plays >= most_tracks) return;
      Replayed outline;
      replay.outline(log, outline);
      // The plays as the model's structs lead into arrays that the next log replaces.
      Log& kept = feed.logs.emplace_back();
      kept.plays = replay.plays();
      if (kept.plays.size() > most_tracks - plays) kept.plays.resize(most_tracks - plays);
      for (Play& play : kept.plays) {
        const auto keep = [&](auto& told) {
          kept.extra.insert(kept.extra.end(), told.extra, told.extra + told.extra_count);
        };
        keep(play.track), keep(play.now), keep(play.start), keep(play.end);
      }
      plays += kept.plays.size();
    });
  for (Log& log : feed.logs) {
    const float* extra = log.extra.data();
    const auto lead = [&](auto& told) {
      told.extra = told.extra_count == 0 ? nullptr : extra;
      extra += told.extra_count;
    };
    for (Play& play : log.plays) {
      lead(play.track), lead(play.now), lead(play.start), lead(play.end);
      tonearm_event event{};
      event.struct_size = sizeof event;
      event.kind = TONEARM_EVENT_START;
      event.track = play.track;
      event.start = play.start;
      event.now = play.now;
      event.end = play.end;
      feed.tracks.push_back(event.track);
      feed.events.push_back(event);
      event.kind = TONEARM_EVENT_END;
      feed.events.push_back(event);
    }
    if (feed.events.empty()) continue;
    feed.events.push_back(feed.events.back());
    feed.events.back().kind = TONEARM_EVENT_RESET;
  }
  if (feed.tracks.empty()) throw Error(path + ": there are no tracks to profile with");
  ::workload& workload = feed.workload;
  workload.events = feed.events.data();
  workload.event_count = feed.events.size();
  workload.tracks = feed.tracks.data();
  workload.track_count = feed.tracks.size();
  std::snprintf(workload.source, sizeof workload.source, "%.80s: %zu logs, %zu tracks",
                std::filesystem::path(path).filename().c_str(), feed.logs.size(), feed.tracks.size());
}

void feed_rows(const Blob& blob, const std::string& path, Feed& feed) {
  const Table table = read_table(table_spec(blob, path));
  std::vector<std::size_t> which(std::min(table.rows, most_rows));
  for (std::size_t i = 0; i < which.size(); ++i) which[i] = i;
  if (which.empty()) throw Error(path + ": there are no rows to profile with");
  feed.rows = gather_rows(table, which);
  feed.workload.rows = feed.rows.data();
  feed.workload.row_count = which.size();
  std::snprintf(feed.workload.source, sizeof feed.workload.source, "%.80s: %zu rows",
                std::filesystem::path(path).filename().c_str(), which.size());
}

Profile measure(const Options& options) {
  std::uint32_t cpu = 0;
  if (!options.cpu.empty() && (cpu = profile_cpu_of(options.cpu.c_str())) == 0)
    throw CLI::ValidationError("--cpu", "there are no kernels called '" + options.cpu + "'");
  const Blob blob(read_file(options.model), options.model, cpu);
  if (cpu != 0 && blob.info().cpu != cpu)
    throw Error("--cpu: this processor has no " + options.cpu + " kernels; leave --cpu away, or take scalar");
  const bool sessions = blob.info().session_bytes > 0;
  if (sessions && !options.rows.empty())
    throw Error(options.model + " is a model of sessions: give --session, not --rows");
  if (!sessions && !options.session.empty())
    throw Error(options.model + " is a model of a table: give --rows, not --session");
  Feed feed;
  if (!options.session.empty())
    feed_logs(blob, options.session, feed);
  else if (!options.rows.empty())
    feed_rows(blob, options.rows, feed);
  else if (sessions)
    workload_made_up(&feed.workload);
  else
    std::snprintf(feed.workload.source, sizeof feed.workload.source,
                  "the rows that the model holds for its self-test");
  profile_settings settings = {options.runs, options.cold_runs, options.queue, 0,
                               options.device.empty() ? nullptr : options.device.c_str()};
  settings.evict_bytes = options.evict_megabytes < 0
                             ? profile_evict_bytes()
                             : static_cast<std::uint64_t>(options.evict_megabytes) << 20;
  Profile found(new profile());
  if (const char* wrong =
          profile_measure(&blob.model(), blob.bytes().data(), &feed.workload, &settings, found.get()))
    throw Error(options.model + ": " + wrong);
  return found;
}

void run(const Options& options) {
  if (options.model.empty() == options.from.empty())
    throw CLI::ValidationError("profile", "a model, or --from with what was found on a device, is needed");
  if (!options.report.empty()) require_writable(options.report);
  if (!options.json.empty() && options.json != "-") require_writable(options.json);
  std::vector<Profile> profiles;
  for (const std::string& file : options.from) {
    const std::vector<unsigned char> bytes = read_file(file);
    profiles.push_back(read_profile({bytes.begin(), bytes.end()}, file));
  }
  // What is measured here is read as from a device: names that are no UTF-8 are put right.
  if (options.from.empty()) profiles.push_back(read_profile(json_of(*measure(options)), options.model));
  if (!options.report.empty()) write_file(options.report, page_of(profiles));
  std::string text;
  for (const Profile& found : profiles) text += (text.empty() ? "" : "\n") + text_of(*found);
  if (!options.report.empty()) text += "\nwritten: " + options.report + "\n";
  nlohmann::ordered_json json;
  if (!options.json.empty()) json = nlohmann::ordered_json::parse(json_of(*profiles.front()));
  print_report(text, json, options.json);
}

}  // namespace

Profile read_profile(const std::string& json, const std::string& name) {
  nlohmann::json document;
  try {
    document = nlohmann::json::parse(json);
  } catch (const nlohmann::json::parse_error& error) {
    const auto end = json.begin() + static_cast<std::ptrdiff_t>(std::min(error.byte, json.size()));
    throw Error(name + ", line " + std::to_string(std::count(json.begin(), end, '\n') + 1) +
                ": this is no JSON; give what 'tonearm-profile --json FILE' wrote");
  } catch (const nlohmann::json::exception&) {
    throw Error(name + ": a number in it is too large; give what 'tonearm-profile --json FILE' wrote");
  }
  const Place root(document, name + ": ");
  std::uint32_t version = 0;
  root.at("tonearm_profile").read(version);
  if (version != PROFILE_VERSION)
    throw Error(name + ": its tonearm_profile is " + std::to_string(version) + ", but this program reads " +
                std::to_string(PROFILE_VERSION) + "; use the tonearm of the same version as tonearm-profile");
  Profile found(new profile());
  unsigned major = 0, minor = 0, patch = 0;
  char rest = 0;
  if (std::sscanf(root.at("library").text().c_str(), "%4u.%2u.%2u%c", &major, &minor, &patch, &rest) != 3)
    root.at("library").fail("a version such as \"0.5.0\"");
  found->library = major * 10000 + minor * 100 + patch;
  const Place device = root.at("device"), model = root.at("model"), workload = root.at("workload"),
              clock = root.at("clock"), parts = root.at("parts"), stack = root.at("stack"),
              remarks = root.at("not_measured");
  device.at("name").read(found->device.name);
  device.at("machine").read(found->device.machine);
  device.at("system").read(found->device.system);
  device.at("cache_bytes").read(found->device.cache_bytes);
  model.at("name").read(found->model.name);
  model.at("version").read(found->model.version);
  model.at("kernels").read(found->model.kernels);
  const std::string id = model.at("id").text();
  if (id.size() != 8 || id.find_first_not_of("0123456789abcdef") != std::string::npos)
    model.at("id").fail("8 hexadecimal digits");
  found->model.id = static_cast<std::uint32_t>(std::stoul(id, nullptr, 16));
  unsigned format_major = 0, format_minor = 0;
  if (std::sscanf(model.at("format").text().c_str(), "%3u.%3u%c", &format_major, &format_minor, &rest) != 2)
    model.at("format").fail("a version such as \"1.3\"");
  found->model.format_major = static_cast<std::uint16_t>(format_major);
  found->model.format_minor = static_cast<std::uint16_t>(format_minor);
  model.at("columns").read(found->model.columns);
  model.at("outputs").read(found->model.outputs);
  model.at("blob_bytes").read(found->model.blob_bytes);
  model.at("session_bytes").read(found->model.session_bytes);
  model.at("scratch_bytes").read(found->model.scratch_bytes);
  workload.at("source").read(found->workload.source);
  workload.at("rows").read(found->workload.rows);
  workload.at("events").read(found->workload.events);
  workload.at("tracks").read(found->workload.tracks);
  workload.at("queue").read(found->workload.queue);
  if (clock.at("unit").text() != "ns") clock.at("unit").fail("\"ns\"");
  clock.at("cost").read(found->clock.cost);
  clock.at("step").read(found->clock.step);
  root.at("evicted_bytes").read(found->evicted_bytes);

  const std::size_t part_count = parts.size(10000);
  found->parts = static_cast<profile_part*>(std::calloc(part_count + 1, sizeof(profile_part)));
  if (found->parts == nullptr) throw std::bad_alloc();
  found->part_count = part_count;
  for (std::size_t i = 0; i < part_count; ++i) {
    read_part(parts.at(i), found->parts[i]);
    if (found->parts[i].kind == TONEARM_PROFILE_QUEUE && found->parts[i].warm.summary.count > 0 &&
        found->workload.queue == 0)
      workload.at("queue").fail("at least 1, for a queue was measured");
  }
  found->stack_count = stack.size(PROFILE_CALLS);
  for (std::size_t i = 0; i < found->stack_count; ++i) {
    stack.at(i).at("call").read(found->stack[i].call);
    stack.at(i).at("bytes").read(found->stack[i].bytes);
  }
  found->remark_count = remarks.size(PROFILE_REMARKS);
  for (std::size_t i = 0; i < found->remark_count; ++i) {
    remarks.at(i).at("what").read(found->not_measured[i].what);
    remarks.at(i).at("why").read(found->not_measured[i].why);
  }
  return found;
}

std::string json_of(const profile& found) {
  return printed([&](FILE* file) { profile_write_json(&found, file); });
}

std::string text_of(const profile& found) {
  return printed([&](FILE* file) { profile_print(&found, file); });
}

void add_profile(CLI::App& app) {
  auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand(
      "profile",
      "Measure what a model's calls and operators cost here, or show what was measured on a device");
  command->add_option("model", options->model, "The blob, MODEL.tarm, to measure on this computer");
  auto* from =
      command->add_option("--from", options->from,
                          "Instead of measuring: JSON that tonearm-profile wrote on a device; several "
                          "are shown side by side");
  command->add_option("--report", options->report, "Write a page with drawings, FILE.html");
  command->add_option("--json", options->json, "Write everything as JSON to a file, or - for stdout")
      ->excludes(from);
  command
      ->add_option("--session", options->session,
                   "Of a session model: logs, or a folder of them; without it, made-up sessions")
      ->excludes(from);
  command
      ->add_option("--rows", options->rows,
                   "Of a table model: a CSV file, columns found by name; without it, the model's own rows")
      ->excludes(from);
  command->add_option("--runs", options->runs, "Warm measurements of each part")
      ->check(CLI::Range(1u, 1000000u))
      ->capture_default_str()
      ->excludes(from);
  command->add_option("--cold-runs", options->cold_runs, "Cold ones")
      ->check(CLI::Range(0u, 1000000u))
      ->capture_default_str()
      ->excludes(from);
  command->add_option("--queue", options->queue, "Tracks of the queue that is asked about")
      ->check(CLI::Range(0u, 1000u))
      ->capture_default_str()
      ->excludes(from);
  command
      ->add_option("--evict", options->evict_megabytes,
                   "MB written before each cold measurement, 0 for none; if not given, twice the last-level "
                   "cache, at least 16 and at most 96")
      ->check(CLI::Range(0, 4096))
      ->excludes(from);
  command
      ->add_option("--cpu", options->cpu,
                   "The kernels, e.g. scalar or avx2; the best that there are if not given")
      ->excludes(from);
  command->add_option("--device", options->device, "What to call this computer")->excludes(from);
  command->callback([options] { run(*options); });
}

}  // namespace tonearm
