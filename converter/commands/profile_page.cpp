// The page of `tonearm profile --report`: HTML that is XML too, drawings as inline SVG, no scripts, nothing
// from elsewhere.

#include <algorithm>
#include <cinttypes>
#include <cmath>

#include "commands/profile.h"
#include "commands/report.h"

namespace tonearm {
namespace {

// ------------------------------------------------------------------------------------------- texts

/// Text of a page. What no XML may hold becomes '?'.
std::string escape(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == '&')
      escaped += "&amp;";
    else if (c == '<')
      escaped += "&lt;";
    else if (c == '>')
      escaped += "&gt;";
    else if (c == '"')
      escaped += "&quot;";
    else
      escaped += static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\t' ? '?' : c;
  }
  return escaped;
}

std::string time_text(std::uint64_t nanoseconds) {
  const double ns = static_cast<double>(nanoseconds);
  if (ns < 1e4) return format("%.0f ns", ns);
  if (ns < 1e6) return format(ns < 1e5 ? "%.1f µs" : "%.0f µs", ns / 1e3);
  if (ns < 1e9) return format("%.1f ms", ns / 1e6);
  return format("%.1f s", ns / 1e9);
}

std::string count_text(std::uint64_t count) {
  std::string digits = std::to_string(count);
  for (std::size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, ",");
  return digits;
}

/// At most so many bytes of a text, in whole characters of UTF-8.
std::string cut(const std::string& text, std::size_t most) {
  if (text.size() <= most) return text;
  while (most > 0 && (static_cast<unsigned char>(text[most]) & 0xc0) == 0x80) --most;
  return text.substr(0, most) + "...";
}

const char* heading_of(std::uint32_t phase) {
  switch (phase) {
    case TONEARM_PHASE_HISTORY:
      return "History: once, when a track has ended";
    case TONEARM_PHASE_CONTEXT:
      return "Context: once per prediction";
    case TONEARM_PHASE_CANDIDATE:
      return "Candidate: for every track that is asked about";
    default:
      return "Within an evaluation";
  }
}

std::string name_of(const profile& found, const profile_part& part) {
  if (part.kind == TONEARM_PROFILE_QUEUE) return format("%s of %u", part.name, found.workload.queue);
  if (part.kind == TONEARM_PROFILE_OPERATOR) return format("#%u %s", part.index, part.name);
  return part.name;
}

// ---------------------------------------------------------------------------------------- drawings

constexpr double width = 860, left = 250, right = 770;

std::string at(double number) { return format("%.1f", number); }

std::string svg_text(double x, double y, const std::string& text, const char* attributes = "") {
  return "<text x=\"" + at(x) + "\" y=\"" + at(y) + "\" " + attributes + ">" + escape(text) + "</text>\n";
}

std::string svg_bar(double x, double y, double w, double h, const std::string& style,
                    const std::string& hint) {
  return "<rect class=\"" + style + "\" x=\"" + at(x) + "\" y=\"" + at(y) + "\" width=\"" +
         at(std::max(w, 0.5)) + "\" height=\"" + at(h) + "\"><title>" + escape(hint) + "</title></rect>\n";
}

std::string svg(const std::string& title, double height, const std::string& body) {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"0 0 " + at(width) + " " +
         at(height) + "\">\n<title>" + escape(title) + "</title>\n" + body + "</svg>\n";
}

/// Times on a logarithmic axis.
class TimeAxis {
 public:
  TimeAxis(std::uint64_t least, std::uint64_t most) {
    low_ = std::floor(std::log10(static_cast<double>(std::max<std::uint64_t>(least, 1))));
    high_ = std::max(low_ + 1, std::ceil(std::log10(static_cast<double>(std::max<std::uint64_t>(most, 1)))));
  }
  double x(std::uint64_t time) const {
    const double power = std::log10(static_cast<double>(std::max<std::uint64_t>(time, 1)));
    return left + (right - left) * std::clamp((power - low_) / (high_ - low_), 0.0, 1.0);
  }
  std::string draw(double top, double bottom) const {
    std::string drawn;
    for (double power = low_; power <= high_; ++power) {
      const auto time = static_cast<std::uint64_t>(std::pow(10.0, power) + 0.5);
      drawn += "<line x1=\"" + at(x(time)) + "\" x2=\"" + at(x(time)) + "\" y1=\"" + at(top) + "\" y2=\"" +
               at(bottom) + "\"/>\n" +
               svg_text(x(time), bottom + 13, time_text(time), "text-anchor=\"middle\" class=\"axis\"");
    }
    return drawn;
  }

