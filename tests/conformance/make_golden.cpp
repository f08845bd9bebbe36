// make_golden FOLDER: writes the golden blobs that are new in the current format, and the rows or events
// beside them.

#include <cstdio>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "conformance/models.h"

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: make_golden FOLDER\n", stderr);
    return 2;
  }
  try {
    for (const tonearm::SampleModel& sample : tonearm::samples_of_format(TONEARM_FORMAT_MINOR)) {
      const std::filesystem::path path = std::filesystem::path(argv[1]) / sample.name;
      tonearm::write_file(path.string() + ".tarm", tonearm::golden_blob(sample));
      if (sample.model.session != nullptr)
        tonearm::write_file(path.string() + ".events", tonearm::golden_events(sample));
      else
        tonearm::write_file(path.string() + ".rows", tonearm::golden_rows(sample));
    }
  } catch (const tonearm::Error& error) {
    std::fprintf(stderr, "make_golden: %s\n", error.what());
    return 1;
  }
  return 0;
}
