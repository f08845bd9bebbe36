/* Runs tree engines beside each other through their C interfaces, one row at a time, from the raw float32 row
 * to the probability, on one thread.
 *
 *     engines MODE ROUNDS ROWS COLUMNS [KIND LIBRARY MODEL]...
 *
 * ROWS is a file of float32 rows of COLUMNS numbers. KIND is tonearm, lightgbm, xgboost, onnxruntime,
 * compiled or nothing; LIBRARY the shared object that it is in, or for Tonearm tonearm_open_options.cpu.
 * Every mode prints one line of numbers per engine:
 *
 *     predict       its prediction for every row
 *     kernels       of Tonearm, the instruction set that it uses
 *     warm          nanoseconds of a call, per round: the mean over the rows, walked in turn, after a walk
 *                   that is not timed: code and model are in the caches, but no answer is known by heart
 *     cold          nanoseconds of a call, per round: a single one, after 96 MB have been written
 *     allocations   heap allocations of a call; only in a build with -DCOUNT_ALLOCATIONS
 *     instructions  instructions of a call, counted by single steps, mean over the first ROUNDS rows; -1 if
 *                   they are too many
 *
 * In every round each engine has its turn, in an order that changes, so that a disturbance of the machine
 * meets all of them. */
#define _GNU_SOURCE
#define PROGRAM "engines"
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <tonearm/tonearm.h>
#include <unistd.h>

#include "harness.h"

#define LONGEST_WALK 0.2e9 /* nanoseconds */

struct engine {
  double (*predict)(struct engine* engine, const float* row);
  size_t columns;
  void* model;        /* the engine's own handle */
  void* call;         /* the entry point of its library */
  float* buffer;      /* the row, where an engine wants it always in the same place; Tonearm's scratch */
  size_t buffer_size; /* in bytes */
  char text[256];     /* XGBoost: how the buffer is described */
  void* tensors[2];   /* ONNX Runtime: the buffer and the answer as tensors */
  float answer[2];
  uint32_t kernels; /* Tonearm: which it has chosen */
};

/* ---------------------------------------------------------------------------------- the engines */

static double predict_nothing(struct engine* engine, const float* row) {
  (void)engine;
  return row[0];
}

static double predict_tonearm(struct engine* engine, const float* row) {
  float answer;
  if (tonearm_evaluate(engine->model, row, (uint32_t)engine->columns, engine->buffer, engine->buffer_size,
                       &answer) != TONEARM_OK) {
    fail("tonearm_evaluate failed");
  }
  return answer;
}

static void open_tonearm(struct engine* engine, const char* cpu, const char* path) {
  tonearm_info info;
  engine->model = open_model(cpu, path, &info);
  if (info.columns != engine->columns || info.outputs != 1) fail("%s is a model of other columns", path);
  engine->kernels = info.cpu;
  engine->buffer_size = tonearm_scratch_size(engine->model);
  engine->buffer = allocated(engine->buffer_size);
  engine->predict = predict_tonearm;
}

/* gcc's -O2 code for trees written as C, and generated tables with their walk: one function. */
typedef float compiled_predict(const float* row);

static double predict_compiled(struct engine* engine, const float* row) {
  return AS_FUNCTION(compiled_predict*, engine->call)(row);
}

static void open_compiled(struct engine* engine, const char* library) {
  engine->call = symbol(library, "predict_row");
  engine->predict = predict_compiled;
}

typedef int lightgbm_create(const char* path, int* iterations, void** booster);
typedef int lightgbm_fast_init(void* booster, int predict_type, int start_iteration, int iterations,
                               int data_type, int32_t columns, const char* parameters, void** config);
typedef int lightgbm_predict(void* config, const void* row, int64_t* length, double* out);

static double predict_lightgbm(struct engine* engine, const float* row) {
  int64_t length;
  double answer;
  if (AS_FUNCTION(lightgbm_predict*, engine->call)(engine->model, row, &length, &answer) != 0)
    fail("LightGBM failed");
  return answer;
}