 private:
  double low_, high_;
};

std::string legend(double y) {
  return svg_bar(left, y - 9, 12, 9, "warm", "warm") + svg_text(left + 17, y, "warm: in the caches already") +
         svg_bar(left + 220, y - 9, 12, 9, "cold", "cold") +
         svg_text(left + 237, y, "cold: from memory, as in a player");
}

/// One row of a drawing: a heading, or times.
struct Row {
  std::string label;
  const profile_times* warm = nullptr;
  const profile_times* cold = nullptr;
};

bool measured(const profile_times* times) { return times != nullptr && times->summary.count > 0; }

/// Bars of the medians.
std::string draw_medians(const std::string& title, const std::vector<Row>& rows) {
  std::uint64_t least = UINT64_MAX, most = 1;
  for (const Row& row : rows)
    for (const profile_times* times : {row.warm, row.cold})
      if (measured(times)) {
        least = std::min(least, times->summary.median);
        most = std::max(most, times->summary.median);
      }
  const TimeAxis axis(std::min(least, most) / 2, most);
  std::string body;
  double y = 40;
  for (const Row& row : rows) {
    if (row.warm == nullptr) {
      body += svg_text(10, y + 16, row.label, "class=\"title\"");
      y += 26;
      continue;
    }
    body += svg_text(left - 8, y + 14, row.label, "text-anchor=\"end\"");
    for (const bool cold : {false, true}) {
      const profile_times* times = cold ? row.cold : row.warm;
      if (!measured(times)) continue;
      const double x = axis.x(times->summary.median), top = y + (cold ? 11 : 1);
      const std::string value = time_text(times->summary.median);
      body += svg_bar(left, top, x - left, 9, cold ? "cold" : "warm",
                      row.label + ", " + (cold ? "cold" : "warm") + ", median of " +
                          count_text(times->summary.count) + ": " + value);
      body += svg_text(x + 4, top + 8, value, "class=\"axis\"");
    }
    y += 26;
  }
  return svg(title, y + 22, legend(20) + axis.draw(32, y) + body);
}

/// How times are spread: a line from the least to the largest, a box for the middle half, a mark at the
/// median.
std::string draw_spread(const std::string& title, const std::vector<Row>& rows) {
  std::uint64_t least = UINT64_MAX, most = 1;
  for (const Row& row : rows)
    for (const profile_times* times : {row.warm, row.cold})
      if (measured(times)) {
        least = std::min(least, times->quantiles[0]);
        most = std::max(most, times->quantiles[PROFILE_QUANTILES - 1]);
      }
  const TimeAxis axis(std::min(least, most), most);
  std::string body;
  double y = 40;
  for (const Row& row : rows) {
    if (row.warm == nullptr) {
      body += svg_text(10, y + 16, row.label, "class=\"title\"");
      y += 26;
      continue;
    }
    body += svg_text(left - 8, y + 14, row.label, "text-anchor=\"end\"");
    for (const bool cold : {false, true}) {
      const profile_times* times = cold ? row.cold : row.warm;
      if (!measured(times)) continue;
      const auto x = [&](int q) { return axis.x(times->quantiles[q]); };
      const double top = y + (cold ? 12 : 1);
      const std::string style = cold ? "cold" : "warm";
      std::string hint = row.label + ", " + style + ":";
      for (int q = 0; q < PROFILE_QUANTILES; q += 5)
        hint += format(" %d %% up to ", 5 * q) + time_text(times->quantiles[q]) + (q < 20 ? "," : "");
      body += svg_bar(x(0), top + 3.5, x(20) - x(0), 1, style, hint);
      body += svg_bar(x(5), top, x(15) - x(5), 8, style + " box", hint);
      body += svg_bar(x(10) - 1, top - 1, 2, 10, style, hint);
    }
    y += 26;
  }
  return svg(title, y + 22, legend(20) + axis.draw(32, y) + body);
}

