/* Runs networks in several engines beside each other through their C interfaces, one row or one step at a
 * time, from the raw float32 inputs to the outputs, on one thread.
 *
 *     networks MODE ROUNDS ROWS CALLS COLUMNS OUTPUTS [KIND LIBRARY MODEL SHAPE]...
 *
 * ROWS is a file of float32 rows of COLUMNS numbers, CALLS how many of them are used; an engine that looks at
 * several steps at once (SHAPE has more numbers than a row) reads on into the rows that follow, so there must
 * be some more. KIND is one of
 *
 *     tonearm           tonearm_evaluate; LIBRARY is tonearm_open_options.cpu
 *     tonearm-session   tonearm_track_end, of a session whose track has been started before
 *     onnxruntime       LIBRARY is its shared object; where MODEL has more inputs than one they are the
 * state, and its outputs are the next state, of which the first is the answer compiled          LIBRARY
 * exports open_network(), run_network() and, of networks with a state, keeps it nothing           reads a
 * number
 *
 * Every mode prints one line of numbers per engine: predict, the outputs (or the last of them) for every row,
 * with the state of the row before; kernels, of Tonearm, the instruction set that it uses; sessions, of
 * Tonearm, the bytes of one; warm and cold, nanoseconds of a call, per round; and, in a build with
 * -DCOUNT_ALLOCATIONS, allocations of a call. */
#define _GNU_SOURCE
#define PROGRAM "networks"
#include <tonearm/tonearm.h>

#include "harness.h"

#define LONGEST_WALK 0.04e9 /* nanoseconds */
#define MOST_STATES 2

struct engine {
  void (*run)(struct engine* engine, size_t i);
  void (*prepare)(struct engine* engine, size_t i);
  const float* (*answer)(struct engine* engine);
  const float* rows;
  size_t columns, outputs;
  void* model;       /* the engine's own handle */
  void* call;        /* the entry point of its library */
  float* input;      /* ONNX Runtime: where it finds the row */
  size_t input_size; /* of it, in bytes */
  float* output;
  /* Tonearm */
  void* scratch;
  size_t scratch_size, session_size;
  size_t sessions; /* used in turn */
  tonearm_session* session[PREPARED_CALLS];
  uint32_t kernels;
  /* ONNX Runtime: the state and the next one change places with every call. */
  size_t states;
  void *input_tensor, *output_tensor, *state_tensors[2][MOST_STATES];
  float* state[2][MOST_STATES];
  int turn;
};

static const float* row_at(const struct engine* engine, size_t i, size_t calls) {
  return engine->rows + i % calls * engine->columns;
}
static size_t calls; /* of the command line */

static const float* plain_answer(struct engine* engine) { return engine->output; }

static void run_nothing(struct engine* engine, size_t i) { engine->output[0] = *row_at(engine, i, calls); }

/* ------------------------------------------------------------------------------------------ Tonearm */

static void run_tonearm(struct engine* engine, size_t i) {
  if (tonearm_evaluate(engine->model, row_at(engine, i, calls), (uint32_t)engine->columns, engine->scratch,
                       engine->scratch_size, engine->output) != TONEARM_OK) {
    fail("tonearm_evaluate failed");
  }
}

static void start_track(struct engine* engine, size_t i) {
  if (tonearm_track_start(engine->model, engine->session[i % engine->sessions], NULL, NULL, NULL,
                          engine->scratch, engine->scratch_size) != TONEARM_OK) {
    fail("tonearm_track_start failed");
  }
}

static void end_track(struct engine* engine, size_t i) {
  tonearm_end end;
  tonearm_end_init(&end, sizeof end);
  end.extra = row_at(engine, i, calls);
  end.extra_count = (uint32_t)engine->columns;
  if (tonearm_track_end(engine->model, engine->session[i % engine->sessions], &end, engine->scratch,
                        engine->scratch_size) != TONEARM_OK) {
    fail("tonearm_track_end failed");
  }
}

/* The network's outputs, as a prediction for the next track sees them. */
static const float* session_answer(struct engine* engine) {
  tonearm_track next;
  tonearm_track_init(&next, sizeof next);
  tonearm_request request;
  tonearm_request_init(&request, sizeof request);
  request.kind = TONEARM_QUEUE;
  request.candidate_count = 1;
  request.candidates = &next;
  if (tonearm_predict(engine->model, engine->session[0], &request, engine->scratch, engine->scratch_size,
                      engine->output) != TONEARM_OK) {
    fail("tonearm_predict failed");
  }
  return engine->output;
}

