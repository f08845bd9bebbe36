/* Times LightGBM's single-row call from C, because a call from Python would cost more than the prediction. */
#define _POSIX_C_SOURCE 199309L /* clock_gettime */
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int (*predict_row)(void* config, const void* row, long long* length, double* out);

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return 1e9 * (double)time.tv_sec + (double)time.tv_nsec;
}

static int ascending(const void* left, const void* right) {
  const double a = *(const double*)left, b = *(const double*)right;
  return (a > b) - (a < b);
}

/* Median nanoseconds of a call: of rounds of one call for every row, or, where `evict` has bytes to write
 * before it, of single calls. A negative number if a call fails. */
double time_rows(predict_row call, void* config, const float* rows, int count, int columns, int rounds,
                 char* evict, size_t evict_size) {
  double *times = malloc((size_t)rounds * sizeof *times), result, out;
  long long length;
  int failed = 0;
  for (int round = 0; round < rounds; ++round) {
    const int calls = evict_size > 0 ? 1 : count;
    if (evict_size > 0) memset(evict, round, evict_size);
    const double start = now();
    for (int i = 0; i < calls; ++i) {
      const int row = calls == 1 ? round % count : i;
      failed |= call(config, rows + (size_t)row * (size_t)columns, &length, &out);
    }
    times[round] = (now() - start) / calls;
  }
  qsort(times, (size_t)rounds, sizeof *times, ascending);
  result = times[rounds / 2];
  free(times);
  return failed ? -1 : result;
}