/// Bars of bytes.
std::string draw_bytes(const std::string& title,
                       const std::vector<std::pair<std::string, std::uint64_t>>& rows) {
  std::uint64_t most = 1;
  for (const auto& [label, bytes] : rows) most = std::max(most, bytes);
  std::string body;
  double y = 10;
  for (const auto& [label, bytes] : rows) {
    const double w = (right - left) * static_cast<double>(bytes) / static_cast<double>(most);
    body += svg_text(left - 8, y + 11, label, "text-anchor=\"end\"") +
            svg_bar(left, y + 2, w, 10, "bytes", label + ": " + count_text(bytes) + " bytes") +
            svg_text(left + w + 4, y + 11, count_text(bytes), "class=\"axis\"");
    y += 20;
  }
  return svg(title, y + 4, body);
}

// -------------------------------------------------------------------------------------------- page

std::vector<Row> calls_of(const profile& found) {
  std::vector<Row> rows;
  for (std::size_t i = 0; i < found.part_count; ++i)
    if (const profile_part& part = found.parts[i]; part.kind < TONEARM_PROFILE_FEATURES)
      rows.push_back({name_of(found, part), &part.warm, &part.cold});
  return rows;
}

std::vector<Row> parts_of(const profile& found) {
  std::vector<Row> rows;
  std::uint32_t phase = UINT32_MAX;
  for (std::size_t i = 0; i < found.part_count; ++i) {
    const profile_part& part = found.parts[i];
    if (part.kind < TONEARM_PROFILE_FEATURES) continue;
    if (part.phase != phase) rows.push_back({heading_of(part.phase), nullptr, nullptr});
    phase = part.phase;
    rows.push_back({name_of(found, part), &part.warm, &part.cold});
  }
  return rows;
}

/// Where the time of each phase goes, warm: its parts side by side, and the rest.
std::string draw_shares(const profile& found) {
  struct Bar {
    std::string label;
    std::uint64_t whole = 0;
    std::uint32_t phase = 0;
  };
  std::vector<Bar> bars;
  if (found.model.session_bytes > 0) {
    static constexpr const char* names[] = {"history, a track ends", "context, a prediction",
                                            "candidate, a track"};
    for (std::uint32_t i = 0; i < 3; ++i)
      if (const profile_phase phase = profile_phase_of(&found, TONEARM_PHASE_HISTORY + i, 0);
          phase.known != 0)
        bars.push_back({names[i], phase.whole, TONEARM_PHASE_HISTORY + i});
  } else {
    for (std::size_t i = 0; i < found.part_count; ++i)
      if (found.parts[i].kind == TONEARM_PROFILE_EVALUATE)
        bars.push_back({"a row", found.parts[i].warm.summary.median, TONEARM_PHASE_NONE});
  }
  std::uint64_t most = 1;
  std::string body;
  const auto each_part = [&](const Bar& bar, const auto& visit) {
    for (std::size_t i = 0; i < found.part_count; ++i)
      if (const profile_part& part = found.parts[i];
          part.kind >= TONEARM_PROFILE_FEATURES && part.phase == bar.phase && part.warm.summary.count > 0)
        visit(part);
  };
  for (const Bar& bar : bars) {
    std::uint64_t parts = 0;
    each_part(bar, [&](const profile_part& part) { parts += part.warm.summary.median; });
    most = std::max({most, parts, bar.whole});
  }
  double y = 10;
  for (const Bar& bar : bars) {
    body += svg_text(left - 8, y + 13, bar.label, "text-anchor=\"end\"");
    std::vector<std::string> names;
    std::uint64_t used = 0;
    int color = 0;
    const auto draw = [&](const std::string& name, std::uint64_t time, const std::string& style) {
      const double scale = (right - left) / static_cast<double>(most);
      body += svg_bar(left + scale * static_cast<double>(used), y + 1, scale * static_cast<double>(time), 16,
                      style, name + ": " + time_text(time));
      names.push_back(name + " " + time_text(time));
      used += time;
    };
    each_part(bar, [&](const profile_part& part) {
      draw(name_of(found, part), part.warm.summary.median, format("share%d", color++ % 6));
    });
    if (bar.whole > used) draw("the rest", bar.whole - used, "rest");
    y += 29;
    std::string line;
    for (const std::string& name : names) {
      if (line.size() + name.size() > 100) {
        body += svg_text(left, y, line, "class=\"axis\"");
        line.clear();
        y += 13;
      }
      line += (line.empty() ? "" : "; ") + name;
    }
    body += svg_text(left, y, line, "class=\"axis\"");
    y += 15;
  }
  return svg("Where the time goes, warm", y, body);
}