static void open_tonearm(struct engine* engine, const char* cpu, const char* path) {
  tonearm_info info;
  engine->model = open_model(cpu, path, &info);
  if (info.columns != engine->columns || info.outputs > engine->outputs)
    fail("%s is a model of %u columns and %u outputs", path, (unsigned)info.columns, (unsigned)info.outputs);
  engine->outputs = info.outputs; /* of two classes the importer keeps the second */
  engine->output = allocated(info.outputs * sizeof(float));
  engine->kernels = info.cpu;
  engine->scratch_size = tonearm_scratch_size(engine->model);
  engine->scratch = allocated(engine->scratch_size);
  engine->run = run_tonearm;
}

static void open_tonearm_session(struct engine* engine, const char* cpu, const char* path) {
  open_tonearm(engine, cpu, path);
  engine->session_size = tonearm_session_size(engine->model);
  for (size_t i = 0; i < PREPARED_CALLS; ++i) {
    if (tonearm_session_init(engine->model, allocated(engine->session_size), engine->session_size,
                             &engine->session[i]) != TONEARM_OK) {
      fail("%s is no model of sessions", path);
    }
  }
  engine->sessions = PREPARED_CALLS;
  engine->prepare = start_track;
  engine->run = end_track;
  engine->answer = session_answer;
}

/* ------------------------------------------------------------------------------------- ONNX Runtime */

enum { ORT_SESSION_INPUT_COUNT = 30 };
typedef void* ort_session_count(const void* session, size_t* count);

static void run_onnxruntime(struct engine* engine, size_t i) {
  static const char* const inputs[] = {"input", "h", "c"};
  static const char* const output[] = {"output"};
  static const char* const next[] = {"h_next", "c_next"};
  memcpy(engine->input, row_at(engine, i, calls), engine->input_size);
  void* failure;
  if (engine->states == 0) {
    failure = AS_FUNCTION(ort_run*, engine->call)(engine->model, NULL, inputs, &engine->input_tensor, 1,
                                                  output, 1, &engine->output_tensor);
  } else {
    void* tensors[1 + MOST_STATES] = {engine->input_tensor};
    for (size_t s = 0; s < engine->states; ++s) tensors[1 + s] = engine->state_tensors[engine->turn][s];
    engine->turn = !engine->turn;
    failure = AS_FUNCTION(ort_run*, engine->call)(engine->model, NULL, inputs, tensors, 1 + engine->states,
                                                  next, engine->states, engine->state_tensors[engine->turn]);
    engine->output = engine->state[engine->turn][0];
  }
  if (failure != NULL) fail("ONNX Runtime failed");
}

/* "13x1x1" as numbers; returns how many. */
static size_t read_shape(const char* text, int64_t* shape, size_t most, size_t* elements) {
  size_t count = 0;
  *elements = 1;
  for (const char* place = text; count < most; ++place) {
    char* end;
    shape[count] = strtol(place, &end, 10);
    *elements *= (size_t)shape[count++];
    if (*end != 'x') break;
    place = end;
  }
  return count;
}

static void open_onnxruntime(struct engine* engine, const char* library, const char* path,
                             const char* shape_text) {
  int64_t shape[4];
  size_t elements;
  const size_t dimensions = read_shape(shape_text, shape, 4, &elements);
  void** table = open_ort(library, path, &engine->model);
  size_t inputs;
  if (AS_FUNCTION(ort_session_count*, table[ORT_SESSION_INPUT_COUNT])(engine->model, &inputs) != NULL ||
      inputs > 1 + MOST_STATES)
    fail("%s has other inputs than a row and its state", path);
  engine->states = inputs - 1;
  engine->input_size = elements * sizeof(float);
  engine->input = allocated(engine->input_size);
  engine->input_tensor = ort_tensor(table, engine->input, shape, dimensions);
  if (engine->states == 0) {
    const int64_t output_shape[] = {1, (int64_t)engine->outputs};
    engine->output_tensor = ort_tensor(table, engine->output, output_shape, 2);
  }
  for (int turn = 0; turn < 2; ++turn) {
    for (size_t s = 0; s < engine->states; ++s) {
      const int64_t state_shape[] = {1, 1, (int64_t)engine->outputs};
      engine->state[turn][s] = allocated(engine->outputs * sizeof(float));
      memset(engine->state[turn][s], 0, engine->outputs * sizeof(float));
      engine->state_tensors[turn][s] = ort_tensor(table, engine->state[turn][s], state_shape, 3);
    }
  }
  engine->call = table[ORT_RUN];
  engine->run = run_onnxruntime;
}

