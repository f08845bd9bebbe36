#include <tonearm/tonearm.h>

namespace {

/// Writes what fits and counts what does not.
struct Line {
  char* text;
  size_t capacity;
  size_t length = 0;

  void put(char c) {
    if (length + 1 < capacity) text[length] = c;
    ++length;
  }
  void put(const char* words) {
    for (; words != nullptr && *words != '\0'; ++words) put(*words);
  }
  void put(uint64_t number) {
    char digits[20];
    int count = 0;
    do digits[count++] = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    while (count > 0) put(digits[--count]);
  }
  size_t end() {
    if (capacity > 0) text[length < capacity ? length : capacity - 1] = '\0';
    return length;
  }
};

}  // namespace

extern "C" {

uint32_t tonearm_version(void) noexcept { return TONEARM_VERSION; }

#ifdef TONEARM_SMALL

const char* tonearm_status_text(tonearm_status) noexcept { return "see tonearm_status in tonearm.h"; }

#else

const char* tonearm_status_text(tonearm_status status) noexcept {
  switch (status) {
    case TONEARM_OK:
      return "no error";
    case TONEARM_NULL_ARGUMENT:
      return "a required pointer is NULL";
    case TONEARM_BAD_STRUCT_SIZE:
      return "struct_size is not set, or smaller than this struct ever was";
    case TONEARM_MISALIGNED:
      return "the blob, the scratch or the session is not aligned to 4 bytes";
    case TONEARM_SCRATCH_TOO_SMALL:
      return "the scratch is smaller than tonearm_scratch_size says";
    case TONEARM_WRONG_COLUMNS:
      return "the row does not have as many columns as the model";
    case TONEARM_OUT_OF_RANGE:
      return "an index is not below its count";
    case TONEARM_NOT_OPEN:
      return "the model was never opened, or opening it failed";
    case TONEARM_NOT_A_SESSION_MODEL:
      return "a session call on a model of plain tables";
    case TONEARM_NOT_A_TABLE_MODEL:
      return "tonearm_evaluate on a model of listening sessions";
    case TONEARM_SESSION_TOO_SMALL:
      return "the memory for a session is smaller than the model needs";
    case TONEARM_NOTHING_PLAYING:
      return "no track has started since the last one ended";
    case TONEARM_WRONG_SESSION:
      return "this is no session of this model: make a new one, or replay the last events";
    case TONEARM_SESSION_CORRUPT:
      return "the saved session is damaged: make a new one, or replay the last events";
    case TONEARM_NOT_A_MODEL:
      return "these bytes are not a Tonearm blob";
    case TONEARM_TRUNCATED:
      return "the blob is not as long as it says it is: copy it again";
    case TONEARM_MALFORMED:
      return "the structure of the blob is broken: copy or convert it again";
    case TONEARM_INVALID:
      return "the blob contradicts itself: convert it again";
    case TONEARM_CORRUPT:
      return "the checksum of the blob does not match: copy it again";
    case TONEARM_RUNTIME_TOO_OLD:
      return "the blob needs a newer Tonearm library: update the app";
    case TONEARM_BLOB_TOO_OLD:
      return "the blob's format is no longer read: convert the model again";
    case TONEARM_LEFT_OUT:
      return "the blob needs what this build of the library leaves out: see TONEARM_OPERATORS and "
             "TONEARM_SESSIONS";
    case TONEARM_BIG_ENDIAN:
      return "blobs are little-endian and read in place; this CPU is big-endian";
    case TONEARM_NOT_FOUND:
      return "no column or category of that name";
    case TONEARM_NO_GOLDEN:
      return "the blob holds no golden vectors to test against";
    case TONEARM_SELF_TEST_FAILED:
      return "this device computes something else than the converter did";
  }
  return "unknown status";
}

#endif

size_t tonearm_diagnostic_text(const tonearm_diagnostic* diagnostic, char* text, size_t capacity) noexcept {
  Line line{text, text == nullptr ? 0 : capacity};
  if (diagnostic == nullptr) return line.end();
#ifdef TONEARM_SMALL
  // The numbers of what the texts would say.
  const uint64_t numbers[] = {static_cast<uint64_t>(diagnostic->status),
                              diagnostic->line,
                              diagnostic->index,
                              diagnostic->element,
                              diagnostic->found,
                              diagnostic->limit};
  line.put(numbers[0]);
  for (uint32_t i = 1; i < 6; ++i) {
    line.put(' ');
    line.put(numbers[i]);
  }
#else
  line.put(tonearm_status_text(diagnostic->status));
  if (diagnostic->status != TONEARM_OK && diagnostic->part != nullptr && diagnostic->part[0] != '\0') {
    line.put(" (");
    line.put(diagnostic->part);
    if (diagnostic->index != UINT32_MAX) {
      line.put(' ');
      line.put(uint64_t{diagnostic->index});
    }
    if (diagnostic->element != UINT32_MAX) {
      line.put(", element ");
      line.put(uint64_t{diagnostic->element});
    }
    line.put(": ");
    line.put(diagnostic->rule);
    line.put("; found ");
    line.put(diagnostic->found);
    line.put(", compared with ");
    line.put(diagnostic->limit);
    line.put(')');
  }
#endif
  return line.end();
}

}  // extern "C"
