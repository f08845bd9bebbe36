// Whatever the bytes, a blob is refused, or opened and then evaluated, without a checksum to save it.

#include <tonearm/tonearm.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t longest);

namespace {

constexpr float numbers[] = {std::numeric_limits<float>::quiet_NaN(),
                             0,
                             -0.0f,
                             1,
                             -2.5f,
                             1e-36f,
                             std::numeric_limits<float>::infinity(),
                             std::numeric_limits<float>::max()};

void evaluate_rows(const tonearm_model& model, const tonearm_info& info,
                   std::vector<std::uint32_t>& scratch) {
  std::vector<float> row(info.columns), out(info.outputs);
  for (std::size_t first = 0; first < std::size(numbers); ++first) {
    for (std::size_t i = 0; i < row.size(); ++i) row[i] = numbers[(first + i) % std::size(numbers)];
    (void)tonearm_evaluate(&model, row.data(), info.columns, scratch.data(), scratch.size() * 4, out.data());
  }
  float difference = 0;
  (void)tonearm_model_self_test(&model, scratch.data(), scratch.size() * 4, &difference);
}

void play(const tonearm_model& model, const tonearm_info& info) {
  std::vector<std::uint32_t> memory(info.session_bytes / 4 + 1);
  tonearm_session* session = nullptr;
  if (tonearm_session_init(&model, memory.data(), memory.size() * 4, &session) != TONEARM_OK) return;
  tonearm_track track;
  tonearm_track_init(&track, sizeof track);
  track.track_id = 7;
  track.duration = 200;
  track.extra = numbers;
  track.extra_count = std::size(numbers);
  tonearm_now now;
  tonearm_now_init(&now, sizeof now);
  now.time = 1530000000;
  tonearm_start start;
  tonearm_start_init(&start, sizeof start);
  tonearm_end end;
  tonearm_end_init(&end, sizeof end);
  end.ms_played = 9000;
  std::vector<tonearm_track> queue(3, track);
  tonearm_request request;
  tonearm_request_init(&request, sizeof request);
  request.kind = TONEARM_QUEUE;
  request.candidates = queue.data();
  request.candidate_count = static_cast<std::uint32_t>(queue.size());
  std::vector<std::uint32_t> scratch(tonearm_scratch_size(&model) / 4 + 1);
  std::vector<float> out(queue.size() * info.outputs);
  for (int tracks = 0; tracks < 3; ++tracks) {
    track.track_id += 1;
    now.time += 1000 * tracks;
    (void)tonearm_track_start(&model, session, &track, &start, &now, scratch.data(), scratch.size() * 4);
    (void)tonearm_predict(&model, session, &request, scratch.data(), scratch.size() * 4, out.data());
    (void)tonearm_track_end(&model, session, &end, scratch.data(), scratch.size() * 4);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  for (const std::uint32_t cpu : {0u, std::uint32_t{TONEARM_CPU_SCALAR}}) {
    const tonearm_open_options options = {sizeof options, 1, cpu, 0};
    tonearm_model model;
    if (tonearm_model_open(&model, data, size, &options, nullptr) != TONEARM_OK) return 0;
    tonearm_info info = {};
    info.struct_size = sizeof info;
    (void)tonearm_model_info(&model, &info);
    std::vector<std::uint32_t> scratch(tonearm_scratch_size(&model) / 4 + 1);
    if (info.session_bytes > 0)
      play(model, info);
    else
      evaluate_rows(model, info, scratch);
  }
  return 0;
}

/// A blob says how long it is, so whatever changes, it stays so long.
extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t longest,
                                               unsigned) {
  if (size == 0) return LLVMFuzzerMutate(data, size, longest);
  const std::vector<std::uint8_t> before(data, data + size);
  const std::size_t changed = LLVMFuzzerMutate(data, size, size);
  std::copy(before.begin() + static_cast<std::ptrdiff_t>(changed), before.end(), data + changed);
  return size;
}