/* ----------------------------------------------------------------------------------------- compiled */

typedef void* compiled_open(const char* model);
typedef void compiled_run(void* network, const float* row, float* output);

static void run_compiled(struct engine* engine, size_t i) {
  AS_FUNCTION(compiled_run*, engine->call)(engine->model, row_at(engine, i, calls), engine->output);
}

static void open_compiled(struct engine* engine, const char* library, const char* path) {
  void* open = symbol(library, "open_network");
  engine->model = AS_FUNCTION(compiled_open*, open)(path);
  if (engine->model == NULL) fail("%s cannot open %s", library, path);
  engine->call = symbol(library, "run_network");
  engine->run = run_compiled;
}

/* -------------------------------------------------------------------------------------------- modes */

static struct engine* open_engine(char** words, const float* rows, size_t columns, size_t outputs) {
  const char *kind = words[0], *library = words[1], *model = words[2];
  struct engine* engine = allocated(sizeof *engine);
  memset(engine, 0, sizeof *engine);
  engine->rows = rows;
  engine->columns = columns;
  engine->outputs = outputs;
  engine->output = allocated(outputs * sizeof(float));
  engine->answer = plain_answer;
  engine->run = run_nothing;
  if (strcmp(kind, "tonearm") == 0) {
    open_tonearm(engine, library, model);
  } else if (strcmp(kind, "tonearm-session") == 0) {
    open_tonearm_session(engine, library, model);
  } else if (strcmp(kind, "onnxruntime") == 0) {
    open_onnxruntime(engine, library, model, words[3]);
  } else if (strcmp(kind, "compiled") == 0) {
    open_compiled(engine, library, model);
  } else if (strcmp(kind, "nothing") != 0) {
    fail("%s is no kind of engine", kind);
  }
  return engine;
}

static void call(void* engine, size_t i) { ((struct engine*)engine)->run(engine, i); }
static void prepare(void* engine, size_t i) { ((struct engine*)engine)->prepare(engine, i); }

static void print_predictions(struct engine* engine) {
  engine->sessions = 1;
  for (size_t i = 0; i < calls; ++i) {
    if (engine->prepare != NULL) engine->prepare(engine, i);
    engine->run(engine, i);
    const float* answer = engine->answer(engine);
    for (size_t k = 0; k < engine->outputs; ++k) printf("%.9g ", (double)answer[k]);
  }
  printf("\n");
}

int main(int argc, char** argv) {
  if (argc < 7 || (argc - 7) % 4 != 0)
    fail("usage: networks MODE ROUNDS ROWS CALLS COLUMNS OUTPUTS [KIND LIBRARY MODEL SHAPE]...");
  const char* mode = argv[1];
  const size_t rounds = strtoul(argv[2], NULL, 10), count = (size_t)(argc - 7) / 4;
  const size_t columns = strtoul(argv[5], NULL, 10), outputs = strtoul(argv[6], NULL, 10);
  size_t size;
  const float* rows = read_file(argv[3], &size);
  calls = strtoul(argv[4], NULL, 10);
  if (rounds == 0 || calls == 0 || outputs == 0 || calls * columns * sizeof(float) > size)
    fail("no rounds, or fewer rows than calls");
  struct subject* subjects = allocated(count * sizeof *subjects + 1);
  for (size_t e = 0; e < count; ++e) {
    struct engine* engine = open_engine(argv + 7 + 4 * e, rows, columns, outputs);
    subjects[e] = (struct subject){call, engine->prepare == NULL ? NULL : prepare, engine};
  }
  if (strcmp(mode, "warm") == 0 || strcmp(mode, "cold") == 0) {
    print_times(subjects, count, calls, LONGEST_WALK, rounds, strcmp(mode, "cold") == 0);
    return 0;
  }
  for (size_t e = 0; e < count; ++e) {
    struct engine* engine = subjects[e].engine;
    if (strcmp(mode, "predict") == 0) {
      print_predictions(engine);
    } else if (strcmp(mode, "kernels") == 0) {
      printf("%u\n", (unsigned)engine->kernels);
    } else if (strcmp(mode, "sessions") == 0) {
      printf("%zu\n", engine->session_size);
    } else if (strcmp(mode, "allocations") == 0) {
      print_allocations(&subjects[e], calls, LONGEST_WALK);
    } else {
      fail("%s is no mode", mode);
    }
  }
  return 0;
}
