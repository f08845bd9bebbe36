/* Tonearm in a program for device_main.c, with its blob in read-only memory: a table model over device_rows,
 * or a session model over device_events. MODEL is the blob's path; SCRATCH_BYTES, SESSION_BYTES and OUTPUTS
 * what it says of itself. */
#include <tonearm/tonearm.h>

#include "board.h"
#include "device.h"
#include "device_data.h"

__asm(
    ".section .rodata.device_blob, \"a\"\n"
    ".balign 64\n"
    ".global device_blob, device_blob_end\n"
    "device_blob: .incbin \"" MODEL
    "\"\n"
    "device_blob_end:\n"
    ".previous\n");
extern const uint8_t device_blob[], device_blob_end[];

#ifndef DEVICE_CPU
#define DEVICE_CPU 0 /* whatever this one has */
#endif

static tonearm_model model;
static float answer[OUTPUTS];
static uint32_t scratch[(SCRATCH_BYTES + 3) / 4];

static void require(tonearm_status status) {
  if (status == TONEARM_OK) return;
  board_write(tonearm_status_text(status));
  board_exit(1);
}

static void open_model(void) {
  const tonearm_open_options options = {.struct_size = sizeof options, .cpu = DEVICE_CPU};
  require(tonearm_model_open(&model, device_blob, (size_t)(device_blob_end - device_blob), &options, NULL));
}

#ifdef SESSION_BYTES
static uint32_t memory[(SESSION_BYTES + 3) / 4];
static tonearm_session* session;

void device_open(void) {
  open_model();
  require(tonearm_session_init(&model, memory, sizeof memory, &session));
}

uint32_t device_kind(uint32_t call) { return device_events[call].kind; }

const float* device_call(uint32_t call) {
  const struct device_event* event = &device_events[call];
  switch (event->kind) {
    case DEVICE_START:
      if (event->first) require(tonearm_session_reset(&model, session));
      require(tonearm_track_start(&model, session, &event->track, &event->start, &event->now, scratch,
                                  sizeof scratch));
      break;
    case DEVICE_END:
      require(tonearm_track_end(&model, session, &event->end, scratch, sizeof scratch));
      break;
    case DEVICE_PLAYING: {
      const tonearm_request request = {.struct_size = sizeof request, .kind = TONEARM_PLAYING};
      require(tonearm_predict(&model, session, &request, scratch, sizeof scratch, answer));
      break;
    }
    case DEVICE_NEXT: {
      const tonearm_request request = {.struct_size = sizeof request,
                                       .kind = TONEARM_QUEUE,
                                       .candidate_count = 1,
                                       .candidates = &event->track,
                                       .now = &event->now};
      require(tonearm_predict(&model, session, &request, scratch, sizeof scratch, answer));
      break;
    }
  }
  return answer;
}
#else
void device_open(void) { open_model(); }

uint32_t device_kind(uint32_t call) {
  (void)call;
  return 0;
}

const float* device_call(uint32_t call) {
  require(tonearm_evaluate(&model, device_rows[call], DEVICE_COLUMNS, scratch, sizeof scratch, answer));
  return answer;
}
#endif
