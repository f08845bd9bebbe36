#include "columns.h"

#include <stddef.h>
#include <string.h>

#include "evaluate.h"
#include "numbers.h"

namespace tonearm::runtime {
void apply_policy(const tonearm_model& model, const Plan& plan, uint32_t first, uint32_t last,
                  const float* told, float* row) {
  const float* fill = missing_fill(model);
  // The same twice, so that compilers see that nothing overlaps and take four at a time.
  if (told == row)
    for (uint32_t i = first; i < last; ++i) row[i] = is_nan(row[i]) ? fill[i] : row[i];
  else
    for (uint32_t i = first; i < last; ++i) row[i] = is_nan(told[i]) ? fill[i] : told[i];
  const uint32_t end = plan.category_end < last ? plan.category_end : last;
  const uint8_t* fields = with_sessions && plan.has_session() ? fields_of(model) : nullptr;
  for (uint32_t i = first; i < end; ++i) {
    // Most named fields of a session model are known to be numbers.
    bool number = false;
    if constexpr (with_sessions)
      number = fields != nullptr && fields[i] != 0 && !is_category_field(fields[i]);
    const uint32_t count = number || is_nan(row[i]) ? 0 : category_count(model, i);
    if (count > 0 && category_index(row[i], count) == count) row[i] = fill[i];
  }
}

#ifndef TONEARM_WITHOUT_SESSIONS

namespace {

// The schema's Field: the order in which it names the members of tonearm_track is that of the struct.
enum Field : uint32_t {
  extra = 0,
  first_of_track = 1,
  last_of_track = 29,
  hour_of_day = 30,
  is_shuffle = 31,
  premium = 32,
  weekday = 33,
  year = 34,
  context_type = 35,
  context_switch = 36,
  reason_start = 37,
  pause = 38,
  seek_forward = 39,
  seek_back = 40,
  ms_played = 41,
  played_share = 42,
  reason_end = 43,
  skip_1 = 44,
  skip_2 = 45,
  skip_3 = 46,
  not_skipped = 47,
  skipped = 48,
  completed = 49
};
static_assert(offsetof(tonearm_track, acoustic_vector) - offsetof(tonearm_track, duration) == 21 * 4);

float number(bool truth) { return truth ? 1.0f : 0.0f; }

/// An enumerator of the API as the index of a category: 0 is unknown.
float category(uint32_t enumerator) {
  return enumerator == 0 || enumerator > 65535 ? missing : static_cast<float>(enumerator - 1);
}

/// Fills columns [first, last), those of one source; named(field) is the value of a named field.
template <typename Struct, typename Named>
void read(const tonearm_model& model, uint32_t first, uint32_t last, const Struct* told, float* row,
          const Named& named) {
  const uint8_t* fields = fields_of(model);
  uint32_t place = 0;  // in the array of extra columns
  for (uint32_t i = first; i < last;) {
    if (fields[i] != extra) {
      const float value = told == nullptr ? missing : named(fields[i]);
      row[i++] = stored(value);
      continue;
    }
    uint32_t end = i + 1;
    while (end < last && fields[end] == extra) ++end;
    const uint32_t given = told == nullptr || told->extra_count <= place ? 0 : told->extra_count - place;
    const uint32_t known = given < end - i ? i + given : end;
    const float* from = known > i ? told->extra + place : nullptr;
    place += end - i;
    for (; i < known; ++i) row[i] = stored(*from++);
    for (; i < end; ++i) row[i] = missing;
  }
}

struct Date {
  int32_t year;
  uint32_t month, day;
};

bool is_leap(int32_t year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

/// Days before a month of a year that is not a leap year.
uint32_t days_before(uint32_t month) {
  // 153 days in every five months, counted from March.
  return month > 2 ? (153 * (month - 3) + 2) / 5 + 59 : (month - 1) * 31;
}

/// The proleptic Gregorian date of a day counted from 1970-01-01: Howard Hinnant's civil_from_days. Only for
/// days within a million years or so of it.
Date date_of(int32_t days) {
  const int32_t from_march = days + 719468;  // since 0000-03-01
  const int32_t era = (from_march >= 0 ? from_march : from_march - 146096) / 146097;
  const auto day_of_era = static_cast<uint32_t>(from_march - era * 146097);
  const uint32_t year_of_era =
      (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
  const uint32_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
  const uint32_t shifted = (5 * day_of_year + 2) / 153;
  const uint32_t month = shifted < 10 ? shifted + 3 : shifted - 9;
  const int32_t year = static_cast<int32_t>(year_of_era) + era * 400 + (month <= 2 ? 1 : 0);
  return {year, month, day_of_year - (153 * shifted + 2) / 5 + 1};
}

int32_t days_of(const Date& date) {
  const int32_t year = date.month <= 2 ? date.year - 1 : date.year;
  const int32_t era = (year >= 0 ? year : year - 399) / 400;
  const auto year_of_era = static_cast<uint32_t>(year - era * 400);
  const uint32_t day_of_year =
      (153 * (date.month > 2 ? date.month - 3 : date.month + 9) + 2) / 5 + date.day - 1;
  const uint32_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
  return era * 146097 + static_cast<int32_t>(day_of_era) - 719468;
}

/// Local days since 1970 and the second of the day.
struct LocalTime {
  bool known;
  int32_t days;
  uint32_t second;
};

LocalTime local_time(const tonearm_now& now) {
  constexpr int64_t farthest = int64_t{1} << 40;  // some 35,000 years, so that days fit an int32
  if (now.time == TONEARM_UNKNOWN_TIME || now.utc_offset == TONEARM_UNKNOWN_OFFSET || now.time > farthest ||
      now.time < -farthest)
    return {false, 0, 0};
  const int64_t local = now.time + now.utc_offset;
  int64_t days = local / 86400;
  if (local % 86400 < 0) --days;
  return {true, static_cast<int32_t>(days), static_cast<uint32_t>(local - days * 86400)};
}

/// The local date that is given, or that the time has.
LocalTime local_date(const tonearm_now& now) {
  if (now.date == 0) return local_time(now);
  const Date date = {static_cast<int32_t>(now.date / 10000), now.date / 100 % 100, now.date % 100};
  if (date.year > 9999 || date.month < 1 || date.month > 12 || date.day < 1 || date.day > 31)
    return {false, 0, 0};
  return {true, days_of(date), 0};
}

float weekday_of(const LocalTime& time) {
  if (!time.known) return missing;
  const int32_t from_monday = (time.days + 3) % 7;  // 1970-01-01 was a Thursday
  return static_cast<float>(from_monday < 0 ? from_monday + 7 : from_monday);
}

float year_of(const LocalTime& time) {
  if (!time.known) return missing;
  const Date date = date_of(time.days);
  const bool leap = is_leap(date.year);
  const uint32_t day = days_before(date.month) + date.day - 1 + (leap && date.month > 2 ? 1 : 0);
  return static_cast<float>(date.year) + static_cast<float>(day) / (leap ? 366.0f : 365.0f);
}

/// The sizes of the structs in version 0.2, the first that had them.
template <typename Struct>
tonearm_status check(const Struct* told) {
  if (told == nullptr) return TONEARM_OK;
  if (told->struct_size < sizeof *told || told->struct_size % alignof(Struct) != 0)
    return TONEARM_BAD_STRUCT_SIZE;
  return told->extra_count > 0 && told->extra == nullptr ? TONEARM_NULL_ARGUMENT : TONEARM_OK;
}

template <typename Struct>
void make_unknown(Struct* told, uint32_t size) {
  if (told == nullptr) return;
  Struct unknown;
  memset(&unknown, 0, sizeof unknown);
  unknown.struct_size = size;
  if constexpr (requires { unknown.acoustic_vector; })
    for (size_t at = offsetof(tonearm_track, duration); at < offsetof(tonearm_track, extra); at += 4)
      memcpy(reinterpret_cast<char*>(&unknown) + at, &missing, 4);
  if constexpr (requires { unknown.hour_of_day; }) {
    unknown.hour_of_day = unknown.is_shuffle = unknown.premium = missing;
    unknown.utc_offset = TONEARM_UNKNOWN_OFFSET;
  }
  if constexpr (requires { unknown.context_switch; }) unknown.context_switch = missing;
  if constexpr (requires { unknown.ms_played; })
    unknown.n_seekfwd = unknown.n_seekback = unknown.ms_played = missing;
  if constexpr (requires { unknown.time; }) unknown.time = TONEARM_UNKNOWN_TIME;
  memcpy(told, &unknown, size < sizeof unknown ? size : sizeof unknown);
  if (size > sizeof unknown) memset(reinterpret_cast<char*>(told) + sizeof unknown, 0, size - sizeof unknown);
}

}  // namespace

uint32_t source_of_field(uint32_t field) {
  return field <= last_of_track ? 1 : field <= context_type ? 2 : field <= pause ? 3 : 4;
}

bool is_category_field(uint32_t field) {
  return field == context_type || field == reason_start || field == pause || field == reason_end;
}

Outcome outcome_of(const RulesView& rules, const tonearm_end* end, float duration) {
  if (end == nullptr) return {TONEARM_SKIP_UNKNOWN, missing};
  if (end->skip >= TONEARM_SKIP_NOT_SKIPPED && end->skip <= TONEARM_SKIP_VERY_BRIEFLY)
    return {end->skip, number(end->skip >= rules.level)};
  const float seconds = end->ms_played / 1000.0f;
  bool unknown = rules.reasons == 0 && rules.below_ms == 0 && !(rules.below_share > 0);
  bool skip = true;  // unless one of the conditions does not hold
  if (rules.reasons != 0) {
    if (end->reason == TONEARM_REASON_UNKNOWN || end->reason > 31)
      unknown = true;
    else if ((rules.reasons >> end->reason & 1) == 0)
      skip = false;
  }
  if (rules.below_ms != 0) {
    if (is_nan(seconds))
      unknown = true;
    else if (!(end->ms_played < static_cast<float>(rules.below_ms)))
      skip = false;
  }
  if (rules.below_share > 0) {
    if (is_nan(seconds) || !(duration > 0))
      unknown = true;
    else if (!(seconds < rules.below_share * duration))
      skip = false;
  }
  if (!skip) return {TONEARM_SKIP_NOT_SKIPPED, 0.0f};  // whatever else is unknown
  return unknown ? Outcome{TONEARM_SKIP_UNKNOWN, missing} : Outcome{rules.level, 1.0f};
}

tonearm_status check_struct(const tonearm_track* track) { return check(track); }
tonearm_status check_struct(const tonearm_now* now) { return check(now); }
tonearm_status check_struct(const tonearm_start* start) { return check(start); }
tonearm_status check_struct(const tonearm_end* end) { return check(end); }

void read_track(const tonearm_model& model, const Plan& plan, const tonearm_track* track, float* row) {
  read(model, 0, plan.first_now, track, row, [&](uint32_t field) {
    float value;
    memcpy(
        &value,
        reinterpret_cast<const char*>(track) + offsetof(tonearm_track, duration) + (field - 1) * sizeof value,
        sizeof value);
    return value;
  });
}

void read_now(const tonearm_model& model, const Plan& plan, const tonearm_now* now, float* row) {
  read(model, plan.first_now, plan.first_start, now, row, [&](uint32_t field) {
    switch (field) {
      case hour_of_day: {
        if (!is_nan(now->hour_of_day)) return now->hour_of_day;
        const LocalTime time = local_time(*now);
        const uint32_t hour = time.second / 3600;
        return time.known ? static_cast<float>(hour) : missing;
      }
      case is_shuffle:
        return now->is_shuffle;
      case premium:
        return now->premium;
      case weekday:
        return weekday_of(local_date(*now));
      case year:
        return year_of(local_date(*now));
      default:
        return category(now->context_type);
    }
  });
}

void read_start(const tonearm_model& model, const Plan& plan, const tonearm_start* start, float* row) {
  read(model, plan.first_start, plan.first_end, start, row, [&](uint32_t field) {
    return field == context_switch ? start->context_switch
                                   : category(field == reason_start ? start->reason : start->pause);
  });
}

void read_end(const tonearm_model& model, const Plan& plan, const tonearm_end* end, const Outcome& outcome,
              float duration, float* row) {
  read(model, plan.first_end, plan.columns, end, row, [&](uint32_t field) {
    const uint32_t level = outcome.level;
    const bool known = level != TONEARM_SKIP_UNKNOWN;
    switch (field) {
      case seek_forward:
        return end->n_seekfwd;
      case seek_back:
        return end->n_seekback;
      case ms_played:
        return end->ms_played;
      case played_share:
        return duration > 0 ? end->ms_played / 1000.0f / duration : missing;
      case reason_end:
        return category(end->reason);
      case skip_1:
        return known ? number(level >= TONEARM_SKIP_VERY_BRIEFLY) : missing;
      case skip_2:
        return known ? number(level >= TONEARM_SKIP_BRIEFLY) : missing;
      case skip_3:
        return known ? number(level >= TONEARM_SKIP_MOSTLY) : missing;
      case not_skipped:
        return known ? number(level == TONEARM_SKIP_NOT_SKIPPED) : missing;
      case skipped:
        return outcome.skipped;
      default:
        return is_nan(outcome.skipped) ? missing : 1.0f - outcome.skipped;
    }
  });
}

#endif

}  // namespace tonearm::runtime

#ifndef TONEARM_WITHOUT_SESSIONS

extern "C" {

using namespace tonearm::runtime;

void tonearm_track_init(tonearm_track* track, uint32_t size) noexcept { make_unknown(track, size); }
void tonearm_now_init(tonearm_now* now, uint32_t size) noexcept { make_unknown(now, size); }
void tonearm_start_init(tonearm_start* start, uint32_t size) noexcept { make_unknown(start, size); }
void tonearm_end_init(tonearm_end* end, uint32_t size) noexcept { make_unknown(end, size); }

void tonearm_request_init(tonearm_request* request, uint32_t size) noexcept {
  if (request == nullptr) return;
  memset(request, 0, size);
  if (size >= sizeof size) request->struct_size = size;
}

tonearm_status tonearm_session_row(const tonearm_model* model, const tonearm_track* track,
                                   const tonearm_now* now, const tonearm_start* start, const tonearm_end* end,
                                   float* row, uint32_t columns) noexcept {
  if (model == nullptr || row == nullptr) return TONEARM_NULL_ARGUMENT;
  if (!is_open(*model)) return TONEARM_NOT_OPEN;
  const Plan& plan = plan_of(*model);
  if (!plan.has_session()) return TONEARM_NOT_A_SESSION_MODEL;
  if (columns != plan.columns) return TONEARM_WRONG_COLUMNS;
  tonearm_status status = check_struct(track);
  if (status == TONEARM_OK) status = check_struct(now);
  if (status == TONEARM_OK) status = check_struct(start);
  if (status == TONEARM_OK) status = check_struct(end);
  if (status != TONEARM_OK) return status;
  const float duration = track == nullptr ? missing : track->duration;
  read_track(*model, plan, track, row);
  read_now(*model, plan, now, row);
  read_start(*model, plan, start, row);
  read_end(*model, plan, end, outcome_of(rules_of(*model), end, duration), duration, row);
  return TONEARM_OK;
}

}  // extern "C"

#endif
