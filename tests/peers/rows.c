// What a test outside of C asks of a blob: whole arrays of rows, and the vocabulary of a column.

#include <stdlib.h>
#include <string.h>
#include <tonearm/tonearm.h>

/// Fills `out` with `count` rows of info.outputs numbers. `skip_crc` is for a blob whose output was moved.
/// Returns a tonearm_status; `message` says what is wrong with a blob that does not open.
int rows_evaluate(const void* blob, size_t size, int skip_crc, const float* rows, size_t count,
                  uint32_t columns, float* out, char* message, size_t capacity) {
  tonearm_model model;
  tonearm_open_options options = {.struct_size = sizeof options, .skip_crc = (uint32_t)skip_crc};
  tonearm_diagnostic diagnostic = {.struct_size = sizeof diagnostic};
  tonearm_status status = tonearm_model_open(&model, blob, size, &options, &diagnostic);
  tonearm_diagnostic_text(&diagnostic, message, capacity);
  if (status != TONEARM_OK) return (int)status;

  tonearm_info info = {.struct_size = sizeof info};
  tonearm_model_info(&model, &info);
  const size_t scratch_size = tonearm_scratch_size(&model);
  void* scratch = aligned_alloc(64, (scratch_size + 63) / 64 * 64);
  if (scratch == NULL) abort();
  memset(scratch, 0xff, scratch_size);
  for (size_t i = 0; i < count && status == TONEARM_OK; ++i)
    status =
        tonearm_evaluate(&model, rows + i * columns, columns, scratch, scratch_size, out + i * info.outputs);
  free(scratch);
  return (int)status;
}

/// The number that stands for a category, or NaN.
float rows_category(const void* blob, size_t size, uint32_t column, const char* text) {
  tonearm_model model;
  float value;
  if (tonearm_model_open(&model, blob, size, NULL, NULL) != TONEARM_OK) abort();
  return tonearm_model_category(&model, column, text, &value) == TONEARM_OK ? value : (float)(0.0 / 0.0);
}

/// The size of a column's vocabulary; 0 if it is a number.
uint32_t rows_categories(const void* blob, size_t size, uint32_t column) {
  tonearm_model model;
  tonearm_column description = {.struct_size = sizeof description};
  if (tonearm_model_open(&model, blob, size, NULL, NULL) != TONEARM_OK) abort();
  tonearm_model_column_at(&model, column, &description);
  return description.categories;
}