static void open_lightgbm(struct engine* engine, const char* library, const char* path) {
  void* create = symbol(library, "LGBM_BoosterCreateFromModelfile");
  void* init = symbol(library, "LGBM_BoosterPredictForMatSingleRowFastInit");
  const int normal = 0, all = -1, float32 = 0;
  int iterations;
  void* booster;
  if (AS_FUNCTION(lightgbm_create*, create)(path, &iterations, &booster) != 0 ||
      AS_FUNCTION(lightgbm_fast_init*, init)(booster, normal, 0, all, float32, (int32_t)engine->columns,
                                             "num_threads=1", &engine->model) != 0) {
    fail("LightGBM cannot open %s", path);
  }
  engine->call = symbol(library, "LGBM_BoosterPredictForMatSingleRowFast");
  engine->predict = predict_lightgbm;
}

typedef int xgboost_create(void* const* matrices, uint64_t count, void** booster);
typedef int xgboost_set(void* booster, const char* name, const char* value);
typedef int xgboost_load(void* booster, const char* path);
typedef int xgboost_predict(void* booster, const char* values, const char* config, void* matrix,
                            const uint64_t** shape, uint64_t* dimensions, const float** result);

static double predict_xgboost(struct engine* engine, const float* row) {
  static const char config[] =
      "{\"type\":0,\"training\":false,\"iteration_begin\":0,\"iteration_end\":0,\"strict_shape\":false,"
      "\"missing\":NaN,\"cache_id\":0}";
  const uint64_t* shape;
  uint64_t dimensions;
  const float* result;
  memcpy(engine->buffer, row, engine->buffer_size);
  if (AS_FUNCTION(xgboost_predict*, engine->call)(engine->model, engine->text, config, NULL, &shape,
                                                  &dimensions, &result) != 0) {
    fail("XGBoost failed");
  }
  return result[0];
}

static void open_xgboost(struct engine* engine, const char* library, const char* path) {
  void* create = symbol(library, "XGBoosterCreate");
  void* set = symbol(library, "XGBoosterSetParam");
  void* load = symbol(library, "XGBoosterLoadModel");
  if (AS_FUNCTION(xgboost_create*, create)(NULL, 0, &engine->model) != 0 ||
      AS_FUNCTION(xgboost_load*, load)(engine->model, path) != 0 ||
      AS_FUNCTION(xgboost_set*, set)(engine->model, "nthread", "1") != 0) {
    fail("XGBoost cannot open %s", path);
  }
  snprintf(engine->text, sizeof engine->text,
           "{\"data\":[%llu,true],\"shape\":[1,%zu],\"typestr\":\"<f4\",\"version\":3}",
           (unsigned long long)(uintptr_t)engine->buffer, engine->columns);
  engine->call = symbol(library, "XGBoosterPredictFromDense");
  engine->predict = predict_xgboost;
}

static double predict_onnxruntime(struct engine* engine, const float* row) {
  static const char* const input[] = {"input"};
  static const char* const output[] = {"probabilities"};
  memcpy(engine->buffer, row, engine->buffer_size);
  if (AS_FUNCTION(ort_run*, engine->call)(engine->model, NULL, input, &engine->tensors[0], 1, output, 1,
                                          &engine->tensors[1]) != NULL) {
    fail("ONNX Runtime failed");
  }
  return engine->answer[1];
}

static void open_onnxruntime(struct engine* engine, const char* library, const char* path) {
  const int64_t row_shape[] = {1, (int64_t)engine->columns}, answer_shape[] = {1, 2};
  void** table = open_ort(library, path, &engine->model);
  engine->tensors[0] = ort_tensor(table, engine->buffer, row_shape, 2);
  engine->tensors[1] = ort_tensor(table, engine->answer, answer_shape, 2);
  engine->call = table[ORT_RUN];
  engine->predict = predict_onnxruntime;
}

static struct engine* open_engine(char** words, size_t columns) {
  const char *kind = words[0], *library = words[1], *model = words[2];
  struct engine* engine = allocated(sizeof *engine);
  memset(engine, 0, sizeof *engine);
  engine->columns = columns;
  engine->buffer_size = columns * sizeof(float);
  engine->buffer = allocated(engine->buffer_size);
  engine->predict = predict_nothing;
  if (strcmp(kind, "tonearm") == 0) {
    open_tonearm(engine, library, model);
  } else if (strcmp(kind, "lightgbm") == 0) {
    open_lightgbm(engine, library, model);
  } else if (strcmp(kind, "xgboost") == 0) {
    open_xgboost(engine, library, model);
  } else if (strcmp(kind, "onnxruntime") == 0) {
    open_onnxruntime(engine, library, model);
  } else if (strcmp(kind, "compiled") == 0) {
    open_compiled(engine, library);
  } else if (strcmp(kind, "nothing") != 0) {
    fail("%s is no kind of engine", kind);
  }
  return engine;
}