std::string tile(const std::string& value, const std::string& what) {
  return "<div><b>" + escape(value) + "</b><span>" + escape(what) + "</span></div>\n";
}

std::string tiles(const profile& found) {
  std::string text = "<div class=\"tiles\">\n";
  for (std::size_t i = 0; i < found.part_count; ++i) {
    const profile_part& part = found.parts[i];
    if (part.kind != TONEARM_PROFILE_EVALUATE && part.kind != TONEARM_PROFILE_PLAYING &&
        part.kind != TONEARM_PROFILE_END)
      continue;
    if (measured(&part.warm))
      text += tile(time_text(part.warm.summary.median), name_of(found, part) + ", warm");
    if (measured(&part.cold))
      text += tile(time_text(part.cold.summary.median), name_of(found, part) + ", cold");
  }
  text += tile(count_text(found.model.blob_bytes), "bytes, the model's file");
  text +=
      tile(count_text(std::uint64_t{found.model.session_bytes} + found.model.scratch_bytes),
           found.model.session_bytes > 0 ? "bytes of RAM, a session and scratch" : "bytes of RAM, scratch");
  std::uint64_t stack = 0;
  for (std::size_t i = 0; i < found.stack_count; ++i) stack = std::max(stack, found.stack[i].bytes);
  if (found.stack_count > 0) text += tile(count_text(stack), "bytes of stack at most");
  return text + "</div>\n";
}

std::string table_of(const profile& found) {
  const auto cell = [](const profile_times& times, std::uint64_t value) {
    return "<td>" + (times.summary.count > 0 ? count_text(value) : std::string("&#8211;")) + "</td>";
  };
  std::string text =
      "<div class=\"wide\"><table>\n<tr><th rowspan=\"2\">part</th><th colspan=\"4\">warm, ns</th>"
      "<th colspan=\"4\">cold, ns</th><th rowspan=\"2\">instruc&#173;tions</th><th rowspan=\"2\">bytes "
      "touched</th></tr>\n<tr>";
  for (int i = 0; i < 2; ++i) text += "<th>median</th><th>p90</th><th>p99</th><th>max</th>";
  text += "</tr>\n";
  std::uint32_t phase = UINT32_MAX;
  for (std::size_t i = 0; i < found.part_count; ++i) {
    const profile_part& part = found.parts[i];
    if (part.kind >= TONEARM_PROFILE_FEATURES && part.phase != phase) {
      text += "<tr><th colspan=\"11\" class=\"heading\">" + escape(heading_of(part.phase)) + "</th></tr>\n";
      phase = part.phase;
    }
    text += "<tr><td>" + escape(name_of(found, part)) + "</td>";
    for (const profile_times* times : {&part.warm, &part.cold})
      text += cell(*times, times->summary.median) + cell(*times, times->summary.p90) +
              cell(*times, times->summary.p99) + cell(*times, times->summary.maximum);
    text += cell(part.instructions, part.instructions.summary.median) + "<td>" +
            (part.touched_bytes > 0 ? count_text(part.touched_bytes) : "&#8211;") + "</td></tr>\n";
  }
  return text + "</table></div>\n";
}

