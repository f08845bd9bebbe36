// The runtime never allocates. The whole program is linked with malloc, calloc and realloc wrapped, and
// operator new is replaced, so that any call of them would be counted.

#include <gtest/gtest.h>
#include <tonearm/profile.h>
#include <tonearm/tonearm.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "conformance/models.h"

namespace {
// Atomic, because compilers believe that malloc changes no variable.
std::atomic<std::size_t> allocations = 0;
}  // namespace

// The names that the linker asks for. NOLINTBEGIN(bugprone-reserved-identifier)
extern "C" {
void* __real_malloc(std::size_t size);
void* __real_calloc(std::size_t count, std::size_t size);
void* __real_realloc(void* memory, std::size_t size);

void* __wrap_malloc(std::size_t size) {
  ++allocations;
  return __real_malloc(size);
}
void* __wrap_calloc(std::size_t count, std::size_t size) {
  ++allocations;
  return __real_calloc(count, size);
}
void* __wrap_realloc(void* memory, std::size_t size) {
  ++allocations;
  return __real_realloc(memory, size);
}
}  // extern "C"
// NOLINTEND(bugprone-reserved-identifier)

// Not inlined, so that the compiler sees pairs of new and delete, and not of new and free.
#define TONEARM_REPLACED __attribute__((noinline))
TONEARM_REPLACED void* operator new(std::size_t size) {
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
TONEARM_REPLACED void* operator new[](std::size_t size) { return operator new(size); }
TONEARM_REPLACED void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return std::malloc(size);
}
TONEARM_REPLACED void operator delete(void* memory) noexcept { std::free(memory); }
TONEARM_REPLACED void operator delete[](void* memory) noexcept { std::free(memory); }
TONEARM_REPLACED void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
TONEARM_REPLACED void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