/* ------------------------------------------------------------------------------------ the modes */

struct rows {
  const float* values;
  size_t count, columns;
};

static const float* row_at(const struct rows* rows, size_t i) {
  return rows->values + i % rows->count * rows->columns;
}

static volatile double seen; /* so that no prediction can be left out */

static struct rows timed_rows;

static void call(void* engine, size_t i) {
  seen = ((struct engine*)engine)->predict(engine, row_at(&timed_rows, i));
}

static void print_predictions(struct engine* engine, const struct rows* rows) {
  for (size_t i = 0; i < rows->count; ++i) printf("%.17g ", engine->predict(engine, row_at(rows, i)));
  printf("\n");
}

#define MOST_STEPS 2000000 /* in a call; a minute of stepping */

/* Single steps of a stopped child until it stops itself again; negative if they are too many. */
static double steps(pid_t child) {
  for (double count = 0; count <= MOST_STEPS; ++count) {
    int status;
    if (ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) != 0 || waitpid(child, &status, 0) != child ||
        !WIFSTOPPED(status)) {
      fail("a step could not be taken");
    }
    if (WSTOPSIG(status) == SIGSTOP) return count;
  }
  return -1;
}

/* The child stops itself before and after every call; the first pair of stops has no call between and is
 * what the stopping costs. Works with any instruction that the CPU has. */
static void print_instructions(char** words, const struct rows* rows, size_t rounds) {
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) fail("no process could be started");
  if (child == 0) {
    struct engine* engine = open_engine(words, rows->columns);
    for (size_t i = 0; i < 32; ++i)
      seen = engine->predict(engine, row_at(rows, i)); /* what it does only at first */
    if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) fail("this machine does not let a process be traced");
    raise(SIGSTOP);
    for (size_t i = 0; i < rounds; ++i) {
      raise(SIGSTOP);
      seen = engine->predict(engine, row_at(rows, i));
      raise(SIGSTOP);
    }
    _exit(0);
  }
  int status;
  if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status)) fail("instructions cannot be counted here");
  double total = 0;
  for (size_t i = 0; i < rounds && total >= 0; ++i) {
    const double overhead = steps(child), call = steps(child);
    total = call < 0 ? -1 : total + call - overhead;
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  printf("%.1f\n", total / (double)rounds);
}

int main(int argc, char** argv) {
  if (argc < 5 || (argc - 5) % 3 != 0)
    fail("usage: engines MODE ROUNDS ROWS COLUMNS [KIND LIBRARY MODEL]...");
  const char* mode = argv[1];
  const size_t rounds = strtoul(argv[2], NULL, 10), count = (size_t)(argc - 5) / 3;
  size_t size;
  struct rows rows = {.values = read_file(argv[3], &size), .columns = strtoul(argv[4], NULL, 10)};
  if (rows.columns > 0) rows.count = size / sizeof(float) / rows.columns;
  if (rows.count == 0 || rounds == 0) fail("no rows, or no rounds");

  if (strcmp(mode, "instructions") == 0) {
    for (size_t e = 0; e < count; ++e) print_instructions(argv + 5 + 3 * e, &rows, rounds);
    return 0;
  }
  struct engine** engines = allocated(count * sizeof *engines + 1);
  struct subject* subjects = allocated(count * sizeof *subjects + 1);
  timed_rows = rows;
  for (size_t e = 0; e < count; ++e) {
    engines[e] = open_engine(argv + 5 + 3 * e, rows.columns);
    subjects[e] = (struct subject){call, NULL, engines[e]};
  }
  if (strcmp(mode, "warm") == 0 || strcmp(mode, "cold") == 0) {
    print_times(subjects, count, rows.count, LONGEST_WALK, rounds, strcmp(mode, "cold") == 0);
  } else if (strcmp(mode, "predict") == 0) {
    for (size_t e = 0; e < count; ++e) print_predictions(engines[e], &rows);
  } else if (strcmp(mode, "kernels") == 0) {
    for (size_t e = 0; e < count; ++e) printf("%u\n", (unsigned)engines[e]->kernels);
  } else if (strcmp(mode, "allocations") == 0) {
    for (size_t e = 0; e < count; ++e) print_allocations(&subjects[e], rows.count, LONGEST_WALK);
  } else {
    fail("%s is no mode", mode);
  }
  return 0;
}