std::string section_of(const profile& found) {
  const bool sessions = found.model.session_bytes > 0;
  std::string text =
      "<section>\n<h2>" + escape(found.model.name) + " on " + escape(found.device.name) + "</h2>\n";
  text += "<p class=\"facts\">" +
          escape(format(
              "Model %s %s (%08" PRIx32 ", format %u.%u), kernels %s, library %u.%u.%u; %s, %s. Fed with %s.",
              found.model.name, found.model.version, found.model.id, found.model.format_major,
              found.model.format_minor, found.model.kernels, found.library / 10000, found.library / 100 % 100,
              found.library % 100, found.device.machine, found.device.system, found.workload.source)) +
          "</p>\n" + tiles(found);
  text += "<h3>What a call takes</h3>\n";
  text += sessions ? "<p>A player tells the model when a track starts and ends, and asks it how likely the "
                     "playing track, "
                     "or each of a queue, will be skipped. The axis is logarithmic: from one line to the "
                     "next it is ten "
                     "times as much.</p>\n"
                   : "<p>One evaluation, from the raw numbers of a row to the probability. The axis is "
                     "logarithmic: from "
                     "one line to the next it is ten times as much.</p>\n";
  text += draw_medians("What a call takes, median", calls_of(found));
  text +=
      "<h3>Where the time goes</h3>\n<p>Warm medians of the parts, side by side from the left, as they are "
      "named below the bar. <i>The rest</i> is what no "
      "part "
      "explains: reading the columns" +
      std::string(sessions ? ", what the session remembers," : "") + " and the call itself.</p>\n";
  text += draw_shares(found);
  text += "<h3>Every operator</h3>\n" + draw_medians("Every operator, median", parts_of(found));
  text +=
      "<h3>How times are spread</h3>\n<p>The box holds the middle half of all measurements, the mark in it "
      "is the "
      "median, the line goes from the fastest to the slowest. Slow ones that stand far off are mostly the "
      "operating "
      "system's doing.</p>\n";
  std::vector<Row> rows = calls_of(found), parts = parts_of(found);
  rows.insert(rows.end(), parts.begin(), parts.end());
  text += draw_spread("How times are spread", rows);

  std::vector<std::pair<std::string, std::uint64_t>> bytes;
  for (std::size_t i = 0; i < found.part_count; ++i)
    if (const profile_part& part = found.parts[i]; part.touched_bytes > 0) {
      const std::string phase = profile_phase_name(part.phase);
      bytes.emplace_back(name_of(found, part) + (phase.empty() ? "" : ", " + phase), part.touched_bytes);
    }
  if (!bytes.empty())
    text +=
        "<h3>Bytes of the model that are read</h3>\n<p>At most, by one run. Where caches are cold, these "
        "bytes "
        "decide.</p>\n" +
        draw_bytes("Bytes of the model that are read", bytes);
  bytes = {{"the model's file (flash, or mapped)", found.model.blob_bytes}};
  if (sessions) bytes.emplace_back("a session", found.model.session_bytes);
  bytes.emplace_back("scratch, during a call", found.model.scratch_bytes);
  for (std::size_t i = 0; i < found.stack_count; ++i)
    bytes.emplace_back(std::string("stack: ") + found.stack[i].call, found.stack[i].bytes);
  text += "<h3>Memory</h3>\n<p>All of it belongs to the player; the library allocates nothing.</p>\n" +
          draw_bytes("Memory, bytes", bytes);
  text += "<h3>All numbers</h3>\n" + table_of(found);
  text += "<p class=\"facts\">" + escape(format("Reading the clock takes %" PRIu64
                                                " ns, which is taken off; its steps are %" PRIu64 " ns.",
                                                found.clock.cost, found.clock.step));
  if (found.evicted_bytes > 0)
    text += escape(format(
                " Before each cold measurement %.0f MB are written, so that nothing of the model is left in "
                "the caches",
                static_cast<double>(found.evicted_bytes) / (1 << 20))) +
            (found.device.cache_bytes > 0 ? format(" (the largest has %.1f MB).",
                                                   static_cast<double>(found.device.cache_bytes) / (1 << 20))
                                          : ".");
  text += "</p>\n";
  if (found.remark_count > 0) {
    text += "<h3>What could not be measured</h3>\n<ul>\n";
    for (std::size_t i = 0; i < found.remark_count; ++i)
      text +=
          "<li>" + escape(found.not_measured[i].what) + ": " + escape(found.not_measured[i].why) + "</li>\n";
    text += "</ul>\n";
  }
  return text + "</section>\n";
}