namespace tonearm {
namespace {

TEST(Allocation, TheCounterCounts) {
  const std::size_t before = allocations;
  // Called by hand: a compiler may leave out an expression of new, and a malloc, that nobody looks at.
  void* volatile plain = std::malloc(3);
  std::free(plain);
  void* volatile object = ::operator new(3);
  ::operator delete(object);
  EXPECT_EQ(allocations.load(), before + 2);
}

TEST(Allocation, NoCallOfTheRuntimeAllocates) {
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    std::vector<unsigned char> blob = golden_blob(sample);
    std::vector<std::uint32_t> scratch(1 << 15);
    std::vector<float> out(sample.model.output_length);
    tonearm_model model;
    tonearm_info info{};
    info.struct_size = sizeof info;
    tonearm_column column{};
    column.struct_size = sizeof column;
    tonearm_diagnostic diagnostic{};
    diagnostic.struct_size = sizeof diagnostic;
    std::uint32_t index = 0;
    float value = 0;
    char text[200];

    const std::size_t before = allocations;
    const tonearm_status opened = tonearm_model_open(&model, blob.data(), blob.size(), nullptr, &diagnostic);
    tonearm_model_info(&model, &info);
    for (std::uint32_t i = 0; i < info.columns; ++i) tonearm_model_column_at(&model, i, &column);
    tonearm_model_column(&model, "year", &index);
    tonearm_model_category(&model, 2, "F", &value);
    tonearm_model_category_text(&model, 2, 3);
    const tonearm_status tested =
        tonearm_model_self_test(&model, scratch.data(), scratch.size() * 4, nullptr);
    for (std::size_t n = 0; n < sample.rows.size(); n += info.columns)
      tonearm_evaluate(&model, &sample.rows[n], info.columns, scratch.data(), scratch.size() * 4, out.data());
    blob[blob.size() / 2] ^= 1;
    tonearm_model damaged;
    const tonearm_status refused =
        tonearm_model_open(&damaged, blob.data(), blob.size(), nullptr, &diagnostic);
    tonearm_diagnostic_text(&diagnostic, text, sizeof text);
    EXPECT_EQ(allocations.load(), before);

    EXPECT_EQ(opened, TONEARM_OK);
    EXPECT_EQ(tested, TONEARM_OK);
    EXPECT_NE(refused, TONEARM_OK);
  }
}

TEST(Allocation, NoCallOfASessionAllocates) {
  for (const SampleModel& sample : session_sample_models()) {
    SCOPED_TRACE(sample.name);
    const std::vector<unsigned char> blob = golden_blob(sample);
    std::vector<std::uint32_t> memory(1 << 12), scratch(1 << 15);
    std::vector<unsigned char> image(memory.size() * 4);
    std::vector<float> out(sample.model.output_length), row(sample.model.columns.size());
    tonearm_model model;
    tonearm_session* session = nullptr;
    tonearm_session_info info{};
    info.struct_size = sizeof info;
    tonearm_event event = sample.events.front().told;
    event.struct_size = sizeof event;
    event.kind = TONEARM_EVENT_START;
    tonearm_request request;

    const std::size_t before = allocations;
    tonearm_status worst = tonearm_model_open(&model, blob.data(), blob.size(), nullptr, nullptr);
    const auto note = [&](tonearm_status status) { worst = worst == TONEARM_OK ? status : worst; };
    note(tonearm_model_self_test(&model, scratch.data(), scratch.size() * 4, nullptr));
    note(tonearm_session_init(&model, memory.data(), memory.size() * 4, &session));
    for (const SampleEvent& told : sample.events) {
      bool answered = false;
      note(perform(model, session, told, scratch.data(), scratch.size() * 4, out.data(), answered));
    }
    tonearm_request_init(&request, sizeof request);
    request.kind = TONEARM_QUEUE;
    request.candidates = &event.track;
    request.candidate_count = 1;
    note(tonearm_predict(&model, session, &request, scratch.data(), scratch.size() * 4, out.data()));
    note(tonearm_session_describe(&model, session, &info));
    note(tonearm_session_save(&model, session, image.data(), image.size()));
    note(tonearm_session_load(&model, memory.data(), memory.size() * 4, image.data(),
                              tonearm_session_size(&model), &session));
    note(tonearm_session_replay(&model, session, &event, 1, scratch.data(), scratch.size() * 4));
    note(tonearm_session_row(&model, &event.track, &event.now, &event.start, &event.end, row.data(),
                             static_cast<std::uint32_t>(row.size())));
    note(tonearm_session_reset(&model, session));
    EXPECT_EQ(allocations.load(), before);
    EXPECT_EQ(worst, TONEARM_OK) << tonearm_status_text(worst);
  }
}

TEST(Allocation, TheProfilerDoesNotAllocate) {
  for (const SampleModel& sample : sample_models()) {
    SCOPED_TRACE(sample.name);
    const std::vector<unsigned char> blob = golden_blob(sample);
    tonearm_model model;
    ASSERT_EQ(tonearm_model_open(&model, blob.data(), blob.size(), nullptr, nullptr), TONEARM_OK);
    tonearm_event event = {};
    event.struct_size = sizeof event;
    event.kind = TONEARM_EVENT_START;
    tonearm_track_init(&event.track, sizeof event.track);
    tonearm_start_init(&event.start, sizeof event.start);
    tonearm_now_init(&event.now, sizeof event.now);
    tonearm_end_init(&event.end, sizeof event.end);
    std::vector<tonearm_event> events(2, event);
    events[1].kind = TONEARM_EVENT_END;
    std::vector<std::uint32_t> memory(tonearm_profile_size(&model, 1) / 4);
    std::vector<std::uint64_t> samples(9);
    std::vector<tonearm_profile_part> parts(tonearm_profile_part_count(&model));
    tonearm_profile_request request = {};
    request.struct_size = sizeof request;
    request.warm_runs = request.cold_runs = request.sample_count = 9;
    request.samples = samples.data();
    request.now = [](void*) { return std::uint64_t{0}; };
    request.evict = [](void*) {};
    request.events = events.data();
    request.event_count = events.size();
    request.tracks = &event.track;
    request.queue = 1;
    request.track_count = 1;
    tonearm_profile_result result = {};
    result.struct_size = sizeof result;
    result.parts = parts.data();
    result.part_count = static_cast<std::uint32_t>(parts.size());
    parts.front().struct_size = sizeof parts.front();

    const std::size_t before = allocations;
    const tonearm_status status =
        tonearm_profile(&model, &request, memory.data(), memory.size() * 4, &result);
    EXPECT_EQ(allocations.load(), before);
    EXPECT_EQ(status, TONEARM_OK);
  }
}

}  // namespace
}  // namespace tonearm
