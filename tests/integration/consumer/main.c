/* A program outside the project: links the library, and checks that it is the one it was compiled for.
 * With a blob as its argument it also opens it and replays its golden vectors. */
#include <stdio.h>
#include <string.h>
#include <tonearm/tonearm.h>

static uint32_t blob[4 << 20], scratch[1 << 14];

int main(int argc, char** argv) {
  tonearm_model model;
  tonearm_diagnostic diagnostic = {.struct_size = sizeof diagnostic};
  tonearm_status status;
  const unsigned one = 1;
  /* A big-endian CPU looks at no byte of a blob. */
  const tonearm_status refused = *(const unsigned char*)&one ? TONEARM_NOT_A_MODEL : TONEARM_BIG_ENDIAN;

  if (tonearm_version() != TONEARM_VERSION) {
    printf("the library is version %u, the header %u\n", (unsigned)tonearm_version(), TONEARM_VERSION);
    return 1;
  }
  memset(blob, 0x5a, 4096);
  status = tonearm_model_open(&model, blob, 4096, NULL, &diagnostic);
  if (status != refused || diagnostic.status != status) {
    printf("garbage gave: %s\n", tonearm_status_text(status));
    return 1;
  }
  if (argc > 1) {
    FILE* file = fopen(argv[1], "rb");
    size_t size = file ? fread(blob, 1, sizeof blob, file) : 0;
    float difference = 0;
    status = tonearm_model_open(&model, blob, size, NULL, &diagnostic);
    if (status == TONEARM_OK) status = tonearm_model_self_test(&model, scratch, sizeof scratch, &difference);
    printf("%s: %s, largest difference %g\n", argv[1], tonearm_status_text(status), (double)difference);
    return status != TONEARM_OK;
  }
  return 0;
}