/// The calls of all profiles, device beside device.
std::string comparison_of(const std::vector<Profile>& profiles) {
  std::vector<std::string> calls;
  for (const Profile& found : profiles)
    for (const Row& row : calls_of(*found))
      if (std::find(calls.begin(), calls.end(), row.label) == calls.end()) calls.push_back(row.label);
  std::vector<Row> rows;
  for (const std::string& call : calls) {
    rows.push_back({call, nullptr, nullptr});
    for (const Profile& found : profiles)
      for (const Row& row : calls_of(*found))
        if (row.label == call) {
          // The sections below have long names whole.
          rows.push_back(
              {cut(found->device.name, 24) + ", " + cut(found->model.name, 12), row.warm, row.cold});
        }
  }
  return "<section>\n<h2>Side by side</h2>\n" + draw_medians("The calls of all devices, median", rows) +
         "</section>\n";
}

constexpr char head[] = R"(<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<meta name="color-scheme" content="light dark"/>
<title>%s</title>
<style>
  :root { --ink: #24292f; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #8c959f; --warm: #d9730d;
          --cold: #4078c0; --bytes: #2f8f6b; }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #d0d7de; --soft: #9198a1; --paper: #0d1117; --card: #161b22; --line: #6e7681; --warm: #f0983e;
            --cold: #6ea8e8; --bytes: #57c099; }
  }
  body { font: 16px/1.5 sans-serif; color: var(--ink); background: var(--paper); max-width: 900px; margin: 2em auto;
         padding: 0 1em; }
  h2 { margin-top: 2em; border-bottom: 1px solid var(--line); } h3 { margin-top: 1.6em; }
  .facts { color: var(--soft); font-size: 14px; }
  .tiles { display: flex; flex-wrap: wrap; gap: 10px; }
  .tiles div { background: var(--card); border-radius: 6px; padding: 8px 14px; }
  .tiles b { display: block; font-size: 20px; } .tiles span { color: var(--soft); font-size: 13px; }
  svg { width: 100%%; height: auto; display: block; } svg text { font: 12px sans-serif; fill: var(--ink); }
  svg text.title { font-weight: bold; } svg text.axis { font-size: 10px; fill: var(--soft); }
  svg line { stroke: var(--line); stroke-opacity: .35; }
  .warm { fill: var(--warm); } .cold { fill: var(--cold); } .bytes { fill: var(--bytes); } .box { fill-opacity: .45; }
  .share0 { fill: #d9730d; } .share1 { fill: #4078c0; } .share2 { fill: #2f8f6b; } .share3 { fill: #a15ab8; }
  .share4 { fill: #b8860b; } .share5 { fill: #c0485a; } .rest { fill: var(--line); fill-opacity: .5; }
  .wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; }
  th, td { padding: 2px 8px; text-align: right; border-bottom: 1px solid var(--card); white-space: nowrap; }
  td:first-child, th.heading { text-align: left; } th.heading { padding-top: 10px; }
</style>
</head>
<body>
<h1>%s</h1>
<p>Tonearm predicts, on a listener's own device, whether a track is about to be skipped: a model is one small file, and a
library without any demands evaluates it inside the music player. This page shows what that costs, as it was measured:
how long calls take, which parts of the model take it, and how much memory they need.</p>
<p>A player predicts once per track. In between, other work drives the model out of the processor's caches, so the
<i>cold</i> times are those to expect; the <i>warm</i> ones are what is left when everything is at hand. Of 100
measurements, 90 took at most <i>p90</i>, and 99 at most <i>p99</i>.</p>
)";

}  // namespace

std::string page_of(const std::vector<Profile>& profiles) {
  const std::string title =
      profiles.size() == 1 ? "What " + escape(profiles.front()->model.name) + " costs on " +
                                 escape(profiles.front()->device.name)
                           : format("What Tonearm costs: %zu measurements side by side", profiles.size());
  std::string page = format(head, title.c_str(), title.c_str());
  if (profiles.size() > 1) page += comparison_of(profiles);
  for (const Profile& found : profiles) page += section_of(*found);
  return page + "</body>\n</html>\n";
}

}  // namespace tonearm
